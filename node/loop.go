package node

import (
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/internal/invariant"
	"quorate.dev/quorate/limits"
)

// tidyTicks is how often, in ticks, the retention of the log is looked at even when little is written.
const tidyTicks = 20

// loop owns raft: its state and everything that follows it turn by turn. A turn never waits for a disk, a peer or a client.
//
// The loop goroutine takes turns whenever something has come in, and with every tick. A worker takes one itself where
// the loop goroutine would only be woken to do the same, which costs more than the turn. So raft belongs to whoever holds
// the baton.
type loop struct {
	baton
	h     *Host
	rn    *raft.RawNode
	store *store
	self  *uint64 // this member's id, as raft's messages hold it
	batch batch

	appending int    // storage-append messages to be made durable that the log has not finished
	applied   uint64 // what raft knows to be applied

	transfers []transfer
	outgoing
	beginning
	groupState
	readState
	watchdog
	changing
}

// baton is what a goroutine must hold for a turn.
type baton struct {
	mu    sync.Mutex
	ended bool // no more turns
	handed
}

// handed says which queues got something in a turn. Whoever took the turn sees to it that they are worked off.
type handed struct {
	syncs   bool // something is to be made durable
	applies bool // something is to be applied
}

// beginning is how long ago the start was, and what is done once after it.
type beginning struct {
	ticks    int
	campaign bool // begin an election as soon as this member is the only voter
	early    bool // have the first election come early when a majority is connected
}

// groupState is the group as raft last reported it.
type groupState struct {
	role raft.StateType
	lead uint64
	term uint64
	conf *raftpb.ConfState
}

// readState is the loop's part of the read barrier.
type readState struct {
	runID       [16]byte // random, of this start
	readRound   uint64   // number of the newest round
	readPending bool     // it is not answered
	readAt      int64    // when it was last asked, coarse clock
}

func newLoop(h *Host, rec *recovered) (*loop, error) {
	c := &h.cfg
	rn, err := raft.NewRawNode(&raft.Config{
		ID:                       uint64(c.Member),
		ElectionTick:             c.Timing.ElectionTicks,
		HeartbeatTick:            c.Timing.HeartbeatTicks,
		Storage:                  rec.store,
		Applied:                  uint64(rec.mark.Index),
		AsyncStorageWrites:       true,
		MaxSizePerMsg:            limits.RaftMessageBytes,
		MaxInflightMsgs:          limits.RaftInflight,
		MaxInflightBytes:         limits.RaftInflightBytes,
		MaxCommittedSizePerReady: limits.ApplyOutstanding,
		CheckQuorum:              true,
		PreVote:                  c.Raft.PreVote,
		Logger:                   raftLogger{c.Logger.Named("raft").Sugar()},
	})
	if err != nil {
		return nil, fmt.Errorf("node: start raft: %w", err)
	}
	l := &loop{
		h: h, rn: rn, store: rec.store, self: proto.Uint64(uint64(c.Member)), beginning: beginning{campaign: true, early: c.Raft.Advance},
		applied: uint64(rec.mark.Index), groupState: groupState{term: rec.store.hard.GetTerm(), conf: rec.store.conf},
	}
	if _, err := rand.Read(l.runID[:]); err != nil {
		return nil, fmt.Errorf("node: draw a number for this start: %w", err)
	}
	rec.store.keep, rec.store.slack = c.Raft.CatchUp, c.Raft.Slack
	if c.Snapshots != nil {
		rec.store.snapshot = l.describe
	}
	return l, nil
}

func (l *loop) run() {
	ticker := l.h.cfg.Clock.NewTicker(l.h.cfg.Timing.Tick)
	defer ticker.Stop()
	defer l.finish()
	tick := false
	for {
		l.ring(l.take(tick))
		tick = false
		select {
		case <-ticker.C:
			tick = true
		case <-l.h.inbox.wake:
		case <-l.h.life.end:
			return
		}
	}
}

