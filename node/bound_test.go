package node_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
)

// bound proposes for a leader of term.
func (m *member) bound(term ids.Term, body string) *answer {
	a := wait(m.t)
	m.host.ProposeInTerm(term, command.LeaseRevoke, message(body), a)
	return a
}

// What a member proposes as the leader of a term takes effect while it is that, next to what others propose.
func TestProposeInTerm(t *testing.T) {
	n, leader, others := group(t)
	term := leader.host.Status().Term
	all := append([]*member{leader}, others...)
	before, in, after := leader.put("before"), leader.bound(term, "in"), leader.put("after")
	n.tickAll(t, all, func() bool { return !before.waiting() && !in.waiting() && !after.waiting() })
	require.NoError(t, before.get().Err)
	require.NoError(t, in.get().Err)
	require.NoError(t, after.get().Err)
	for _, m := range all {
		n.tickAll(t, all, func() bool { return m.host.Status().Applied == leader.host.Status().Applied })
		require.Equal(t, 1, applications(m, "in"))
	}
	late := others[0].bound(term, "late")
	n.tickAll(t, all, func() bool { return !late.waiting() })
	require.ErrorIs(t, late.get().Err, fault.NotLeader)
	sole := newMember(t).start().lead()
	wrong, right := sole.bound(sole.host.Status().Term+1, "wrong"), sole.bound(sole.host.Status().Term, "right")
	require.ErrorIs(t, wrong.get().Err, fault.NotLeader)
	require.NoError(t, right.get().Err)
}

// A leader that is deposed without knowing it does nothing to what the next one leads: what it has in its log is overwritten and not
// proposed again, and what it has not given to raft yet is not sent to the next leader.
func TestDeposedLeaderIsBound(t *testing.T) {
	n, leader, others := group(t)
	old := leader.host.Status()
	n.sever(old.Member, true)
	logging, common := leader.bound(old.Term, "in the log"), leader.put("anybody's")
	leader.until(func() bool { return logged(leader, "in the log") && logged(leader, "anybody's") })
	n.deliver()
	second := n.elected(t, others)
	require.True(t, logging.waiting())
	n.sever(old.Member, false)
	all := append([]*member{leader}, others...)
	n.tickAll(t, all, func() bool { return !logging.waiting() && !common.waiting() })
	require.ErrorIs(t, logging.get().Err, fault.NotLeader)
	require.NoError(t, common.get().Err)

	held := leader.bound(old.Term, "held back")
	last := second.put("last")
	n.tickAll(t, all, func() bool { return !held.waiting() && !last.waiting() })
	require.ErrorIs(t, held.get().Err, fault.NotLeader)
	for _, m := range all {
		n.tickAll(t, all, func() bool { return m.host.Status().Applied == second.host.Status().Applied })
		require.Zero(t, applications(m, "in the log")+applications(m, "held back"))
		require.Equal(t, 1, applications(m, "anybody's"))
	}
	require.Zero(t, leader.host.Counters().Pending)
}
