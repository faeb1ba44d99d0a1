package tcpproxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/tcpproxy"
)

// rig is a proxy on the loopback network before remotes that exist by name only: what is dialled is a connection to an echo
// server of the test, which says the remote's name first.
type rig struct {
	t      *testing.T
	addr   string
	clock  *clock.Manual
	logs   *observer.ObservedLogs
	cancel func()
	ended  chan error

	mu     sync.Mutex
	broken map[string]error // what dialling a remote comes to
	dialed []string
	echo   net.Listener
	serve  func(c *net.TCPConn)
}

const retry = time.Minute

func start(t *testing.T, o tcpproxy.Options, wrap func(net.Listener) net.Listener) *rig {
	t.Helper()
	r := &rig{t: t, clock: clock.NewManual(time.Unix(0, 0)), broken: map[string]error{}, ended: make(chan error, 1)}
	core, logs := observer.New(zap.DebugLevel)
	r.logs = logs
	r.echo = listen(t)
	random := rand.New(rand.NewPCG(1, 2))
	o.RetryDelay, o.Clock, o.Log, o.Dial, o.Random = retry, r.clock, zap.New(core), r.dial, random.IntN
	p, err := tcpproxy.New(o)
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t)
	r.addr = l.Addr().String()
	if wrap != nil {
		l = wrap(l)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.ended <- p.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := r.wait(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return r
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// wait returns what Serve returned.
func (r *rig) wait() error {
	select {
	case err := <-r.ended:
		r.ended <- err
		return err
	case <-time.After(time.Minute):
		return errors.New("it goes on for a minute")
	}
}

// dial connects to the echo server and lets it serve in the remote's name.
func (r *rig) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	if _, ok := ctx.Deadline(); !ok {
		r.t.Error("an attempt to connect without an end")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dialed = append(r.dialed, addr)
	if err := r.broken[addr]; err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
	c, err := net.Dial("tcp", r.echo.Addr().String())
	if err != nil {
		return nil, err
	}
	far, err := r.echo.Accept()
	if err != nil {
		return nil, err
	}
	serve := r.serve
	go func() {
		if serve != nil {
			serve(far.(*net.TCPConn))
			return
		}
		defer func() { _ = far.Close() }()
		_, _ = fmt.Fprintf(far, "%s\n", addr)
		_, _ = io.Copy(far, far)
	}()
	return c, nil
}

func (r *rig) breaks(addr string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken[addr] = err
}

// serves replaces what remotes do.
func (r *rig) serves(f func(c *net.TCPConn)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.serve = f
}

// dials returns who was dialled since the last call.
func (r *rig) dials() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := strings.Join(r.dialed, " ")
	r.dialed = nil
	return out
}

func (r *rig) connect() *net.TCPConn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c.(*net.TCPConn)
}

// ask connects and returns the name of the remote, or "" when the connection was refused.
func (r *rig) ask() string {
	r.t.Helper()
	near, err := net.Dial("tcp", r.addr)
	if errors.Is(err, syscall.ECONNRESET) { // it was refused before the kernel told us that it was made
		return ""
	}
	if err != nil {
		r.t.Fatal(err)
	}
	c := near.(*net.TCPConn)
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	_ = c.CloseWrite()
	text, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		r.t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func (r *rig) until(what string, cond func() bool) {
	r.t.Helper()
	for limit := time.Now().Add(time.Minute); !cond(); <-time.After(time.Millisecond) {
		if time.Now().After(limit) {
			r.t.Fatalf("%s: not within a minute", what)
		}
	}
}

func (r *rig) logged(message string) int { return r.logs.FilterMessage(message).Len() }

func targets(addrs ...string) (out []tcpproxy.Target) {
	for _, a := range addrs {
		out = append(out, tcpproxy.Target{Addr: a})
	}
	return out
}

// TestChoice: turns, priorities and weights.
func TestChoice(t *testing.T) {
	for _, c := range []struct {
		what    string
		targets []tcpproxy.Target
		broken  []string
		want    map[string][2]int // how many of 300 connections, from and to
	}{
		{"in turn", targets("a:1", "b:1", "c:1"), nil, map[string][2]int{"a:1": {100, 100}, "b:1": {100, 100}, "c:1": {100, 100}}},
		{"by priority", []tcpproxy.Target{{Addr: "a:1", Priority: 2}, {Addr: "b:1", Priority: 1}, {Addr: "c:1", Priority: 1}}, nil,
			map[string][2]int{"b:1": {150, 150}, "c:1": {150, 150}}},
		{"the next priority", []tcpproxy.Target{{Addr: "a:1", Priority: 2}, {Addr: "b:1", Priority: 1}}, []string{"b:1"},
			map[string][2]int{"a:1": {300, 300}}},
		{"by weight", []tcpproxy.Target{{Addr: "a:1", Weight: 1}, {Addr: "b:1", Weight: 9}}, nil,
			map[string][2]int{"a:1": {15, 50}, "b:1": {250, 285}}},
		{"weight and none", []tcpproxy.Target{{Addr: "a:1"}, {Addr: "b:1", Weight: 7}}, nil,
			map[string][2]int{"a:1": {1, 20}, "b:1": {280, 299}}},
		{"weights, one gone", []tcpproxy.Target{{Addr: "a:1", Weight: 5}, {Addr: "b:1", Weight: 5}}, []string{"a:1"},
			map[string][2]int{"b:1": {300, 300}}},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := start(t, tcpproxy.Options{Targets: c.targets}, nil)
			for _, b := range c.broken {
				r.breaks(b, syscall.ECONNREFUSED)
			}
			got := map[string]int{}
			for range 300 {
				got[r.ask()]++
			}
			for name, n := range got {
				if w := c.want[name]; n < w[0] || n > w[1] || n == 0 {
					t.Errorf("%q got %d connections, want %v", name, n, w)
				}
			}
			if len(got) != len(c.want) {
				t.Errorf("connections went to %v, want %v", got, c.want)
			}
		})
	}
}

