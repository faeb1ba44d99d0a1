package world

import (
	"errors"
	"math/rand/v2"
	"time"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/check"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/node"
)

// Crew says how members change.
type Crew struct {
	ChangeEvery time.Duration // on average; 0: they do not
	Strict      bool          // changes that put the quorum at risk are refused
	Learners    int           // most that there may be
}

// Bounds of what the operator asks for.
const (
	mostVoters   = 7
	mostEver     = 40                    // members that are made up in a run
	learnerReady = 0.9                   // share of the leader's log, as in server
	promoteRetry = 50 * time.Millisecond // between two attempts to ask the leader, as in server
)

// crew makes up how members change, and which releases they run.
func crew(rng *rand.Rand, members int) (c Crew, r Releases) {
	c = Crew{Strict: rng.IntN(2) == 0, Learners: 1 + rng.IntN(2)}
	if rng.IntN(3) > 0 {
		c.ChangeEvery = time.Duration([]int{150, 500, 1500}[rng.IntN(3)]) * time.Millisecond
	}
	if rng.IntN(3) == 0 {
		r = Releases{Old: 1 + rng.IntN(members), Upgrade: time.Duration([]int{300, 1000, 4000}[rng.IntN(3)]) * time.Millisecond}
	}
	return c, r
}

// Reconfigurations are counted of one run.
type Reconfigurations struct {
	Added, Promoted, Moved, Removed int // changes of members that were acknowledged
	Joined, Retired                 int // members that started in a running cluster, and that ended for good
	Lists                           int // linearizable reads of the members
	Registers                       int // comparisons of the members that two know of at one index
	Upgrades                        int // restarts with a newer release
}

func (c *Reconfigurations) add(o Reconfigurations) {
	c.Added += o.Added
	c.Promoted += o.Promoted
	c.Moved += o.Moved
	c.Removed += o.Removed
	c.Joined += o.Joined
	c.Retired += o.Retired
	c.Lists += o.Lists
	c.Registers += o.Registers
	c.Upgrades += o.Upgrades
}

// asked is a change that the operator asked for, and what came of it.
type asked struct {
	change   member.Change
	fresh    bool  // the id is a new one
	call     int64 // when a member was asked
	answered int64 // when it was acknowledged or refused; check.Never: neither
	refused  bool
}

// operate changes the members, and goes on doing so until the faulty time is over.
func (w *World) operate() {
	if w.now >= w.set.Faulty || w.set.ChangeEvery == 0 {
		return
	}
	if v := w.register(); v != nil && len(v.Members()) > 0 {
		w.reconfigure(v)
	}
	if w.chance(2) {
		w.list()
	}
	w.after(w.upTo(2*w.set.ChangeEvery), w.operate)
}

// reconfigure draws a change that makes sense, or now and then one that does not.
func (w *World) reconfigure(v *member.View) {
	all := v.Members()
	one := all[w.rng.IntN(len(all))]
	voters := len(v.ConfState().GetVoters())
	switch n := w.rng.IntN(100); {
	case n < 6:
		w.odd(all, one)
	case n < 16:
		w.ask(member.Change{Kind: member.Updated, Member: member.Member{ID: one.ID, PeerURLs: []string{w.freshURL(one.Name)}}}, nil)
	case n < 40:
		w.add(true)
	case n < 52 && voters < mostVoters:
		w.add(false)
	case n < 76:
		for _, m := range all {
			if m.IsLearner {
				one = m
			}
		}
		if one.IsLearner {
			w.ask(member.Change{Kind: member.Promoted, Member: member.Member{ID: one.ID}}, nil)
		}
	case voters > 1 && (voters > 2 || w.chance(2)) || one.IsLearner:
		w.ask(member.Change{Kind: member.Removed, Member: member.Member{ID: w.victim(one.ID)}}, nil)
	}
}

// victim is who is removed: often the leader, often one that is down.
func (w *World) victim(any ids.MemberID) ids.MemberID {
	switch w.rng.IntN(4) {
	case 0:
		return w.leader().ID
	case 1:
		for _, m := range w.members {
			if !m.up {
				return m.ID
			}
		}
	}
	return any
}

