package world

import (
	"time"

	"quorate.dev/quorate/ids"
)

// tails are messages that come very late: a second time, long after the first, or all of a direction together when it has been jammed.
type tails struct {
	echo int                    // one of so many messages comes a second time, up to echoTime later; 0: none
	jam  map[link]time.Duration // until when nothing arrives, which is not lost
}

const echoTime = 4 * time.Second

// echoes has messages come again when nobody expects them any more, at members that lag behind with their applies while others
// wait for answers.
func (w *World) echoes(m *Member) {
	w.net.echo, w.net.delay = 1+w.rng.IntN(12), w.between(time.Millisecond, 60*time.Millisecond)
	if w.chance(2) {
		m.slow = w.between(50*time.Millisecond, time.Second)
	}
	w.mends(w.between(500*time.Millisecond, 4*time.Second), func() { w.net.echo, w.net.delay, m.slow = 0, time.Millisecond, 0 })
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
		return []time.Duration{0, n.w.upTo(echoTime)}
	case double && n.twice > 0 && n.w.chance(n.twice):
		return []time.Duration{0, 0}
	}
	return []time.Duration{0}
}
