package world

import (
	mathrand "math/rand/v2"
	"slices"
	"time"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/sim/disk"
)

// trials are times in which faults come together, and what makes them show.
type trials struct {
	lull    lull
	contest contest
	rush    rush
	viewers []*viewer
	rot     rot
}

// faultNames are the faults that a seed chooses from.
var faultNames = []string{"kill", "kill-leader", "power", "power-all", "pause", "partition", "isolate-leader", "one-way", "cut-clients", "loss", "late", "transfer", "flush", "cut-at-write", "full", "broken", "stall", "slow",
	"leap", "suspend", "compact-at-head", "contest", "echo", "jam", "left-behind"}

// drawFaults draws most of them, or a few: what needs several of one kind is found where there are few kinds.
func drawFaults(rng *mathrand.Rand) (out []string) {
	few := rng.IntN(2) == 0
	for _, f := range faultNames {
		if n := rng.IntN(6); n == 0 || !few && n < 4 {
			out = append(out, f)
		}
	}
	if len(out) == 0 {
		out = append(out, faultNames[rng.IntN(len(faultNames))])
	}
	return out
}

// nemesis does harm, and goes on doing so until the faulty time is over.
func (w *World) nemesis() {
	if w.now >= w.set.Faulty || len(w.set.Faults) == 0 {
		return
	}
	w.harm(w.set.Faults[w.rng.IntN(len(w.set.Faults))])
	w.after(w.upTo(2*w.set.FaultEvery), w.nemesis)
}

func (w *World) anyMember() *Member { return w.members[w.rng.IntN(len(w.members))] }

// leader is a member that says that it leads, or any other.
func (w *World) leader() *Member {
	for _, m := range w.members {
		if m.up && m.drive.Host.Status().Self {
			return m
		}
	}
	return w.anyMember()
}

func (w *World) harm(kind string) {
	m := w.anyMember()
	if kind == "kill-leader" || kind == "isolate-leader" || w.chance(3) {
		m = w.leader()
	}
	w.trace.note(m.name, "%s", kind)
	w.disturb()
	switch kind {
	case "leap", "suspend":
		w.clockFault(kind, m)
	case "kill", "kill-leader":
		w.counts.Kills++
		m.kill()
		w.revive(m)
	case "power":
		w.powerLoss(m)
		w.revive(m)
	case "power-all":
		for _, m := range w.members {
			w.powerLoss(m)
			w.revive(m)
		}
	case "pause":
		w.pause(m)
	case "partition", "isolate-leader", "one-way", "cut-clients":
		w.partition(kind, m)
	case "loss":
		w.net.loss, w.net.twice = 2+w.rng.IntN(20), 2+w.rng.IntN(20)
		w.after(w.upTo(3*time.Second), func() { w.net.loss, w.net.twice = 0, 0 })
	case "late":
		w.net.delay, w.net.late = w.between(time.Millisecond, 100*time.Millisecond), 1+w.rng.IntN(20)
		w.after(w.upTo(3*time.Second), func() { w.net.delay, w.net.late = time.Millisecond, 0 })
	case "transfer":
		to := w.anyMember().ID
		m.enter(m.life, func() { m.drive.Host.TransferLeadership(to, func(error) {}) })
	case "flush":
		w.flush(m)
	case "compact-at-head":
		w.compactAtHead()
	case "contest":
		w.contestLeadership()
	case "echo":
		w.echoes(m)
	case "left-behind":
		w.leaveBehind(m)
	case "jam":
		w.jams(m)
	case "slow":
		m.slow = w.between(50*time.Millisecond, time.Second)
		w.after(w.upTo(4*time.Second), func() { m.slow = 0 })
	case "cut-at-write", "full", "broken", "stall":
		w.breakDisk(kind, m)
	}
}

// flush has the engine of a member make everything durable, and the log let go of what is.
func (w *World) flush(m *Member) {
	m.enter(m.life, func() {
		err := m.engine.Flush()
		if err == nil && w.chance(3) {
			err = m.engine.Settle()
		}
		if err != nil {
			m.ended(err)
			return
		}
		m.drive.Tidy()
	})
}

