package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"quorate.dev/quorate/internal/check"
	"quorate.dev/quorate/test/cluster"
	"quorate.dev/quorate/test/compat/proc"
)

// Config says what to run.
type Config struct {
	Kind    proc.Kind
	Seed    uint64
	For     time.Duration // how long faults happen
	Members int           // 0: three or five, by the seed
	Dir     string        // data and logs; what is found is kept here
	Log     func(format string, args ...any)
	Heal    time.Duration // after the last fault is mended, every client must be answered within this
	Packets bool          // network namespaces and packets instead of proxies, where that is allowed
	Keep    bool          // keep everything, even if nothing was found
	Disk    bool          // one member gets a small disk of its own that is filled now and then
}

// Summary is what a run found, in one line of JSON.
type Summary struct {
	Seed       uint64         `json:"seed"`
	Kind       string         `json:"kind"`
	Members    int            `json:"members"`
	Network    string         `json:"network"` // proxies or packets
	Seconds    float64        `json:"seconds"` // of faults
	Faults     map[string]int `json:"faults"`
	Ops        Ops            `json:"ops"`
	Revision   int64          `json:"revision"`
	Events     int            `json:"events"` // that watches were sent
	HealMillis int64          `json:"healMillis"`
	GapMillis  int64          `json:"longestGapMillis"` // the longest time in which no client was answered
	Verdict    string         `json:"porcupine"`
	CheckTime  float64        `json:"checkSeconds"`
	Skipped    []string       `json:"skipped,omitempty"`
	Violations []string       `json:"violations"`
}

// Ops counts requests by what came of them.
type Ops struct {
	Answered int `json:"answered"`
	Refused  int `json:"refused"`
	Unknown  int `json:"unknown"`
	Happened int `json:"unknownThatHappened"`
	Expired  int `json:"leasesExpired"`
}

// Bounds of a run.
const (
	recorders  = 10
	startLimit = 3 * time.Minute
	noted      = 3 * time.Second // longer times without any answer are logged
	healWait   = time.Minute     // how long to wait to say how long it really took
	checkLimit = 2 * time.Minute
)

// run is a run under way.
type run struct {
	cfg     Config
	rng     *rand.Rand
	cluster *cluster.Cluster
	net     network
	disk    *disk
	began   time.Time
	driven  int64             // when the load began, since began
	silent  time.Duration     // since a client was answered last
	clients map[string]string // client address through the proxy, by member
	summary Summary
	seen    atomic.Int64
	safe    atomic.Int64
	record  []*recorder
	watch   []*watcher

	life   sync.Mutex               // of processes: whoever starts or ends one holds it
	down   map[*cluster.Member]bool // ended on purpose
	frail  map[*cluster.Member]bool // may end by itself, because its disk was full
	mu     sync.Mutex
	spares []*cluster.Member // that joined beside the founders
	events []string
}

// Run runs a cluster under faults and judges it. The error says why there is nothing to judge; what was found is in the
// summary.
func Run(ctx context.Context, cfg Config) (Summary, error) {
	r := &run{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 4)), began: time.Now(), clients: map[string]string{},
		down: map[*cluster.Member]bool{}, frail: map[*cluster.Member]bool{}}
	r.summary = Summary{Seed: cfg.Seed, Kind: cfg.Kind.String(), Seconds: cfg.For.Seconds(), Violations: []string{}}
	defer r.close()
	if err := r.found(ctx); err != nil {
		return r.summary, err
	}
	load, stop := context.WithCancel(ctx)
	defer stop()
	wg := r.drive(load)
	n := newNemesis(r, rand.New(rand.NewPCG(cfg.Seed, 5)))
	faulty, end := context.WithTimeout(ctx, cfg.For)
	n.cause(faulty, min(cfg.For/8, 3*time.Second))
	end()
	r.summary.Faults = n.counts
	r.heal(ctx)
	stop()
	wg.Wait()
	r.judge(r.settle(ctx))
	r.keep()
	return r.summary, ctx.Err()
}

