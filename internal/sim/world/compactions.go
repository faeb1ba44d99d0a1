package world

import (
	"time"

	"quorate.dev/quorate/internal/check"
)

// Compaction is how often compactions are asked for, and what follows them.
type Compaction struct {
	CompactEvery time.Duration // on average, besides those of ordinary clients; 0: none
	Scrub        int           // records that a member removes at a time, at most
}

func (w *World) drawCompaction() {
	w.set.CompactEvery = [...]time.Duration{0, 0, 150 * time.Millisecond, 500 * time.Millisecond}[w.rng.IntN(4)]
	if w.set.Long {
		w.set.CompactEvery *= 30
	}
	w.set.Scrub = [...]int{1, 3, 10, 1000}[w.rng.IntN(4)]
}

// lull is a time in which clients ask nothing but what belongs to a compaction, so that it is the last that happened when a member
// starts again.
type lull struct{ until time.Duration }

func (w *World) resting() bool { return w.quiet || w.now < w.lull.until }

// janitor is a client that compacts: often, if the seed wants that, and in a lull up to a deletion that is the newest there is.
func (w *World) janitor() {
	c := &client{w: w, id: len(w.clients) + 1, mods: map[string]int64{}}
	c.turn = func() { w.tidyUp(c) }
	w.clients = append(w.clients, c)
	w.after(w.upTo(time.Second), c.begin)
}

// tidyUp is a turn of the janitor.
func (w *World) tidyUp(c *client) {
	again := 100 * time.Millisecond
	switch at := c.compact; {
	case w.quiet:
	case at != 0 && at <= w.safe:
		c.compact = 0
		c.ask(check.Request{Kind: check.Compact, Revision: at})
		return
	case at != 0 && w.now < w.lull.until:
		again = 10 * time.Millisecond // the watches will have it soon
	case w.now < w.lull.until:
		key := c.key()
		c.ask(check.Request{Kind: check.Delete, Key: key, End: []string{"", key[:2] + "\xff"}[w.rng.IntN(2)]})
		return
	case w.set.CompactEvery > 0 && w.safe > 0:
		c.compact = 0
		q := check.Request{Kind: check.Compact, Revision: max(1, w.safe-w.rng.Int64N(12)*w.rng.Int64N(2))}
		if w.chance(20) {
			q.Revision = w.seen + 1_000_000
		}
		wait := w.upTo(2 * w.set.CompactEvery)
		if w.healed { // everybody has to have an answer soon
			wait = min(wait, time.Second)
		}
		w.after(wait, func() { c.ask(q) })
		return
	default:
		if c.compact = 0; w.healed && c.success == 0 || w.chance(20) {
			c.ask(check.Request{Kind: check.Range, Key: c.key(), Stale: true})
			return
		}
	}
	w.after(again, c.begin)
}

// compactAtHead begins a lull.
func (w *World) compactAtHead() {
	w.lull.until = w.now + w.between(300*time.Millisecond, 1500*time.Millisecond)
}

// afterCompaction has members do what makes a compaction last, or be interrupted: housekeeping, flushes, and crashes.
func (w *World) afterCompaction(revision int64) {
	w.compacted = max(w.compacted, revision)
	inLull := w.now < w.lull.until
	flush, crash := 2, 12
	switch {
	case inLull:
		crash = 3
	case w.set.CompactEvery > 0:
		flush, crash = 8, 100
	}
	for _, m := range w.members {
		for inLull && !w.chance(3) {
			w.after(w.upTo(150*time.Millisecond), func() { m.enter(m.life, m.drive.Tidy) })
		}
		if w.chance(flush) {
			w.after(w.upTo(100*time.Millisecond), func() { w.flush(m) })
		}
		if w.healed || !w.chance(crash) {
			continue
		}
		power := w.chance(2)
		w.after(w.upTo(200*time.Millisecond), func() {
			if w.healed {
				return
			}
			if m.kill(); power {
				w.powerLoss(m)
			}
			w.revive(m)
		})
	}
}
