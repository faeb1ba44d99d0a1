package node

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/storage"
)

// applyQueue brings committed entries to the applier, in order. Raft bounds it: it hands out at most
// limits.ApplyOutstanding bytes that are not yet acknowledged.
type applyQueue struct {
	mu       sync.Mutex
	messages []*raftpb.Message
	spare    []*raftpb.Message
	entries  int // in messages
	wake     chan struct{}
}

// put adds a message. The caller wakes a worker or applies it.
func (q *applyQueue) put(m *raftpb.Message) {
	q.mu.Lock()
	q.messages = append(q.messages, m)
	q.entries += len(m.GetEntries())
	q.mu.Unlock()
}

// small reports whether at most inlineEntries wait.
func (q *applyQueue) small() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.entries <= inlineEntries
}

func (q *applyQueue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.messages) == 0
}

// take returns all messages; they are valid until the next call.
func (q *applyQueue) take() []*raftpb.Message {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.spare)
	q.messages, q.spare, q.entries = q.spare[:0], q.messages, 0
	return q.spare
}

// Bounds of what the applier does.
const (
	// slowApply is what a batch may take before it is reported (source: etcd's warning-apply-duration).
	slowApply = 100 * time.Millisecond
	// inlineEntries is how many entries the worker that wrote them applies itself, instead of waking the other one.
	inlineEntries = 8
	// quietBytes is how much applied data raft need not hear of at once.
	quietBytes = 64 << 10
)

// applier decodes committed entries, gives them to the machine in batches, and answers those who wait for them. Nobody else
// calls the machine. The worker that holds mu is the applier.
type applier struct {
	mu    sync.Mutex
	h     *Host
	past  storage.Mark // the end of the log at the start: what is up to there is of an earlier run, nobody waits for it
	ready ids.Term     // the newest term that Observer.LeaderReady knows

	cmds      []command.Command
	results   []command.Result
	waiters   []command.Waiter
	responses []*raftpb.Message // of storage-apply messages whose entries are all in this batch or before
	bytes     int               // data of cmds
	username  string            // of the last command that had one
	change    *raftpb.ConfChange
	outcome   command.Result // of change
	news      bool           // reads may wait for the batch: it holds the first entry of a term
	chores    chores
	rested    atomic.Bool // chores' rest is over; set before the role is tried for, so that who gives it up sees it
}

func newApplier(h *Host, past storage.Mark) *applier {
	return &applier{h: h, past: past, chores: chores{more: true, rest: h.cfg.Clock.NewTimer(0)}}
}

// deed is what the applier did.
type deed int

const (
	nothing deed = iota
	housekeeping
	application
)

// work applies what is queued, or does a step of housekeeping when nothing is. It reports what it did, and whether the
// member may go on.
func (a *applier) work() (did deed, ok bool) {
	ok = true
	if messages := a.h.applies.take(); len(messages) > 0 {
		did, ok = application, a.apply(messages)
	} else if a.chores.more {
		did, ok = a.chore()
	}
	a.h.reads.release(a.h.gauges.applied.Load())
	return did, ok
}

// apply puts the entries of the messages into batches. It reports whether the member may go on.
func (a *applier) apply(messages []*raftpb.Message) bool {
	for _, m := range messages {
		for _, e := range m.GetEntries() {
			if err := a.decode(e); err != nil {
				a.h.fail(err)
				return false
			}
			full := len(a.cmds) >= limits.ApplyBatchEntries || a.bytes >= limits.ApplyBatchBytes
			// What follows a change of members is applied after raft knows of the change.
			if (full || a.change != nil) && !a.flush() {
				return false
			}
		}
		a.responses = append(a.responses, m.GetResponses()...)
	}
	return a.flush()
}

// decode adds one entry to the batch.
func (a *applier) decode(e *raftpb.Entry) error {
	var cmd command.Command
	var err error
	switch e.GetType() {
	case raftpb.EntryNormal:
		cmd, err = command.DecodeAfter(e.GetData(), a.username)
		if cmd.Username != "" {
			a.username = cmd.Username
		}
	case raftpb.EntryConfChange:
		a.change = &raftpb.ConfChange{}
		err = proto.Unmarshal(e.GetData(), a.change)
		cmd = command.Command{Kind: command.ConfChange, ID: a.change.GetId(), Body: e.GetData()}
	default:
		err = fmt.Errorf("entries of type %v are not known to this release", e.GetType())
	}
	if err != nil {
		return fmt.Errorf("node: committed entry %d of term %d cannot be understood; the log is damaged or a newer release wrote it: %w", e.GetIndex(), e.GetTerm(), err)
	}
	cmd.Index, cmd.Term = ids.Index(e.GetIndex()), ids.Term(e.GetTerm())
	// An index alone does not tell: the end of the log at the start may have been overwritten since, in a later term.
	if cmd.Term < a.past.Term || cmd.Term == a.past.Term && cmd.Index <= a.past.Index {
		cmd.ID = 0
	}
	a.cmds = append(a.cmds, cmd)
	a.bytes += len(e.GetData())
	return nil
}

