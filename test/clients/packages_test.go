package clients

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/mirror"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"go.etcd.io/etcd/client/v3/ordering"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"quorate.dev/quorate/test/clients/site"
)

// must returns the answer of a call that has to succeed.
func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// pairs are the keys and values of an answer.
func pairs(resp *clientv3.GetResponse) map[string]string {
	out := map[string]string{}
	for _, kv := range resp.Kvs {
		out[string(kv.Key)] = string(kv.Value)
	}
	return out
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Errorf("%s: %s, want %s", what, g, w)
	}
}

// namespaces: two tenants with the same keys never see each other, by any operation.
func namespaces(t *testing.T, s *site.Site) {
	ctx, cli := t.Context(), s.Client(t)
	a, b := namespace.NewKV(cli, "ns/a/"), namespace.NewKV(cli, "ns/b/")
	watch := namespace.NewWatcher(cli, "ns/a/").Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithPrevKV())
	lease := namespace.NewLease(cli, "ns/a/")
	granted := must(lease.Grant(ctx, 60))(t)
	must(cli.Put(ctx, "ns/b", "neighbour"))(t)
	must(b.Put(ctx, "k", "b"))(t)
	must(a.Put(ctx, "k", "1", clientv3.WithLease(granted.ID)))(t)
	must(a.Put(ctx, "l", "2"))(t)
	must(cli.Put(ctx, "ns/b/leased", "x", clientv3.WithLease(granted.ID)))(t)
	equal(t, "all of a", pairs(must(a.Get(ctx, "", clientv3.WithFromKey()))(t)), map[string]string{"k": "1", "l": "2"})
	equal(t, "a raw", pairs(must(cli.Get(ctx, "ns/a/", clientv3.WithPrefix()))(t)), map[string]string{"ns/a/k": "1", "ns/a/l": "2"})
	ttl := must(lease.TimeToLive(ctx, granted.ID, clientv3.WithAttachedKeys()))(t)
	equal(t, "keys of the lease", fmt.Sprintf("%s", ttl.Keys), "[k]")
	txn := must(a.Txn(ctx).If(clientv3.Compare(clientv3.Value("k"), "=", "1"), clientv3.Compare(clientv3.Version("m").WithPrefix(), "=", 0)).
		Then(clientv3.OpPut("m", "3"), clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpDelete("l"), clientv3.OpGet("k")}, nil)).
		Else(clientv3.OpGet("k")).Commit())(t)
	equal(t, "succeeded", txn.Succeeded, true)
	if inner := txn.Responses[1].GetResponseTxn(); string(inner.Responses[1].GetResponseRange().Kvs[0].Key) != "k" {
		t.Errorf("the inner transaction answers %v", inner)
	}
	equal(t, "deleted", must(a.Delete(ctx, "", clientv3.WithFromKey()))(t).Deleted, 2)
	equal(t, "b", pairs(must(b.Get(ctx, "", clientv3.WithPrefix()))(t)), map[string]string{"k": "b", "leased": "x"})
	if _, err := a.Put(ctx, "", "x"); !errors.Is(err, rpctypes.ErrEmptyKey) {
		t.Errorf("an empty key: %v", err)
	}
	var seen []string
	for len(seen) < 6 {
		resp := <-watch
		if resp.Err() != nil {
			t.Fatal(resp.Err())
		}
		for _, e := range resp.Events {
			prev := ""
			if e.PrevKv != nil {
				prev = "/" + string(e.PrevKv.Key) + "=" + string(e.PrevKv.Value)
			}
			seen = append(seen, fmt.Sprintf("%s %s=%s%s", e.Type, e.Kv.Key, e.Kv.Value, prev))
		}
	}
	equal(t, "events", strings.Join(seen, ", "), "PUT k=1, PUT l=2, PUT m=3, DELETE l=/l=2, DELETE k=/k=1, DELETE m=/m=3")
}

// counter counts unary calls by method.
type counter struct {
	mu    sync.Mutex
	calls map[string]int
}

func (c *counter) set(cfg *clientv3.Config) {
	c.calls = map[string]int{}
	cfg.DialOptions = append(cfg.DialOptions, grpc.WithChainUnaryInterceptor(
		func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			c.mu.Lock()
			c.calls[method[strings.LastIndex(method, "/")+1:]]++
			c.mu.Unlock()
			return call(ctx, method, req, reply, cc, opts...)
		}))
}

func (c *counter) of(methods ...string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range methods {
		n += c.calls[m]
	}
	return n
}

