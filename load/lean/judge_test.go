package lean

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// judge is a server of grpc-go: what it understands and how it answers is right by definition.
type judge struct {
	pb.UnimplementedKVServer
	pb.UnimplementedLeaseServer
}

// Put refuses the key "no" and otherwise says how long the value was.
func (judge) Put(_ context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	if string(r.Key) == "no" {
		return nil, status.Error(codes.ResourceExhausted, "etcdserver: too many requests, 100% é")
	}
	return &pb.PutResponse{Header: &pb.ResponseHeader{Revision: int64(len(r.Value))}}, nil
}

// Range answers with limit kilobytes.
func (judge) Range(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	return &pb.RangeResponse{Kvs: []*mvccpb.KeyValue{{Key: r.Key, Value: bytes.Repeat([]byte("v"), int(r.Limit)<<10)}}}, nil
}

// RangeStream answers with limit messages of growing size, then with an error when the key is "no".
func (judge) RangeStream(r *pb.RangeRequest, s grpc.ServerStreamingServer[pb.RangeStreamResponse]) error {
	for i := range r.Limit {
		kv := &mvccpb.KeyValue{Key: fmt.Append(nil, i), Value: bytes.Repeat([]byte("s"), int(i*i))}
		if err := s.Send(&pb.RangeStreamResponse{RangeResponse: &pb.RangeResponse{Kvs: []*mvccpb.KeyValue{kv}}}); err != nil {
			return err
		}
	}
	if string(r.Key) == "no" {
		return status.Error(codes.OutOfRange, "compacted")
	}
	return nil
}

// LeaseKeepAlive echoes ids.
func (judge) LeaseKeepAlive(s grpc.BidiStreamingServer[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse]) error {
	for {
		r, err := s.Recv()
		if err != nil {
			return nil
		}
		if err := s.Send(&pb.LeaseKeepAliveResponse{ID: r.ID, TTL: 5}); err != nil {
			return err
		}
	}
}

// startJudge serves and returns the address.
func startJudge(t testing.TB, o ...grpc.ServerOption) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(append(o, grpc.MaxRecvMsgSize(1<<30), grpc.MaxSendMsgSize(1<<30))...)
	pb.RegisterKVServer(s, judge{})
	pb.RegisterLeaseServer(s, judge{})
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func dial(t testing.TB, cfg Config) *Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := Dial(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// encoded is a message of the generated types.
type encoded struct{ proto.Message }

func (e encoded) Size() int { return proto.Size(e.Message) }
func (e encoded) Append(dst []byte) []byte {
	out, err := proto.MarshalOptions{}.MarshalAppend(dst, e.Message)
	if err != nil {
		panic(err)
	}
	return out
}

// certificate makes a self-signed one for 127.0.0.1, and the pool that trusts it.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// TestJudge makes calls of all kinds and sizes against grpc-go, in plain text and over TLS.
func TestJudge(t *testing.T) {
	cert, pool := certificate(t)
	secure := grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}}))
	plainAddress, secureAddress := startJudge(t), startJudge(t, secure)
	t.Run("plain", func(t *testing.T) { judgeCalls(t, dial(t, Config{Address: plainAddress, Timeout: patience})) })
	t.Run("TLS", func(t *testing.T) {
		judgeCalls(t, dial(t, Config{Address: secureAddress, TLS: &tls.Config{RootCAs: pool}, Timeout: patience}))
	})
	t.Run("unknown authority", func(t *testing.T) {
		if _, err := Dial(t.Context(), Config{Address: secureAddress, TLS: &tls.Config{}}); err == nil ||
			!strings.HasPrefix(err.Error(), secureAddress+": TLS handshake: ") {
			t.Errorf("%v", err)
		}
	})
	t.Run("TLS to a plain server", func(t *testing.T) {
		if _, err := Dial(t.Context(), Config{Address: plainAddress, TLS: &tls.Config{RootCAs: pool}}); err == nil {
			t.Error("no error")
		}
	})
}

