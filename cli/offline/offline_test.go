package offline_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"quorate.dev/quorate/cli"
	"quorate.dev/quorate/cli/offline"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/restore"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/storage"
)

// fixture unpacks a snapshot that a real etcd has saved: testdata/etcd34.db by 3.4.23, testdata/etcd37.db by 3.7.3, of the same
// history, with a lease, a transaction, deletions, a compaction, users and roles.
func fixture(t testing.TB, name string) string {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".gz"))
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	data, err := io.ReadAll(z)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, data, 0o600))
	return path
}

// result is what a command line left.
type result struct {
	code     int
	out, err string
}

func runAs(ctx context.Context, main func(cli.Process) int, args ...string) result {
	var out, errs bytes.Buffer
	code := main(cli.Process{Context: ctx, Args: args, Stdout: &out, Stderr: &errs})
	return result{code, out.String(), errs.String()}
}

func etcdutl(t testing.TB, args ...string) result {
	return runAs(t.Context(), offline.Main, args...)
}

func quorate(t testing.TB, args ...string) result {
	require.True(t, offline.Own(args))
	return runAs(t.Context(), offline.Run, args...)
}

const (
	statusTable = `┌──────────┬──────────┬────────────┬────────────┬─────────┐
│   HASH   │ REVISION │ TOTAL KEYS │ TOTAL SIZE │ VERSION │
├──────────┼──────────┼────────────┼────────────┼─────────┤
│ 495f30a1 │       16 │          8 │      20 kB │   3.7.0 │
└──────────┴──────────┴────────────┴────────────┴─────────┘
`
	hashTable = `┌───────────┬───────────────┬──────────────────┐
│   HASH    │ HASH REVISION │ COMPACT REVISION │
├───────────┼───────────────┼──────────────────┤
│ 530303815 │            16 │                6 │
└───────────┴───────────────┴──────────────────┘
`
)

// TestAsEtcdutl repeats command lines for which etcdutl 3.7.3 gave these answers. None of them changes the file.
func TestAsEtcdutl(t *testing.T) {
	old, file := fixture(t, "etcd34.db"), fixture(t, "etcd37.db")
	before := sumOf(t, file)
	for _, c := range []struct {
		args string
		code int
		out  string
		err  string
	}{
		{"version", 0, "etcdutl version: 3.7.3\nAPI version: 3.7\n", ""},
		{"snapshot status OLD", 0, "bbc541da, 16, 8, 20 kB, \n", ""},
		{"snapshot status FILE", 0, "495f30a1, 16, 8, 20 kB, 3.7.0\n", ""},
		{"snap stat FILE -w json", 0, `{"hash":1230975137,"revision":16,"totalKey":8,"totalSize":20480,"version":"3.7.0"}` + "\n", ""},
		{"snapshot status FILE -w fields", 0, "\"Hash\" : 1230975137\n\"Revision\" : 16\n\"Keys\" : 8\n\"Size\" : 20480\n\"Version\" : 3.7.0\n", ""},
		{"snapshot status FILE -w table", 0, statusTable, ""},
		{"snapshot status FILE -w protobuf", 4, "", "Error: protobuf not supported as output format\n"},
		{"snapshot status FILE -w xml", 4, "", "Error: unsupported output format\n"},
		{"snapshot status NONE", 1, "", "Error: stat NONE: no such file or directory\n"},
		{"snapshot status", 128, "", "Error: snapshot status requires exactly one argument\n"},
		{"hashkv OLD", 0, "4151227093, 16, 6\n", ""},
		{"hashkv FILE", 0, "530303815, 16, 6\n", ""},
		{"hashkv FILE -w json", 0, `{"hash":530303815,"hashRevision":16,"compactRevision":6}` + "\n", ""},
		{"hashkv FILE -w table", 0, hashTable, ""},
		{"hashkv FILE --rev 5", 1, "", "Error: mvcc: required revision has been compacted\n"},
		{"hashkv FILE --rev 17", 1, "", "Error: mvcc: required revision is a future revision\n"},
		{"hashkv FILE --rev -3", 0, "1084519789, -3, 6\n", ""},
		{"defrag --data-dir NONE", 1, "", "Error: Failed to defragment etcd data[NONE] (stat NONE/member/snap/db: no such file or directory)\n"},
		{"migrate --data-dir NONE --target-version 3.6", 1, "", "Error: stat NONE/member/snap/db: no such file or directory\n"},
		{"migrate --data-dir NONE --target-version 3.4", 128, "", "Error: target version \"3.4\" not supported. Minimal \"3.5\"\n"},
		{"migrate --data-dir NONE --target-version 3", 128, "", "Error: wrong target version format, expected \"X.Y\", got \"3\"\n"},
		{"snapshot restore FILE --bump-revision 3", 128, "", "Error: --mark-compacted required if --revision-bump > 0\n"},
		{"snapshot restore FILE --data-dir NONE --name foo", 1, "", "Error: couldn't find local name \"foo\" in the initial cluster configuration\n"},
		{"snapshot restore FILE --data-dir NONE --initial-cluster default=http://localhost:2380,b=http://localhost:2380", 1, "",
			"Error: initial cluster b=http://localhost:2380,default=http://localhost:2380 has duplicate url\n"},
		{"nosuch", 1, "", "Error: unknown command \"nosuch\" for \"etcdutl\"\nRun 'etcdutl --help' for usage.\nError: unknown command \"nosuch\" for \"etcdutl\"\n"},
	} {
		put := strings.NewReplacer("FILE", file, "OLD", old, "NONE", "/nowhere/at/all")
		got := etcdutl(t, strings.Fields(put.Replace(c.args))...)
		require.Equal(t, result{c.code, c.out, put.Replace(c.err)}, got, c.args)
	}
	require.Equal(t, before, sumOf(t, file))
	require.NoDirExists(t, "/nowhere")
}

