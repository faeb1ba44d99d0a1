package restore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/etcddb"
	"quorate.dev/quorate/lease"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/mvcc"
	. "quorate.dev/quorate/restore"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wal"
	"quorate.dev/quorate/wire"
)

// saved is a snapshot file and what it holds.
type saved struct {
	path   string
	hash   mvcc.Hash
	leases int
}

// save makes a snapshot file of keys revisions or a few more, of values of some size, compacted at a revision unless it is 0.
func save(t testing.TB, keys, size int, compact ids.Revision) saved {
	t.Helper()
	e, err := storage.Open("store", storage.Options{FS: vfs.NewMem()})
	require.NoError(t, err)
	s, err := mvcc.Open(e)
	require.NoError(t, err)
	leases, err := lease.Open(e)
	require.NoError(t, err)
	b := e.NewBatch()
	leases.Grant(b, 77, 600)
	for i := range keys {
		tx := s.Begin(b)
		key := fmt.Appendf(nil, "k%04d", i%(keys/2+1))
		if i%7 == 3 {
			tx.DeleteRange(key, nil)
		} else {
			tx.Put(&wire.PutRequest{Key: key, Value: bytes.Repeat([]byte{byte(i)}, size), Lease: int64(77 * (i % 2))})
		}
		tx.Put(&wire.PutRequest{Key: []byte("counter"), Value: fmt.Append(nil, i)})
		tx.End()
	}
	if compact > 0 {
		require.NoError(t, s.Compact(b, compact))
		for s.Scrub(b, 100) {
		}
	}
	b.Set([]byte("M8e9e05c52164694d"), []byte(`{"id":10276657743932975437,"peerURLs":["http://old:2380"],"name":"old"}`))
	b.Set([]byte("R12"), []byte("removed"))
	b.Set([]byte("mstorageVersion"), []byte("3.7.0"))
	b.Set([]byte("cclusterVersion"), []byte("3.7.0"))
	require.NoError(t, e.Commit(b, storage.Mark{Index: 900, Term: 5}))
	f := e.Freeze()
	out := saved{path: filepath.Join(t.TempDir(), "saved.db"), leases: leases.Len()}
	out.hash, err = mvcc.HashKV(f, 0)
	require.NoError(t, err)
	require.NoError(t, etcddb.Export(f, out.path))
	require.NoError(t, errors.Join(f.Close(), e.Close()))
	seal(t, out.path)
	return out
}

// seal appends the checksum.
func seal(t testing.TB, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	sum := sha256.Sum256(data)
	require.NoError(t, os.WriteFile(path, append(data, sum[:]...), 0o600))
}

// members are n members of a new cluster.
func members(n int) (out []member.Member) {
	for i := range n {
		urls := []string{fmt.Sprintf("http://10.0.0.%d:2380", i+1)}
		out = append(out, member.Member{ID: member.IDOf(urls, "token"), Name: fmt.Sprintf("m%d", i), PeerURLs: urls})
	}
	return out
}

// run restores.
func run(ctx context.Context, o Options) (*Result, error) {
	if o.Members == nil {
		o.Members = members(3)
		o.Self = o.Members[1].ID
	}
	r, err := New(o)
	if err != nil {
		return nil, err
	}
	f, err := etcddb.Open(o.File)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return r.Run(ctx, f)
}

// opened is a data directory as a server opens it.
type opened struct {
	engine *storage.Engine
	state  *state.Machine
	replay *wal.Replay
}

func open(t testing.TB, files vfs.FS, dir, log string) opened {
	t.Helper()
	e, err := storage.Open(files.PathJoin(dir, "store"), storage.Options{FS: files})
	require.NoError(t, err)
	if log == "" {
		log = files.PathJoin(dir, "wal")
	}
	l, replay, err := wal.Open(log, wal.Options{FS: files}, e.Applied().Index)
	require.NoError(t, err)
	require.NoError(t, l.Close())
	m, err := state.Open(e, state.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = e.CloseDirty() })
	return opened{e, m, replay}
}

