package storage

import (
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// gate schedules the engine's compactions, but none before the engine is open. An Open that fails takes away what a running
// compaction still uses, which races and can panic.
//
// Behind the gate is the engine's own scheduler in its form without a timer: it starts compactions when the engine asks and
// when one ends, which is all that a single engine needs, and an idle store then has nothing that wakes up.
type gate struct {
	inner      *pebble.ConcurrencyLimitScheduler
	goroutines int
	db         pebble.DBForCompaction
	isOpen     atomic.Bool
}

func newGate() *gate {
	return &gate{inner: pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest()}
}

// open lets compactions run, first those that are waiting. Called once, after the engine is open.
func (g *gate) open() {
	g.inner.Register(g.goroutines, g.db)
	g.isOpen.Store(true)
	if ok, grant := g.inner.TrySchedule(); ok {
		grant.Done() // hands the permission to whatever waits
	}
}

// Register implements pebble.CompactionScheduler.
func (g *gate) Register(goroutines int, db pebble.DBForCompaction) {
	g.goroutines, g.db = goroutines, db
}

// Unregister implements pebble.CompactionScheduler.
func (g *gate) Unregister() {
	if g.isOpen.Load() {
		g.inner.Unregister()
	}
}

// TrySchedule implements pebble.CompactionScheduler.
func (g *gate) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	if !g.isOpen.Load() {
		return false, nil
	}
	return g.inner.TrySchedule()
}

// UpdateGetAllowedWithoutPermission implements pebble.CompactionScheduler.
func (g *gate) UpdateGetAllowedWithoutPermission() {
	if g.isOpen.Load() {
		g.inner.UpdateGetAllowedWithoutPermission()
	}
}
