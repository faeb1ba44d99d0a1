package node

import (
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
)

// Message is a request that knows its wire form, as the types of package wire do. It is an alias so that callers can name
// the same type without importing this package.
type Message = interface {
	Size() int
	Append(dst []byte) []byte
}

// Propose asks the group to commit one command. It never blocks and copies body before it returns.
//
// w.Complete is called exactly once: by the applier with the command's result, or, with only Err set, on another
// one (the caller's, before Propose returns, when the proposal is refused): fault.TooManyRequests and
// fault.RequestTooLarge when it is over a bound, fault.Timeout and its kin when it was not applied within the request
// timeout, and an error that wraps fault.Stopped when the host has stopped or failed. After a timeout or a stop the command
// may still take effect.
func (h *Host) Propose(kind command.Kind, body []byte, w command.Waiter) {
	if err := h.propose(asker{}, kind, body, nil, w); err != nil {
		h.refuse(w, err)
	}
}

// ProposeAs is Propose for a request of a user, who was known at that revision of the authentication state. The entry carries
// both, and the state machine decides by them whether the command may take effect. It is the same as Propose for "" and 0.
func (h *Host) ProposeAs(kind command.Kind, body []byte, name string, revision uint64, w command.Waiter) {
	if err := h.propose(asker{user: name, revision: revision}, kind, body, nil, w); err != nil {
		h.refuse(w, err)
	}
}

// ProposeMessageAs is ProposeAs for a message that is not yet encoded.
func (h *Host) ProposeMessageAs(kind command.Kind, m Message, name string, revision uint64, w command.Waiter) {
	if err := h.propose(asker{user: name, revision: revision}, kind, nil, m, w); err != nil {
		h.refuse(w, err)
	}
}

// asker is who proposes something.
type asker struct {
	user     string
	revision uint64 // of the authentication state, at which the user was known
	bound    uint64 // the term of which it must become an entry, 0 for any
}

// ProposeMessage is Propose for a message that is not yet encoded.
func (h *Host) ProposeMessage(kind command.Kind, m Message, w command.Waiter) {
	if err := h.propose(asker{}, kind, nil, m, w); err != nil {
		h.refuse(w, err)
	}
}

func (h *Host) refuse(w command.Waiter, err error) {
	h.gauges.failed.Add(1)
	w.Complete(&command.Result{Err: err})
}

// propose checks the bounds and adds the command to the open chunk.
func (h *Host) propose(by asker, kind command.Kind, body []byte, m Message, w command.Waiter) error {
	if len(body) > h.cfg.MaxRequestBytes || (m != nil && m.Size() > h.cfg.MaxRequestBytes) {
		return fault.RequestTooLarge
	}
	if h.gauges.backlog() > limits.ProposalsInFlight {
		return fault.TooManyRequests
	}
	p := &h.proposals
	p.mu.Lock()
	if p.closed != nil {
		p.mu.Unlock()
		return p.closed
	}
	if h.gauges.pending.Load() >= limits.ProposalsPending || h.gauges.pendingBytes.Load() >= limits.ProposalPendingBytes {
		p.mu.Unlock()
		return fault.TooManyRequests
	}
	if m != nil {
		p.scratch = m.Append(p.scratch[:0])
		body = p.scratch
	}
	c := p.openFor(by.bound)
	before := len(c.arena)
	p.next++
	c.arena = command.AppendEntryAs(c.arena, p.next, by.user, by.revision, kind, body)
	size := len(c.arena) - before
	if size > h.cfg.MaxRequestBytes {
		c.arena = c.arena[:before]
		p.mu.Unlock()
		return fault.RequestTooLarge
	}
	c.items = append(c.items, item{id: p.next, waiter: w, size: size, start: h.gauges.now.Load()})
	h.gauges.pending.Add(1)
	h.gauges.pendingBytes.Add(int64(size))
	count := len(c.items)
	if count >= limits.ProposalBatchEntries || len(c.arena) >= limits.ProposalBatchBytes {
		p.full = append(p.full, c)
		p.open = p.fresh()
	}
	p.mu.Unlock()
	// A first proposal wakes a worker, unless there is an appender: that one comes for it after what it is at. Enough
	// proposals for another batch wake the loop.
	switch {
	case count%overlapEntries != 1:
	case h.appends.idle.Load():
		ring(h.appends.wake)
	case count > 1:
		h.inbox.ring()
	}
	return nil
}

// overlapEntries is how many proposals make it worth to hand raft another batch while the log is still writing an earlier
// one: a raft step of one entry costs three times what an entry costs in a batch of a hundred.
const overlapEntries = 64

// proposals collects what callers propose until the loop takes it. The entry bytes of a chunk lie in one arena, so that a
// proposal costs no allocation here.
type proposals struct {
	mu      sync.Mutex
	closed  error    // set: nothing is accepted any more
	next    uint64   // id of the last proposal
	open    *chunk   // takes the next proposal
	full    []*chunk // waiting for the loop, oldest first
	free    []*chunk // empty ones for reuse
	scratch []byte   // encodes a message
}