func sumOf(t *testing.T, path string) [sha256.Size]byte {
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return sha256.Sum256(data)
}

// TestHelp checks that help goes to stdout with exit code 0, and usage after a mistake to stderr with 1, as etcdutl's does.
func TestHelp(t *testing.T) {
	got := etcdutl(t, "snapshot", "restore", "--help")
	require.Equal(t, 0, got.code)
	require.Empty(t, got.err)
	require.Contains(t, got.out, "      --initial-memory-map-size uint         Initial memory map size of the database in bytes. It uses the default value if not defined or defined to 0 (default 10737418240)\n")
	got = etcdutl(t, "defrag")
	require.Equal(t, 1, got.code)
	require.Empty(t, got.out)
	require.True(t, strings.HasPrefix(got.err, "Error: required flag(s) \"data-dir\" not set\nUsage:\n  etcdutl defrag [flags]\n"), got.err)
	require.True(t, strings.HasSuffix(got.err, "\n\nError: required flag(s) \"data-dir\" not set\n"), got.err)
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		got = etcdutl(t, "completion", shell)
		require.Equal(t, 0, got.code)
		require.Contains(t, got.out, "etcdutl")
	}
}

// logLine is one line of the log without time and place.
var logLine = regexp.MustCompile(`(?m)^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(Z|[+-][0-9:]{5})\t(info)\t[a-z/]+\.go:[0-9]+\t`)

