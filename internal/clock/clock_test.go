package clock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func received(c <-chan time.Time) (time.Duration, bool) {
	select {
	case at := <-c:
		return at.Sub(epoch), true
	default:
		return 0, false
	}
}

func TestManualTimer(t *testing.T) {
	m := NewManual(epoch)
	timer := m.NewTimer(2 * time.Second)
	m.Advance(time.Second)
	_, ok := received(timer.C)
	require.False(t, ok, "the timer fired early")
	m.Advance(5 * time.Second)
	at, ok := received(timer.C)
	require.True(t, ok)
	require.Equal(t, 2*time.Second, at, "a timer reports the instant at which it was due")
	require.Equal(t, 6*time.Second, m.Now().Sub(epoch))
	require.False(t, timer.Stop(), "a timer that fired is not armed")

	require.False(t, timer.Reset(time.Second))
	require.True(t, timer.Reset(3*time.Second))
	m.Advance(time.Second)
	_, ok = received(timer.C)
	require.False(t, ok, "the first arming survived Reset")
	m.Advance(2 * time.Second)
	require.False(t, timer.Stop())
	_, ok = received(timer.C)
	require.False(t, ok, "Stop left a firing in the channel")
}

func TestManualTimerFiresAtOnceWhenNotPositive(t *testing.T) {
	m := NewManual(epoch)
	at, ok := received(m.NewTimer(0).C)
	require.True(t, ok)
	require.Zero(t, at)
}

func TestManualTickerKeepsOneTick(t *testing.T) {
	m := NewManual(epoch)
	ticker := m.NewTicker(100 * time.Millisecond)
	m.Advance(350 * time.Millisecond)
	at, ok := received(ticker.C)
	require.True(t, ok)
	require.Equal(t, 100*time.Millisecond, at)
	_, ok = received(ticker.C)
	require.False(t, ok, "missed ticks must not queue up")
	m.Advance(50 * time.Millisecond)
	at, ok = received(ticker.C)
	require.True(t, ok)
	require.Equal(t, 400*time.Millisecond, at)
	ticker.Stop()
	m.Advance(time.Second)
	_, ok = received(ticker.C)
	require.False(t, ok)
	require.Panics(t, func() { m.NewTicker(0) })
	require.Panics(t, func() { m.Advance(-1) })
}

func TestManualAwait(t *testing.T) {
	m := NewManual(epoch)
	done := make(chan time.Time)
	go func() { done <- <-m.NewTimer(time.Minute).C }()
	m.Await(1)
	m.Advance(time.Minute)
	require.Equal(t, time.Minute, (<-done).Sub(epoch))
}

func TestRealClock(t *testing.T) {
	c := Real()
	before := c.Now()
	timer, ticker := c.NewTimer(time.Millisecond), c.NewTicker(time.Millisecond)
	defer ticker.Stop()
	<-timer.C
	<-ticker.C
	require.GreaterOrEqual(t, c.Now().Sub(before), time.Millisecond)
	require.False(t, timer.Stop())
	require.False(t, timer.Reset(time.Hour))
	require.True(t, timer.Stop())
}
