package node_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/node"
)

// applications counts how often a member has applied the command with this body.
func applications(m *member, body string) (n int) {
	for _, c := range m.machine.commands() {
		if string(c.Body) == body {
			n++
		}
	}
	return n
}

// logged reports whether an entry with this body is in the log of a member.
func logged(m *member, body string) bool {
	m.log.mu.Lock()
	defer m.log.mu.Unlock()
	return slices.ContainsFunc(m.log.entries, func(e *raftpb.Entry) bool { return bytes.Contains(e.GetData(), []byte(body)) })
}

// elected ticks these members until one of them leads, and returns it.
func (n *network) elected(t *testing.T, among []*member) (leader *member) {
	t.Helper()
	n.tickAll(t, among, func() bool {
		for _, m := range among {
			if m.host.Status().Self {
				leader = m
				return true
			}
		}
		return false
	})
	return leader
}

// A follower's proposals on their way to a leader that dies are made to the next one, without an error and only once.
func TestProposalsOutliveTheLeader(t *testing.T) {
	n, leader, others := group(t)
	dead := leader.host.Status().Member
	n.sever(dead, true)
	var answers []*answer
	for i := range 10 {
		answers = append(answers, others[0].put(fmt.Sprint("forwarded ", i)))
		others[0].until(func() bool { return n.waiting() > 0 }) // each in a message of its own
		n.deliver()
	}
	n.elected(t, others)
	n.tickAll(t, others, func() bool { return !answers[9].waiting() })
	for i, a := range answers {
		require.NoError(t, a.get().Err)
		require.Equal(t, 1, applications(others[0], fmt.Sprint("forwarded ", i)))
	}
	require.EqualValues(t, 10, others[0].host.Counters().Reissued)
}

// What a leader has in its log alone when it is cut off is overwritten; it proposes that again when it is back.
func TestProposalsOutliveTheOwnLeadership(t *testing.T) {
	n, leader, others := group(t)
	old := leader.host.Status().Member
	n.sever(old, true)
	a := leader.put("overwritten")
	leader.until(func() bool { return logged(leader, "overwritten") })
	n.deliver()
	n.elected(t, others)
	require.True(t, a.waiting())
	n.sever(old, false)
	all := append([]*member{leader}, others...)
	n.tickAll(t, all, func() bool { return !a.waiting() })
	require.NoError(t, a.get().Err)
	for _, m := range all {
		n.tickAll(t, all, func() bool { return m.host.Status().Applied == leader.host.Status().Applied })
		require.Equal(t, 1, applications(m, "overwritten"))
	}
}

// A proposal that arrives after the term in which it was made is not taken, also by a member that led then and leads again:
// it has been proposed again by then.
func TestLateProposalIsNotTaken(t *testing.T) {
	n, leader, others := group(t)
	first := leader.host.Status()
	forwarded := n.listen(others[0].host.Status().Member, raftpb.MsgProp)
	n.sever(first.Member, true)
	a := others[0].put("late")
	others[0].until(func() bool { return len(forwarded()) > 0 })
	n.deliver()
	late := proto.Clone(forwarded()[0]).(*raftpb.Message)
	second := n.elected(t, others)
	n.tickAll(t, others, func() bool { return !a.waiting() })
	require.NoError(t, a.get().Err)

	n.sever(first.Member, false)
	all := append([]*member{leader}, others...)
	n.tickAll(t, all, func() bool { return leader.host.Status().Applied == second.host.Status().Applied })
	got := make(chan error, 1)
	second.host.TransferLeadership(first.Member, func(err error) { got <- err })
	n.tickAll(t, all, func() bool { return len(got) == 1 && leader.host.Status().Self })
	require.NoError(t, <-got)
	require.Greater(t, leader.host.Status().Term, first.Term)

	late.To = proto.Uint64(uint64(first.Member))
	leader.host.Receive(late)
	b := leader.put("afterwards")
	n.tickAll(t, all, func() bool { return !b.waiting() })
	require.NoError(t, b.get().Err)
	require.Equal(t, 1, applications(leader, "late"))
}

// What was answered is not proposed again with what was lost before it.
func TestOnlyWhatWasLostIsProposedAgain(t *testing.T) {
	n, leader, others := group(t)
	old := leader.host.Status().Member
	all := append([]*member{leader}, others...)
	n.sever(old, true)
	lost := others[0].put("lost")
	others[0].until(func() bool { return n.waiting() > 0 })
	n.deliver()
	n.sever(old, false)
	kept := others[0].put("kept")
	n.tickAll(t, all, func() bool { return !kept.waiting() })
	require.NoError(t, kept.get().Err)
	require.True(t, lost.waiting())

	got := make(chan error, 1)
	leader.host.TransferLeadership(others[1].host.Status().Member, func(err error) { got <- err })
	n.tickAll(t, all, func() bool { return len(got) == 1 && !lost.waiting() })
	require.NoError(t, <-got)
	require.NoError(t, lost.get().Err)
	after := others[0].put("after")
	n.tickAll(t, all, func() bool { return !after.waiting() })
	for _, body := range []string{"lost", "kept"} {
		require.Equal(t, 1, applications(others[0], body), body)
	}
	require.EqualValues(t, 1, others[0].host.Counters().Reissued)
}

// The end of a restarted member's log may be overwritten by the next leader. What the member proposes since then is answered, also
// where it takes the place of an entry that was there at the start.
func TestAnswersWhereTheLogWasOverwritten(t *testing.T) {
	n, leader, others := group(t)
	id := leader.id()
	n.sever(id, true)
	for i := range 50 {
		leader.put(fmt.Sprint("overwritten ", i))
	}
	leader.until(func() bool { return logged(leader, "overwritten 49") })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, leader.host.Stop(ctx), context.Canceled)
	n.elected(t, others)

	leader.start(func(c *node.Config) {
		c.Member, c.Transport, c.Raft.PreVote = id, port{n, id}, true
		c.ConfState = &raftpb.ConfState{Voters: []uint64{1, 2, 3}}
	})
	n.mu.Lock()
	n.members[id] = leader.host
	n.mu.Unlock()
	n.sever(id, false)
	all := append([]*member{leader}, others...)
	n.tickAll(t, all, func() bool {
		return leader.host.Status().Leader != 0 && leader.host.Status().Applied == others[0].host.Status().Applied
	})
	fresh := leader.put("fresh")
	n.tickAll(t, all, func() bool { return !fresh.waiting() })
	require.NoError(t, fresh.get().Err)
	require.Equal(t, 1, applications(leader, "fresh"))
}