func (r *run) logf(format string, args ...any) {
	line := fmt.Sprintf("%8.3f %s", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
	r.mu.Lock()
	r.events = append(r.events, line)
	r.mu.Unlock()
	r.cfg.Log("%s", line)
}

func (r *run) note(err error) {
	if err != nil {
		r.violate("fault", "%v", err)
	}
}

func (r *run) violate(rule, format string, args ...any) {
	text := rule + ": " + fmt.Sprintf(format, args...)
	r.logf("VIOLATION %s", text)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.summary.Violations = append(r.summary.Violations, text)
}

// found makes the cluster, its proxies and clients, and starts it.
func (r *run) found(ctx context.Context) (err error) {
	n := r.cfg.Members
	if n == 0 {
		n = 3 + 2*r.rng.IntN(2)
	}
	r.summary.Members = n
	flags := []string{fmt.Sprintf("--snapshot-count=%d", []int{50, 200, 10000}[r.rng.IntN(3)])}
	flags = append(flags, fmt.Sprintf("--snapshot-catchup-entries=%d", []int{20, 500}[r.rng.IntN(2)]))
	r.logf("seed %d: %d members of %s, %v", r.cfg.Seed, n, r.cfg.Kind, flags)
	if r.cluster, err = cluster.New(r.cfg.Kind, r.cfg.Dir, n, flags...); err != nil {
		return err
	}
	r.net = newProxies(r.pids)
	r.summary.Network = "proxies"
	if r.cfg.Packets {
		if w, err := newWire(r.cfg.Seed); err == nil {
			r.net, r.summary.Network = w, "packets"
		} else {
			r.summary.Skipped = append(r.summary.Skipped, "packets: "+err.Error())
		}
	}
	for i, m := range r.cluster.Members {
		if r.clients[m.Name], err = r.net.place(m, i); err != nil {
			return err
		}
	}
	if r.cfg.Disk {
		if r.disk, err = mount(r.cluster.Members[r.rng.IntN(n)]); err != nil {
			r.summary.Skipped = append(r.summary.Skipped, "full-disk: "+err.Error())
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	err = r.cluster.Start(ctx)
	r.logf("started: %v", err)
	return err
}

func (r *run) close() {
	if r.cluster != nil {
		r.cluster.Kill()
		for _, m := range r.processes() {
			m.Kill()
		}
	}
	if r.net != nil {
		r.net.close()
	}
	for _, w := range r.watch {
		_ = w.cli.Close()
	}
	for _, c := range r.record {
		_ = c.cli.Close()
	}
	if r.disk != nil {
		_ = r.disk.unmount()
	}
	if len(r.summary.Violations) == 0 && !r.cfg.Keep {
		_ = os.RemoveAll(r.cfg.Dir)
	}
}

func (r *run) members() []*cluster.Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*cluster.Member(nil), r.cluster.Members...)
}

func (r *run) names() []string {
	out := []string{Clients}
	for _, m := range r.processes() {
		out = append(out, m.Name)
	}
	return out
}

func (r *run) pids() map[string]int {
	members := r.processes()
	r.life.Lock()
	defer r.life.Unlock()
	out := map[string]int{}
	for _, m := range members {
		if pid := m.PID(); pid != 0 {
			out[m.Name] = pid
		}
	}
	return out
}

func (r *run) leader(ctx context.Context) (*cluster.Member, error) { return r.cluster.Leader(ctx) }

func (r *run) start(m *cluster.Member) error {
	r.life.Lock()
	defer r.life.Unlock()
	if m.PID() != 0 {
		return nil
	}
	delete(r.down, m)
	// Whoever starts it again for another reason while its disk is full has it end at once.
	r.frail[m] = r.disk != nil && r.disk.full && r.disk.member == m
	return m.Start()
}

func (r *run) kill(m *cluster.Member) {
	r.life.Lock()
	defer r.life.Unlock()
	r.down[m] = true
	m.Kill()
}

// signal pauses or resumes a member that runs.
func (r *run) signal(m *cluster.Member, send func(*cluster.Member) error) error {
	r.life.Lock()
	defer r.life.Unlock()
	if m.PID() == 0 {
		return errSkip
	}
	return send(m)
}

// mayEnd lets a member end by itself until it is started again.
func (r *run) mayEnd(m *cluster.Member) {
	r.life.Lock()
	defer r.life.Unlock()
	r.frail[m] = true
}

// restart starts a member again that has ended by itself, or has come to rest, because of its disk.
func (r *run) restart(m *cluster.Member) error {
	r.kill(m)
	return r.start(m)
}

// client connects to members as they are reached through the proxies; to all without names.
func (r *run) client(names ...string) (*clientv3.Client, error) {
	var endpoints []string
	for _, m := range r.members() {
		if len(names) == 0 || names[0] == m.Name {
			endpoints = append(endpoints, r.clients[m.Name])
		}
	}
	return clientv3.New(clientv3.Config{
		Endpoints: endpoints, DialTimeout: 3 * time.Second, Logger: zap.NewNop(),
		DialKeepAliveTime: time.Second, DialKeepAliveTimeout: time.Second,
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}, MinConnectTimeout: time.Second,
		})},
	})
}

// at does something at one member, not through a proxy.
func (r *run) at(m *cluster.Member, do func(cli *clientv3.Client) error) error {
	cli, err := r.cluster.Client(m.Client)
	if err != nil {
		return err
	}
	defer cli.Close()
	return do(cli)
}

