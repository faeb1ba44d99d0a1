package migrating_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"quorate.dev/quorate/cli"
	"quorate.dev/quorate/cli/migrating"
)

// members gives the data directories of a fixture of package migrate, as a real etcd 3.4 has left them.
func members(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "migrate", "testdata", name+".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// quorate runs a command line.
func quorate(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = cli.Own(cli.Process{Context: context.Background(), Args: args, Stdout: &out, Stderr: &errs}, &cobra.Command{Use: "quorate"}, migrating.Verbs()...)
	return out.String(), errs.String(), code
}

// TestUsage holds that a command line which does not say enough begins nothing.
func TestUsage(t *testing.T) {
	dir := filepath.Join(members(t, "plain"), "m1")
	for line, reason := range map[string]string{
		"migrate":                   "name the data directory of a stopped member of etcd with --data-dir",
		"migrate --data-dir " + dir: "say where the keys should go, with one of: --to DIR",
		"migrate --data-dir DIR --to x --dry-run":                   "with one of: --to DIR",
		"migrate --data-dir DIR --dry-run --name m2":                "--name is about a new data directory and needs --to",
		"migrate --data-dir DIR --dry-run --ttl odd":                `--ttl is "odd"; it has to be permanent, drop or lease`,
		"migrate --data-dir DIR --dry-run --no-ttl --ttl lease":     "--no-ttl means --ttl=drop",
		"migrate --data-dir DIR --dry-run x":                        "the only verb in it is check",
		"migrate --data-dir DIR --dry-run --transformer-timeout 0s": "it has to be above 0",
		"migrate check x": "it takes no arguments",
		"migrate check --data-dir a --wal-dir b --wal-dir c": "--wal-dir is given 2 times",
	} {
		out, errs, code := quorate(t, strings.Fields(line)...)
		if code != cli.ExitUsage || !strings.Contains(errs, reason) || out != "" {
			t.Errorf("%s: exit code %d\n%s%s", line, code, out, errs)
		}
	}
}

// TestReport holds what people and programs are told.
func TestReport(t *testing.T) {
	dir := filepath.Join(members(t, "plain"), "m1")
	to := filepath.Join(t.TempDir(), "new")
	out, errs, code := quorate(t, "migrate", "--data-dir", dir, "--to", to, "--ttl", "lease", "--name", "m7")
	if code != 0 || errs != "" {
		t.Fatalf("exit code %d\n%s", code, errs)
	}
	for _, line := range []string{
		"using default transformer\nfinished transforming keys\n",
		"read         8 keys and 7 directories, at v2 index",
		"skipped      7 directories (the v3 API has none), 2 hidden keys (/r0/_hidden/key, /r0/dir/_too)",
		"ttl          1 key with a TTL and 1 in directories with one: they have leases",
		"8 keys, 2 of them with 2 leases into the data directory " + to,
		"verified     8 keys read back and compared with the source: equal",
		"quorate serve --name m7 --data-dir " + to,
	} {
		if !strings.Contains(out, line) {
			t.Errorf("%q is missing in\n%s", line, out)
		}
	}
	out, errs, code = quorate(t, "migrate", "--data-dir", dir, "--to", to)
	if code != 1 || !strings.Contains(errs, "not empty") || !strings.Contains(errs, "never writes over anything") {
		t.Errorf("a second time: exit code %d\n%s%s", code, out, errs)
	}
	out, errs, code = quorate(t, "migrate", "--data-dir", dir, "--dry-run", "--no-ttl", "-w", "json")
	var r struct {
		DryRun  bool
		TTL     string
		Written struct{ Keys int }
		Skipped struct{ TTLKeys, Directories, HiddenKeys int }
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 || !r.DryRun || r.TTL != "drop" || r.Written.Keys != 7 || r.Skipped.TTLKeys != 1 ||
		r.Skipped.Directories != 6 || r.Skipped.HiddenKeys != 2 || !strings.Contains(errs, "using default transformer\n") {
		t.Errorf("%v: exit code %d\n%s%s", err, code, out, errs)
	}
}

// TestCheckStopped holds exit codes and what is said of stopped members.
func TestCheckStopped(t *testing.T) {
	dir := members(t, "cluster")
	m1, m2 := filepath.Join(dir, "m1"), filepath.Join(dir, "m2")
	if out, errs, code := quorate(t, "migrate", "check", "--data-dir", m1, "--data-dir", m2); code != 0 || !strings.Contains(out, "converged: ") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	out, _, code := quorate(t, "migrate", "check", "--data-dir", m1, "--data-dir", m1, "-w", "json")
	var v struct {
		Converged bool
		Findings  []string
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != 1 || v.Converged || len(v.Findings) != 1 {
		t.Errorf("one member twice: %v: exit code %d\n%s", err, code, out)
	}
	other := filepath.Join(members(t, "plain"), "m1")
	if out, _, code := quorate(t, "migrate", "check", "--data-dir", m1, "--data-dir", other); code != 1 || !strings.Contains(out, "belongs to cluster") {
		t.Errorf("of two clusters: exit code %d\n%s", code, out)
	}
	if out, _, code := quorate(t, "migrate", "check", "--data-dir", m1, "--data-dir", t.TempDir()); code != 1 || !strings.Contains(out, "it is no data directory of etcd") {
		t.Errorf("no member: exit code %d\n%s", code, out)
	}
}
