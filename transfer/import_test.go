package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sys/unix"

	"quorate.dev/quorate/internal/etcddb"
	"quorate.dev/quorate/internal/etcdwal"
	. "quorate.dev/quorate/transfer"
)

// TestImport takes real directories over; the result survives the loss of power at the moment at which Import returns.
func TestImport(t *testing.T) {
	for _, release := range releases {
		t.Run(release, func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			r, err := importDir(t, unpack(t, release), Options{DataDir: "data", LogDir: "", FS: mem})
			require.NoError(t, err)
			t.Logf("%+v", r)
			require.Equal(t, "m1", r.Name)
			require.Equal(t, []int{3, 3, 3, 2}, []int{r.Members, r.Users, r.Roles, r.Leases})
			require.NotZero(t, r.Log.Entries)
			require.GreaterOrEqual(t, len(r.Hashes), 4)
			open(t, mem.CrashClone(vfs.CrashCloneCfg{}), "data").holds(t, answers(t, release))
		})
	}
}

// watched is a file system that tells of every operation that changes something.
type watched struct {
	vfs.FS
	before func(string)
}

func (w watched) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	w.before("create " + name)
	return w.FS.Create(name, c)
}

func (w watched) Rename(from, to string) error {
	w.before("rename " + from)
	return w.FS.Rename(from, to)
}

func (w watched) MkdirAll(dir string, perm os.FileMode) error {
	w.before("mkdir " + dir)
	return w.FS.MkdirAll(dir, perm)
}

func (w watched) RemoveAll(name string) error {
	w.before("remove " + name)
	return w.FS.RemoveAll(name)
}

func (w watched) OpenDir(name string) (vfs.File, error) {
	w.before("sync " + name)
	return w.FS.OpenDir(name)
}

// TestKilled ends an import before each of its operations, by a loss of power and by a kill: under the final name there is all or
// nothing, and a second run makes it whole.
func TestKilled(t *testing.T) {
	dir := unpack(t, "etcd34")
	for _, logDir := range []string{"", "logs"} {
		mem := vfs.NewCrashableMem()
		var moments []string
		var left []*vfs.MemFS
		var mu sync.Mutex // the engine works in the background, too
		files := watched{mem, func(what string) {
			mu.Lock()
			defer mu.Unlock()
			moments = append(moments, what)
			left = append(left, mem.CrashClone(vfs.CrashCloneCfg{}), mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))}))
		}}
		_, err := importDir(t, dir, Options{DataDir: "data", LogDir: logDir, FS: files})
		require.NoError(t, err)
		require.Greater(t, len(moments), 20)
		whole := 0
		for i, fs := range left {
			if names, err := fs.List("data"); err == nil && slices.Contains(names, "store") {
				whole++ // it was complete before the last operation
				if logDir == "" {
					open(t, fs, "data").holds(t, answers(t, "etcd34"))
				}
				continue
			}
			if i%4 > 1 && i < len(left)-12 {
				continue // each takes a while
			}
			o := Options{DataDir: "data", LogDir: logDir, FS: fs}
			if _, err := fs.Stat("logs"); err == nil {
				require.NoError(t, fs.RemoveAll("logs")) // what the message about it says to do
			}
			_, err := importDir(t, dir, o)
			require.NoError(t, err, "after %s", moments[i/2])
			if logDir == "" {
				open(t, fs, "data").holds(t, answers(t, "etcd34"))
			}
		}
		t.Logf("%d moments, whole after %d", len(left), whole)
	}
}

// TestStopped ends an import at every stage: nothing is left.
func TestStopped(t *testing.T) {
	dir := unpack(t, "etcd37")
	for _, stage := range []string{"writing", "verifying", "hashing", "comparing", "finishing"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		enough := errors.New("enough")
		s, err := OpenDir(ctx, dir, "")
		require.NoError(t, err)
		mem, seen := vfs.NewMem(), false
		_, err = Import(ctx, s, Options{DataDir: "data", FS: mem, Progress: func(at string, _, _ int64) {
			if strings.HasPrefix(at, stage) {
				seen = true
				cancel(enough)
			}
		}})
		require.NoError(t, s.Close())
		if !seen {
			require.Equal(t, "hashing", stage, "a small file is hashed in one piece")
			continue
		}
		require.ErrorIs(t, err, enough, stage)
		nothing(t, mem)
	}
}

func nothing(t testing.TB, files vfs.FS) {
	t.Helper()
	names, err := files.List("")
	require.NoError(t, err)
	require.Empty(t, names)
}

// change rewrites a file.
func change(t *testing.T, path string, f func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, f(b), 0o600))
}

func one(t *testing.T, pattern string) string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	require.NoError(t, err)
	require.NotEmpty(t, names, pattern)
	return names[len(names)-1]
}

