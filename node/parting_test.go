package node_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/node"
)

// driven is a member whose every step a test takes.
type driven struct {
	*member
	outbox
	drive *node.Driver
	lose  func(*raftpb.Message) bool // of what it sends; nil: nothing
}

func (d *driven) run(t *testing.T, id ids.MemberID) *driven {
	c := d.config()
	c.Member, c.Transport, c.Raft.PreVote = id, &d.outbox, true
	drive, err := node.Drive(c)
	require.NoError(t, err)
	d.drive, d.host = drive, drive.Host
	t.Cleanup(drive.Abandon)
	return d
}

// rest takes the member's steps until there is nothing left to do.
func (d *driven) rest() {
	for turn, write, apply := d.drive.Wants(); turn || write || apply; turn, write, apply = d.drive.Wants() {
		d.drive.Turn()
		d.drive.Write()
		d.drive.Apply()
	}
}

// troop is all voters; the one at i has the id i+1.
type troop []*driven

func (p troop) deliver() (any bool) {
	for _, d := range p {
		sent := d.sent
		d.sent = nil
		for _, m := range sent {
			if any = true; d.lose != nil && d.lose(m) {
				continue
			}
			p[m.GetTo()-1].drive.Host.Receive(m)
		}
	}
	return any
}

// settle lets everything happen that needs no time.
func (p troop) settle() {
	for again := true; again; again = p.deliver() {
		for _, d := range p {
			d.rest()
		}
	}
}

// pass lets time pass, and everything happen, until cond holds. It reports whether it came to that within many elections.
func (p troop) pass(cond func() bool) bool {
	for range 50 * timing.ElectionTicks {
		if p.settle(); cond() {
			return true
		}
		for _, d := range p {
			d.clock.Advance(timing.Tick)
			d.drive.Tick()
		}
	}
	return false
}

func newTroop(t *testing.T, n int) troop {
	var founders []ids.MemberID
	for i := range n {
		founders = append(founders, ids.MemberID(i+1))
	}
	var p troop
	for _, id := range founders {
		p = append(p, (&driven{member: newMember(t, founders...)}).run(t, id))
	}
	return p
}

// leads makes the first of them the leader.
func (p troop) leads(t *testing.T) {
	require.True(t, p.pass(func() bool {
		for _, d := range p {
			if d.drive.Host.Status().Leader == 0 {
				return false
			}
		}
		return true
	}))
	leader := p[p[0].drive.Host.Status().Leader-1]
	if leader != p[0] {
		leader.drive.Host.TransferLeadership(1, func(error) {})
		require.True(t, p.pass(func() bool { return p[0].drive.Host.Status().Self }))
	}
}

// TestTheRemovedOfTwoTellsTheOther: the leader of two voters loses its power when it has told the other one that its removal is
// committed, and before it knew durably itself, with the end of its log. It cannot go on without the other one, which has more.
func TestTheRemovedOfTwoTellsTheOther(t *testing.T) {
	p := newTroop(t, 2)
	p.leads(t)
	leader, gone := p[0], p[1]
	leader.drive.Host.ProposeChange(raftpb.ConfChangeRemoveNode, 2, []byte(`{"id":2}`), wait(t))
	leader.drive.Turn()
	leader.drive.Write()
	p.deliver()
	gone.drive.Turn()
	gone.drive.Write()
	gone.drive.Turn()
	p.deliver()
	leader.put("only the other one writes this")
	for range 3 { // it never writes again
		leader.drive.Turn()
		p.deliver()
		gone.rest()
	}
	applied := gone.drive.Host.Status().Applied
	commands := gone.machine.commands()
	require.Equal(t, command.ConfChange, commands[len(commands)-1].Kind, "the other one has not heard of its removal")
	require.Less(t, leader.drive.Host.Status().Applied, applied)

	hard, entries := leader.log.snapshot()
	_, longer := gone.log.snapshot()
	require.Less(t, len(entries), len(longer), "both have the same log")
	leader.drive.Abandon()
	p.deliver()
	again := &member{
		t: t, log: &memLog{hard: hard, durable: hard, entries: entries}, machine: &machine{}, clock: clock.NewManual(epoch),
		ready: make(chan ids.Term, 16), changes: make(chan node.Leadership, 64),
	}
	p[0] = (&driven{member: again}).run(t, 1)
	alone := func() bool {
		s := p[0].drive.Host.Status()
		return s.Self && s.Applied > applied && p[1].drive.Host.Status().Applied <= s.Applied
	}
	require.True(t, p.pass(alone), "the one that stays cannot go on")
	answer := p[0].put("alone")
	require.True(t, p.pass(func() bool { return !answer.waiting() }))
	require.NoError(t, answer.get().Err)
	refused := p[1].put("asked of the one that was removed")
	p[1].rest()
	require.ErrorIs(t, refused.get().Err, fault.Stopped)
}

// TestRemovedLeaderHandsOver: a leader that applies its own removal, with entries behind it that only it has, leaves them to the other one.
func TestRemovedLeaderHandsOver(t *testing.T) {
	p := newTroop(t, 2)
	p.leads(t)
	old, heir := p[0], p[1]
	old.lose = func(m *raftpb.Message) bool { return m.GetType() == raftpb.MsgTimeoutNow } // it cannot hand over before it proposes
	old.drive.Host.ProposeChange(raftpb.ConfChangeRemoveNode, 1, []byte(`{"id":1}`), wait(t))
	require.True(t, p.pass(func() bool {
		commands := old.machine.commands()
		return len(commands) > 0 && commands[len(commands)-1].Index > 2 && commands[len(commands)-1].Kind == command.ConfChange
	}))
	require.True(t, old.drive.Host.Status().Self)
	old.lose = nil
	require.True(t, p.pass(func() bool { return heir.drive.Host.Status().Self }), "nobody leads after the leader was removed")
	answer := heir.put("afterwards")
	require.True(t, p.pass(func() bool { return !answer.waiting() }))
	require.NoError(t, answer.get().Err)
}

// TestRemovedLeaderProposesNoChange: the leader of three is removed while it holds back a second change, which would be the second that
// its group, as it sees it, is away from that of the others.
func TestRemovedLeaderProposesNoChange(t *testing.T) {
	p := newTroop(t, 3)
	p.leads(t)
	old := p[0]
	old.lose = func(m *raftpb.Message) bool { return m.GetType() == raftpb.MsgTimeoutNow } // it cannot hand over
	old.drive.Host.ProposeChange(raftpb.ConfChangeRemoveNode, 1, []byte(`{"id":1}`), wait(t))
	p[1].drive.Host.ProposeChange(raftpb.ConfChangeRemoveNode, 3, []byte(`{"id":3}`), wait(t))
	knows := func() bool {
		commands := old.machine.commands()
		last := commands[len(commands)-1]
		return last.Index > 3 && last.Kind == command.ConfChange
	}
	require.True(t, p.pass(knows))
	require.True(t, old.drive.Host.Status().Self)
	for range timing.ElectionTicks { // it has every opportunity
		old.clock.Advance(timing.Tick)
		old.drive.Tick()
		p.settle()
	}
	term, changes := old.drive.Host.Status().Term, 0
	_, entries := old.log.snapshot()
	for _, e := range entries {
		if e.GetType() == raftpb.EntryConfChange && e.GetIndex() > 3 && e.GetTerm() == uint64(term) {
			changes++
		}
	}
	require.Equal(t, 1, changes, "the leader that is removed proposed another change")
}
