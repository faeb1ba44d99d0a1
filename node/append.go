package node

import (
	"fmt"
	"sync"
	"sync/atomic"

	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/internal/canary"
)

// appendQueue brings raft's storage messages to the appender, in order.
type appendQueue struct {
	mu       sync.Mutex
	messages []*raftpb.Message
	spare    []*raftpb.Message
	syncs    int // messages that wait for a sync
	wake     chan struct{}
	idle     atomic.Bool // no worker is the appender: proposals ring wake
}

// put adds a message. The caller wakes a worker, unless it is one and the appender.
func (q *appendQueue) put(m *raftpb.Message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(m.GetResponses()) > 0 {
		q.syncs++
	} else if n := len(q.messages); n > 0 && len(q.messages[n-1].GetResponses()) == 0 && len(q.messages[n-1].GetEntries()) == 0 {
		q.messages = q.messages[:n-1] // a newer hard state takes the place of one that nobody waits for
	}
	q.messages = append(q.messages, m)
}

// take returns all messages; they are valid until the next call.
func (q *appendQueue) take() []*raftpb.Message {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.spare)
	q.messages, q.spare, q.syncs = q.spare[:0], q.messages, 0
	return q.spare
}

// waiting reports whether there is anything to make durable. Without that a message can wait for the next.
func (q *appendQueue) waiting() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.syncs > 0
}

// appender makes raft's entries and hard states durable and then delivers the responses that wait for that. The worker that
// holds mu is the appender.
//
// Everything that queued up while the log was busy becomes one write and one sync. That is the group commit: the longer a
// sync takes, the more proposals share the next one.
//
// Invariant: a response is delivered only after everything that raft handed out before it is durable.
type appender struct {
	mu      sync.Mutex
	h       *Host
	hard    *raftpb.HardState // newest not yet written; nil or &state
	state   raftpb.HardState  // memory of hard; the log does not keep it
	entries []*raftpb.Entry   // not yet written

	unwritten []*raftpb.Entry // see late
}

// write makes the messages durable, leaves the news for the next turn, and reports whether the log still works.
func (a *appender) write(messages []*raftpb.Message) bool {
	if a.h.failed() {
		return false
	}
	switch err := a.writeAll(messages); {
	case err == nil:
		return true
	case installed(err):
		a.h.fail(err)
	default:
		a.h.fail(fmt.Errorf("node: the raft log could not be written: %w", err))
	}
	return false
}

func (a *appender) writeAll(messages []*raftpb.Message) error {
	responses, appended := 0, 0
	for _, m := range messages {
		if m.GetSnapshot() != nil {
			if err := a.append(true); err != nil {
				return err
			}
			return a.install(m)
		}
		// An overwrite of a tail that is still in this batch: raft hands that out when it gets entries of a new leader.
		if n := len(a.entries); n > 0 && len(m.GetEntries()) > 0 && m.GetEntries()[0].GetIndex() != a.entries[n-1].GetIndex()+1 {
			if err := a.append(false); err != nil {
				return err
			}
			a.h.inbox.leave(event{durable: a.taken()})
		}
		if es := m.GetEntries(); a.entries == nil {
			a.entries = es[:len(es):len(es)] // the message's own; what follows goes into another array
		} else {
			a.entries = append(a.entries, es...)
		}
		if m.Term != nil { // the three fields are set together (raft's newStorageAppendMsg)
			a.hard = &a.state
			a.state.Term, a.state.Vote, a.state.Commit = m.Term, m.Vote, m.Commit
			if canary.On(canary.ForgetVote) {
				a.state.Vote = new(uint64)
			}
		}
		if n := len(m.GetResponses()); n > 0 {
			responses += n
			appended++
		}
	}
	if canary.On(canary.AckUnsynced) && a.h.gauges.sole.Load() != 0 && len(a.entries) > 0 {
		return a.late(messages, responses, appended)
	}
	// A commit index alone has no responses and need not be durable.
	if err := a.append(responses > 0); err != nil || responses == 0 && len(a.entries) == 0 {
		return err
	}
	a.h.inbox.leave(event{durable: a.taken(), appended: appended, messages: responsesOf(messages, responses)})
	return nil
}

// late is a mistake (canary.AckUnsynced): it says of entries that they are durable, and writes those before.
func (a *appender) late(messages []*raftpb.Message, responses, appended int) error {
	now := a.taken()
	a.entries = a.unwritten
	err := a.append(true)
	a.unwritten = now
	a.h.inbox.leave(event{durable: now, appended: appended, messages: responsesOf(messages, responses)})
	return err
}

// responsesOf returns the n responses of all messages.
func responsesOf(messages []*raftpb.Message, n int) []*raftpb.Message {
	last := messages[len(messages)-1].GetResponses()
	if len(last) == n {
		return last
	}
	all := make([]*raftpb.Message, 0, n)
	for _, m := range messages {
		all = append(all, m.GetResponses()...)
	}
	return all
}

// append writes what is collected.
func (a *appender) append(sync bool) error {
	f := a.h.cfg.Observer.LogAppended
	if f == nil {
		return a.log(sync)
	}
	began := a.h.cfg.Clock.Now()
	if err := a.log(sync); err != nil {
		return err
	}
	f(len(a.entries), sync, a.h.cfg.Clock.Now().Sub(began))
	return nil
}

func (a *appender) log(sync bool) error {
	err := a.h.cfg.Log.Append(a.hard, a.entries, sync)
	a.hard = nil
	return err
}

// taken returns the entries just written and forgets them.
func (a *appender) taken() []*raftpb.Entry {
	e := a.entries
	a.entries = nil
	return e
}