// TestSetAside: a remote that refuses is left alone at once and until the delay is over; then it is tried without a client.
func TestSetAside(t *testing.T) {
	r := start(t, tcpproxy.Options{Targets: targets("a:1", "b:1")}, nil)
	r.breaks("a:1", syscall.ECONNREFUSED)
	for range 4 {
		if got := r.ask(); got != "b:1" {
			t.Fatalf("connected to %q", got)
		}
	}
	if got := r.dials(); got != "a:1 b:1 b:1 b:1 b:1" {
		t.Errorf("dialled %s", got)
	}
	if n := r.logged("endpoint set aside: it cannot be connected to"); n != 1 {
		t.Errorf("that it was set aside was logged %d times", n)
	}
	r.clock.Await(1)
	r.clock.Advance(retry - 1)
	if got := r.ask() + " " + r.dials(); got != "b:1 b:1" {
		t.Errorf("before the delay is over: %s", got)
	}
	r.clock.Advance(1)
	r.until("the first attempt", func() bool { return r.dials() == "a:1" })
	r.clock.Await(1)
	r.breaks("a:1", nil)
	r.clock.Advance(retry)
	r.until("it is back", func() bool { return r.logged("endpoint can be connected to again") == 1 })
	if got := r.dials(); got != "a:1" {
		t.Errorf("dialled %s", got)
	}
	if got := map[string]bool{r.ask(): true, r.ask(): true}; !got["a:1"] || !got["b:1"] {
		t.Errorf("connected to %v", got)
	}
	r.breaks("a:1", syscall.ECONNREFUSED) // and all over again
	r.ask()
	r.ask()
	r.clock.Await(1)
	r.breaks("a:1", nil)
	r.clock.Advance(retry)
	r.until("it is back again", func() bool { return r.logged("endpoint can be connected to again") == 2 })
}

// TestLastResort: a client is refused only when nothing answers at that moment, whatever is set aside.
func TestLastResort(t *testing.T) {
	r := start(t, tcpproxy.Options{Targets: targets("a:1", "b:1")}, nil)
	r.breaks("a:1", syscall.ECONNREFUSED)
	r.breaks("b:1", syscall.ETIMEDOUT)
	if got := r.ask(); got != "" {
		t.Fatalf("connected to %q", got)
	}
	if n := r.logged("refused a connection: no endpoint can be connected to"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	r.breaks("b:1", nil)
	for range 3 {
		if got := r.ask(); got != "b:1" {
			t.Fatalf("connected to %q", got)
		}
	}
	if n := r.logged("endpoint can be connected to again"); n != 1 {
		t.Errorf("that it is back was logged %d times", n)
	}
	// Its retry finds that it is not set aside any more and ends; the other's goes on.
	r.clock.Await(2)
	r.dials()
	r.clock.Advance(retry)
	r.until("the other is tried", func() bool { return r.dials() == "a:1" })
	r.clock.Await(1)
}

// TestHalfClose: the end of one direction leaves the other one open, both ways.
func TestHalfClose(t *testing.T) {
	t.Run("client first", func(t *testing.T) {
		r := start(t, tcpproxy.Options{Targets: targets("a:1")}, nil)
		r.serves(func(c *net.TCPConn) { // answers only after the end
			text, err := io.ReadAll(c)
			_, _ = fmt.Fprintf(c, "%d bytes, %v", len(text), err)
			_ = c.Close()
		})
		c := r.connect()
		_, _ = c.Write(make([]byte, 3<<20))
		_ = c.CloseWrite()
		if text, err := io.ReadAll(c); err != nil || string(text) != "3145728 bytes, <nil>" {
			t.Errorf("%q, %v", text, err)
		}
	})
	t.Run("remote first", func(t *testing.T) {
		r := start(t, tcpproxy.Options{Targets: targets("a:1")}, nil)
		got := make(chan string, 1)
		r.serves(func(c *net.TCPConn) {
			_, _ = c.Write([]byte("bye"))
			_ = c.CloseWrite()
			text, err := io.ReadAll(c)
			got <- fmt.Sprintf("%s, %v", text, err)
			_ = c.Close()
		})
		c := r.connect()
		if text, err := io.ReadAll(c); err != nil || string(text) != "bye" {
			t.Errorf("%q, %v", text, err)
		}
		_, _ = c.Write([]byte("one more thing"))
		_ = c.CloseWrite()
		if text := <-got; text != "one more thing, <nil>" {
			t.Error(text)
		}
	})
}

// TestReset: a broken connection is not passed off for one that has ended.
func TestReset(t *testing.T) {
	t.Run("by the remote", func(t *testing.T) {
		r := start(t, tcpproxy.Options{Targets: targets("a:1")}, nil)
		r.serves(func(c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, 1))
			_ = c.SetLinger(0)
			_ = c.Close()
		})
		c := r.connect()
		_, _ = c.Write([]byte("x"))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the client sees %v", err)
		}
	})
	t.Run("by the client", func(t *testing.T) {
		r := start(t, tcpproxy.Options{Targets: targets("a:1")}, nil)
		got := make(chan error, 1)
		r.serves(func(c *net.TCPConn) {
			_, _ = c.Write([]byte("x"))
			_, err := c.Read(make([]byte, 1))
			got <- err
			_ = c.Close()
		})
		c := r.connect()
		_, _ = io.ReadFull(c, make([]byte, 1))
		_ = c.SetLinger(0)
		_ = c.Close()
		if err := <-got; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the remote sees %v", err)
		}
	})
}

