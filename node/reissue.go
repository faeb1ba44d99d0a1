package node

import (
	"encoding/binary"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/internal/canary"
)

// outgoing are the proposals that a change of the leader may lose, and those that wait for a leader.
//
// Raft says nothing of a proposal that is lost: a leader's entry that a later leader overwrites, a message to a leader that is
// dead. But the terms of the log never descend, so an entry of a term can only come before the first one of a later term. And what
// is proposed in a term becomes an entry of that term or none, also when another member forwards it: its message says the
// term, and whoever does not lead that term drops it. So what was proposed in an earlier term than that of an entry that is
// applied, and is not applied itself, never will be, and can be proposed again without being applied twice.
type outgoing struct {
	retry    []*chunk // what raft did not take or has lost, oldest first
	airborne []*chunk // what raft took while the group had other voters, until all who wait for it are answered
}

// land lets go of the chunks that nobody waits for any more.
func (l *loop) land() {
	if len(l.airborne) == 0 {
		return
	}
	oldest, ok := l.h.registry.oldest()
	n := 0
	for n < len(l.airborne) {
		c := l.airborne[n]
		if ok && c.items[len(c.items)-1].id >= oldest {
			break
		}
		if !c.lent {
			l.h.proposals.recycle(c)
		}
		n++
	}
	l.airborne = slices.Delete(l.airborne, 0, n)
}

// reissue has what was lost with earlier leaders proposed again: the first entry of term is applied. It goes before what has not been
// proposed at all.
func (l *loop) reissue(term uint64) {
	var lost []*chunk
	kept := l.airborne[:0]
	for _, c := range l.airborne {
		if c.term >= term {
			kept = append(kept, c)
			continue
		}
		if canary.On(canary.ReissueAll) {
			lost = append(lost, c)
			continue
		}
		if c.bound != 0 && !canary.On(canary.RevokeLate) {
			l.disown(c)
			continue
		}
		if c = l.h.registry.unanswered(c); len(c.items) > 0 {
			l.h.gauges.reissued.Add(uint64(len(c.items)))
			lost = append(lost, c)
		}
	}
	clear(l.airborne[len(kept):])
	l.airborne = kept
	l.retry = append(lost, l.retry...)
}

// raftTerm is the term that raft is in at this moment; loop.term may be one turn behind.
func (l *loop) raftTerm() uint64 { return l.rn.BasicStatus().GetTerm() }

// stamp marks a proposal with the term in which it is made, in the field that carries a context.
func stamp(term uint64) []byte { return binary.BigEndian.AppendUint64(nil, term) }

// outdated reports whether a proposal of another member says that it is for a leadership that is not this member's now.
func (l *loop) outdated(m *raftpb.Message) bool {
	b := m.GetContext()
	if len(b) != 8 || canary.On(canary.TakeLate) {
		return false // not stamped
	}
	s := l.rn.BasicStatus()
	return s.RaftState != raft.StateLeader || s.GetTerm() != binary.BigEndian.Uint64(b)
}