// leases: what is owned is read without asking, and never stale; who writes takes it back.
func leases(t *testing.T, s *site.Site) {
	ctx := t.Context()
	var asked counter
	cli, other := s.Client(t, asked.set), s.Client(t)
	own, closeOwn, err := leasing.NewKV(cli, "leasing/")
	if err != nil {
		t.Fatal(err)
	}
	defer closeOwn()
	rival, closeRival, err := leasing.NewKV(other, "leasing/")
	if err != nil {
		t.Fatal(err)
	}
	defer closeRival()
	must(own.Put(ctx, "lk", "0"))(t)
	must(own.Get(ctx, "lk"))(t)
	before := asked.of("Range", "Txn")
	for range 100 {
		equal(t, "cached", pairs(must(own.Get(ctx, "lk"))(t))["lk"], "0")
	}
	equal(t, "calls for 100 reads of an owned key", asked.of("Range", "Txn")-before, 0)
	if kv := must(other.Get(ctx, "leasing/lk"))(t).Kvs; len(kv) != 1 || kv[0].Lease == 0 {
		t.Errorf("the leasing key is %v", kv)
	}
	must(rival.Put(ctx, "lk", "1"))(t)
	equal(t, "after a rival's write", pairs(must(own.Get(ctx, "lk"))(t))["lk"], "1")
	must(own.Put(ctx, "lk", "2"))(t)
	equal(t, "as the rival reads it", pairs(must(rival.Get(ctx, "lk"))(t))["lk"], "2")

	const each = 10
	var done sync.WaitGroup
	must(other.Put(ctx, "sum", "0"))(t)
	for _, kv := range []clientv3.KV{own, rival} {
		done.Go(func() {
			for n := 0; n < each && ctx.Err() == nil; {
				got, err := kv.Get(ctx, "sum")
				if err != nil {
					t.Error(err)
					return
				}
				var v int
				_, _ = fmt.Sscan(string(got.Kvs[0].Value), &v)
				resp, err := kv.Txn(ctx).If(clientv3.Compare(clientv3.Value("sum"), "=", fmt.Sprint(v))).Then(clientv3.OpPut("sum", fmt.Sprint(v+1))).Commit()
				if err != nil {
					t.Error(err)
					return
				}
				if resp.Succeeded {
					n++
				}
			}
		})
	}
	done.Wait()
	equal(t, "sum of both", pairs(must(other.Get(ctx, "sum"))(t))["sum"], 2*each)
	equal(t, "deleted", must(rival.Delete(ctx, "lk"))(t).Deleted, 1)
	equal(t, "what is deleted", len(must(own.Get(ctx, "lk"))(t).Kvs), 0)
}

// order: serializable reads, which any member answers, do not go back.
func order(t *testing.T, s *site.Site) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cli := s.Client(t)
	var violations atomic.Int64
	kv := ordering.NewKV(cli, func(clientv3.Op, clientv3.OpResponse, int64) error {
		violations.Add(1)
		return ctx.Err()
	})
	must(kv.Put(ctx, "ordered", "0"))(t)
	var done sync.WaitGroup
	defer done.Wait()
	defer cancel()
	written := make(chan struct{})
	done.Go(func() {
		defer close(written)
		for n := 1; n <= 200; n++ {
			if _, err := cli.Put(ctx, "ordered", fmt.Sprint(n)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	last, reads := int64(0), 0
	for open := true; open; reads++ {
		got := must(kv.Get(ctx, "ordered", clientv3.WithSerializable()))(t)
		if got.Header.Revision < last {
			t.Fatalf("a read at revision %d after one at %d", got.Header.Revision, last)
		}
		last = got.Header.Revision
		txn := must(kv.Txn(ctx).Then(clientv3.OpGet("ordered", clientv3.WithSerializable())).Commit())(t)
		if txn.Header.Revision < last {
			t.Fatalf("a transaction at revision %d after a read at %d", txn.Header.Revision, last)
		}
		select {
		case <-written:
			open = false
		default:
		}
	}
	t.Logf("%d reads, %d were asked again", reads, violations.Load())
}

// mirrors: a prefix is copied in pages and then followed while it changes; in the end the copy is equal.
func mirrors(t *testing.T, s *site.Site) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cli, copier := s.Client(t), s.Client(t)
	const n = 2100 // three pages
	for i := 0; i < n; i += 100 {
		var ops []clientv3.Op
		for j := range 100 {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("src/%04d", i+j), fmt.Sprint(i+j)))
		}
		must(cli.Txn(ctx).Then(ops...).Commit())(t)
	}
	syncer := mirror.NewSyncer(copier, "src/", 0)
	base, errs := syncer.SyncBase(ctx)
	pages, replica := 0, map[string]string{}
	changed := false
	for resp := range base {
		pages++
		maps.Copy(replica, pairs(resp))
		if !changed { // while the copy is under way
			changed = true
			must(cli.Delete(ctx, "src/0003"))(t)
			must(cli.Put(ctx, "src/2000", "changed"))(t)
			must(cli.Put(ctx, "src/new", "1"))(t)
		}
	}
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	equal(t, "pages", pages, 3)
	equal(t, "copied at one revision", len(replica), n)
	updates := syncer.SyncUpdates(ctx)
	must(cli.Delete(ctx, "src/1", clientv3.WithPrefix()))(t)
	must(cli.Put(ctx, "src/end", "1"))(t)
	for replica["src/end"] == "" {
		resp := <-updates
		if resp.Err() != nil {
			t.Fatal(resp.Err())
		}
		for _, e := range resp.Events {
			if e.Type == clientv3.EventTypeDelete {
				delete(replica, string(e.Kv.Key))
			} else {
				replica[string(e.Kv.Key)] = string(e.Kv.Value)
			}
		}
	}
	if source := pairs(must(cli.Get(ctx, "src/", clientv3.WithPrefix()))(t)); !maps.Equal(source, replica) {
		t.Errorf("the source has %d keys, the copy %d, and they differ", len(source), len(replica))
	}
	must(cli.Delete(ctx, "src/", clientv3.WithPrefix()))(t)
}

