package embed_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"quorate.dev/quorate/embed"
	"quorate.dev/quorate/internal/freeport"
)

func start(t *testing.T, c embed.Config) *embed.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	s, err := embed.Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func client(t *testing.T, s *embed.Server) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: s.ClientURLs(), DialTimeout: 2 * time.Minute, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// TestClient drives a server with etcd's own client: puts, gets, a watch, transactions, leases, compaction and errors.
func TestClient(t *testing.T) {
	c := client(t, start(t, embed.Config{Dir: t.TempDir()}))
	ctx := deadline(t)
	events := c.Watch(ctx, "k", clientv3.WithPrefix(), clientv3.WithPrevKV())
	put, err := c.Put(ctx, "k1", "v1")
	if err != nil {
		t.Fatal(err)
	}
	if put.Header.Revision != 2 {
		t.Errorf("the first write makes revision %d", put.Header.Revision)
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
	if _, err := c.Put(ctx, "k3", "v3", clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	if alive, err := c.KeepAliveOnce(ctx, lease.ID); err != nil || alive.TTL != 60 {
		t.Errorf("%v %v", alive, err)
	}
	if _, err := c.Revoke(ctx, lease.ID); err != nil {
		t.Fatal(err)
	}
	want := []string{"PUT k1 v1", "PUT k2 v2", "PUT k3 v3", "DELETE k3 "}
	for resp := range events {
		for _, e := range resp.Events {
			if got := fmt.Sprintf("%s %s %s", e.Type, e.Kv.Key, e.Kv.Value); got != want[0] {
				t.Fatalf("event %q, want %q", got, want[0])
			}
			want = want[1:]
		}
		if len(want) == 0 {
			break
		}
	}
	if len(want) > 0 {
		t.Errorf("the watch ended before %q", want)
	}
	if _, err := c.Compact(ctx, 3); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(ctx, "k1", clientv3.WithRev(2)); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("%v", err)
	}
	if _, err := c.Put(ctx, "", "v"); !errors.Is(err, rpctypes.ErrEmptyKey) {
		t.Errorf("%v", err)
	}
}

// TestRestart checks that data, revision and identity outlive the server, and that a directory has one user at a time.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	apart := map[string]string{"wal-dir": filepath.Join(t.TempDir(), "wal")}
	first := start(t, embed.Config{Dir: dir, Name: "m1", Settings: apart})
	ctx := deadline(t)
	put, err := client(t, first).Put(ctx, "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := embed.Start(ctx, embed.Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "in use by another process") || !strings.Contains(err.Error(), dir) {
		t.Errorf("second server: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := embed.Start(ctx, embed.Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "--wal-dir") {
		t.Errorf("without its log: %v", err)
	}
	second := start(t, embed.Config{Dir: dir, Name: "m1", Settings: apart})
	got, err := client(t, second).Get(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "b" || got.Header.Revision != put.Header.Revision ||
		got.Header.ClusterId != put.Header.ClusterId || got.Header.MemberId != put.Header.MemberId {
		t.Errorf("before %v, after %v", put.Header, got)
	}
	if got.Header.RaftTerm <= put.Header.RaftTerm {
		t.Errorf("term %d after %d", got.Header.RaftTerm, put.Header.RaftTerm)
	}
}

// TestStatus checks what the member says of itself over gRPC and HTTP.
func TestStatus(t *testing.T) {
	s := start(t, embed.Config{Dir: t.TempDir(), Name: "m1"})
	c, ctx := client(t, s), deadline(t)
	status, err := c.Status(ctx, s.ClientURLs()[0])
	if err != nil {
		t.Fatal(err)
	}
	if status.Version != "3.7.3" || status.Leader != status.Header.MemberId || status.DbSizeQuota != 2<<30 || len(status.Errors) != 0 {
		t.Errorf("%v", status)
	}
	members, err := c.MemberList(ctx)
	if err != nil || len(members.Members) != 1 || members.Members[0].Name != "m1" || members.Members[0].ClientURLs[0] != s.ClientURLs()[0] {
		t.Errorf("%v %v", members, err)
	}
	for path, want := range map[string]string{
		"/health":          `{"health":"true","reason":""}`,
		"/version":         `"etcdserver":"3.7.3"`,
		"/livez":           "ok\n",
		"/readyz?verbose":  "[+]linearizable_read ok\n",
		"/metrics":         "\netcd_server_has_leader 1\n",
		"/v3/kv/range":     "Method Not Allowed",
		"/debug/vars":      `"raft.status"`,
		"/no/such/page":    "404 page not found\n",
		"/metrics?again=1": `grpc_server_handled_total{grpc_code="OK",grpc_method="Status",grpc_service="etcdserverpb.Maintenance",grpc_type="unary"} 1`,
	} {
		resp, err := http.Get(s.ClientURLs()[0] + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || !strings.Contains(string(body), want) {
			t.Errorf("%s: no %q in %.500q, %v", path, want, body, err)
		}
	}
}

// TestSettings checks that wrong settings are refused by name and right ones take effect.
func TestSettings(t *testing.T) {
	for _, c := range []struct {
		config embed.Config
		want   string
	}{
		{embed.Config{}, "Dir is empty"},
		{embed.Config{Dir: t.TempDir(), Settings: map[string]string{"nope": "1"}}, `no setting "nope"`},
		{embed.Config{Dir: t.TempDir(), Settings: map[string]string{"max-txn-ops": "x"}}, `invalid value "x" for setting max-txn-ops`},
		{embed.Config{Dir: t.TempDir(), Settings: map[string]string{"listen-metrics-urls": "https://127.0.0.1:0"}}, "client TLS key/cert"},
	} {
		if _, err := embed.Start(t.Context(), c.config); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
	c := client(t, start(t, embed.Config{Dir: t.TempDir(), Settings: map[string]string{"max-txn-ops": "1"}}))
	_, err := c.Txn(deadline(t)).Then(clientv3.OpPut("a", ""), clientv3.OpPut("b", "")).Commit()
	if !errors.Is(err, rpctypes.ErrTooManyOps) {
		t.Errorf("%v", err)
	}
}

// TestCloseEndsWatches checks that a stop does not wait for clients that never leave.
func TestCloseEndsWatches(t *testing.T) {
	var took time.Duration
	for range 5 { // a machine that stalls may make one stop last
		if took = closedUnderAWatch(t); took < 14*time.Second { // what waits is ended after 15 s
			return
		}
	}
	t.Errorf("the stop took %v", took)
}

func closedUnderAWatch(t *testing.T) (took time.Duration) {
	t.Helper()
	s := start(t, embed.Config{Dir: t.TempDir()})
	c := client(t, s)
	ctx := deadline(t)
	watch := c.Watch(clientv3.WithRequireLeader(ctx), "a", clientv3.WithCreatedNotify())
	if created := <-watch; !created.Created {
		t.Fatalf("%v", created)
	}
	begin := time.Now()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return time.Since(begin)
}

// TestAddresses serves gRPC on a unix socket, HTTP on its own address and metrics on another.
func TestAddresses(t *testing.T) {
	socket := "unix://" + filepath.Join(t.TempDir(), "q.sock")
	web, monitor := "http://"+freeport.Address(t), "http://"+freeport.Address(t)
	s := start(t, embed.Config{Dir: t.TempDir(), ClientURLs: []string{socket},
		Settings: map[string]string{"listen-client-http-urls": web, "listen-metrics-urls": monitor}})
	if _, err := client(t, s).Put(deadline(t), "a", "b"); err != nil {
		t.Fatal(err)
	}
	for url, code := range map[string]int{web + "/version": 200, web + "/health": 200, monitor + "/metrics": 200, monitor + "/readyz": 200, monitor + "/version": 404} {
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != code {
			t.Errorf("%s: %d, want %d", url, resp.StatusCode, code)
		}
	}
}

// TestHashOfCompaction checks that a compaction runs to its end: a physical one returns, and its hash is kept.
func TestHashOfCompaction(t *testing.T) {
	s := start(t, embed.Config{Dir: t.TempDir()})
	c, ctx := client(t, s), deadline(t)
	for i := range 10 {
		if _, err := c.Put(ctx, "k", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	before, err := c.HashKV(ctx, s.ClientURLs()[0], 8)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Compact(ctx, 8, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	after, err := c.HashKV(ctx, s.ClientURLs()[0], 8)
	if err != nil || after.Hash != before.Hash {
		t.Errorf("%v, then %v %v", before, after, err)
	}
}

// TestLeaseExpires checks that time passes for leases.
func TestLeaseExpires(t *testing.T) {
	c, ctx := client(t, start(t, embed.Config{Dir: t.TempDir()})), deadline(t)
	lease, err := c.Grant(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	put, err := c.Put(ctx, "a", "b", clientv3.WithLease(lease.ID))
	if err != nil {
		t.Fatal(err)
	}
	for resp := range c.Watch(ctx, "a", clientv3.WithRev(put.Header.Revision+1)) {
		if len(resp.Events) == 1 && resp.Events[0].Type == clientv3.EventTypeDelete {
			return
		}
	}
	t.Error("the key outlived its lease")
}
