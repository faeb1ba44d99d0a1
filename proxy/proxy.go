package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"quorate.dev/quorate/certs"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/proxy/fan"
	"quorate.dev/quorate/proxy/keep"
	"quorate.dev/quorate/proxy/upstream"
	"quorate.dev/quorate/rpc"
)

// Proxy is a running proxy.
type Proxy struct {
	cfg     Config
	log     *zap.Logger
	clock   clock.Clock
	pool    *upstream.Pool
	forward *forwarder
	hubs
	observer *observer
	storeTLS func() *tls.Config // nil for plain connections

	server  *rpc.Server
	monitor *http.Server // of --metrics-addr; nil for none
	doors   doors
	crew    *crew
	client  *clientv3.Client // nil without registration
	failed  chan error
	life
}

// hubs are what the streams of many clients share.
type hubs struct {
	watches *fan.Hub
	leases  *keep.Hub
}

// life ends what runs.
type life struct {
	work  sync.WaitGroup     // what runs beside the servers
	leave context.CancelFunc // ends the registration and other work of the proxy's own
	stop  context.CancelFunc // ends streams
}

// doors are the bound addresses.
type doors struct {
	client, metrics net.Listener // metrics is nil for none
	secure          bool
}

// Options are what a Proxy needs besides its Config. All may be left out.
type Options struct {
	Log   *zap.Logger // nil logs nothing
	Clock clock.Clock // nil is the machine's
}

// agent is how the proxy introduces itself to the store.
const agent = "quorate-proxy"

// Start starts a proxy, which serves when Start returns. It does not wait for the store, unless Config.Ordering is set; ctx
// bounds that. An error says which setting is wrong.
func Start(ctx context.Context, cfg Config, o Options) (*Proxy, error) {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Clock == nil {
		o.Clock = clock.Real()
	}
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	p := &Proxy{cfg: cfg, log: o.Log, clock: o.Clock, failed: make(chan error, 2)}
	if err := p.prepare(); err != nil {
		p.abandon()
		return nil, err
	}
	running, leave := context.WithCancel(context.Background())
	p.leave = leave
	p.work.Go(func() { p.forward.reads.run(running) })
	if cfg.Ordering {
		if err := p.recoverOrder(ctx); err != nil {
			p.abandon()
			return nil, err
		}
	}
	if err := p.accompany(running); err != nil {
		p.abandon()
		return nil, err
	}
	p.serve()
	p.log.Info("started gRPC proxy", zap.String("address", p.Address()))
	return p, nil
}

// prepare makes everything and starts nothing but the connections to the store.
func (p *Proxy) prepare() error {
	keeper, err := p.storeKeeper()
	if err != nil {
		return err
	}
	if keeper != nil {
		p.storeTLS = func() *tls.Config {
			c := keeper.Client()
			if p.cfg.Store.SkipVerify {
				c.InsecureSkipVerify, c.VerifyConnection = true, nil
			}
			return c
		}
	}
	if err := p.listen(); err != nil {
		return err
	}
	pool := upstream.Config{Endpoints: p.cfg.Store.Endpoints, TLS: p.storeTLS, Agent: agent, Clock: p.clock,
		Log: func(msg string, kv ...any) { p.log.Sugar().Warnw(msg, kv...) }}
	if p.cfg.Store.KeepaliveTime > 0 {
		pool.ProbeInterval, pool.Silence = min(p.cfg.Store.KeepaliveTime, upstream.ProbeInterval), p.cfg.Store.KeepaliveTime+p.cfg.Store.KeepaliveTimeout
	}
	if p.pool, err = upstream.New(pool); err != nil {
		return err
	}
	stopping, stop := context.WithCancel(context.Background())
	p.stop = stop
	p.forward = &forwarder{ctx: stopping, pool: p.pool, clock: p.clock, log: p.log, space: newNamespace(p.cfg.Namespace), wait: p.cfg.Store.Wait,
		limits: Limits{Send: p.cfg.Store.MaxSend, Recv: p.cfg.Store.MaxRecv}}
	p.forward.order.on = p.cfg.Ordering
	p.forward.reads.init(p.forward)
	p.watches = fan.New(fan.Config{Pool: p.pool, Clock: p.clock, Namespace: []byte(p.cfg.Namespace)})
	p.leases = keep.New(keep.Config{Pool: p.pool, Clock: p.clock})
	return p.build()
}

