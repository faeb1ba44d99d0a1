package node_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/node"
)

// network connects the members of a test by plain calls.
type network struct {
	mu      sync.Mutex
	members map[ids.MemberID]*node.Host
	cut     map[ids.MemberID]bool
	queue   []*raftpb.Message
	heard   func(*raftpb.Message) // sees all messages sent; nil: nobody listens
}

// deliver hands over what was sent before. Messages are under way for a while, so whoever changes one after sending it, or
// the memory it points to, is found out.
func (n *network) deliver() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.queue {
		to := ids.MemberID(m.GetTo())
		if h := n.members[to]; h != nil && !n.cut[to] && !n.cut[ids.MemberID(m.GetFrom())] {
			h.Receive(m)
		}
	}
	n.queue = nil
}

func (n *network) waiting() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.queue)
}

// port is one member's transport.
type port struct {
	n    *network
	from ids.MemberID
}

func (p port) Send(messages []*raftpb.Message) {
	p.n.mu.Lock()
	defer p.n.mu.Unlock()
	for _, m := range messages {
		if p.n.heard != nil {
			p.n.heard(m)
		}
	}
	p.n.queue = append(p.n.queue, messages...)
}

func (p port) ActiveSince(id ids.MemberID) time.Time {
	p.n.mu.Lock()
	defer p.n.mu.Unlock()
	if p.n.cut[id] || p.n.cut[p.from] {
		return time.Time{}
	}
	return epoch.Add(-time.Hour)
}

func (n *network) sever(id ids.MemberID, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[id] = cut
}

// listen returns a function that gives all messages of a kind that a member has sent since, delivered or not.
func (n *network) listen(from ids.MemberID, kind raftpb.MessageType) func() []*raftpb.Message {
	var heard []*raftpb.Message
	n.mu.Lock()
	defer n.mu.Unlock()
	n.heard = func(m *raftpb.Message) {
		if ids.MemberID(m.GetFrom()) == from && m.GetType() == kind {
			heard = append(heard, m)
		}
	}
	return func() []*raftpb.Message {
		n.mu.Lock()
		defer n.mu.Unlock()
		return slices.Clone(heard)
	}
}

// group starts three members and returns the leader and the others.
func group(t *testing.T, change ...func(*network, ids.MemberID, *node.Config)) (n *network, leader *member, others []*member) {
	n = &network{members: map[ids.MemberID]*node.Host{}, cut: map[ids.MemberID]bool{}}
	all := n.found(t, change...)
	n.tickAll(t, all, func() bool {
		leaders, followers := 0, 0
		for _, m := range all {
			if s := m.host.Status(); s.Self {
				leader = m
				leaders++
			} else if s.Leader != 0 {
				followers++
			}
		}
		return leaders == 1 && followers == 2
	})
	for _, m := range all {
		if m != leader {
			others = append(others, m)
		}
	}
	return n, leader, others
}

// found starts three members, which have no leader yet.
func (n *network) found(t *testing.T, change ...func(*network, ids.MemberID, *node.Config)) (all []*member) {
	founders := []ids.MemberID{1, 2, 3}
	for _, id := range founders {
		m := newMember(t, founders...)
		m.start(func(c *node.Config) {
			c.Member, c.Transport, c.Raft.PreVote = id, port{n, id}, true
			for _, f := range change {
				f(n, id, c)
			}
		})
		n.mu.Lock()
		n.members[id] = m.host
		n.mu.Unlock()
		all = append(all, m)
	}
	return all
}

// tickAll moves all clocks on until cond holds. A tick is over when every member has taken it, and heard and answered everything that
// it and the ticks before sent: a group whose clocks run away from its messages elects for ever, and one of which a member is given no
// time by the machine elects without a reason.
func (n *network) tickAll(t *testing.T, all []*member, cond func() bool) {
	t.Helper()
	pause := time.NewTicker(200 * time.Microsecond)
	defer pause.Stop()
	for limit := time.Now().Add(patience); !cond(); {
		require.True(t, time.Now().Before(limit), "the condition did not come true")
		for _, m := range all {
			m.tick()
		}
		for range 20 {
			n.settle()
			<-pause.C
		}
	}
}

// settle delivers until nothing is under way but what a log or a machine still holds back, or a hundred times: who is proposed to never
// comes to rest.
func (n *network) settle() {
	for round := 0; round == 0 || round < 100 && n.waiting() > 0; round++ {
		n.deliver()
		n.mu.Lock()
		hosts := slices.Collect(maps.Values(n.members))
		n.mu.Unlock()
		for _, h := range hosts {
			turns(h)
		}
	}
}

// A follower forwards proposals to the leader, answers them itself when it has applied them, and confirms reads with the
// leader.
func TestGroupOfThree(t *testing.T) {
	n, leader, others := group(t)
	all := append([]*member{leader}, others...)
	var answers []*answer
	for i := range 300 {
		answers = append(answers, all[i%3].put(fmt.Sprintf("%d from %d", i, i%3)))
		if i%30 == 29 { // more than one message for each follower
			all[i%3].until(func() bool { return n.waiting() > i/30 })
		}
	}
	n.tickAll(t, all, func() bool {
		for _, a := range answers {
			if a.waiting() {
				return false
			}
		}
		return true
	})
	seen := map[string]int{}
	for i, a := range answers {
		r := a.get()
		require.NoError(t, r.Err)
		cmds := all[i%3].machine.commands()
		require.Equal(t, fmt.Sprintf("%d from %d", i, i%3), string(cmds[r.Revision-1].Body), "the result of another command")
	}
	n.tickAll(t, all, func() bool {
		return others[0].host.Status().Applied == leader.host.Status().Applied && others[1].host.Status().Applied == leader.host.Status().Applied
	})
	for _, c := range others[1].machine.commands() {
		if c.Kind == command.Put {
			seen[string(c.Body)]++
		}
	}
	require.Len(t, seen, 300)

	for _, m := range all {
		got := make(chan error, 1)
		m.host.Read(func(err error) { got <- err })
		n.tickAll(t, all, func() bool { return len(got) == 1 })
		require.NoError(t, <-got)
	}
}