// TestRefused checks that what cannot be taken over is refused with the reason and the place, and that nothing is made.
func TestRefused(t *testing.T) {
	wal := func(dir string) string { return one(t, filepath.Join(dir, "member", "wal", "*.wal")) }
	db := func(dir string) string { return filepath.Join(dir, "member", "snap", "db") }
	for _, c := range []struct {
		name, release string
		harm          func(dir string)
		says          []string
	}{
		{"a cut log", "etcd37", func(d string) { require.NoError(t, os.Truncate(wal(d), 10_001)) }, []string{".wal is damaged at offset", "it was truncated"}},
		{"a changed log", "etcd37", func(d string) { change(t, wal(d), func(b []byte) []byte { b[9000] ^= 1; return b }) }, []string{".wal is damaged at offset", "checksum"}},
		{"no log", "etcd37", func(d string) { require.NoError(t, os.RemoveAll(filepath.Join(d, "member", "wal"))) }, []string{"there is no log of etcd in"}},
		{"no db", "etcd37", func(d string) { require.NoError(t, os.Remove(db(d))) }, []string{"quorate migrate"}},
		{"a cut db", "etcd37", func(d string) { require.NoError(t, os.Truncate(db(d), 20_000)) }, []string{"is damaged at offset", "it was truncated"}},
		{"a db of another kind", "etcd37", func(d string) { change(t, db(d), func([]byte) []byte { return make([]byte, 9999) }) }, []string{"no valid meta page"}},
		{"a changed snapshot", "etcd34", func(d string) {
			change(t, one(t, filepath.Join(d, "member", "snap", "*.snap")), func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		}, []string{".snap is damaged", "checksum"}},
		{"a newer etcd", "etcd37", func(d string) { require.NoError(t, etcddb.SetVersion(db(d), "3.8.0")) }, []string{"3.8.0", "up to 3.7"}},
		{"a log of another member", "etcd37", func(d string) { sign(t, filepath.Join(d, "member", "wal"), 0x77) }, []string{"is of member 77, which", "do not belong together"}},
		{"a log that is too short", "etcd37", func(d string) {
			dir := filepath.Join(d, "member", "wal")
			require.NoError(t, os.RemoveAll(dir))
			require.NoError(t, os.Mkdir(dir, 0o700))
			w, err := etcdwal.Create(dir, 0x77, 0x78)
			require.NoError(t, err)
			require.NoError(t, w.Close())
		}, []string{"the log ends with entry 0", "do not belong together"}},
		{"a log that is read", "etcd37", func(d string) { hold(t, wal(d)) }, []string{"locked by a running process"}},
		{"a db that is written", "etcd37", func(d string) {
			f, err := os.OpenFile(db(d), os.O_RDWR, 0)
			require.NoError(t, err)
			require.NoError(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
			t.Cleanup(func() { f.Close() })
		}, []string{"is open in another process"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := unpack(t, c.release)
			c.harm(dir)
			mem := vfs.NewMem()
			_, err := importDir(t, dir, Options{DataDir: "data", FS: mem})
			for _, says := range c.says {
				require.ErrorContains(t, err, says)
			}
			nothing(t, mem)
		})
	}
}

// sign writes the log in a directory anew, as that of another member.
func sign(t *testing.T, dir string, member uint64) {
	log, err := etcdwal.Open(dir)
	require.NoError(t, err)
	var entries []*raftpb.Entry
	require.NoError(t, log.Entries(t.Context(), 0, func(e *raftpb.Entry) error {
		entries = append(entries, e)
		return nil
	}))
	survey, err := log.Survey(t.Context())
	require.NoError(t, err)
	require.NoError(t, log.Close())
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.Mkdir(dir, 0o700))
	w, err := etcdwal.Create(dir, member, survey.Cluster)
	require.NoError(t, err)
	require.NoError(t, w.Entries(entries))
	w.State(survey.State)
	require.NoError(t, w.Close())
}

// hold locks a file as a running etcd does.
func hold(t *testing.T, path string) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	t.Cleanup(func() { f.Close() })
}

func TestOccupied(t *testing.T) {
	mem := vfs.NewMem()
	require.NoError(t, mem.MkdirAll("data/x", 0o700))
	_, err := importDir(t, unpack(t, "etcd37"), Options{DataDir: "data", FS: mem})
	require.EqualError(t, err, `data-dir "data" not empty or could not be read`)
}

// TestExport brings what was taken over back, on a disk, and takes it over again.
func TestExport(t *testing.T) {
	for _, release := range releases {
		t.Run(release, func(t *testing.T) {
			dir := t.TempDir()
			ours, back := filepath.Join(dir, "ours"), filepath.Join(dir, "back")
			first, err := importDir(t, unpack(t, release), Options{DataDir: ours})
			require.NoError(t, err)
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "back.exporting", "member", "junk"), 0o700)) // a killed export
			x, err := ExportStore(t.Context(), ours, ExportOptions{To: back, Release: "3.6"})
			require.NoError(t, err)
			require.Equal(t, "3.6.0", x.Release)
			require.Equal(t, first.Hashes, x.Hashes)
			require.Equal(t, first.Log, x.Log)
			mem := vfs.NewMem()
			second, err := importDir(t, back, Options{DataDir: "again", FS: mem})
			require.NoError(t, err)
			require.Equal(t, first.Hashes, second.Hashes)
			require.Equal(t, first.Log, second.Log)
			open(t, mem, "again").holds(t, answers(t, release))

			_, err = ExportStore(t.Context(), ours, ExportOptions{To: back})
			require.ErrorContains(t, err, "is not empty")
			_, err = ExportStore(t.Context(), ours, ExportOptions{To: back + "2", Release: "3.5"})
			require.ErrorContains(t, err, `not for "3.5"`)
			ctx, cancel := context.WithCancel(t.Context())
			_, err = ExportStore(ctx, ours, ExportOptions{To: back + "3", Progress: func(string, int64, int64) { cancel() }})
			require.ErrorIs(t, err, context.Canceled)
			names, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, names, 2, fmt.Sprint(names))
		})
	}
}