// TestRestore checks that a restored directory holds what the file held and begins a new cluster, and that it is complete
// after a loss of power at the moment at which Run returns.
func TestRestore(t *testing.T) {
	for _, c := range []struct {
		keys, size int
		compact    ids.Revision
		log        string
		exists     bool
	}{{10, 5, 0, "", false}, {3000, 300, 1500, "", true}, {40, 300_000, 20, "logs/here", false}, {200, 10, 201, "log", true}} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			file := save(t, c.keys, c.size, c.compact)
			mem := vfs.NewCrashableMem()
			if c.exists {
				require.NoError(t, mem.MkdirAll("a/data", 0o700))
				for _, dir := range []string{"", "a"} { // the operator's directories are durable
					d, err := mem.OpenDir(dir)
					require.NoError(t, err)
					require.NoError(t, errors.Join(d.Sync(), d.Close()))
				}
			}
			all := members(3)
			result, err := run(t.Context(), Options{File: file.path, DataDir: "a/data", LogDir: c.log, FS: mem, Members: all, Self: all[2].ID})
			require.NoError(t, err)
			require.Equal(t, file.hash.Revision, result.Revision)

			got := open(t, mem.CrashClone(vfs.CrashCloneCfg{}), "a/data", c.log)
			hash, err := mvcc.HashKV(got.engine, 0)
			require.NoError(t, err)
			require.Equal(t, file.hash, hash)
			view := got.state.View()
			require.Equal(t, file.leases, view.Leases.Len())
			require.Equal(t, "3.7.0", view.Members.Version())
			require.Len(t, view.Members.Members(), 3)
			require.False(t, view.Members.Removed(0x12), "the removed members of the old cluster are of no concern to the new one")
			require.Len(t, view.Members.ConfState().GetVoters(), 3)
			require.Equal(t, storage.Mark{Index: 4, Term: 1}, got.engine.Applied(), "one entry above those that found a cluster")
			require.Equal(t, wal.Metadata{Member: all[2].ID, Cluster: result.Cluster}, got.replay.Metadata)
			require.Equal(t, uint64(4), got.replay.HardState.GetCommit())
			require.Empty(t, got.replay.Entries)
			names, err := mem.List("a")
			require.NoError(t, err)
			require.NotContains(t, strings.Join(names, " "), "restoring")
		})
	}
}

// TestBump checks what --bump-revision does: the newest revision is far ahead, everything before is compacted, the keys stay.
// 2271806183 and so on are not at stake here; that HashKV equals etcd's is for the tests beside a real one.
func TestBump(t *testing.T) {
	file := save(t, 50, 10, 0)
	mem := vfs.NewMem()
	result, err := run(t.Context(), Options{File: file.path, DataDir: "data", FS: mem, Bump: 1000})
	require.NoError(t, err)
	require.Equal(t, file.hash.Revision+1000, result.Revision)
	got := open(t, mem, "data", "")
	view := got.state.View()
	require.Equal(t, result.Revision, view.Revision())
	require.Equal(t, result.Revision, view.Compacted())
	require.Equal(t, "49", string(wire.ValueOf(rangeOf(t, view, "counter"))))
	for more := true; more; {
		more, err = got.state.Background(100)
		require.NoError(t, err)
	}
	hash, err := mvcc.HashKV(got.engine, 0)
	require.NoError(t, err)

	// Once more: from a snapshot of the result, whose records hold the mark of the first time.
	again := filepath.Join(t.TempDir(), "again.db")
	f := got.engine.Freeze()
	require.NoError(t, etcddb.Export(f, again))
	require.NoError(t, f.Close())
	_, err = run(t.Context(), Options{File: again, DataDir: "second", FS: mem, SkipChecksum: true})
	require.NoError(t, err)
	second := open(t, mem, "second", "")
	require.Equal(t, result.Revision, second.state.View().Revision())
	rehash, err := mvcc.HashKV(second.engine, 0)
	require.NoError(t, err)
	require.Equal(t, hash, rehash)
	_, err = run(t.Context(), Options{File: again, DataDir: "third", FS: mem, SkipChecksum: true, Bump: 7})
	require.NoError(t, err)
	require.Equal(t, result.Revision+7, open(t, mem, "third", "").state.View().Revision())
}

func rangeOf(t *testing.T, view *state.View, key string) []byte {
	t.Helper()
	resp, err := view.Range(&wire.RangeRequest{Key: []byte(key)})
	require.NoError(t, err)
	require.Len(t, resp.KVs, 1)
	return resp.KVs[0]
}

// TestRefused checks that what cannot be restored is refused with the reason, and that nothing is there afterwards.
func TestRefused(t *testing.T) {
	file := save(t, 500, 100, 100)
	whole, err := os.ReadFile(file.path)
	require.NoError(t, err)
	change := func(at int, with byte) []byte {
		b := bytes.Clone(whole)
		b[at] ^= with
		return b
	}
	for name, c := range map[string]struct {
		data []byte
		skip bool
		says string
	}{
		"no checksum":        {whole[:len(whole)-32], false, "snapshot missing hash but --skip-hash-check=false"},
		"a byte of a value":  {change(len(whole)/2, 1), false, "expected sha256 ["},
		"the checksum":       {change(len(whole)-1, 1), false, "expected sha256 ["},
		"a page":             {change(3*4096, 0xff), true, "is damaged at offset 12288: page 3 says that it is page"},
		"cut":                {whole[:8*4096+32], false, "is damaged at offset 32768: it has 8 pages and"},
		"cut, unchecked":     {whole[:8*4096], true, "it was truncated"},
		"cut, one page left": {whole[:4096], true, "it was truncated"},
		"empty":              {nil, true, "is damaged at offset 0"},
		"something else":     {bytes.Repeat([]byte("hello"), 5000), true, "it has no valid meta page"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.db")
			require.NoError(t, os.WriteFile(path, c.data, 0o600))
			mem := vfs.NewMem()
			_, err := run(t.Context(), Options{File: path, DataDir: "data", LogDir: "log", FS: mem, SkipChecksum: c.skip})
			require.ErrorContains(t, err, c.says)
			nothing(t, mem)
		})
	}
}