// flush applies the batch and answers for it: the machine first, so that whoever is answered can read what was written, and
// raft last, so that it never hands out more than the queue may hold. It reports whether the member may go on.
func (a *applier) flush() bool {
	if len(a.cmds) > 0 {
		if !a.machine() {
			return false
		}
		if a.news {
			term := uint64(a.cmds[len(a.cmds)-1].Term)
			a.h.inbox.put(event{call: func(l *loop) { l.reissue(term) }})
		}
	}
	if a.change != nil {
		a.h.inbox.put(a.changed())
	}
	if len(a.responses) > 0 {
		tell := a.h.inbox.put
		if a.change == nil && !a.news && a.bytes < quietBytes && a.h.gauges.leader.Load().Self {
			tell = a.h.inbox.leave // nothing depends on it, and the leader's next turn is never far
		}
		tell(event{messages: append([]*raftpb.Message(nil), a.responses...)})
	}
	clear(a.cmds)
	clear(a.responses)
	a.cmds, a.responses, a.bytes, a.change = a.cmds[:0], a.responses[:0], 0, nil
	return true
}

// machine applies the commands, publishes how far the state is, and answers the waiters.
func (a *applier) machine() bool {
	h, n := a.h, len(a.cmds)
	first, last := &a.cmds[0], &a.cmds[n-1]
	h.gauges.taken.Store(uint64(last.Index))
	if cap(a.results) < n {
		a.results = make([]command.Result, n, 2*n)
		a.waiters = make([]command.Waiter, n, 2*n)
	}
	a.results, a.waiters = a.results[:n], a.waiters[:n]
	if canary.On(canary.TxnReadsDropped) {
		a.dropReads()
	}
	began := h.cfg.Clock.Now()
	if err := h.cfg.Machine.Apply(a.cmds, a.results); err != nil {
		h.fail(fmt.Errorf("node: entries %d to %d could not be applied: %w", first.Index, last.Index, err))
		return false
	}
	a.observe(n, h.cfg.Clock.Now().Sub(began))
	h.gauges.applied.Store(uint64(last.Index))
	a.news = h.gauges.own.Swap(uint64(last.Term)) != uint64(last.Term)
	if last.Term > a.ready {
		a.announce(last.Term)
	}
	if h.failed() {
		return false
	}
	count, bytes := h.registry.take(a.cmds, a.waiters)
	if f := h.cfg.Observer.Answer; f != nil && count > 0 {
		f(a.deliver)
	} else {
		a.deliver()
	}
	h.settle(count, int64(bytes))
	if a.change != nil {
		a.outcome = command.Result{Revision: a.results[n-1].Revision, Err: a.results[n-1].Err}
		if a.outcome.Err != nil {
			// The machine refused it. Raft must hear of it all the same; without a node it changes nothing there.
			a.change.NodeId = proto.Uint64(raft.None)
		}
	}
	clear(a.waiters)
	clear(a.results)
	if !a.tidy(n) {
		return false
	}
	before := h.gauges.appliedBytes.Load()
	if after := h.gauges.appliedBytes.Add(int64(a.bytes)); after/retentionCheckBytes > before/retentionCheckBytes {
		ring(h.tidy)
	}
	return true
}

// deliver answers the waiters of the batch.
func (a *applier) deliver() {
	for i, w := range a.waiters {
		if w != nil {
			w.Complete(&a.results[i])
		}
	}
}

func (a *applier) observe(n int, took time.Duration) {
	if f := a.h.cfg.Observer.BatchApplied; f != nil {
		f(n, took)
	}
	if took > slowApply {
		a.h.gauges.slowApplies.Add(1)
		a.h.cfg.Logger.Warn("applying a batch took long", zap.Duration("took", took),
			zap.Duration("expected", slowApply), zap.Int("entries", n), zap.Int("bytes", a.bytes))
	}
}

// announce reports that the first entry of the term that this member leads is applied, and so everything before it.
func (a *applier) announce(term ids.Term) {
	lead := a.h.gauges.leader.Load()
	if !lead.Self || lead.Term != term {
		return
	}
	a.ready = term
	if f := a.h.cfg.Observer.LeaderReady; f != nil {
		f(term)
	}
}
