package crash

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/wire"
)

var sweepSeed = flag.Uint64("sweep-seed", 0, "seed of what survives a power loss, 0 for a new one")

// operation is one proposal and what it does to the model.
type operation struct {
	kind  command.Kind
	body  []byte
	model func(map[string]string)
}

// workload is a fixed list of operations of every kind that changes data, large enough for several log segments, engine
// flushes and a compaction.
func workload() []operation {
	var ops []operation
	put := func(k, v string, lease int64) {
		m := wire.PutRequest{Key: []byte(k), Value: []byte(v), Lease: lease}
		ops = append(ops, operation{command.Put, m.Append(nil), func(s map[string]string) { s[k] = v }})
	}
	grant := wire.LeaseGrantRequest{ID: 42, TTL: 1000}
	revoke := wire.LeaseRevokeRequest{ID: 42}
	ops = append(ops, operation{command.LeaseGrant, grant.Append(nil), func(s map[string]string) { s["\x00lease"] = "42" }})
	big := strings.Repeat("v", 1500)
	for i := range 24 {
		put(fmt.Sprintf("k%02d", i), fmt.Sprint(i, big), 0)
		switch i % 8 {
		case 2:
			put("leased", fmt.Sprint(i), 42)
		case 3:
			m := wire.DeleteRangeRequest{Key: []byte("k00"), RangeEnd: fmt.Appendf(nil, "k%02d", i-2)}
			end := string(m.RangeEnd)
			ops = append(ops, operation{command.DeleteRange, m.Append(nil), func(s map[string]string) {
				for k := range s {
					if k >= "k00" && k < end {
						delete(s, k)
					}
				}
			}})
		case 5:
			ops = append(ops, txn(i))
		case 6:
			m := wire.CompactionRequest{Revision: int64(i)}
			ops = append(ops, operation{command.Compaction, m.Append(nil), func(map[string]string) {}})
		}
	}
	return append(ops, operation{command.LeaseRevoke, revoke.Append(nil), func(s map[string]string) {
		delete(s, "\x00lease")
		delete(s, "leased")
	}})
}

// txn puts two keys and deletes one if the key it compares exists.
func txn(i int) operation {
	a, b := fmt.Sprintf("t%02d", i), fmt.Sprintf("u%02d", i)
	m := wire.TxnRequest{
		Compare: []wire.Compare{{Key: []byte("leased"), Target: wire.CompareVersion, Result: wire.CompareGreater, Union: 4}},
		Success: []wire.RequestOp{{Put: &wire.PutRequest{Key: []byte(a), Value: []byte("1")}}, {Put: &wire.PutRequest{Key: []byte(b), Value: []byte("2")}},
			{DeleteRange: &wire.DeleteRangeRequest{Key: []byte("k04")}}},
	}
	return operation{command.Txn, m.Append(nil), func(s map[string]string) {
		s[a], s[b] = "1", "2"
		delete(s, "k04")
	}}
}

// states are the printed states after 0, 1, 2... operations.
func states(ops []operation) []string {
	s := map[string]string{}
	out := []string{printState(s)}
	for _, op := range ops {
		op.model(s)
		out = append(out, printState(s))
	}
	return out
}

func printState(s map[string]string) string {
	var lines []string
	for k, v := range s {
		lines = append(lines, fmt.Sprintf("%q=%.8q", k, v))
	}
	sort.Strings(lines)
	return strings.Join(lines, " ")
}

