package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/load/lean"
)

// Config says where the store is.
type Config struct {
	// Endpoints are the members' client URLs, or host:port; at least one and at most EndpointsMax. https needs TLS, http
	// forbids it, neither uses it when it is there; unix and unixs are sockets of this machine.
	Endpoints []string
	TLS       *tls.Config // nil for plain connections
	Agent     string      // user-agent

	DialTimeout   time.Duration // of one attempt, handshake included; 0 is DialTimeout
	ProbeInterval time.Duration // between questions about a member; 0 is ProbeInterval
	ProbeTimeout  time.Duration // for their answers; 0 is ProbeTimeout
	Silence       time.Duration // a connection without answers for so long is closed; 0 is SilenceMax

	Clock clock.Clock // nil is the machine's
	// Log gets what an operator may want to know, as a message and key-value pairs; nil drops it.
	Log func(msg string, kv ...any)
}

// The bounds and defaults of a Pool.
const (
	EndpointsMax  = 256
	DialTimeout   = 5 * time.Second
	ProbeInterval = time.Second
	ProbeTimeout  = 3 * time.Second
	SilenceMax    = time.Minute
	StreamWindow  = 1 << 20 // what the store may send ahead on one stream, bytes
	redialMin     = 20 * time.Millisecond
	redialMax     = 5 * time.Second
)

// ErrNone is why Pick had nothing to give. Use errors.Is.
var ErrNone = errors.New("no endpoint of the store can be reached")

// ErrClosed is what a closed Pool gives. Use errors.Is.
var ErrClosed = errors.New("the proxy is stopping")

// Pool keeps a connection to every endpoint.
type Pool struct {
	cfg  Config
	stop context.CancelFunc
	work sync.WaitGroup
	turn atomic.Uint32

	mu      sync.Mutex
	lanes   []*lane
	changed chan struct{} // closed, and replaced, whenever a Conn becomes usable
	closed  bool
}

// lane is one endpoint.
type lane struct {
	endpoint string // as given
	lean     lean.Config
	conn     atomic.Pointer[Conn] // nil while there is none
	lastErr  atomic.Pointer[error]
}

// New starts to dial the endpoints and does not wait for them. An error says which endpoint is wrong.
func New(cfg Config) (*Pool, error) {
	cfg.DialTimeout = cmp.Or(cfg.DialTimeout, DialTimeout)
	cfg.ProbeInterval = cmp.Or(cfg.ProbeInterval, ProbeInterval)
	cfg.ProbeTimeout = cmp.Or(cfg.ProbeTimeout, ProbeTimeout)
	cfg.Silence = cmp.Or(cfg.Silence, SilenceMax)
	if cfg.Clock == nil {
		cfg.Clock = clock.Real()
	}
	if cfg.Log == nil {
		cfg.Log = func(string, ...any) {}
	}
	if n := len(cfg.Endpoints); n == 0 || n > EndpointsMax {
		return nil, fmt.Errorf("upstream: %d endpoints are given; there must be 1 to %d", n, EndpointsMax)
	}
	p := &Pool{cfg: cfg, changed: make(chan struct{})}
	for _, e := range cfg.Endpoints {
		lc, err := address(e, cfg.TLS)
		if err != nil {
			return nil, err
		}
		lc.Agent, lc.Window = cfg.Agent, StreamWindow
		p.lanes = append(p.lanes, &lane{endpoint: e, lean: lc})
	}
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	for _, l := range p.lanes {
		p.work.Go(func() { p.keep(ctx, l) })
	}
	return p, nil
}

