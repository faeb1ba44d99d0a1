package arena

import (
	"runtime"
	"sync/atomic"
)

// Era is a piece of the writer's time. Whatever is published for readers holds the Era of its moment, and every reader holds
// what it reads; so while a reader of an era is at work, the Era is in reach.
type Era struct{ end *eraEnd }

// eraEnd outlives its Era and tells that this is out of reach.
type eraEnd struct {
	number uint64
	over   atomic.Bool
}

// KeepAlive ends a reader's use of handles: none that was found in the era may be used after it. Without it the compiler may
// let go of the era as soon as nothing names it any more, before the last slot was read.
func (e *Era) KeepAlive() {
	raceRelease(e.end)
	runtime.KeepAlive(e)
}

// Eras are the writer's.
type Eras struct {
	now   *Era
	open  []*eraEnd // of past eras that were not found over, oldest first
	freed int       // slots in the present era
}

// turnAfter is how many slots are freed before a new era is worth its object and the collector's report.
const turnAfter = 256

// NewEras begins the first era.
func NewEras() *Eras {
	e := new(Eras)
	e.begin(1)
	return e
}

func (e *Eras) begin(number uint64) {
	e.now = &Era{end: &eraEnd{number: number}}
	e.freed = 0
	runtime.AddCleanup(e.now, func(end *eraEnd) { end.over.Store(true) }, e.now.end)
}

// Now returns the present era, for what is published now.
func (e *Eras) Now() *Era { return e.now }

// Turn begins a new era if enough slots were freed in the present one. It is called when nothing that was freed can be found
// in what is published next, and before that.
func (e *Eras) Turn() {
	if e.freed < turnAfter {
		return
	}
	e.open = append(e.open, e.now.end)
	e.begin(e.now.end.number + 1)
}

// over returns the number of the last era that is over together with all before it, 0 when there is none.
func (e *Eras) over() uint64 {
	number := e.now.end.number
	for i, end := range e.open {
		if !end.over.Load() {
			e.open = e.open[i:]
			return end.number - 1
		}
		raceAcquire(end)
	}
	e.open = e.open[:0]
	return number - 1
}
