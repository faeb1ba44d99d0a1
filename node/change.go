package node

import (
	"maps"
	"math"
	"slices"
	"sync"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
)

// ProposeChange asks the group to change its members: kind, of member id, with the member's JSON as context (none for a
// removal). It never blocks and keeps context.
//
// Changes are made one after the other: the leader holds one back while another is under way, whoever asked for it. A leader
// that is to be removed hands the leadership over first. w.Complete is called exactly once and never before raft acts on the
// change: with the machine's result, which may refuse the change, with fault.TooManyRequests when limits.ChangesPending wait,
// with fault.Timeout and its kin when it was not applied within the request timeout, or with an error that wraps
// fault.Stopped. After a timeout or a stop it may still take effect.
func (h *Host) ProposeChange(kind raftpb.ConfChangeType, id ids.MemberID, context []byte, w command.Waiter) {
	c := &raftpb.ConfChange{Type: kind.Enum(), NodeId: proto.Uint64(uint64(id)), Context: context}
	if err := h.registerChange(c, w); err != nil {
		h.refuse(w, err)
		return
	}
	// When the loop has ended, whoever ended it answers.
	h.inbox.put(event{call: func(l *loop) { l.holdChange(c) }})
}

// registerChange gives the change its id.
func (h *Host) registerChange(c *raftpb.ConfChange, w command.Waiter) error {
	h.proposals.mu.Lock()
	if err := h.proposals.closed; err != nil {
		h.proposals.mu.Unlock()
		return err
	}
	h.proposals.next++
	c.Id = proto.Uint64(h.proposals.next)
	h.proposals.mu.Unlock()
	if err := h.changes.add(c.GetId(), changeWaiter{waiter: w, start: h.gauges.now.Load()}); err != nil {
		return err
	}
	h.gauges.pending.Add(1)
	return nil
}

// changes holds those who wait for a change of members. Whoever removes one from here answers it.
type changes struct {
	mu      sync.Mutex
	closed  error
	waiting map[uint64]changeWaiter // by the id of the change
}

type changeWaiter struct {
	waiter command.Waiter
	start  int64 // coarse clock, nanoseconds
}

func (c *changes) add(id uint64, w changeWaiter) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed != nil:
		return c.closed
	case len(c.waiting) >= limits.ChangesPending:
		return fault.TooManyRequests
	}
	if c.waiting == nil {
		c.waiting = map[uint64]changeWaiter{}
	}
	c.waiting[id] = w
	return nil
}

func (c *changes) has(id uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.waiting[id]
	return ok
}

func (c *changes) take(id uint64) (changeWaiter, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w, ok := c.waiting[id]
	delete(c.waiting, id)
	return w, ok
}

// expire removes those that began at or before start, oldest first.
func (c *changes) expire(start int64) []changeWaiter {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []changeWaiter
	for _, id := range slices.Sorted(maps.Keys(c.waiting)) {
		if w := c.waiting[id]; w.start <= start {
			out = append(out, w)
			delete(c.waiting, id)
		}
	}
	return out
}

// close refuses all, those that wait and those to come.
func (c *changes) close(err error) []changeWaiter {
	c.mu.Lock()
	if c.closed == nil {
		c.closed = err
	}
	c.mu.Unlock()
	return c.expire(math.MaxInt64)
}

// failChanges answers changes that will not be made, or not in time.
func (h *Host) failChanges(list []changeWaiter, reason func(start int64) error) {
	for _, w := range list {
		h.gauges.failed.Add(1)
		w.waiter.Complete(&command.Result{Err: reason(w.start)})
		h.settle(1, 0)
	}
}

// answerChange answers whoever waits for a change that was applied.
func (h *Host) answerChange(id uint64, r command.Result) {
	if w, ok := h.changes.take(id); ok {
		w.waiter.Complete(&r)
		h.settle(1, 0)
	}
}

// changed is the news that a change was applied, for raft first and then for whoever waits for it.
func (a *applier) changed() event {
	id, result := a.change.GetId(), a.outcome
	answer := func() { a.h.answerChange(id, result) }
	return event{change: a.change, call: func(*loop) { answer() }, drop: answer}
}

