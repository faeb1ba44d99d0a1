package upstream_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/proxy/upstream"
	"quorate.dev/quorate/rpc"
)

// patience bounds what a test waits for.
const patience = time.Minute

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("it does not happen: %s", what)
		}
	}
}

func wait[T any](t testing.TB, what string, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		t.Fatalf("it does not happen: %s", what)
	}
	return v
}

// member is a store of which a test says how it is.
type member struct {
	address string
	server  *rpc.Server
	status  atomic.Pointer[[]byte] // of Status; nil never answers
	silent  atomic.Bool            // nothing is answered
	health  atomic.Pointer[[]byte] // of Health/Check; nil is not there
	puts    atomic.Int64
	conns   counting
}

// counting counts the connections that a listener accepted.
type counting struct {
	net.Listener
	n atomic.Int64
}

// Accept implements net.Listener.
func (c *counting) Accept() (net.Conn, error) {
	nc, err := c.Listener.Accept()
	if err == nil {
		c.n.Add(1)
	}
	return nc, err
}

var (
	well     = []byte{0x20, 1}
	alone    = []byte{0x28, 7}          // no leader, raft index 7
	learner  = []byte{0x20, 1, 0x50, 1} // isLearner
	broken   = []byte{0x20, 0x80}       // not a message
	serving  = []byte{0x08, 1}
	stopping = []byte{0x08, 2}
)