// chunk is what raft gets in one step: at most limits.ProposalBatchEntries entries and about ProposalBatchBytes bytes.
type chunk struct {
	arena []byte // the entries' data, one after the other
	items []item // whose sizes split arena
	term  uint64 // of raft when it was given the chunk
	bound uint64 // the term in which alone it may be proposed, 0 for any
	lent  bool   // a message to the leader lies in arena
}

// item is one proposal that waits for its result.
type item struct {
	id     uint64
	waiter command.Waiter // nil: answered
	size   int            // bytes of the entry's data
	start  int64          // when it was proposed, by the loop's coarse clock, nanoseconds
}

// firstID is where the ids of this run begin: two bytes of the member's id and the time of the start in milliseconds, which
// leaves 256 ids for each millisecond (source: the generator of etcd's package idutil). Ids of another run, or of another
// member, are thereby other numbers.
func firstID(member ids.MemberID, now time.Time) uint64 {
	return uint64(uint16(member))<<48 | uint64(now.UnixMilli())<<8&(1<<48-1)
}

func (p *proposals) init(member ids.MemberID, now time.Time) {
	p.next = firstID(member, now)
	p.open = &chunk{}
}

// fresh returns an empty chunk. p.mu is held.
func (p *proposals) fresh() *chunk {
	if n := len(p.free); n > 0 {
		c := p.free[n-1]
		p.free = p.free[:n-1]
		return c
	}
	return &chunk{}
}

// take removes the oldest chunk. The open one is taken only when it holds at least min proposals. It returns nil when there
// is nothing to take.
func (p *proposals) take(min int) *chunk {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.full) > 0 {
		c := p.full[0]
		p.full[0] = nil
		if p.full = p.full[1:]; len(p.full) == 0 {
			p.full = nil
		}
		return c
	}
	if len(p.open.items) < max(min, 1) {
		return nil
	}
	c := p.open
	p.open = p.fresh()
	return c
}

// waiting reports whether there is anything to take.
func (p *proposals) waiting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open.items) > 0 || len(p.full) > 0
}

// recycle gives back a chunk whose bytes nobody uses any more.
func (p *proposals) recycle(c *chunk) {
	const arenaBytes, chunks = 1 << 20, 3
	if cap(c.arena) > arenaBytes {
		return
	}
	clear(c.items)
	*c = chunk{arena: c.arena[:0], items: c.items[:0]}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) < chunks {
		p.free = append(p.free, c)
	}
}

// close refuses everything from now on with err, unless something closed it before.
func (p *proposals) close(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed == nil {
		p.closed = err
	}
}

// batch is the message that proposes a chunk, in memory that is used again for the next one.
type batch struct {
	slab    []raftpb.Entry
	entries []*raftpb.Entry
	whole   *raftpb.Message
}

// message builds the proposal of c with that context. The result aliases c and b.
func (b *batch) message(self *uint64, c *chunk, context []byte) *raftpb.Message {
	n := len(c.items)
	if cap(b.slab) < n {
		b.slab = make([]raftpb.Entry, max(n, 64))
		b.entries = make([]*raftpb.Entry, len(b.slab))
		for i := range b.slab {
			b.entries[i] = &b.slab[i]
		}
	}
	at := 0
	for i := range c.items {
		end := at + c.items[i].size
		b.slab[i].Data = c.arena[at:end:end]
		at = end
	}
	if b.whole == nil {
		b.whole = &raftpb.Message{Type: raftpb.MsgProp.Enum(), From: self}
	}
	b.whole.Entries, b.whole.Context = b.entries[:n:n], context
	return b.whole
}

// gauges are the numbers that any goroutine may read.
type gauges struct {
	now          atomic.Int64 // the loop's coarse clock, nanoseconds since 1970; at most a tick or a turn behind
	pending      atomic.Int64 // proposals accepted and not answered
	pendingBytes atomic.Int64
	failed       atomic.Uint64 // proposals answered without having been applied

	committed    atomic.Uint64 // index
	taken        atomic.Uint64 // index of the last entry handed to the machine
	applied      atomic.Uint64 // index
	appliedBytes atomic.Int64  // data applied since the start
	own          atomic.Uint64 // term of the last entry applied
	sole         atomic.Uint64 // the term while this member leads and is the only member, else 0
	leader       atomic.Pointer[leaderState]

	leaderChanges atomic.Uint64
	slowApplies   atomic.Uint64
	reissued      atomic.Uint64 // proposals that were lost with a leader and proposed again
	distress
}

// distress is what is known of a member that makes no progress.
type distress struct {
	stall     atomic.Pointer[Stall] // as of the last tick; nil: all is well
	stalls    atomic.Uint64
	ticked    atomic.Int64  // when raft's clock last moved on, nanoseconds
	lateBeats atomic.Uint64 // heartbeats that a leader sent more than a tick too late
	stepDowns atomic.Uint64 // leaderships given up because of a stall or a fence
	fenced    atomic.Bool
}

// leaderState is one observation of who leads.
type leaderState struct {
	Leadership
	since time.Time // of Leader; zero while there is none
	last  time.Time // when a leader was last elected, kept while there is none
}

// backlog is how many committed entries the machine has not begun to apply.
func (g *gauges) backlog() int64 { return int64(g.committed.Load()) - int64(g.taken.Load()) }
