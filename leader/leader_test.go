package leader_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/leader"
	"quorate.dev/quorate/lease"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/wire"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// world is a duty with its surroundings: a state that the test sets and a group that answers proposals when told to.
type world struct {
	t        testing.TB
	clock    *clock.Manual
	duty     *leader.Duty
	out      strings.Builder
	trace    bool // print each proposal when it is made
	proposed []proposal

	mu       sync.Mutex
	revision ids.Revision
	retained int64
	alarms   []wire.AlarmMember
	version  string
}

type proposal struct {
	kind command.Kind
	m    leader.Message
	w    command.Waiter
}

func (w *world) Revision() ids.Revision     { return w.revision }
func (w *world) RetainedBytes() int64       { return w.retained }
func (w *world) Alarms() []wire.AlarmMember { return w.alarms }
func (w *world) ClusterVersion() string     { return w.version }

func (w *world) ProposeMessage(kind command.Kind, m leader.Message, waiter command.Waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.proposed = append(w.proposed, proposal{kind, m, waiter})
	if w.trace {
		w.printf("%v: %s\n", w.clock.Now().Sub(epoch), describe(w.proposed[len(w.proposed)-1]))
	}
}

func (w *world) ProposeInTerm(_ ids.Term, kind command.Kind, m leader.Message, waiter command.Waiter) {
	w.ProposeMessage(kind, m, waiter)
}

func (w *world) printf(format string, args ...any) { fmt.Fprintf(&w.out, format, args...) }

// describe prints a proposal's request.
func describe(p proposal) string {
	switch m := p.m.(type) {
	case *wire.LeaseRevokeRequest:
		return fmt.Sprintf("revoke %d", m.ID)
	case *wire.LeaseCheckpointRequest:
		var s []string
		for _, c := range m.Checkpoints {
			s = append(s, fmt.Sprintf("%d:%ds", c.ID, c.RemainingTTL))
		}
		return "checkpoint " + strings.Join(s, " ")
	case *wire.CompactionRequest:
		return fmt.Sprintf("compact %d", m.Revision)
	case *wire.AlarmRequest:
		return fmt.Sprintf("alarm action=%d member=%d type=%d", m.Action, m.MemberID, m.Alarm)
	case *wire.ClusterVersionSetRequest:
		return "version " + m.Ver
	case *wire.V2Request:
		return fmt.Sprintf("v2 %s %s at %v", m.Method, m.Val, time.Unix(0, m.Time).Sub(epoch))
	}
	return fmt.Sprintf("%T", p.m)
}

// answer completes all proposals, err nil meaning that they take effect first, as the state machine would have it.
func (w *world) answer(err error) {
	w.mu.Lock()
	all := w.proposed
	w.proposed = nil
	w.mu.Unlock()
	for _, p := range all {
		if err == nil {
			w.effect(p)
		}
		p.w.Complete(&command.Result{Err: err})
	}
}

func (w *world) effect(p proposal) {
	switch m := p.m.(type) {
	case *wire.LeaseRevokeRequest:
		w.duty.Apply([]leader.Change{{ID: ids.LeaseID(m.ID), Kind: leader.Revoked}})
	case *wire.LeaseCheckpointRequest:
		for _, c := range m.Checkpoints {
			w.duty.Apply([]leader.Change{{ID: ids.LeaseID(c.ID), Kind: leader.Checkpointed, Remaining: c.RemainingTTL}})
		}
	case *wire.AlarmRequest:
		w.alarms = nil
	case *wire.ClusterVersionSetRequest:
		w.version = m.Ver
	}
}

func newWorld(t testing.TB, change func(*leader.Config)) *world {
	w := &world{t: t, clock: clock.NewManual(epoch), revision: 1}
	c := leader.Config{
		Member: 7, Proposer: w, State: w, Election: time.Second, RequestTimeout: 7 * time.Second, Clock: w.clock,
	}
	if change != nil {
		change(&c)
	}
	w.duty = leader.New(c)
	return w
}

var faults = map[string]error{
	"": nil, "NotFound": fault.LeaseNotFound, "Timeout": fault.Timeout, "Compacted": fault.Compacted, "TooMany": fault.TooManyRequests,
}

