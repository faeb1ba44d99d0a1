package check

// suspects are operations that may have happened.
type suspects struct {
	unknown []*Operation // not answered, the earliest called first
	guesses []guess      // those that were taken for the cause of something
}

// guess is an operation of unknown outcome that was taken for what made a revision. Another one may have done the same.
type guess struct {
	rev     int64
	soonest int64      // the operation must have been called by then
	before  *state     // in which it was done
	by      *Operation // as it was recorded
	at      int        // its place in linear.order
}

// suspect finds an operation of unknown outcome that makes revision rev out of a state, the earliest called; not one of those to be left out.
func (l *linear) suspect(rev, soonest int64, before *state, not *Operation) *Operation {
	for _, o := range l.unknown {
		if o.Call > soonest {
			break // it was called after something later had been answered
		}
		if o != not && l.fits(o, rev, before) {
			return o
		}
	}
	return nil
}

// fits reports whether an operation, done in a state, has the effects that were seen of revision rev.
func (l *linear) fits(o *Operation, rev int64, before *state) bool {
	if o.Request.Kind == Revoke && l.used[o.Request.Lease] >= rev {
		return false // the lease was there later
	}
	next, _, events := before.execute(o.Request, 0)
	return next.rev == rev && sameEvents(events, l.truth.at(rev)) == ""
}

// guess takes o for what made revision rev, the next one.
func (l *linear) guess(rev int64, o *Operation) {
	l.report.Happened++
	l.guesses = append(l.guesses, guess{rev: rev, soonest: l.soonest(rev), before: l.state, by: o, at: len(l.order)})
	l.known(o)
	found, next, events := l.done(o, l.state)
	l.accept(found, next, events)
}

// known takes an operation out of those that may have happened.
func (l *linear) known(o *Operation) {
	for i := range l.unknown {
		if l.unknown[i] == o {
			l.unknown = append(l.unknown[:i], l.unknown[i+1:]...)
			return
		}
	}
}

// done is o with the answer that it would have had in a state.
func (l *linear) done(o *Operation, before *state) (*Operation, *state, []Event) {
	next, answer, events := before.execute(o.Request, 0)
	found := *o
	found.Answer = answer
	return &found, next, events
}

// exchange explains revision rev by an operation that was taken for what made an earlier one, if yet another can have made that. What two
// of them do to keys is the same then, and so are all states in between; what they do to leases may not be, so that revocations are left out.
func (l *linear) exchange(rev int64) bool {
	for i := len(l.guesses) - 1; i >= 0; i-- {
		g := &l.guesses[i]
		if g.by.Request.Kind == Revoke || g.by.Call > l.soonest(rev) || !l.fits(g.by, rev, l.state) {
			continue
		}
		other := l.suspect(g.rev, g.soonest, g.before, g.by)
		if other == nil || other.Request.Kind == Revoke {
			continue
		}
		l.known(other)
		found, _, _ := l.done(other, g.before)
		by := g.by
		g.by, l.order[g.at], l.callOf[g.rev] = other, found, found.Call
		if found.Call > l.latest.Call {
			l.latest = found
		}
		l.guess(rev, by)
		return true
	}
	return false
}
