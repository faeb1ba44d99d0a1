package power

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/internal/check"
	"quorate.dev/quorate/test/cluster"
	"quorate.dev/quorate/test/compat/proc"
	"quorate.dev/quorate/test/power/lossyfs"
)

func TestMain(m *testing.M) {
	if err := lossyfs.Sweep(); err != nil {
		fmt.Fprintln(os.Stderr, "mounts of an earlier run remain:", err)
	}
	code := m.Run()
	proc.Cleanup()
	os.Exit(code)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// needFuse fails, or skips where it is known that nothing can be mounted.
func needFuse(t *testing.T) {
	t.Helper()
	err := lossyfs.Usable()
	if err != nil && os.Getenv("POWER_NO_FUSE") != "" {
		t.Skip("POWER_NO_FUSE is set: ", err)
	}
	if err != nil {
		t.Fatalf("%v; set POWER_NO_FUSE=1 where that is known and these tests are to be left out", err)
	}
}

// number is a setting of this test run.
func number(t *testing.T, name string, standard uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return standard
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q: give a number", name, text)
	}
	return n
}

// random is what chooses in a test; POWER_SEED repeats the choices.
func random(t *testing.T) *rand.Rand {
	t.Helper()
	seed := number(t, "POWER_SEED", rand.Uint64())
	t.Logf("POWER_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// Bounds of a test.
const (
	patience  = time.Minute     // for anything that has to happen
	opTimeout = 3 * time.Second // for one answer
	syncDelay = 2 * time.Millisecond
)

// site is a cluster with a disk for each member, and what clients know of it.
type site struct {
	t     *testing.T
	rng   *rand.Rand
	disks []*lossyfs.Disk
	*cluster.Cluster
	began time.Time
	acked atomic.Int64

	mu      sync.Mutex
	clients int // so far
	history []check.Operation
	unknown map[string]int // texts of errors
}

// build makes n members without starting them. Each has its data directory on a disk of its own.
func build(t *testing.T, rng *rand.Rand, n int, flags ...string) *site {
	t.Helper()
	needFuse(t)
	c, err := cluster.New(proc.Quorate, t.TempDir(), n, flags...)
	must(t, err)
	s := &site{t: t, rng: rng, Cluster: c, began: time.Now(), unknown: map[string]int{}}
	for _, m := range c.Members {
		dir := filepath.Join(m.Dir, "disk")
		must(t, os.MkdirAll(dir, 0o700))
		d, err := lossyfs.Mount(dir, lossyfs.Options{Seed: rng.Uint64(), SyncDelay: syncDelay})
		must(t, err)
		s.disks = append(s.disks, d)
		m.Flags = append(m.Flags, "--data-dir="+filepath.Join(dir, "data"))
	}
	t.Cleanup(func() {
		for _, d := range s.disks {
			d.PowerOff(0) // whoever hangs ends
		}
		s.Kill()
		for _, d := range s.disks {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
		if t.Failed() {
			for _, m := range s.Members {
				t.Logf("--- end of the log of %s ---\n%s", m.Name, m.LogTail(6000))
			}
			t.Logf("errors of clients: %v", s.unknown)
		}
	})
	return s
}

// up starts the members that do not run, and returns when all answer.
func (s *site) up() {
	s.t.Helper()
	must(s.t, s.tryUp())
}

func (s *site) tryUp() error {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	for _, m := range s.Members {
		if m.PID() == 0 {
			if err := m.Start(); err != nil {
				return err
			}
		}
	}
	for _, m := range s.Members {
		if err := m.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// cut takes the power from members: from the process first, or from the disk, which then has operations under way.
func (s *site) cut(luck float64, members ...int) (loss lossyfs.Loss) {
	processFirst := s.rng.IntN(3) == 0
	for _, i := range members {
		if processFirst {
			s.Members[i].Kill()
		}
		l := s.disks[i].PowerOff(luck)
		loss.Writes, loss.Names, loss.Torn, loss.Kept = loss.Writes+l.Writes, loss.Names+l.Names, loss.Torn+l.Torn, loss.Kept+l.Kept
	}
	for _, i := range members {
		s.Members[i].Kill()
		s.disks[i].PowerOn()
	}
	return loss
}

// luck is which part of the unsynced changes a cut may leave: often nothing.
func (s *site) luck() float64 { return []float64{0, 0, 0.5, 0.9}[s.rng.IntN(4)] }

func (s *site) until(what string, cond func() bool) {
	s.t.Helper()
	limit := time.After(patience)
	for !cond() {
		select {
		case <-limit:
			s.t.Fatalf("%s: not within %v", what, patience)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// await waits for more acknowledgements.
func (s *site) await(n int) {
	s.t.Helper()
	until := s.acked.Load() + int64(n)
	s.until(fmt.Sprintf("%d more operations are answered", n), func() bool { return s.acked.Load() >= until })
}

// load has clients write and read until stop is called.
func (s *site) load(clients, valueBytes int) (stop func()) { return s.loadAt(clients, valueBytes) }

// loadAt is load through some members only; without any, through all.
func (s *site) loadAt(clients, valueBytes int, endpoints ...string) (stop func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	var done sync.WaitGroup
	for range clients {
		cli, err := s.Client(endpoints...)
		must(s.t, err)
		s.clients++
		r := &recorder{site: s, id: s.clients, cli: cli, rng: rand.New(rand.NewPCG(s.rng.Uint64(), 1)), bytes: valueBytes}
		done.Go(func() {
			defer cli.Close()
			for ctx.Err() == nil {
				r.ask(ctx)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.history = append(s.history, r.history...)
		})
	}
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); done.Wait() }) }
	s.t.Cleanup(stop)
	return stop
}

// recorder is one client, which asks one thing after another and writes it down.
type recorder struct {
	*site
	id      int
	cli     *clientv3.Client
	rng     *rand.Rand
	bytes   int // of the largest values
	history []check.Operation
}

func (r *recorder) ask(ctx context.Context) {
	q := check.Request{Kind: check.Put, Key: fmt.Sprintf("k%02d", r.rng.IntN(30))}
	switch r.rng.IntN(8) {
	case 0:
		q.Kind = check.Delete
	case 1:
		q.Kind = check.Range
	default:
		q.Value = fmt.Sprintf("%d.%d.%s", r.id, len(r.history), strings.Repeat("v", r.rng.IntN(1+r.rng.IntN(r.bytes+1))))
	}
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	o := check.Operation{Client: r.id, Call: int64(time.Since(r.began)), Request: q}
	answer, err := do(ctx, r.cli, q)
	if o.Return = int64(time.Since(r.began)); err == nil {
		o.Answer = answer
		r.acked.Add(1)
	} else { // it may have happened
		o.Return = check.Never
		r.mu.Lock()
		r.unknown[err.Error()]++
		r.mu.Unlock()
	}
	r.history = append(r.history, o)
}

func do(ctx context.Context, cli *clientv3.Client, q check.Request) (a check.Answer, err error) {
	switch q.Kind {
	case check.Put:
		resp, err := cli.Put(ctx, q.Key, q.Value)
		if err != nil {
			return a, err
		}
		return check.Answer{Revision: resp.Header.Revision}, nil
	case check.Delete:
		resp, err := cli.Delete(ctx, q.Key)
		if err != nil {
			return a, err
		}
		return check.Answer{Revision: resp.Header.Revision, Count: resp.Deleted}, nil
	}
	resp, err := cli.Get(ctx, q.Key)
	if err != nil {
		return a, err
	}
	a = check.Answer{Revision: resp.Header.Revision, Count: resp.Count, More: resp.More}
	for _, kv := range resp.Kvs {
		a.KVs = append(a.KVs, kvOf(kv))
	}
	return a, nil
}

func kvOf(kv *mvccpb.KeyValue) check.KV {
	return check.KV{Key: string(kv.Key), Value: string(kv.Value), Create: kv.CreateRevision, Mod: kv.ModRevision, Version: kv.Version, Lease: kv.Lease}
}

// events are all changes that a member knows, from the first on.
func (s *site) events(m *cluster.Member) (check.Watch, error) {
	w := check.Watch{Name: m.Name, Key: "\x00", End: "\x00", Sessions: []check.Session{{Via: m.Name, From: 1}}}
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	cli, err := s.Client(m.Client)
	if err != nil {
		return w, err
	}
	defer cli.Close()
	now, err := cli.Get(ctx, "k")
	if err != nil || now.Header.Revision == 1 {
		return w, err
	}
	session := &w.Sessions[0]
	for resp := range cli.Watch(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(1)) {
		if err := resp.Err(); err != nil {
			return w, err
		}
		b := check.Batch{Revision: resp.Header.Revision}
		for _, e := range resp.Events {
			event := check.Event{Revision: e.Kv.ModRevision, Delete: e.Type == clientv3.EventTypeDelete, KV: kvOf(e.Kv)}
			if event.Delete {
				event.KV = check.KV{Key: string(e.Kv.Key), Mod: e.Kv.ModRevision}
			}
			b.Events = append(b.Events, event)
			w.Through = event.Revision
		}
		if session.Batches = append(session.Batches, b); w.Through >= now.Header.Revision {
			return w, nil
		}
	}
	return w, cmp.Or(ctx.Err(), errors.New("the watch has ended"))
}

// lost are acknowledged writes that are not among the events of a member.
func (s *site) lost(w check.Watch) (lost []string) {
	known := map[int64]check.Event{}
	for _, b := range w.Sessions[0].Batches {
		for _, e := range b.Events {
			known[e.Revision] = e
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.history {
		o := &s.history[i]
		deleted := o.Request.Kind == check.Delete && o.Answer.Count > 0
		if !o.Known() || o.Request.Kind != check.Put && !deleted {
			continue
		}
		if e, ok := known[o.Answer.Revision]; !ok || e.KV.Key != o.Request.Key || e.Delete != deleted || e.KV.Value != o.Request.Value {
			lost = append(lost, o.String())
		}
	}
	return lost
}

// keeps checks that every member holds everything that was acknowledged. No load may run.
func (s *site) keeps() (watches []check.Watch) {
	s.t.Helper()
	for _, m := range s.Members {
		w, err := s.events(m)
		must(s.t, err)
		if lost := s.lost(w); len(lost) > 0 {
			s.t.Fatalf("%s has lost %d acknowledged writes, the first: %s", m.Name, len(lost), lost[0])
		}
		watches = append(watches, w)
	}
	return watches
}

// judge checks the whole history: nothing is lost, all members hold the same, and everything that clients were answered can have
// happened in one order.
func (s *site) judge() {
	s.t.Helper()
	watches := s.keeps()
	truth, report := check.TruthOf(watches, 0)
	violations := append(report.Violations, check.Watches(watches, truth).Violations...)
	report = check.Linearizable(s.history, truth, patience)
	for _, v := range append(violations, report.Violations...) {
		s.t.Error(v)
	}
	hashes := map[uint32]string{}
	for _, m := range s.Members {
		cli, err := s.Client(m.Client)
		must(s.t, err)
		resp, err := cli.HashKV(s.t.Context(), m.Client, truth.Last())
		must(s.t, err)
		hashes[resp.Hash] += m.Name
		must(s.t, cli.Close())
	}
	if len(hashes) != 1 {
		s.t.Errorf("the members differ at revision %d: %v", truth.Last(), hashes)
	}
	s.t.Logf("%d operations, %d of them of unknown outcome, of which %d happened; revision %d; %s", len(s.history), s.unanswered(), report.Happened, truth.Last(), report.Verdict)
}

func (s *site) unanswered() (n int) {
	for i := range s.history {
		if !s.history[i].Known() {
			n++
		}
	}
	return n
}
