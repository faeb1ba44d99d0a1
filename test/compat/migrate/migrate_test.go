package migrate

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"quorate.dev/quorate/test/compat/etcd34"
	"quorate.dev/quorate/test/compat/proc"
)

func TestMain(m *testing.M) {
	code := m.Run()
	proc.Cleanup()
	os.Exit(code)
}

// store is a data directory to be made.
type store struct {
	seed     uint64
	members  int
	ops      int // between restarts
	restarts int
	bulk     bool
	flags    []string
}

func (s store) String() string {
	return fmt.Sprintf("seed=%d members=%d ops=%d restarts=%d bulk=%v %v", s.seed, s.members, s.ops, s.restarts, s.bulk, s.flags)
}

// make runs an etcd and returns the data directories of its members, stopped.
func (s store) make(t *testing.T) []string {
	t.Helper()
	servers, err := etcd34.StartCluster(t.TempDir(), s.members, s.flags...)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range servers {
		defer x.Kill()
	}
	m := NewMaker(s.seed, servers...)
	for round := range s.restarts + 1 {
		if round > 0 {
			if err := servers[round%len(servers)].Restart(); err != nil {
				t.Fatal(err)
			}
		}
		if s.bulk {
			if err := m.Bulk(); err != nil {
				t.Fatal(err)
			}
		}
		for range s.ops {
			if err := m.Do(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if m.Counts[200] == 0 || m.Counts[201] == 0 {
		t.Fatalf("nothing was written: %v", m.Counts)
	}
	dirs := stopped(t, servers)
	if s.bulk {
		if files, _ := filepath.Glob(filepath.Join(dirs[0], "member", "wal", "*.wal")); len(files) < 2 {
			t.Fatalf("the log has one segment only: %v", files)
		}
	}
	m.Settled()
	return dirs
}

func stopped(t *testing.T, servers []*etcd34.Server) (dirs []string) {
	t.Helper()
	for _, x := range servers {
		if err := x.Stop(); err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, x.DataDir())
	}
	return dirs
}

// copyOf copies a directory, with the holes of its files.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if out, err := exec.Command("cp", "-a", "--sparse=always", dir, to).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return to
}

// quorate runs our program.
func quorate(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	bin, err := proc.Binary(proc.Quorate)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must runs our program, which has to succeed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, errs, code := quorate(t, args...)
	if code != 0 {
		t.Fatalf("quorate %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// dump is what the bucket "key" of a db file holds, and consistent_index.
func dump(t *testing.T, path string) (records []string, applied uint64) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error {
		if v := tx.Bucket([]byte("meta")).Get([]byte("consistent_index")); len(v) == 8 {
			applied = binary.BigEndian.Uint64(v)
		}
		return tx.Bucket([]byte("key")).ForEach(func(k, v []byte) error {
			records = append(records, fmt.Sprintf("%x=%q", k, v))
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return records, applied
}

func dbOf(dir string) string { return filepath.Join(dir, "member", "snap", "db") }

// same compares two dumps and shows the first difference.
func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		g, w := "nothing", "nothing"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("%s: record %d of %d and %d:\n ours   %.300s\n etcd's %.300s", what, i, len(got), len(want), g, w)
			return
		}
	}
}

var stores = []store{
	{seed: 1, members: 1, ops: 60},
	{seed: 2, members: 1, ops: 150, flags: []string{"--snapshot-count=20"}},
	{seed: 3, members: 1, ops: 80, restarts: 3, flags: []string{"--snapshot-count=20"}},
	{seed: 4, members: 1, ops: 300, restarts: 1},
	{seed: 5, members: 1, ops: 100, restarts: 1, bulk: true, flags: []string{"--snapshot-count=100"}},
	{seed: 6, members: 3, ops: 120},
	{seed: 7, members: 3, ops: 100, restarts: 2, flags: []string{"--snapshot-count=20", "--max-snapshots=2", "--max-wals=2"}},
	{seed: 8, members: 1, ops: 500, flags: []string{"--snapshot-count=100"}},
	{seed: 9, members: 1, ops: 40, restarts: 5},
	{seed: 10, members: 1, ops: 200, bulk: true},
	{seed: 11, members: 1, ops: 400, restarts: 2, flags: []string{"--snapshot-count=7"}},
}

// TestDefaultTransform compares what both programs make of the same directories, in place and elsewhere.
func TestDefaultTransform(t *testing.T) {
	for _, s := range stores {
		t.Run(fmt.Sprint(s.seed), func(t *testing.T) {
			t.Log(s)
			keys := 0
			for _, dir := range s.make(t) {
				keys += compare(t, dir)
			}
			if keys == 0 {
				t.Error("the directories hold no keys: they show nothing")
			}
		})
	}
}

// compare migrates copies of a directory and returns how many keys there were.
func compare(t *testing.T, dir string) int {
	before := listing(t, dir)
	snap := filepath.Join(t.TempDir(), "v2.db")
	var report struct {
		Read     struct{ Keys, Directories, HiddenKeys, TTLKeys int }
		Written  struct{ Keys int }
		Verified int
	}
	out, errs, code := quorate(t, "migrate", "--data-dir", dir, "--to-snapshot", snap, "-w", "json")
	if err := json.Unmarshal([]byte(out), &report); code != 0 || err != nil {
		t.Fatalf("%d %v\n%s%s", code, err, out, errs)
	}
	if after := listing(t, dir); after != before {
		t.Errorf("the source has changed:\n%s\n%s", before, after)
	}
	var keys int
	for _, flags := range [][]string{{}, {"--no-ttl"}} {
		theirs, ours := copyOf(t, dir), copyOf(t, dir)
		said, err := etcd34.Ctl(append([]string{"migrate", "--data-dir", theirs}, flags...)...)
		if err != nil {
			t.Fatal(err)
		}
		got := must(t, append([]string{"migrate", "--data-dir", ours, "--in-place"}, flags...)...)
		for _, line := range []string{"using default transformer", "finished transforming keys"} {
			if !strings.Contains(said, line+"\n") || !strings.Contains(got, line+"\n") {
				t.Errorf("%q is missing in:\n%s\n%s", line, said, got)
			}
		}
		want, wantIndex := dump(t, dbOf(theirs))
		have, haveIndex := dump(t, dbOf(ours))
		same(t, fmt.Sprintf("%s, in place %v", dir, flags), have, want)
		if wantIndex != haveIndex {
			t.Errorf("consistent_index is %d, and %d by etcd", haveIndex, wantIndex)
		}
		if len(flags) == 0 {
			keys = len(want)
			file, _ := dump(t, withoutSum(t, snap))
			same(t, dir+", snapshot", file, want)
		}
	}
	if report.Written.Keys != keys || report.Verified != keys || report.Read.Keys != keys {
		t.Errorf("the report says %+v, and there are %d keys", report, keys)
	}
	t.Logf("%s: %+v", filepath.Base(filepath.Dir(dir)), report.Read)
	return keys
}

// withoutSum is a copy of a snapshot without its checksum, which bbolt does not expect.
func withoutSum(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(to, b[:len(b)-32], 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

// listing is every file below a directory with size and time of its last change.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		fmt.Fprintln(&b, path, info.Mode(), info.Size(), info.ModTime().UnixNano())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
