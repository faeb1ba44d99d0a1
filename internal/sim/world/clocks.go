package world

import (
	mathrand "math/rand/v2"
	"time"

	"quorate.dev/quorate/internal/check"
	"quorate.dev/quorate/internal/clock"
)

// Clocks is how wrong the clocks of members are.
type Clocks struct {
	Drift int64 // most, parts per million
	Skew  time.Duration
}

// drawClocks makes up how wrong clocks are.
func drawClocks(rng *mathrand.Rand) Clocks {
	return Clocks{Drift: []int64{0, 200, 10_000, 50_000}[rng.IntN(4)], Skew: []time.Duration{0, 30 * time.Minute}[rng.IntN(2)]}
}

// clockFaults are the faults of clocks: the clock of the one that leads jumps ahead; a machine is suspended, and its clock with it.
var clockFaults = []string{"leap", "suspend"}

// clocks are how wrong the members' clocks are now.
type clocks struct {
	drift map[*Member]int64 // parts per million; looked up only
}

// newClock is the clock of a process that starts. What it shows is as wrong as it was when the machine was set up; a restart may set it back.
func (m *Member) newClock() *clock.Manual {
	w := m.w
	if w.clocks.drift == nil {
		w.clocks.drift = map[*Member]int64{}
	}
	if _, ok := w.clocks.drift[m]; !ok && w.set.Drift > 0 {
		w.clocks.drift[m] = w.rng.Int64N(2*w.set.Drift+1) - w.set.Drift
	}
	return clock.NewManual(epoch.Add(w.now + w.upTo(2*w.set.Skew) - w.set.Skew))
}

// shown is how far the member's clock goes on while d passes.
func (m *Member) shown(d time.Duration) time.Duration {
	return d + time.Duration(int64(d)*m.w.clocks.drift[m]/1_000_000)
}

// period is how long d by the member's clock lasts.
func (m *Member) period(d time.Duration) time.Duration {
	return d - time.Duration(int64(d)*m.w.clocks.drift[m]/1_000_000)
}

// clockFault does something to a clock.
func (w *World) clockFault(kind string, m *Member) {
	switch kind {
	case "leap":
		d := w.between(100*time.Millisecond, 10*time.Second)
		m.enter(m.life, func() {
			if m.drive.Host.Status().Self {
				w.leases.reign.leaps = append(w.leases.reign.leaps, check.Leap{At: w.instant(), By: int64(d)})
			}
			m.clock.Advance(d)
		})
	case "suspend":
		if !m.up || m.paused {
			return
		}
		w.pause(m)
		m.suspended = true
	}
}

// wake has the clock of a member that was suspended go on where it stood.
func (m *Member) wake() {
	if m.suspended {
		m.at, m.suspended = m.w.now, false
	}
}
