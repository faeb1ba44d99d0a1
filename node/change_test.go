package node_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/node"
)

func (m *member) change(kind raftpb.ConfChangeType, id ids.MemberID) *answer {
	a := wait(m.t)
	m.host.ProposeChange(kind, id, []byte(`{"id":4}`), a)
	return a
}

func (m *member) id() ids.MemberID { return m.host.Status().Member }

// joins starts a member that has nothing yet.
func (n *network) joins(t *testing.T, id ids.MemberID) *member {
	m := &member{t: t, log: &memLog{}, machine: &machine{}, clock: clock.NewManual(epoch), ready: make(chan ids.Term, 16), changes: make(chan node.Leadership, 64)}
	m.start(func(c *node.Config) { c.Member, c.Transport = id, port{n, id} })
	n.mu.Lock()
	n.members[id] = m.host
	n.mu.Unlock()
	return m
}

// get waits for an answer while time passes for all members.
func (n *network) get(t *testing.T, all []*member, a *answer) command.Result {
	t.Helper()
	n.tickAll(t, all, func() bool { return !a.waiting() })
	return a.get()
}

// TestMembersComeAndGo adds a learner, promotes it, and removes a follower and the leader, each asked for through the member
// for which that is hardest, while commands are proposed at every member. No command is lost.
func TestMembersComeAndGo(t *testing.T) {
	n, leader, others := group(t)
	all := append([]*member{leader}, others...)
	var puts []*answer
	count := 0
	load := func(members ...*member) {
		for _, m := range members {
			for range 3 {
				puts = append(puts, m.put(fmt.Sprintf("%d", count)))
				count++
			}
		}
	}
	load(all...)
	added := others[0].change(raftpb.ConfChangeAddLearnerNode, 4)
	load(all...)
	require.NoError(t, n.get(t, all, added).Err)
	joined := n.joins(t, 4)
	all = append(all, joined)
	load(all...)
	n.tickAll(t, all, func() bool { return joined.host.Status().Applied >= leader.host.Status().Committed })
	require.False(t, joined.host.Status().Self)

	promoted := joined.change(raftpb.ConfChangeAddNode, 4)
	load(all...)
	require.NoError(t, n.get(t, all, promoted).Err)

	gone := others[1]
	load(leader, others[0], joined)
	removed := leader.change(raftpb.ConfChangeRemoveNode, gone.id())
	require.NoError(t, n.get(t, all, removed).Err)
	all = []*member{leader, others[0], joined}
	n.sever(gone.id(), true)

	load(all...)
	removed = leader.change(raftpb.ConfChangeRemoveNode, leader.id())
	load(others[0], joined)
	require.NoError(t, n.get(t, all, removed).Err)
	n.sever(leader.id(), true)
	all = []*member{others[0], joined}
	load(all...)
	n.tickAll(t, append(all, leader, gone), func() bool {
		for _, a := range puts {
			if a.waiting() {
				return false
			}
		}
		return true
	})
	for i, a := range puts {
		require.NoError(t, a.get().Err, "command %d of %d", i, len(puts))
	}
	n.tickAll(t, all, func() bool { return others[0].host.Status().Applied == joined.host.Status().Applied })
	require.Equal(t, bodies(others[0]), bodies(joined))
	require.True(t, others[0].host.Status().Self || joined.host.Status().Self)
}

func bodies(m *member) (out []string) {
	for _, c := range m.machine.commands() {
		if c.Kind == command.Put {
			out = append(out, string(c.Body))
		}
	}
	return out
}

// TestChangesAtOnce asks for many changes at the same moment, at every member. Raft alone would turn all but one into nothing.
func TestChangesAtOnce(t *testing.T) {
	n, leader, others := group(t)
	all := append([]*member{leader}, others...)
	var answers []*answer
	for i, m := range append(all, all...) {
		answers = append(answers, m.change(raftpb.ConfChangeUpdateNode, ids.MemberID(i%3+1)))
	}
	for _, a := range answers {
		require.NoError(t, n.get(t, all, a).Err)
	}
	changes := 0
	for _, c := range leader.machine.commands() {
		if c.Kind == command.ConfChange && c.ID != 0 {
			changes++
		}
	}
	require.Equal(t, len(answers), changes)
}

// TestChangeIsRefused has the machine refuse a removal: whoever asked hears why, and raft goes on with all members.
func TestChangeIsRefused(t *testing.T) {
	no := errors.New("no")
	n, leader, others := group(t, func(_ *network, _ ids.MemberID, c *node.Config) {
		c.Machine.(*machine).refuse = func(cmd command.Command) error {
			if cmd.Kind == command.ConfChange && cmd.ID != 0 {
				return no
			}
			return nil
		}
	})
	all := append([]*member{leader}, others...)
	require.ErrorIs(t, n.get(t, all, others[0].change(raftpb.ConfChangeRemoveNode, others[1].id())).Err, no)
	a := others[1].put("still here")
	require.NoError(t, n.get(t, all, a).Err)
}

// TestChangeWithoutAnswer asks for changes that cannot be made.
func TestChangeWithoutAnswer(t *testing.T) {
	n, leader, others := group(t)
	n.sever(leader.id(), true)
	a := leader.change(raftpb.ConfChangeAddLearnerNode, 4)
	require.ErrorIs(t, n.get(t, append([]*member{leader}, others...), a).Err, fault.Timeout)

	var last *answer
	for range limits.ChangesPending + 1 {
		last = leader.change(raftpb.ConfChangeAddLearnerNode, 4)
	}
	require.ErrorIs(t, last.get().Err, fault.TooManyRequests)

	b := others[0].change(raftpb.ConfChangeAddLearnerNode, 4)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = others[0].host.Stop(ctx)
	require.ErrorIs(t, b.get().Err, fault.Stopped)
	require.ErrorIs(t, others[0].change(raftpb.ConfChangeAddLearnerNode, 4).get().Err, fault.Stopped)
}

