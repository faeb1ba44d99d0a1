package load_test

import (
	"context"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"quorate.dev/quorate/embed"
	"quorate.dev/quorate/load"
)

// server is a running server, and a client that asks it what it holds.
type server struct {
	t        *testing.T
	endpoint string
	client   *clientv3.Client
	ctx      context.Context
}

func startServer(t *testing.T) *server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
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
	c, err := clientv3.New(clientv3.Config{Endpoints: s.ClientURLs(), DialTimeout: 2 * time.Minute, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &server{t, s.ClientURLs()[0], c, ctx}
}

// run runs a workload that must succeed without errors.
func (s *server) run(name string, o load.Options) *load.Result {
	s.t.Helper()
	o.Target.Endpoints = []string{s.endpoint}
	res, err := load.Run(s.ctx, name, o)
	if err != nil {
		s.t.Fatalf("%s: %v", name, err)
	}
	if res.Workload != name || res.Errors != 0 || len(res.ErrorSamples) != 0 || res.Operations == 0 || res.Rate <= 0 || res.Seconds <= 0 ||
		len(res.Timeline) == 0 || res.Latency.Max < res.Latency.P50 {
		s.t.Errorf("%s: %+v", name, res)
	}
	var counted int64
	for _, second := range res.Timeline {
		counted += second.Operations
	}
	if counted != res.Operations {
		s.t.Errorf("%s: the timeline has %d operations of %d", name, counted, res.Operations)
	}
	return res
}

// extra wants figures of a result.
func (s *server) extra(res *load.Result, want map[string]float64) {
	s.t.Helper()
	for name, v := range want {
		if got, ok := res.Extra[name]; !ok || got != v {
			s.t.Errorf("%s: extra.%s is %v (there: %v), want %v", res.Workload, name, got, ok, v)
		}
	}
}

// get reads a prefix.
func (s *server) get(prefix string, o ...clientv3.OpOption) *clientv3.GetResponse {
	s.t.Helper()
	resp, err := s.client.Get(s.ctx, prefix, append(o, clientv3.WithPrefix())...)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp
}

// TestFill: every key once, of the sizes asked for; what reads afterwards finds all of it.
func TestFill(t *testing.T) {
	s := startServer(t)
	const keys = 2500
	data := load.Data{Keys: keys, KeySize: 30, ValueSize: 77, Compressible: 0.5}
	spread := load.Target{Connections: 4}
	res := s.run("fill", load.Options{Target: spread, Shape: load.Shape{Clients: 50}, Data: data})
	got := s.get("bench/")
	if res.Operations != keys || got.Count != keys || res.Bytes != keys*77 {
		t.Fatalf("%d operations, %d bytes, %d keys", res.Operations, res.Bytes, got.Count)
	}
	for i, kv := range got.Kvs {
		if kv.Version != 1 || len(kv.Key) != 30 || len(kv.Value) != 77 {
			t.Fatalf("key %d: %v", i, kv)
		}
	}
	total := load.Shape{Clients: 20, Total: 1000}
	s.extra(s.run("get", load.Options{Target: spread, Shape: total, Data: data}), map[string]float64{"misses": 0})
	s.extra(s.run("get", load.Options{Target: spread, Shape: total, Data: data, Work: load.Work{Serializable: true}}), map[string]float64{"misses": 0})
	other := data
	other.Prefix = "other/"
	s.extra(s.run("get", load.Options{Target: spread, Shape: total, Data: other}), map[string]float64{"misses": 1000})

	s.extra(s.run("range", load.Options{Shape: load.Shape{Clients: 3, Total: 30}, Data: data, Work: load.Work{Span: 100}}), map[string]float64{"keys": 3000})
	s.extra(s.run("range", load.Options{Shape: load.Shape{Clients: 3, Total: 30}, Data: data, Work: load.Work{Span: 100, Limit: 10}}), map[string]float64{"keys": 300})
	s.extra(s.run("range", load.Options{Shape: load.Shape{Total: 10}, Data: data, Work: load.Work{Span: 100, CountOnly: true}}), map[string]float64{"keys": 0})

	res = s.run("list", load.Options{Target: spread, Shape: load.Shape{Clients: 2}, Data: data, Work: load.Work{Lists: 3}})
	s.extra(res, map[string]float64{"lists": 6, "keys": 6 * keys})
	if res.Operations != 6*5 || res.Extra["list_p50_ms"] < res.Latency.P50 {
		t.Errorf("list: %d pages; %v", res.Operations, res.Extra)
	}
	res = s.run("list", load.Options{Shape: load.Shape{Total: 7}, Data: data, Work: load.Work{Limit: 1000, KeysOnly: true}})
	if s.extra(res, map[string]float64{"lists": 2}); res.Operations != 7 {
		t.Errorf("list: %d pages", res.Operations)
	}
	for _, unary := range []bool{false, true} {
		res = s.run("stream", load.Options{Shape: load.Shape{Clients: 2, Total: 5}, Data: data, Work: load.Work{Unary: unary}})
		s.extra(res, map[string]float64{"keys": keys})
		if res.Extra["first_byte_ms"] <= 0 || res.Extra["first_byte_ms"] > res.Latency.Max || res.Bytes < 5*keys*(30+77) {
			t.Errorf("stream, unary %v: %+v", unary, res)
		}
	}
}

// TestPut: as many writes as were measured, on the keys of the key space, closed and open.
func TestPut(t *testing.T) {
	s := startServer(t)
	before := s.get("p/").Header.Revision
	o := load.Options{Target: load.Target{Connections: 3}, Shape: load.Shape{Clients: 10, Total: 600}, Data: load.Data{Prefix: "p/", Keys: 50, Sequential: true}}
	res := s.run("put", o)
	got := s.get("p/")
	if res.Operations != 600 || got.Count != 50 || got.Header.Revision-before != 600 || res.Latency.Min <= 0 {
		t.Errorf("%d operations, %d keys, %d revisions", res.Operations, got.Count, got.Header.Revision-before)
	}
	for _, kv := range got.Kvs {
		if kv.Version != 12 || len(kv.Value) != 256 {
			t.Errorf("%s: version %d, %d bytes", kv.Key, kv.Version, len(kv.Value))
		}
	}
	o.Shape = load.Shape{Rate: 2000, Duration: 300 * time.Millisecond, Warmup: 100 * time.Millisecond}
	res = s.run("put", o)
	if n := s.get("p/").Header.Revision - got.Header.Revision; res.Operations != 600 || n != 800 || res.Extra["not_sent"] != 0 || res.TargetRate != 2000 {
		t.Errorf("open loop: %d operations, %d revisions, extra %v", res.Operations, n, res.Extra)
	}
	for limit := 200 * time.Millisecond; ; limit *= 8 { // a disk, or the machine, may stall for that long
		o.Shape = load.Shape{Clients: 5, Duration: limit, Warmup: 4 * limit}
		before = s.get("p/").Header.Revision
		o.Target.Endpoints = []string{s.endpoint}
		res, err := load.Run(s.ctx, "put", o)
		if err != nil {
			t.Fatal(err)
		}
		if written := s.get("p/").Header.Revision - before; res.Operations > 0 && written > res.Operations {
			break
		} else if limit > 10*time.Second {
			t.Fatalf("%d operations in %v, %d writes: a warm-up that writes nothing, or counts", res.Operations, limit, written)
		}
	}
}

func TestMixed(t *testing.T) {
	s := startServer(t)
	before := s.get("m/").Header.Revision
	res := s.run("mixed", load.Options{Shape: load.Shape{Clients: 8, Total: 1000}, Data: load.Data{Prefix: "m/", Keys: 100}, Work: load.Work{ReadRatio: 0.7}})
	writes := s.get("m/").Header.Revision - before
	if writes+int64(res.Extra["reads"]) != 1000 || writes < 200 || writes > 400 {
		t.Errorf("%d writes, %v reads", writes, res.Extra["reads"])
	}
}

// TestTxn: every transaction succeeds while nobody else writes, and finds its way again when somebody has.
func TestTxn(t *testing.T) {
	s := startServer(t)
	o := load.Options{Target: load.Target{Connections: 4}, Shape: load.Shape{Clients: 20, Total: 500}, Data: load.Data{Prefix: "t/", Keys: 40}}
	versions := func() (n, keys int64) {
		for _, kv := range s.get("t/").Kvs {
			n += kv.Version
			keys++
		}
		return n, keys
	}
	s.extra(s.run("txn", o), map[string]float64{"conflicts": 0})
	if n, keys := versions(); n != 500 || keys != 40 {
		t.Errorf("%d writes on %d keys", n, keys)
	}
	s.extra(s.run("txn", o), map[string]float64{"conflicts": 0}) // knows the revisions of the first run
	if n, _ := versions(); n != 1000 {
		t.Errorf("%d writes", n)
	}
	o.Shape.Total, o.Data.Keys = 5000, 20
	c := float64(0)
	for attempt := 0; c == 0 && attempt < 20; attempt++ { // the other one may be given no time
		stop := s.intrude(s.key(o.Data))
		c = s.run("txn", o).Extra["conflicts"]
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	if c == 0 || c > 2500 {
		t.Errorf("%v conflicts with another writer", c)
	}
	o.Data.Keys = 10
	o.Target.Endpoints = []string{s.endpoint}
	if _, err := load.Run(s.ctx, "txn", o); err == nil || !strings.Contains(err.Error(), "--keys is 10") {
		t.Errorf("fewer keys than clients: %v", err)
	}
}

// intrude writes a key again and again until stop is called.
func (s *server) intrude(key string) (stop func() error) {
	end, wrote := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-end:
				wrote <- nil
				return
			default:
			}
			if _, err := s.client.Put(s.ctx, key, "intruder"); err != nil {
				wrote <- err
				return
			}
		}
	}()
	return func() error {
		close(end)
		return <-wrote
	}
}

