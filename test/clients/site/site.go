// Package site runs three members as real processes, and what stands between them and clients: nothing, "quorate gateway" or
// "quorate proxy". The same tests go each of these ways.
//
// It knows nothing of what is asked. A site is started when Start returns, and gone when its test ends.
package site

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"quorate.dev/quorate/test/cluster"
	"quorate.dev/quorate/test/compat/proc"
)

// Way is how clients reach the members.
type Way string

// The ways.
const (
	Direct  Way = "direct"
	Gateway Way = "gateway"
	Proxy   Way = "proxy"
)

// Ways are all that the tests go; CLIENTS_WAYS, with commas, chooses.
func Ways() []Way {
	if text := os.Getenv("CLIENTS_WAYS"); text != "" {
		var out []Way
		for w := range strings.SplitSeq(text, ",") {
			out = append(out, Way(w))
		}
		return out
	}
	return []Way{Direct, Gateway, Proxy}
}

// Kind is what is tested; CLIENTS_KIND=etcd shows that the tests hold for a real etcd, its gateway and its proxy.
func Kind() proc.Kind {
	if os.Getenv("CLIENTS_KIND") == "etcd" {
		return proc.Etcd
	}
	return proc.Quorate
}

// patience is how long anything may take that has to happen.
const patience = time.Minute

// Site is a cluster and the way to it.
type Site struct {
	*cluster.Cluster
	Way       Way
	Endpoints []string // that clients are given

	t      testing.TB
	hop    string // the address of the process between
	hopDir string
	done   <-chan struct{}
	cmd    *exec.Cmd
}

// Each runs f once for each way, with a site of its own, at the same time: most of it is waiting.
func Each(t *testing.T, f func(t *testing.T, s *Site), flags ...string) {
	for _, way := range Ways() {
		t.Run(string(way), func(t *testing.T) {
			t.Parallel()
			f(t, Start(t, way, flags...))
		})
	}
}

// Start starts three members and what is between.
func Start(t testing.TB, way Way, flags ...string) *Site {
	t.Helper()
	c, err := cluster.New(Kind(), t.TempDir(), 3, flags...)
	if err != nil {
		t.Fatal(err)
	}
	return StartCluster(t, way, c, c.Endpoints()...)
}

// StartCluster starts a cluster, whose members are reached by upstream, and what is between.
func StartCluster(t testing.TB, way Way, c *cluster.Cluster, upstream ...string) *Site {
	t.Helper()
	s := &Site{Cluster: c, Way: way, Endpoints: upstream, t: t, hopDir: t.TempDir()}
	t.Cleanup(func() {
		if t.Failed() {
			for _, m := range c.Members {
				t.Logf("--- end of the log of %s ---\n%s", m.Name, m.LogTail(6000))
			}
			if s.cmd != nil {
				t.Logf("--- end of the log of the %s ---\n%s", way, s.HopLog(6000))
			}
		}
		c.Kill()
		if s.cmd != nil {
			_ = s.cmd.Process.Kill()
			<-s.done
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if way != Direct {
		s.between(upstream)
	}
	return s
}

// between starts the process between clients and members and waits until it says that it is ready.
func (s *Site) between(upstream []string) {
	s.t.Helper()
	bin, err := proc.Binary(Kind())
	if err != nil {
		s.t.Fatal(err)
	}
	ports, err := proc.FreePorts(1)
	if err != nil {
		s.t.Fatal(err)
	}
	s.hop = fmt.Sprintf("127.0.0.1:%d", ports[0])
	verb, ready := []string{"gateway", "start", "--retry-delay=1s"}, "ready to proxy client requests"
	if s.Way == Proxy {
		verb, ready = []string{"proxy", "start", "--data-dir=" + filepath.Join(s.hopDir, "data"), "--advertise-client-url=" + s.hop,
			"--dial-keepalive-time=10s", "--dial-keepalive-timeout=2s"}, "started gRPC proxy" // keep-alives as the clients'
		if Kind() == proc.Etcd {
			verb[0] = "grpc-proxy"
		}
	}
	args := append(verb, "--listen-addr="+s.hop, "--endpoints="+strings.ReplaceAll(strings.Join(upstream, ","), "http://", ""))
	log, err := os.Create(filepath.Join(s.hopDir, "log"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd = exec.Command(bin, args...)
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = s.hopDir, log, log
	if s.done, err = proc.Spawn(s.cmd); err != nil {
		s.t.Fatal(err)
	}
	s.Endpoints = []string{s.hop}
	Until(s.t, "the "+string(s.Way)+" is ready", func() bool {
		select {
		case <-s.done:
			s.t.Fatalf("the %s has ended:\n%s", s.Way, s.HopLog(4000))
		default:
		}
		return strings.Contains(s.HopLog(1<<20), ready)
	})
}

// HopLog is the end of the log of the process between, at most n bytes.
func (s *Site) HopLog(n int) string {
	text, err := os.ReadFile(filepath.Join(s.hopDir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-n):])
}

// Client connects as clients do. It gives up a connection on which nothing arrives any more, as clients that are to survive a
// paused machine must; set changes what else there is to set.
func (s *Site) Client(t testing.TB, set ...func(*clientv3.Config)) *clientv3.Client {
	t.Helper()
	cfg := clientv3.Config{Endpoints: s.Endpoints, DialTimeout: 5 * time.Second,
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 2 * time.Second, Logger: zap.NewNop()}
	for _, f := range set {
		f(&cfg)
	}
	cli, err := clientv3.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cli.Close() })
	return cli
}

// At connects to one member, whatever the way.
func (s *Site) At(t testing.TB, m *cluster.Member) *clientv3.Client {
	t.Helper()
	cli, err := s.Cluster.Client(m.Client)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cli.Close() })
	return cli
}

// AwaitLeader returns the member that leads, once most agree.
func (s *Site) AwaitLeader(t testing.TB) (m *cluster.Member) {
	t.Helper()
	Until(t, "there is a leader", func() bool {
		var err error
		m, err = s.Leader(t.Context())
		return err == nil
	})
	return m
}

// Back starts a member again and waits until it serves.
func (s *Site) Back(t testing.TB, m *cluster.Member) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	if err := m.Ready(ctx); err != nil {
		t.Fatal(err)
	}
}

// StopHop ends the process between as a service manager does, and returns its exit code.
func (s *Site) StopHop(t testing.TB) int {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.done:
		return s.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatalf("the %s does not end:\n%s", s.Way, s.HopLog(4000))
		return -1
	}
}

// Logged counts the lines of the hop's log that have a text.
func (s *Site) Logged(text string) int {
	return bytes.Count([]byte(s.HopLog(1<<24)), []byte(text))
}

// Until waits for a condition.
func Until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !cond(); {
		if time.Now().After(limit) {
			t.Fatalf("%s: not within %v", what, patience)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