// content prints the state of a running member the same way.
func content(r *running) (string, error) {
	v := r.state.View()
	resp, err := v.Range(&wire.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	if err != nil {
		return "", err
	}
	s := map[string]string{}
	for _, raw := range resp.KVs {
		var kv wire.KeyValue
		if err := kv.Unmarshal(raw); err != nil {
			return "", err
		}
		s[string(kv.Key)] = string(kv.Value)
	}
	for _, l := range v.Leases.All() {
		s["\x00lease"] = fmt.Sprint(int64(l.ID))
	}
	return printState(s), nil
}

// progress is how far a run came. It is read while the run goes on.
type progress struct{ tried, acked atomic.Int64 }

// play runs the workload on fs with a clean restart in the middle, until the first failure.
func play(fs vfs.FS, ops []operation, p *progress) error {
	for half, r := 0, (*running)(nil); half < 2; half++ {
		var err error
		if r, err = start(fs); err != nil {
			return err
		}
		for i := half * len(ops) / 2; i < (half+1)*len(ops)/2; i++ {
			p.tried.Add(1)
			if err := r.propose(ops[i].kind, ops[i].body); err != nil {
				r.abandon()
				return err
			}
			p.acked.Add(1)
			if i%10 != 9 {
				continue
			}
			if err := r.engine.Flush(); err != nil { // as a full memtable would
				r.abandon()
				return err
			}
		}
		if err := r.stop(); err != nil {
			return err
		}
	}
	return nil
}

// verify reopens what is left and wants the state after n operations, acked <= n <= tried. It does so twice: opening must
// not lose anything either.
func verify(t *testing.T, fs vfs.FS, want []string, acked, tried int64) {
	t.Helper()
	for range 2 {
		r, err := start(fs)
		if err != nil {
			t.Fatalf("%d operations were acknowledged, and now the member does not open: %v", acked, err)
		}
		// One more command: when it is answered, everything before it is applied.
		probe := wire.AlarmRequest{Action: wire.AlarmGet}
		if err := r.propose(command.Alarm, probe.Append(nil)); err != nil {
			t.Fatal(err)
		}
		got, err := content(r)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for n := acked; n <= tried && n < int64(len(want)); n++ {
			found = found || got == want[n]
		}
		if !found {
			t.Fatalf("acknowledged %d, tried %d; found:\n%s\nwant:\n%s", acked, tried, got, want[acked])
		}
		r.abandon()
	}
}

// TestWorkload runs without any fault, so that a failing sweep means what it says.
func TestWorkload(t *testing.T) {
	fs, ops, p := vfs.NewCrashableMem(), workload(), &progress{}
	if err := play(fs, ops, p); err != nil {
		t.Fatalf("after %d operations: %v", p.acked.Load(), err)
	}
	verify(t, fs, states(ops), int64(len(ops)), int64(len(ops)))
}

// sweep runs the workload once per file operation; at lets something happen at the i-th one.
func sweep(t *testing.T, one func(t *testing.T, i int64) (reached bool)) {
	step := int64(1)
	if testing.Short() {
		step = 17
	}
	i := int64(0)
	for ; one(t, i) && !t.Failed(); i += step {
	}
	if i < 100 {
		t.Fatalf("the workload makes only %d file operations: the sweep sweeps nothing", i)
	}
	t.Logf("%d file operations, every %dth tried", i, step)
}

var errInjected = errors.New("injected: the disk failed")

// TestFailAtEveryOperation makes the i-th file operation fail, once, for every i. The member may go on or stop; then the
// power goes, and what was acknowledged must be there.
func TestFailAtEveryOperation(t *testing.T) {
	ops := workload()
	want := states(ops)
	sweep(t, func(t *testing.T, i int64) bool {
		mem, p := vfs.NewCrashableMem(), &progress{}
		var count atomic.Int64
		var what atomic.Value
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if count.Add(1) == i+1 {
				what.Store(fmt.Sprintf("%v of %s", op.Kind, op.Path))
				return errInjected
			}
			return nil
		}))
		err := play(fs, ops, p)
		if err == nil && p.acked.Load() != int64(len(ops)) {
			t.Fatalf("operation %d failed, the run ended early without an error", i)
		}
		reached := count.Load() > i
		left := mem.CrashClone(vfs.CrashCloneCfg{})
		t.Run(fmt.Sprintf("%d", i), func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("the failed operation was %v; the run ended with %v", what.Load(), err)
				}
			}()
			verify(t, left, want, p.acked.Load(), p.tried.Load())
		})
		return reached
	})
}

// TestPowerLossAtEveryOperation takes the power away just before the i-th file operation, for every i, with a random part of
// what was not synced surviving.
func TestPowerLossAtEveryOperation(t *testing.T) {
	seed := *sweepSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("replay with -sweep-seed %d", seed)
	ops := workload()
	want := states(ops)
	sweep(t, func(t *testing.T, i int64) bool {
		mem, p := vfs.NewCrashableMem(), &progress{}
		var count atomic.Int64
		var left *vfs.MemFS
		var acked, tried int64
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if count.Add(1) == i+1 {
				acked = p.acked.Load() // before the clone: what is acknowledged now must be in it
				percent := []int{0, 30, 70, 100}[i%4]
				left = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(seed, uint64(i)))})
				tried = p.tried.Load()
			}
			return nil
		}))
		if err := play(fs, ops, p); err != nil {
			t.Fatal(err)
		}
		if left == nil {
			return false
		}
		t.Run(fmt.Sprintf("%d", i), func(t *testing.T) { verify(t, left, want, acked, tried) })
		return true
	})
}
