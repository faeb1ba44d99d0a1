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
	TLS       func() *tls.Config // asked for each attempt to connect; nil for plain connections
	Agent     string             // user-agent

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
	SilenceMax    = 15 * time.Second
	StreamWindow  = 1 << 20 // what the store may send ahead on one stream, bytes
	RetireGrace   = 30 * time.Second
	redialMin     = 20 * time.Millisecond
	redialMax     = 5 * time.Second
)

// ErrNone is why Pick had nothing to give. Use errors.Is.
var ErrNone = errors.New("no endpoint of the store can be reached")

// ErrClosed is what a closed Pool gives. Use errors.Is.
var ErrClosed = errors.New("the proxy is stopping")

// Pool keeps a connection to every endpoint.
type Pool struct {
	cfg   Config
	ctx   context.Context // ends with Close
	stop  context.CancelFunc
	work  sync.WaitGroup
	turn  atomic.Uint32
	lanes atomic.Pointer[[]*lane]

	mu      sync.Mutex    // held while lanes are replaced
	changed chan struct{} // closed, and replaced, whenever a Conn becomes usable
	closed  bool
}

// lane is one endpoint.
type lane struct {
	endpoint string // as given
	lean     lean.Config
	secure   bool                 // TLS
	retired  chan struct{}        // closed when the endpoint is one no more
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
	p := &Pool{cfg: cfg, changed: make(chan struct{})}
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.lanes.Store(new([]*lane))
	if err := p.Update(cfg.Endpoints); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// Update makes endpoints those of the pool. What is connected and stays is not touched; the connections to others get no new
// calls and are closed after RetireGrace. An error says which endpoint is wrong, and nothing changes then.
func (p *Pool) Update(endpoints []string) error {
	if n := len(endpoints); n == 0 || n > EndpointsMax {
		return fmt.Errorf("upstream: %d endpoints are given; there must be 1 to %d", n, EndpointsMax)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	old := map[string]*lane{}
	for _, l := range *p.lanes.Load() {
		old[l.endpoint] = l
	}
	var list, fresh []*lane
	for _, e := range endpoints {
		if l := old[e]; l != nil {
			list = append(list, l)
			delete(old, e)
			continue
		}
		lc, secure, err := address(e, p.cfg.TLS != nil)
		if err != nil {
			return err
		}
		lc.Agent, lc.Window = p.cfg.Agent, StreamWindow
		l := &lane{endpoint: e, lean: lc, secure: secure, retired: make(chan struct{})}
		list, fresh = append(list, l), append(fresh, l)
	}
	p.lanes.Store(&list)
	for _, l := range fresh {
		p.work.Go(func() { p.keep(l) })
	}
	for _, l := range old {
		close(l.retired)
	}
	return nil
}

// address understands an endpoint as etcd's clients do.
func address(endpoint string, secure bool) (c lean.Config, withTLS bool, err error) {
	scheme, rest, found := strings.Cut(endpoint, "://")
	if !found {
		scheme, rest = "", endpoint
		if s, after, is := strings.Cut(endpoint, ":"); is && (s == "unix" || s == "unixs") {
			scheme, rest = s, after
		}
	}
	c = lean.Config{Address: rest}
	switch scheme {
	case "https", "unixs":
		withTLS = true
	case "":
		withTLS = secure
	case "http", "unix":
	default:
		return c, false, fmt.Errorf("upstream: endpoint %q: the scheme must be http, https, unix or unixs", endpoint)
	}
	if strings.HasPrefix(scheme, "unix") {
		c.Network = "unix"
		return c, withTLS, nil
	}
	c.Address, _, _ = strings.Cut(rest, "/")
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		return c, false, fmt.Errorf("upstream: endpoint %q: it must be a URL or host:port: %w", endpoint, err)
	}
	return c, withTLS, nil
}

// keep has a connection to l until it is retired or the pool closed.
func (p *Pool) keep(l *lane) {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	p.work.Go(func() { p.retire(ctx, cancel, l) })
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

// retire ends a lane some time after it was taken out of the list.
func (p *Pool) retire(ctx context.Context, cancel context.CancelFunc, l *lane) {
	select {
	case <-l.retired:
	case <-ctx.Done():
		return
	}
	defer cancel()
	c := l.conn.Load()
	if c == nil {
		return
	}
	c.set(false)
	t := p.cfg.Clock.NewTimer(RetireGrace)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.Lost():
	case <-ctx.Done():
	}
}

func (p *Pool) dial(ctx context.Context, l *lane) (*Conn, error) {
	dialing, cancel := context.WithTimeout(ctx, p.cfg.DialTimeout)
	defer cancel()
	cfg := l.lean
	if l.secure {
		cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		if p.cfg.TLS != nil {
			cfg.TLS = p.cfg.TLS()
		}
	}
	raw, err := lean.Dial(dialing, cfg)
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
	lanes := *p.lanes.Load()
	for i := range lanes {
		c := lanes[(first+i)%len(lanes)].conn.Load()
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
	for _, l := range *p.lanes.Load() {
		if err := l.lastErr.Load(); err != nil {
			return fmt.Errorf("%w: %w", ErrNone, *err)
		}
	}
	return ErrNone
}

// Endpoints are the endpoints now, those whose member serves first.
func (p *Pool) Endpoints() []string {
	var serving, others []string
	for _, l := range *p.lanes.Load() {
		if c := l.conn.Load(); c != nil && c.Serving() {
			serving = append(serving, l.endpoint)
		} else {
			others = append(others, l.endpoint)
		}
	}
	return append(serving, others...)
}

// Counts says how many endpoints there are, to how many a connection is open, and how many of their members serve.
func (p *Pool) Counts() (endpoints, connected, serving int) {
	lanes := *p.lanes.Load()
	for _, l := range lanes {
		if c := l.conn.Load(); c != nil && c.lean.Err() == nil {
			connected++
			if c.Serving() {
				serving++
			}
		}
	}
	return len(lanes), connected, serving
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

// Other is Now, but never avoid.
func (p *Pool) Other(avoid *Conn) *Conn {
	if c := p.now(avoid); c != avoid {
		return c
	}
	return nil
}
