package certs_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"quorate.dev/quorate/certs"
	"quorate.dev/quorate/limits"
)

// TestSilentClients is etcd's advisory GHSA-6vch-q96h-7gc3: clients that connect and say nothing must be let go of after a time,
// and their number must not grow without bound.
func TestSilentClients(t *testing.T) {
	s := newSite(t)
	options := s.options()
	options.Timeout = 50 * time.Millisecond
	s.listen(options, false)
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the server keeps a silent client: %v", err)
	}
	s.await("the rejection", func() bool {
		return len(s.rejected) == 1 && strings.Contains(s.rejected[0].Err.Error(), "did not end within 50ms")
	})
}

// TestFlood: many more handshakes than are allowed at a time are begun and not finished; there are never more goroutines than
// that, and clients in earnest pass all the time.
func TestFlood(t *testing.T) {
	s := newSite(t)
	options := s.options()
	options.Timeout = time.Hour // nothing but the bound helps
	s.listen(options, false)
	const extra = 300
	before := runtime.NumGoroutine()
	conf := s.client("alice", nil)
	for i := range limits.HandshakesPending + extra {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i%200 == 0 {
			if _, err := s.talk(conf); err != nil {
				t.Fatalf("after %d silent connections: %v", i, err)
			}
		}
	}
	s.await("the oldest to give way", func() bool { return len(s.rejected) >= extra })
	if n := runtime.NumGoroutine() - before; n > limits.HandshakesPending*2+50 { // each may need a helper for its deadline
		t.Errorf("%d goroutines for %d connections", n, limits.HandshakesPending+extra)
	}
	if _, err := s.talk(conf); err != nil {
		t.Error(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if text := s.rejected[0].Err.Error(); !strings.Contains(text, "1024 others had begun") {
		t.Error(text)
	}
}

// TestPlainClients: a client without TLS reads what is wrong, over HTTP/1 and over HTTP/2.
func TestPlainClients(t *testing.T) {
	s := newSite(t)
	s.listen(s.options(), false)
	resp, err := http.Get("http://" + s.addr + "/health")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), "Client sent an HTTP request to an HTTPS server") {
		t.Errorf("%s %q", resp.Status, body)
	}
	s.await("the rejection", func() bool { return len(s.rejected) == 1 && s.rejected[0].Plain })

	cc, err := grpc.NewClient(s.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = cc.Invoke(ctx, "/a/b", &emptypb.Empty{}, &emptypb.Empty{})
	if st := status.Convert(err); st.Code() != codes.FailedPrecondition || !strings.Contains(st.Message(), "this address speaks TLS") {
		t.Errorf("gRPC: %v", err)
	}

	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "\x00\x01garbage"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(c).ReadString('\n'); err == nil {
		t.Errorf("garbage was answered with %q", line)
	}
}

// TestPlainListener: a client of TLS at an address without is told of, once; others are not disturbed.
func TestPlainListener(t *testing.T) {
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan certs.Rejection, 10)
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") })}
	go func() { _ = web.Serve(certs.Plain(raw, func(r certs.Rejection) { told <- r })) }()
	defer web.Close()
	resp, err := http.Get("http://" + raw.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(resp.Body); string(body) != "fine" {
		t.Errorf("%q", body)
	}
	if _, err := http.Get("https://" + raw.Addr().String()); err == nil {
		t.Fatal("https passed")
	}
	select {
	case r := <-told:
		if !strings.Contains(r.Err.Error(), "this address is without TLS") {
			t.Error(r)
		}
	case <-time.After(patience):
		t.Fatal("nobody was told")
	}
}

// counting counts the writes of the connections that a listener accepts.
type counting struct {
	net.Listener
	writes atomic.Int64
}

func (l *counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &countingConn{c, &l.writes}, err
}

type countingConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// TestGather: what is held back leaves at once, whole and in order.
func TestGather(t *testing.T) {
	s := newSite(t)
	k, err := certs.New(s.set, s.options())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	counted := &counting{Listener: raw}
	l := k.Listen(counted, nil, false)
	defer l.Close()
	text := bytes.Repeat([]byte("0123456789abcdef"), 64<<10/16)
	writes := make(chan int64, 2)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		below := c.(*tls.Conn).NetConn().(interface {
			Hold()
			Release() error
		})
		for range 2 {
			before := counted.writes.Load()
			below.Hold()
			if _, err := c.Write(text); err != nil {
				t.Error(err)
			}
			if err := below.Release(); err != nil {
				t.Error(err)
			}
			writes <- counted.writes.Load() - before
		}
		if _, err := io.Copy(c, c); err != nil {
			t.Error(err)
		}
	}()
	c, err := tls.Dial("tcp", raw.Addr().String(), s.client("alice", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := make([]byte, 2*len(text))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, append(bytes.Clone(text), text...)) {
		t.Fatalf("%v; what arrived is not what was written", err)
	}
	for range 2 {
		if n := <-writes; n != 1 {
			t.Errorf("%d bytes took %d writes", len(text), n)
		}
	}
	if _, err := c.Write([]byte("more")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, got[:4]); err != nil || string(got[:4]) != "more" {
		t.Errorf("after it: %q %v", got[:4], err)
	}
}
