package keep_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"quorate.dev/quorate/embed"
	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/proxy/keep"
	"quorate.dev/quorate/proxy/upstream"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/wire"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

const method = "/etcdserverpb.Lease/LeaseKeepAlive"

func serve(t *testing.T, h rpc.StreamHandler) string {
	t.Helper()
	s, err := rpc.New(rpc.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s.Stream(method, h)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// front is a proxy that serves keep-alives only.
type front struct {
	hub  *keep.Hub
	addr string
}

func startFront(t *testing.T, store string) *front {
	t.Helper()
	pool, err := upstream.New(upstream.Config{Endpoints: []string{store}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	f := &front{hub: keep.New(keep.Config{Pool: pool})}
	f.addr = serve(t, func(st *rpc.Stream) *rpc.Status {
		var meta []lean.Field
		for _, name := range []string{"token", "hasleader"} {
			for _, v := range st.MetadataValues(name) {
				meta = append(meta, lean.Field{Name: name, Value: v})
			}
		}
		return f.hub.KeepAlive(st, meta)
	})
	t.Cleanup(f.hub.Close)
	return f
}

type stream struct {
	t *testing.T
	pb.Lease_LeaseKeepAliveClient
	cancel context.CancelFunc
}

func (f *front) stream(t *testing.T, meta ...string) *stream {
	t.Helper()
	c, err := grpc.NewClient("passthrough:///"+f.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), meta...), patience)
	t.Cleanup(cancel)
	s, err := pb.NewLeaseClient(c).LeaseKeepAlive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &stream{t, s, cancel}
}

func (s *stream) ask(ids ...int64) {
	s.t.Helper()
	for _, id := range ids {
		if err := s.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *stream) next() *pb.LeaseKeepAliveResponse {
	s.t.Helper()
	r, err := s.Recv()
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// gated is a store that answers keep-alives when the test lets it.
type gated struct {
	mu      sync.Mutex
	streams int
	asked   chan int64          // lease ids as they come
	answers chan *rpc.Status    // one for each answer; nil: the lease lives
	tokens  map[string][]string // tokens by what was asked with them
}

func newGated() *gated {
	return &gated{asked: make(chan int64, 1000), answers: make(chan *rpc.Status, 1000), tokens: map[string][]string{}}
}

func (g *gated) serve(st *rpc.Stream) *rpc.Status {
	g.mu.Lock()
	g.streams++
	g.tokens[st.Metadata("token")] = nil
	g.mu.Unlock()
	for {
		msg, err := st.Recv()
		if err != nil {
			return nil
		}
		var req wire.LeaseKeepAliveRequest
		if err := req.Unmarshal(msg); err != nil {
			return &rpc.Status{Code: rpc.Internal, Message: err.Error()}
		}
		g.asked <- req.ID
		select {
		case s := <-g.answers:
			if s != nil {
				return s
			}
		case <-st.Context().Done():
			return nil
		}
		if err := st.Send(&wire.LeaseKeepAliveResponse{Header: wire.Header{Revision: 3}, ID: req.ID, TTL: 10 + req.ID}); err != nil {
			return nil
		}
	}
}

func (g *gated) want(t *testing.T, id int64) {
	t.Helper()
	select {
	case got := <-g.asked:
		if got != id {
			t.Fatalf("the store was asked about lease %d instead of %d", got, id)
		}
	case <-time.After(patience):
		t.Fatalf("the store was not asked about lease %d", id)
	}
}

// settled waits until so many requests have arrived at the proxy.
func (f *front) settled(t *testing.T, requests int64) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for f.hub.Stats().Requests < requests {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%+v", f.hub.Stats())
		}
	}
}

// TestShared: requests for a lease that come while one is under way share the next one, and each is answered.
func TestShared(t *testing.T) {
	g := newGated()
	f := startFront(t, serve(t, g.serve))
	first := f.stream(t)
	first.ask(1)
	g.want(t, 1)
	others := []*stream{f.stream(t), f.stream(t), f.stream(t)}
	for _, s := range others {
		s.ask(1, 1)
	}
	f.settled(t, 7)
	g.answers <- nil
	if r := first.next(); r.ID != 1 || r.TTL != 11 || r.Header.Revision != 3 {
		t.Fatalf("%v", r)
	}
	g.want(t, 1) // once, for all others
	g.answers <- nil
	for _, s := range others {
		for range 2 {
			if r := s.next(); r.ID != 1 || r.TTL != 11 {
				t.Fatalf("%v", r)
			}
		}
	}
	if s := f.hub.Stats(); s.Renewals != 2 || s.Streams != 4 {
		t.Fatalf("%+v", s)
	}
	// Half closed: what is due still comes, and then the end.
	first.ask(2, 3)
	g.answers <- nil
	g.answers <- nil
	if err := first.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if a, b := first.next(), first.next(); a.ID != 2 || b.ID != 3 {
		t.Fatalf("%v %v", a, b)
	}
	if _, err := first.Recv(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

// TestCredentials: clients with different tokens share nothing.
func TestCredentials(t *testing.T) {
	g := newGated()
	f := startFront(t, serve(t, g.serve))
	for _, token := range []string{"ann", "bob"} {
		s := f.stream(t, "token", token)
		s.ask(1)
		g.want(t, 1)
		g.answers <- nil
		s.next()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ann := g.tokens["ann"]; !ann || len(g.tokens) != 2 || g.streams != 2 {
		t.Fatalf("%v on %d streams", g.tokens, g.streams)
	}
}

// TestRefused: an error of the store ends the streams that asked for the lease it was about; the others are answered.
func TestRefused(t *testing.T) {
	g := newGated()
	f := startFront(t, serve(t, g.serve))
	guilty, fine := f.stream(t), f.stream(t)
	guilty.ask(1)
	g.want(t, 1)
	fine.ask(2)
	f.settled(t, 2)
	g.answers <- &rpc.Status{Code: rpc.PermissionDenied, Message: "etcdserver: permission denied"}
	if _, err := guilty.Recv(); status.Code(err) != codes.PermissionDenied || status.Convert(err).Message() != "etcdserver: permission denied" {
		t.Fatal(err)
	}
	g.want(t, 2)
	g.answers <- nil
	if r := fine.next(); r.ID != 2 {
		t.Fatalf("%v", r)
	}
	// No leader: whoever asked to know hears of it.
	fine.ask(3)
	g.want(t, 3)
	g.answers <- &rpc.Status{Code: rpc.Unavailable, Message: "etcdserver: no leader"}
	if _, err := fine.Recv(); status.Code(err) != codes.Unavailable || status.Convert(err).Message() != "etcdserver: no leader" {
		t.Fatal(err)
	}
}

// TestLost: what was under way when the stream to the store was lost is asked again.
func TestLost(t *testing.T) {
	g := newGated()
	lost := make(chan struct{})
	addr := serve(t, func(st *rpc.Stream) *rpc.Status {
		select {
		case <-lost:
			return g.serve(st)
		default:
		}
		_, _ = st.Recv()
		close(lost)
		return nil // a stream that ends without a reason
	})
	f := startFront(t, addr)
	s := f.stream(t)
	s.ask(5)
	g.want(t, 5)
	g.answers <- nil
	if r := s.next(); r.ID != 5 {
		t.Fatalf("%v", r)
	}
	// A client that goes away leaves nothing behind.
	s.ask(6)
	g.want(t, 6)
	s.cancel()
	other := f.stream(t)
	other.ask(7)
	g.answers <- nil
	g.want(t, 7)
	g.answers <- nil
	if r := other.next(); r.ID != 7 {
		t.Fatalf("%v", r)
	}
}

// TestOfficial: the official client keeps a lease of a real store alive through the proxy, and hears of one that is gone.
func TestOfficial(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := embed.Start(ctx, embed.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	store := strings.TrimPrefix(s.ClientURLs()[0], "http://")
	f := startFront(t, store)
	direct, err := clientv3.New(clientv3.Config{Endpoints: []string{store}, DialTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	proxied, err := clientv3.New(clientv3.Config{Endpoints: []string{f.addr}, DialTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer proxied.Close()
	l, err := direct.Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := proxied.KeepAliveOnce(ctx, l.ID); err != nil || r.TTL != 60 || r.ResponseHeader == nil || r.ClusterId == 0 {
		t.Fatalf("%+v %v", r, err)
	}
	alive, err := proxied.KeepAlive(ctx, l.ID)
	if err != nil {
		t.Fatal(err)
	}
	if r := <-alive; r == nil || r.ID != l.ID {
		t.Fatalf("%+v", r)
	}
	if _, err := direct.Revoke(ctx, l.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := proxied.KeepAliveOnce(ctx, l.ID); err == nil || err.Error() != "etcdserver: requested lease not found" {
		t.Fatal(err)
	}
}
