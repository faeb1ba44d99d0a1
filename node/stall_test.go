package node_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/node"
)

// leaderOf is the one of the members that leads, or nil.
func leaderOf(members ...*member) *member {
	for _, m := range members {
		if m.host.Status().Self {
			return m
		}
	}
	return nil
}

// pushes proposes until one proposal is acknowledged.
func (n *network) pushes(t *testing.T, all []*member, by *member) {
	t.Helper()
	var a *answer
	n.tickAll(t, all, func() bool {
		if a != nil && a.waiting() {
			return false
		}
		if a != nil && a.get().Err == nil {
			return true
		}
		a = by.put("push")
		return false
	})
}

// ticks moves all clocks on by that many ticks.
func (n *network) ticks(t *testing.T, all []*member, count int) {
	t.Helper()
	n.tickAll(t, all, func() bool { count--; return count < 0 })
}

// TestLeaderWithDeadDisk stops the leader's writes to its log. It hands the leadership over, although its heartbeats arrive and
// the others commit without it, and does not get it back as long as that lasts.
func TestLeaderWithDeadDisk(t *testing.T) {
	n, leader, others := group(t)
	all := append([]*member{leader}, others...)
	n.pushes(t, all, leader)
	leader.log.setGate(newGate(0))
	a := leader.put("stuck")
	n.tickAll(t, all, func() bool { return leaderOf(others...) != nil })
	require.Equal(t, "the raft log", leader.host.Stall().What)
	require.GreaterOrEqual(t, leader.host.Stall().For, timing.Election())
	n.tickAll(t, all, func() bool { return leader.host.Counters().StepDowns == 1 })
	for _, m := range others {
		n.pushes(t, all, m)
	}

	next := leaderOf(others...)
	id := leader.host.Status().Member
	got := make(chan error, 1)
	next.host.TransferLeadership(id, func(err error) { got <- err })
	n.tickAll(t, all, func() bool { return len(got) == 1 })
	require.ErrorIs(t, <-got, fault.TimeoutLeaderTransfer)

	leader.log.setGate(nil).open()
	n.tickAll(t, all, func() bool { return leader.host.Stall() == node.Stall{} && !a.waiting() })
	n.pushes(t, all, leader)
	n.tickAll(t, all, func() bool {
		applied := leader.host.Status().Applied
		return applied == others[0].host.Status().Applied && applied == others[1].host.Status().Applied
	})
	require.EqualValues(t, 1, leader.host.Counters().Stalls)
}

// TestLeaderWithHangingMachine stops the leader's state machine in the middle of a batch. The others apply it and take over. As
// long as that lasts the member votes for others and does not lead itself, asked or not.
func TestLeaderWithHangingMachine(t *testing.T) {
	n, leader, others := group(t)
	all := append([]*member{leader}, others...)
	n.pushes(t, all, leader)
	leader.machine.setGate(newGate(0))
	leader.put("stuck")
	n.tickAll(t, all, func() bool { return leaderOf(others...) != nil })
	require.Equal(t, "the state machine", leader.host.Stall().What)
	n.pushes(t, all, others[0])

	id, next := leader.host.Status().Member, leaderOf(others...)
	status := next.host.Status()
	asks := n.listen(id, raftpb.MsgPreVote)
	leader.host.Receive(&raftpb.Message{
		Type: raftpb.MsgTimeoutNow.Enum(), From: proto.Uint64(uint64(status.Member)), To: proto.Uint64(uint64(id)), Term: proto.Uint64(uint64(status.Term)),
	})
	n.ticks(t, all, 2*timing.ElectionTicks)
	require.Equal(t, status, next.host.Status(), "it followed the request to lead")

	n.sever(status.Member, true)
	last := others[0]
	if last == next {
		last = others[1]
	}
	n.tickAll(t, all, func() bool { return last.host.Status().Self })
	n.sever(status.Member, false)
	require.Empty(t, asks(), "it asked for votes")

	leader.machine.setGate(nil).open()
	n.tickAll(t, all, func() bool { return leader.host.Stall() == node.Stall{} })
	n.pushes(t, all, leader)
}