// address understands an endpoint as etcd's clients do.
func address(endpoint string, conf *tls.Config) (lean.Config, error) {
	scheme, rest, found := strings.Cut(endpoint, "://")
	if !found {
		scheme, rest = "", endpoint
		if s, after, is := strings.Cut(endpoint, ":"); is && (s == "unix" || s == "unixs") {
			scheme, rest = s, after
		}
	}
	c := lean.Config{Address: rest, TLS: conf}
	switch scheme {
	case "", "https", "unixs":
		if scheme != "" && conf == nil {
			c.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		}
	case "http", "unix":
		c.TLS = nil
	default:
		return c, fmt.Errorf("upstream: endpoint %q: the scheme must be http, https, unix or unixs", endpoint)
	}
	if strings.HasPrefix(scheme, "unix") {
		c.Network = "unix"
		return c, nil
	}
	c.Address, _, _ = strings.Cut(rest, "/")
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		return c, fmt.Errorf("upstream: endpoint %q: it must be a URL or host:port: %w", endpoint, err)
	}
	return c, nil
}

// keep has a connection to l until the pool is closed.
func (p *Pool) keep(ctx context.Context, l *lane) {
	wait := redialMin
	for ctx.Err() == nil {
		began := p.cfg.Clock.Now()
		c, err := p.dial(ctx, l)
		if err == nil {
			p.attach(l, c)
			p.watch(ctx, l, c)
			l.conn.Store(nil)
			err = c.lean.Err()
			c.lean.Close()
			if p.cfg.Clock.Now().Sub(began) > redialMax {
				wait = redialMin
			}
		}
		if ctx.Err() != nil {
			return
		}
		l.lastErr.Store(&err)
		p.cfg.Log("no connection to the store", "endpoint", l.endpoint, "error", err, "next-attempt-in", wait)
		t := p.cfg.Clock.NewTimer(wait/2 + rand.N(wait/2+1))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
		wait = min(2*wait, redialMax)
	}
}

func (p *Pool) dial(ctx context.Context, l *lane) (*Conn, error) {
	dialing, cancel := context.WithTimeout(ctx, p.cfg.DialTimeout)
	defer cancel()
	raw, err := lean.Dial(dialing, l.lean)
	if err != nil {
		return nil, err
	}
	return newConn(raw, l.endpoint), nil
}

// attach lets Pick give c out.
func (p *Pool) attach(l *lane, c *Conn) {
	l.conn.Store(c)
	p.announce()
}

// announce wakes who waits for a connection.
func (p *Pool) announce() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
}

// Pick returns a connection whose member serves, in turn; without any, one whose member is at least reachable: a member
// without a leader still answers serializable reads. Without that it waits until ctx ends, and the error, which is ErrNone or
// ErrClosed, says why the last attempt to connect failed.
func (p *Pool) Pick(ctx context.Context) (*Conn, error) { return p.PickOther(ctx, nil) }

// PickOther is Pick, preferring any other connection to avoid.
func (p *Pool) PickOther(ctx context.Context, avoid *Conn) (*Conn, error) {
	for {
		if c := p.now(avoid); c != nil {
			return c, nil
		}
		p.mu.Lock()
		changed, closed := p.changed, p.closed
		p.mu.Unlock()
		if closed {
			return nil, ErrClosed
		}
		if c := p.now(avoid); c != nil { // it came before changed was looked at
			return c, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, p.none()
		}
	}
}

// Now is Pick without waiting: nil when there is no connection.
func (p *Pool) Now() *Conn { return p.now(nil) }

func (p *Pool) now(avoid *Conn) *Conn {
	first := int(p.turn.Add(1))
	var reachable *Conn
	for i := range p.lanes {
		c := p.lanes[(first+i)%len(p.lanes)].conn.Load()
		if c == nil || c.lean.Err() != nil {
			continue
		}
		if c != avoid && c.Serving() {
			return c
		}
		if reachable == nil || reachable == avoid || !reachable.Serving() && c.Serving() {
			reachable = c
		}
	}
	return reachable
}

func (p *Pool) none() error {
	for _, l := range p.lanes {
		if err := l.lastErr.Load(); err != nil {
			return fmt.Errorf("%w: %w", ErrNone, *err)
		}
	}
	return ErrNone
}

// Close closes every connection, which ends what is under way on them, and waits until that is done.
func (p *Pool) Close() {
	p.mu.Lock()
	already := p.closed
	p.closed = true
	p.mu.Unlock()
	p.stop()
	p.work.Wait()
	if !already {
		p.announce()
	}
}
