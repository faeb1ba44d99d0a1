package fan_test

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
	"google.golang.org/grpc/credentials/insecure"

	"quorate.dev/quorate/embed"
	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/proxy/fan"
	"quorate.dev/quorate/proxy/upstream"
	"quorate.dev/quorate/rpc"
)

// patience is how long a test waits for what must happen: long, because a busy machine may stall any process for seconds.
const patience = time.Minute

// startStore runs a store of one member and returns its address.
func startStore(t testing.TB, settings map[string]string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := embed.Start(ctx, embed.Config{Dir: t.TempDir(), Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return strings.TrimPrefix(s.ClientURLs()[0], "http://")
}

// gate passes connections on to an address until it is told to cut them.
type gate struct {
	t    testing.TB
	to   string
	l    net.Listener
	mu   sync.Mutex
	shut bool
	open map[net.Conn]bool
	work sync.WaitGroup
}

func newGate(t testing.TB, to string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{t: t, to: to, l: l, open: map[net.Conn]bool{}}
	g.work.Go(g.accept)
	t.Cleanup(func() {
		l.Close()
		g.cut(true)
		g.work.Wait()
	})
	return g
}

func (g *gate) addr() string { return g.l.Addr().String() }

func (g *gate) accept() {
	for {
		in, err := g.l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", g.to)
		if err != nil {
			in.Close()
			continue
		}
		g.mu.Lock()
		if g.shut {
			g.mu.Unlock()
			in.Close()
			out.Close()
			continue
		}
		g.open[in], g.open[out] = true, true
		g.mu.Unlock()
		for _, d := range [][2]net.Conn{{in, out}, {out, in}} {
			g.work.Go(func() {
				io.Copy(d[1], d[0])
				g.mu.Lock()
				defer g.mu.Unlock()
				for _, c := range d {
					c.Close()
					delete(g.open, c)
				}
			})
		}
	}
}

// cut closes what is open; shut keeps new connections out until the next cut.
func (g *gate) cut(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
	for c := range g.open {
		c.Close()
	}
}

// front is a proxy that serves watches only.
type front struct {
	hub  *fan.Hub
	addr string
}

// startFront puts a proxy in front of the addresses.
func startFront(t testing.TB, cfg fan.Config, endpoints ...string) *front {
	t.Helper()
	pool, err := upstream.New(upstream.Config{Endpoints: endpoints})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	cfg.Pool = pool
	f := &front{hub: fan.New(cfg)}
	f.addr = serve(t, func(s *rpc.Server) {
		s.Stream("/etcdserverpb.Watch/Watch", func(st *rpc.Stream) *rpc.Status {
			var meta []lean.Field
			for _, name := range []string{"token", "hasleader", "client-api-version"} {
				for _, v := range st.MetadataValues(name) {
					meta = append(meta, lean.Field{Name: name, Value: v})
				}
			}
			return f.hub.Watch(st, meta)
		})
	})
	t.Cleanup(f.hub.Close)
	return f
}

// serve serves what is registered and returns the address.
func serve(t testing.TB, register func(*rpc.Server)) string {
	t.Helper()
	s, err := rpc.New(rpc.Config{})
	if err != nil {
		t.Fatal(err)
	}
	register(s)
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

// connect dials an address for raw calls.
func connect(t testing.TB, addr string) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// client is the official client of an address.
func client(t testing.TB, addr string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{addr}, DialTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// stream is one raw watch stream.
type stream struct {
	t testing.TB
	pb.Watch_WatchClient
	cancel context.CancelFunc
}

func watchStream(t testing.TB, ctx context.Context, conn *grpc.ClientConn) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	t.Cleanup(cancel)
	s, err := pb.NewWatchClient(conn).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &stream{t, s, cancel}
}

func (s *stream) create(r *pb.WatchCreateRequest) {
	s.t.Helper()
	s.ask(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}})
}

func (s *stream) cancelWatch(id int64) {
	s.t.Helper()
	s.ask(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}})
}

func (s *stream) progress() {
	s.t.Helper()
	s.ask(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
}

func (s *stream) ask(r *pb.WatchRequest) {
	s.t.Helper()
	if err := s.Send(r); err != nil {
		s.t.Fatal(err)
	}
}

// next is the next response, which must come.
func (s *stream) next() *pb.WatchResponse {
	s.t.Helper()
	type got struct {
		r   *pb.WatchResponse
		err error
	}
	ch := make(chan got, 1)
	go func() {
		r, err := s.Recv()
		ch <- got{r, err}
	}()
	select {
	case g := <-ch:
		if g.err != nil {
			s.t.Fatal(g.err)
		}
		return g.r
	case <-time.After(patience):
		s.t.Fatal("no response")
		return nil
	}
}

func put(t testing.TB, c *clientv3.Client, key, value string) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := c.Put(ctx, key, value)
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}
