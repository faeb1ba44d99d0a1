package transfer

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

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"quorate.dev/quorate/test/compat/etcd34"
	"quorate.dev/quorate/test/compat/proc"
)

func TestMain(m *testing.M) {
	code := m.Run()
	proc.Cleanup()
	os.Exit(code)
}

// patience bounds every wait for a state.
const patience = 2 * time.Minute

// programs are the servers, by name.
func program(t *testing.T, name string) string {
	t.Helper()
	var path string
	var err error
	switch name {
	case "quorate":
		path, err = proc.Binary(proc.Quorate)
	case "etcd37":
		path, err = proc.Binary(proc.Etcd)
	case "etcd34":
		var p etcd34.Paths
		p, err = etcd34.Programs()
		path = p.Etcd
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// member is one member of a cluster: a place and a name, at which one program after the other runs.
type member struct {
	name         string
	client, peer int // ports
	dir          string
	log          string

	cmd  *exec.Cmd
	done <-chan struct{}
	conn *grpc.ClientConn
}

// cluster is members that found a cluster together.
type cluster []*member

func newCluster(t *testing.T, n int) cluster {
	t.Helper()
	ports, err := proc.FreePorts(2 * n)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var c cluster
	for i := range n {
		name := fmt.Sprintf("m%d", i+1)
		c = append(c, &member{name: name, client: ports[2*i], peer: ports[2*i+1], log: filepath.Join(dir, name+".log")})
	}
	t.Cleanup(func() {
		c.kill()
		if t.Failed() {
			for _, m := range c {
				b, _ := os.ReadFile(m.log)
				t.Logf("--- end of %s ---\n%s", m.log, b[max(0, len(b)-3000):])
			}
		}
	})
	return c
}

func (c cluster) initial() string {
	var all []string
	for _, m := range c {
		all = append(all, fmt.Sprintf("%s=http://127.0.0.1:%d", m.name, m.peer))
	}
	return strings.Join(all, ",")
}

// start runs a program at every member on its own directory below dir, and returns when all answer.
func (c cluster) start(t *testing.T, name, dir string, flags ...string) {
	t.Helper()
	bin := program(t, name)
	for _, m := range c {
		m.dir = filepath.Join(dir, m.name)
		m.exec(t, bin, append([]string{"--initial-cluster=" + c.initial()}, flags...))
	}
	for _, m := range c {
		m.ready(t)
	}
}

func (m *member) exec(t *testing.T, bin string, flags []string) {
	t.Helper()
	peer, client := fmt.Sprintf("http://127.0.0.1:%d", m.peer), fmt.Sprintf("http://127.0.0.1:%d", m.client)
	log, err := os.OpenFile(m.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	m.cmd = exec.Command(bin, append([]string{"--name=" + m.name, "--data-dir=" + m.dir, "--initial-advertise-peer-urls=" + peer, "--listen-peer-urls=" + peer,
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client, "--log-level=warn"}, flags...)...)
	m.cmd.Stdout, m.cmd.Stderr = log, log
	if m.done, err = proc.Spawn(m.cmd); err != nil {
		t.Fatal(err)
	}
	if m.conn, err = grpc.NewClient(fmt.Sprintf("127.0.0.1:%d", m.client), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
}

// ready waits until a member answers. Who is refused for want of a name is answered, too.
func (m *member) ready(t *testing.T) {
	t.Helper()
	until(t, "member "+m.name+" to answer", func() error {
		select {
		case <-m.done:
			t.Fatalf("member %s ended", m.name)
		default:
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := pb.NewKVClient(m.conn).Range(ctx, &pb.RangeRequest{Key: []byte("x")})
		if err != nil && strings.Contains(err.Error(), "user name is empty") {
			return nil
		}
		return err
	})
}

// until waits for a state.
func until(t *testing.T, what string, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s: %v", what, err)
		}
	}
}

func (c cluster) signal(s syscall.Signal) {
	for _, m := range c {
		if m.cmd != nil {
			_ = m.cmd.Process.Signal(s)
		}
	}
	for _, m := range c {
		if m.cmd != nil {
			<-m.done
			m.conn.Close()
			m.cmd = nil
		}
	}
}

func (c cluster) kill() { c.signal(syscall.SIGKILL) }
func (c cluster) stop() { c.signal(syscall.SIGTERM) }

// as is a context with the token of a user; "" is nobody.
func (m *member) as(t *testing.T, user string) context.Context {
	t.Helper()
	if user == "" {
		return t.Context()
	}
	var token string
	until(t, "a token of "+user, func() error {
		r, err := pb.NewAuthClient(m.conn).Authenticate(t.Context(), &pb.AuthenticateRequest{Name: user, Password: "pw-" + user})
		if err == nil {
			token = r.Token
		}
		return err
	})
	return metadata.AppendToOutgoingContext(t.Context(), "token", token)
}

// quorate runs one of our verbs.
func quorate(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(program(t, "quorate"), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, errs.String())
	}
	return out.String(), err
}

func mustQuorate(t *testing.T, args ...string) string {
	t.Helper()
	out, err := quorate(t, args...)
	if err != nil {
		t.Fatalf("quorate %s: %v", strings.Join(args, " "), err)
	}
	return out
}
