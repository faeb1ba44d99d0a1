package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"

	"quorate.dev/quorate/limits"
)

// Rejection is a connection that came to nothing.
type Rejection struct {
	Remote     net.Addr
	ServerName string // whom the client asked for
	Err        error
	Plain      bool // the client does not speak TLS
}

// listener yields connections whose handshakes are over. Each handshake has a goroutine, so that none waits for another.
type listener struct {
	net.Listener
	k         *Keeper
	protocols []string
	addresses bool
	ready     chan accepted
	work      chan struct{} // holds a token for each handshake that computes
	closed    context.Context
	close     context.CancelFunc
	all       sync.WaitGroup

	mu      sync.Mutex
	pending []*greeting // oldest first
	ended   bool
}

type accepted struct {
	conn net.Conn
	err  error
}

// greeting is a handshake under way.
type greeting struct {
	raw    *seam
	host   string // whom it is with
	pushed bool   // given up for another
}

// Listen makes a listener of l whose connections are *tls.Conn after a handshake that offered protocols (ALPN). With addresses,
// the addresses in clients' certificates are checked. The Keeper must not be Empty.
func (k *Keeper) Listen(l net.Listener, protocols []string, addresses bool) net.Listener {
	t := &listener{
		Listener: l, k: k, protocols: protocols, addresses: addresses, ready: make(chan accepted),
		work: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
	}
	t.closed, t.close = context.WithCancel(context.Background())
	outer := &tls.Config{GetConfigForClient: t.configure}
	t.all.Go(func() { t.run(outer) })
	return t
}

// Accept implements net.Listener.
func (t *listener) Accept() (net.Conn, error) {
	select {
	case a := <-t.ready:
		return a.conn, a.err
	case <-t.closed.Done():
		return nil, net.ErrClosed
	}
}

// Close ends all handshakes under way, too.
func (t *listener) Close() error {
	err := t.Listener.Close()
	t.close()
	t.mu.Lock()
	t.ended = true
	for _, g := range t.pending {
		_ = g.raw.Close()
	}
	t.mu.Unlock()
	t.all.Wait()
	return err
}

// run accepts. An error is passed on, and nothing is accepted until somebody took it.
func (t *listener) run(outer *tls.Config) {
	for {
		raw, err := t.Listener.Accept()
		if err == nil {
			if g := t.enter(raw); g != nil {
				t.all.Go(func() { t.greet(g, outer) })
			}
			continue
		}
		var temporary interface{ Temporary() bool }
		select {
		case t.ready <- accepted{err: err}:
		case <-t.closed.Done():
			return
		}
		if !errors.As(err, &temporary) || !temporary.Temporary() {
			return
		}
	}
}

// enter notes a connection. When there are too many, the oldest of the host that has most of them gives way: a client in
// earnest is through long before it is the oldest, and a host that begins handshakes and leaves them harms itself first.
func (t *listener) enter(raw net.Conn) *greeting {
	g := &greeting{raw: &seam{Conn: raw, greeted: greeted{first: []byte{}}}, host: hostOf(raw.RemoteAddr())}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		_ = raw.Close()
		return nil
	}
	if len(t.pending) >= limits.HandshakesPending {
		t.giveWay()
	}
	t.pending = append(t.pending, g)
	return g
}

// giveWay ends one handshake. mu held.
func (t *listener) giveWay() {
	count, most := map[string]int{}, 0
	for _, g := range t.pending {
		count[g.host]++
		most = max(most, count[g.host])
	}
	for i, g := range t.pending {
		if count[g.host] == most {
			g.pushed = true
			t.pending = append(t.pending[:i], t.pending[i+1:]...)
			_ = g.raw.Close()
			return
		}
	}
}

// leave forgets a handshake that is over and says whether it was given up for another.
func (t *listener) leave(g *greeting) (pushed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, other := range t.pending {
		if other == g {
			t.pending = append(t.pending[:i], t.pending[i+1:]...)
			break
		}
	}
	return g.pushed
}

func hostOf(a net.Addr) string {
	if a == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}