// changing is the loop's part of changes of members.
type changing struct {
	changes []*heldChange // what raft was not given yet, in order
	// While this member leads: raft takes no change before it has applied up to here. Not known yet while open is set.
	changeAfter uint64
	open        bool
	behind      int  // messages for the applier that wait until the log has synced
	parting     bool // this member was removed; see reconfigure
	parking
}

// heldChange is a change that raft was not given yet.
type heldChange struct {
	entry  *raftpb.Entry
	change *raftpb.ConfChange
	from   uint64 // the member that asked
	start  int64  // coarse clock, nanoseconds
	handed int64  // until when the leader that is to be removed waits for another to take over; 0: it has not asked
}

// holdChange queues a change of this host's own.
func (l *loop) holdChange(c *raftpb.ConfChange) {
	data, err := proto.Marshal(c)
	if err != nil {
		l.h.answerChange(c.GetId(), command.Result{Err: err})
		return
	}
	e := &raftpb.Entry{Type: raftpb.EntryConfChange.Enum(), Data: data}
	l.changes = append(l.changes, &heldChange{entry: e, change: c, from: *l.self, start: l.h.gauges.now.Load()})
}

// holdForwarded takes a change that another member asks this leader for. It is held back until raft takes it: raft would replace
// it by nothing, and nobody would hear of that.
func (l *loop) holdForwarded(m *raftpb.Message) bool {
	if m.GetType() != raftpb.MsgProp || l.role != raft.StateLeader || len(m.GetEntries()) != 1 || m.GetEntries()[0].GetType() != raftpb.EntryConfChange {
		return false
	}
	c := &raftpb.ConfChange{}
	if proto.Unmarshal(m.GetEntries()[0].GetData(), c) == nil && len(l.changes) < limits.ChangesPending {
		l.changes = append(l.changes, &heldChange{entry: m.GetEntries()[0], change: c, from: m.GetFrom(), start: l.h.gauges.now.Load()})
	}
	return true
}

// proposeChanges gives raft the changes that are held, one after the other.
func (l *loop) proposeChanges() {
	if l.parting { // what others asked for while this member led and belonged: see reconfigure
		l.changes = nil
	}
	oldest := l.h.gauges.now.Load() - int64(l.h.cfg.Timing.RequestTimeout())
	for len(l.changes) > 0 {
		c := l.changes[0]
		wanted := c.start > oldest
		if c.from == *l.self {
			wanted = l.h.changes.has(c.change.GetId())
		}
		if wanted && !l.stepChange(c) {
			return
		}
		l.changes[0] = nil
		l.changes = l.changes[1:]
	}
}

// stepChange proposes one change and reports whether raft took it.
func (l *loop) stepChange(c *heldChange) bool {
	leads := l.role == raft.StateLeader
	if l.lead == raft.None || leads && (l.open || l.applied < l.changeAfter || l.handsOver(c)) {
		return false
	}
	m := &raftpb.Message{Type: raftpb.MsgProp.Enum(), From: proto.Uint64(c.from), Entries: []*raftpb.Entry{c.entry}}
	if l.rn.Step(m) != nil {
		return false
	}
	l.open = leads
	return !leads || m.GetEntries()[0].GetType() == raftpb.EntryConfChange
}

// reconfigure has raft act on a change of members that was applied, and reports whether it removes this member.
//
// Its own removal a member keeps from raft: for as long as it still runs it votes, and stands for election, as a member that has not
// heard of the removal does. Of two voters the one that stays may have lost power before it knew that the removal is committed,
// and the tail of its log with it. Then it needs the vote of the other one, whose longer log forbids that; so the other one leads
// once more and tells it. This is safe as it is safe that members apply a change at different times: majorities of two groups that are one change
// apart have a member in common, besides the one that goes. The next change is appended by leaders only that have applied this one, and
// who has applied it sends this member nothing more; so when the next one is committed, its majority has what this member's log
// lacks. For that this member must propose no change itself; it takes no proposals at all.
func (l *loop) reconfigure(change raftpb.ConfChangeI) (removed bool) {
	if l.parting {
		return false
	}
	if l.expels(change) {
		l.parting = true
		return true
	}
	l.conf = l.rn.ApplyConfChange(change)
	l.publish()
	return false
}

