// Package tcpproxy passes TCP connections on to the members of a store: "quorate gateway", etcd's gateway.
//
// It does not know what the connections carry, ends no TLS, and balances connections, not requests. Package gateway is another
// thing: the JSON gateway of a member.
//
// How data passes: Serve accepts a connection, asks the remotes for one that answers, and copies both directions until both have
// ended. The end of one direction is passed on alone; anything else ends both, with a reset, so that neither side takes a broken
// connection for a complete one. A remote that cannot be connected to is set aside at once; a goroutine of its own tries it after
// Options.RetryDelay, so that no client waits for a remote that is known to be gone.
//
// Invariants: a client is refused only when every remote was tried on its behalf, those set aside too; a remote is set aside for
// what it did, never because this process has run out of something; at most Options.Connections connections are open, and every
// goroutine has ended when Serve returns.
package tcpproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"quorate.dev/quorate/internal/clock"
)

// Bounds.
const (
	DialTimeout    = 3 * time.Second        // to connect to one remote: a lost packet is sent again twice
	MaxConnections = 20_000                 // open at a time when Options say nothing
	acceptPause    = 100 * time.Millisecond // before the next connection is accepted when there was no file descriptor for one
)

// Target is a member, and how it is preferred (RFC 2782).
type Target struct {
	Addr     string // host:port
	Priority uint16 // the lowest that answers gets all connections
	Weight   uint16 // share of the connections among those of one priority; 0 for all: they take turns
}

// Options are what a proxy is made of.
type Options struct {
	Targets     []Target
	RetryDelay  time.Duration // after which a remote that was set aside is tried again; positive
	Connections int           // open at a time; 0 is MaxConnections
	Clock       clock.Clock
	Log         *zap.Logger

	// Dial connects to an address of the network "tcp"; nil is net.Dialer's.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Random draws from [0, n); nil is math/rand's.
	Random func(n int) int
}

// Proxy passes connections on. Serve may be called once.
type Proxy struct {
	o       Options
	remotes *remotes
	work    sync.WaitGroup

	mu   sync.Mutex
	open map[*link]struct{}
	full bool // somebody was refused because too many are open, and nobody has left since
}

// New checks the options.
func New(o Options) (*Proxy, error) {
	if len(o.Targets) == 0 {
		return nil, errors.New("no endpoints: name at least one member")
	}
	if o.RetryDelay <= 0 {
		return nil, fmt.Errorf("retry delay %s: it must be positive", o.RetryDelay)
	}
	for _, t := range o.Targets {
		if _, _, err := net.SplitHostPort(t.Addr); err != nil {
			return nil, fmt.Errorf("endpoint %q is not host:port: %w", t.Addr, err)
		}
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.Random == nil {
		o.Random = rand.IntN
	}
	if o.Connections == 0 {
		o.Connections = MaxConnections
	}
	return &Proxy{o: o, remotes: newRemotes(o.Targets, o.Random), open: map[*link]struct{}{}}, nil
}

// Serve passes connections of l on until ctx ends. Then it closes l and all connections, waits for what it started, and returns
// nil; an error is one of l, after the same.
func (p *Proxy) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer p.work.Wait()
	defer cancel()
	p.work.Go(func() {
		<-ctx.Done()
		_ = l.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		for k := range p.open {
			k.abort()
		}
	})
	p.o.Log.Info("ready to proxy client requests", zap.Strings("endpoints", p.remotes.addrs()))
	for {
		c, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = c.Close()
			}
			return nil
		case err == nil:
			p.work.Go(func() { p.serve(ctx, c) })
		case exhausted(err) || errors.Is(err, syscall.ECONNABORTED):
			p.o.Log.Warn("cannot accept a connection; raise the limit of open files if this lasts", zap.Error(err))
			p.pause(ctx, acceptPause)
		default:
			return fmt.Errorf("accept connections: %w", err)
		}
	}
}