// drive starts recorders and watchers, which go on until ctx ends.
func (r *run) drive(ctx context.Context) *sync.WaitGroup {
	var wg sync.WaitGroup
	r.driven = int64(time.Since(r.began))
	members := r.members()
	for i := range recorders {
		var names []string
		if i < len(members) { // some know one member only
			names = []string{members[i].Name}
		}
		cli, err := r.client(names...)
		if err != nil {
			r.violate("client", "%v", err)
			continue
		}
		c := &recorder{id: i, cli: cli, rng: rand.New(rand.NewPCG(r.cfg.Seed, uint64(100+i))), began: r.began, seen: &r.seen, safe: &r.safe,
			pause: 15 * time.Millisecond, mods: map[string]int64{}, errors: map[string]int{}}
		r.record = append(r.record, c)
		wg.Go(func() { c.run(ctx) })
	}
	for i, m := range members {
		r.watcher(ctx, &watcher{name: "all@" + m.Name, via: m.Name, key: "\x00", end: "\x00", prev: true}, i, m.Name)
	}
	r.watcher(ctx, &watcher{name: "some", via: "any", key: "k05", end: "k12", prev: true, restless: true}, 10)
	r.watcher(ctx, &watcher{name: "one", via: "any", key: "k03", restless: true}, 11)
	r.watcher(ctx, &watcher{name: "from", via: "any", key: "k1", end: "l"}, 12)
	wg.Go(func() { r.follow(ctx) })
	return &wg
}

func (r *run) watcher(ctx context.Context, w *watcher, i int, names ...string) {
	cli, err := r.client(names...)
	if err != nil {
		r.violate("client", "%v", err)
		return
	}
	w.cli, w.rng, w.done = cli, rand.New(rand.NewPCG(r.cfg.Seed, uint64(200+i))), make(chan struct{})
	r.watch = append(r.watch, w)
	// Watchers outlive the load: they are to see its end.
	wctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w.stop = cancel
	go w.run(wctx)
}

// follow keeps safe, the revision up to which some watch has every event, up to date.
func (r *run) follow(ctx context.Context) {
	for wait(ctx, 100*time.Millisecond) {
		best := int64(0)
		for _, w := range r.watch {
			if w.whole() {
				best = max(best, w.covered.Load())
			}
		}
		r.safe.Store(best)
		r.gap()
		r.ended()
	}
}

// gap measures how long no client has been answered.
func (r *run) gap() {
	latest := r.driven
	for _, c := range r.record {
		latest = max(latest, c.last.Load())
	}
	gap := time.Since(r.began) - time.Duration(latest)
	if r.silent > noted && gap < r.silent {
		r.logf("no client had been answered for %v", r.silent)
	}
	r.silent = gap
	r.summary.GapMillis = max(r.summary.GapMillis, gap.Milliseconds())
}

// ended finds members that ended by themselves.
func (r *run) ended() {
	for _, m := range r.processes() {
		r.life.Lock()
		crashed := m.Ended() && !r.down[m] && !r.frail[m]
		if crashed {
			r.down[m] = true // say it once
		}
		r.life.Unlock()
		if crashed {
			r.violate("process", "%s ended by itself: %s", m.Name, m.LogTail(1500))
		}
	}
}