// odd asks for what is to be refused.
func (w *World) odd(all []member.Member, one member.Member) {
	switch w.rng.IntN(5) {
	case 0: // a URL that somebody has
		m := w.newMember(w.freshID())
		w.ask(member.Change{Kind: member.Added, Member: member.Member{ID: m.ID, PeerURLs: one.PeerURLs}}, m)
	case 1: // somebody who never was there
		w.ask(member.Change{Kind: member.Removed, Member: member.Member{ID: w.freshID()}}, nil)
	case 2: // an id that is or was in use
		id := memberID(w.rng.IntN(w.set.Members))
		for _, a := range w.asked {
			if a.change.Kind == member.Added && a.answered != check.Never && !a.refused && w.chance(2) {
				id = a.change.Member.ID
			}
		}
		w.ask(member.Change{Kind: member.Added, Member: member.Member{ID: id, PeerURLs: []string{w.freshURL("again")}}}, nil)
	case 3: // the last one may not go
		if len(all) == 1 {
			w.ask(member.Change{Kind: member.Removed, Member: member.Member{ID: one.ID}}, nil)
		}
	default:
		if !one.IsLearner {
			w.ask(member.Change{Kind: member.Promoted, Member: member.Member{ID: one.ID}}, nil)
		}
	}
}

// add has a member join, often at the address of one that was removed.
func (w *World) add(learner bool) {
	if len(w.known) >= mostEver {
		return
	}
	m := w.newMember(w.freshID())
	url := "http://" + m.name
	if n := len(w.urls); n > 0 && w.chance(2) {
		url, w.urls = w.urls[n-1], w.urls[:n-1]
	}
	w.ask(member.Change{Kind: member.Added, Member: member.Member{ID: m.ID, PeerURLs: []string{url}, IsLearner: learner}}, m)
}

func (w *World) freshURL(name string) string {
	w.moves++
	return "http://" + name + "-" + ids.MemberID(w.moves).String()
}

// ask has some member carry out a change. joiner, if not nil, is who joins by it.
func (w *World) ask(c member.Change, joiner *Member) {
	m := w.anyMember()
	d, ok := w.net.passes(0, m.ID)
	if !ok {
		return
	}
	w.after(d, func() {
		if !m.serves(false) {
			return
		}
		a := &asked{change: c, fresh: joiner != nil, call: w.instant(), answered: check.Never}
		w.asked = append(w.asked, a)
		w.trace.note(m.name, "is to have %s %v: %q", w.nameOf(c.Member.ID), c.Kind, c.Member.PeerURLs)
		w.disturb() // where some are down, the quorum may have to wait for the new one
		if joiner != nil {
			joiner.joining = true
			w.after(w.between(50*time.Millisecond, 2*time.Second), func() { w.knock(joiner, a) })
		}
		life := m.life
		m.enter(life, func() {
			m.change(c, func(err error) { w.back(m, life, func() { w.answered(a, err) }) })
		})
	})
}

// answered writes down what came of a change.
func (w *World) answered(a *asked, err error) {
	w.trace.note("op", "%s %v: %v", w.nameOf(a.change.Member.ID), a.change.Kind, err)
	switch {
	case err == nil:
		a.answered = w.instant()
	case a.change.Kind == member.Promoted: // an attempt before that nobody heard of may have done it
		return
	default:
		a.refused = refusal(err)
		return
	}
	switch a.change.Kind {
	case member.Added:
		w.counts.Added++
	case member.Promoted:
		w.counts.Promoted++
	case member.Updated:
		w.counts.Moved++
	case member.Removed:
		w.counts.Removed++
		w.urls = append(w.urls, "http://"+w.nameOf(a.change.Member.ID))
	}
}

