package lean

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http2"
)

// Message is a request that can be written in protobuf's form. Append writes exactly Size bytes.
type Message interface {
	Size() int
	Append(dst []byte) []byte
}

// Completion receives the end of a unary call: the response message, valid only during the call, or an error (*Status from
// the server or for a timeout, *ConnError when the connection is lost). It runs on the connection's reader and must not
// block; it may Call again.
type Completion interface {
	Done(body []byte, err error)
}

// Config says where to connect and how.
type Config struct {
	Address string        // host:port
	Network string        // as of package net; "" is tcp
	TLS     *tls.Config   // nil is plain TCP; NextProtos and ServerName are filled in
	Token   string        // of Authenticate, sent with every call but those with a Header; "" for none
	Agent   string        // user-agent; "" is quorate-bench
	Timeout time.Duration // of a unary call, to a precision of an eighth; 0 waits for ever
	Window  int           // receive window of one stream, bytes; 0 is StreamWindow
	Stall   bool          // never give a stream new receive window: a client that stopped reading
}

// Conn is one connection. Its methods may be called from any goroutine.
type Conn struct {
	cfg Config
	nc  net.Conn
	raw syscall.RawConn // nil when writes cannot be tried without waiting

	mu      sync.Mutex
	err     error // why no call is accepted any more
	streams map[uint32]*stream
	nextID  uint32
	calls   uint64    // so far
	free    []*stream // for the next calls
	waiting []*stream // not yet opened: the server's limit is reached
	send    sender
	recv    receiver

	ready chan struct{} // closed when the server's first SETTINGS arrived
	done  chan struct{} // closed when the reader has ended
}

// stream is one call under way.
type stream struct {
	id      uint32     // 0 while waiting
	opening            // what its HEADERS say
	done    Completion // of a unary call
	handler Handler    // of a stream
	pieces  PieceHandler

	window  int64  // what the server lets this stream send, bytes
	pend    []byte // framed messages that wait for window
	credit  int64  // to be given back with the next WINDOW_UPDATE, bytes
	ahead   int    // given back before the handler's Credit, bytes
	body    []byte // a whole response, prefix included, as it lies in the input buffer
	own     []byte // a response, or part of one, that had to be copied
	left    int    // of the message that is handed out in pieces, bytes
	age     uint8  // sweeps survived
	flags   streamFlags
	current *Stream // the handle of a stream
}

// opening is what the HEADERS of a call say.
type opening struct {
	method  Method
	header  *Header       // instead of method and Config.Token; nil for those
	timeout time.Duration // sent as grpc-timeout; 0 for none
	call    uint64        // numbers the calls of a connection, because finished streams are used again
}

type streamFlags uint8

const (
	flagHeaders  streamFlags = 1 << iota // response headers have come
	flagSentEnd                          // END_STREAM was sent
	flagWantEnd                          // END_STREAM follows what is pending
	flagBlocked                          // in sender.blocked
	flagBorrowed                         // body aliases the input buffer
	flagEnded                            // out of the table
	flagInPiece                          // left counts a message
	flagPaced                            // the handler gives the receive window back: see Stream.Credit
)

// Dial connects and returns once the server has sent its SETTINGS, so that an endpoint that is something else fails here.
// Errors name the endpoint.
func Dial(ctx context.Context, cfg Config) (*Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, cmp.Or(cfg.Network, "tcp"), cfg.Address)
	if err != nil {
		return nil, &ConnError{cfg.Address, err}
	}
	if cfg.TLS != nil {
		if nc, err = handshake(ctx, nc, cfg); err != nil {
			return nil, &ConnError{cfg.Address, err}
		}
	}
	c, err := newConn(nc, cfg)
	if err != nil {
		nc.Close()
		return nil, &ConnError{cfg.Address, err}
	}
	select {
	case <-c.ready:
		return c, nil
	case <-c.done:
		return nil, c.Err()
	case <-ctx.Done():
		c.Close()
		return nil, &ConnError{cfg.Address, fmt.Errorf("no HTTP/2 settings from the server: %w", ctx.Err())}
	}
}

// handshake makes nc a TLS connection that speaks HTTP/2.
func handshake(ctx context.Context, nc net.Conn, cfg Config) (net.Conn, error) {
	own := cfg.TLS.Clone()
	own.NextProtos = []string{"h2"}
	if own.ServerName == "" {
		host, _, err := net.SplitHostPort(cfg.Address)
		if err != nil {
			nc.Close()
			return nil, err
		}
		own.ServerName = host
	}
	tc := tls.Client(nc, own)
	if err := tc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	if p := tc.ConnectionState().NegotiatedProtocol; p != "h2" {
		nc.Close()
		return nil, fmt.Errorf("TLS handshake: the server chose protocol %q, not h2", p)
	}
	return tc, nil
}

