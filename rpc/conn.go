package rpc

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// conn is one HTTP/2 connection. Its reader goroutine runs serve; the fields up to mu belong to that goroutine or never
// change, those after it are protected by mu.
type conn struct {
	srv *Server
	nc  net.Conn
	secured
	flusher *flusher
	in      input
	fr      *http2.Framer
	head    headReader
	turn    bool    // the reader has a turn of the server's crowd
	try     attempt // belongs to the holder of the write token

	mu        sync.Mutex
	streams   map[uint32]*exchange
	w         writer
	ledger    // what the peer makes the server hold
	deadlines deadlines
	life      lifetime
}

// secured is what the TLS handshake told. It never changes.
type secured struct {
	tls   *tls.ConnectionState // nil without TLS
	cn    string               // see Call.CertificateCN
	below gatherer             // the connection below TLS, if it is one
}

// gatherer is a connection that can hold back what is written until all of it is there. TLS writes record by record, and each
// would be a system call.
type gatherer interface {
	Hold()
	Release() error
}

// ledger counts what a connection holds, and remembers what it held.
type ledger struct {
	guard     guard
	held      int // request bytes and structures, bounded by heldBytes
	abandoned int // exchanges the peer has reset whose handlers are not done
	webs      int // requests inside the http.Handler
	recvLeft  int // bytes the peer may still send on the connection
	maxID     uint32
	newest    *exchange // the one opened last, nil when it is over
	over      bool      // the connection is gone: nothing may be appended

	closed   [closedRemember]uint32 // recently ended streams, the top bit set when this side reset them
	closedAt int
}

// connError ends a connection: GOAWAY with code and a text for people.
type connError struct {
	code http2.ErrCode
	text string
}

func (e connError) Error() string { return fmt.Sprintf("%v: %s", e.code, e.text) }

func connErrorf(code http2.ErrCode, format string, args ...any) error {
	return connError{code, fmt.Sprintf(format, args...)}
}

func newConn(s *Server, nc net.Conn, state *tls.ConnectionState) *conn {
	c := &conn{srv: s, nc: nc, secured: secured{tls: state}, flusher: s.flusherFor(), streams: map[uint32]*exchange{}}
	if tc, ok := nc.(*tls.Conn); ok {
		c.below, _ = tc.NetConn().(gatherer)
	}
	if s.cfg.CertificateNames {
		c.cn = certificateCN(state)
	}
	c.in.init(nc, rawConn(nc), c.beforeRead)
	c.in.begin = func() { c.turn = s.crowd.enter(c.in.now) }
	if s.cfg.Observer != nil {
		c.in.count = s.cfg.Observer.Bytes
	}
	c.fr = http2.NewFramer(nil, &c.in)
	c.fr.SetReuseFrames()
	c.fr.SetMaxReadFrameSize(frameBytes)
	c.head.init()
	c.try.init()
	c.w.c, c.w.moved.L = c, &c.mu
	c.w.window, c.w.initial = 65535, 65535
	c.recvLeft = connWindow
	c.guard.init(time.Now())
	c.life.init(s.cfg)
	return c
}

// certificateCN is the common name of the certificate that a client proved to own and that was verified, "" for none.
// Every verified chain begins with that certificate.
func certificateCN(state *tls.ConnectionState) string {
	if state == nil || len(state.VerifiedChains) == 0 || len(state.VerifiedChains[0]) == 0 {
		return ""
	}
	return state.VerifiedChains[0][0].Subject.CommonName
}

// serve reads frames until the connection ends. The client's preface has been read.
func (c *conn) serve() {
	c.greet()
	err := c.readFrames()
	c.leaveTurn()
	c.shut(err)
}

// leaveTurn ends the reader's turn, if it has one.
func (c *conn) leaveTurn() {
	if c.turn {
		c.turn = false
		c.srv.crowd.leave()
	}
}

// greet sends the server's preface.
func (c *conn) greet() {
	settings := []http2.Setting{
		{ID: http2.SettingInitialWindowSize, Val: streamWindow},
		{ID: http2.SettingMaxHeaderListSize, Val: headerListBytes},
	}
	if n := c.srv.cfg.StreamsMax; n != unlimitedStreams {
		settings = append(settings, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: n})
	}
	c.mu.Lock()
	c.w.appendSettings(settings...)
	c.w.appendWindowUpdate(0, connWindow-65535)
	c.mu.Unlock()
}

