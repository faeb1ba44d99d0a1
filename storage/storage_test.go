package storage_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"quorate.dev/quorate/ids"
	. "quorate.dev/quorate/storage"
)

func open(t testing.TB, fs vfs.FS, dir string) *Engine {
	t.Helper()
	e, err := Open(dir, Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func mark(i int) Mark { return Mark{Index: ids.Index(i), Term: 1} }

// commit writes pairs of key and value; a value of "-" deletes.
func commit(t testing.TB, e *Engine, m Mark, pairs ...string) {
	t.Helper()
	b := e.NewBatch()
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "-" {
			b.Delete([]byte(pairs[i]))
		} else {
			b.Set([]byte(pairs[i]), []byte(pairs[i+1]))
		}
	}
	if err := e.Commit(b, m); err != nil {
		t.Fatal(err)
	}
}

func dump(t testing.TB, r Reader) map[string]string {
	t.Helper()
	got, err := tryDump(r)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestCommitAndRead(t *testing.T) {
	e := open(t, vfs.NewMem(), "d/store")
	commit(t, e, mark(1), "k1", "a", "k2", "b", "k3", "c", "m1", "x")
	frozen := e.Freeze()
	commit(t, e, mark(2), "k1", "A", "k2", "-")
	b := e.NewBatch()
	k, v := b.SetDeferred(2, 3)
	copy(k, "k9")
	copy(v, "new")
	b.DeleteRange([]byte("k3"), []byte("k4"))
	if b.Len() != 2 || b.Bytes() == 0 {
		t.Fatalf("batch reports %v", b)
	}
	if err := e.Commit(b, mark(3)); err != nil {
		t.Fatal(err)
	}
	b.Reset()
	if err := e.Commit(b, mark(3)); err != nil { // housekeeping between entries: an equal mark
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(dump(t, e)), "map[k1:A k9:new m1:x]"; got != want {
		t.Errorf("store holds %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(dump(t, frozen)), "map[k1:a k2:b k3:c m1:x]"; got != want {
		t.Errorf("frozen store holds %s, want %s", got, want)
	}
	if e.Applied() != mark(3) || frozen.Mark() != mark(1) {
		t.Errorf("marks %v and %v", e.Applied(), frozen.Mark())
	}
	if v, ok, err := frozen.GetAppend([]byte("pre"), []byte("k1")); string(v) != "prea" || !ok || err != nil {
		t.Errorf("GetAppend: %q %v %v", v, ok, err)
	}
	if v, ok, err := e.Get([]byte("k2")); v != nil || ok || err != nil {
		t.Errorf("Get of a deleted key: %q %v %v", v, ok, err)
	}
	if s := e.Stats(); s.Readers != 1 || s.MemTableBytes == 0 || s.UnflushedBytes == 0 {
		t.Errorf("stats %+v", s)
	}
	if err := errors.Join(frozen.Close(), e.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestIteratorMoves(t *testing.T) {
	e := open(t, vfs.NewMem(), "store")
	defer e.Close()
	commit(t, e, mark(1), "k1", "", "k3", "", "k5", "")
	it, err := e.Iter(BucketBounds(BucketKey))
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	var trace []string
	step := func(name string, ok bool) {
		if ok != it.Valid() {
			t.Errorf("%s returned %v but Valid is %v", name, ok, it.Valid())
		}
		if ok {
			name += "=" + string(it.Key())
		}
		trace = append(trace, name)
	}
	step("last", it.Last())
	step("prev", it.Prev())
	step("seekge", it.SeekGE([]byte("k4")))
	step("seeklt", it.SeekLT([]byte("k3")))
	step("prev", it.Prev())
	step("first", it.First())
	step("next", it.Next())
	step("seekge", it.SeekGE([]byte("k6")))
	want := "last=k5 prev=k3 seekge=k5 seeklt=k1 prev first=k1 next=k3 seekge"
	if got := strings.Join(trace, " "); got != want || it.Err() != nil {
		t.Errorf("moves %s (%v), want %s", got, it.Err(), want)
	}
}

func TestMarkNeverDecreases(t *testing.T) {
	for _, below := range []Mark{{4, 2}, {5, 1}, {5, 3}, {6, 1}} {
		t.Run(below.String(), func(t *testing.T) {
			e := open(t, vfs.NewMem(), "store")
			defer e.Close()
			commit(t, e, Mark{5, 2})
			defer func() {
				if r := fmt.Sprint(recover()); !strings.HasPrefix(r, "BUG:") {
					t.Errorf("a commit with mark %v after 5@2 gave %q, want a BUG panic", below, r)
				}
			}()
			e.Commit(e.NewBatch(), below)
		})
	}
}

func TestReopen(t *testing.T) {
	fs := vfs.NewMem()
	e := open(t, fs, "store")
	commit(t, e, mark(7), "k1", "a")
	if d, err := e.Durable(); d != (Mark{}) || err != nil {
		t.Errorf("durable before a flush is %v, %v", d, err)
	}
	if err := e.Flush(); err != nil {
		t.Fatal(err)
	}
	if d, err := e.Durable(); d != mark(7) || err != nil {
		t.Errorf("durable after a flush is %v, %v", d, err)
	}
	commit(t, e, mark(8), "k2", "b")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(t, fs, "store")
	if d, err := e.Durable(); d != mark(8) || err != nil || e.Applied() != mark(8) {
		t.Errorf("after Close durable is %v, applied %v, %v", d, e.Applied(), err)
	}
	commit(t, e, mark(9), "k3", "c")
	if err := e.CloseDirty(); err != nil {
		t.Fatal(err)
	}
	e, err := Open("store", Options{FS: fs, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(e.Applied(), dump(t, e)); got != "8@1 map[k1:a k2:b]" {
		t.Errorf("after CloseDirty the store holds %s", got)
	}
	if err := e.Commit(e.NewBatch(), mark(10)); err == nil || !strings.Contains(err.Error(), "reading only") {
		t.Errorf("commit to a read-only store: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	for name, fs := range map[string]vfs.FS{"mem": vfs.NewMem(), "disk": vfs.Default} {
		dir := filepath.Join(t.TempDir(), name)
		e := open(t, fs, dir)
		_, err := Open(dir, Options{FS: fs})
		if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "another process has this store open") {
			t.Errorf("%s: second open: %v", name, err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if err := open(t, fs, dir).Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	for _, c := range []struct{ version, want string }{
		{"3", "newer release"}, {"1", "development builds"}, {"0", "no version"}, {"x", "no version"}, {"", "no version"},
	} {
		fs := vfs.NewMem()
		e := open(t, fs, "store")
		commit(t, e, mark(1), "zf", c.version)
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Open("store", Options{FS: fs}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("open of format %q: %v, want it to say %q", c.version, err, c.want)
		}
	}
}

func TestCheckpoint(t *testing.T) {
	fs := vfs.NewCrashableMem()
	e := open(t, fs, "store")
	commit(t, e, mark(1), "k1", "a")
	if err := e.Checkpoint("copy"); err != nil {
		t.Fatal(err)
	}
	commit(t, e, mark(2), "k1", "b")
	if err := e.Checkpoint("copy"); err == nil {
		t.Error("a checkpoint into an existing directory succeeded")
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	c := open(t, crashed, "copy")
	if got := fmt.Sprint(c.Applied(), dump(t, c)); got != "1@1 map[k1:a]" {
		t.Errorf("the checkpoint holds %s", got)
	}
	if err := errors.Join(c.Close(), e.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestLargeBatch covers the engine's separate path for batches beyond half a memtable, and reuse after it.
func TestLargeBatch(t *testing.T) {
	e, err := Open("store", Options{FS: vfs.NewMem(), MemTableBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	b := e.NewBatch()
	value := bytes.Repeat([]byte("v"), 4096)
	for round := range 20 {
		for i := range 500 {
			b.Set(fmt.Appendf(nil, "k%02d%04d", round, i), value)
		}
		if err := e.Commit(b, mark(round+1)); err != nil {
			t.Fatal(err)
		}
		b.Reset()
	}
	if got := len(dump(t, e)); got != 20*500 {
		t.Errorf("%d keys, want %d", got, 20*500)
	}
	if s := e.Stats(); s.Flushes == 0 || s.UnflushedBytes > 8<<20 {
		t.Errorf("40 MB in batches of 2 MB with a memtable of 1 MB: %+v", s)
	}
}

// history is what the store held after each commit.
type history struct {
	marks  []Mark
	states []map[string]string
}

func (h *history) contains(m Mark, state map[string]string) bool {
	if m == (Mark{}) && len(state) == 0 {
		return true
	}
	for i := range h.marks {
		if h.marks[i] == m && maps.Equal(h.states[i], state) {
			return true
		}
	}
	return false
}

// churn commits random changes until an error, or n times, and records every state. It returns the mark that the last
// successful Flush promised.
func churn(e *Engine, rng *rand.Rand, n int, h *history) (promised Mark, err error) {
	m := e.Applied()
	state := map[string]string{}
	if len(h.states) > 0 {
		state = h.states[len(h.states)-1]
	}
	b := e.NewBatch()
	for range n {
		state = maps.Clone(state)
		b.Reset()
		for range rng.IntN(8) {
			k := fmt.Sprintf("%c%02d", "kml"[rng.IntN(3)], rng.IntN(40))
			switch rng.IntN(8) {
			case 0:
				b.Delete([]byte(k))
				delete(state, k)
			case 1:
				end := k[:2] + string(k[2]+2)
				b.DeleteRange([]byte(k), []byte(end))
				maps.DeleteFunc(state, func(s, _ string) bool { return k <= s && s < end })
			default:
				v := strings.Repeat(fmt.Sprintf("%d.", rng.Uint32()), 1+rng.IntN(300))
				b.Set([]byte(k), []byte(v))
				state[k] = v
			}
		}
		if rng.IntN(4) > 0 {
			m.Index++
			m.Term += ids.Term(rng.IntN(10) / 9)
		}
		h.marks, h.states = append(h.marks, m), append(h.states, state)
		if err := e.Commit(b, m); err != nil {
			return promised, err
		}
		if rng.IntN(12) == 0 {
			if err := e.Flush(); err != nil {
				return promised, err
			}
			promised = m
		}
	}
	return promised, nil
}

// TestCrashLeavesAPrefix loses power at random moments and checks that what is found matches its own mark exactly.
func TestCrashLeavesAPrefix(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 30 {
		fs, h := vfs.NewCrashableMem(), &history{}
		for range 4 {
			e := open(t, fs, "store")
			promised, err := churn(e, rng, 1+rng.IntN(150), h)
			if err != nil {
				t.Fatal(err)
			}
			durable, err := e.Durable()
			if err != nil {
				t.Fatal(err)
			}
			crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
			if err := e.CloseDirty(); err != nil {
				t.Fatal(err)
			}
			fs = crashed
			e = open(t, fs, "store")
			m, state := e.Applied(), dump(t, e)
			if m.Index < promised.Index || m.Index < durable.Index {
				t.Fatalf("found mark %v after a flush promised %v and Durable said %v", m, promised, durable)
			}
			if !h.contains(m, state) {
				t.Fatalf("found %v with mark %v, which was never the state at that mark", state, m)
			}
			h.marks, h.states = append(h.marks, m), append(h.states, state)
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestEveryFileOperationFails lets the i-th file operation fail, for every i, and checks that the failure is seen, that
// nothing is promised afterwards, and that what is on disk is a prefix of the history which holds everything promised.
func TestEveryFileOperationFails(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for i, quiet := 0, 0; quiet < 3; i++ {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		mem, h := vfs.NewCrashableMem(), &history{}
		injected := &errorfs.Counter{Injector: errorfs.OnIndex(int32(i))}
		var promised Mark
		e, err := Open("store", Options{FS: errorfs.Wrap(mem, injected)})
		if err == nil {
			promised, err = churn(e, rng, 120, h)
			if err == nil {
				if err = e.Close(); err == nil {
					promised = e.Applied()
				}
			} else {
				e.Close()
			}
			if e.Err() != nil && e.Commit(e.NewBatch(), e.Applied()) == nil {
				t.Fatalf("operation %d: a failed engine took a commit", i)
			}
		}
		if injected.Load() == 0 {
			quiet++ // the index may be beyond this run; operations of the background vary
		}
		e = open(t, mem.CrashClone(vfs.CrashCloneCfg{}), "store")
		if m, state := e.Applied(), dump(t, e); m.Index < promised.Index || !h.contains(m, state) {
			t.Fatalf("operation %d (failed with %v): found mark %v with %d keys, promised %v", i, err, m, len(state), promised)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFullDisk checks that a disk which stays full ends Commit instead of blocking it, and that a reader still reads.
func TestFullDisk(t *testing.T) {
	var full bool
	mem := vfs.NewCrashableMem()
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full && op.Kind == errorfs.OpFileWrite {
			return errors.New("no space left on device")
		}
		return nil
	}))
	e, err := Open("store", Options{FS: fs, MemTableBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	commit(t, e, mark(1), "k1", "a")
	full = true
	b := e.NewBatch()
	value := bytes.Repeat([]byte("v"), 100_000)
	for i := 2; err == nil; i++ {
		b.Reset()
		b.Set(fmt.Appendf(nil, "k%d", i), value)
		err = e.Commit(b, mark(i))
		if i > 1000 {
			t.Fatal("100 MB were committed with 1 MB memtables and a full disk")
		}
	}
	<-e.Failed()
	if !strings.Contains(err.Error(), "no space left") || e.Err() == nil {
		t.Errorf("commit failed with %v, Err is %v", err, e.Err())
	}
	if v, ok, err := e.Get([]byte("k1")); string(v) != "a" || !ok || err != nil {
		t.Errorf("Get after the failure: %q %v %v", v, ok, err)
	}
	if err := e.Close(); err == nil {
		t.Error("Close reported no failure")
	}
	e = open(t, mem.CrashClone(vfs.CrashCloneCfg{}), "store")
	defer e.Close()
	if m := e.Applied(); m.Index > 100 {
		t.Errorf("the disk was full after mark 1 and yet there is mark %v", m)
	}
}

// TestDamageIsReported changes single bytes of every file and checks that a reader is told, or sees a state of the past
// with that state's mark (damage at the end of the manifest looks like a crash; whoever replays the log then finds that
// the log no longer reaches back to the mark), and never anything else.
func TestDamageIsReported(t *testing.T) {
	mem, h := vfs.NewCrashableMem(), &history{}
	e := open(t, mem, "store")
	if _, err := churn(e, rand.New(rand.NewPCG(7, 7)), 60, h); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := mem.List("store")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	reported := 0
	for _, name := range names {
		for off := 0; ; off += 97 {
			fs := mem.CrashClone(vfs.CrashCloneCfg{})
			data, err := fs.UnsafeGetFileDataBuffer("store/" + name)
			if err != nil || off >= len(data) {
				break
			}
			data[off] ^= 0x40
			e, err := Open("store", Options{FS: fs})
			if err != nil {
				reported++
				continue
			}
			state, err := tryDump(e)
			if err != nil {
				reported++
			} else if !h.contains(e.Applied(), state) {
				t.Fatalf("byte %d of %s was changed and mark %v with %d keys was returned", off, name, e.Applied(), len(state))
			}
			e.CloseDirty()
		}
	}
	if reported < 20 {
		t.Errorf("only %d changed bytes were reported", reported)
	}
}

// TestRottenCheckpoint changes single bytes of the tables of a store, opens it where that succeeds, and copies it: what is rotten is not copied, but
// reported.
func TestRottenCheckpoint(t *testing.T) {
	mem, h := vfs.NewCrashableMem(), &history{}
	e := open(t, mem, "store")
	if _, err := churn(e, rand.New(rand.NewPCG(7, 8)), 60, h); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := mem.List("store")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	atStart, reported, sound := 0, 0, 0
	for _, name := range names {
		for off := 0; strings.HasSuffix(name, ".sst"); off += 101 {
			fs := mem.CrashClone(vfs.CrashCloneCfg{})
			data, err := fs.UnsafeGetFileDataBuffer("store/" + name)
			if err != nil || off >= len(data) {
				break
			}
			data[off] ^= 0x40
			e, err := Open("store", Options{FS: fs})
			if err != nil {
				atStart++
				continue
			}
			if err = e.Checkpoint("copy"); err != nil {
				if reported++; e.Err() == nil || !strings.Contains(err.Error(), strings.TrimSuffix(name, ".sst")) {
					t.Fatalf("byte %d of %s was changed: the copy failed with %v and the engine with %v", off, name, err, e.Err())
				}
				e.CloseDirty()
				continue
			}
			e.CloseDirty()
			copied, err := Open("copy", Options{FS: fs, ReadOnly: true})
			if err != nil {
				t.Fatalf("byte %d of %s was changed and the copy does not open: %v", off, name, err)
			}
			if state, err := tryDump(copied); err != nil || !h.contains(copied.Applied(), state) {
				t.Fatalf("byte %d of %s was changed and the copy is %v with %d keys: %v", off, name, copied.Applied(), len(state), err)
			}
			sound++
			if err := copied.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if reported < 20 {
		t.Errorf("only %d changed bytes were reported", reported)
	}
	t.Logf("%d changed bytes reported by the copy, %d by the start, %d did not matter", reported, atStart, sound)
}

func tryDump(r Reader) (map[string]string, error) {
	it, err := r.Iter(nil, nil)
	if err != nil {
		return nil, err
	}
	got := map[string]string{}
	for ok := it.First(); ok; ok = it.Next() {
		got[string(it.Key())] = string(it.Value())
	}
	return got, it.Close()
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{CacheBytes: -1}, {MemTableBytes: 1}, {MemTableBytes: 2 << 30}} {
		o.FS = vfs.NewMem()
		if _, err := Open("store", o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

// BenchmarkCommit writes batches of 100 revision keys with 256-byte values, to a real directory, flushes included.
func BenchmarkCommit(b *testing.B) {
	e, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	value := make([]byte, 256)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range value {
		value[i] = "abcdefghijklmnopqrstuvwxyz012345"[rng.IntN(32)]
	}
	batch := e.NewBatch()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		k, v := batch.SetDeferred(18, len(value))
		copy(k, fmt.Appendf(k[:0], "k%016d_", n))
		copy(v, value)
		if n++; n%100 == 0 {
			if err := e.Commit(batch, mark(n)); err != nil {
				b.Fatal(err)
			}
			batch.Reset()
		}
	}
}

// TestCheckpointOnAFailingDisk fails each sync of a checkpoint's directory. Pebble panics at one of them; that is a failure of the
// engine like any other.
func TestCheckpointOnAFailingDisk(t *testing.T) {
	broken, failures := errors.New("the disk does not answer"), 0
	for n := 1; ; n++ {
		syncs := 0
		e, err := Open("store", Options{FS: errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpFileSync && op.Path == "copy" {
				if syncs++; syncs == n {
					return broken
				}
			}
			return nil
		}))})
		if err != nil {
			t.Fatal(err)
		}
		err = e.Checkpoint("copy")
		if failure := e.Err(); failure != nil {
			failures++
			if !errors.Is(failure, broken) {
				t.Errorf("sync %d: the engine's failure is %v", n, failure)
			}
		}
		_ = e.CloseDirty()
		if syncs < n {
			if err != nil || failures == 0 {
				t.Errorf("%d syncs, %d failures of the engine; without a failing sync: %v", syncs, failures, err)
			}
			return
		}
		if !errors.Is(err, broken) {
			t.Errorf("sync %d: the checkpoint on a broken disk: %v", n, err)
		}
	}
}
