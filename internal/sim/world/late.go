package world

import (
	"time"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/check"
)

// tails are messages that come very late: a second time, long after the first, or all of a direction together when it has been jammed.
type tails struct {
	echo int                    // one of so many messages comes a second time, up to echoTime later; 0: none
	jam  map[link]time.Duration // until when nothing arrives, which is not lost
}

const echoTime = 4 * time.Second

// rush is a time in which some clients read at one member as fast as they can.
type rush struct {
	until time.Duration
	at    *Member
}

const readers = 6

// addReaders adds clients that read, seldom but in a rush.
func (w *World) addReaders() {
	for range readers {
		c := &client{w: w, id: len(w.clients) + 1, mods: map[string]int64{}}
		c.turn = func() { w.readOn(c) }
		w.clients = append(w.clients, c)
		w.after(w.upTo(time.Second), c.begin)
	}
}

// readOn is a turn of a reader.
func (w *World) readOn(c *client) {
	rushing := w.now < w.rush.until
	if c.sticks = nil; rushing {
		c.sticks = w.rush.at
	}
	if w.quiet || c.content() || !rushing && !w.healed && !w.chance(10) {
		w.after(200*time.Millisecond, c.begin)
		return
	}
	q := check.Request{Kind: check.Range, Key: c.key()}
	if rushing && w.chance(2) {
		q.Key, q.End = "k", "l"
	}
	c.ask(q)
}

// echoes has messages come again when nobody expects them any more. Members lag behind with their applies meanwhile, and many wait
// for an answer at one of them: an answer to an earlier question would be taken.
func (w *World) echoes(m *Member) {
	for leader := w.leader(); m == leader && len(w.members) > 1; {
		m = w.anyMember()
	}
	lasts := w.between(time.Second, 5*time.Second)
	w.net.echo, w.net.delay = 1+w.rng.IntN(2), w.between(5*time.Millisecond, 200*time.Millisecond)
	if w.chance(2) { // whoever is not answered asks again
		w.net.loss = 2 + w.rng.IntN(4)
	}
	w.rush = rush{until: w.now + lasts, at: m}
	for _, o := range w.members {
		if o == m || w.chance(3) {
			o.slow = w.between(50*time.Millisecond, 2*time.Second) >> w.rng.IntN(3)
		}
	}
	w.mends(lasts, func() {
		w.net.echo, w.net.loss, w.net.delay = 0, 0, time.Millisecond
		for _, o := range w.members {
			o.slow = 0
		}
	})
}

// leaveBehind cuts a member off until the others have let go of what it lacks, for the most part, and then has one leader after the
// other bring it a snapshot, of which the next may come before the last is installed.
func (w *World) leaveBehind(m *Member) {
	if len(w.members) < 3 {
		return
	}
	for _, o := range w.members {
		if o != m {
			w.net.sever(o.ID, m.ID, true)
			w.net.sever(m.ID, o.ID, true)
		}
	}
	if w.chance(2) {
		w.after(w.upTo(3*time.Second), func() { w.flush(m) })
	}
	w.mends(w.between(time.Second, 4*time.Second), func() {
		for _, o := range w.members {
			w.net.sever(o.ID, m.ID, false)
			w.net.sever(m.ID, o.ID, false)
		}
		if w.chance(2) {
			w.mends(w.upTo(300*time.Millisecond), func() { w.breakDisk("stall", m) })
		}
		for at := w.upTo(500 * time.Millisecond); at < 2*time.Second; at += w.upTo(500 * time.Millisecond) {
			w.mends(at, w.handOver)
		}
	})
}

// jams holds up what some members send to each other.
func (w *World) jams(m *Member) {
	until := w.now + w.between(50*time.Millisecond, 3*time.Second)
	for _, o := range w.members {
		if o == m || w.chance(2) {
			continue
		}
		l := link{o.ID, m.ID}
		if w.chance(3) {
			l = link{m.ID, o.ID}
		}
		w.net.jam[l] = until
	}
}

// jammed is how much longer something is under way from one to the other.
func (n *network) jammed(from, to ids.MemberID) time.Duration {
	return max(0, n.jam[link{from, to}]-n.w.now)
}

// copies draws how much later each copy of a message comes, the first at once.
func (n *network) copies(double bool) []time.Duration {
	switch {
	case double && n.echo > 0 && n.w.chance(n.echo):
		return []time.Duration{0, n.w.upTo(echoTime >> n.w.rng.IntN(4))}
	case double && n.twice > 0 && n.w.chance(n.twice):
		return []time.Duration{0, 0}
	}
	return []time.Duration{0}
}
