package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/proxy"
	"quorate.dev/quorate/rpc"
)

// TestClient drives a proxy with etcd's own client: every kind of call, and errors as the store gives them.
func TestClient(t *testing.T) {
	s := store(t, nil)
	c := client(t, start(t, s.ClientURLs(), nil).Address(), nil)
	ctx := within(t)
	events := c.Watch(ctx, "k", clientv3.WithPrefix(), clientv3.WithPrevKV())
	if _, err := c.Put(ctx, "k1", "v1"); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Get(ctx, "k1"); err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "v1" {
		t.Errorf("%v %v", got, err)
	}
	txn, err := c.Txn(ctx).If(clientv3.Compare(clientv3.Version("k1"), "=", 1)).
		Then(clientv3.OpPut("k2", "v2"), clientv3.OpGet("k", clientv3.WithPrefix())).Else(clientv3.OpGet("k1")).Commit()
	if err != nil || !txn.Succeeded || len(txn.Responses[1].GetResponseRange().Kvs) != 2 {
		t.Errorf("%v %v", txn, err)
	}
	lease, err := c.Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	if alive, err := c.KeepAliveOnce(ctx, lease.ID); err != nil || alive.TTL != 60 {
		t.Errorf("%v %v", alive, err)
	}
	if _, err := c.Put(ctx, "k3", "v3", clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	if ttl, err := c.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys()); err != nil || len(ttl.Keys) != 1 {
		t.Errorf("%v %v", ttl, err)
	}
	seen := 0
	for seen < 3 {
		r := wait(t, "events", events)
		if r.Err() != nil {
			t.Fatal(r.Err())
		}
		seen += len(r.Events)
	}
	if _, err := c.Revoke(ctx, lease.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := c.KeepAliveOnce(ctx, lease.ID); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Errorf("keepalive of a revoked lease: %v", err)
	}
	if _, err := c.Compact(ctx, 3); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(ctx, "k1", clientv3.WithRev(2)); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("a read below the compaction: %v", err)
	}
	if _, err := c.Get(ctx, "k1", clientv3.WithRev(1000)); !errors.Is(err, rpctypes.ErrFutureRev) {
		t.Errorf("a read of the future: %v", err)
	}
	if st, err := c.Status(ctx, c.Endpoints()[0]); err != nil || st.Leader == 0 {
		t.Errorf("%v %v", st, err)
	}
	if members, err := c.MemberList(ctx); err != nil || len(members.Members) != 1 || members.Header == nil {
		t.Errorf("%v %v", members, err)
	}
}

