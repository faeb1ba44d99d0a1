package node

import (
	"fmt"
	"sync"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// appendQueue brings raft's storage messages to the append goroutine, in order.
type appendQueue struct {
	mu       sync.Mutex
	messages []*raftpb.Message
	spare    []*raftpb.Message
	wake     chan struct{}
}

func (q *appendQueue) put(m *raftpb.Message) {
	q.mu.Lock()
	q.messages = append(q.messages, m)
	q.mu.Unlock()
	ring(q.wake)
}

// take returns all messages; they are valid until the next call.
func (q *appendQueue) take() []*raftpb.Message {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.spare)
	q.messages, q.spare = q.spare[:0], q.messages
	return q.spare
}

// appender is the append goroutine: it makes raft's entries and hard states durable and then delivers the responses that
// wait for that.
//
// Everything that queued up while the log was busy becomes one write and one sync. That is the group commit: the longer a
// sync takes, the more proposals share the next one.
//
// Invariant: a response is delivered only after everything that raft handed out before it is durable.
type appender struct {
	h       *Host
	hard    *raftpb.HardState // newest not yet written
	entries []*raftpb.Entry   // not yet written
}

func (a *appender) run() {
	for {
		select {
		case <-a.h.appends.wake:
		case <-a.h.life.end:
			// What raft has handed out is written even now, so that the next start finds the commit index.
			a.round()
			return
		}
		if !a.round() {
			return
		}
	}
}

// round handles everything that is queued and reports whether the log still works.
func (a *appender) round() bool {
	messages := a.h.appends.take()
	if a.h.failed() {
		return false
	}
	if len(messages) == 0 {
		return true
	}
	if err := a.write(messages); err != nil {
		a.h.fail(fmt.Errorf("node: the raft log could not be written: %w", err))
		return false
	}
	return true
}

func (a *appender) write(messages []*raftpb.Message) error {
	responses := 0
	for _, m := range messages {
		// An overwrite of a tail that is still in this batch: raft hands that out when it gets entries of a new leader.
		if n := len(a.entries); n > 0 && len(m.GetEntries()) > 0 && m.GetEntries()[0].GetIndex() != a.entries[n-1].GetIndex()+1 {
			if err := a.append(false); err != nil {
				return err
			}
			a.h.inbox.put(event{durable: a.taken()})
		}
		a.entries = append(a.entries, m.GetEntries()...)
		if m.Term != nil { // the three fields are set together (raft's newStorageAppendMsg)
			a.hard = &raftpb.HardState{Term: proto.Uint64(m.GetTerm()), Vote: proto.Uint64(m.GetVote()), Commit: proto.Uint64(m.GetCommit())}
		}
		responses += len(m.GetResponses())
	}
	// A commit index alone has no responses and need not be durable.
	if err := a.append(responses > 0); err != nil {
		return err
	}
	answer := make([]*raftpb.Message, 0, responses)
	for _, m := range messages {
		answer = append(answer, m.GetResponses()...)
	}
	a.h.inbox.put(event{durable: a.taken(), appended: len(messages), messages: answer})
	return nil
}

// append writes what is collected.
func (a *appender) append(sync bool) error {
	began := a.h.cfg.Clock.Now()
	if err := a.h.cfg.Log.Append(a.hard, a.entries, sync); err != nil {
		return err
	}
	a.hard = nil
	if f := a.h.cfg.Observer.LogAppended; f != nil {
		f(len(a.entries), sync, a.h.cfg.Clock.Now().Sub(began))
	}
	return nil
}

// taken returns the entries just written and forgets them.
func (a *appender) taken() []*raftpb.Entry {
	e := a.entries
	a.entries = nil
	return e
}
