package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// sizes are how much each job does. Times are in seconds.
type sizes struct {
	seconds   int // a timed job
	keys      int // the large store
	pods      int // of 10 KB
	clients   int // of parallel jobs
	conns     int
	nodes     int // that renew a lease
	leaseRate int // renewals per second
	steady    int // puts per second of the jobs that compare a loaded server with a quiet one: a third of what etcd sustains on 2 cores
	watchers  int // of the fan-out
	puts      int // of the fan-out
	stopped   int // watchers that stopped reading
	revisions int // to compact
	repeats   int // of a measurement within one round
	flood     int // requests of the overload under way at most
	calm      int // the disk size must not change for so long
	idle      int // over which CPU is counted

	kubeNodes, kubeSeconds, kubeFlood int // of the Kubernetes cluster, with 30 pods a node
	kubeProbe, kubeMax                int // of the search for its largest size: seconds of a probe, nodes at most
}

func full() sizes {
	return sizes{seconds: 8, keys: 500_000, pods: 150_000, clients: 1000, conns: 100, nodes: 100_000, leaseRate: 10_000, steady: 5000,
		watchers: 500, puts: 2000, stopped: 1000, revisions: 300_000, repeats: 3, flood: 200_000, calm: 6, idle: 10,
		kubeNodes: 5000, kubeSeconds: 60, kubeFlood: 8, kubeProbe: 12, kubeMax: 160_000}
}

func quick() sizes {
	return sizes{seconds: 1, keys: 20_000, pods: 2000, clients: 200, conns: 20, nodes: 5000, leaseRate: 1000, steady: 500,
		watchers: 100, puts: 200, stopped: 100, revisions: 20_000, repeats: 1, flood: 3000, calm: 1, idle: 2,
		kubeNodes: 50, kubeSeconds: 4, kubeFlood: 1, kubeProbe: 2, kubeMax: 100}
}

func (s *sizes) timed() time.Duration { return time.Duration(s.seconds) * time.Second }

// workbench is what a job works on. A job that restarts the server leaves the running one in s.
type workbench struct {
	o     *options
	sizes *sizes
	s     *server
	proxy *contender // of the proxy suite
	nodes *nodes     // of the lease suite
	lean  *lean
	kube  *kubeRun // of the Kubernetes suite
}

// job is one measurement.
type job struct {
	name  string
	what  string // for readers of the report
	run   func(*workbench) (*result, error)
	needs string // a job of the same suite that must have run before
	slow  string // the server on which it runs in the first round only
}

// suite is a list of jobs on one server with a fresh data directory; later jobs find what earlier ones wrote.
type suite struct {
	name    string
	cluster bool                              // makes sense with more members than one
	once    bool                              // takes so long that it runs in the first round only
	access  func(dir string) (*access, error) // how it is reached, with files under dir; nil: plain TCP, as nobody
	prepare func(*workbench) error
	jobs    []*job
}