// TestSnapshot: what is saved through a proxy is what the store sends, byte by byte, and so are its headers.
func TestSnapshot(t *testing.T) {
	s := store(t, nil)
	p := start(t, s.ClientURLs(), nil)
	c := client(t, p.Address(), nil)
	ctx := within(t)
	for i := range 10 {
		if _, err := c.Put(ctx, fmt.Sprint("k", i), strings.Repeat("v", 100_000)); err != nil {
			t.Fatal(err)
		}
	}
	read := func(c *clientv3.Client) ([]byte, string) {
		r, err := c.SnapshotWithVersion(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Snapshot.Close()
		data, err := io.ReadAll(r.Snapshot)
		if err != nil {
			t.Fatal(err)
		}
		return data, r.Version
	}
	through, version := read(c)
	if len(through) < 10*100_000 || version == "" {
		t.Errorf("a snapshot of %d bytes, version %q", len(through), version)
	}
}

// TestRangeStream: a stream of a range through a proxy has what one Range has.
func TestRangeStream(t *testing.T) {
	s := store(t, nil)
	c := client(t, start(t, s.ClientURLs(), nil).Address(), nil)
	ctx := within(t)
	for i := range 60 {
		if _, err := c.Put(ctx, fmt.Sprintf("k%03d", i), strings.Repeat("v", 50_000)); err != nil {
			t.Fatal(err)
		}
	}
	kv := pb.NewKVClient(c.ActiveConnection())
	req := &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}
	want, err := kv.Range(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := kv.RangeStream(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	got := &pb.RangeResponse{}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		proto.Merge(got, r.RangeResponse)
	}
	if len(got.Kvs) != 60 || got.Count != want.Count || !proto.Equal(got.Kvs[59], want.Kvs[59]) {
		t.Errorf("%d keys of %d", len(got.Kvs), got.Count)
	}
}

// TestLargeMessages: values up to the store's limit pass, answers of any size pass, and larger requests are refused in grpc's words.
func TestLargeMessages(t *testing.T) {
	s := store(t, nil)
	c := client(t, start(t, s.ClientURLs(), nil).Address(), func(c *clientv3.Config) { c.MaxCallSendMsgSize = 8 << 20 })
	ctx := within(t)
	value := strings.Repeat("v", 1_500_000)
	for i := range 3 {
		if _, err := c.Put(ctx, fmt.Sprint("k", i), value); err != nil {
			t.Fatal(err)
		}
	}
	got, err := c.Get(ctx, "k", clientv3.WithPrefix())
	if err != nil || len(got.Kvs) != 3 || string(got.Kvs[2].Value) != value {
		t.Errorf("an answer of 4.5 MB: %v", err)
	}
	_, err = c.Put(ctx, "k", strings.Repeat("v", 2_000_000))
	if want := "trying to send message larger than max (2000007 vs. 1572864)"; status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	small := client(t, start(t, s.ClientURLs(), func(c *proxy.Config) { c.Store.MaxRecv = 1000 }).Address(), nil)
	_, err = small.Get(ctx, "k0")
	if want := "grpc: received message larger than max ("; status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// users starts a store with authorisation: root, alice who may read "secret", bob who may not.
func users(t *testing.T) (proxyAddress string, root *clientv3.Client) {
	s := store(t, map[string]string{"bcrypt-cost": "4"})
	p := start(t, s.ClientURLs(), nil)
	plain := client(t, p.Address(), nil)
	ctx := within(t)
	for _, user := range []string{"root", "alice", "bob"} {
		if _, err := plain.UserAdd(ctx, user, "pw"); err != nil {
			t.Fatal(err)
		}
	}
	for _, role := range []string{"root", "reader", "other"} {
		if _, err := plain.RoleAdd(ctx, role); err != nil {
			t.Fatal(err)
		}
	}
	grant := func(user, role string) {
		if _, err := plain.UserGrantRole(ctx, user, role); err != nil {
			t.Fatal(err)
		}
	}
	grant("root", "root")
	grant("alice", "reader")
	grant("bob", "other")
	if _, err := plain.RoleGrantPermission(ctx, "reader", "secret", "", clientv3.PermissionType(clientv3.PermRead)); err != nil {
		t.Fatal(err)
	}
	if _, err := plain.Put(ctx, "secret", "treasure"); err != nil {
		t.Fatal(err)
	}
	if _, err := plain.AuthEnable(ctx); err != nil {
		t.Fatal(err)
	}
	return p.Address(), as(t, p.Address(), "root")
}

func as(t *testing.T, address, user string) *clientv3.Client {
	return client(t, address, func(c *clientv3.Config) { c.Username, c.Password = user, "pw" })
}

// TestAuthorization: what one user was just answered, or is being answered, is no answer for another, and a permission that
// was taken away is gone for the next read. etcd's proxy gives bob the treasure.
func TestAuthorization(t *testing.T) {
	address, root := users(t)
	ctx := within(t)
	alice, bob, nobody := as(t, address, "alice"), as(t, address, "bob"), client(t, address, nil)
	check := func(when string) {
		t.Helper()
		for _, serial := range []bool{true, false} {
			var opts []clientv3.OpOption
			if serial {
				opts = append(opts, clientv3.WithSerializable())
			}
			if got, err := alice.Get(ctx, "secret", opts...); err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "treasure" {
				t.Errorf("%s: alice (serializable %v) gets %v %v", when, serial, got, err)
			}
			if got, err := bob.Get(ctx, "secret", opts...); !errors.Is(err, rpctypes.ErrPermissionDenied) {
				t.Errorf("%s: bob (serializable %v) gets %v %v", when, serial, got, err)
			}
			if got, err := nobody.Get(ctx, "secret", opts...); !errors.Is(err, rpctypes.ErrUserEmpty) {
				t.Errorf("%s: nobody (serializable %v) gets %v %v", when, serial, got, err)
			}
		}
	}
	check("one after the other")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 3 {
				check("at the same time")
			}
		})
	}
	all.Wait()
	if _, err := root.RoleRevokePermission(ctx, "reader", "secret", ""); err != nil {
		t.Fatal(err)
	}
	for _, opts := range [][]clientv3.OpOption{nil, {clientv3.WithSerializable()}} {
		if got, err := alice.Get(ctx, "secret", opts...); !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("after her permission was revoked alice gets %v %v", got, err)
		}
	}
}