// key is the first key of a key space.
func (s *server) key(d load.Data) string {
	return d.Prefix + strings.Repeat("0", 24-len(d.Prefix))
}

func TestNodeLeases(t *testing.T) {
	s := startServer(t)
	res := s.run("txn", load.Options{Target: load.Target{Connections: 2}, Shape: load.Shape{Rate: 1000, Total: 600}, Data: load.Data{Keys: 300}, Work: load.Work{NodeLeases: true}})
	s.extra(res, map[string]float64{"conflicts": 0, "not_sent": 0})
	versions := func() map[string]int64 {
		got := s.get("/registry/leases/kube-node-lease/node-")
		if got.Count != 300 {
			t.Fatalf("%d nodes", got.Count)
		}
		of := map[string]int64{}
		for _, kv := range got.Kvs {
			of[string(kv.Key)] = kv.Version
		}
		return of
	}
	paced, total := versions(), int64(0)
	for _, v := range paced {
		total += v
	}
	if total != 300+600 { // made, and renewed twice; the next node's turn comes early where an answer takes 0.3 s
		t.Errorf("%d writes of 300 nodes", total)
	}
	res = s.run("txn", load.Options{Shape: load.Shape{Clients: 1, Total: 600}, Data: load.Data{Keys: 300}, Work: load.Work{NodeLeases: true}})
	s.extra(res, map[string]float64{"conflicts": 0})
	for key, v := range versions() {
		if v != paced[key]+2 {
			t.Errorf("%s: renewed %d times, want twice in turn", key, v-paced[key])
		}
	}
}

