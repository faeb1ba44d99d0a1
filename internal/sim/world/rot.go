package world

import (
	"math/rand/v2"
	"path"
	"strings"
	"time"

	"quorate.dev/quorate/internal/sim/disk"
)

// rot is what becomes of one disk at a time: a bit of a file changes, while the member runs or when it does not. The member may not
// notice, and it may end or refuse to start and say which file it is. It must not answer wrongly, nor hand the damage on. After a while
// the bit is given back, and all is as it was.
//
// The manifest of the engine is left alone. Of damage in it the engine believes that the end was never written whole; it starts with
// what it held before, removes the files it does not know, and the log may not reach back so far: then the member refuses
// to start, and has to be replaced. (internal/sim/disk TestRot has one member alone go through that.)
type rot struct {
	rng  *rand.Rand // of its own, so that seeds without rot run as they did before there was any
	of   *Member
	flip *disk.Flip
}

// rotOneOf is how many seeds there are for one in which disks rot.
const rotOneOf = 5

func (w *World) drawRot(seed uint64) {
	w.rot.rng = rand.New(rand.NewPCG(seed, 0x726f74))
	w.set.Rot = w.rot.rng.IntN(rotOneOf) == 0 && w.set.Members >= 3
}

// rots has a bit change now and then, until the faulty time is over.
func (w *World) rots() {
	if !w.set.Rot || w.now >= w.set.Faulty {
		return
	}
	r := &w.rot
	if r.of == nil {
		w.flip(w.members[r.rng.IntN(len(w.members))])
	}
	w.after(time.Duration(r.rng.Int64N(int64(w.set.FaultEvery)*2)), w.rots)
}

func (w *World) flip(m *Member) {
	r := &w.rot
	if m.cutting || m.disk.Failing() != "" {
		return
	}
	resting := !m.up || r.rng.IntN(2) == 0
	dir := storeDir
	if resting {
		m.kill()
		dir = []string{storeDir, storeDir, logDir, dataDir}[r.rng.IntN(4)]
		w.after(time.Duration(r.rng.Int64N(int64(time.Second))), func() { w.start(m) })
	}
	r.flip = m.disk.FlipBit(r.rng, dir, func(name string) bool { return strings.HasPrefix(path.Base(name), "MANIFEST") })
	if r.flip == nil {
		return
	}
	r.of = m
	w.counts.Flips++
	w.disturb()
	w.trace.note(m.name, "rots: %v", r.flip)
	flip := r.flip
	w.after(time.Duration(r.rng.Int64N(int64(6*time.Second))), func() {
		if r.flip == flip {
			w.unrot()
			w.start(m)
		}
	})
}

// unrot gives the bit back that has changed, and ends the process that may have seen it.
func (w *World) unrot() {
	r := &w.rot
	if r.of == nil {
		return
	}
	m := r.of
	m.kill()
	r.flip.Undo()
	r.of, r.flip = nil, nil
	w.trace.note(m.name, "rots no more")
}

// noticed takes the end of a member, or that it does not start, as a consequence of its rotten disk, and reports whether it is one.
func (w *World) noticed(m *Member, err error) bool {
	if w.rot.of != m {
		return false
	}
	w.counts.Noticed++
	w.trace.note(m.name, "notices: %v", err)
	if !strings.Contains(err.Error(), dataDir+"/") {
		w.broken("%s stops because of %v and does not say where: %v", m.name, w.rot.flip, err)
	}
	m.down(m.disk.Kill())
	return true
}

// Rotting counts what bits that change do.
type Rotting struct {
	Flips   int // bits that changed
	Noticed int // ends and refused starts because of them
}

func (c *Rotting) add(o Rotting) { c.Flips, c.Noticed = c.Flips+o.Flips, c.Noticed+o.Noticed }
