package world

import (
	"container/heap"
	"time"
)

// event is something that happens at an instant.
type event struct {
	at  time.Duration
	seq uint64 // of two at one instant the one that was made first comes first
	do  func()
}

// agenda is what will happen, the next first.
type agenda []event

// Len implements heap.Interface.
func (a agenda) Len() int { return len(a) }

// Less implements heap.Interface.
func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].seq < a[j].seq
}

// Swap implements heap.Interface.
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }

// Push implements heap.Interface.
func (a *agenda) Push(x any) { *a = append(*a, x.(event)) }

// Pop implements heap.Interface.
func (a *agenda) Pop() any {
	old := *a
	last := old[len(old)-1]
	old[len(old)-1] = event{}
	*a = old[:len(old)-1]
	return last
}

// after has do happen when d is over.
func (w *World) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.agenda, event{at: w.now + max(d, 0), seq: w.seq, do: do})
}

// run lets everything happen that is due up to the given instant.
func (w *World) run(until time.Duration) {
	for len(w.agenda) > 0 && w.agenda[0].at <= until && !w.stopped {
		e := heap.Pop(&w.agenda).(event)
		w.now = e.at
		w.steps++
		e.do()
	}
	if !w.stopped {
		w.now = until
	}
}

// upTo draws a duration below d.
func (w *World) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(w.rng.Int64N(int64(d)))
}

// between draws a duration.
func (w *World) between(least, most time.Duration) time.Duration { return least + w.upTo(most-least+1) }

// chance is true in one of n cases.
func (w *World) chance(n int) bool { return w.rng.IntN(n) == 0 }