// build makes the server and registers every method.
func (p *Proxy) build() error {
	list := methods()
	var calls *zap.Logger
	if p.cfg.LogCalls {
		calls = p.log
	}
	p.observer = newObserver(list, calls)
	a := &p.cfg.Advertise
	p.crew = &crew{address: a.URL, prefix: a.Prefix, ttl: a.TTL, clock: p.clock, log: p.log}
	web := &front{f: p.forward, pool: p.pool, log: p.log, tls: p.storeTLS, metrics: p.metricsHandler()}
	cfg := rpc.Config{HTTP: web.handler(p.cfg.Pprof), StreamsMax: p.cfg.Listen.Streams, KeepaliveMinTime: p.cfg.Keepalive.MinTime,
		KeepaliveInterval: p.cfg.Keepalive.Interval, KeepaliveTimeout: p.cfg.Keepalive.Timeout, Observer: p.observer,
		Log: func(msg string, kv ...any) { p.log.Sugar().Infow(msg, kv...) }}
	var err error
	if p.server, err = rpc.New(cfg); err != nil {
		return err
	}
	if p.doors.metrics != nil {
		p.monitor = &http.Server{Handler: web.handler(false), ReadHeaderTimeout: metricsTimeout}
	}
	for _, m := range list {
		switch {
		case m.name == methodMemberList && p.cfg.Advertise.URL != "":
			p.server.Unary(m.name, p.crew.list)
		case m.name == methodWatch:
			p.server.Stream(m.name, with(p.watches.Watch))
		case m.name == methodKeepAlive:
			p.server.Stream(m.name, with(p.leases.KeepAlive))
		case m.kind == unary:
			p.server.Unary(m.name, p.forward.handler(m.name))
		default:
			p.server.Stream(m.name, p.forward.stream(m.name))
		}
	}
	return nil
}

// with gives a handler of streams the metadata that is passed on.
func with(handle func(*rpc.Stream, []lean.Field) *rpc.Status) rpc.StreamHandler {
	return func(s *rpc.Stream) *rpc.Status {
		o := originOf(s)
		if o.bad != nil {
			return o.bad
		}
		return handle(s, o.meta)
	}
}

// recoverOrder learns a revision that no later answer may be older than.
func (p *Proxy) recoverOrder(ctx context.Context) error {
	p.log.Info("waiting for linearized read from cluster to recover ordering")
	web := &front{f: p.forward, pool: p.pool, log: p.log}
	for {
		reason := web.readable(ctx)
		if reason == "" {
			return nil
		}
		p.log.Warn("ordering recovery failed, retrying in 1s", zap.String("error", reason))
		t := p.clock.NewTimer(time.Second)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("--experimental-serializable-ordering: the store cannot be read: %s: %w", reason, ctx.Err())
		}
	}
}

// serve accepts clients.
func (p *Proxy) serve() {
	p.log.Info("listening for gRPC proxy client requests", zap.String("address", p.Address()), zap.Bool("tls", p.doors.secure))
	p.work.Go(func() {
		if err := p.server.Serve(p.doors.client); err != nil {
			p.failed <- err
		}
	})
	if p.monitor != nil {
		p.work.Go(func() {
			if err := p.monitor.Serve(p.doors.metrics); err != nil && !errors.Is(err, http.ErrServerClosed) {
				p.failed <- err
			}
		})
	}
}

// Address is where clients connect, host:port, with the real port.
func (p *Proxy) Address() string { return p.doors.client.Addr().String() }

// MetricsAddress is where --metrics-addr listens, host:port; "" for nowhere.
func (p *Proxy) MetricsAddress() string {
	if p.doors.metrics == nil {
		return ""
	}
	return p.doors.metrics.Addr().String()
}