// TestStallOfAll stops the disks of all members, as shared storage does. Nobody would do better, so nobody hands over.
func TestStallOfAll(t *testing.T) {
	n, leader, others := group(t)
	all := append([]*member{leader}, others...)
	n.pushes(t, all, leader)
	n.tickAll(t, all, func() bool {
		applied := leader.host.Status().Applied
		return applied == others[0].host.Status().Applied && applied == others[1].host.Status().Applied
	})
	for _, m := range all {
		m.log.setGate(newGate(0))
	}
	term := leader.host.Status().Term
	a := leader.put("stuck")
	n.tickAll(t, all, func() bool { return leader.host.Stall().For >= 5*timing.Election() })
	require.Equal(t, term, leader.host.Status().Term)
	require.True(t, leader.host.Status().Self)
	for _, m := range all {
		m.log.setGate(nil).open()
	}
	n.tickAll(t, all, func() bool { return !a.waiting() })
	require.Zero(t, leader.host.Counters().StepDowns)
}

// TestStallOfOnlyVoter has nobody to hand over to.
func TestStallOfOnlyVoter(t *testing.T) {
	m := newMember(t).start().lead()
	m.log.setGate(newGate(0))
	a := m.put("stuck")
	m.pass(func() bool { return m.host.Stall().What == "the raft log" })
	require.True(t, m.host.Status().Self)
	m.log.setGate(nil).open()
	m.pass(func() bool { return m.host.Stall() == node.Stall{} })
	a.get()
}

// TestFencedMember does not lead: a leader that is fenced hands over, and takes the leadership again only when it is not any more.
func TestFencedMember(t *testing.T) {
	n, leader, others := group(t)
	all := append([]*member{leader}, others...)
	n.pushes(t, all, leader)
	leader.host.Fence(true)
	n.tickAll(t, all, func() bool { return leaderOf(others...) != nil })
	n.pushes(t, all, leader)
	require.EqualValues(t, 1, leader.host.Counters().StepDowns)
	require.Empty(t, leader.host.Stall().What)

	back := func() error {
		got := make(chan error, 1)
		leaderOf(others...).host.TransferLeadership(leader.host.Status().Member, func(err error) { got <- err })
		n.tickAll(t, all, func() bool { return len(got) == 1 })
		return <-got
	}
	require.ErrorIs(t, back(), fault.TimeoutLeaderTransfer)
	leader.host.Fence(false)
	require.NoError(t, back())
}

// ditch is a transport that, once it is open, takes messages to one member and never delivers them.
type ditch struct {
	port
	to   ids.MemberID
	lost *lost
}

// lost counts what fell into ditches.
type lost struct {
	open  atomic.Bool
	bytes atomic.Int64 // of entries' data
}

func (d ditch) Send(messages []*raftpb.Message) {
	var rest []*raftpb.Message
	for _, m := range messages {
		if ids.MemberID(m.GetTo()) != d.to || !d.lost.open.Load() {
			rest = append(rest, m)
			continue
		}
		for _, e := range m.GetEntries() {
			d.lost.bytes.Add(int64(len(e.GetData())))
		}
	}
	d.port.Send(rest)
}

// TestFollowerThatTakesNothing has a follower whose connection takes messages from some moment on and never delivers one. Writes
// go on, and what the leader hands to that connection is bounded, however much is written.
func TestFollowerThatTakesNothing(t *testing.T) {
	falls := &lost{}
	deaf := ids.MemberID(3)
	n, leader, others := group(t, func(n *network, id ids.MemberID, c *node.Config) {
		c.Transport = ditch{port: port{n, id}, to: deaf, lost: falls}
	})
	all := append([]*member{leader}, others...)
	if leader.host.Status().Member == deaf {
		got := make(chan error, 1)
		leader.host.TransferLeadership(others[0].host.Status().Member, func(err error) { got <- err })
		n.tickAll(t, all, func() bool { return len(got) == 1 && leaderOf(others...) != nil })
		leader = leaderOf(others...)
	}
	for range 3 {
		n.pushes(t, all, leader)
	}
	n.tickAll(t, all, func() bool {
		return all[0].host.Status().Applied == all[1].host.Status().Applied && all[1].host.Status().Applied == all[2].host.Status().Applied
	})
	falls.open.Store(true)
	value := string(make([]byte, 1<<20))
	for range 2 * limits.RaftInflightBytes / len(value) / 8 {
		var answers [8]*answer
		for i := range answers {
			answers[i] = leader.put(value)
		}
		for _, a := range answers {
			n.tickAll(t, all, func() bool { return !a.waiting() })
			require.NoError(t, a.get().Err)
		}
	}
	require.Positive(t, falls.bytes.Load())
	require.LessOrEqual(t, falls.bytes.Load(), int64(limits.RaftInflightBytes+limits.RaftMessageBytes+len(value)))
}

