package server_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"

	"quorate.dev/quorate/internal/freeport"
)

// programDir holds the program that the tests of this package start.
var programDir string

func TestMain(m *testing.M) {
	var err error
	if programDir, err = os.MkdirTemp("", "quorate-server-test"); err != nil {
		panic(err)
	}
	code := m.Run()
	if err := os.RemoveAll(programDir); err != nil {
		panic(err)
	}
	os.Exit(code)
}

var buildOnce = sync.OnceValues(func() (string, error) {
	bin := filepath.Join(programDir, "quorate")
	out, err := exec.Command("go", "build", "-o", bin, "quorate.dev/quorate/cmd/quorate").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

// buildQuorate builds the program, once for all tests.
func buildQuorate(t *testing.T) string {
	t.Helper()
	bin, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// outcome is how a process ended.
type outcome struct {
	code           int
	stdout, stderr string
}

// runProcess runs the program to its end.
func runProcess(t *testing.T, bin string, env []string, args ...string) outcome {
	t.Helper()
	cmd := exec.Command(bin, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Minute
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// TestCommandLines checks exit codes and texts of the built program, under both of its names.
func TestCommandLines(t *testing.T) {
	quorate := buildQuorate(t)
	etcd := filepath.Join(t.TempDir(), "etcd")
	if err := os.Symlink(quorate, etcd); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name           string
		bin            string
		env, args      []string
		code           int
		stdout, stderr string // parts of it
	}{
		{"version as etcd", etcd, nil, []string{"--version"}, 0, "etcd Version: 3.7.3\nGit SHA: ", ""},
		{"version", quorate, nil, []string{"version"}, 0, "quorate Version: 0.1.0, compatible with\netcd Version: 3.7.3\n", ""},
		{"version flag", quorate, nil, []string{"--version"}, 0, "quorate Version: 0.1.0", ""},
		{"verbs", quorate, nil, []string{"--help"}, 0, "serve", ""},
		{"flags", quorate, nil, []string{"serve", "--help"}, 0, "--data-dir ''", "quorate serve [flags]"},
		{"flags as etcd", etcd, nil, []string{"-h"}, 0, "--data-dir ''", "etcd [flags]"},
		{"config", quorate, nil, []string{"config", "--name", "m1"}, 0, "\nname: \"m1\"\n", ""},
		{"unknown verb", quorate, nil, []string{"serv"}, 2, "", `unknown command "serv"`},
		{"unknown flag", quorate, nil, []string{"--enable-v4=true"}, 2, "", "flag provided but not defined: -enable-v4"},
		{"discovery", etcd, nil, []string{"--discovery=http://x"}, 2, "", "flag provided but not defined: -discovery"},
		{"bad value", etcd, nil, []string{"--v2-deprecation=not-yet"}, 2, "", `invalid value "not-yet" for flag -v2-deprecation`},
		{"positional", etcd, nil, []string{"put", "a"}, 1, "", `\"put\" is not a valid flag`},
		{"positional after verb", quorate, nil, []string{"serve", "put"}, 1, "", `\"put\" is not a valid flag`},
		{"gateway", etcd, nil, []string{"gateway"}, 0, "Pass TCP connections on to the members", ""},
		{"grpc-proxy", etcd, nil, []string{"grpc-proxy"}, 0, "start the grpc proxy", ""},
		{"conflict", quorate, []string{"ETCD_NAME=a"}, []string{"--name=b"}, 1, "",
			"conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag))"},
		{"advertise", quorate, nil, []string{"--listen-client-urls=http://127.0.0.1:1"}, 1, "",
			"--advertise-client-urls is required when --listen-client-urls is set explicitly"},
		{"listen name", quorate, nil, []string{"--listen-peer-urls=http://db.example:1"}, 1, "", "expected IP in URL for binding (http://db.example:1)"},
		{"tls", quorate, nil, []string{"--listen-client-urls=https://127.0.0.1:1", "--advertise-client-urls=https://127.0.0.1:1"}, 1, "",
			"TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:1 with HTTPS scheme"},
		{"not among the members", quorate, nil, []string{"--initial-cluster=a=http://10.0.0.1:2380,b=http://10.0.0.2:2380", "--listen-client-urls=http://127.0.0.1:0",
			"--listen-peer-urls=http://127.0.0.1:0", "--advertise-client-urls=http://127.0.0.1:0"}, 1, "", `does not include this member: couldn't find local name`},
		{"join", quorate, nil, []string{"--initial-cluster-state=existing", "--listen-client-urls=http://127.0.0.1:0", "--listen-peer-urls=http://127.0.0.1:0",
			"--advertise-client-urls=http://127.0.0.1:0"}, 1, "", "cannot fetch cluster info from peer urls"},
		{"bad file", quorate, nil, []string{"--config-file=/nonexistent.yaml"}, 1, "", "cannot read the config file: open /nonexistent.yaml"},
		{"audit log", quorate, nil, []string{"--audit-log=/proc/nowhere/audit.log"}, 1, "", "--audit-log: open /proc/nowhere/audit.log: no such file or directory"},
		{"unwritable", quorate, nil, []string{"--data-dir=/proc/nowhere", "--listen-client-urls=http://127.0.0.1:0", "--listen-peer-urls=http://127.0.0.1:0",
			"--advertise-client-urls=http://127.0.0.1:0"}, 1, "", "cannot make directory /proc/nowhere"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := runProcess(t, c.bin, c.env, c.args...)
			if got.code != c.code || !strings.Contains(got.stdout, c.stdout) || !strings.Contains(got.stderr, c.stderr) {
				t.Errorf("exit %d, want %d; stdout %q; stderr %q", got.code, c.code, got.stdout, got.stderr)
			}
		})
	}
	if got := runProcess(t, etcd, nil, "--version"); strings.Count(got.stdout, "\n") != 4 {
		t.Errorf("etcd --version prints %q", got.stdout)
	}
}

// TestSecondServer starts two servers on one directory: the second is refused with a message that names the directory and
// the process that holds it, and the first goes on.
func TestSecondServer(t *testing.T) {
	bin := buildQuorate(t)
	dir := filepath.Join(t.TempDir(), "data")
	addr := freeport.Address(t)
	first := startProcess(t, bin, dir, addr)
	got := runProcess(t, bin, nil, "--data-dir", dir, "--listen-client-urls=http://127.0.0.1:0", "--advertise-client-urls=http://127.0.0.1:0",
		"--listen-peer-urls=http://127.0.0.1:0")
	for _, want := range []string{dir, "in use by another process", "--data-dir"} {
		if got.code != 1 || !strings.Contains(got.stderr, want) {
			t.Errorf("exit %d, %q is not in %s", got.code, want, got.stderr)
		}
	}
	c := connect(t, addr)
	defer c.Close()
	if _, err := c.Put(t.Context(), "a", "b"); err != nil {
		t.Errorf("the first server: %v", err)
	}
	first.stop(t)
}

// TestDiskFails lets writes of a running server fail, as those to a full disk do: nothing is acknowledged from then on, the
// process says why and ends with 1, and everything acknowledged is there after the next start.
func TestDiskFails(t *testing.T) {
	bin, dir, addr := buildQuorate(t), filepath.Join(t.TempDir(), "data"), freeport.Address(t)
	p := startProcess(t, bin, dir, addr)
	limit := unix.Rlimit{Cur: 1 << 20, Max: unix.RLIM_INFINITY}
	if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	c := connect(t, addr)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	acked := 0
	for value := strings.Repeat("x", 100<<10); ; acked++ {
		if _, err := c.Put(ctx, fmt.Sprintf("k%03d", acked), value); err != nil {
			t.Logf("put %d: %v", acked, err)
			break
		}
		if acked > 100 {
			t.Fatal("writes beyond the limit are acknowledged")
		}
	}
	_ = c.Close()
	select {
	case <-p.done:
	case <-time.After(2 * time.Minute):
		t.Fatalf("the server goes on\n%s", p.logTail())
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(p.logTail(), "the server had to stop") || !strings.Contains(p.logTail(), "file too large") {
		t.Fatalf("exit %d\n%s", code, p.logTail())
	}
	again := startProcess(t, bin, dir, addr)
	c = connect(t, addr)
	got, err := c.Get(ctx, "k", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil || got.Count < int64(acked) {
		t.Errorf("%d keys were acknowledged, after the restart: %v %v", acked, got, err)
	}
	_ = c.Close()
	again.stop(t)
}

// TestBanner starts the program without arguments and stops it with SIGTERM.
func TestBanner(t *testing.T) {
	bin := buildQuorate(t)
	cmd := exec.Command(bin)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "ETCD_LISTEN_CLIENT_URLS=http://127.0.0.1:0", "ETCD_ADVERTISE_CLIENT_URLS=http://127.0.0.1:0", "ETCD_LISTEN_PEER_URLS=http://127.0.0.1:0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	var banner strings.Builder
	for lines := bufio.NewScanner(out); !strings.Contains(banner.String(), "Ctrl-C") && lines.Scan(); {
		banner.WriteString(lines.Text() + "\n")
	}
	for _, want := range []string{"Quorate 0.1.0 is ready.", "clients  http://127.0.0.1:", filepath.Join(cmd.Dir, "default.quorate"), "etcdctl --endpoints=127.0.0.1:"} {
		if !strings.Contains(banner.String(), want) {
			t.Errorf("%q is not in %s", want, banner.String())
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

// TestStartAndStopLines checks the lines that tools wait for, and the banner for people.
func TestStartAndStopLines(t *testing.T) {
	p := startProcess(t, buildQuorate(t), filepath.Join(t.TempDir(), "data"), freeport.Address(t))
	p.stop(t)
	text, err := os.ReadFile(p.log)
	if err != nil {
		t.Fatal(err)
	}
	last := -1
	for _, line := range []string{"Running: ", "configuring peer listeners", "configuring client listeners", "starting an etcd server", "opened backend db",
		"bootstrapping cluster", "bootstrapping storage", "bootstrapping raft", "bootstrap successfully", "starting local member", "starting etcd server",
		"fast-forwarding election ticks", "now serving peer/client/metrics", "serving peer traffic", "published local member to cluster through raft",
		"ready to serve client requests", "grpc service status changed", "serving client traffic insecurely; this is strongly discouraged!", "notifying init daemon",
		"received signal; shutting down", "closing etcd server", "closed etcd server"} {
		at := bytes.Index(text, []byte(line))
		if at < 0 || at < last {
			t.Errorf("line %q is missing or out of order", line)
			continue
		}
		last = at
	}
}