// objects: the interface that Kubernetes' API server uses.
func objects(t *testing.T, s *site.Site) {
	ctx := t.Context()
	cli, err := kubernetes.New(clientv3.Config{Endpoints: s.Endpoints})
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()
	var revs []int64
	for i := range 10 {
		put := must(cli.Kubernetes.OptimisticPut(ctx, fmt.Sprintf("/r/pods/%d", i), []byte("v"), 0, kubernetes.PutOptions{}))(t)
		equal(t, "created", put.Succeeded, true)
		revs = append(revs, put.Revision)
	}
	again := must(cli.Kubernetes.OptimisticPut(ctx, "/r/pods/0", []byte("w"), revs[0]+100, kubernetes.PutOptions{GetOnFailure: true}))(t)
	if again.Succeeded || again.KV == nil || again.KV.ModRevision != revs[0] {
		t.Errorf("an update of another revision: %+v", again)
	}
	equal(t, "updated", must(cli.Kubernetes.OptimisticPut(ctx, "/r/pods/0", []byte("w"), revs[0], kubernetes.PutOptions{}))(t).Succeeded, true)
	first := must(cli.Kubernetes.List(ctx, "/r/pods/", kubernetes.ListOptions{Limit: 4}))(t)
	equal(t, "a page", []int64{int64(len(first.Kvs)), first.Count}, []int64{4, 10})
	must(cli.Kubernetes.OptimisticDelete(ctx, "/r/pods/7", revs[7], kubernetes.DeleteOptions{}))(t)
	rest := must(cli.Kubernetes.List(ctx, "/r/pods/", kubernetes.ListOptions{Revision: first.Revision, Continue: string(first.Kvs[3].Key) + "\x00"}))(t)
	equal(t, "the rest at the first page's revision", len(rest.Kvs), 6)
	equal(t, "count", must(cli.Kubernetes.Count(ctx, "/r/pods/", kubernetes.CountOptions{}))(t), 9)
	if got := must(cli.Kubernetes.Get(ctx, "/r/pods/0", kubernetes.GetOptions{}))(t); string(got.KV.Value) != "w" {
		t.Errorf("get: %+v", got)
	}
}

// names: a gRPC service is found through the store, and its changes are followed: the members' own health service, by its name.
func names(t *testing.T, s *site.Site) {
	ctx, cli := t.Context(), s.Client(t)
	manager := must(endpoints.NewManager(cli, "services/health"))(t)
	addr := func(i int) string { return strings.TrimPrefix(s.Members[i].Client, "http://") }
	if err := manager.AddEndpoint(ctx, "services/health/0", endpoints.Endpoint{Addr: addr(0)}); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("etcd:///services/health", grpc.WithResolvers(must(resolver.NewBuilder(cli))(t)), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	service := grpc_health_v1.NewHealthClient(conn)
	must(service.Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true)))(t)
	if err := manager.AddEndpoint(ctx, "services/health/1", endpoints.Endpoint{Addr: addr(1)}); err != nil {
		t.Fatal(err)
	}
	if err := manager.DeleteEndpoint(ctx, "services/health/0"); err != nil {
		t.Fatal(err)
	}
	site.Until(t, "all members know the second address only", func() bool { // List is serializable
		list := must(manager.List(ctx))(t)
		return len(list) == 1 && list["services/health/1"].Addr == addr(1)
	})
	must(service.Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true)))(t)
}