// beforeRead is called when the reader has dealt with all it read: what was answered leaves now. It also holds the
// reader back while the peer does not take what it is sent.
func (c *conn) beforeRead() error {
	c.leaveTurn()
	c.flush(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.w.framed() > outPause && c.w.busy && !c.w.failed && c.life.cause == nil {
		c.w.moved.Wait()
	}
	return c.life.cause
}

// shut ends the connection after its reader got err: every exchange ends, and a peer that deserves one gets a GOAWAY.
func (c *conn) shut(err error) {
	c.mu.Lock()
	if c.life.cause != nil {
		err = c.life.cause
	}
	fault, speaks := err.(connError)
	if speaks && !c.w.failed {
		c.w.appendGoAway(c.maxID, fault.code, fault.text)
	}
	for _, x := range c.streams {
		c.remove(x, statusClosing)
	}
	c.over = true
	if c.deadlines.timer != nil {
		c.deadlines.timer.Stop()
	}
	c.mu.Unlock()
	if speaks {
		if fault.code != http2.ErrCodeNo {
			c.srv.logf("rpc: connection closed for a violation", "remote", c.nc.RemoteAddr(), "error", err)
		}
		c.linger()
	}
	c.nc.Close()
	c.in.giveBack()
}

// linger waits until the farewell is written and read: closing a socket with unread input would destroy it.
func (c *conn) linger() {
	c.flush(true)
	c.mu.Lock()
	for c.w.busy && !c.w.failed {
		c.w.moved.Wait()
	}
	c.mu.Unlock()
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		if c.nc.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
			// What comes is of no interest, and neither is how it ends.
			_, _ = io.CopyN(io.Discard, c.nc, lingerBytes)
		}
	}
}

// stop makes the reader end the connection with cause. mu held.
func (c *conn) stop(cause error) {
	if c.life.cause != nil {
		return
	}
	c.life.cause = cause
	c.w.moved.Broadcast()
	_ = c.nc.SetReadDeadline(time.Unix(1, 0)) // wakes the reader; it fails only when the connection is closed already
}

// find returns an open exchange, nil for none. mu held.
func (c *conn) find(id uint32) *exchange {
	if c.newest != nil && c.newest.id == id {
		return c.newest
	}
	if id > c.maxID {
		return nil
	}
	return c.streams[id]
}

// open puts x into the table. mu held.
func (c *conn) open(x *exchange) {
	x.in.window = streamWindow
	x.in.opened = c.in.last.Load()
	x.in.moved = x.in.opened
	x.out.window = c.w.initial
	x.in.held = exchangeBytes
	c.held += exchangeBytes
	c.streams[x.id] = x
	c.newest = x
	if !x.deadline.IsZero() {
		c.armDeadline(x.deadline)
	}
}

// remove takes x out of the table: it is over, with status st. mu held.
func (c *conn) remove(x *exchange, st *Status) {
	if x.over {
		return
	}
	x.dropQueue()
	x.over, x.end = true, st
	delete(c.streams, x.id)
	if c.newest == x {
		c.newest = nil
	}
	c.held -= x.in.held
	x.in.held = 0
	if x.answered {
		c.guard.earn()
	} else if x.running {
		c.abandoned++
	}
	if x.cancel != nil {
		x.cancel()
	}
	x.role.ended()
	if o := c.srv.cfg.Observer; o != nil && x.req.route != nil {
		code := OK
		if st != nil {
			code = st.Code
		}
		o.Handled(x.req.path, code, time.Since(x.start))
	}
}

// remember notes a stream that this side ended before the peer knew, or that the peer ended. mu held.
func (c *conn) remember(id uint32, ours bool) {
	if ours {
		id |= 1 << 31
	}
	c.closed[c.closedAt] = id
	c.closedAt = (c.closedAt + 1) % closedRemember
}

// recent reports whether stream id ended a short while ago, and whether by this side's doing. mu held.
func (c *conn) recent(id uint32) (known, ours bool) {
	for _, v := range c.closed {
		if v&^(1<<31) == id {
			known, ours = true, ours || v != id
		}
	}
	return known, ours
}

// hold charges n bytes to x; false when the connection holds too much, and x is ended for it. mu held.
func (c *conn) hold(x *exchange, n int) bool {
	if c.held+n > heldBytes {
		x.abort(statusf(ResourceExhausted, "more than %d bytes of requests are unread on this connection", heldBytes))
		return false
	}
	c.held += n
	x.in.held += n
	return true
}

// release gives back n bytes of x. mu held.
func (c *conn) release(x *exchange, n int) {
	if !x.over {
		c.held -= n
		x.in.held -= n
	}
}
