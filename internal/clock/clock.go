// Package clock is the only way the shell of the store reads time and waits for it: a real clock for the process and a
// manual one for tests, behind the same small interface.
//
// It is not a scheduler and starts no goroutine. The pure packages do not import it; they receive ticks and durations as
// values.
//
// Data passes one way: a component receives a Clock when it is built, arms timers and tickers on it, and selects on their
// channels next to its other channels. A test holds the *Manual that it passed in and moves it with Advance.
//
// Invariants: a channel of a timer or ticker holds at most one instant, as with package time; a slow receiver misses ticks
// and never blocks the clock. The manual clock never runs backwards, and it fires what is due in the order of the instants
// at which it is due, equal instants in the order of arming.
package clock

import "time"

// Clock tells time and arms timers. Implementations are safe for concurrent use.
type Clock interface {
	// Now is the current time. Differences of two readings of the same clock are monotonic.
	Now() time.Time
	// NewTimer arms a timer that fires once, d from now (at once when d <= 0).
	NewTimer(d time.Duration) *Timer
	// NewTicker arms a ticker of period d. It panics when d <= 0.
	NewTicker(d time.Duration) *Ticker
}

// Timer fires once on C and may be armed again with Reset.
type Timer struct {
	C      <-chan time.Time
	stop   func() bool
	rewind func(time.Duration) bool
}

// Stop disarms the timer and reports whether it was armed. After Stop nothing that was not already received arrives on C.
func (t *Timer) Stop() bool { return t.stop() }

// Reset arms the timer to fire d from now, whether it was armed or not, and reports whether it was. A firing of the earlier
// arming that was not received is dropped.
func (t *Timer) Reset(d time.Duration) bool { return t.rewind(d) }

// Ticker fires on C every period until it is stopped.
type Ticker struct {
	C    <-chan time.Time
	stop func()
}

// Stop disarms the ticker. It does not close C.
func (t *Ticker) Stop() { t.stop() }

// Real is the clock of the machine (package time).
func Real() Clock { return real{} }

type real struct{}

func (real) Now() time.Time { return time.Now() }

func (real) NewTimer(d time.Duration) *Timer {
	t := time.NewTimer(d)
	return &Timer{C: t.C, stop: t.Stop, rewind: t.Reset}
}

func (real) NewTicker(d time.Duration) *Ticker {
	t := time.NewTicker(d)
	return &Ticker{C: t.C, stop: t.Stop}
}
