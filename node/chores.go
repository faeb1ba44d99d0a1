package node

import (
	"fmt"
	"time"

	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/limits"
)

// Housekeeping has a small share of the applier's time, so that the removal of many revisions is spread over seconds in which
// writes hardly notice it, instead of filling one second of their time.
const (
	// restShare is how many times as long as a step took the applier leaves housekeeping alone.
	restShare = 9
	// owedEntries is how many entries may be applied before a step is due in any case, in which as many units are done.
	owedEntries = 2048
)

// chores is when the applier does housekeeping. The applier's lock guards it.
type chores struct {
	more  bool         // there is something to do
	until time.Time    // rest until then
	rest  *clock.Timer // wakes a worker when the rest is over
	owed  int          // entries applied since the last step
}

// due reports whether there is something to do now.
func (c *chores) due(now time.Time) bool { return c.more && !now.Before(c.until) }

// tidy does a step of housekeeping after n entries were applied, when one is due, or when a store that never rests would
// otherwise be tidied up more slowly than it is written. It reports whether the member may go on.
func (a *applier) tidy(n int) bool {
	c := &a.chores
	c.more = true // only the machine knows what the entries have asked for
	if c.owed += n; c.owed < owedEntries && !c.due(a.h.cfg.Clock.Now()) {
		return true
	}
	return a.background(max(limits.ScrubBatchRevs, c.owed))
}

// chore does a step of housekeeping, or has a worker woken when the next is due. It reports what it did, and whether the
// member may go on.
func (a *applier) chore() (did deed, ok bool) {
	if wait := a.chores.until.Sub(a.h.cfg.Clock.Now()); wait > 0 {
		a.chores.rest.Reset(wait)
		return nothing, true
	}
	return housekeeping, a.background(limits.ScrubBatchRevs)
}

// background does one step of housekeeping of at most max units, and then rests. It reports whether the member may go on.
func (a *applier) background(max int) bool {
	c, clock := &a.chores, a.h.cfg.Clock
	began := clock.Now()
	more, err := a.h.cfg.Machine.Background(max)
	if err != nil {
		a.h.fail(fmt.Errorf("node: housekeeping of the store failed: %w", err))
		return false
	}
	now := clock.Now()
	c.more, c.owed, c.until = more, 0, now.Add(restShare*now.Sub(began))
	return true
}