// refusal reports whether an error says for certain that the members stay as they are.
func refusal(err error) bool {
	for _, known := range []error{
		fault.MemberExist, fault.PeerURLExist, fault.MemberNotFound, fault.MemberNotEnoughStarted, fault.TooManyLearners, fault.Unhealthy, fault.TooManyRequests,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// change does what the server does with a change of members.
func (m *Member) change(c member.Change, done func(error)) {
	if c.Kind == member.Promoted {
		m.promote(c, done)
		return
	}
	if err := m.mayChange(c); err != nil {
		done(err)
		return
	}
	m.propose(c, done)
}

func (m *Member) propose(c member.Change, done func(error)) {
	kind, context := c.Proposal()
	m.drive.Host.ProposeChange(kind, c.Member.ID, context, waiter(func(r *command.Result) { done(r.Err) }))
}

// mayChange is the strict check of grpcapi.
func (m *Member) mayChange(c member.Change) (err error) {
	if !m.w.set.Strict || c.Kind == member.Updated {
		return nil
	}
	members := m.state.View().Members
	connected, voters := m.connected(members)
	if c.Kind == member.Added {
		if !c.Member.IsLearner {
			err = members.CheckReadyToAdd()
		}
		if err == nil && voters != 1 && connected < (voters+1)/2+1 {
			err = fault.Unhealthy
		}
		return err
	}
	id := c.Member.ID
	if r, ok := members.Get(id); ok && r.IsLearner {
		return nil
	}
	if err := members.CheckReadyToRemove(id); err != nil {
		return err
	}
	if id != m.ID && !m.w.reaches(m.ID, id) || connected-1 >= 1+(voters-1)/2 {
		return nil
	}
	return fault.Unhealthy
}

func (m *Member) connected(members *member.View) (connected, voters int) {
	for _, r := range members.Members() {
		if r.IsLearner {
			continue
		}
		voters++
		if r.ID == m.ID || m.w.reaches(m.ID, r.ID) {
			connected++
		}
	}
	return connected, voters
}

// promote makes a learner a voter, here or at the leader, which alone knows how far it is.
func (m *Member) promote(c member.Change, done func(error)) {
	limit := m.w.now + m.w.timing().RequestTimeout()
	m.promoteHere(c, func(err error) {
		if !errors.Is(err, fault.NotLeader) {
			done(err)
			return
		}
		m.promoteThere(c, limit, done)
	})
}

func (m *Member) promoteHere(c member.Change, done func(error)) {
	m.drive.Host.Progress(c.Member.ID, func(p node.Progress, err error) {
		switch {
		case err != nil:
		case float64(p.Match) < learnerReady*float64(p.Leader):
			err = fault.LearnerNotReady
		case m.w.set.Strict:
			err = m.state.View().Members.CheckReadyToPromote()
		}
		if err != nil {
			done(err)
			return
		}
		m.propose(c, done)
	})
}

// promoteThere asks the leader, whichever that is, until it answers or time is over.
func (m *Member) promoteThere(c member.Change, limit time.Duration, done func(error)) {
	w, life := m.w, m.life
	if w.now >= limit {
		done(fault.Timeout)
		return
	}
	over := false
	again := func(after time.Duration) {
		w.after(after, func() {
			if !over {
				over = true
				m.enter(life, func() { m.promoteThere(c, limit, done) })
			}
		})
	}
	lead := w.member(m.drive.Host.Status().Leader)
	if lead == nil || lead == m {
		again(promoteRetry)
		return
	}
	d, ok := w.net.passes(m.ID, lead.ID)
	again(time.Second) // if there is no answer
	if !ok {
		return
	}
	w.after(d, func() {
		reign := lead.life
		lead.enter(reign, func() {
			lead.promoteHere(c, func(err error) {
				d, ok := w.net.passes(lead.ID, m.ID)
				if !ok || !lead.up || lead.life != reign {
					return
				}
				w.after(d, func() {
					if over {
						return
					}
					if err != nil && !refusal(err) && !errors.Is(err, fault.LearnerNotReady) && !errors.Is(err, fault.MemberNotLearner) {
						again(promoteRetry)
						return
					}
					over = true
					m.promoted(life, err, done)
				})
			})
		})
	})
}

// promoted answers for the leader, when this member knows what the leader knows.
func (m *Member) promoted(life int, err error, done func(error)) {
	m.enter(life, func() {
		if err != nil {
			done(err)
			return
		}
		m.drive.Host.Read(done)
	})
}
