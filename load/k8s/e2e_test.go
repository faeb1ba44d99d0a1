package k8s_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"quorate.dev/quorate/embed"
	"quorate.dev/quorate/load/k8s"
)

// start starts a server and a client that asks it what it holds.
func start(t *testing.T) (context.Context, string, *clientv3.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	s, err := embed.Start(ctx, embed.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	c, err := clientv3.New(clientv3.Config{Endpoints: s.ClientURLs(), DialTimeout: time.Minute, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return ctx, s.ClientURLs()[0], c
}

// patient are service levels that no busy machine breaks.
var patient = k8s.SLO{Call: time.Hour, List: time.Hour, Delivery: time.Hour, Progress: time.Hour}

// small is a cluster on which everything that is measured happens within two seconds.
func small(endpoint string) k8s.Options {
	var o k8s.Options
	o.Target.Endpoints = []string{endpoint}
	o.Target.Timeout = time.Minute
	o.Size = k8s.Size{Nodes: 20, PodsPerNode: 5, APIServers: 2}
	o.Rates = k8s.Rates{LeaseEvery: 500 * time.Millisecond, StatusEvery: time.Second, Churn: 1000, Gets: 1000, ListEvery: 200 * time.Millisecond, AllEvery: 500 * time.Millisecond}
	o.Times = k8s.Times{Measured: 2 * time.Second, Warmup: -1, Compaction: 300 * time.Millisecond}
	o.SLO = patient
	o.Store.Verify = true
	return o
}

func count(ctx context.Context, t *testing.T, c *clientv3.Client, prefix string) int64 {
	t.Helper()
	r, err := c.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		t.Fatal(err)
	}
	return r.Count
}

// TestCluster plays a small cluster: the store holds afterwards what was acknowledged, every event came, every kind of call was made,
// also while an API server lists everything anew, and a flood reaches its one watcher whole.
func TestCluster(t *testing.T) {
	t.Parallel()
	ctx, endpoint, c := start(t)
	o := small(endpoint)
	o.Times.Relist, o.Times.Flood = time.Second, 200*time.Millisecond
	rep, err := k8s.Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if !rep.OK || rep.Run.Missing+rep.Run.Surplus+rep.Relist.Missing+rep.Relist.Surplus != 0 || rep.Run.All.Errors != 0 || rep.Run.Redials != 0 {
		t.Fatalf("%v; %+v", rep.Broken, rep.Run)
	}
	v := rep.Verified
	for prefix, want := range map[string]int64{"/registry/pods/": v.Pods, "/registry/minions/": 20, "/registry/leases/kube-node-lease/": 20, "/registry/events/": v.Events} {
		if n := count(ctx, t, c, prefix); n != want || n == 0 {
			t.Errorf("%d keys under %s, reported are %d", n, prefix, want)
		}
	}
	if rep.Relist.Pods != v.Pods || rep.FillPods != 100 {
		t.Errorf("%d and %d pods, filled were %d", rep.Relist.Pods, v.Pods, rep.FillPods)
	}
	made := map[string]bool{}
	for _, row := range append(rep.Run.Calls, rep.Relist.Calls...) {
		made[row.Verb+" "+row.Resource] = row.Count > 0
	}
	for _, want := range []string{"create pods", "update leases", "update nodes",
		"get pods", "get nodes", "list-500 pods", "list-10000 pods", "relist-10000 (all)", "update compact_rev_key"} {
		if !made[want] {
			t.Errorf("no call of %s", want)
		}
	}
	if rep.Flood.Events == 0 || count(ctx, t, c, "/registry/flood/") != 0 {
		t.Errorf("%+v", rep.Flood)
	}
	var table, text bytes.Buffer
	if err := rep.Table(&table); err != nil || !strings.Contains(table.String(), "every service level was kept") {
		t.Errorf("%v\n%s", err, table.String())
	}
	var back map[string]any
	if err := rep.JSON(&text); err != nil || json.Unmarshal(text.Bytes(), &back) != nil || back["ok"] != true || strings.Count(text.String(), "\n") != 1 {
		t.Errorf("%v: %s", err, text.String())
	}
}

// TestObjectsAreKubernetes: what is written are keys and values of Kubernetes, Events with a lease, the rest without.
func TestObjectsAreKubernetes(t *testing.T) {
	t.Parallel()
	ctx, endpoint, c := start(t)
	o := small(endpoint)
	o.Store.Prefix = "/another/"
	if rep, err := k8s.Run(ctx, o); err != nil || !rep.OK {
		t.Fatalf("%v %+v", err, rep)
	}
	r, err := c.Get(ctx, "/another/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range r.Kvs {
		event := strings.HasPrefix(string(kv.Key), "/another/events/")
		if !bytes.HasPrefix(kv.Value, []byte("k8s\x00")) || event != (kv.Lease != 0) {
			t.Fatalf("%s: lease %d, value %q", kv.Key, kv.Lease, kv.Value[:20])
		}
	}
	if n := count(ctx, t, c, "/registry/"); n != 0 {
		t.Errorf("%d keys outside of the prefix", n)
	}
	if _, err := k8s.Run(ctx, o); err == nil || !strings.Contains(err.Error(), "--clear") {
		t.Errorf("a store that is not empty: %v", err)
	}
	o.Store.Clear, o.Times.Measured = true, 100*time.Millisecond
	if rep, err := k8s.Run(ctx, o); err != nil || rep.Verified.Nodes != 20 {
		t.Errorf("a store to be cleared: %v", err)
	}
}

// TestFindLimit: a search that nothing stops goes to its end, and the store grows with it; one whose service level cannot be kept ends
// with nothing, and says why.
func TestFindLimit(t *testing.T) {
	t.Parallel()
	ctx, endpoint, c := start(t)
	o := small(endpoint)
	o.Times.Measured = 200 * time.Millisecond
	o.Size.PodsMax = 100
	o.Search = k8s.Search{On: true, Measured: 300 * time.Millisecond, NodesMax: 50}
	rep, err := k8s.Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if l := rep.Limit; l.Nodes != 50 || !l.Capped || len(l.Probes) != 3 {
		t.Errorf("%+v", l)
	}
	if n := count(ctx, t, c, "/registry/minions/"); n != 50 {
		t.Errorf("%d nodes", n)
	}
	o.Store.Clear, o.Size.Nodes = true, 2
	o.SLO.Delivery = time.Nanosecond
	rep, err = k8s.Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if rep.OK || rep.Limit.Nodes != 0 || !strings.Contains(strings.Join(rep.Broken, " "), "delivery of") {
		t.Errorf("%+v %v", rep.Limit, rep.Broken)
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	for text, spoil := range map[string]func(*k8s.Options){
		"--nodes is -1; it must be from 1":  func(o *k8s.Options) { o.Size.Nodes = -1 },
		`--prefix is "x"; it must end with`: func(o *k8s.Options) { o.Store.Prefix = "x" },
		"it must be host:port":              func(o *k8s.Options) { o.Target.Endpoints = []string{"nowhere"} },
		"--churn is -2":                     func(o *k8s.Options) { o.Rates.Churn = -2 },
		"connection refused":                func(*k8s.Options) {},
	} {
		o := small("127.0.0.1:1")
		spoil(&o)
		if rep, err := k8s.Run(t.Context(), o); rep != nil || err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