func TestGroupHandsLeadershipOver(t *testing.T) {
	n, leader, others := group(t)
	all := append([]*member{leader}, others...)
	got := make(chan error, 1)
	to := others[0].host.Status().Member
	leader.host.TransferLeadership(to, func(err error) { got <- err })
	n.tickAll(t, all, func() bool { return len(got) == 1 })
	require.NoError(t, <-got)
	n.tickAll(t, all, func() bool { return others[0].host.Status().Self && !leader.host.Status().Self })
	require.EqualValues(t, 2, leader.host.Counters().LeaderChanges)
}

// A leader that is cut off steps down, acknowledges nothing and serves no reads. It follows when it is back.
func TestLeaderCutOff(t *testing.T) {
	n, leader, others := group(t)
	all := append([]*member{leader}, others...)
	n.sever(leader.host.Status().Member, true)
	a := leader.put("lost")
	got := make(chan error, 1)
	leader.host.Read(func(err error) { got <- err })
	n.tickAll(t, all, func() bool { return !a.waiting() && len(got) == 1 })
	require.ErrorIs(t, a.get().Err, fault.Timeout)
	require.ErrorIs(t, <-got, fault.Timeout)
	require.False(t, leader.host.Status().Self)
	n.tickAll(t, all, func() bool { return others[0].host.Status().Self || others[1].host.Status().Self })
	n.sever(leader.host.Status().Member, false)
	n.tickAll(t, all, func() bool { return leader.host.Status().Leader != 0 })
	b := leader.put("again")
	n.tickAll(t, all, func() bool { return !b.waiting() })
	require.NoError(t, b.get().Err)
}

func TestFollowerCutOff(t *testing.T) {
	n, _, others := group(t)
	n.sever(others[0].host.Status().Member, true)
	a := others[0].put("lost")
	// One leap of the clock is one tick for raft, so that the leader stays known.
	others[0].clock.Advance(timing.RequestTimeout() + timing.Tick)
	require.ErrorIs(t, a.get().Err, fault.TimeoutDueToConnectionLost)
}

// couriers carry snapshots between the members of a test by plain calls: a snapshot is the state of the machine at its mark.
type courier struct {
	n    *network
	from ids.MemberID

	mu        sync.Mutex
	sent      []*raftpb.Message
	fail      error
	installed *raftpb.SnapshotMetadata
}

func (c *courier) Send(m *raftpb.Message, done func(error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = append(c.sent, m)
	if err := c.fail; err != nil {
		go done(err)
		return
	}
	c.n.mu.Lock()
	c.n.queue = append(c.n.queue, m)
	c.n.mu.Unlock()
	go done(nil)
}

func (c *courier) Install(meta *raftpb.SnapshotMetadata) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.installed = meta
	return nil
}

func (c *courier) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sent)
}

// TestSnapshotToOneFarBehind cuts a follower off until the leader has forgotten what it misses. It is sent a snapshot, again when
// that fails, and ends so that it can be started with it; its log then continues after it.
func TestSnapshotToOneFarBehind(t *testing.T) {
	couriers := map[ids.MemberID]*courier{}
	n, leader, others := group(t, func(n *network, id ids.MemberID, c *node.Config) {
		couriers[id] = &courier{n: n, from: id}
		c.Snapshots = couriers[id]
	})
	all := append([]*member{leader}, others...)
	from, behind := leader.host.Status().Member, others[0]
	to := behind.host.Status().Member
	couriers[from].fail = errors.New("the network is down")
	n.sever(to, true)
	for range 3 * limits.LogRetainedEntries / 100 {
		var answers []*answer
		for range 100 {
			answers = append(answers, leader.put("x"))
		}
		n.tickAll(t, all, func() bool { return !answers[99].waiting() })
	}
	n.sever(to, false)
	n.tickAll(t, all, func() bool { return couriers[from].count() > 0 })
	require.NoError(t, behind.host.Err())
	couriers[from].mu.Lock()
	couriers[from].fail = nil
	couriers[from].mu.Unlock()
	n.tickAll(t, all, func() bool { return behind.host.Err() != nil })
	require.ErrorIs(t, behind.host.Err(), node.ErrInstall)
	require.NotNil(t, couriers[to].installed)
	index := couriers[to].installed.GetIndex()
	require.Greater(t, index, uint64(limits.LogRetainedEntries))
	behind.log.mu.Lock()
	defer behind.log.mu.Unlock()
	require.EqualValues(t, index, behind.log.installed.Index)
	require.Empty(t, behind.log.entries)
	require.Equal(t, index, behind.log.hard.GetCommit())
	require.Equal(t, []uint64{1, 2, 3}, couriers[to].installed.GetConfState().GetVoters())
}
