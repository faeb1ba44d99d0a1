package storage

import (
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"quorate.dev/quorate/internal/clock"
)

// Compactions have a share of one processor, so that clients hardly notice them on a machine of few. They get all they want
// while there is more to compact than that share is good for.
const (
	// compactionRest is how many times as long as it worked a compaction rests between two blocks.
	compactionRest = 3
	// longestRest bounds one rest. What a compaction takes to the next block includes what others took from it.
	longestRest = 10 * time.Millisecond
	// hurrySublevels is how many layers of overlapping files end the rests (the engine begins to compact them at 8).
	hurrySublevels = 16
	// lookEvery is the time between two looks at the engine's debt.
	lookEvery = 200 * time.Millisecond
)

// pacer spreads the work of compactions over time. A nil pacer lets them run.
type pacer struct {
	clock clock.Clock
	hurry atomic.Bool   // no rests for now
	end   chan struct{} // closed when the engine closes or fails: no rests any more
	db    atomic.Pointer[pebble.DB]
	last  atomic.Int64 // when a compaction last went on, since the epoch of the clock, in nanoseconds
	look  atomic.Int64 // when to look at the debt again
}

func newPacer(c clock.Clock) *pacer {
	if c == nil {
		return nil
	}
	return &pacer{clock: c, end: make(chan struct{})}
}

// rest makes the goroutine of a compaction wait, at a point where the engine holds no lock.
func (p *pacer) rest() {
	if p == nil {
		return
	}
	now := p.clock.Now()
	worked := now.UnixNano() - p.last.Load()
	p.last.Store(now.UnixNano())
	if p.looks(now); p.hurry.Load() {
		return
	}
	t := p.clock.NewTimer(min(compactionRest*time.Duration(worked), longestRest))
	defer t.Stop()
	select {
	case <-t.C:
		p.last.Store(p.clock.Now().UnixNano())
	case <-p.end:
	}
}

// looks looks at the debt when it is time to.
func (p *pacer) looks(now time.Time) {
	at, db := p.look.Load(), p.db.Load()
	if db == nil || now.UnixNano() < at || !p.look.CompareAndSwap(at, now.Add(lookEvery).UnixNano()) {
		return
	}
	p.hurry.Store(db.Metrics().Levels[0].Sublevels >= hurrySublevels)
}

// stop ends all rests. It is called once.
func (p *pacer) stop() {
	if p != nil {
		close(p.end)
	}
}
