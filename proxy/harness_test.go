package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"quorate.dev/quorate/embed"
	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/proxy"
	"quorate.dev/quorate/rpc"
)

// patience bounds what a test waits for.
const patience = time.Minute

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("it does not happen: %s", what)
		}
	}
}

// wait waits for a channel.
func wait[T any](t testing.TB, what string, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		t.Fatalf("it does not happen: %s", what)
	}
	return v
}

// store starts a store of one member.
func store(t testing.TB, settings map[string]string) *embed.Server {
	t.Helper()
	s, err := embed.Start(within(t), embed.Config{Dir: t.TempDir(), Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return s
}

// start starts a proxy on a free port.
func start(t testing.TB, endpoints []string, edit func(*proxy.Config)) *proxy.Proxy {
	t.Helper()
	cfg := proxy.Default()
	cfg.Listen.Address, cfg.Advertise.URL, cfg.DataDir = "127.0.0.1:0", "", t.TempDir()
	cfg.Store.Endpoints = endpoints
	if edit != nil {
		edit(&cfg)
	}
	p, err := proxy.Start(within(t), cfg, proxy.Options{Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = p.Stop(ctx) // clients that are still connected are cut
	})
	return p
}

// client connects etcd's own client.
func client(t testing.TB, address string, edit func(*clientv3.Config)) *clientv3.Client {
	t.Helper()
	cfg := clientv3.Config{Endpoints: []string{address}, DialTimeout: patience, Logger: zap.NewNop()}
	if edit != nil {
		edit(&cfg)
	}
	c, err := clientv3.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// fake is a store whose answers a test gives.
type fake struct {
	*rpc.Server
	address string
}

// Encoded answers to the proxy's questions about a member.
var (
	statusWell    = []byte{0x20, 1} // leader 1
	healthServing = []byte{0x08, 1}
)

// newFake starts a store that looks well and has the methods that more registers.
func newFake(t testing.TB, more func(s *rpc.Server)) *fake {
	t.Helper()
	s, err := rpc.New(rpc.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s.Unary("/etcdserverpb.Maintenance/Status", func(c *rpc.Call, _ []byte) { c.Reply(rpc.RawMessage(statusWell)) })
	s.Unary("/grpc.health.v1.Health/Check", func(c *rpc.Call, _ []byte) { c.Reply(rpc.RawMessage(healthServing)) })
	more(s)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &kept{Listener: tcp}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		_ = tcp.Close()
		if err := <-served; err != nil {
			t.Errorf("the fake store: %v", err)
		}
	})
	return &fake{s, l.Addr().String()}
}

// kept keeps its port after Close and hangs up on everybody, so that nobody else gets the port.
type kept struct {
	net.Listener
	closed  sync.Once
	hangsUp atomic.Bool
}

// Accept implements net.Listener.
func (k *kept) Accept() (net.Conn, error) {
	c, err := k.Listener.Accept()
	if err == nil && k.hangsUp.Load() {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	return c, err
}

// Close implements net.Listener.
func (k *kept) Close() error {
	k.closed.Do(func() {
		k.hangsUp.Store(true)
		go func() {
			for {
				c, err := k.Listener.Accept()
				if err != nil {
					return
				}
				_ = c.Close()
			}
		}()
	})
	return nil
}

// raw is a message that is its own encoding.
type raw []byte

func (r raw) Size() int                { return len(r) }
func (r raw) Append(dst []byte) []byte { return append(dst, r...) }

// caller is a client that sends any bytes with any metadata.
type caller struct {
	t    testing.TB
	conn *lean.Conn
}

func dial(t testing.TB, address string, conf *tls.Config) *caller {
	t.Helper()
	conn, err := lean.Dial(within(t), lean.Config{Address: address, TLS: conf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return &caller{t, conn}
}

// pending is a call under way.
type pending struct {
	t      testing.TB
	ticket lean.Ticket
	conn   *lean.Conn
	once   sync.Once
	done   chan struct{}
	body   []byte
	err    error
	heads  []lean.Field
}

// Done implements lean.Completion.
func (p *pending) Done(body []byte, err error) {
	p.once.Do(func() {
		p.body, p.err = bytes.Clone(body), err
		close(p.done)
	})
}

// Headers implements lean.HeaderReceiver.
func (p *pending) Headers(metadata []lean.Field, _ bool) { p.heads = append(p.heads, metadata...) }

// wait waits for the end of the call.
func (p *pending) wait() ([]byte, error) {
	p.t.Helper()
	wait(p.t, "the end of a call", p.done)
	return p.body, p.err
}

func (p *pending) cancel() {
	p.ticket.Cancel()
	_ = p.conn.Flush()
}

// begin makes a call.
func (c *caller) begin(method string, timeout time.Duration, msg []byte, metadata ...lean.Field) *pending {
	c.t.Helper()
	h, err := lean.NewHeader(method, metadata...)
	if err != nil {
		c.t.Fatal(err)
	}
	p := &pending{t: c.t, conn: c.conn, done: make(chan struct{})}
	if p.ticket, err = c.conn.CallWith(h, timeout, raw(msg), p); err != nil {
		c.t.Fatal(err)
	}
	if err := c.conn.Flush(); err != nil {
		c.t.Fatal(err)
	}
	return p
}

// call makes a call and waits for its answer.
func (c *caller) call(method string, msg []byte, metadata ...lean.Field) ([]byte, error) {
	c.t.Helper()
	return c.begin(method, 0, msg, metadata...).wait()
}

func wantStatus(t testing.TB, err error, code rpc.Code, text string) {
	t.Helper()
	var s *lean.Status
	if !errors.As(err, &s) || s.Code != int(code) || text != "" && s.Message != text {
		t.Errorf("got %v, want %v %q", err, code, text)
	}
}
