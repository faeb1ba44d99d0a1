package migrate

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"quorate.dev/quorate/test/compat/etcd34"
)

// TestCheck asks a real cluster: one whose members all answer, one with a member that hangs, and one whose members are stopped at
// different entries.
func TestCheck(t *testing.T) {
	servers, err := etcd34.StartCluster(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		defer s.Kill()
	}
	put := func(s *etcd34.Server) {
		t.Helper()
		if a, err := s.Do(http.MethodPut, "/v2/keys/x", url.Values{"value": {"1"}}); err != nil || a.Status > 201 {
			t.Fatalf("%v %+v", err, a)
		}
	}
	put(servers[0])
	eventually(t, func() string { // followers hear of a commit a little later
		out, errs, code := quorate(t, "migrate", "check", "--endpoints", servers[1].Addr)
		if code != 0 || !strings.Contains(out, "converged: ") || strings.Count(out, "http://") != 3 || !strings.Contains(out, "m3") {
			return fmt.Sprintf("exit code %d\n%s%s", code, out, errs)
		}
		return ""
	})

	// A member that hangs is one that nobody knows anything of.
	pause(t, servers[2], syscall.SIGSTOP)
	out, _, code := quorate(t, "migrate", "check", "--endpoints", servers[0].URL(), "--command-timeout", "1s")
	pause(t, servers[2], syscall.SIGCONT)
	if code != 1 || !strings.Contains(out, "NOT converged") || !strings.Contains(out, "member m3 ("+servers[2].URL()+")") || !strings.Contains(out, "no answer within 1s") {
		t.Errorf("with a member that hangs: exit code %d\n%s", code, out)
	}

	// One that is stopped early has less than the others.
	if err := servers[2].Stop(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		put(servers[0])
	}
	running, _, code := quorate(t, "migrate", "check", "--endpoints", servers[0].URL(), "--data-dir", servers[2].DataDir(), "-w", "json")
	var v struct {
		Converged bool
		Members   []struct {
			Name, Where, Problem string
			Behind               uint64
		}
	}
	if err := json.Unmarshal([]byte(running), &v); err != nil || code != 1 || v.Converged || len(v.Members) != 4 {
		t.Errorf("%v: exit code %d\n%s", err, code, running)
	}
	dirs := stopped(t, servers[:2])
	out, _, code = quorate(t, "migrate", "check", "--data-dir", dirs[0], "--data-dir", dirs[1])
	if code != 0 {
		t.Errorf("two that were stopped together: exit code %d\n%s", code, out)
	}
	out, _, code = quorate(t, "migrate", "check", "--data-dir", dirs[0], "--data-dir", dirs[1], "--data-dir", servers[2].DataDir())
	if code != 1 || !strings.Contains(out, servers[2].DataDir()+" is behind by") || !strings.Contains(out, "start the members again") {
		t.Errorf("one that was stopped early: exit code %d\n%s", code, out)
	}
}

func pause(t *testing.T, s *etcd34.Server, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(s.Pid(), sig); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until what returns "".
func eventually(t *testing.T, what func() string) {
	t.Helper()
	deadline, tick := time.After(2*time.Minute), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for {
		problem := what()
		if problem == "" {
			return
		}
		select {
		case <-deadline:
			t.Fatal(problem)
		case <-tick.C:
		}
	}
}

// TestRefused holds that the directory of an etcd that runs is refused, and that one that was killed is not, or with the place.
func TestRefused(t *testing.T) {
	s, err := etcd34.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Kill()
	m := NewMaker(40, s)
	for range 50 {
		if err := m.Do(); err != nil {
			t.Fatal(err)
		}
	}
	to := filepath.Join(t.TempDir(), "new")
	for _, flags := range [][]string{{"--to", to}, {"--in-place"}, {"--dry-run"}} {
		out, errs, code := quorate(t, append([]string{"migrate", "--data-dir", s.DataDir()}, flags...)...)
		if code != 1 || !strings.Contains(errs, "the file is locked by a running process") || !strings.Contains(errs, "stop this member's etcd first") {
			t.Errorf("%v: exit code %d\n%s%s", flags, code, out, errs)
		}
	}
	s.Kill()
	theirs := copyOf(t, s.DataDir())
	if _, err := etcd34.Ctl("migrate", "--data-dir", theirs); err != nil {
		t.Fatal(err)
	}
	out, errs, code := quorate(t, "migrate", "--data-dir", s.DataDir(), "--in-place")
	switch {
	case code == 0:
		want, _ := dump(t, dbOf(theirs))
		got, _ := dump(t, dbOf(s.DataDir()))
		same(t, "after kill -9", got, want)
	case !strings.Contains(errs, "is incomplete: etcd was interrupted when it wrote it"):
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
}

// TestTransformers gives the same programs to both migrations.
func TestTransformers(t *testing.T) {
	dir := store{seed: 50, members: 1, ops: 150, restarts: 1, flags: []string{"--snapshot-count=60"}}.make(t)[0]
	bin := t.TempDir()
	built := filepath.Join(bin, "built")
	cmd := exec.Command("go", "build", "-o", built, "./migrate/testdata/transformer")
	cmd.Dir = filepath.Join("..", "..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	seen := filepath.Join(bin, "seen")
	var inputs []string
	for _, name := range []string{"same", "upper", "two", "nothing"} {
		if err := os.Symlink(built, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
		// etcdctl closes the pipe when the program has ended, and loses what it has not read by then: the program ends later.
		program := filepath.Join(bin, name+".sh")
		if err := os.WriteFile(program, []byte("#!/bin/sh\ntee "+seen+" | "+filepath.Join(bin, name)+"\nsleep 2\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		theirs, ours := copyOf(t, dir), copyOf(t, dir)
		if _, err := etcd34.Ctl("migrate", "--data-dir", theirs, "--transformer", program); err != nil {
			t.Fatal(err)
		}
		inputs = append(inputs, input(seen))
		must(t, "migrate", "--data-dir", ours, "--transformer", program, "--in-place")
		inputs = append(inputs, input(seen))
		want, _ := dump(t, dbOf(theirs))
		got, _ := dump(t, dbOf(ours))
		same(t, name, got, want)
	}
	for ; len(inputs) > 0; inputs = inputs[2:] {
		a, b := inputs[0], inputs[1]
		if a == b && a != "" {
			continue
		}
		at := 0
		for at < min(len(a), len(b)) && a[at] == b[at] {
			at++
		}
		t.Errorf("transformers get something else at byte %d: etcd's %d bytes %.200q\nours %d bytes %.200q", at, len(a), a[max(0, at-50):], len(b), b[max(0, at-50):])
	}
}

// input is what a transformer was given, with TTLs of the time at which it was.
func input(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	parts := strings.Split(string(b), `"ttl":`)
	for i := range parts[1:] {
		parts[i+1] = strings.TrimLeft(parts[i+1], "-0123456789")
	}
	return strings.Join(parts, `"ttl":N`)
}
