package storage_test

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	. "quorate.dev/quorate/storage"
)

// recorder writes down what changes the files.
type recorder struct {
	vfs.FS
	mu  sync.Mutex
	log []string
}

func (r *recorder) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, fmt.Sprintf(format, args...))
}

func (r *recorder) file(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &recordedFile{File: f, r: r, name: name}, nil
}

func (r *recorder) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	r.note("create %s", name)
	f, err := r.FS.Create(name, c)
	return r.file(name, f, err)
}

func (r *recorder) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	r.note("open %s", name)
	f, err := r.FS.OpenReadWrite(name, c, o...)
	return r.file(name, f, err)
}

func (r *recorder) OpenDir(name string) (vfs.File, error) {
	f, err := r.FS.OpenDir(name)
	return r.file(name, f, err)
}

func (r *recorder) Link(from, to string) error {
	r.note("link %s %s", from, to)
	return r.FS.Link(from, to)
}

func (r *recorder) Rename(from, to string) error {
	r.note("rename %s %s", from, to)
	return r.FS.Rename(from, to)
}

func (r *recorder) Remove(name string) error {
	r.note("remove %s", name)
	return r.FS.Remove(name)
}

func (r *recorder) MkdirAll(name string, perm os.FileMode) error {
	r.note("mkdir %s", name)
	return r.FS.MkdirAll(name, perm)
}

func (r *recorder) Lock(name string) (io.Closer, error) {
	r.note("lock %s", name)
	return r.FS.Lock(name)
}

func (r *recorder) List(name string) ([]string, error) {
	names, err := r.FS.List(name) // a file system in memory lists in any order
	slices.Sort(names)
	return names, err
}

type recordedFile struct {
	vfs.File
	r    *recorder
	name string
}

func (f *recordedFile) Write(p []byte) (int, error) {
	sum := crc32.ChecksumIEEE(p)
	if strings.Contains(f.name, "MANIFEST") {
		sum = 0 // see Options.Pinned
	}
	f.r.note("write %s %d %08x", f.name, len(p), sum)
	return f.File.Write(p)
}

func (f *recordedFile) Sync() error {
	f.r.note("sync %s", f.name)
	return f.File.Sync()
}

func (f *recordedFile) SyncData() error {
	f.r.note("sync %s", f.name)
	return f.File.SyncData()
}

