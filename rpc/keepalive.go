package rpc

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// lifetime is how a connection grows old and ends. conn.mu protects it.
type lifetime struct {
	cause    error     // set once by stop: why the reader shall end
	born     time.Time // of the connection
	retire   time.Time // when its age makes it drain; zero for never
	kill     time.Time // when a draining connection is cut; zero for never
	draining bool      // the first GOAWAY is sent
	final    bool      // the second GOAWAY is sent: new streams are ignored
	drainAt  time.Time // of the first GOAWAY

	pinged   time.Time // our keepalive ping that is not answered; zero when none is under way
	lastPing time.Time // of the peer
	strikes  int       // pings of the peer that came too early

	stalledAt  time.Time    // when the exchanges were last looked at, see tickStreams
	blockSince atomic.Int64 // when the header block being received began, unix nanoseconds; 0 when there is none
}

var (
	keepalivePing = [8]byte{'a', 'l', 'i', 'v', 'e', '?'}
	drainPing     = [8]byte{'d', 'r', 'a', 'i', 'n'}
)

func (l *lifetime) init(cfg Config) {
	l.born = time.Now()
	if age := cfg.ConnectionAgeMax; age > 0 {
		// A tenth more or less keeps connections made together from being remade together.
		jitter := time.Duration((rand.Float64() - 0.5) * 0.2 * float64(age))
		l.retire = l.born.Add(age + jitter)
	}
}

// onPing takes a PING frame: it is answered, and counted against a client that pings more often than allowed.
func (c *conn) onPing(f *http2.PingFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := &c.life
	if f.IsAck() {
		switch f.Data {
		case keepalivePing:
			l.pinged = time.Time{}
		case drainPing:
			c.finalGoAway()
		}
		return nil
	}
	unhurried := c.w.framed() == c.w.unhurried
	c.w.appendPing(true, f.Data)
	if unhurried {
		c.w.unhurried = c.w.framed()
	}
	if !c.guard.noise(noisePing) {
		return errNoise
	}
	now := time.Now()
	last := l.lastPing
	l.lastPing = now
	if c.w.provoked {
		// What was sent since the last ping may have provoked this one: clients probe the bandwidth so.
		c.w.provoked = false
		l.strikes = 0
		return nil
	}
	least := c.srv.cfg.KeepaliveMinTime
	if len(c.streams) == 0 && !c.srv.cfg.KeepalivePermitWithoutStream {
		least = idlePingMinTime
	}
	if !last.IsZero() && now.Sub(last) < least {
		l.strikes++
	}
	if l.strikes > pingStrikesMax {
		return connError{http2.ErrCodeEnhanceYourCalm, "too_many_pings"}
	}
	return nil
}

// drain sends the first GOAWAY: the client shall open no more streams, those on their way are still served. mu held.
func (c *conn) drain(now time.Time, grace time.Duration) {
	l := &c.life
	if l.draining || c.over {
		return
	}
	l.draining, l.drainAt = true, now
	if grace > 0 {
		l.kill = now.Add(grace)
	}
	c.w.appendGoAway(1<<31-1, http2.ErrCodeNo, "")
	c.w.appendPing(false, drainPing)
}

// finalGoAway sends the second GOAWAY, which names the last stream that is served. mu held.
func (c *conn) finalGoAway() {
	l := &c.life
	if l.draining && !l.final {
		l.final = true
		c.w.appendGoAway(c.maxID, http2.ErrCodeNo, "")
	}
}

// tick looks after what happens by the passing of time. The server's sweep calls it.
func (c *conn) tick(now time.Time) {
	c.mu.Lock()
	if c.over || c.life.cause != nil {
		c.mu.Unlock()
		return
	}
	c.tickLife(now)
	c.tickKeepalive(now)
	cfg := &c.srv.cfg
	if since := c.life.blockSince.Load(); since != 0 && now.UnixNano()-since > int64(cfg.HandshakeTimeout) {
		c.stop(connErrorf(http2.ErrCodeEnhanceYourCalm, "a header block took longer than %v", cfg.HandshakeTimeout))
	}
	if len(c.streams) > 0 && now.Sub(c.life.stalledAt) > stallCheck {
		c.life.stalledAt = now
		c.tickStreams(now)
	}
	c.unlockAndKick()
}

// tickLife retires an old connection, and ends one that has drained. mu held.
func (c *conn) tickLife(now time.Time) {
	l := &c.life
	if !l.retire.IsZero() && now.After(l.retire) {
		c.drain(now, c.srv.cfg.ConnectionAgeGrace)
	}
	if !l.draining {
		return
	}
	if now.Sub(l.drainAt) > drainPingWait {
		c.finalGoAway()
	}
	idle := len(c.streams) == 0 && c.w.framed() == 0 && !c.w.busy
	if l.final && idle {
		c.stop(connError{http2.ErrCodeNo, "drained"})
	} else if !l.kill.IsZero() && now.After(l.kill) {
		c.stop(connError{http2.ErrCodeNo, "the connection's grace is over"})
	}
}

// tickKeepalive pings a silent peer, and gives up one that does not answer. mu held.
func (c *conn) tickKeepalive(now time.Time) {
	l, cfg := &c.life, &c.srv.cfg
	if !l.pinged.IsZero() {
		if c.in.last.Load() > l.pinged.UnixNano() {
			l.pinged = time.Time{} // anything that arrives is as good as the answer
		} else if now.Sub(l.pinged) > cfg.KeepaliveTimeout {
			c.stop(connErrorf(http2.ErrCodeNo, "no answer to a keepalive ping for %v", cfg.KeepaliveTimeout))
		}
		return
	}
	if cfg.KeepaliveInterval > 0 && now.UnixNano()-c.in.last.Load() > int64(cfg.KeepaliveInterval) {
		l.pinged = now
		c.w.appendPing(false, keepalivePing)
	}
}

// tickStreams ends exchanges that do not move: a unary request that does not go on, a complete answer that is not
// fetched. Streams may be silent as long as they like. mu held.
func (c *conn) tickStreams(now time.Time) {
	for _, x := range c.streams {
		_, streaming := x.role.(*Stream)
		switch {
		case !streaming && !x.in.ended && now.UnixNano()-x.in.moved > int64(bodyStallMax):
			x.abort(statusf(DeadlineExceeded, "the request was not completed within %v", bodyStallMax))
		case x.out.closing && x.out.hasData() && x.out.stalled(now.UnixNano()):
			x.reset(http2.ErrCodeCancel, statusf(Canceled, "the answer was not fetched within %v", replyStallMax))
		}
	}
}

// stalled looks at an answer from time to time, and reports whether no DATA has left for replyStallMax. mu held.
func (p *progress) stalled(now int64) bool {
	if p.moved == 0 || p.frames != p.seen {
		p.moved, p.seen = now, p.frames
	}
	return now-p.moved > int64(replyStallMax)
}