// TestLateAnswerToARead gives a member that has just started the answer to a read that it asked in its life before, of which
// it knows nothing any more. It must not serve a read of now with it.
func TestLateAnswerToARead(t *testing.T) {
	n, leader, others := group(t)
	all := append([]*member{leader}, others...)
	m := others[0]
	id, from := m.host.Status().Member, leader.host.Status().Member
	asked := n.listen(id, raftpb.MsgReadIndex)
	n.sever(id, true)
	old := make(chan error, 1)
	m.host.Read(func(err error) { old <- err })
	n.tickAll(t, all[:1], func() bool { return len(asked()) > 0 })
	m.stop()
	require.Error(t, <-old)

	m.start(func(c *node.Config) {
		c.Member, c.Transport, c.Raft.PreVote, c.ConfState = id, port{n, id}, true, voters(1, 2, 3)
	})
	n.mu.Lock()
	n.members[id] = m.host
	n.mu.Unlock()
	n.sever(id, false)
	n.tickAll(t, all, func() bool { return m.host.Status().Leader == from })
	n.sever(id, true) // what it asks now is lost
	got := make(chan error, 1)
	m.host.Read(func(err error) { got <- err })
	n.tickAll(t, all[:1], func() bool { return len(asked()) > 1 })
	before, now := asked()[0].GetEntries()[0].GetData(), asked()[len(asked())-1].GetEntries()[0].GetData()
	require.NotEqual(t, before, now, "the name of a read is used again")
	m.host.Receive(&raftpb.Message{
		Type: raftpb.MsgReadIndexResp.Enum(), From: proto.Uint64(uint64(from)), To: proto.Uint64(uint64(id)), Term: proto.Uint64(uint64(m.host.Status().Term)),
		Index: proto.Uint64(1), Entries: []*raftpb.Entry{{Data: before}},
	})
	m.clock.Advance(timing.Tick)
	for range 1000 {
		m.until(func() bool { return true })
	}
	require.Empty(t, got)
	n.sever(id, false)
	n.tickAll(t, all, func() bool { return len(got) == 1 })
	require.NoError(t, <-got)
}

// TestFirstElectionComesEarly starts members that are connected from the first moment. They campaign before an election
// timeout has passed, which without the advance they never do. The timeouts are drawn, so a group may be unlucky, twenty in a
// row are not. Who wins is not asked: candidates of the same tick can split the votes.
func TestFirstElectionComesEarly(t *testing.T) {
	campaigns := func(early bool) (after time.Duration) {
		n := &network{members: map[ids.MemberID]*node.Host{}, cut: map[ids.MemberID]bool{}}
		heard := false
		n.heard = func(m *raftpb.Message) { heard = heard || m.GetType() == raftpb.MsgPreVote }
		all := n.found(t, func(_ *network, _ ids.MemberID, c *node.Config) { c.Raft.Advance = early })
		n.tickAll(t, all, func() bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			return heard
		})
		return all[0].clock.Now().Sub(epoch)
	}
	require.GreaterOrEqual(t, campaigns(false), timing.Election())
	took := make([]time.Duration, 0, 20)
	for range cap(took) {
		took = append(took, campaigns(true))
		if took[len(took)-1] < timing.Election() {
			return
		}
	}
	require.Fail(t, "no group campaigned before an election timeout", "they took %v", took)
}

// TestRetentionForOthers lets go of applied entries by the numbers given.
func TestRetentionForOthers(t *testing.T) {
	couriers := map[ids.MemberID]*courier{}
	n, leader, others := group(t, func(n *network, id ids.MemberID, c *node.Config) {
		couriers[id] = &courier{n: n, from: id}
		c.Snapshots, c.Raft.CatchUp, c.Raft.Slack = couriers[id], 20, 30
	})
	all := append([]*member{leader}, others...)
	away := others[0]
	id := away.host.Status().Member
	write := func(count int) {
		for range count {
			n.pushes(t, all, leader)
		}
	}
	write(5)
	n.tickAll(t, all, func() bool { return away.host.Status().Applied == leader.host.Status().Applied })
	n.sever(id, true)
	write(15) // fewer than are always kept
	n.sever(id, false)
	n.tickAll(t, all, func() bool { return away.host.Status().Applied == leader.host.Status().Applied })
	require.Zero(t, couriers[leader.host.Status().Member].count())
	n.sever(id, true)
	write(60) // more than are ever kept
	n.sever(id, false)
	n.tickAll(t, all, func() bool { return couriers[leader.host.Status().Member].count() > 0 })
}