// powerLoss kills a member and loses what was not made durable, or a part of it.
func (w *World) powerLoss(m *Member) {
	w.counts.PowerLosses++
	if w.rot.of == m {
		w.unrot()
	}
	m.cutting = false
	m.down(m.disk.Crash())
}

// mends has do happen when d is over, unless everything has been mended by then.
func (w *World) mends(d time.Duration, do func()) {
	w.after(d, func() {
		if !w.healed {
			do()
		}
	})
}

// breakDisk has a disk fail, or stall, for a while.
func (w *World) breakDisk(kind string, m *Member) {
	if m.cutting || m.disk.Failing() != "" || m.disk.Stalled() {
		return
	}
	lasts := w.between(100*time.Millisecond, 4*time.Second)
	switch kind {
	case "cut-at-write":
		m.cutting = true
		m.disk.CrashAt(m.disk.Ops() + 1 + w.rng.Uint64N(60))
		w.mends(lasts, func() {
			if m.cutting { // it has written nothing
				w.powerLoss(m)
				w.revive(m)
			}
		})
	case "full":
		m.disk.FailAfter(1+w.rng.Uint64N(30), disk.NoSpace)
		w.mends(lasts, func() { m.mended(); w.start(m) })
	case "broken":
		m.disk.FailAfter(1+w.rng.Uint64N(30), disk.Broken)
		w.mends(lasts, func() {
			m.mended()
			w.powerLoss(m) // what the kernel believes to be written is gone with it
			w.revive(m)
		})
	case "stall":
		m.disk.SetStalled(true)
		w.mends(lasts, func() {
			m.disk.SetStalled(false)
			m.enter(m.life, func() {})
		})
	}
}

// mended ends what is wrong with a disk, but for what the process has made of it.
func (m *Member) mended() {
	if m.disk.Failing() != "" {
		m.harmed = m.life
	}
	m.disk.Free()
	m.disk.Repair()
}

// revive starts a member again after a while.
func (w *World) revive(m *Member) {
	w.after(w.between(10*time.Millisecond, 4*time.Second), func() { w.start(m) })
}

func (w *World) pause(m *Member) {
	if !m.up || m.paused {
		return
	}
	m.paused = true
	life := m.life
	w.after(w.between(10*time.Millisecond, 5*time.Second), func() { w.resume(m, life) })
}

// resume lets a paused member go on, with everything that came in meanwhile.
func (w *World) resume(m *Member, life int) {
	if !m.up || m.life != life || !m.paused {
		return
	}
	m.paused = false
	m.wake()
	w.trace.note(m.name, "resumes")
	waiting := m.waiting
	m.waiting = nil
	for _, do := range waiting {
		do()
	}
}

// partition cuts members off from each other, or from clients, for a while.
func (w *World) partition(kind string, m *Member) {
	var cut []link
	both := func(a, b ids.MemberID) { cut = append(cut, link{a, b}, link{b, a}) }
	side := []ids.MemberID{m.ID}
	if kind == "partition" {
		for _, o := range w.members {
			if o != m && w.chance(2) {
				side = append(side, o.ID)
			}
		}
	}
	switch kind {
	case "cut-clients":
		both(m.ID, 0)
	case "one-way":
		for _, o := range w.members {
			if o != m && w.chance(2) {
				cut = append(cut, link{m.ID, o.ID})
			} else if o != m && w.chance(2) {
				cut = append(cut, link{o.ID, m.ID})
			}
		}
	default:
		for _, o := range w.members {
			if slices.Contains(side, o.ID) {
				continue
			}
			for _, s := range side {
				both(s, o.ID)
			}
		}
	}
	for _, l := range cut {
		w.net.sever(l.from, l.to, true)
	}
	w.after(w.between(100*time.Millisecond, 6*time.Second), func() {
		for _, l := range cut {
			w.net.sever(l.from, l.to, false)
		}
	})
}
