// Package e2e lets clients that nobody here wrote work against quorate: etcdctl and etcdutl of the compatible release,
// Debian's etcdctl 3.4, and the npm package etcd3. Each does the same on a real etcd, and what it prints must be equal.
//
// It needs the network on the first run: Go modules, one Debian package (unpacked, not installed) and npm packages, all in
// pinned versions. What cannot be had is a failure that says so, never a skipped test.
package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"quorate.dev/quorate/test/compat/proc"
)

func TestMain(m *testing.M) {
	code := m.Run()
	proc.Cleanup()
	if tools.dir != "" {
		os.RemoveAll(tools.dir)
	}
	os.Exit(code)
}

// startBoth runs a real etcd and quorate with the same flags.
func startBoth(t *testing.T, flags ...string) (etcd, quorate *proc.Server) {
	t.Helper()
	return start(t, proc.Etcd, t.TempDir(), flags...), start(t, proc.Quorate, t.TempDir(), flags...)
}

func start(t *testing.T, k proc.Kind, dir string, flags ...string) *proc.Server {
	t.Helper()
	s, err := proc.Start(k, dir, flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

var tools struct {
	sync.Mutex
	dir string
}

// tool returns the path of etcdctl or etcdutl of the pinned release, built from its module on first use.
func tool(t *testing.T, name string) string {
	t.Helper()
	tools.Lock()
	defer tools.Unlock()
	if tools.dir == "" {
		dir, err := os.MkdirTemp("", "quorate-e2e-bin-")
		if err != nil {
			t.Fatal(err)
		}
		tools.dir = dir
	}
	path := filepath.Join(tools.dir, name)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if out, err := exec.Command("go", "build", "-o", path, "go.etcd.io/etcd/"+name+"/v3").CombinedOutput(); err != nil {
			t.Fatalf("building %s: %v\n%s", name, err, out)
		}
	}
	return path
}

// etcdctl34 returns Debian's etcdctl 3.4. The package is fetched with apt and unpacked into a temporary directory.
func etcdctl34(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	fetch := exec.Command("apt-get", "download", "etcd-client")
	fetch.Dir = dir
	out, err := fetch.CombinedOutput()
	if err != nil {
		// The list of packages may be old or missing.
		if up, uerr := exec.Command("apt-get", "update").CombinedOutput(); uerr != nil {
			t.Fatalf("this test needs Debian's package etcd-client; apt-get update: %v\n%s", uerr, up)
		}
		again := exec.Command("apt-get", "download", "etcd-client")
		again.Dir = dir
		if out, err = again.CombinedOutput(); err != nil {
			t.Fatalf("this test needs Debian's package etcd-client; apt-get download: %v\n%s", err, out)
		}
	}
	debs, err := filepath.Glob(filepath.Join(dir, "etcd-client_3.4.*.deb"))
	if err != nil || len(debs) != 1 {
		t.Fatalf("apt-get downloaded no etcd-client 3.4: %v %v\n%s", debs, err, out)
	}
	if out, err := exec.Command("dpkg", "-x", debs[0], filepath.Join(dir, "root")).CombinedOutput(); err != nil {
		t.Fatalf("unpacking %s: %v\n%s", debs[0], err, out)
	}
	return filepath.Join(dir, "root/usr/bin/etcdctl")
}