// TestRestore restores what etcd has saved, and looks at it as a server does and as the tool itself.
func TestRestore(t *testing.T) {
	file, dir := fixture(t, "etcd37.db"), filepath.Join(t.TempDir(), "data")
	got := etcdutl(t, "snapshot", "restore", file, "--data-dir", dir, "--name", "a", "--initial-cluster-token", "t1",
		"--initial-cluster", "a=http://h1:2380,b=http://h2:2380,c=http://h3:2380", "--initial-advertise-peer-urls", "http://h1:2380")
	require.Equal(t, 0, got.code, got.err)
	require.Empty(t, got.out)
	paths := fmt.Sprintf(`{"path": %q, "wal-dir": "%[2]s/wal", "data-dir": "%[2]s", "snap-dir": "%[2]s/store", "initial-memory-map-size": 10737418240}`, file, dir)
	added := func(id, url string) string {
		return fmt.Sprintf("added member\t"+`{"cluster-id": "841609f3e8293903", "local-member-id": "0", "added-peer-id": %q, "added-peer-peer-urls": [%q], "added-peer-is-learner": false}`+"\n", id, url)
	}
	require.Equal(t, "restoring snapshot\t"+paths+"\nTrimming membership information from the backend...\n"+
		added("11cab176552a1a9b", "http://h1:2380")+added("35515a9ed9876dc0", "http://h2:2380")+added("5700502bed8ab212", "http://h3:2380")+
		"restored snapshot\t"+paths+"\n", logLine.ReplaceAllString(got.err, ""))

	e, err := storage.Open(filepath.Join(dir, restore.StoreName), storage.Options{})
	require.NoError(t, err)
	m, err := state.Open(e, state.Config{})
	require.NoError(t, err)
	h, err := mvcc.HashKV(e, 0)
	require.NoError(t, err)
	require.Equal(t, mvcc.Hash{Hash: 530303815, Compacted: 6, Revision: 16}, h)
	view := m.View()
	require.Equal(t, 1, view.Leases.Len())
	require.True(t, view.Auth.Enabled())
	require.Len(t, view.Members.Members(), 3)
	require.NoError(t, e.Close())

	require.Equal(t, result{0, "530303815, 16, 6\n", ""}, etcdutl(t, "hashkv", dir))
	require.Regexp(t, `^[0-9a-f]+, 16, 8, .*B, 3\.7\.0\n$`, etcdutl(t, "snapshot", "status", dir).out)
	require.Equal(t, 0, etcdutl(t, "defrag", "--data-dir", dir).code)
	require.Equal(t, result{0, "530303815, 16, 6\n", ""}, etcdutl(t, "hashkv", dir), "after defrag")
	require.Equal(t, 0, etcdutl(t, "migrate", "--data-dir", dir, "--target-version", "3.7").code)
	require.Contains(t, etcdutl(t, "migrate", "--data-dir", dir, "--target-version", "3.6").err, "there is nothing to migrate")
}

// TestRestoreBumped compares with what etcdutl 3.7.3 says of its own result for the same file and flags.
func TestRestoreBumped(t *testing.T) {
	for name, hash := range map[string]string{"etcd34.db": "353204588, 516, 516\n", "etcd37.db": "1280261121, 516, 516\n"} {
		dir := filepath.Join(t.TempDir(), "data")
		got := etcdutl(t, "snapshot", "restore", fixture(t, name), "--data-dir", dir, "--bump-revision", "500", "--mark-compacted")
		require.Equal(t, 0, got.code, got.err)
		require.Contains(t, got.err, `{"latest-revision": 16, "bump-amount": 500, "new-latest-revision": 516}`)
		require.Equal(t, hash, etcdutl(t, "hashkv", dir).out)
	}
}

// TestRefusals checks what people are told, and that nothing is left.
func TestRefusals(t *testing.T) {
	file := fixture(t, "etcd37.db")
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	with := func(b []byte) string {
		path := filepath.Join(t.TempDir(), "broken.db")
		require.NoError(t, os.WriteFile(path, b, 0o600))
		return path
	}
	flipped := bytes.Clone(data)
	flipped[len(data)-100] ^= 1
	full := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(full, "x"), nil, 0o600))
	for _, c := range []struct{ file, dir, etcd, own string }{
		{with(data[:len(data)-32]), "", "snapshot missing hash but --skip-hash-check=false", "The file ends at offset 20480 without a checksum"},
		{with(flipped), "", "expected sha256 [", "Use another copy of the file"},
		{with(data[:10000]), "", "is damaged at offset 8192", "save a new one with \"quorate snapshot save\""},
		{with([]byte("not a snapshot")), "", "invalid database (", "is damaged at offset 0"},
		{file, full, "not empty or could not be read", "A restore never writes over anything"},
		{"/nowhere/at/all", "", "open /nowhere/at/all: no such file or directory", "Check the path"},
	} {
		parent := t.TempDir()
		dir := c.dir
		if dir == "" {
			dir = filepath.Join(parent, "data")
		}
		got := etcdutl(t, "snapshot", "restore", c.file, "--data-dir", dir)
		require.Equal(t, 1, got.code)
		require.Contains(t, got.err, c.etcd)
		got = quorate(t, "snapshot", "restore", c.file, "--data-dir", dir)
		require.Equal(t, 1, got.code)
		require.Contains(t, got.err, c.own)
		require.True(t, strings.HasPrefix(got.err, "quorate snapshot restore: "), got.err)
		left, err := os.ReadDir(parent)
		require.NoError(t, err)
		require.Empty(t, left, c.file)
	}
}