// take waits for the baton and takes a turn, after a tick of raft's clock if tick is set. It returns what there is to do now.
func (l *loop) take(tick bool) handed {
	l.mu.Lock()
	defer l.mu.Unlock()
	if tick {
		l.tick()
	}
	return l.turn()
}

// tryTake takes a turn unless somebody else is at it, and reports whether it did.
func (l *loop) tryTake() (handed, bool) {
	if !l.mu.TryLock() {
		return handed{}, false
	}
	defer l.mu.Unlock()
	if l.ended {
		return handed{}, false
	}
	return l.turn(), true
}

// ring wakes the goroutines that have something to do.
func (l *loop) ring(h handed) {
	if h.syncs {
		ring(l.h.appends.wake)
	}
	if h.applies {
		ring(l.h.applies.wake)
	}
}

// finish ends the loop: whoever comes after finds nothing.
func (l *loop) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.h.inbox.close()
	l.abortTransfers()
	l.h.gauges.sole.Store(0) // whoever reads after the end is refused
}

// turn brings raft up to date with everything that has come in, and carries out what raft wants. It returns which queues
// got something. The baton is held.
func (l *loop) turn() handed {
	l.handed = handed{}
	l.h.gauges.now.Store(l.h.instant(l.h.cfg.Clock.Now()))
	for _, e := range l.h.inbox.take() {
		l.handle(e)
	}
	l.start()
	l.unpark()
	l.proposeChanges()
	l.propose(false)
	l.serveReads()
	for l.rn.HasReady() {
		l.ready()
	}
	return l.handed
}

func (l *loop) handle(e event) {
	l.store.append(e.durable)
	l.appending -= e.appended
	l.written += uint64(e.appended)
	removed := false
	if e.change != nil {
		removed = l.reconfigure(e.change)
	}
	for _, m := range e.messages {
		if m.GetTo() == raft.LocalApplyThread {
			l.behind--
			l.give(m)
			continue
		}
		if m.GetTo() != *l.self {
			l.h.cfg.Transport.Send([]*raftpb.Message{m})
			continue
		}
		// The errors here are a dropped proposal, which is not stepped here, and a response of somebody who is no member
		// any more, which raft is right to ignore.
		_ = l.rn.Step(m)
		if m.GetType() == raftpb.MsgStorageApplyResp {
			l.applied = m.GetEntries()[len(m.GetEntries())-1].GetIndex()
			l.store.trim(l.applied)
		}
	}
	if e.remote != nil && !l.refuses(e.remote) {
		l.stepRemote(e.remote)
	}
	if e.call != nil {
		e.call(l)
	}
	if removed { // it hears of no result any more: whoever waits for one had better ask another member
		l.h.proposals.close(fault.Stopped)
		l.h.refuseAll()
		l.parked, l.parkedBytes = nil, 0
		l.giveUp(removedSelf, 0)
	}
}

// tick advances raft's time and looks after everything that depends on time. The baton is held.
func (l *loop) tick() {
	now := l.h.cfg.Clock.Now()
	coarse := l.h.instant(now)
	l.h.gauges.now.Store(coarse)
	if last := l.h.gauges.ticked.Swap(coarse); last != 0 && time.Duration(coarse-last) > 2*l.h.cfg.Timing.Tick && l.role == raft.StateLeader && !l.sole() {
		l.h.gauges.lateBeats.Add(1)
	}
	l.watch()
	l.tickRaft()
	l.advance()
	l.propose(true)
	oldest := coarse - int64(l.h.cfg.Timing.RequestTimeout())
	l.h.failItems(l.h.registry.expire(oldest), l.timeout)
	l.h.failChanges(l.h.changes.expire(oldest), l.timeout)
	l.h.reads.fail(oldest, fault.Timeout)
	l.expireTransfers(now)
	if l.ticks++; l.ticks%tidyTicks == 0 {
		l.releaseHolds()
		ring(l.h.tidy)
	}
}

