package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
)

// contender is one of the servers that are compared.
type contender struct {
	name, bin string
	version   string
}

// server is a running cluster of a contender, of one member mostly.
type server struct {
	c       *contender
	members []*process
	access  *access
}

// process is one member.
type process struct {
	name       string
	dir        string
	addr, peer string
	cmd        *exec.Cmd
	ended      chan struct{} // closed when the process ended
}

// start runs a new cluster of n members under dir, reached as a says, and returns once every member answers a linearizable read.
func (c *contender) start(dir string, n int, a *access) (*server, error) {
	s := &server{c: c, access: a}
	for i := range n {
		p := &process{name: fmt.Sprintf("bench%d", i+1)}
		p.dir = filepath.Join(dir, p.name)
		var err error
		if p.addr, err = freeAddress(); err != nil {
			return nil, err
		}
		if p.peer, err = freeAddress(); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(p.dir, 0o700); err != nil {
			return nil, err
		}
		s.members = append(s.members, p)
	}
	if err := s.exec(); err != nil {
		s.kill()
		return nil, err
	}
	return s, nil
}

// exec starts every member on its directory, new or used, and waits until each answers a linearizable read.
func (s *server) exec() error {
	var cluster []string
	for _, p := range s.members {
		cluster = append(cluster, p.name+"=http://"+p.peer)
	}
	for _, p := range s.members {
		url, peer := s.access.scheme()+p.addr, "http://"+p.peer
		p.cmd = exec.Command(s.c.bin, "--name", p.name, "--data-dir", filepath.Join(p.dir, "data"),
			"--listen-client-urls", url, "--advertise-client-urls", url,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", strings.Join(cluster, ","),
			"--quota-backend-bytes", "8589934592", "--log-level", "warn")
		p.cmd.Args = append(p.cmd.Args, s.access.server...)
		log, err := os.Create(filepath.Join(p.dir, "log"))
		if err != nil {
			return err
		}
		p.cmd.Stdout, p.cmd.Stderr = log, log
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // no server outlives an aborted run
		if err := p.cmd.Start(); err != nil {
			return errors.Join(err, log.Close())
		}
		p.ended = make(chan struct{})
		go func() {
			p.cmd.Wait() // the exit status on a signal differs between the two and is not what is measured
			log.Close()
			close(p.ended)
		}()
	}
	for _, p := range s.members {
		if err := p.ready(s.c.name, s.access); err != nil {
			return err
		}
	}
	return nil
}

// errEnded is a server that ended by itself while starting.
var errEnded = errors.New("the server ended while starting")

// ready waits for the first linearizable read.
func (p *process) ready(name string, a *access) error {
	deadline := time.Now().Add(2 * time.Minute)
	for {
		select {
		case <-p.ended:
			text, _ := os.ReadFile(filepath.Join(p.dir, "log"))
			return fmt.Errorf("%s: %w:\n%s", name, errEnded, text)
		default:
		}
		err := p.probe(a)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not answer: %w", name, err)
		}
		time.Sleep(time.Millisecond)
	}
}

func (p *process) probe(a *access) error {
	raw, err := net.DialTimeout("tcp", p.addr, time.Second)
	if err != nil {
		return err
	}
	raw.Close()
	conn, err := dial(p.addr, a)
	if err != nil {
		return err
	}
	defer conn.Close()
	c := newCaller(conn, 0)
	return c.get(bounded(time.Second), &query{key: []byte(probeKey)})
}

// dial opens a connection that speaks bytes; both servers get the same.
func dial(addr string, a *access, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+addr, append(append(more, a.options()...),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<31-1), grpc.ForceCodecV2(rawCodec{})))...)
}

// claims are the names that keep chosen ports from other processes of this project until this one ends.
var claims []net.Listener

// freeAddress chooses a port below the range that the system hands out by itself, so that no connection takes it while the
// server is down.
func freeAddress() (string, error) {
	for range 2000 {
		port := 12000 + rand.IntN(20000)
		claim, err := net.Listen("unix", fmt.Sprintf("@quorate-test-port-%d", port))
		if err != nil {
			continue
		}
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			claim.Close()
			continue
		}
		claims = append(claims, claim)
		return addr, l.Close()
	}
	return "", errors.New("no free port from 12000 to 31999")
}

// stop ends the server as an operator would.
func (s *server) stop() error { return s.end(syscall.SIGTERM) }

// kill ends the server as a power cut of the process would.
func (s *server) kill() error { return s.end(syscall.SIGKILL) }

func (s *server) end(signal syscall.Signal) error {
	for _, p := range s.members {
		if p.ended != nil {
			p.cmd.Process.Signal(signal) // it may have ended already
		}
	}
	for _, p := range s.members {
		if p.ended == nil {
			continue
		}
		select {
		case <-p.ended:
		case <-time.After(time.Minute):
			return fmt.Errorf("%s did not stop within a minute of signal %d", s.c.name, signal)
		}
	}
	return nil
}

// autopsy says of each member whether it runs and what it logged, for the report of a failure.
func (s *server) autopsy() string {
	const head, tail = 4000, 1000 // bytes; a crash says why first, and then shows its goroutines
	var b strings.Builder
	for _, p := range s.members {
		state := "runs"
		select {
		case <-p.ended:
			state = "has ended: " + p.cmd.ProcessState.String()
		default:
		}
		log, _ := os.ReadFile(filepath.Join(p.dir, "log"))
		if len(log) > head+tail {
			log = slices.Concat(log[:head], []byte("\n...\n"), log[len(log)-tail:])
		}
		fmt.Fprintf(&b, "\n%s %s %s; its log:\n%s", s.c.name, p.name, state, log)
	}
	return b.String()
}

// connect opens n connections, spread over the members, and has each answer once. The caller closes them.
func (s *server) connect(n int, more ...grpc.DialOption) (conns, error) {
	var out conns
	for i := range n {
		conn, err := dial(s.members[i%len(s.members)].addr, s.access, more...)
		if err != nil {
			return out, err
		}
		out = append(out, conn)
		if err := newCaller(conn, 0).get(bounded(10*time.Second), &query{key: []byte(probeKey), serializable: true}); err != nil {
			out.close()
			return nil, err
		}
	}
	return out, nil
}

// probeKey is read to see that a connection works.
const probeKey = "probe"

type conns []*grpc.ClientConn

func (c conns) close() {
	for _, conn := range c {
		conn.Close()
	}
}