// nothing checks that a file system is as empty as before.
func nothing(t *testing.T, files vfs.FS) {
	t.Helper()
	names, err := files.List("")
	require.NoError(t, err)
	require.Empty(t, names)
}

// TestOccupied checks that nothing is ever written over.
func TestOccupied(t *testing.T) {
	file := save(t, 10, 10, 0)
	mem := vfs.NewMem()
	require.NoError(t, mem.MkdirAll("full/x", 0o700))
	require.NoError(t, mem.MkdirAll("free", 0o700))
	_, err := run(t.Context(), Options{File: file.path, DataDir: "full", FS: mem})
	require.EqualError(t, err, `data-dir "full" not empty or could not be read`)
	_, err = run(t.Context(), Options{File: file.path, DataDir: "data", LogDir: "free", FS: mem})
	require.EqualError(t, err, `wal-dir "free" exists`)
	require.ErrorIs(t, err, ErrOccupied)
}

// TestStopped checks that a restore that is told to stop, at any stage, leaves nothing.
func TestStopped(t *testing.T) {
	file := save(t, 3000, 2000, 0)
	for stage := Checking; stage <= Verifying; stage++ {
		t.Run(stage.String(), func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			enough := errors.New("enough")
			mem := vfs.NewMem()
			_, err := run(ctx, Options{File: file.path, DataDir: "data", LogDir: "log", FS: mem, Progress: func(p Progress) {
				if p.Stage == stage {
					cancel(enough)
				}
			}})
			require.ErrorIs(t, err, enough)
			nothing(t, mem)
		})
	}
}

// TestAfterKill checks that what a killed restore has left does not stop the next one, is not taken for a data directory, and
// goes away.
func TestAfterKill(t *testing.T) {
	file := save(t, 100, 10, 0)
	for _, build := range []string{"data.restoring", "data/.restoring"} {
		mem := vfs.NewMem()
		require.NoError(t, mem.MkdirAll(build+"/store", 0o700))
		f, err := mem.Create(build+"/store/junk", vfs.WriteCategoryUnspecified)
		require.NoError(t, errors.Join(err, f.Close()))
		require.NoError(t, mem.MkdirAll("log.restoring", 0o700))
		_, err = run(t.Context(), Options{File: file.path, DataDir: "data", LogDir: "log", FS: mem})
		require.NoError(t, err)
		open(t, mem, "data", "log")
		names, err := mem.List("")
		require.NoError(t, err)
		require.ElementsMatch(t, []string{"data", "log"}, names)
	}
}

// TestDiskFull checks that a disk that takes no more, at any write, leaves nothing that looks like a data directory.
func TestDiskFull(t *testing.T) {
	file := save(t, 300, 100, 0)
	failed, whole := 0, false
	for n := int64(1); !whole; n += 1 + n/20 {
		mem := vfs.NewMem()
		files := &failing{FS: mem, left: n}
		_, err := run(t.Context(), Options{File: file.path, DataDir: "data", FS: files})
		if whole = err == nil; whole {
			break
		}
		failed++
		_, err = mem.Stat("data")
		require.ErrorIs(t, err, os.ErrNotExist, "write %d", n)
	}
	require.Greater(t, failed, 20)
}

// FuzzRestore restores a file in which some bytes were changed and the end is missing. Whatever is left: no panic, an error that
// names the file, and nothing left behind; or a directory that a server opens.
func FuzzRestore(f *testing.F) {
	data := mutable(f)
	f.Add(uint32(0), []byte{}, uint32(0))
	f.Add(uint32(16), []byte{0xed}, uint32(0))
	f.Add(uint32(3*4096), []byte{0, 0, 0, 0, 0, 0, 0, 9}, uint32(0))
	f.Add(uint32(4*4096+8), []byte{2, 0, 3, 0, 1}, uint32(1<<20))
	f.Add(uint32(0), []byte{}, uint32(4096))
	path := filepath.Join(f.TempDir(), "mutated.db")
	f.Fuzz(func(t *testing.T, at uint32, with []byte, cut uint32) {
		require.NoError(t, os.WriteFile(path, mutate(data, at, with, cut), 0o600))
		mem := vfs.NewMem()
		if _, err := run(t.Context(), Options{File: path, DataDir: "data", FS: mem, SkipChecksum: true}); err != nil {
			require.ErrorContains(t, err, path)
			nothing(t, mem)
			return
		}
		e, err := storage.Open("data/store", storage.Options{FS: mem})
		require.NoError(t, err)
		_, err = state.Open(e, state.Config{})
		require.NoError(t, err)
		require.NoError(t, e.Close())
	})
}

// mutable is a small file without the empty pages at its end.
func mutable(t testing.TB) []byte {
	file := save(t, 60, 40, 20)
	data, err := os.ReadFile(file.path)
	require.NoError(t, err)
	used, err := etcddb.Open(file.path)
	require.NoError(t, err)
	defer used.Close()
	return data[:used.PagesSize()]
}

// mutate puts bytes at an offset and cuts the end off.
func mutate(data []byte, at uint32, with []byte, cut uint32) []byte {
	b := bytes.Clone(data)
	copy(b[int(at)%len(b):], with)
	return b[:len(b)-int(cut)%len(b)]
}