// start begins the first election at once when nobody else has a vote, instead of waiting for an election timeout. All that
// is known to be committed must be applied first, because raft refuses while a member change is on its way.
func (l *loop) start() {
	if !l.campaign || !l.sole() || l.applied < l.h.gauges.committed.Load() {
		return
	}
	l.campaign = false
	if err := l.rn.Campaign(); err != nil {
		l.h.cfg.Logger.Sugar().Warnf("could not start the first election, waiting for the election timeout: %v", err)
	}
}

// sole reports whether this member is the only voter.
func (l *loop) sole() bool {
	v := l.conf.GetVoters()
	return len(v) == 1 && v[0] == *l.self && len(l.conf.GetVotersOutgoing()) == 0
}

// propose gives raft what has been proposed, a chunk in each step. While the log is writing it waits until enough has come
// together (see overlapEntries), unless all is set.
func (l *loop) propose(all bool) {
	l.land()
	for len(l.retry) > 0 {
		c := l.retry[0]
		// A chunk of which nobody waits for anything any more need not be proposed; those of one whose waiters have timed
		// out in part may still take effect, as after any timeout.
		if oldest, ok := l.h.registry.oldest(); ok && oldest <= c.items[len(c.items)-1].id {
			if !l.step(c) {
				break
			}
		}
		l.retry = l.retry[1:]
	}
	least := 1
	if l.appending > 0 && !all {
		least = overlapEntries
	}
	for c := l.h.proposals.take(least); c != nil; c = l.h.proposals.take(least) {
		l.h.registry.add(c.items)
		// Later proposals do not overtake earlier ones.
		if len(l.retry) > 0 || !l.step(c) {
			l.retry = append(l.retry, c)
		}
	}
}

// step proposes one chunk and reports whether raft took it. It does not while there is no leader, or while the leadership is
// being handed over; then the chunk is proposed again at every turn until its waiters time out. What raft took and then lost
// comes back through reissue. A chunk that is void is answered here.
func (l *loop) step(c *chunk) bool {
	if l.void(c) {
		return true
	}
	if l.lead == raft.None {
		return false
	}
	if l.sole() { // nobody else can overwrite what this member appends
		if err := l.rn.Step(l.batch.message(l.self, c, nil)); err != nil {
			return false
		}
		l.h.proposals.recycle(c) // raft has copied the entries
		return true
	}
	c.term = l.raftTerm()
	m := l.batch.message(l.self, c, stamp(c.term))
	if err := l.rn.Step(m); err != nil {
		return false
	}
	if m.To != nil {
		c.lent, l.batch = true, batch{} // raft forwards this very message to the leader
	}
	l.airborne = append(l.airborne, c)
	return true
}

// ready carries out what raft wants: first the news about leadership, so that whoever applies an entry of a term knows who
// leads it, then messages and storage work.
func (l *loop) ready() {
	rd := l.rn.Ready()
	if !raft.IsEmptyHardState(rd.HardState) {
		l.term = rd.GetTerm()
		l.h.gauges.committed.Store(rd.GetCommit())
	}
	if rd.SoftState != nil {
		l.open = l.open || rd.RaftState == raft.StateLeader // raft takes no change before it has applied what it finds
		l.role, l.lead = rd.RaftState, rd.Lead
	}
	l.publish()
	l.readConfirmed(rd.ReadStates)
	var remote []*raftpb.Message
	asks := withAppend(rd.Messages)
	for _, m := range rd.Messages {
		switch m.GetTo() {
		case raft.LocalAppendThread:
			m.Responses = append(m.Responses, asks...)
			if m.GetSnapshot() != nil && l.h.cfg.Snapshots == nil {
				invariant.Failed("raft wants to install a snapshot at index %d, but nobody can have sent one", m.GetSnapshot().GetMetadata().GetIndex())
			}
			if canary.On(canary.AckBeforeWrite) {
				for _, r := range m.GetResponses() {
					if r.GetTo() != *l.self {
						remote = append(remote, r)
					}
				}
			}
			l.noteAppended(m.GetEntries())
			if len(m.GetResponses()) > 0 {
				l.appending++
				l.syncs = true
			}
			l.h.appends.put(m)
		case raft.LocalApplyThread:
			l.giveDurable(m)
		default:
			if m.GetType() == raftpb.MsgSnap {
				l.sendSnapshot(m)
				continue
			}
			if !l.withholds(m) && (m.GetType() != raftpb.MsgVote || len(asks) == 0) {
				remote = append(remote, m)
			}
		}
	}
	if len(remote) > 0 {
		l.h.cfg.Transport.Send(remote)
	}
}