// pause waits and reports whether ctx goes on.
func (p *Proxy) pause(ctx context.Context, d time.Duration) bool {
	t := p.o.Clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// serve is the life of one client's connection.
func (p *Proxy) serve(ctx context.Context, client net.Conn) {
	k := &link{client: client}
	if !p.add(ctx, k) {
		k.abort()
		return
	}
	defer p.remove(k)
	remote, err := p.connect(ctx)
	if err != nil {
		if ctx.Err() == nil {
			p.o.Log.Warn("refused a connection: no endpoint can be connected to", zap.Stringer("client", client.RemoteAddr()), zap.Error(err))
		}
		k.abort()
		return
	}
	if !k.join(remote) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { k.pass(remote, client) })
	k.pass(client, remote)
	both.Wait()
	k.close()
}

// add counts a connection and reports whether it may go on.
func (p *Proxy) add(ctx context.Context, k *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	if len(p.open) >= p.o.Connections {
		if !p.full {
			p.full = true
			p.o.Log.Warn("refusing connections: as many are open as may be", zap.Int("open", len(p.open)))
		}
		return false
	}
	p.open[k] = struct{}{}
	return true
}

func (p *Proxy) remove(k *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, k)
	p.full = false
}

// connect tries every remote once, those that were set aside last.
func (p *Proxy) connect(ctx context.Context) (net.Conn, error) {
	var tried []*remote
	var failures error
	for {
		r := p.remotes.pick(tried)
		if r == nil {
			return nil, failures
		}
		tried = append(tried, r)
		c, err := p.dial(ctx, r)
		if err == nil {
			return c, nil
		}
		failures = errors.Join(failures, err)
		if ctx.Err() != nil || exhausted(err) {
			return nil, failures
		}
	}
}

// dial connects to a remote and remembers whether that was possible.
func (p *Proxy) dial(ctx context.Context, r *remote) (net.Conn, error) {
	limited, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	c, err := p.o.Dial(limited, "tcp", r.Addr)
	switch {
	case err == nil:
		if p.remotes.restore(r) {
			p.o.Log.Info("endpoint can be connected to again", zap.String("address", r.Addr))
		}
	case ctx.Err() != nil || exhausted(err):
	case p.remotes.setAside(r):
		p.o.Log.Warn("endpoint set aside: it cannot be connected to", zap.String("address", r.Addr), zap.Duration("retry-delay", p.o.RetryDelay), zap.Error(err))
		p.work.Go(func() { p.retry(ctx, r) })
	}
	return c, err
}

// retry tries a remote that was set aside until it answers, or somebody else finds that it does.
func (p *Proxy) retry(ctx context.Context, r *remote) {
	for p.remotes.goOn(r) && p.pause(ctx, p.o.RetryDelay) {
		if !p.remotes.isAside(r) {
			continue
		}
		if c, err := p.dial(ctx, r); err == nil {
			_ = c.Close()
		}
	}
}

// exhausted says that an error is this process's lack of something.
func exhausted(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// link is a client's connection and the one that it is passed on by.
type link struct {
	mu     sync.Mutex
	ended  bool
	client net.Conn
	remote net.Conn // nil while it is being sought
}

// join adds the remote side and reports whether the client's is still there; if not, the remote's is closed.
func (k *link) join(remote net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended {
		_ = remote.Close()
		return false
	}
	k.remote = remote
	return true
}

// pass copies one direction, and its end.
func (k *link) pass(dst, src net.Conn) {
	_, err := io.Copy(dst, src)
	if half, ok := dst.(interface{ CloseWrite() error }); ok && err == nil {
		err = half.CloseWrite()
	}
	if err != nil {
		k.abort()
	}
}

// close ends both connections after all that was written has been sent.
func (k *link) close() { k.end(false) }

// abort ends both connections at once, so that both sides see that something is missing.
func (k *link) abort() { k.end(true) }

func (k *link) end(reset bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended {
		return
	}
	k.ended = true
	for _, c := range []net.Conn{k.client, k.remote} {
		if c == nil {
			continue
		}
		if t, ok := c.(interface{ SetLinger(sec int) error }); ok && reset {
			_ = t.SetLinger(0)
		}
		_ = c.Close()
	}
}