// heal waits until every client is answered again.
func (r *run) heal(ctx context.Context) {
	r.net.heal(r.names(), true)
	for _, m := range r.members() {
		_ = r.signal(m, (*cluster.Member).Resume)
		r.note(r.start(m))
	}
	since := time.Since(r.began)
	r.logf("everything is mended")
	limit := time.After(healWait)
	for {
		var silent []string
		for _, c := range r.record {
			if c.last.Load() <= int64(since) {
				silent = append(silent, fmt.Sprintf("client %d", c.id))
			}
		}
		took := time.Since(r.began) - since
		r.summary.HealMillis = took.Milliseconds()
		if len(silent) == 0 {
			if took > r.cfg.Heal {
				r.violate("liveness", "after the last fault was mended, it took %v until every client was answered", took)
			}
			r.logf("every client is answered again after %v", took)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-limit:
			r.violate("liveness", "%v after the last fault was mended, %v still wait", took, silent)
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// settle waits until every member and every watch has everything, and compares the members.
func (r *run) settle(ctx context.Context) (last int64) {
	ctx, cancel := context.WithTimeout(ctx, healWait)
	defer cancel()
	c := r.record[len(r.record)-1]
	before := c.stats.answered
	for _, m := range r.members() {
		if err := m.Ready(ctx); err != nil {
			r.violate("liveness", "%v", err)
		}
	}
	for try := 0; try < 5 && c.stats.answered == before; try++ {
		c.ask(ctx, check.Request{Kind: check.Put, Key: "k05", Value: c.value()})
	}
	last = r.seen.Load()
	r.compare(ctx, last)
	limit := time.Now().Add(healWait)
	for _, w := range r.watch {
		for w.covered.Load() < last && time.Now().Before(limit) && wait(ctx, 10*time.Millisecond) {
		}
		if got := w.covered.Load(); got < last {
			r.violate("liveness", "watch %s has come as far as revision %d of %d", w.name, got, last)
		} else {
			w.mu.Lock()
			w.watches[len(w.watches)-1].Through = last
			w.mu.Unlock()
		}
		w.stop()
		<-w.done
	}
	return last
}

// compare compares what the members store.
func (r *run) compare(ctx context.Context, at int64) {
	ctx, cancel := context.WithTimeout(ctx, healWait)
	defer cancel()
	for {
		hashes := map[string]string{}
		kinds := map[string]bool{}
		for _, m := range r.members() {
			err := r.at(m, func(cli *clientv3.Client) error {
				resp, err := cli.HashKV(ctx, m.Client, at)
				if err == nil {
					hashes[m.Name] = fmt.Sprintf("%08x (compacted %d)", resp.Hash, resp.CompactRevision)
				}
				return err
			})
			if err != nil {
				hashes[m.Name] = err.Error()
			}
			kinds[hashes[m.Name]] = true
			if err != nil {
				kinds[m.Name] = true // no agreement while one does not answer
			}
		}
		if len(kinds) == 1 {
			return
		}
		if !wait(ctx, 50*time.Millisecond) {
			r.violate("hash", "the members differ at revision %d: %v", at, hashes)
			return
		}
	}
}

// judge has the history checked.
func (r *run) judge(last int64) {
	began := time.Now()
	history, watches := r.history()
	compacted := int64(0)
	for _, o := range history {
		if o.Request.Kind == check.Compact {
			compacted = max(compacted, o.Request.Revision)
		}
	}
	truth, report := check.TruthOf(watches, compacted)
	r.collect(report)
	if truth.Last() < last {
		r.violate("watch", "no watch has seen revision %d, the last is %d", last, truth.Last())
	}
	r.collect(check.Watches(watches, truth))
	report = check.Linearizable(history, truth, checkLimit)
	r.collect(report)
	r.summary.Verdict, r.summary.Revision = report.Verdict, report.Writes
	r.summary.Ops.Happened, r.summary.Ops.Expired = report.Happened, report.Expired
	r.summary.CheckTime = time.Since(began).Round(time.Millisecond).Seconds()
	for _, w := range watches {
		for _, s := range w.Sessions {
			for _, b := range s.Batches {
				r.summary.Events += len(b.Events)
			}
		}
	}
}

func (r *run) collect(report check.Report) {
	for _, v := range report.Violations {
		r.violate(v.Rule, "%s", v.Text)
	}
}

func (r *run) history() (history []check.Operation, watches []check.Watch) {
	unknown := map[string]int{}
	for _, c := range r.record {
		history = append(history, c.history...)
		r.summary.Ops.Answered += c.stats.answered
		r.summary.Ops.Refused += c.stats.refused
		r.summary.Ops.Unknown += c.stats.unknown
		for text, n := range c.errors {
			unknown[text] += n
		}
	}
	for _, w := range r.watch {
		watches = append(watches, w.watches...)
	}
	texts := make([]string, 0, len(unknown))
	for text, n := range unknown {
		texts = append(texts, fmt.Sprintf("%5d %s", n, text))
	}
	sort.Strings(texts)
	r.logf("errors:\n%s", strings.Join(texts, "\n"))
	return history, watches
}

// Kept is a history as it is saved, so that it can be judged again.
type Kept struct {
	Summary    Summary
	Events     []string // what was done when
	Operations []check.Operation
	Watches    []check.Watch
}

// keep saves what a run that found something recorded, beside the logs of the members.
func (r *run) keep() {
	if len(r.summary.Violations) == 0 && !r.cfg.Keep {
		return
	}
	k := Kept{Summary: r.summary, Events: r.events}
	for _, c := range r.record {
		k.Operations = append(k.Operations, c.history...)
	}
	for _, w := range r.watch {
		k.Watches = append(k.Watches, w.watches...)
	}
	b, err := json.Marshal(k)
	if err == nil {
		err = os.WriteFile(filepath.Join(r.cfg.Dir, "history.json"), b, 0o600)
	}
	if err != nil {
		r.logf("the history is not kept: %v", err)
	}
	r.logf("kept in %s", r.cfg.Dir)
}
