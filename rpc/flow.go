package rpc

import (
	"math"

	"golang.org/x/net/http2"
)

// Receiving: the connection's window is always replenished, because what it lets in is bounded otherwise (conn.hold); a
// stream's window is replenished as long as its reader keeps up. Sending: writer.pump obeys the peer's windows.

// onData takes a DATA frame; n is its length, padding included.
func (c *conn) onData(id uint32, p []byte, n int, ends bool) error {
	c.mu.Lock()
	if c.recvLeft -= n; c.recvLeft < 0 {
		c.mu.Unlock()
		return connErrorf(http2.ErrCodeFlowControl, "%d bytes beyond the connection's window", -c.recvLeft)
	}
	if c.recvLeft < connWindow/4*3 {
		c.w.appendWindowUpdate(0, connWindow-c.recvLeft)
		c.recvLeft = connWindow
	}
	x := c.find(id)
	if x == nil || x.in.ended {
		err := c.lateData(id, x)
		c.mu.Unlock()
		return err
	}
	if n > x.in.window {
		x.reset(http2.ErrCodeFlowControl, statusf(Internal, "%d bytes beyond the stream's window", n-x.in.window))
		c.mu.Unlock()
		return nil
	}
	if len(p) == 0 && !ends && !c.guard.noise(1) {
		c.mu.Unlock()
		return errNoise
	}
	x.in.window -= n
	ready := c.takeData(x, p, ends)
	c.credit(x)
	c.mu.Unlock()
	if ready {
		x.role.ready()
	}
	return nil
}

// takeData hands payload to x's role and checks it against content-length. mu held.
func (c *conn) takeData(x *exchange, p []byte, end bool) bool {
	x.in.received += int64(len(p))
	if l := x.req.length; l >= 0 && (x.in.received > l || end && x.in.received < l) {
		x.reset(http2.ErrCodeProtocol, statusf(Internal, "content-length is %d but %d bytes came", l, x.in.received))
		return false
	}
	if end {
		x.in.ended = true
		c.remember(x.id, false)
	} else {
		x.in.moved = c.in.last.Load()
	}
	if x.out.closing {
		return false // answered already: what still comes is of no use
	}
	return x.role.take(p, end)
}

// lateData judges DATA for a stream that receives no more. mu held.
func (c *conn) lateData(id uint32, x *exchange) error {
	if x == nil && id > c.maxID {
		return connErrorf(http2.ErrCodeProtocol, "DATA on stream %d, which is idle", id)
	}
	if !c.guard.noise(1) {
		return errNoise
	}
	if x != nil {
		x.reset(http2.ErrCodeStreamClosed, statusCanceled)
		return nil
	}
	if _, ours := c.recent(id); !ours {
		c.w.appendReset(id, http2.ErrCodeStreamClosed)
		c.remember(id, true)
	}
	return nil
}

// credit enlarges x's receive window as far as its unread bytes allow; true when an update was appended. mu held.
func (c *conn) credit(x *exchange) bool {
	if x.over || x.in.ended {
		return false
	}
	limit := streamWindow
	if x.role.unread() {
		limit -= x.in.held - exchangeBytes
	}
	give := limit - x.in.window
	if give < streamWindow/4 {
		return false
	}
	c.w.appendWindowUpdate(x.id, give)
	x.in.window += give
	return true
}

// onWindowUpdate takes a WINDOW_UPDATE frame; n is not 0.
func (c *conn) onWindowUpdate(id, n uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == 0 {
		if c.w.window += int64(n); c.w.window > math.MaxInt32 {
			return connErrorf(http2.ErrCodeFlowControl, "the connection's window exceeds 2^31-1")
		}
		return nil
	}
	if id > c.maxID {
		return connErrorf(http2.ErrCodeProtocol, "WINDOW_UPDATE on stream %d, which is idle", id)
	}
	x := c.find(id)
	if x == nil {
		return nil // it ended meanwhile
	}
	if x.out.window += int64(n); x.out.window > math.MaxInt32 {
		x.reset(http2.ErrCodeFlowControl, statusf(Internal, "the stream's window exceeds 2^31-1"))
		return nil
	}
	c.w.schedule(x)
	return nil
}

// onSettings takes a SETTINGS frame.
func (c *conn) onSettings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.guard.noise(noiseHeavy + f.NumSettings()) {
		return errNoise
	}
	for i := range f.NumSettings() {
		s := f.Setting(i)
		if err := s.Valid(); err != nil {
			code, _ := err.(http2.ConnectionError)
			return connErrorf(http2.ErrCode(code), "invalid setting %v", s)
		}
		switch s.ID {
		case http2.SettingInitialWindowSize:
			if err := c.resizeWindows(int64(s.Val)); err != nil {
				return err
			}
		case http2.SettingHeaderTableSize:
			c.w.head.setTableSize(s.Val)
		}
	}
	c.w.out = appendFrame(c.w.buffer(), 0, http2.FrameSettings, http2.FlagSettingsAck, 0)
	return nil
}

// resizeWindows applies a new initial window to all streams (RFC 9113 section 6.9.2). mu held.
func (c *conn) resizeWindows(initial int64) error {
	delta := initial - c.w.initial
	c.w.initial = initial
	if delta == 0 {
		return nil
	}
	for _, x := range c.streams {
		if x.out.window += delta; x.out.window > math.MaxInt32 {
			return connErrorf(http2.ErrCodeFlowControl, "the window of stream %d exceeds 2^31-1", x.id)
		}
		c.w.schedule(x)
	}
	return nil
}