func judgeCalls(t *testing.T, c *Conn) {
	for _, size := range []int{0, 1, 1000, defaultFrame - 20, defaultFrame, 100_000, 5 << 20} {
		a := newAnswer()
		if err := errors.Join(c.Call(Put, encoded{&pb.PutRequest{Value: make([]byte, size)}}, a), c.Flush()); err != nil {
			t.Fatal(err)
		}
		body, err := a.wait(t)
		var resp pb.PutResponse
		if err = errors.Join(err, proto.Unmarshal(body, &resp)); err != nil || resp.Header.Revision != int64(size) {
			t.Errorf("put of %d bytes: %v %v", size, &resp, err)
		}
	}
	for _, kb := range []int64{0, 15, 16, 64, 40 << 10} {
		a := newAnswer()
		if err := errors.Join(c.Call(Range, encoded{&pb.RangeRequest{Limit: kb}}, a), c.Flush()); err != nil {
			t.Fatal(err)
		}
		body, err := a.wait(t)
		var resp pb.RangeResponse
		if err = errors.Join(err, proto.Unmarshal(body, &resp)); err != nil || len(resp.Kvs[0].Value) != int(kb)<<10 {
			t.Errorf("range of %d kB: %v", kb, err)
		}
	}
	_, err := callMessage(t, c, Put, &pb.PutRequest{Key: []byte("no")})
	wantStatus(t, err, CodeResourceExhausted, "etcdserver: too many requests, 100% é")
	_, err = callMessage(t, c, Compact, &pb.CompactionRequest{})
	wantStatus(t, err, CodeUnimplemented, "method Compact not implemented")
	judgeMany(t, c)
}

func callMessage(t *testing.T, c *Conn, m Method, msg proto.Message) ([]byte, error) {
	t.Helper()
	a := newAnswer()
	if err := errors.Join(c.Call(m, encoded{msg}, a), c.Flush()); err != nil {
		t.Fatal(err)
	}
	return a.wait(t)
}

// again calls until its budget is used up, checking that it gets its own answers.
type again struct {
	t    *testing.T
	c    *Conn
	left *atomic.Int64
	req  encoded
	want int64
	wg   *sync.WaitGroup
}

func (a *again) Done(body []byte, err error) {
	var resp pb.PutResponse
	if err = errors.Join(err, proto.Unmarshal(body, &resp)); err != nil || resp.Header.Revision != a.want {
		a.t.Errorf("%v %v, want %d", &resp, err, a.want)
	}
	if a.left.Add(-1) < 0 || a.c.Call(Put, a.req, a) != nil {
		a.wg.Done()
	}
}

// judgeMany keeps 100 calls of different sizes under way.
func judgeMany(t *testing.T, c *Conn) {
	var left atomic.Int64
	left.Store(5000)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Add(1)
		a := &again{t: t, c: c, left: &left, want: int64(i * 37), wg: &wg, req: encoded{&pb.PutRequest{Value: make([]byte, i*37)}}}
		if err := c.Call(Put, a.req, a); err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			if err := c.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
}

// collector is a stream's handler.
type collector struct {
	mu       sync.Mutex
	messages [][]byte
	came     chan struct{}
	end      chan error
}

func newCollector() *collector {
	return &collector{came: make(chan struct{}, 1000), end: make(chan error, 10)}
}

func (c *collector) Message(body []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.messages = append(c.messages, bytes.Clone(body))
	c.came <- struct{}{}
}

func (c *collector) End(err error) { c.end <- err }

func (c *collector) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-c.end:
		return err
	case <-time.After(patience):
		t.Fatal("the stream does not end")
		return nil
	}
}

// pieceCollector takes pieces.
type pieceCollector struct {
	*collector
	now []byte
}

func (c *pieceCollector) Piece(p []byte, left int) {
	if c.now = append(c.now, p...); left == 0 {
		c.Message(c.now)
		c.now = c.now[:0]
	}
}

func (c *pieceCollector) check(t *testing.T, n int) { t.Helper(); c.collector.check(t, n) }