// TestBound: one connection too many is refused, and there is room again when one has ended.
func TestBound(t *testing.T) {
	r := start(t, tcpproxy.Options{Targets: targets("a:1"), Connections: 2}, nil)
	var open []*net.TCPConn
	for range 2 {
		c := r.connect()
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	for range 3 {
		if got := r.ask(); got != "" {
			t.Fatalf("a third connection got to %q", got)
		}
	}
	if n := r.logged("refusing connections: as many are open as may be"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	_ = open[0].Close()
	r.until("there is room", func() bool { return r.ask() == "a:1" })
}

// TestStop: Serve ends, and so do connections, those too that still look for a remote.
func TestStop(t *testing.T) {
	r := start(t, tcpproxy.Options{Targets: targets("a:1", "b:1")}, nil)
	r.breaks("b:1", syscall.ECONNREFUSED) // so that a retry waits
	c := r.connect()
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	r.ask()
	r.clock.Await(1)
	r.cancel()
	if err := r.wait(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("an open connection ended with %v", err)
	}
	if c, err := net.Dial("tcp", r.addr); err == nil {
		t.Error("it still listens")
		_ = c.Close()
	}
}

// shortOf is a listener of a process that has no file descriptor left at first.
type shortOf struct {
	net.Listener
	errs chan error
}

func (l shortOf) Accept() (net.Conn, error) {
	select {
	case err := <-l.errs:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: err}
	default:
		return l.Listener.Accept()
	}
}

// TestExhausted: a lack of file descriptors is no fault of a remote, and does not end the proxy.
func TestExhausted(t *testing.T) {
	errs := make(chan error, 2)
	errs <- syscall.EMFILE
	errs <- syscall.ECONNABORTED
	r := start(t, tcpproxy.Options{Targets: targets("a:1", "b:1")}, func(l net.Listener) net.Listener { return shortOf{l, errs} })
	for range 2 {
		r.clock.Await(1)
		r.clock.Advance(time.Second)
	}
	r.breaks("a:1", syscall.EMFILE)
	if got := r.ask(); got != "" {
		t.Errorf("connected to %q", got)
	}
	r.breaks("a:1", nil)
	if got := map[string]bool{r.ask(): true, r.ask(): true}; !got["a:1"] || !got["b:1"] {
		t.Errorf("connected to %v", got)
	}
	if n := r.logged("endpoint set aside: it cannot be connected to"); n != 0 {
		t.Errorf("a remote was set aside for what this process lacks")
	}
}

// TestListenerFails: an error of the listener that does not pass ends Serve with its words.
func TestListenerFails(t *testing.T) {
	errs := make(chan error, 1)
	errs <- syscall.EINVAL
	r := start(t, tcpproxy.Options{Targets: targets("a:1")}, func(l net.Listener) net.Listener { return shortOf{l, errs} })
	err := r.wait()
	if !errors.Is(err, syscall.EINVAL) {
		t.Errorf("Serve: %v", err)
	}
	<-r.ended
	r.ended <- nil
}

// TestNew: what cannot work is refused with words that say why.
func TestNew(t *testing.T) {
	for _, c := range []struct {
		o    tcpproxy.Options
		want string
	}{
		{tcpproxy.Options{RetryDelay: 1}, "no endpoints"},
		{tcpproxy.Options{Targets: targets("a:1")}, "retry delay 0s"},
		{tcpproxy.Options{Targets: targets("a"), RetryDelay: 1}, `endpoint "a" is not host:port`},
	} {
		if _, err := tcpproxy.New(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.o, err)
		}
	}
}