// suites are all of them, in the order they run.
var suites = []*suite{
	{name: "idle", jobs: []*job{
		{name: "idle", what: "a fresh server once its disk size is stable: memory, disk, CPU", run: (*workbench).idle},
	}},
	{name: "basic", cluster: true, prepare: (*workbench).fillBasic, jobs: []*job{
		{name: "put", what: "puts of 256 B, all clients", run: (*workbench).puts},
		{name: "put-lean", what: "the same with `quorate bench put`", run: (*workbench).leanPut},
		{name: "get", what: "linearizable gets of one key, all clients", run: (*workbench).gets},
		{name: "get-lean", what: "the same with `quorate bench get`", run: (*workbench).leanGet},
		{name: "get-serializable", what: "serializable gets of one key, all clients", run: (*workbench).serializable},
		{name: "one-put", what: "puts of 256 B, one client", run: (*workbench).onePut},
		{name: "one-get", what: "linearizable gets, one client", run: (*workbench).oneGet},
	}},
	{name: "large", jobs: []*job{
		{name: "load", what: "creating the large store", run: (*workbench).load},
		{name: "settled", what: "memory and disk of the large store once its disk size is stable", run: (*workbench).settled, needs: "load"},
		{name: "list", what: "paginated list of the large store, limit 500; an operation is a page", run: (*workbench).list, needs: "load", slow: "etcd"},
		{name: "range-stream", what: "RangeStream of the large store", run: (*workbench).rangeStream, needs: "load"},
		{name: "range-all", what: "one Range of the large store, no limit", run: (*workbench).rangeAll, needs: "load"},
		{name: "restart-term", what: "after SIGTERM: from starting the process to the first linearizable read answered", run: (*workbench).restartTerm, needs: "load"},
		{name: "list-after-term", what: "the first paginated list after that, memory then", run: (*workbench).list, needs: "restart-term", slow: "etcd"},
		{name: "restart-kill", what: "the same after 20,000 more puts and kill -9 at once", run: (*workbench).restartKill, needs: "load"},
		{name: "list-after-kill", what: "the first paginated list after that, memory then", run: (*workbench).list, needs: "restart-kill", slow: "etcd"},
	}},
	{name: "pods", jobs: []*job{
		{name: "pods-load", what: "creating pods of 10 KB", run: (*workbench).loadPods},
		{name: "pods-pages", what: "ten lists of all pods at once, page by page, limit 10,000", run: (*workbench).tenPagedLists, needs: "pods-load"},
		{name: "pods-list", what: "one list of all pods in one answer", run: (*workbench).onePodList, needs: "pods-load"},
		{name: "pods-lists", what: "ten lists of all pods in one answer each, at once", run: (*workbench).tenPodLists, needs: "pods-load"},
	}},
	{name: "fanout", cluster: true, jobs: []*job{
		{name: "watch", what: "fan-out of puts, all at once, to watchers of one prefix, five a stream and connection", run: (*workbench).fanOut},
		{name: "watch-live", what: "the same with the puts of 32 clients and one watcher a stream, five streams a connection", run: (*workbench).fanOutLive},
		{name: "watch-lean", what: "the first with `quorate bench watch`, which watches and puts", run: (*workbench).leanFanOut},
	}},
	{name: "proxy", prepare: (*workbench).storeForProxy, jobs: []*job{
		{name: "proxy-fanout", what: "fan-out through `grpc-proxy start` of either, both before Quorate, to ten watchers a stream and connection; puts to the store, lean client", run: (*workbench).proxyFanOut},
		{name: "proxy-streams", what: "the same with one watcher a stream, ten streams a connection", run: (*workbench).proxyFanOutStreams},
		{name: "proxy-live", what: "the first with the puts of 4 clients", run: (*workbench).proxyFanOutLive},
	}},
	{name: "nodes", cluster: true, prepare: (*workbench).fillNodes, jobs: []*job{
		{name: "lease", what: "node-lease transactions by schedule", run: (*workbench).leaseSteady},
		{name: "lease-max", what: "the highest rate of those that is sustained", run: (*workbench).leaseMax},
		{name: "lease-lean", what: "node-lease transactions by schedule with `quorate bench txn`", run: (*workbench).leanLease},
		{name: "lease-max-lean", what: "the highest rate of those that is sustained", run: (*workbench).leanLeaseMax},
	}},
	{name: "steady", prepare: (*workbench).fillBasic, jobs: []*job{
		{name: "stopped-watchers", what: "p99 of puts by schedule, quiet and beside watchers that stopped reading", run: (*workbench).stoppedWatchers},
		{name: "compaction", what: "p99 of puts by schedule, quiet and while a compaction runs", run: (*workbench).compaction},
	}},
	{name: "auth", access: passwordAccess, prepare: (*workbench).withPasswords, jobs: []*job{
		{name: "first-logins", what: "Authenticate of 50 users at once, each for the first time, bcrypt cost 10", run: (*workbench).firstLogins},
		{name: "authenticate", what: "Authenticate of the same 50 users again and again, 50 clients", run: (*workbench).repeatLogins, needs: "first-logins"},
		{name: "put-auth", what: "put with authentication on, by a user with a permission for the prefix and a simple token", run: asUser((*workbench).puts)},
		{name: "put-auth-lean", what: "the same with `quorate bench put`", run: asUser((*workbench).leanPut)},
		{name: "wrong-passwords", what: "p99 of such puts by schedule, quiet and beside 50 clients that try wrong passwords, all different", run: asUser((*workbench).wrongPasswords)},
	}},
	{name: "tls", access: certificateAccess, prepare: (*workbench).fillBasic, jobs: []*job{
		{name: "put-tls", what: "put over TLS 1.3, client and server verify each other's certificates, authentication off", run: (*workbench).puts},
		{name: "put-tls-lean", what: "the same with `quorate bench put`", run: (*workbench).leanPut},
	}},
	{name: "tls-auth", access: certificateAccess, prepare: (*workbench).withCertificates, jobs: []*job{
		{name: "put-tls-auth", what: "the same with authentication on: the client's certificate names the user", run: (*workbench).puts},
		{name: "put-tls-auth-lean", what: "the same with `quorate bench put`", run: (*workbench).leanPut},
	}},
	{name: "k8s", once: true, jobs: []*job{
		{name: "k8s-steady", what: "`quorate bench k8s`: the traffic of 5,000 nodes and 150,000 pods of 10 KB from two API servers, compaction every 20 s; latencies of all calls", run: (*workbench).kubeAll},
		{name: "k8s-relist", what: "the same while one API server loses its watches and lists everything", run: (*workbench).kubeRelist, needs: "k8s-steady"},
		{name: "k8s-flood", what: "events of Leases, with their previous values, to a single watcher, from transactions of 100 puts", run: (*workbench).kubeFlood, needs: "k8s-steady"},
		{name: "k8s-limit", what: "the most nodes whose traffic keeps the service levels (99% of calls of each kind and of events within 1 s, no errors); the store holds 150,000 pods", run: (*workbench).kubeLimit, needs: "k8s-steady"},
	}},
	{name: "overload", prepare: (*workbench).fillBasic, jobs: []*job{
		{name: "overload", what: "ten times the sustainable rate of puts by schedule", run: (*workbench).overload},
	}},
}

