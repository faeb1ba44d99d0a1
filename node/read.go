package node

import (
	"bytes"
	"encoding/binary"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/limits"
)

// Read calls f when a read of the machine's state is linearizable: everything that was acknowledged before the call of Read
// is applied. While this member leads a group of which it is the only member that is at once, on the caller's goroutine and
// without a lock. Else all reads that wait share one round of raft's read index, and f is called on another goroutine, which
// it must not block.
//
// f gets nil, or fault.Timeout when no leader confirmed the read within the request timeout, fault.TooManyRequests when too
// many reads wait, or an error that wraps fault.Stopped. It is called exactly once.
func (h *Host) Read(f func(error)) {
	// Only a new voter or the end of this process can end an only member's leadership, and nobody else can acknowledge
	// anything meanwhile. (A learner could: it may have applied before its leader that it is a voter now, and what came then.)
	// But entries of an earlier run may have been acknowledged and not applied since the restart: they
	// are before the first entry of the current term.
	if term := h.gauges.sole.Load(); term != 0 && h.gauges.own.Load() >= term && !h.failed() {
		f(nil)
		return
	}
	if err := h.reads.add(waitingRead{f: f, start: h.gauges.now.Load()}); err != nil {
		f(err)
		return
	}
	h.inbox.ring()
}

// readRetry is after how long an unanswered round is repeated (source: etcd's readIndexRetryTime).
const readRetry = 500 * time.Millisecond

// reads holds the reads that wait: first for a round of raft's read index to begin, then for its answer, then for that index
// to be applied. Whoever removes a read from here calls it back: that is why each is called exactly once.
type reads struct {
	mu      sync.Mutex
	closed  error
	waiting []waitingRead
	round   []waitingRead
	indexed []waitingRead // by ascending index
	slow    atomic.Uint64
	failed  atomic.Uint64
}

type waitingRead struct {
	f     func(error)
	start int64  // coarse clock, nanoseconds
	index uint64 // what must be applied, once it is known
}

func (r *reads) add(w waitingRead) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed != nil:
		r.failed.Add(1)
		return r.closed
	case len(r.waiting)+len(r.round)+len(r.indexed) >= limits.ProposalsPending:
		r.failed.Add(1)
		return fault.TooManyRequests
	}
	r.waiting = append(r.waiting, w)
	return nil
}

// begin moves the waiting reads into the round and reports whether there were any.
func (r *reads) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) == 0 {
		return false
	}
	r.round, r.waiting = append(r.round, r.waiting...), nil
	return true
}

// confirm ends the round: its reads wait for index now.
func (r *reads) confirm(index uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.round {
		w.index = index
		r.indexed = append(r.indexed, w)
	}
	r.round = nil
}

// release lets the reads go on whose index is applied.
func (r *reads) release(applied uint64) {
	r.mu.Lock()
	n := 0
	for n < len(r.indexed) && r.indexed[n].index <= applied {
		n++
	}
	free := r.indexed[:n:n]
	if r.indexed = r.indexed[n:]; len(r.indexed) == 0 {
		r.indexed = nil
	}
	r.mu.Unlock()
	for _, w := range free {
		w.f(nil)
	}
}

// remove takes out every read that was added at or before start.
func (r *reads) remove(start int64) []waitingRead {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []waitingRead
	for _, list := range []*[]waitingRead{&r.indexed, &r.round, &r.waiting} {
		kept := (*list)[:0:0]
		for _, w := range *list {
			if w.start <= start {
				out = append(out, w)
			} else {
				kept = append(kept, w)
			}
		}
		*list = kept
	}
	return out
}

// fail answers every read that was added at or before start with err.
func (r *reads) fail(start int64, err error) {
	out := r.remove(start)
	r.failed.Add(uint64(len(out)))
	for _, w := range out {
		w.f(err)
	}
}

// close refuses all reads, those that wait and those to come.
func (r *reads) close(err error) {
	r.mu.Lock()
	if r.closed == nil {
		r.closed = err
	}
	r.mu.Unlock()
	r.fail(math.MaxInt64, err)
}

// serveReads moves the waiting reads on.
func (l *loop) serveReads() {
	h := l.h
	if term := h.gauges.sole.Load(); term != 0 {
		if h.gauges.own.Load() >= term {
			for _, w := range h.reads.remove(math.MaxInt64) {
				w.f(nil)
			}
		}
		return // else the applier has the loop come back when it has got there
	}
	if l.lead == raft.None || l.role == raft.StateLeader && l.sole() && h.gauges.own.Load() < l.term {
		return // raft answers an only voter with what it knows to be committed, which is not all of it before
	}
	if canary.On(canary.StaleReads) && l.role == raft.StateLeader {
		for _, w := range h.reads.remove(math.MaxInt64) {
			w.f(nil)
		}
		return
	}
	now := h.gauges.now.Load()
	switch {
	case l.readPending && now-l.readAt < int64(readRetry):
		return
	case l.readPending:
		h.reads.slow.Add(1)
		h.reads.begin()
	case !h.reads.begin():
		return
	}
	l.readPending, l.readAt = true, now
	if !canary.On(canary.ReadRoundReused) {
		l.readRound++
	}
	l.rn.ReadIndex(l.roundID())
}

// roundID names the newest round: the number of this start, which no other start of any member has, and the round's own. An
// answer that was under way for long, to a round of an earlier start or term, is thereby never taken for that of another.
func (l *loop) roundID() []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, 24), l.runID[:]...), l.readRound)
}

// readConfirmed takes raft's answers to read-index rounds. Only the newest round counts: an older one may have begun before
// reads that joined a repetition.
func (l *loop) readConfirmed(states []raft.ReadState) {
	for _, s := range states {
		if l.readPending && bytes.Equal(s.RequestCtx, l.roundID()) {
			l.readPending = false
			l.h.reads.confirm(s.Index)
			l.h.reads.release(l.h.gauges.applied.Load())
		}
	}
}
