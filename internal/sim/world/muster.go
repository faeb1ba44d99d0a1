package world

import (
	"fmt"
	"slices"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/member"
)

// table is the register of members as one of them had it after an entry.
type table struct{ member, text string }

// muster is everything that the register says, as text.
func (w *World) muster(v *member.View) string {
	text := fmt.Sprintf("version %q downgrade %+v voters %v learners %v", v.Version(), v.Downgrade(), v.ConfState().GetVoters(), v.ConfState().GetLearners())
	for _, m := range v.Members() {
		text += fmt.Sprintf("; %s %q peers %q clients %q learner %t", w.nameOf(m.ID), m.Name, m.PeerURLs, m.ClientURLs, m.IsLearner)
	}
	for _, id := range w.known {
		if v.Removed(id) {
			text += "; without " + w.nameOf(id)
		}
	}
	return text
}

// tabled compares the registers of members at the entries that changed it.
func (w *World) tabled(m *Member, index ids.Index) {
	text := w.muster(m.state.View().Members)
	other, ok := w.tables[index]
	if !ok {
		w.tables[index] = table{m.name, text}
		return
	}
	w.counts.Registers++
	if other.text != text {
		w.violate("members", "%s and %s have other members at index %d: %s, and %s", other.member, m.name, index, other.text, text)
		w.stopped = true
	}
}

// list reads the members as a client does that wants to know what everybody has agreed upon, and judges what it is told.
func (w *World) list() {
	m := w.anyMember()
	d, ok := w.net.passes(0, m.ID)
	if !ok {
		return
	}
	call, life := w.instant(), m.life
	w.after(d, func() {
		m.enter(life, func() {
			m.drive.Host.Read(func(err error) {
				if err == nil && m.up {
					w.counts.Lists++
					w.justify(m.name, m.state.View().Members, call)
				}
			})
		})
	})
}

// rolls judges the members in the end: all know the same, raft knows the same, and that is what the operator was told.
func (w *World) rolls() {
	var first *Member
	for _, m := range w.members {
		if !m.up {
			continue
		}
		m.enter(m.life, m.drive.Turn) // raft hears of what was applied
		if !m.up {
			continue
		}
		v := m.state.View().Members
		if first == nil {
			first = m
			w.justify(m.name, v, w.instant())
		} else if a, b := w.muster(first.state.View().Members), w.muster(v); a != b {
			w.violate("members", "%s and %s have other members in the end: %s, and %s", first.name, m.name, a, b)
		}
		raft, want := m.drive.ConfState(), v.ConfState()
		if !slices.Equal(raft.GetVoters(), want.GetVoters()) || !slices.Equal(raft.GetLearners(), want.GetLearners()) {
			w.violate("members", "raft of %s works with %v, and its register says %v", m.name, raft, want)
		}
		if r, ok := v.Get(m.ID); !ok || r.Name != m.name {
			w.violate("members", "%s runs in the end, and its register has it as %+v", m.name, r)
		}
	}
}

// justify looks whether somebody who asked at an instant may be told that these are the members. What was acknowledged before counts,
// what was refused does not, and the rest may have happened.
func (w *World) justify(teller string, v *member.View, at int64) {
	wrong := func(format string, args ...any) {
		w.violate("members", "%s says: %s; but %s", teller, w.muster(v), fmt.Sprintf(format, args...))
	}
	known := 0
	for i, id := range w.known {
		if r, ok := v.Get(id); ok {
			known++
			for _, o := range v.Members() {
				if o.ID != id && slices.ContainsFunc(r.PeerURLs, func(u string) bool { return slices.Contains(o.PeerURLs, u) }) {
					wrong("%s has a peer URL of %s", w.nameOf(id), w.nameOf(o.ID))
				}
			}
		}
		if text := w.account(id, i < w.set.Members).contradicts(v, id, at); text != "" {
			wrong("%s %s", w.nameOf(id), text)
		}
	}
	if known != len(v.Members()) {
		wrong("there are members that nobody added")
	}
}

// account is everything that was asked for about one member.
type account struct {
	founded                           []string // the peer URLs of a founder
	added, promoted, removed, updated []*asked
}

func (w *World) account(id ids.MemberID, founder bool) *account {
	c := &account{}
	if founder {
		c.founded = []string{"http://" + w.nameOf(id)}
	}
	for _, a := range w.asked {
		switch {
		case a.change.Member.ID != id || a.refused:
		case a.change.Kind == member.Added:
			c.added = append(c.added, a)
		case a.change.Kind == member.Promoted:
			c.promoted = append(c.promoted, a)
		case a.change.Kind == member.Removed:
			c.removed = append(c.removed, a)
		default:
			c.updated = append(c.updated, a)
		}
	}
	return c
}

// sure reports whether one of these was acknowledged before.
func sure(all []*asked, at int64) bool {
	return slices.ContainsFunc(all, func(a *asked) bool { return a.answered < at })
}

// contradicts says what of a member cannot be as the register has it; "" if all of it can.
func (c *account) contradicts(v *member.View, id ids.MemberID, at int64) string {
	r, in := v.Get(id)
	learner := c.founded == nil && len(c.added) > 0 && c.added[0].change.Member.IsLearner
	switch {
	case slices.ContainsFunc(c.added, func(a *asked) bool { return !a.fresh && a.answered < at }):
		return "was added a second time"
	case in && v.Removed(id):
		return "is there and was removed"
	case in && sure(c.removed, at):
		return "was removed"
	case !in && sure(c.removed, at) && !v.Removed(id):
		return "is not known to have been removed"
	case in && c.founded == nil && len(c.added) == 0:
		return "was never added"
	case !in && (c.founded != nil || sure(c.added, at)) && len(c.removed) == 0:
		return "was added and not removed"
	case !in:
		return ""
	case r.IsLearner && !learner:
		return "was added with a vote"
	case r.IsLearner && sure(c.promoted, at):
		return "was promoted"
	case !r.IsLearner && learner && len(c.promoted) == 0:
		return "was never promoted"
	}
	return c.moved(r.PeerURLs, at)
}

// moved says what is wrong with the peer URLs. No two changes of a member set the same.
func (c *account) moved(urls []string, at int64) string {
	by := &asked{call: -1, answered: -1} // as it was founded
	all := append(slices.Clone(c.added), c.updated...)
	i := slices.IndexFunc(all, func(a *asked) bool { return slices.Equal(a.change.Member.PeerURLs, urls) })
	switch {
	case i >= 0:
		by = all[i]
	case !slices.Equal(c.founded, urls):
		return "never had these peer URLs"
	}
	for _, a := range c.updated {
		if a.answered < at && by.answered < a.call {
			return "has moved"
		}
	}
	return ""
}