func start(t testing.TB) *member {
	t.Helper()
	m := &member{}
	m.status.Store(&well)
	m.health.Store(&serving)
	var err error
	if m.server, err = rpc.New(rpc.Config{}); err != nil {
		t.Fatal(err)
	}
	answer := func(from *atomic.Pointer[[]byte], without func(*rpc.Call)) rpc.UnaryHandler {
		return func(c *rpc.Call, _ []byte) {
			if m.silent.Load() {
				return
			}
			if b := from.Load(); b != nil {
				c.Reply(rpc.RawMessage(*b))
				return
			}
			without(c)
		}
	}
	m.server.Unary("/etcdserverpb.Maintenance/Status", answer(&m.status, func(*rpc.Call) {}))
	m.server.Unary("/grpc.health.v1.Health/Check", answer(&m.health, func(c *rpc.Call) {
		c.Fail(&rpc.Status{Code: rpc.Unimplemented, Message: "unknown service"})
	}))
	m.server.Unary("/etcdserverpb.KV/Put", func(c *rpc.Call, _ []byte) {
		m.puts.Add(1)
		c.Reply(rpc.RawMessage("ok"))
	})
	m.server.Stream("/etcdserverpb.Watch/Watch", func(s *rpc.Stream) *rpc.Status {
		<-s.Context().Done()
		return nil
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.conns.Listener, m.address = l, l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- m.server.Serve(&m.conns) }()
	t.Cleanup(func() {
		_ = m.server.Close()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return m
}

func pool(t testing.TB, edit func(*upstream.Config), members ...*member) *upstream.Pool {
	t.Helper()
	cfg := upstream.Config{ProbeInterval: 2 * time.Millisecond, ProbeTimeout: patience, Log: func(msg string, kv ...any) { t.Log(append([]any{msg}, kv...)...) }}
	for _, m := range members {
		cfg.Endpoints = append(cfg.Endpoints, m.address)
	}
	if edit != nil {
		edit(&cfg)
	}
	p, err := upstream.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func pick(t testing.TB, p *upstream.Pool) *upstream.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := p.Pick(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wantServing(t testing.TB, p *upstream.Pool, n int) {
	t.Helper()
	eventually(t, "the members serve as they should", func() bool {
		_, _, s := p.Counts()
		return s == n
	})
}

// raw is a message that is its own encoding.
type raw []byte

func (r raw) Size() int                { return len(r) }
func (r raw) Append(dst []byte) []byte { return append(dst, r...) }

type ended chan error

// Done implements lean.Completion.
func (e ended) Done(_ []byte, err error) { e <- err }

// Message implements lean.Handler.
func (e ended) Message([]byte) {}

// End implements lean.Handler.
func (e ended) End(err error) { e <- err }

func header(t testing.TB, m lean.Method) *lean.Header {
	t.Helper()
	h, err := m.Header()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func put(t testing.TB, c *upstream.Conn) error {
	t.Helper()
	done := make(ended, 1)
	if _, err := c.Call(header(t, lean.Put), 0, raw("put"), done); err != nil {
		return err
	}
	c.Kick()
	return wait(t, "an answer", done)
}

// TestTurns: calls go to the members that serve, in turn.
func TestTurns(t *testing.T) {
	members := []*member{start(t), start(t), start(t)}
	p := pool(t, nil, members...)
	wantServing(t, p, 3)
	for range 30 {
		if err := put(t, pick(t, p)); err != nil {
			t.Fatal(err)
		}
	}
	for i, m := range members {
		if n := m.puts.Load(); n != 10 {
			t.Errorf("member %d got %d of 30 calls", i, n)
		}
	}
}

// TestAside: a member that does not serve, whatever it says, gets no calls; what is open on it stays, is told, and it comes back
// on the same connection.
func TestAside(t *testing.T) {
	for name, what := range map[string]struct{ status, health *[]byte }{
		"no leader": {&alone, &serving}, "a learner": {&learner, &serving}, "it says so": {&well, &stopping}, "nonsense": {&broken, &serving},
		"no answer": {nil, &serving},
	} {
		t.Run(name, func(t *testing.T) {
			bad, good := start(t), start(t)
			p := pool(t, func(c *upstream.Config) {
				if what.status == nil {
					c.ProbeTimeout = 20 * time.Millisecond
				}
			}, bad, good)
			wantServing(t, p, 2)
			var onBad *upstream.Conn
			eventually(t, "a connection to the member", func() bool {
				onBad = pick(t, p)
				return onBad.Endpoint() == bad.address
			})
			stream := make(ended, 1)
			if _, err := onBad.Open(header(t, lean.Watch), 0, lean.Free, stream); err != nil {
				t.Fatal(err)
			}
			onBad.Kick()
			aside := onBad.Aside()
			bad.status.Store(what.status)
			bad.health.Store(what.health)
			wait(t, "the member is set aside", aside)
			eventually(t, "the other member serves", func() bool { return pick(t, p).Serving() })
			if what.status != nil { // else the other one may be late with its answer too
				for range 10 {
					if pick(t, p).Endpoint() == bad.address {
						t.Error("a call goes to the member that was set aside")
					}
				}
				if got := p.Endpoints(); got[0] != good.address {
					t.Errorf("endpoints %q do not begin with the one that serves", got)
				}
			}
			bad.status.Store(&well)
			bad.health.Store(&serving)
			eventually(t, "the member serves again", onBad.Serving)
			select {
			case err := <-stream:
				t.Errorf("the stream ended: %v", err)
			default:
			}
			if n := bad.conns.n.Load(); n != 1 {
				t.Errorf("%d connections were made", n)
			}
		})
	}
}

// TestNoHealthService: etcd before 3.6 has none, and serves.
func TestNoHealthService(t *testing.T) {
	m := start(t)
	m.health.Store(nil)
	p := pool(t, nil, m)
	wantServing(t, p, 1)
	if err := put(t, pick(t, p)); err != nil {
		t.Error(err)
	}
}

// TestLastResort: without any member that serves, one that can be reached is asked: it may answer serializable reads.
func TestLastResort(t *testing.T) {
	m := start(t)
	m.status.Store(&alone)
	p := pool(t, nil, m)
	wantServing(t, p, 0)
	eventually(t, "it is connected", func() bool { return p.Now() != nil })
	if err := put(t, pick(t, p)); err != nil {
		t.Error(err)
	}
	if c := p.Now(); p.Other(c) != nil {
		t.Error("there is another connection")
	}
}

// TestSilence: a connection whose member is silent for too long is closed, and its streams end.
func TestSilence(t *testing.T) {
	m := start(t)
	p := pool(t, func(c *upstream.Config) { c.ProbeTimeout, c.Silence = 10*time.Millisecond, 30*time.Millisecond }, m)
	stream := make(ended, 1)
	eventually(t, "a stream is open", func() bool {
		c := pick(t, p)
		_, err := c.Open(header(t, lean.Watch), 0, lean.Free, stream)
		c.Kick()
		return err == nil
	})
	m.silent.Store(true)
	var lost *lean.ConnError
	if err := wait(t, "the stream ends", stream); !errors.As(err, &lost) {
		t.Errorf("the stream ended with %v", err)
	}
	m.silent.Store(false)
	wantServing(t, p, 1)
	if n := m.conns.n.Load(); n < 2 {
		t.Errorf("%d connections were made", n)
	}
}

// TestLoss: the loss of a connection ends what is on it and is repaired.
func TestLoss(t *testing.T) {
	m := start(t)
	p := pool(t, nil, m)
	c := pick(t, p)
	var all sync.WaitGroup
	for range 5 {
		stream := make(ended, 1)
		if _, err := c.Open(header(t, lean.Watch), 0, lean.Free, stream); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			var lost *lean.ConnError
			if err := wait(t, "the stream's end", stream); !errors.As(err, &lost) || upstream.StatusOf(err).Code != rpc.Unavailable {
				t.Errorf("the stream ended with %v", err)
			}
		})
	}
	c.Kick()
	p.Close()
	wait(t, "the connection is lost", c.Lost())
	all.Wait()
	if _, err := p.Pick(t.Context()); !errors.Is(err, upstream.ErrClosed) {
		t.Errorf("a closed pool gives %v", err)
	}
	if err := p.Update([]string{m.address}); !errors.Is(err, upstream.ErrClosed) {
		t.Errorf("a closed pool takes endpoints: %v", err)
	}
}

// TestUpdate: endpoints come and go; those that stay keep their connections.
func TestUpdate(t *testing.T) {
	one, two := start(t), start(t)
	p := pool(t, nil, one)
	kept := pick(t, p)
	if err := p.Update([]string{one.address, "http://" + two.address + "/"}); err != nil {
		t.Fatal(err)
	}
	wantServing(t, p, 2)
	if err := p.Update([]string{"nonsense"}); err == nil {
		t.Error("nonsense is an endpoint")
	}
	if err := p.Update([]string{"http://" + two.address + "/"}); err != nil {
		t.Fatal(err)
	}
	wait(t, "the connection is set aside", kept.Aside())
	for range 10 {
		if c := pick(t, p); c == kept {
			t.Error("a call goes to an endpoint that is none any more")
		}
	}
	if err := put(t, kept); err != nil {
		t.Errorf("what is under way on it: %v", err)
	}
	if n := one.conns.n.Load(); n != 1 {
		t.Errorf("%d connections were made to the endpoint that stayed", n)
	}
}

// TestNone: who waits for a connection is told why there is none.
func TestNone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts: the port stays ours
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := pool(t, func(c *upstream.Config) {
		c.Endpoints, c.DialTimeout = []string{l.Addr().String()}, 5*time.Millisecond
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.Pick(ctx); !errors.Is(err, upstream.ErrNone) {
		t.Errorf("got %v", err)
	}
	if p.Now() != nil {
		t.Error("there is a connection")
	}
}

// TestUnix: sockets of this machine are endpoints too.
func TestUnix(t *testing.T) {
	m := start(t)
	path := t.TempDir() + "/s"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- m.server.Serve(l) }()
	p := pool(t, func(c *upstream.Config) { c.Endpoints = []string{"unix://" + path} })
	if err := put(t, pick(t, p)); err != nil {
		t.Error(err)
	}
	_ = m.server.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