// newConn sends the preface on nc and starts the reader, which owns nc from here on.
func newConn(nc net.Conn, cfg Config) (*Conn, error) {
	c := &Conn{cfg: cfg, nc: nc, raw: rawConn(nc), streams: map[uint32]*stream{}, nextID: 1,
		ready: make(chan struct{}), done: make(chan struct{})}
	c.send.init(&cfg)
	c.recv.init(c)
	c.send.out = append(c.send.out, http2.ClientPreface...)
	window := uint32(c.window())
	if cfg.Stall {
		window = StallWindow
	}
	settings := []http2.Setting{{ID: http2.SettingEnablePush, Val: 0}, {ID: http2.SettingInitialWindowSize, Val: window},
		{ID: http2.SettingHeaderTableSize, Val: headerTableBytes}}
	c.send.out = appendFrame(c.send.out, len(settings)*6, http2.FrameSettings, 0, 0)
	for _, s := range settings {
		c.send.out = append(c.send.out, byte(s.ID>>8), byte(s.ID), byte(s.Val>>24), byte(s.Val>>16), byte(s.Val>>8), byte(s.Val))
	}
	c.send.out = appendUint32Frame(c.send.out, http2.FrameWindowUpdate, 0, ConnWindow-defaultWindow)
	if err := c.Flush(); err != nil {
		return nil, err
	}
	go c.run()
	return c, nil
}

// Call sends a unary call with the next Flush. When it returns nil, done is completed exactly once; when it returns an error
// (*ConnError, or ErrWaiting), never. req is not kept.
func (c *Conn) Call(m Method, req Message, done Completion) error {
	c.mu.Lock()
	s, err := c.open(opening{method: m})
	if err == nil {
		s.done = done
		c.message(s, req, true)
	}
	c.mu.Unlock()
	return err
}

// open makes a stream, with its HEADERS in the output buffer unless the server's limit is reached.
func (c *Conn) open(o opening) (*stream, error) {
	if c.err != nil {
		return nil, c.err
	}
	if c.nextID > streamIDMax {
		return nil, &ConnError{c.cfg.Address, ErrUsedUp}
	}
	full := uint32(len(c.streams)) >= c.send.streamsMax
	if full && len(c.waiting) >= CallsWaitingMax {
		return nil, ErrWaiting
	}
	var s *stream
	if n := len(c.free); n > 0 {
		s = c.free[n-1]
		c.free = c.free[:n-1]
	} else {
		s = new(stream)
	}
	c.calls++
	s.opening = o
	s.call = c.calls
	if full {
		c.waiting = append(c.waiting, s)
	} else {
		c.start(s)
	}
	return s, nil
}

func (c *Conn) start(s *stream) {
	s.id = c.nextID
	c.nextID += 2
	s.window = c.send.initial
	c.streams[s.id] = s
	c.headersOut(s)
}

// leave takes s out of the table, and lets a waiting call have its place.
func (c *Conn) leave(s *stream) {
	if s.flags&flagBlocked != 0 {
		c.send.unblock(s)
	}
	delete(c.streams, s.id)
	s.flags |= flagEnded
	for len(c.waiting) > 0 && uint32(len(c.streams)) < c.send.streamsMax && c.err == nil {
		next := c.waiting[0]
		c.waiting[0] = nil
		c.waiting = c.waiting[1:]
		c.start(next)
		c.pump(next)
	}
}

// recycle keeps s for the next call. Streams with a handle are not recycled: somebody may hold the handle.
func (c *Conn) recycle(s *stream) {
	if s.current != nil || len(c.free) >= streamsKept {
		return
	}
	own, pend := s.own, s.pend
	if cap(own) > bufferKeep {
		own = nil
	}
	if cap(pend) > bufferKeep {
		pend = nil
	}
	*s = stream{own: own[:0], pend: pend[:0]}
	c.free = append(c.free, s)
}

// Err is why the connection takes no more calls, nil while it does.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Endpoint is the address of the server.
func (c *Conn) Endpoint() string { return c.cfg.Address }

// Gone is closed when the connection has ended and every call on it was completed.
func (c *Conn) Gone() <-chan struct{} { return c.done }

// Close ends the connection and waits until every call under way was completed with ErrClosed. It must not be called from a
// callback.
func (c *Conn) Close() {
	c.refuse(ErrClosed)
	c.nc.Close()
	<-c.done
}

// refuse makes the connection take no more calls because of err; the first reason counts.
func (c *Conn) refuse(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		var already *ConnError
		if !errors.As(err, &already) {
			err = &ConnError{c.cfg.Address, err}
		}
		c.err = err
	}
}

// sender is the outgoing half; Conn.mu guards it.
type sender struct {
	out, spare []byte // what Flush writes next, and the buffer it wrote last
	flushing   bool   // somebody writes; what is added to out goes after it
	try        attempt

	window     int64 // of the connection, bytes
	initial    int64 // of a new stream, bytes
	frame      int   // the server's SETTINGS_MAX_FRAME_SIZE
	streamsMax uint32
	blocked    []*stream // with pend and no window

	headers headerEncoder
}

func (s *sender) init(cfg *Config) {
	s.window, s.initial, s.frame, s.streamsMax = defaultWindow, defaultWindow, defaultFrame, 1<<32-1
	s.headers.init(cfg)
	s.try.init()
}

func (s *sender) unblock(x *stream) {
	for i, b := range s.blocked {
		if b == x {
			s.blocked = append(s.blocked[:i], s.blocked[i+1:]...)
			break
		}
	}
	x.flags &^= flagBlocked
}