// TestScenarios plays testdata. Verbs:
//
//	new [checkpoints] [period=<d>] [keep=<n>] [quota=<bytes>] [version=<v>]
//	state [revision=<n>] [retained=<n>] [nospace=<member>] [version=<v>]
//	promote term=<n> [leases=(<id>:<ttl>[:<remaining>],...)]
//	demote term=<n>
//	change granted=(<id>:<ttl>,...) | revoked=(<id>,...) | checkpointed=(<id>:<remaining>,...)
//	advance <d> [each=<d>]       rounds every half second; prints what each proposes
//	answer [<fault>]             completes what was proposed
//	renew <id> | remaining <id> | order <id>... | await
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var w *world
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "new" {
				w = newWorld(t, func(c *leader.Config) { configure(t, d, c) })
				return ""
			}
			w.out.Reset()
			w.run(t, d)
			return w.out.String()
		})
	})
}

func configure(t *testing.T, d *datadriven.TestData, c *leader.Config) {
	c.Checkpoints = d.HasArg("checkpoints")
	if d.HasArg("period") {
		var s string
		d.ScanArgs(t, "period", &s)
		p, err := time.ParseDuration(s)
		require.NoError(t, err)
		c.Compaction = leader.Compaction{Mode: leader.CompactPeriodic, Period: p}
	}
	if d.HasArg("keep") {
		c.Compaction.Mode = leader.CompactRevision
		d.ScanArgs(t, "keep", &c.Compaction.Revisions)
	}
	d.MaybeScanArgs(t, "quota", &c.QuotaBytes)
	d.MaybeScanArgs(t, "version", &c.ClusterVersion)
	require.NoError(t, c.Compaction.Validate())
}

func (w *world) run(t *testing.T, d *datadriven.TestData) {
	switch d.Cmd {
	case "state":
		w.setState(t, d)
	case "promote":
		var term ids.Term
		d.ScanArgs(t, "term", (*uint64)(&term))
		var all []lease.Lease
		for _, n := range list(t, d, "leases") {
			all = append(all, lease.Lease{ID: ids.LeaseID(n[0]), TTL: n[1], Remaining: n[2]})
		}
		w.duty.Promote(term, all)
	case "demote":
		var term uint64
		d.ScanArgs(t, "term", &term)
		w.duty.Demote(ids.Term(term))
	case "change":
		var changes []leader.Change
		for _, n := range list(t, d, "granted") {
			changes = append(changes, leader.Change{ID: ids.LeaseID(n[0]), Kind: leader.Granted, TTL: n[1]})
		}
		for _, n := range list(t, d, "revoked") {
			changes = append(changes, leader.Change{ID: ids.LeaseID(n[0]), Kind: leader.Revoked})
		}
		for _, n := range list(t, d, "checkpointed") {
			changes = append(changes, leader.Change{ID: ids.LeaseID(n[0]), Kind: leader.Checkpointed, Remaining: n[1]})
		}
		w.duty.Apply(changes)
	case "advance":
		w.advance(t, d)
	case "answer":
		name := ""
		if len(d.CmdArgs) > 0 {
			name = d.CmdArgs[0].Key
		}
		err, ok := faults[name]
		require.True(t, ok, "%s", d.Pos)
		w.answer(err)
	default:
		w.ask(t, d)
	}
}

func (w *world) ask(t *testing.T, d *datadriven.TestData) {
	switch d.Cmd {
	case "renew":
		id := w.id(t, d.CmdArgs[0].Key)
		w.duty.RenewAsync(id, func(ttl int64, err error) { w.printf("renew %d: ttl=%d err=%v\n", id, ttl, err) })
	case "await":
		w.duty.Await(func(err error) { w.printf("await: err=%v\n", err) })
	case "remaining":
		left, granted, ok, leading := w.duty.Remaining(w.id(t, d.CmdArgs[0].Key))
		w.printf("%s of %ds ok=%v leading=%v\n", left, granted, ok, leading)
	case "order":
		var all []ids.LeaseID
		for _, a := range d.CmdArgs {
			all = append(all, w.id(t, a.Key))
		}
		w.duty.Order(all)
		w.printf("%d\n", all)
	default:
		d.Fatalf(t, "unknown verb %s", d.Cmd)
	}
}

func (w *world) id(t *testing.T, s string) (id ids.LeaseID) {
	_, err := fmt.Sscan(s, (*int64)(&id))
	require.NoError(t, err)
	return id
}

func (w *world) setState(t *testing.T, d *datadriven.TestData) {
	d.MaybeScanArgs(t, "revision", (*int64)(&w.revision))
	d.MaybeScanArgs(t, "retained", &w.retained)
	d.MaybeScanArgs(t, "version", &w.version)
	var member uint64
	if d.MaybeScanArgs(t, "nospace", &member) {
		w.alarms = append(w.alarms, wire.AlarmMember{MemberID: member, Alarm: wire.AlarmNoSpace})
	}
}