func TestWatch(t *testing.T) {
	s := startServer(t)
	res := s.run("watch", load.Options{Shape: load.Shape{Clients: 5, Total: 200}, Data: load.Data{Prefix: "w/", Keys: 10},
		Work: load.Work{Watchers: 37, WatchConns: 3, Streams: 7}})
	s.extra(res, map[string]float64{"events": 200 * 37, "watchers": 37, "streams": 7, "watch_connections": 3})
	if res.Operations != 200 || res.Extra["events_per_second"] <= 0 || res.Extra["event_p50_ms"] <= 0 {
		t.Errorf("%+v", res)
	}
	res = s.run("watch-latency", load.Options{Shape: load.Shape{Rate: 500, Total: 100}, Data: load.Data{Prefix: "w/", Keys: 10}, Work: load.Work{Watchers: 2, PrevKV: true}})
	s.extra(res, map[string]float64{"events": 200, "puts": 100})
	if res.Operations != 200 || res.Latency.P50 <= 0 || res.Extra["put_p50_ms"] <= 0 {
		t.Errorf("%+v", res)
	}
}

func TestLeases(t *testing.T) {
	s := startServer(t)
	leases := func() int {
		got, err := s.client.Leases(s.ctx)
		if err != nil {
			t.Fatal(err)
		}
		return len(got.Leases)
	}
	res := s.run("lease-keepalive", load.Options{Target: load.Target{Connections: 3}, Shape: load.Shape{Clients: 10, Total: 500}, Work: load.Work{Leases: 40}})
	if s.extra(res, map[string]float64{"leases": 40}); res.Operations != 500 || leases() != 0 {
		t.Errorf("%d operations, %d leases left", res.Operations, leases())
	}
	res = s.run("lease-keepalive", load.Options{Shape: load.Shape{Rate: 1000, Total: 100, InFlight: 50}, Work: load.Work{Leases: 4}})
	if res.Operations != 100 || res.Extra["not_sent"] != 0 {
		t.Errorf("open loop: %+v", res)
	}
	if res = s.run("lease-grant", load.Options{Shape: load.Shape{Clients: 4, Total: 120}, Work: load.Work{TTL: 600}}); res.Operations != 120 || leases() != 120 {
		t.Errorf("%d operations, %d leases", res.Operations, leases())
	}
	start := time.Now()
	res = s.run("lease-expire", load.Options{Shape: load.Shape{Clients: 8}, Data: load.Data{Prefix: "le/"}, Work: load.Work{Leases: 60, TTL: 6}})
	s.extra(res, map[string]float64{"leases": 60, "early": 0})
	if res.Operations != 60 || s.get("le/").Count != 0 || leases() != 120 || time.Since(start) < time.Second {
		t.Errorf("%d operations, %d keys, %d leases after %v", res.Operations, s.get("le/").Count, leases(), time.Since(start))
	}
}