// expels reports whether a change removes this member from the group.
func (l *loop) expels(change raftpb.ConfChangeI) bool {
	member := slices.Contains(l.conf.GetVoters(), *l.self) || slices.Contains(l.conf.GetLearners(), *l.self)
	return member && slices.ContainsFunc(change.AsV2().GetChanges(), func(c *raftpb.ConfChangeSingle) bool {
		return c.GetType() == raftpb.ConfChangeRemoveNode && c.GetNodeId() == *l.self
	})
}

// giveDurable has committed entries applied, a change of members only when this member will know even after a loss of power that it is
// committed. Otherwise the last two voters could part without it: the one that was removed is gone, and the other one, started
// again, would need its vote to find out. For anything else the commit index need not be durable.
func (l *loop) giveDurable(m *raftpb.Message) {
	isChange := func(e *raftpb.Entry) bool { return e.GetType() == raftpb.EntryConfChange }
	if l.behind == 0 && !slices.ContainsFunc(m.GetEntries(), isChange) {
		l.give(m)
		return
	}
	l.behind++ // what follows does not overtake it
	l.appending++
	l.syncs = true
	l.h.appends.put(&raftpb.Message{Type: raftpb.MsgStorageAppend.Enum(), Responses: []*raftpb.Message{m}})
}

// give has committed entries applied.
func (l *loop) give(m *raftpb.Message) {
	l.given = m.GetEntries()[len(m.GetEntries())-1].GetIndex()
	l.h.applies.put(m)
	l.applies = true
}

// noteAppended takes the index from which on raft takes the next change.
func (l *loop) noteAppended(entries []*raftpb.Entry) {
	if n := len(entries); n > 0 && l.open {
		l.changeAfter, l.open = entries[n-1].GetIndex(), false
	}
}

// handsOver makes another voter the leader before this one proposes its own removal: a leader that is removed takes no more
// proposals, and the others would wait for an election. It gives up after an election timeout.
func (l *loop) handsOver(c *heldChange) bool {
	if c.change.GetType() != raftpb.ConfChangeRemoveNode || c.change.GetNodeId() != *l.self {
		return false
	}
	now := l.h.gauges.now.Load()
	if c.handed != 0 {
		return now < c.handed
	}
	c.handed = now + int64(l.h.cfg.Timing.Election())
	to := l.heir()
	if to == raft.None {
		return false
	}
	l.rn.TransferLeader(to)
	return true
}

// heir is the voter, other than this leader, that has most of the log.
func (l *loop) heir() (best uint64) {
	var match uint64
	for id, p := range l.rn.Status().Progress {
		if id == *l.self || !p.RecentActive || !slices.Contains(l.conf.GetVoters(), id) {
			continue
		}
		if best == raft.None || p.Match > match || p.Match == match && id < best {
			best, match = id, p.Match
		}
	}
	return best
}

// Progress is how far the logs of two members are.
type Progress struct {
	Match  ids.Index // of the member asked about, as its leader knows it
	Leader ids.Index // of the leader
}

// Progress asks how far a member's log is and calls done exactly once, on another goroutine that it must not block. Only the
// leader knows: another member answers fault.NotLeader. Other errors: fault.MemberNotFound, fault.Stopped.
func (h *Host) Progress(id ids.MemberID, done func(Progress, error)) {
	ended := func() { done(Progress{}, fault.Stopped) }
	if !h.inbox.put(event{call: func(l *loop) { done(l.progress(id)) }, drop: ended}) {
		ended()
	}
}

func (l *loop) progress(id ids.MemberID) (Progress, error) {
	all := l.rn.Status().Progress
	own, leads := all[*l.self]
	if !leads {
		return Progress{}, fault.NotLeader
	}
	p, ok := all[uint64(id)]
	if !ok {
		return Progress{}, fault.MemberNotFound
	}
	return Progress{Match: ids.Index(p.Match), Leader: ids.Index(own.Match)}, nil
}