// check wants the n messages of RangeStream.
func (c *collector) check(t *testing.T, n int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.messages) != n {
		t.Fatalf("%d messages, want %d", len(c.messages), n)
	}
	for i, m := range c.messages {
		var resp pb.RangeStreamResponse
		if err := proto.Unmarshal(m, &resp); err != nil || len(resp.RangeResponse.Kvs[0].Value) != i*i {
			t.Fatalf("message %d: %v", i, err)
		}
	}
}

func TestServerStream(t *testing.T) {
	c := dial(t, Config{Address: startJudge(t)})
	for _, n := range []int{0, 1, 300} {
		whole, pieces := newCollector(), &pieceCollector{collector: newCollector()}
		for _, h := range []Handler{whole, pieces} {
			s, err := c.Open(RangeStream, h)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(s.Send(encoded{&pb.RangeRequest{Limit: int64(n)}}, true), c.Flush()); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(whole.wait(t), pieces.wait(t)); err != nil {
			t.Error(err)
		}
		whole.check(t, n)
		pieces.check(t, n)
	}
	h := newCollector()
	s, err := c.Open(RangeStream, h)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Send(encoded{&pb.RangeRequest{Limit: 2, Key: []byte("no")}}, true), c.Flush()); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, h.wait(t), 11, "compacted")
	if err := s.Send(raw("x"), false); !errors.Is(err, ErrEnded) {
		t.Errorf("sending on an ended stream: %v", err)
	}
	s.Cancel() // does nothing
}

func TestBidirectionalStream(t *testing.T) {
	c := dial(t, Config{Address: startJudge(t)})
	h := newCollector()
	s, err := c.Open(LeaseKeepAlive, h)
	if err != nil {
		t.Fatal(err)
	}
	for id := range int64(50) {
		if err := errors.Join(s.Send(encoded{&pb.LeaseKeepAliveRequest{ID: id + 1}}, false), c.Flush()); err != nil {
			t.Fatal(err)
		}
		select {
		case <-h.came:
		case <-time.After(patience):
			t.Fatal("no echo")
		}
	}
	for i, m := range h.messages {
		var resp pb.LeaseKeepAliveResponse
		if err := proto.Unmarshal(m, &resp); err != nil || resp.ID != int64(i+1) {
			t.Errorf("echo %d: %v %v", i, &resp, err)
		}
	}
	other := newCollector()
	cancelled, err := c.Open(LeaseKeepAlive, other)
	if err != nil {
		t.Fatal(err)
	}
	cancelled.Cancel()
	if err := errors.Join(s.Send(encoded{&pb.LeaseKeepAliveRequest{ID: 1}}, true), c.Flush()); err != nil {
		t.Fatal(err)
	}
	if err := h.wait(t); err != nil {
		t.Errorf("the end of a stream whose client is through: %v", err)
	}
	if len(other.end) != 0 {
		t.Error("a cancelled stream got an end")
	}
}

// TestStallKeepsWindowsShut: what a stalled client does not read stays with the server.
func TestStallKeepsWindowsShut(t *testing.T) {
	address := startJudge(t)
	h := &pieceCounter{end: make(chan error, 1)}
	c := dial(t, Config{Address: address, Stall: true})
	s, err := c.Open(Range, h)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Send(encoded{&pb.RangeRequest{Limit: 1 << 10}}, true), c.Flush()); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); h.n.Load() < StallWindow-messageHeader; {
		if time.Now().After(end) {
			t.Fatalf("only %d bytes came", h.n.Load())
		}
		// A call on the same connection comes back behind what was sent.
		if _, err := callMessage(t, c, Put, &pb.PutRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		if _, err := callMessage(t, c, Put, &pb.PutRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := h.n.Load(); n != StallWindow-messageHeader {
		t.Errorf("%d bytes came through a window of %d", n, StallWindow)
	}
}

type pieceCounter struct {
	n   atomic.Int64
	end chan error
}

func (p *pieceCounter) Message([]byte)        {}
func (p *pieceCounter) Piece(b []byte, _ int) { p.n.Add(int64(len(b))) }
func (p *pieceCounter) End(err error)         { p.end <- err }