// TestUnreachable: without a store calls fail as ones that were not sent, and once it is there they pass.
func TestUnreachable(t *testing.T) {
	down := newFake(t, func(*rpc.Server) {})
	if err := down.Close(); err != nil {
		t.Fatal(err)
	}
	caller := dial(t, start(t, []string{down.address}, func(c *proxy.Config) { c.Store.Wait = 50 * time.Millisecond }).Address(), nil)
	_, err := caller.call("/etcdserverpb.KV/Put", []byte{10, 1, 'k'})
	wantStatus(t, err, 14, "there is no connection available")
}

// TestStop: a call under way is answered before the proxy is gone, streams end, and new clients are refused.
func TestStop(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	f := newFake(t, func(s *rpc.Server) {
		s.Unary("/etcdserverpb.KV/Put", func(c *rpc.Call, _ []byte) {
			close(arrived)
			go func() {
				<-release
				c.Reply(rpc.RawMessage("answer"))
			}()
		})
		s.Stream("/etcdserverpb.KV/RangeStream", func(s *rpc.Stream) *rpc.Status {
			<-s.Context().Done()
			return nil
		})
	})
	p := start(t, []string{f.address}, nil)
	caller := dial(t, p.Address(), nil)
	stream := open(t, caller, "/etcdserverpb.KV/RangeStream")
	put := caller.begin("/etcdserverpb.KV/Put", 0, []byte{10, 1, 'k'})
	wait(t, "the call", arrived)
	stopped := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		stopped <- p.Stop(ctx)
	}()
	wantStatus(t, wait(t, "the stream's end", stream.ends), 14, "the proxy is stopping")
	close(release)
	if body, err := put.wait(); err != nil || string(body) != "answer" {
		t.Errorf("%q %v", body, err)
	}
	if err := wait(t, "the proxy's end", stopped); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// listener is the handler of a stream that a test opened.
type listener struct {
	stream   *lean.Stream
	messages chan []byte
	ends     chan error
}

// Message implements lean.Handler.
func (l *listener) Message(body []byte) { l.messages <- bytes.Clone(body) }

// End implements lean.Handler.
func (l *listener) End(err error) { l.ends <- err }

func open(t testing.TB, c *caller, method string) *listener { return openWith(t, c, method, nil) }

// openWith opens a stream and sends one message.
func openWith(t testing.TB, c *caller, method string, first []byte) *listener {
	t.Helper()
	h, err := lean.NewHeader(method)
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{messages: make(chan []byte, 10_000), ends: make(chan error, 1)}
	if l.stream, err = c.conn.OpenWith(h, 0, false, l); err != nil {
		t.Fatal(err)
	}
	if err := l.stream.Send(raw(first), false); err != nil {
		t.Fatal(err)
	}
	if err := c.conn.Flush(); err != nil {
		t.Fatal(err)
	}
	return l
}