func openPinned(t testing.TB, fs vfs.FS) *Engine {
	t.Helper()
	e, err := Open("store", Options{FS: fs, Pinned: true, MemTableBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// pinnedScript makes an engine do everything it can do, and returns what it then holds. After each step it tells done.
func pinnedScript(t *testing.T, fs vfs.FS, done func(step string)) map[string]string {
	t.Helper()
	e := openPinned(t, fs)
	done("open")
	index := 0
	write := func(n, size int) {
		for range n {
			index++
			commit(t, e, mark(index), fmt.Sprintf("k%06d", index), strings.Repeat(fmt.Sprint(index%7, "-"), size/2), fmt.Sprintf("m%d", index%50), fmt.Sprint(index))
		}
		done("write")
	}
	check := func(step string, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(step, err)
		}
		done(step)
	}
	for round := range 3 {
		write(200, 300)
		check("flush", e.Flush())
		frozen := e.Freeze()
		write(300, 5000) // above the bound: a Commit flushes
		b := e.NewBatch()
		b.DeleteRange([]byte("k000010"), fmt.Appendf(nil, "k%06d", 40+100*round))
		check("delete", e.Commit(b, mark(index)))
		it, err := e.Iter(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		it.First()
		check("settle", e.Settle()) // what the iterator sees stays
		check("iter", it.Close())
		check("frozen", frozen.Close())
		check("settle", e.Settle())
		flushed, err := e.AsyncFlush()
		check("async", err)
		select {
		case <-flushed:
		default:
			t.Fatal("AsyncFlush of a pinned engine returned before it was complete")
		}
		if round == 1 {
			check("checkpoint", e.Checkpoint("copy"))
		}
		write(20, 100)
		if round == 0 {
			check("dirty", e.CloseDirty())
			e = openPinned(t, fs)
			index = int(e.Applied().Index)
		} else {
			check("close", e.Close())
			e = openPinned(t, fs)
		}
		done("open")
	}
	got := dump(t, e)
	check("close", e.Close())
	return got
}

// TestPinnedRepeats wants the same file operations with the same bytes from two runs of everything that a pinned engine can
// do, and none outside of a call.
func TestPinnedRepeats(t *testing.T) {
	run := func() (*recorder, map[string]string, []int) {
		r := &recorder{FS: vfs.NewMem()}
		var ends []int
		got := pinnedScript(t, r, func(step string) {
			r.note("== %s", step)
			ends = append(ends, len(r.log))
		})
		return r, got, ends
	}
	a, contentA, endsA := run()
	b, contentB, endsB := run()
	for i := range min(len(a.log), len(b.log)) {
		if a.log[i] != b.log[i] {
			t.Fatalf("operation %d was %q, then %q; before it: %q", i, a.log[i], b.log[i], a.log[max(0, i-5):i])
		}
	}
	if len(a.log) != len(b.log) || !slices.Equal(endsA, endsB) || len(contentA) == 0 || fmt.Sprint(contentA) != fmt.Sprint(contentB) {
		t.Fatalf("%d and %d operations, %d and %d keys", len(a.log), len(b.log), len(contentA), len(contentB))
	}
	text := strings.Join(a.log, "\n")
	for _, want := range []string{"remove store/00", "link store/", "== dirty", "remove store/MANIFEST"} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing in the run is %q", want)
		}
	}
	t.Logf("%d operations", len(a.log))
}

// TestPinnedDoesNothingByItself commits what makes another engine flush, compact and collect statistics.
func TestPinnedDoesNothingByItself(t *testing.T) {
	r := &recorder{FS: vfs.NewMem()}
	e := openPinned(t, r)
	for i := range 40 {
		commit(t, e, mark(i+1), fmt.Sprint("k", i%3), strings.Repeat("x", 1000))
		if i%2 == 0 {
			if err := e.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 1000 {
		if _, _, err := e.Get([]byte("k1")); err != nil {
			t.Fatal(err)
		}
		dump(t, e)
	}
	if s := e.Stats(); s.Flushes != 20 || s.Compactions != 0 {
		t.Errorf("20 flushes were asked for: %+v", s)
	}
	before := len(r.log)
	for i := range 100 { // below the bound
		commit(t, e, mark(i+41), fmt.Sprint("k", i), strings.Repeat("x", 5000))
	}
	if len(r.log) != before {
		t.Errorf("commits below the bound of a memtable caused %q", r.log[before:])
	}
	if err := e.Settle(); err != nil {
		t.Fatal(err)
	}
	if s := e.Stats(); s.Compactions == 0 || s.UnflushedBytes != 0 {
		t.Errorf("after Settle: %+v", s)
	}
	names, err := r.List("store")
	if err != nil {
		t.Fatal(err)
	}
	tables := slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, ".sst") })
	if len(tables) > 3 { // one for each span of keys
		t.Errorf("after Settle there are tables %v", tables)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestPinnedKeys walks over keys on the goroutine of the caller, and wants impossible options refused.
func TestPinnedKeys(t *testing.T) {
	if _, err := Open("store", Options{FS: vfs.NewMem(), Pinned: true, MemTableBytes: 1 << 30}); err == nil {
		t.Error("a pinned engine with memtables of 1 GiB opened")
	}
	e := openPinned(t, vfs.NewMem())
	commit(t, e, mark(1), "k1", "a", "k2", "b", "m1", "c")
	keys, err := e.Keys([]byte("k"), []byte("l"))
	if err != nil {
		t.Fatal(err)
	}
	if !keys.Next() || string(keys.Key()) != "k1" || !keys.Next() || string(keys.Key()) != "k2" || keys.Next() || keys.Next() {
		t.Error("the keys of a pinned engine are others than k1 and k2")
	}
	if err := errors.Join(keys.Close(), e.Close()); err != nil {
		t.Fatal(err)
	}
}
