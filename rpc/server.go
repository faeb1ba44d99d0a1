package rpc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what a Server needs to know. The zero value of every field is safe.
type Config struct {
	// HTTP gets every request that is not gRPC, over HTTP/1.1 and HTTP/2 alike; nil answers 404.
	HTTP http.Handler
	// MessageBytesMax bounds a request message, before and after decompression, in bytes; 0 means 4 MiB.
	MessageBytesMax int
	// StreamsMax bounds the open streams of a connection; 0 means 65,536. At math.MaxUint32 no limit is announced, and
	// memory alone (limits.go) bounds them.
	StreamsMax uint32

	// KeepaliveMinTime is the shortest time between two pings a client may send; more often gets it a GOAWAY. 0 means 5 s.
	KeepaliveMinTime time.Duration
	// KeepalivePermitWithoutStream lets clients ping that often also without open streams; else once in 2 h.
	KeepalivePermitWithoutStream bool
	// KeepaliveInterval is the silence after which the server pings; 0 means 2 h, negative never.
	KeepaliveInterval time.Duration
	// KeepaliveTimeout is the wait for an answer to that ping; 0 means 20 s.
	KeepaliveTimeout time.Duration

	// ConnectionAgeMax is the age, give or take a tenth, at which a connection is drained; 0 for never.
	ConnectionAgeMax time.Duration
	// ConnectionAgeGrace is how long such a connection may take to drain; 0 for as long as its streams live.
	ConnectionAgeGrace time.Duration

	// HandshakeTimeout bounds the TLS handshake together with the first bytes, and any one header block; 0 means 10 s.
	HandshakeTimeout time.Duration
	// WriteTimeout is how long a peer may refuse to take a single byte before its connection is cut; 0 means 20 s.
	WriteTimeout time.Duration

	// CertificateNames lets handlers see the common names of verified client certificates: see Call.CertificateCN.
	CertificateNames bool

	// Misdirected is told of clients that begin a TLS handshake on a plain connection; nil for nobody.
	Misdirected func(remote net.Addr)

	// Observer is told what happens; nil for nobody.
	Observer Observer
	// Log gets what an operator may want to know, as a message and key-value pairs; nil drops it.
	Log func(msg string, kv ...any)
}

// Observer counts what a Server does. Its methods are called from many goroutines, some with a connection locked: they
// must be quick, must not block and must not call back into this package.
type Observer interface {
	Started(method string, streaming bool)
	Handled(method string, code Code, took time.Duration)
	MessageReceived(method string)
	MessageSent(method string)
	Bytes(in, out int) // read from and written to HTTP/2 connections, TLS not counted
}

// flushing is who writes for goroutines that answer calls.
type flushing struct {
	flushers []*flusher
	later    later
}

const unlimitedStreams = math.MaxUint32