// Failed tells why the proxy cannot accept clients any more. That is no reason to stop for those that are connected.
func (p *Proxy) Failed() <-chan error { return p.failed }

// Stop takes this proxy off the list, sends clients away, ends streams, waits for the answers of the store to calls under way,
// until ctx ends, and closes everything.
func (p *Proxy) Stop(ctx context.Context) error {
	p.leave()
	ended := make(chan error, 1)
	go func() { ended <- p.server.Shutdown(ctx) }()
	p.stop()
	p.watches.Close()
	p.leases.Close()
	err := <-ended
	if p.monitor != nil {
		err = errors.Join(err, p.monitor.Close())
	}
	p.pool.Close()
	p.forward.work.Wait()
	p.work.Wait()
	if p.client != nil {
		_ = p.client.Close() // what it says is that it was closed
	}
	p.log.Info("stopped gRPC proxy", zap.String("address", p.Address()))
	return err
}

// abandon ends a start that failed.
func (p *Proxy) abandon() {
	for _, l := range []net.Listener{p.doors.client, p.doors.metrics} {
		if l != nil {
			_ = l.Close()
		}
	}
	if p.leave != nil {
		p.leave()
	}
	if p.stop != nil {
		p.stop()
	}
	if p.watches != nil {
		p.watches.Close()
		p.leases.Close()
	}
	if p.pool != nil {
		p.pool.Close()
	}
	if p.client != nil {
		_ = p.client.Close()
	}
	p.work.Wait()
}

// listen binds the addresses.
func (p *Proxy) listen() error {
	keeper, err := p.clientKeeper()
	if err != nil {
		return err
	}
	bind := func(flag, address string, secure bool, protocols ...string) (net.Listener, error) {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		if secure {
			return keeper.Listen(l, protocols, false), nil
		}
		return l, nil
	}
	p.doors.secure = keeper != nil
	if p.doors.client, err = bind("--listen-addr", p.cfg.Listen.Address, keeper != nil, "h2", "http/1.1"); err != nil || p.cfg.Listen.MetricsURL == "" {
		return err
	}
	u, err := url.Parse(p.cfg.Listen.MetricsURL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("--metrics-addr is %q: it must be a URL such as http://127.0.0.1:2381", p.cfg.Listen.MetricsURL)
	case u.Scheme == "https" && keeper == nil:
		return fmt.Errorf("--metrics-addr is %q: https needs --cert-file and --key-file, or --auto-tls", p.cfg.Listen.MetricsURL)
	}
	p.doors.metrics, err = bind("--metrics-addr", u.Host, u.Scheme == "https", "http/1.1")
	return err
}

// clientKeeper has the certificates shown to clients; nil for plain connections.
func (p *Proxy) clientKeeper() (*certs.Keeper, error) {
	set := p.cfg.Listen.TLS
	switch {
	case set.Empty() && set.CA != "":
		return nil, fmt.Errorf("cannot listen on TLS for %s: KeyFile and CertFile are not presented", p.cfg.Listen.Address)
	case set.Empty() && !p.cfg.Listen.AutoTLS:
		return nil, nil
	case set.Empty():
		made, err := p.autoTLS()
		if err != nil {
			return nil, fmt.Errorf("--auto-tls: %w", err)
		}
		set.Cert, set.Key = made.Cert, made.Key
	}
	keeper, err := certs.New(set, certs.Options{Clock: p.clock,
		Reloaded: func(files []string) { p.log.Info("certificates were loaded again", zap.Strings("files", files)) },
		Failed:   func(err error) { p.log.Warn("changed certificates cannot be used", zap.Error(err)) },
		Rejected: func(r certs.Rejection) { p.log.Warn("rejected connection", zap.Any("rejection", r)) }})
	if err != nil {
		return nil, fmt.Errorf("--cert-file, --key-file, --trusted-ca-file, --client-crl-file: %w", err)
	}
	return keeper, nil
}
