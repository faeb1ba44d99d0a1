package migrate

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"quorate.dev/quorate/test/compat/etcd34"
	"quorate.dev/quorate/test/compat/proc"
)

// tool runs etcd's own etcdctl or etcdutl of the 3.7 module.
func tool(t *testing.T, k proc.Kind, args ...string) string {
	t.Helper()
	bin, err := proc.Binary(k)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, args...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", k, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// contents is what a client reads: every key with value, revisions, version and lease. The header's revision is in it too, not the
// ids and the term.
func contents(t *testing.T, json string) string {
	t.Helper()
	_, rest, ok := strings.Cut(json, `"revision":`)
	if !ok {
		t.Fatalf("no revision in %.300s", json)
	}
	revision, _, _ := strings.Cut(rest, ",")
	_, kvs, _ := strings.Cut(rest, `"kvs":`)
	return "revision " + revision + " " + strings.TrimSpace(kvs)
}

// TestServers starts servers on what was migrated in all ways, and holds that clients read the same of all: our server on --to, a
// real etcd 3.7 on --to-snapshot restored by the real etcdutl, and Debian's etcd 3.4 on its own migration, which is the judge.
func TestServers(t *testing.T) {
	dir := store{seed: 20, members: 1, ops: 200, restarts: 1, flags: []string{"--snapshot-count=50"}}.make(t)[0]
	work := t.TempDir()
	theirs := filepath.Join(work, "theirs", "data")
	for _, name := range []string{"theirs", "ours", "restored", "again"} {
		if err := os.Mkdir(filepath.Join(work, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(copyOf(t, dir), theirs); err != nil {
		t.Fatal(err)
	}
	if _, err := etcd34.Ctl("migrate", "--data-dir", theirs); err != nil {
		t.Fatal(err)
	}
	all := []string{"get", "", "--from-key", "-w", "json", "--endpoints"}

	judge, err := etcd34.Start(filepath.Dir(theirs), "--force-new-cluster")
	if err != nil {
		t.Fatal(err)
	}
	defer judge.Kill()
	text, err := etcd34.Ctl(append(all, judge.Addr)...)
	if err != nil {
		t.Fatal(err)
	}
	want := contents(t, text)
	if strings.Count(want, `"key"`) < 20 {
		t.Fatalf("there is too little to see: %.300s", want)
	}

	ours := filepath.Join(work, "ours")
	must(t, "migrate", "--data-dir", dir, "--to", filepath.Join(ours, "data"), "--name", "m1", "--initial-cluster-token", "compat", "--initial-advertise-peer-urls", proc.AdvertisedPeer)
	snap := filepath.Join(work, "v2.db")
	must(t, "migrate", "--data-dir", dir, "--to-snapshot", snap)
	restored := filepath.Join(work, "restored")
	tool(t, proc.Etcdutl, "snapshot", "restore", snap, "--data-dir", filepath.Join(restored, "data"), "--name", "m1",
		"--initial-cluster", "m1="+proc.AdvertisedPeer, "--initial-cluster-token", "compat", "--initial-advertise-peer-urls", proc.AdvertisedPeer)
	again := filepath.Join(work, "again")
	must(t, "snapshot", "restore", snap, "--data-dir", filepath.Join(again, "data"), "--name", "m1", "--initial-cluster-token", "compat", "--initial-advertise-peer-urls", proc.AdvertisedPeer)

	for _, c := range []struct {
		kind proc.Kind
		dir  string
	}{{proc.Quorate, ours}, {proc.Etcd, restored}, {proc.Quorate, again}} {
		t.Run(fmt.Sprintf("%s on %s", c.kind, filepath.Base(c.dir)), func(t *testing.T) {
			s, err := proc.Start(c.kind, c.dir)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Kill()
			if got := contents(t, tool(t, proc.Etcdctl, append(all, s.Addr)...)); got != want {
				t.Errorf("etcdctl 3.7 reads\n%.2000s\nwant\n%.2000s", got, want)
			}
			text, err := etcd34.Ctl(append(all, s.Addr)...)
			if err != nil {
				t.Fatal(err)
			}
			if got := contents(t, text); got != want {
				t.Errorf("etcdctl 3.4 reads\n%.2000s\nwant\n%.2000s", got, want)
			}
			if _, err := etcd34.Ctl("put", "/after", "1", "--endpoints", s.Addr); err != nil {
				t.Errorf("a write after the migration: %v", err)
			}
		})
	}
}

// TestInPlace starts Debian's etcd on a directory that ours has migrated in place: it goes on with both APIs.
func TestInPlace(t *testing.T) {
	root := t.TempDir()
	s, err := etcd34.Start(root)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.Kill() }()
	m := NewMaker(30, s)
	for range 100 {
		if err := m.Do(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	out := must(t, "migrate", "--data-dir", s.DataDir(), "--in-place")
	if again := must(t, "migrate", "--data-dir", s.DataDir(), "--in-place"); again != out {
		t.Errorf("a second migration in place says\n%s\nand the first said\n%s", again, out)
	}
	s, err = etcd34.Start(root, "--force-new-cluster")
	if err != nil {
		t.Fatal(err)
	}
	text, err := etcd34.Ctl("get", "", "--from-key", "--keys-only", "--endpoints", s.Addr)
	if err != nil || !strings.Contains(text, "/") {
		t.Errorf("%v %q", err, text)
	}
	if a, err := s.Do("GET", "/v2/keys/?recursive=true", nil); err != nil || a.Status != 200 {
		t.Errorf("v2: %v %+v", err, a)
	}
}