// choose is the part of suites that only names (jobs or suites), with the jobs that those need; only "" is everything.
func choose(only string, members int) ([]*suite, error) {
	found := map[string]bool{} // by each name that was asked for
	for name := range strings.SplitSeq(only, ",") {
		if name = strings.TrimSpace(name); name != "" {
			found[name] = false
		}
	}
	all := len(found) == 0
	asked := func(name string) bool {
		_, ok := found[name]
		if ok {
			found[name] = true
		}
		return ok
	}
	var plan []*suite
	for _, s := range suites {
		if members > 1 && !s.cluster {
			continue
		}
		part := *s
		part.jobs = nil
		whole := asked(s.name)
		needed := map[string]bool{}
		for _, j := range slices.Backward(s.jobs) {
			if asked(j.name) || whole || all || needed[j.name] {
				needed[j.needs] = true
				part.jobs = append(part.jobs, j)
			}
		}
		if slices.Reverse(part.jobs); len(part.jobs) > 0 {
			plan = append(plan, &part)
		}
	}
	for name, ok := range found {
		if !ok {
			return nil, fmt.Errorf("there is no job or suite %q, or not with %d members; -list shows them", name, members)
		}
	}
	return plan, nil
}

// notMeasured is why a job has no result on a server: said in the report, and no failure.
type notMeasured string

func (e notMeasured) Error() string { return "not measured: " + string(e) }

// runSuite runs a suite on a fresh server.
func runSuite(o *options, s *suite, c *contender, round int, r *report) error {
	dir := filepath.Join(o.dir, fmt.Sprintf("%s-%s-%d", c.name, s.name, round+1))
	defer os.RemoveAll(dir)
	fmt.Printf("round %d of %d, %s: %s\n", round+1, o.rounds, s.name, c.name)
	reach := s.access
	if reach == nil {
		reach = plainAccess
	}
	a, err := reach(filepath.Join(dir, "pki"))
	if err != nil {
		return err
	}
	running, err := c.start(dir, o.members, a)
	if err != nil {
		return err
	}
	w := &workbench{o: o, sizes: &o.sizes, s: running, lean: r.lean}
	defer func() { w.s.kill() }()
	if s.prepare != nil {
		if err := s.prepare(w); err != nil {
			return fmt.Errorf("preparing: %w%s", err, w.s.autopsy())
		}
	}
	for _, j := range s.jobs {
		if j.slow == c.name && round > 0 {
			continue
		}
		start := time.Now()
		got, err := j.run(w)
		var left notMeasured
		if errors.As(err, &left) {
			r.leaveOut(j.name, c.name, string(left))
			fmt.Printf("  %-18s %v\n", j.name, left)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w%s", j.name, err, w.s.autopsy())
		}
		got.Job, got.Server, got.Round = j.name, c.name, round+1
		r.Results = append(r.Results, got)
		fmt.Printf("  %-18s %s (%.0f s)\n", j.name, got.line(), time.Since(start).Seconds())
	}
	return w.s.stop()
}