// advance moves the clock and makes a round every half second, or as "each" says. Between rounds the state's revision grows
// by "writes".
func (w *world) advance(t *testing.T, d *datadriven.TestData) {
	total, err := time.ParseDuration(d.CmdArgs[0].Key)
	require.NoError(t, err)
	each := limits.LeaseRound.String()
	d.MaybeScanArgs(t, "each", &each)
	step, err := time.ParseDuration(each)
	require.NoError(t, err)
	var writes int64
	d.MaybeScanArgs(t, "writes", &writes)
	auto := d.HasArg("auto") // proposals are answered at once
	for passed := time.Duration(0); passed < total; passed += step {
		w.clock.Advance(step)
		w.revision += ids.Revision(writes)
		w.mu.Lock()
		before := len(w.proposed)
		w.mu.Unlock()
		w.duty.Round()
		for _, p := range w.proposed[before:] {
			w.printf("%v: %s\n", w.clock.Now().Sub(epoch), describe(p))
		}
		if auto {
			w.answer(nil)
		}
	}
}

// list reads an argument of colon-separated numbers, each padded to three.
func list(t *testing.T, d *datadriven.TestData, name string) (out [][3]int64) {
	for _, a := range d.CmdArgs {
		if a.Key != name {
			continue
		}
		for _, v := range a.Vals {
			var n [3]int64
			for i, s := range strings.Split(v, ":") {
				_, err := fmt.Sscan(s, &n[i])
				require.NoError(t, err)
			}
			out = append(out, n)
		}
	}
	return out
}

func TestMinTTL(t *testing.T) {
	require.EqualValues(t, 2, leader.MinTTL(10, 100*time.Millisecond), "etcd's default")
	require.EqualValues(t, 1, leader.MinTTL(5, 100*time.Millisecond))
	require.EqualValues(t, 8, leader.MinTTL(10, 500*time.Millisecond))
}

// A storm: a million leases of one time to live and a leader that comes up. They are revoked at a bounded rate, all of
// them, each once.
func TestStormIsSmoothed(t *testing.T) {
	const n = 20_000
	w := newWorld(t, nil)
	var all []lease.Lease
	for i := range n {
		all = append(all, lease.Lease{ID: ids.LeaseID(i + 1), TTL: 60})
	}
	w.duty.Promote(5, all)
	revoked := map[string]int{}
	first, last := time.Duration(0), time.Duration(0)
	for len(revoked) < n {
		w.clock.Advance(limits.LeaseRound)
		w.duty.Round()
		require.LessOrEqual(t, len(w.proposed), limits.LeaseRevokesPerRound)
		for _, p := range w.proposed {
			revoked[describe(p)]++
			last = w.clock.Now().Sub(epoch)
			if first == 0 {
				first = last
			}
		}
		w.answer(nil)
		require.Less(t, w.clock.Now().Sub(epoch), time.Hour)
	}
	for what, times := range revoked {
		require.Equal(t, 1, times, what)
	}
	require.Equal(t, 61*time.Second, first)
	require.InDelta(t, n/750, (last - first).Seconds(), 2, "750 leases a second")
}

func TestRevocationsUnderWayAreBounded(t *testing.T) {
	w := newWorld(t, nil)
	var all []lease.Lease
	for i := range limits.LeaseRevokesPerRound + 200 {
		all = append(all, lease.Lease{ID: ids.LeaseID(i + 1), TTL: 2})
	}
	w.duty.Promote(1, all)
	w.clock.Advance(time.Minute)
	w.duty.Round()
	w.duty.Round()
	require.Len(t, w.proposed, limits.LeaseRevokesPerRound)
	w.answer(fault.Timeout)
	w.clock.Advance(limits.LeaseRound)
	w.duty.Round()
	require.Len(t, w.proposed, limits.LeaseRevokesPerRound, "what failed is tried again")
	w.answer(nil)
	w.duty.Round()
	require.Len(t, w.proposed, 200)
}

// Answers to what an earlier leadership proposed make no room in a later one.
func TestLateAnswersAreNotCounted(t *testing.T) {
	w := newWorld(t, nil)
	var all []lease.Lease
	for i := range 2 * limits.LeaseRevokesPerRound {
		all = append(all, lease.Lease{ID: ids.LeaseID(i + 1), TTL: 2})
	}
	w.duty.Promote(1, all)
	w.clock.Advance(time.Minute)
	w.duty.Round()
	old := w.proposed
	w.proposed = nil
	w.duty.Demote(1)
	w.duty.Promote(2, all)
	w.clock.Advance(time.Minute)
	w.duty.Round()
	require.Len(t, w.proposed, limits.LeaseRevokesPerRound)
	for _, p := range old {
		p.w.Complete(&command.Result{Err: fault.Timeout})
	}
	w.duty.Round()
	require.Len(t, w.proposed, limits.LeaseRevokesPerRound)
}

