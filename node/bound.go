package node

import (
	"go.etcd.io/raft/v3"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/canary"
)

// ProposeInTerm is ProposeMessage for what only the leader of term may do: the command becomes an entry of that term, or none. A
// member that was held still may go on as a leader for a moment after another has taken over; what it proposes then must not reach the new
// leader, which knows better.
//
// In addition to the errors of Propose there is fault.NotLeader, which says for certain that the command does not take effect.
func (h *Host) ProposeInTerm(term ids.Term, kind command.Kind, m Message, w command.Waiter) {
	h.ProposeInTermAs(term, kind, m, "", 0, w)
}

// ProposeInTermAs is ProposeInTerm in the name of a user, as ProposeAs is.
func (h *Host) ProposeInTermAs(term ids.Term, kind command.Kind, m Message, name string, revision uint64, w command.Waiter) {
	if err := h.propose(asker{user: name, revision: revision, bound: uint64(term)}, kind, nil, m, w); err != nil {
		h.refuse(w, err)
	}
}

// openFor returns the open chunk for proposals that are bound to a term, or for all others (0). p.mu is held.
func (p *proposals) openFor(bound uint64) *chunk {
	if p.open.bound != bound {
		if len(p.open.items) > 0 {
			p.full = append(p.full, p.open)
			p.open = p.fresh()
		}
		p.open.bound = bound
	}
	return p.open
}

// void reports whether c is bound to a term that this member does not lead, and answers for it then.
func (l *loop) void(c *chunk) bool {
	if c.bound == 0 || canary.On(canary.RevokeLate) {
		return false
	}
	if s := l.rn.BasicStatus(); s.RaftState == raft.StateLeader && s.GetTerm() == c.bound {
		return false
	}
	l.disown(c)
	return true
}

// disown answers for a chunk that is bound to a leadership that is over.
func (l *loop) disown(c *chunk) {
	l.h.failItems(l.h.registry.withdraw(c.items), func(int64) error { return fault.NotLeader })
}

// withdraw removes those of the items that still wait, and returns them.
func (r *registry) withdraw(items []item) (out []item) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range items {
		if it := r.find(items[i].id); it != nil {
			out = append(out, *it)
			it.waiter = nil
		}
	}
	r.pop()
	return out
}
