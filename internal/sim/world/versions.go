package world

import (
	"time"
)

// The versions of the cluster that members work towards.
const (
	older  = "3.6.0"
	newest = "3.7.0"
)

// Releases say how many founders run an older release at first, and how soon one is upgraded after the other.
type Releases struct {
	Old     int
	Upgrade time.Duration
}

// age makes some founders run an older release.
func (w *World) age() {
	for i := range min(w.set.Old, len(w.members)) {
		w.members[len(w.members)-1-i].version = older
	}
	if w.set.Old > 0 {
		w.after(w.upTo(2*w.set.Upgrade), w.upgrade)
	}
}

// upgrade restarts one member with the newest release, and goes on with the next. Who is old when faults end remains so.
func (w *World) upgrade() {
	if w.healed {
		return
	}
	for _, m := range w.members {
		if m.version == older {
			w.trace.note(m.name, "is upgraded to %s", newest)
			w.counts.Upgrades++
			m.kill()
			m.version = newest
			w.revive(m)
			w.after(w.upTo(2*w.set.Upgrade), w.upgrade)
			return
		}
	}
}

// agree judges the version of the cluster after a batch: it never goes down, for nobody starts a downgrade.
func (m *Member) agree() {
	v := m.state.View().Members.Version()
	if v < m.decided { // their numbers have one digit each
		m.w.violate("version", "%s applied a version of the cluster, %q, that is below the one before, %q", m.name, v, m.decided)
	}
	m.decided = v
}

// agreed reports whether the version of the cluster is at least that of whoever leads.
func (w *World) agreed() bool {
	for _, m := range w.members {
		if m.up && m.drive.Host.Status().Self && w.register().Version() < m.version {
			return false
		}
	}
	return true
}