// TestFailures: a request that the server refuses ends the run with its text; a missing endpoint is named.
func TestFailures(t *testing.T) {
	s := startServer(t)
	o := load.Options{Target: load.Target{Endpoints: []string{s.endpoint}}, Shape: load.Shape{Total: 10}, Data: load.Data{ValueSize: 1_600_000}}
	res, err := load.Run(s.ctx, "put", o)
	if err == nil || err.Error() != "InvalidArgument: etcdserver: request is too large" || res == nil || res.Operations != 0 || res.Errors != 1 {
		t.Errorf("%v %+v", err, res)
	}
	o.Shape.AllowErrors = true
	if res, err = load.Run(s.ctx, "put", o); err != nil || res.Errors != 10 || res.ErrorSamples[0] != "10 x InvalidArgument: etcdserver: request is too large" {
		t.Errorf("%v %+v", err, res)
	}
	o.Target = load.Target{Endpoints: []string{s.endpoint, "127.0.0.1:1"}, Connections: 4}
	if _, err = load.Run(s.ctx, "put", o); err == nil || !strings.HasPrefix(err.Error(), "127.0.0.1:1: dial tcp") {
		t.Errorf("%v", err)
	}
	o.Target = load.Target{Endpoints: []string{s.endpoint}, User: "root", Password: "x"}
	if _, err = load.Run(s.ctx, "put", o); err == nil {
		t.Error("a user is accepted where there are none")
	}
}