// withAppend returns the requests for votes that wait until the log has the term they are for: those that come with a storage append, which
// has it. Raft lets them go at once, and a candidate that the others elect meanwhile may lose its power before it has written its term, be
// elected again in the same term, and give the same index and term to another entry.
func withAppend(messages []*raftpb.Message) (asks []*raftpb.Message) {
	appends := false
	for _, m := range messages {
		appends = appends || m.GetTo() == raft.LocalAppendThread
	}
	for _, m := range messages {
		if appends && m.GetType() == raftpb.MsgVote {
			asks = append(asks, m)
		}
	}
	return asks
}

// publish makes changes of term, leader and voters known.
func (l *loop) publish() {
	self := l.role == raft.StateLeader
	var sole uint64
	if self && l.sole() && len(l.conf.GetLearners()) == 0 {
		sole = l.term
	}
	l.h.gauges.sole.Store(sole)
	old := l.h.gauges.leader.Load()
	lead := Leadership{Term: ids.Term(l.term), Leader: ids.MemberID(l.lead), Self: self}
	if lead == old.Leadership {
		return
	}
	next := &leaderState{Leadership: lead, since: old.since, last: old.last}
	if lead.Leader != old.Leader {
		l.readAt = 0 // a round that the leader before was asked for is repeated at once
		now := l.h.cfg.Clock.Now()
		next.since = time.Time{}
		if lead.Leader != 0 {
			next.since, next.last = now, now
			l.h.gauges.leaderChanges.Add(1)
		}
	}
	l.h.gauges.leader.Store(next)
	l.settleTransfers(lead.Leader)
	l.handedOver(lead.Leader)
	if f := l.h.cfg.Observer.LeaderChanged; f != nil {
		f(lead)
	}
}

// timeout says why a proposal made at start was not applied in time (source: etcd's parseProposeCtxErr): it overlapped with
// the loss of a leader, or the member that must commit it could not reach those it needs, or neither is known.
func (l *loop) timeout(start int64) error {
	began := l.h.began.Add(time.Duration(start - 1))
	lead := l.h.gauges.leader.Load()
	lost := lead.last.Add(-2 * l.h.cfg.Timing.Election())
	if !lead.last.IsZero() && began.After(lost) && began.Before(lead.last) {
		return fault.TimeoutDueToLeaderFail
	}
	connected := func(id uint64) bool {
		since := l.h.cfg.Transport.ActiveSince(ids.MemberID(id))
		return !since.IsZero() && since.Before(began)
	}
	switch {
	case lead.Leader == 0:
		return fault.Timeout
	case !lead.Self && !connected(l.lead), lead.Self && !l.quorum(connected):
		return fault.TimeoutDueToConnectionLost
	}
	return fault.Timeout
}

// quorum reports whether a majority of the voters, this member included, is connected.
func (l *loop) quorum(connected func(uint64) bool) bool {
	n := 0
	for _, id := range l.conf.GetVoters() {
		if id == *l.self || connected(id) {
			n++
		}
	}
	return n > len(l.conf.GetVoters())/2
}