// TestOwnName checks the result under our own name: members need not be spelled out, and a person is told what comes next.
func TestOwnName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	got := quorate(t, "snapshot", "restore", fixture(t, "etcd34.db"), "--data-dir", dir, "--name", "x", "--initial-advertise-peer-urls", "http://h1:2380")
	require.Equal(t, 0, got.code, got.err)
	require.Empty(t, got.err)
	require.Contains(t, got.out, "up to revision 16 into "+dir)
	require.Contains(t, got.out, "  quorate serve --name x --data-dir "+dir+"\n")
	require.Equal(t, "4151227093, 16, 6\n", quorate(t, "hashkv", dir).out)
	require.False(t, offline.Own([]string{"snapshot", "save", "x"}))
}

// TestVerdict checks that status under our own name says whether a backup is what was saved, and under etcdutl's does not.
func TestVerdict(t *testing.T) {
	file := fixture(t, "etcd37.db")
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, result{0, "495f30a1, 16, 8, 20 kB, 3.7.0\n", ""}, quorate(t, "snapshot", "status", file))
	data[len(data)-40] ^= 1 // in a free page
	require.NoError(t, os.WriteFile(file, data, 0o600))
	require.Equal(t, 0, etcdutl(t, "snapshot", "status", file).code)
	got := quorate(t, "snapshot", "status", file)
	require.Equal(t, 1, got.code)
	require.Empty(t, got.out)
	require.Contains(t, got.err, "expected sha256 [")
	require.NoError(t, os.WriteFile(file, data[:len(data)-32], 0o600))
	got = quorate(t, "snapshot", "status", file)
	require.Equal(t, 0, got.code)
	require.Contains(t, got.err, "note: the file has no checksum")
}

// TestInterrupted checks that a signal before the work ends leaves nothing, with the exit code that a shell expects.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cli.Interrupt{Signal: syscall.SIGTERM})
	parent := t.TempDir()
	got := runAs(ctx, offline.Run, "snapshot", "restore", fixture(t, "etcd37.db"), "--data-dir", filepath.Join(parent, "data"))
	require.Equal(t, 128+int(syscall.SIGTERM), got.code)
	require.Contains(t, got.err, "nothing was left behind")
	left, err := os.ReadDir(parent)
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestInUse checks that nothing is read while somebody writes.
func TestInUse(t *testing.T) {
	file := fixture(t, "etcd37.db")
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	got := etcdutl(t, "hashkv", file, "--timeout", "100ms")
	require.Equal(t, 1, got.code)
	require.Contains(t, got.err, "is open in another process")

	dir := filepath.Join(t.TempDir(), "data")
	require.Equal(t, 0, etcdutl(t, "snapshot", "restore", fixture(t, "etcd37.db"), "--data-dir", dir).code)
	e, err := storage.Open(filepath.Join(dir, restore.StoreName), storage.Options{})
	require.NoError(t, err)
	got = etcdutl(t, "defrag", "--data-dir", dir)
	require.Equal(t, 1, got.code)
	require.Contains(t, got.err, "another process has this store open")
	require.NoError(t, e.Close())
}

// FuzzRead has status and hashkv read a file in which some bytes were changed and the end is missing: no panic, no change of the
// file, and an error that names it and an offset or a record.
func FuzzRead(f *testing.F) {
	data, err := os.ReadFile(fixture(f, "etcd37.db"))
	require.NoError(f, err)
	f.Add(uint32(0), []byte{}, uint32(0))
	f.Add(uint32(3*4096+16), []byte{0, 0, 0, 0, 0xff}, uint32(0))
	f.Add(uint32(0), []byte{}, uint32(9000))
	path := filepath.Join(f.TempDir(), "mutated.db")
	f.Fuzz(func(t *testing.T, at uint32, with []byte, cut uint32) {
		b := bytes.Clone(data)
		copy(b[int(at)%len(b):], with)
		b = b[:len(b)-int(cut)%len(b)]
		require.NoError(t, os.WriteFile(path, b, 0o600))
		for _, verb := range [][]string{{"snapshot", "status"}, {"hashkv"}} {
			got := etcdutl(t, append(verb, path)...)
			require.Contains(t, []int{0, 1}, got.code)
			if got.code == 1 {
				require.Empty(t, got.out)
				require.Contains(t, got.err, path)
			}
		}
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, b, after)
	})
}