// withDefaults fills in what is zero, and checks the rest.
func (c Config) withDefaults() (Config, error) {
	if c.MessageBytesMax < 0 || c.MessageBytesMax > math.MaxInt32 {
		return c, fmt.Errorf("rpc: MessageBytesMax is %d; it must lie between 0 (4 MiB) and 2^31-1", c.MessageBytesMax)
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{
		{"KeepaliveMinTime", c.KeepaliveMinTime}, {"KeepaliveTimeout", c.KeepaliveTimeout}, {"ConnectionAgeMax", c.ConnectionAgeMax},
		{"ConnectionAgeGrace", c.ConnectionAgeGrace}, {"HandshakeTimeout", c.HandshakeTimeout}, {"WriteTimeout", c.WriteTimeout},
	} {
		if d.d < 0 {
			return c, fmt.Errorf("rpc: %s is %v; it must not be negative", d.name, d.d)
		}
	}
	setDefault(&c.MessageBytesMax, 4<<20)
	setDefault(&c.StreamsMax, 1<<16)
	setDefault(&c.KeepaliveMinTime, 5*time.Second)
	setDefault(&c.KeepaliveInterval, 2*time.Hour)
	setDefault(&c.KeepaliveTimeout, 20*time.Second)
	setDefault(&c.HandshakeTimeout, 10*time.Second)
	setDefault(&c.WriteTimeout, 20*time.Second)
	if c.HTTP == nil {
		c.HTTP = http.NotFoundHandler()
	}
	return c, nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// sweepPeriod is how often connections are looked at: often enough for the shortest time that is configured.
func (c *Config) sweepPeriod() time.Duration {
	p := sweepMax
	for _, d := range []time.Duration{c.KeepaliveInterval, c.KeepaliveTimeout, c.ConnectionAgeMax, c.ConnectionAgeGrace, c.HandshakeTimeout} {
		if d > 0 {
			p = min(p, d/4)
		}
	}
	return max(p, sweepMin)
}

// Server serves gRPC and HTTP on any number of listeners.
type Server struct {
	cfg      Config
	routes   map[string]*method
	services map[string]bool
	holds    atomic.Int64
	flushing
	crowd    crowd
	turn     atomic.Uint32 // which flusher the next connection gets
	web      *http.Server  // serves HTTP/1.1 connections
	webConns chanListener

	work   sync.WaitGroup // connections and stream handlers
	mu     sync.Mutex
	open   map[net.Listener]bool
	conns  map[net.Conn]*conn // nil while the protocol of a connection is unknown
	state  serverState
	ending chan struct{} // closed with the first Shutdown or Close
}

type serverState int

const (
	stateNew serverState = iota
	stateServing
	stateDraining
	stateClosed
)

// New returns a server without methods. An error says which field of the configuration is wrong.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, routes: map[string]*method{}, services: map[string]bool{}, open: map[net.Listener]bool{},
		conns: map[net.Conn]*conn{}, ending: make(chan struct{}), webConns: newChanListener(),
	}
	s.web = s.newWebServer()
	s.crowd.init()
	for range min(runtime.GOMAXPROCS(0), 4) {
		s.flushers = append(s.flushers, newFlusher(&s.holds))
	}
	return s, nil
}

func (s *Server) logf(msg string, kv ...any) {
	if s.cfg.Log != nil {
		s.cfg.Log(msg, kv...)
	}
}

// flusherFor assigns the flushers in turn.
func (s *Server) flusherFor() *flusher {
	return s.flushers[s.turn.Add(1)%uint32(len(s.flushers))]
}

// Unary registers the handler of a unary method, for example "/etcdserverpb.KV/Put". All registering comes before Serve;
// a malformed name, a second handler or a late one is a bug of the caller and panics.
func (s *Server) Unary(fullMethod string, h UnaryHandler) {
	s.register(&method{path: fullMethod, unary: h})
}

// Stream registers the handler of a streaming method, whichever side streams. The same rules as for Unary.
func (s *Server) Stream(fullMethod string, h StreamHandler) {
	s.register(&method{path: fullMethod, stream: h})
}

func (s *Server) register(m *method) {
	at := strings.LastIndexByte(m.path, '/')
	if at < 2 || m.path[0] != '/' || at == len(m.path)-1 {
		panic(fmt.Sprintf("BUG: %q is no full method name; want /service/method", m.path))
	}
	if s.routes[m.path] != nil {
		panic("BUG: two handlers for " + m.path)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != stateNew {
		panic("BUG: handler for " + m.path + " registered after Serve")
	}
	s.routes[m.path] = m
	s.services[m.path[1:at]] = true
}

// Serve accepts connections from l until Shutdown or Close, which make it return nil; any other error is l's. It may
// run for several listeners at once, and closes l. From a plain listener the first bytes tell HTTP/2 from HTTP/1.1;
// a listener that yields *tls.Conn must offer "h2" and "http/1.1" by ALPN, and what was negotiated decides.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	if !s.enter(l) {
		return nil
	}
	var delay time.Duration
	for {
		nc, err := l.Accept()
		if err == nil {
			delay = 0
			s.accept(nc)
			continue
		}
		select {
		case <-s.ending:
			return nil
		default:
		}
		var temporary interface{ Temporary() bool }
		if !errors.As(err, &temporary) || !temporary.Temporary() {
			return fmt.Errorf("rpc: accept on %v: %w", l.Addr(), err)
		}
		// Most often the process is out of file descriptors: some will be given back.
		delay = min(max(2*delay, 5*time.Millisecond), time.Second)
		s.logf("rpc: accept failed, trying again", "address", l.Addr(), "error", err, "wait", delay)
		select {
		case <-s.ending:
			return nil
		case <-time.After(delay):
		}
	}
}

