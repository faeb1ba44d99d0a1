package rpc

import (
	"time"

	"golang.org/x/net/http2"
)

// guard judges a peer that makes the server work for nothing: rapid resets, frames that carry nothing, settings without
// end. Two budgets are spent by such events and refilled by time and by calls that are answered, so that a busy honest
// client, which also resets and pings a lot, never runs dry. conn.mu protects it.
type guard struct {
	resets, noises int
	refilled       time.Time
}

var (
	errNoise    = connError{http2.ErrCodeEnhanceYourCalm, "too many frames that carry nothing"}
	errResets   = connError{http2.ErrCodeEnhanceYourCalm, "too many requests reset before they were answered"}
	errContinue = connError{http2.ErrCodeEnhanceYourCalm, "header block with too many frames or too large"}
)

func (g *guard) init(now time.Time) {
	g.resets, g.noises, g.refilled = resetBurst, noiseBurst, now
}

// earn is called for every exchange that its handler answered.
func (g *guard) earn() {
	g.resets = min(g.resets+1, resetBurst)
	g.noises = min(g.noises+noiseEarned, noiseBurst)
}

// noise spends n tokens; false when there are none left.
func (g *guard) noise(n int) bool {
	if g.noises < n {
		g.refill()
	}
	g.noises -= n
	return g.noises >= 0
}

// reset spends one token for a rapid reset.
func (g *guard) reset() bool {
	if g.resets < 1 {
		g.refill()
	}
	g.resets--
	return g.resets >= 0
}

// refill adds what time has earned. It is called only when a budget is exhausted: the clock is not free.
func (g *guard) refill() {
	now := time.Now()
	seconds := now.Sub(g.refilled).Seconds()
	g.refilled = now
	g.resets = int(min(float64(g.resets)+seconds*resetRefill, resetBurst))
	g.noises = int(min(float64(g.noises)+seconds*noiseRefill, noiseBurst))
}

// onReset takes a RST_STREAM frame.
func (c *conn) onReset(f *http2.RSTStreamFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.streams[f.StreamID]
	if x == nil {
		if f.StreamID > c.maxID {
			return connErrorf(http2.ErrCodeProtocol, "RST_STREAM on stream %d, which is idle", f.StreamID)
		}
		if !c.guard.noise(1) {
			return errNoise
		}
		return nil
	}
	rapid := !x.answered && c.in.last.Load()-x.in.opened < int64(time.Second)
	c.remember(x.id, false)
	c.remove(x, statusCanceled)
	if c.abandoned > abandonedMax || rapid && !c.guard.reset() {
		return errResets
	}
	return nil
}