// TestProgress asks how far others are: only the leader knows.
func TestProgress(t *testing.T) {
	n, leader, others := group(t)
	all := append([]*member{leader}, others...)
	require.NoError(t, n.get(t, all, leader.put("x")).Err)
	ask := func(m *member, id ids.MemberID) (p node.Progress, err error) {
		done := make(chan struct{})
		m.host.Progress(id, func(got node.Progress, gotErr error) { p, err = got, gotErr; close(done) })
		<-done
		return p, err
	}
	n.tickAll(t, all, func() bool {
		p, err := ask(leader, others[0].id())
		return err == nil && p.Match == p.Leader && p.Match >= leader.host.Status().Applied
	})
	_, err := ask(leader, 9)
	require.ErrorIs(t, err, fault.MemberNotFound)
	_, err = ask(others[0], others[1].id())
	require.ErrorIs(t, err, fault.NotLeader)
	n.sever(others[0].id(), true)
	require.NoError(t, n.get(t, all, leader.put("y")).Err)
	p, err := ask(leader, others[0].id())
	require.NoError(t, err)
	require.Less(t, p.Match, p.Leader)
}

// TestRemovedMemberRefuses: whoever asks a member that learns of its removal need not wait for a timeout.
func TestRemovedMemberRefuses(t *testing.T) {
	n, leader, others := group(t)
	all := append([]*member{leader}, others...)
	gone := others[1]
	n.sever(gone.id(), true)
	waits := gone.put("on its way to the leader and lost")
	gone.until(func() bool { return n.waiting() > 0 })
	n.deliver()
	n.sever(gone.id(), false)
	removed := leader.change(raftpb.ConfChangeRemoveNode, gone.id())
	require.NoError(t, n.get(t, all, removed).Err)
	require.ErrorIs(t, n.get(t, all, waits).Err, fault.Stopped)
	after := gone.put("afterwards")
	require.ErrorIs(t, n.get(t, all, after).Err, fault.Stopped)
	got := make(chan error, 1)
	gone.host.Read(func(err error) { got <- err })
	require.ErrorIs(t, <-got, fault.Stopped)
	require.NoError(t, gone.host.Err())
}

// TestChangeIsAppliedWhenItsCommitIsDurable: no member acts on a change of members before a loss of power would leave it knowing that
// the change is committed.
func TestChangeIsAppliedWhenItsCommitIsDurable(t *testing.T) {
	n, leader, others := group(t)
	all := append([]*member{leader}, others...)
	seen := make(chan ids.MemberID, 16)
	for _, m := range all {
		m.machine.mu.Lock()
		m.machine.refuse = func(c command.Command) error {
			m.log.mu.Lock()
			defer m.log.mu.Unlock()
			if c.Kind == command.ConfChange && m.log.durable.GetCommit() < uint64(c.Index) {
				t.Errorf("member %v applies the change of entry %d, and its log says durably that %d are committed", m.id(), c.Index, m.log.durable.GetCommit())
			}
			if c.Kind == command.ConfChange {
				seen <- m.id()
			}
			return nil
		}
		m.machine.mu.Unlock()
	}
	first := leader.put("before")
	require.NoError(t, n.get(t, all, others[0].change(raftpb.ConfChangeRemoveNode, others[1].id())).Err)
	require.NoError(t, n.get(t, all, first).Err)
	n.tickAll(t, all, func() bool { return len(seen) == len(all) })
	require.NoError(t, n.get(t, all[:2], leader.put("after")).Err)
}

// TestLearnerIsAheadOfItsLeader: the only voter applies late, so that a learner has applied, and may have acknowledged as a voter, what a
// read at the leader must see.
func TestLearnerIsAheadOfItsLeader(t *testing.T) {
	n := &network{members: map[ids.MemberID]*node.Host{}, cut: map[ids.MemberID]bool{}}
	leader := newMember(t)
	leader.start(func(c *node.Config) { c.Transport = port{n, self} }).lead()
	n.members[self] = leader.host
	require.NoError(t, n.get(t, []*member{leader}, leader.change(raftpb.ConfChangeAddLearnerNode, 4)).Err)
	learner := n.joins(t, 4)
	all := []*member{leader, learner}
	n.tickAll(t, all, func() bool { return learner.host.Status().Applied == leader.host.Status().Committed })
	leader.machine.setGate(newGate(0))
	before := leader.host.Status().Applied
	promoted := learner.change(raftpb.ConfChangeAddNode, 4)
	require.NoError(t, n.get(t, all, promoted).Err)
	require.NoError(t, n.get(t, all, learner.put("acknowledged by the new voter")).Err)
	require.Equal(t, before, leader.host.Status().Applied)
	read := make(chan ids.Index, 1)
	leader.host.Read(func(err error) {
		if err == nil {
			read <- leader.host.Status().Applied
		}
		close(read)
	})
	leader.machine.setGate(nil).open()
	n.tickAll(t, all, func() bool { return len(read) > 0 })
	require.GreaterOrEqual(t, <-read, before+2)
}