// enter notes a listener, and starts the server's goroutines with the first one.
func (s *Server) enter(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state >= stateDraining {
		return false
	}
	s.open[l] = true
	if s.state == stateNew {
		s.state = stateServing
		for _, f := range s.flushers {
			go f.run()
		}
		go s.sweep()
		go func() { _ = s.web.Serve(&s.webConns) }() // it returns when the server is closed, and only then
	}
	return true
}

// accept starts the goroutine of a connection.
func (s *Server) accept(nc net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state >= stateDraining {
		nc.Close()
		return
	}
	s.conns[nc] = nil
	s.work.Add(1)
	go s.handle(nc)
}

// attach notes that nc speaks HTTP/2; false when the server has closed.
func (s *Server) attach(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == stateClosed {
		return false
	}
	s.conns[c.nc] = c
	if s.state == stateDraining {
		c.mu.Lock()
		c.drain(time.Now(), 0)
		c.unlockAndKick()
	}
	return true
}

func (s *Server) detach(nc net.Conn) {
	s.mu.Lock()
	delete(s.conns, nc)
	s.mu.Unlock()
}

// sweep looks after all connections from time to time: one timer for everything that is about time, but calls' deadlines.
func (s *Server) sweep() {
	t := time.NewTicker(s.cfg.sweepPeriod())
	defer t.Stop()
	ending := s.ending
	for {
		select {
		case <-ending:
			t.Reset(sweepMin) // connections that have drained are closed without delay
			ending = nil
		case <-t.C:
		}
		now := time.Now()
		s.mu.Lock()
		for _, c := range s.conns {
			if c != nil {
				c.tick(now)
			}
		}
		closed := s.state == stateClosed
		s.mu.Unlock()
		if closed {
			return
		}
	}
}

// Shutdown stops accepting, tells every client to go away, waits until all open calls and streams have ended and closes.
// When ctx ends first, the rest is cut as by Close and the context's error is returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.leave(stateDraining)
	now := time.Now()
	s.mu.Lock()
	for nc, c := range s.conns {
		if c == nil {
			nc.Close()
			continue
		}
		c.mu.Lock()
		c.drain(now, 0)
		c.unlockAndKick()
	}
	s.mu.Unlock()
	err := s.web.Shutdown(ctx)
	drained := make(chan struct{})
	go func() {
		s.work.Wait()
		close(drained)
	}()
	select {
	case <-drained:
	case <-ctx.Done():
		err = ctx.Err()
	}
	return errors.Join(err, s.Close())
}

// Close cuts all connections, which cancels the contexts of their calls, and returns when every handler has returned.
func (s *Server) Close() error {
	s.leave(stateClosed)
	err := s.web.Close()
	s.mu.Lock()
	for nc := range s.conns {
		nc.Close()
	}
	s.mu.Unlock()
	s.work.Wait()
	for _, f := range s.flushers {
		f.close()
	}
	return err
}

// leave moves to a later state and closes the listeners.
func (s *Server) leave(to serverState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state < stateDraining {
		close(s.ending)
	}
	s.state = max(s.state, to)
	for l := range s.open {
		l.Close()
		delete(s.open, l)
	}
}
