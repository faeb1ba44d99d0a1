// Package cluster runs clusters of real processes on the loopback interface, does to them what production does, and looks at
// them with etcd's own client.
//
// It is not a test framework: it starts, kills, pauses and stops processes, and knows nothing of what is asked of them. Either
// kind of server can be run, so that what holds for us can be measured on a real etcd too.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"quorate.dev/quorate/test/compat/proc"
)

// Cluster is a group of members that were founded together.
type Cluster struct {
	Members []*Member
	bin     string
	flags   []string
}

// Member is one process, which may be down.
type Member struct {
	Name   string
	Dir    string
	Client string   // URL
	Peer   string   // URL
	Flags  []string // of this member alone; they override those of the cluster
	Wrap   []string // a command that runs the program, such as one that enters a network namespace

	c    *Cluster
	life sync.Mutex // while the process is replaced: others ask for its number
	cmd  *exec.Cmd
	done <-chan struct{} // closed when the process has been waited for
}

// New makes a cluster of n members below dir without starting any.
func New(k proc.Kind, dir string, n int, flags ...string) (*Cluster, error) {
	bin, err := proc.Binary(k)
	if err != nil {
		return nil, err
	}
	c := &Cluster{bin: bin, flags: flags}
	for i := range n {
		ports, err := proc.FreePorts(2)
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("m%d", i+1)
		c.Members = append(c.Members, &Member{
			Name: name, Dir: filepath.Join(dir, name), c: c,
			Client: fmt.Sprintf("http://127.0.0.1:%d", ports[0]), Peer: fmt.Sprintf("http://127.0.0.1:%d", ports[1]),
		})
	}
	return c, nil
}

// Start starts every member and returns when each answers a linearizable read.
func (c *Cluster) Start(ctx context.Context) error {
	for _, m := range c.Members {
		if err := m.Start(); err != nil {
			return err
		}
	}
	for _, m := range c.Members {
		if err := m.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Kill kills every member.
func (c *Cluster) Kill() {
	for _, m := range c.Members {
		m.Kill()
	}
}

// Initial is --initial-cluster.
func (c *Cluster) Initial() string {
	var pairs []string
	for _, m := range c.Members {
		pairs = append(pairs, m.Name+"="+m.Peer)
	}
	return strings.Join(pairs, ",")
}

// Endpoints are the client URLs of all members.
func (c *Cluster) Endpoints() []string {
	var out []string
	for _, m := range c.Members {
		out = append(out, m.Client)
	}
	return out
}

// Client connects to these endpoints, or to all. It gives up a connection on which nothing arrives any more, as clients that are
// to survive a paused machine must.
func (c *Cluster) Client(endpoints ...string) (*clientv3.Client, error) {
	if len(endpoints) == 0 {
		endpoints = c.Endpoints()
	}
	return clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 5 * time.Second,
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 2 * time.Second, Logger: zap.NewNop()})
}

// Leader is the member that leads, by its own word and that of most.
func (c *Cluster) Leader(ctx context.Context) (*Member, error) {
	votes := map[uint64]int{}
	by := map[uint64]*Member{}
	for _, m := range c.Members {
		s, err := m.Status(ctx)
		if err != nil {
			continue
		}
		by[s.Header.MemberId] = m
		votes[s.Leader]++
	}
	for id, n := range votes {
		if id != 0 && n > len(c.Members)/2 && by[id] != nil {
			return by[id], nil
		}
	}
	return nil, fmt.Errorf("no leader: the members say %v", votes)
}

// Start starts the process.
func (m *Member) Start() (err error) {
	if err := os.MkdirAll(m.Dir, 0o700); err != nil {
		return err
	}
	args := append([]string{
		"--name=" + m.Name, "--data-dir=" + filepath.Join(m.Dir, "data"),
		"--initial-cluster=" + m.c.Initial(), "--initial-cluster-token=cluster-test",
		"--initial-advertise-peer-urls=" + m.Peer, "--listen-peer-urls=" + m.Peer,
		"--advertise-client-urls=" + m.Client, "--listen-client-urls=" + m.Client, "--log-level=info",
	}, m.c.flags...)
	args = append(args, m.Flags...)
	log, err := os.OpenFile(filepath.Join(m.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own
	command := append(append(append([]string(nil), m.Wrap...), m.c.bin), args...)
	m.life.Lock()
	defer m.life.Unlock()
	m.cmd = exec.Command(command[0], command[1:]...)
	m.cmd.Dir, m.cmd.Stdout, m.cmd.Stderr = m.Dir, log, log
	m.done, err = proc.Spawn(m.cmd)
	return err
}

// Ready waits until the member answers a linearizable read.
func (m *Member) Ready(ctx context.Context) error {
	cli, err := m.c.Client(m.Client)
	if err != nil {
		return err
	}
	defer cli.Close()
	for {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := cli.Get(try, "ready")
		cancel()
		if err == nil || errors.Is(err, rpctypes.ErrUserEmpty) { // who asks is looked at behind the barrier
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w\n--- end of its log ---\n%s", m.Name, err, m.LogTail(4000))
		case <-m.done:
			return fmt.Errorf("%s has ended: %w\n--- end of its log ---\n%s", m.Name, err, m.LogTail(4000))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Status is what the member says of itself.
func (m *Member) Status(ctx context.Context) (*clientv3.StatusResponse, error) {
	cli, err := m.c.Client(m.Client)
	if err != nil {
		return nil, err
	}
	defer cli.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return cli.Status(ctx, m.Client)
}

// Kill kills the process and waits for its end.
func (m *Member) Kill() { _ = m.Stop(syscall.SIGKILL) }

// Stop sends a signal that ends the process, and waits for its end.
func (m *Member) Stop(sig syscall.Signal) error {
	if m.cmd == nil || m.cmd.Process == nil {
		return nil
	}
	err := m.cmd.Process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	if sig == syscall.SIGKILL {
		_ = m.cmd.Process.Signal(syscall.SIGCONT)
	}
	select {
	case <-m.done:
		return err
	case <-time.After(2 * time.Minute):
		return fmt.Errorf("%s does not end\n--- end of its log ---\n%s", m.Name, m.LogTail(4000))
	}
}

// Pause stops the process from running until Resume.
func (m *Member) Pause() error { return m.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (m *Member) Resume() error { return m.cmd.Process.Signal(syscall.SIGCONT) }

// LogTail is the end of what the member has logged, at most n bytes.
func (m *Member) LogTail(n int64) string {
	f, err := os.Open(filepath.Join(m.Dir, "log"))
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if size, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, size-n), io.SeekStart)
	}
	b, _ := io.ReadAll(f)
	return string(b)
}