// The goroutine makes rounds by the clock, and Stop answers those who wait.
func TestStartAndStop(t *testing.T) {
	w := newWorld(t, func(c *leader.Config) { c.ClusterVersion = "3.7.0" })
	w.duty.Start()
	w.clock.Await(1)
	waits := make(chan error, 2)
	w.duty.Await(func(err error) { waits <- err })
	w.duty.Promote(2, []lease.Lease{{ID: 1, TTL: 5}})
	require.NoError(t, <-waits)
	ttl, err := w.duty.Renew(context.Background(), 1)
	require.NoError(t, err)
	require.EqualValues(t, 5, ttl)
	for limit := time.Now().Add(2 * time.Minute); ; {
		w.mu.Lock()
		n := len(w.proposed)
		w.mu.Unlock()
		if n == 1 {
			break
		}
		require.True(t, time.Now().Before(limit), "no round after the promotion")
	}
	w.clock.Advance(5 * time.Second)
	w.duty.RenewAsync(1, func(_ int64, err error) { waits <- err })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = w.duty.Renew(ctx, 1)
	require.ErrorIs(t, err, context.Canceled)
	w.duty.Stop()
	w.duty.Stop()
	require.ErrorIs(t, <-waits, fault.Stopped)
	w.duty.Await(func(err error) { require.ErrorIs(t, err, fault.Stopped) })
	require.EqualValues(t, 1, w.duty.Counters().Renewed)
}

// A random history of grants, renewals, revocations and rounds against a list that is searched from end to end.
func TestRandomHistory(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t, nil)
	w.duty.Promote(1, nil)
	model := map[ids.LeaseID][2]time.Duration{} // ttl, deadline
	now := time.Duration(0)
	for range 20_000 {
		id := ids.LeaseID(rng.IntN(50) + 1)
		known, ok := model[id]
		switch rng.IntN(5) {
		case 0:
			if !ok {
				ttl := time.Duration(rng.IntN(20)+1) * time.Second
				w.duty.Apply([]leader.Change{{ID: id, Kind: leader.Granted, TTL: int64(ttl / time.Second)}})
				model[id] = [2]time.Duration{ttl, now + ttl}
			}
		case 1:
			if ok && rng.IntN(4) == 0 {
				w.duty.Apply([]leader.Change{{ID: id, Kind: leader.Revoked}})
				delete(model, id)
			}
		case 2, 3:
			answered := false
			w.duty.RenewAsync(id, func(ttl int64, err error) {
				answered = true
				if err == nil {
					require.Equal(t, known[0], time.Duration(ttl)*time.Second)
				}
			})
			require.Equal(t, !ok || known[1] > now, answered, "an expired lease is not renewed and not answered")
			if ok && known[1] > now {
				model[id] = [2]time.Duration{known[0], now + known[0]}
			}
		case 4:
			now += limits.LeaseRound
			w.clock.Advance(limits.LeaseRound)
			w.duty.Round()
			var expired int
			for id, m := range model {
				if m[1] <= now {
					expired++
					delete(model, id)
				}
			}
			require.Len(t, w.proposed, expired)
			w.answer(nil)
		}
	}
}

// BenchmarkMillionExpire measures what it takes to find and revoke a million leases in due order, promotion included.
func BenchmarkMillionExpire(b *testing.B) {
	const n = 1_000_000
	all := make([]lease.Lease, n)
	for i := range all {
		all[i] = lease.Lease{ID: ids.LeaseID(i + 1), TTL: int64(10 + i%600)}
	}
	for b.Loop() {
		w := newWorld(b, nil)
		w.duty.Promote(1, all)
		w.clock.Advance(time.Hour)
		for left := n; left > 0; {
			w.duty.Round()
			left -= len(w.proposed)
			w.answer(nil)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/lease")
}

func BenchmarkRenewAmongAMillion(b *testing.B) {
	const n = 1_000_000
	all := make([]lease.Lease, n)
	for i := range all {
		all[i] = lease.Lease{ID: ids.LeaseID(i + 1), TTL: 60}
	}
	w := newWorld(b, nil)
	w.duty.Promote(1, all)
	done := func(int64, error) {}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		w.duty.RenewAsync(ids.LeaseID(i*7919%n+1), done)
	}
}
