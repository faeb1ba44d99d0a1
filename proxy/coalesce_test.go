package proxy_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/proxy"
	"quorate.dev/quorate/rpc"
)

const (
	methodRange = "/etcdserverpb.KV/Range"
	methodPut   = "/etcdserverpb.KV/Put"
)

// held is a store whose answers to reads wait for the test.
type held struct {
	*fake
	calls chan *rpc.Call
}

func hold(t testing.TB) *held {
	h := &held{calls: make(chan *rpc.Call, 100)}
	h.fake = newFake(t, func(s *rpc.Server) { s.Unary(methodRange, func(c *rpc.Call, _ []byte) { h.calls <- c }) })
	return h
}

func encode(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readOf(t testing.TB, key string, serializable bool) []byte {
	return encode(t, &pb.RangeRequest{Key: []byte(key), Serializable: serializable})
}

// none fails when a call reaches the store that should not.
func (h *held) none(t *testing.T, why string) {
	t.Helper()
	select {
	case c := <-h.calls:
		t.Fatalf("%s: a call of %q reached the store", why, c.Metadata("token"))
	default:
	}
}

// counted waits until the proxy has shared n reads.
func shared(t *testing.T, p *proxy.Proxy, n int) {
	t.Helper()
	eventually(t, fmt.Sprint(n, " shared reads"), func() bool {
		return metric(t, p, "etcd_grpc_proxy_cache_hits_total") == float64(n)
	})
}

// TestSharedReads: a serializable read is answered by the identical call that is under way.
func TestSharedReads(t *testing.T) {
	h := hold(t)
	p := start(t, []string{h.address}, nil)
	c := dial(t, p.Address(), nil)
	read := readOf(t, "k", true)
	first := c.begin(methodRange, 0, read, lean.Field{Name: "token", Value: "a"})
	call := wait(t, "the first read", h.calls)
	second := c.begin(methodRange, 0, read, lean.Field{Name: "token", Value: "a"})
	shared(t, p, 1)
	h.none(t, "an identical serializable read")
	// What the store can tell apart is asked apart.
	others := []*pending{
		c.begin(methodRange, 0, read, lean.Field{Name: "token", Value: "b"}), c.begin(methodRange, 0, read),
		c.begin(methodRange, 0, readOf(t, "l", true), lean.Field{Name: "token", Value: "a"}),
	}
	for range others {
		wait(t, "a read that differs", h.calls).Reply(rpc.RawMessage("other"))
	}
	for _, o := range others {
		if body, err := o.wait(); err != nil || string(body) != "other" {
			t.Errorf("%q %v", body, err)
		}
	}
	call.Reply(rpc.RawMessage("answer"))
	for _, r := range []*pending{first, second} {
		if body, err := r.wait(); err != nil || string(body) != "answer" {
			t.Errorf("%q %v", body, err)
		}
	}
	after := c.begin(methodRange, 0, read, lean.Field{Name: "token", Value: "a"})
	wait(t, "a read after the answer: nothing is kept", h.calls).Fail(&rpc.Status{Code: rpc.PermissionDenied, Message: "no more"})
	_, err := after.wait()
	wantStatus(t, err, rpc.PermissionDenied, "no more")
}

// TestLinearizableReads: a linearizable read is never answered by a call that began before it, and all that came meanwhile
// share the next one, which begins although the first is not answered.
func TestLinearizableReads(t *testing.T) {
	h := hold(t)
	p := start(t, []string{h.address}, nil)
	c := dial(t, p.Address(), nil)
	read := readOf(t, "k", false)
	first := c.begin(methodRange, 0, read)
	call := wait(t, "the first read", h.calls)
	var later []*pending
	for range 5 {
		later = append(later, c.begin(methodRange, 0, read))
	}
	// They get a call of their own although the first hangs; those that came after that began, another.
	var calls []*rpc.Call
	answered := 0
	for answered < len(later) {
		select {
		case next := <-h.calls:
			calls = append(calls, next)
			next.Reply(rpc.RawMessage("new"))
		case <-later[answered].done:
			if body, err := later[answered].wait(); err != nil || string(body) != "new" {
				t.Errorf("%q %v", body, err)
			}
			answered++
		case <-time.After(patience):
			t.Fatal("reads wait for a member that hangs")
		}
	}
	if len(calls) > len(later) {
		t.Errorf("%d calls for %d reads", len(calls), len(later))
	}
	call.Reply(rpc.RawMessage("old"))
	if body, err := first.wait(); err != nil || string(body) != "old" {
		t.Errorf("%q %v", body, err)
	}
}

// TestAbandonedReads: a client that gives up does not end the call of another, and the last one takes it back.
func TestAbandonedReads(t *testing.T) {
	h := hold(t)
	p := start(t, []string{h.address}, nil)
	c := dial(t, p.Address(), nil)
	read := readOf(t, "k", true)
	first := c.begin(methodRange, 0, read)
	call := wait(t, "the first read", h.calls)
	second := c.begin(methodRange, 50*time.Millisecond, read)
	shared(t, p, 1)
	_, err := second.wait()
	wantStatus(t, err, rpc.DeadlineExceeded, "context deadline exceeded")
	if call.Context().Err() != nil {
		t.Error("the call was taken back while one client waits")
	}
	first.cancel()
	wait(t, "the call is taken back", call.Context().Done())
	again := c.begin(methodRange, 0, read)
	wait(t, "a read after that", h.calls).Reply(rpc.RawMessage("answer"))
	if body, err := again.wait(); err != nil || string(body) != "answer" {
		t.Errorf("%q %v", body, err)
	}
}

// TestCancel: a client's deadline and cancellation reach the store.
func TestCancel(t *testing.T) {
	calls := make(chan *rpc.Call, 10)
	f := newFake(t, func(s *rpc.Server) { s.Unary(methodPut, func(c *rpc.Call, _ []byte) { calls <- c }) })
	c := dial(t, start(t, []string{f.address}, nil).Address(), nil)
	put := c.begin(methodPut, 0, []byte{10, 1, 'k'})
	call := wait(t, "the call", calls)
	put.cancel()
	wait(t, "the call is taken back", call.Context().Done())
	short := c.begin(methodPut, 100*time.Millisecond, []byte{10, 1, 'k'})
	call = wait(t, "the call", calls)
	if _, ok := call.Deadline(); !ok {
		t.Error("the store does not know the deadline")
	}
	_, err := short.wait()
	wantStatus(t, err, rpc.DeadlineExceeded, "context deadline exceeded")
	wait(t, "the late call is taken back", call.Context().Done())
}

// TestMetadata: what a client says beside its message reaches the store, what the store says comes back, and what belongs to a
// connection does not pass.
func TestMetadata(t *testing.T) {
	heard := make(chan map[string]string, 1)
	f := newFake(t, func(s *rpc.Server) {
		s.Unary(methodPut, func(c *rpc.Call, msg []byte) {
			all := map[string]string{"message": string(msg)}
			c.EachMetadata(func(k, v string) { all[k] += v })
			heard <- all
			c.SetHeader("x-from-store", "hello")
			c.SetHeader("x-bytes-bin", "\x00\xff")
			c.Reply(rpc.RawMessage("ok"))
		})
	})
	c := dial(t, start(t, []string{f.address}, nil).Address(), nil)
	put := c.begin(methodPut, 0, []byte{10, 1, 'k', 200, 1, 7}, lean.Field{Name: "token", Value: "t"}, lean.Field{Name: "hasleader", Value: "true"},
		lean.Field{Name: "client-api-version", Value: "3.7"}, lean.Field{Name: "x-bytes-bin", Value: "\x01\x00"})
	if body, err := put.wait(); err != nil || string(body) != "ok" {
		t.Fatalf("%q %v", body, err)
	}
	got := wait(t, "the call", heard)
	for k, v := range map[string]string{"token": "t", "hasleader": "true", "client-api-version": "3.7", "x-bytes-bin": "\x01\x00",
		"user-agent": "quorate-proxy", "message": string([]byte{10, 1, 'k', 200, 1, 7})} {
		if got[k] != v {
			t.Errorf("%s is %q, want %q", k, got[k], v)
		}
	}
	if fmt.Sprint(put.heads) != fmt.Sprint([]lean.Field{{Name: "x-from-store", Value: "hello"}, {Name: "x-bytes-bin", Value: "\x00\xff"}}) {
		t.Errorf("headers of the answer: %q", put.heads)
	}
}

// TestReadYourWrites: many clients of one key; none ever reads a value older than its last write.
func TestReadYourWrites(t *testing.T) {
	s := store(t, nil)
	p := start(t, s.ClientURLs(), nil)
	ctx := within(t)
	var all sync.WaitGroup
	for i := range 6 {
		c := client(t, p.Address(), nil)
		r := rand.New(rand.NewPCG(1, uint64(i)))
		all.Go(func() {
			for range 40 {
				if r.IntN(4) > 0 {
					if _, err := c.Get(ctx, "k"); err != nil {
						t.Error(err)
					}
					continue
				}
				put, err := c.Put(ctx, "k", "v")
				if err != nil {
					t.Error(err)
					return
				}
				got, err := c.Get(ctx, "k")
				if err != nil || got.Kvs[0].ModRevision < put.Header.Revision || got.Header.Revision < put.Header.Revision {
					t.Errorf("wrote at %d, read %v %v", put.Header.Revision, got, err)
				}
			}
		})
	}
	all.Wait()
}

// TestOrdering: with --experimental-serializable-ordering a serializable read never shows an older store than an earlier answer
// did; without, it may.
func TestOrdering(t *testing.T) {
	member := func(rev int64) *fake {
		return newFake(t, func(s *rpc.Server) {
			s.Unary(methodRange, func(c *rpc.Call, msg []byte) {
				var req pb.RangeRequest
				if err := proto.Unmarshal(msg, &req); err != nil {
					t.Error(err)
				}
				at := rev
				if !req.Serializable {
					at = 20 // the newest
				}
				c.Reply(rpc.RawMessage(encode(t, &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: at}})))
			})
		})
	}
	behind, ahead := member(10), member(15)
	c := client(t, start(t, []string{behind.address, ahead.address}, func(c *proxy.Config) { c.Ordering = true }).Address(), nil)
	ctx := within(t)
	last := int64(0)
	for i := range 40 {
		var opts []clientv3.OpOption
		if i != 20 {
			opts = append(opts, clientv3.WithSerializable())
		}
		got, err := c.Get(ctx, "k", opts...)
		if err != nil || got.Header.Revision < last {
			t.Fatalf("read %d: %v after %d, %v", i, got, last, err)
		}
		last = got.Header.Revision
	}
	if last != 20 {
		t.Errorf("the last read shows revision %d", last)
	}
}
