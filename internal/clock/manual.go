package clock

import (
	"container/heap"
	"fmt"
	"sync"
	"time"
)

// Manual is a clock that stands still until Advance moves it. The zero value is not usable; see NewManual.
type Manual struct {
	mu    sync.Mutex
	armed sync.Cond // signalled whenever an alarm is added
	now   time.Time
	seq   uint64
	queue alarms
}

// NewManual returns a manual clock that shows start.
func NewManual(start time.Time) *Manual {
	m := &Manual{now: start}
	m.armed.L = &m.mu
	return m
}

// Now is the instant the clock was last moved to.
func (m *Manual) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// Advance moves the clock forward by d and fires everything that falls due on the way, each at its own instant. It panics
// when d is negative.
func (m *Manual) Advance(d time.Duration) {
	if d < 0 {
		panic(fmt.Sprintf("BUG: a manual clock cannot go back (Advance(%s))", d))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	target := m.now.Add(d)
	for len(m.queue) > 0 && !m.queue[0].due.After(target) {
		a := m.queue[0]
		m.now = a.due
		a.fire(m.now)
		if a.period == 0 {
			heap.Pop(&m.queue)
			continue
		}
		a.due = a.due.Add(a.period)
		heap.Fix(&m.queue, 0)
	}
	m.now = target
}

// Await blocks until at least n timers and tickers are armed, so that a test moves the clock only after the code under test
// has begun to wait.
func (m *Manual) Await(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.queue) < n {
		m.armed.Wait()
	}
}

// NewTimer implements Clock.
func (m *Manual) NewTimer(d time.Duration) *Timer {
	a := &alarm{ch: make(chan time.Time, 1)}
	m.arm(a, d)
	return &Timer{
		C:      a.ch,
		stop:   func() bool { return m.disarm(a) },
		rewind: func(d time.Duration) bool { was := m.disarm(a); m.arm(a, d); return was },
	}
}

// NewTicker implements Clock.
func (m *Manual) NewTicker(d time.Duration) *Ticker {
	if d <= 0 {
		panic(fmt.Sprintf("BUG: a ticker needs a positive period, not %s", d))
	}
	a := &alarm{ch: make(chan time.Time, 1), period: d}
	m.arm(a, d)
	return &Ticker{C: a.ch, stop: func() { m.disarm(a) }}
}

func (m *Manual) arm(a *alarm, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d <= 0 {
		a.fire(m.now)
		return
	}
	m.seq++
	a.seq, a.due = m.seq, m.now.Add(d)
	heap.Push(&m.queue, a)
	m.armed.Broadcast()
}

// disarm removes a from the queue and drains a firing that was not received, as package time does since Go 1.23.
func (m *Manual) disarm(a *alarm) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-a.ch:
	default:
	}
	if !a.queued {
		return false
	}
	heap.Remove(&m.queue, a.at)
	return true
}

// alarm is one armed timer (period 0) or ticker.
type alarm struct {
	due    time.Time
	period time.Duration
	seq    uint64 // order of arming, which breaks ties of due
	ch     chan time.Time
	at     int // position in the queue while queued
	queued bool
}

func (a *alarm) fire(now time.Time) {
	select {
	case a.ch <- now:
	default: // the receiver has not taken the previous firing: this one is missed, as with package time
	}
}

// alarms is a heap ordered by due, then by arming.
type alarms []*alarm

func (q alarms) Len() int { return len(q) }
func (q alarms) Less(i, j int) bool {
	if !q[i].due.Equal(q[j].due) {
		return q[i].due.Before(q[j].due)
	}
	return q[i].seq < q[j].seq
}

func (q alarms) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].at, q[j].at = i, j
}

func (q *alarms) Push(x any) {
	a := x.(*alarm)
	a.at, a.queued = len(*q), true
	*q = append(*q, a)
}

func (q *alarms) Pop() any {
	last := len(*q) - 1
	a := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	a.queued = false
	return a
}