// greet is the goroutine of a handshake.
func (t *listener) greet(g *greeting, outer *tls.Config) {
	ctx, cancel := context.WithTimeout(t.closed, t.k.options.Timeout)
	defer cancel()
	conn := tls.Server(g.raw, outer)
	err := conn.HandshakeContext(ctx)
	g.raw.computed()
	if err == nil && !t.leave(g) {
		g.raw.first = nil
		t.k.counts.handshakes.Add(1)
		select {
		case t.ready <- accepted{conn: conn}:
		case <-t.closed.Done():
			_ = conn.Close()
		}
		return
	}
	rejection := Rejection{Remote: g.raw.RemoteAddr(), ServerName: g.raw.asked, Err: err}
	if header := (tls.RecordHeaderError{}); errors.As(err, &header) {
		rejection.Plain = answerPlain(t.closed, g.raw)
	} else if g.raw.asking {
		farewell(t.closed, g.raw)
	}
	_ = g.raw.Close()
	switch {
	case t.leave(g):
		rejection.Err = fmt.Errorf("the handshake did not end before %d others had begun", limits.HandshakesPending)
	case t.closed.Err() != nil:
		return
	case errors.Is(err, context.DeadlineExceeded):
		rejection.Err = fmt.Errorf("the handshake did not end within %v", t.k.options.Timeout)
	}
	t.k.counts.rejected.Add(1)
	if t.k.options.Rejected != nil {
		t.k.options.Rejected(rejection)
	}
}

// configure is called when a client's first message is there. Computing the answer is the costly part: not all processors do
// that at the same time.
func (t *listener) configure(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	raw := hello.Conn.(*seam)
	raw.asked, raw.asking = hello.ServerName, true
	select {
	case t.work <- struct{}{}:
		raw.release = func() { <-t.work }
	case <-hello.Context().Done():
		return nil, hello.Context().Err()
	}
	remote := ""
	if t.addresses {
		remote = raw.RemoteAddr().String()
	}
	return t.k.server(hello.Context(), t.protocols, remote), nil
}

// seam is the connection below TLS. It can gather what TLS writes, a record at a time, so that all of it leaves at once.
type seam struct {
	net.Conn
	greeted

	mu   sync.Mutex
	held bool
	buf  []byte
}

// greeted is what a handshake leaves behind. It belongs to its goroutine.
type greeted struct {
	asked   string // the name the client asked for
	asking  bool   // the client has said something that makes sense
	release func() // ends the costly part
	first   []byte // what the client sent first, nil once that does not matter
}

// firstBytes is how much of what a client sends first is kept: it may turn out not to be TLS.
const firstBytes = 1 << 10

// Read implements net.Conn.
func (s *seam) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if s.first != nil && len(s.first) < firstBytes {
		s.first = append(s.first, p[:min(n, firstBytes-len(s.first))]...)
	}
	return n, err
}

// computed ends the costly part of the handshake, if that has not been done.
func (s *seam) computed() {
	if s.release != nil {
		s.release()
		s.release = nil
	}
}

// Write implements net.Conn.
func (s *seam) Write(p []byte) (int, error) {
	if s.release != nil { // only during the handshake, which one goroutine does
		s.computed()
	}
	s.mu.Lock()
	if s.held {
		s.buf = append(s.buf, p...)
		s.mu.Unlock()
		return len(p), nil
	}
	s.mu.Unlock()
	return s.Conn.Write(p)
}

// Hold makes what is written wait for Release.
func (s *seam) Hold() {
	s.mu.Lock()
	s.held = true
	if s.buf == nil {
		s.buf = (*gathered.Get().(*[]byte))[:0]
	}
	s.mu.Unlock()
}

// Release writes what has waited.
func (s *seam) Release() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = false
	var err error
	if len(s.buf) > 0 {
		_, err = s.Conn.Write(s.buf)
	}
	if b := s.buf[:0]; cap(b) <= gatheredBytes {
		gathered.Put(&b)
	}
	s.buf = nil
	return err
}

// CloseWrite ends the sending side only, where that is possible.
func (s *seam) CloseWrite() error {
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// gatheredBytes is the memory of what is gathered: one write of package rpc and what TLS adds.
const gatheredBytes = 72 << 10

var gathered = sync.Pool{New: func() any { b := make([]byte, 0, gatheredBytes); return &b }}
