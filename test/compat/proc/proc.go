// Package proc builds the two servers that are compared, etcd and quorate, and runs them as processes.
//
// It is not a test framework: it knows nothing of requests. A Server is started with etcd's flags, is ready when Start
// returns (it has answered a linearizable read, not merely opened a port), and dies with its parent.
//
// Both kinds get the same name, cluster token and advertised addresses, whatever ports they listen on. Member and
// cluster ids are derived from exactly these, so two correct servers report equal ids and nothing needs translation.
package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// Kind says which server program to run.
type Kind int

const (
	Etcd    Kind = iota // the judge: the pinned etcd module, built from test/compat/cmd/etcd
	Quorate             // ours, built from cmd/quorate of the parent module
	Etcdctl             // etcd's tool, no server: only for Binary
	Etcdutl             // the other one
)

// programs are names, and what is built, by Kind.
var programs = []struct{ name, pkg, env string }{
	{"etcd", "./cmd/etcd", "ETCD_BIN"},
	{"quorate", "./cmd/quorate", "QUORATE_BIN"},
	{"etcdctl", "go.etcd.io/etcd/etcdctl/v3", "ETCDCTL_BIN"},
	{"etcdutl", "go.etcd.io/etcd/etcdutl/v3", "ETCDUTL_BIN"},
}

// String returns the program's name.
func (k Kind) String() string { return programs[k].name }

// Addresses that both servers advertise and neither listens on: a single member never dials itself.
const (
	AdvertisedPeer   = "http://127.0.0.1:23800"
	AdvertisedClient = "http://127.0.0.1:23790"
)

// readyTimeout bounds how long a server may take from exec to its first linearizable answer.
const readyTimeout = 3 * time.Minute

var builds struct {
	sync.Mutex
	dir   string
	paths map[Kind]string
}

// Binary returns the path of the program of kind k. ETCD_BIN, QUORATE_BIN, ETCDCTL_BIN and ETCDUTL_BIN name ready-made
// programs; without them the program is built once per process into a temporary directory that Cleanup removes.
func Binary(k Kind) (string, error) {
	builds.Lock()
	defer builds.Unlock()
	if p := os.Getenv(programs[k].env); p != "" {
		return p, nil
	}
	if p := builds.paths[k]; p != "" {
		return p, nil
	}
	if builds.dir == "" {
		dir, err := os.MkdirTemp("", "quorate-compat-bin-")
		if err != nil {
			return "", err
		}
		builds.dir, builds.paths = dir, map[Kind]string{}
	}
	_, self, _, _ := runtime.Caller(0)
	module := filepath.Dir(filepath.Dir(self))
	if k == Quorate {
		module = filepath.Dir(filepath.Dir(module))
	}
	path := filepath.Join(builds.dir, k.String())
	cmd := exec.Command("go", "build", "-o", path, programs[k].pkg)
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s in %s: %w\n%s", k, module, err, out)
	}
	builds.paths[k] = path
	return path, nil
}

// Cleanup removes the programs that Binary built.
func Cleanup() {
	builds.Lock()
	defer builds.Unlock()
	if builds.dir != "" {
		os.RemoveAll(builds.dir)
		builds.dir, builds.paths = "", nil
	}
}

// Server is one running process.
type Server struct {
	Kind Kind
	Dir  string // working directory; data is in Dir/data, the log in Dir/log
	Addr string // host:port of the client listener

	flags []string
	cmd   *exec.Cmd
	log   *os.File
	done  <-chan struct{} // closed when the process has been waited for
	conn  *grpc.ClientConn
	names *names // of the members of a cluster; empty for a server that runs alone
}

// Start runs a server of kind k with its data below dir and returns when it answers. flags are added to the common ones
// and override them; --listen-client-urls that begins with http://host:port chooses the address. A data
// directory that already exists is reopened.
func Start(k Kind, dir string, flags ...string) (*Server, error) {
	return start(k, dir, &names{}, flags...)
}

func start(k Kind, dir string, names *names, flags ...string) (*Server, error) {
	bin, err := Binary(k)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// The free ports are found by listening and closing; somebody else may take one in between, so try again then.
	for try := 0; ; try++ {
		s := &Server{Kind: k, Dir: dir, flags: flags, names: names}
		if err = s.exec(bin); err == nil {
			err = s.awaitReady()
		}
		if err == nil {
			return s, nil
		}
		s.Kill()
		if try == 2 || !bytes.Contains([]byte(s.LogTail(1<<16)), []byte("address already in use")) {
			return nil, fmt.Errorf("starting %s: %w\n--- end of its log ---\n%s", k, err, s.LogTail(4000))
		}
	}
}

func (s *Server) exec(bin string) error {
	ports, err := FreePorts(2)
	if err != nil {
		return err
	}
	s.Addr = fmt.Sprintf("127.0.0.1:%d", ports[0])
	args := append([]string{
		"--name=m1", "--data-dir=" + filepath.Join(s.Dir, "data"),
		"--initial-cluster-token=compat", "--initial-cluster=m1=" + AdvertisedPeer,
		"--initial-advertise-peer-urls=" + AdvertisedPeer, "--advertise-client-urls=" + AdvertisedClient,
		"--listen-client-urls=http://" + s.Addr, fmt.Sprintf("--listen-peer-urls=http://127.0.0.1:%d", ports[1]),
		"--log-level=warn",
	}, s.flags...)
	for _, f := range s.flags {
		if url, ok := strings.CutPrefix(f, "--listen-client-urls=http://"); ok {
			s.Addr, _, _ = strings.Cut(url, ",")
		}
	}
	if s.log, err = os.OpenFile(filepath.Join(s.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	s.cmd = exec.Command(bin, args...)
	s.cmd.Dir = s.Dir
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.done, err = Spawn(s.cmd)
	return err
}

// Spawn starts a process that ends with this one at the latest. done is closed when it has ended and been waited for.
func Spawn(cmd *exec.Cmd) (done <-chan struct{}, err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		// Pdeathsig follows the thread that started the child: keep that thread for as long as the child lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(ended)
	}()
	return ended, <-started
}

// Servers listen below the range that the system hands out by itself, so that no connection takes a port between its choice
// and its use.
const (
	portFirst = 12000
	portLast  = 31999
)

// FreePorts chooses ports that no other test process chooses: each is claimed by a name that the system gives back when
// this process ends.
func FreePorts(n int) ([]int, error) {
	var ports []int
	for range 2000 {
		port := portFirst + rand.IntN(portLast-portFirst+1)
		claim, err := net.Listen("unix", fmt.Sprintf("@quorate-test-port-%d", port))
		if err != nil {
			continue // another test has it
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			claim.Close()
			continue
		}
		l.Close()
		claims.Lock()
		claims.held = append(claims.held, claim)
		claims.Unlock()
		if ports = append(ports, port); len(ports) == n {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("no %d free ports from %d to %d", n, portFirst, portLast)
}

// claims keeps the claimed names until this process ends.
var claims struct {
	sync.Mutex
	held []net.Listener
}

// awaitReady polls until a Status names a leader and a linearizable read succeeds.
func (s *Server) awaitReady() error {
	conn, err := grpc.NewClient(s.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30)),
		grpc.WithUnaryInterceptor(s.names.unary), grpc.WithStreamInterceptor(s.names.stream))
	if err != nil {
		return err
	}
	s.conn = conn
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn.ResetConnectBackoff()
		if err = s.probe(ctx); err == nil {
			return nil
		}
		select {
		case <-s.done:
			return errors.New("the process ended: " + s.cmd.ProcessState.String())
		case <-ctx.Done():
			return fmt.Errorf("not ready after %v: %w", readyTimeout, err)
		case <-tick.C:
		}
	}
}

func (s *Server) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	st, err := pb.NewMaintenanceClient(s.conn).Status(ctx, &pb.StatusRequest{})
	if status.Code(err) == codes.InvalidArgument { // authentication is enabled: what may be asked is that
		_, err = pb.NewAuthClient(s.conn).AuthStatus(ctx, &pb.AuthStatusRequest{})
		return err
	}
	if err != nil {
		return err
	}
	if major, minor, _ := strings.Cut(st.Version, "."); st.Leader == 0 ||
		!strings.HasPrefix(st.StorageVersion, major+"."+strings.Split(minor, ".")[0]+".") {
		// The storage version follows the cluster version, the last step of a first start.
		return fmt.Errorf("leader %x, storage version %q", st.Leader, st.StorageVersion)
	}
	_, err = pb.NewKVClient(s.conn).Range(ctx, &pb.RangeRequest{Key: []byte("compat-ready")})
	return err
}

// Conn returns the connection used by the readiness check; it lives until Stop or Kill.
func (s *Server) Conn() *grpc.ClientConn { return s.conn }

// URL returns the client listener as http://host:port.
func (s *Server) URL() string { return "http://" + s.Addr }

// DataDir returns the server's data directory.
func (s *Server) DataDir() string { return filepath.Join(s.Dir, "data") }

// Pid returns the process id.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Stop asks the server to end with SIGTERM and kills it when it has not done so after a minute, which is an error.
func (s *Server) Stop() error {
	s.conn.Close()
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
		return s.log.Close()
	case <-time.After(time.Minute):
		s.Kill()
		return fmt.Errorf("%s still ran a minute after SIGTERM", s.Kind)
	}
}

// Kill ends the server with SIGKILL.
func (s *Server) Kill() {
	if s.conn != nil {
		s.conn.Close()
	}
	if s.cmd != nil && s.cmd.Process != nil {
		s.cmd.Process.Kill()
		<-s.done
	}
	if s.log != nil {
		s.log.Close()
	}
}

// Restart stops the server and starts another process on the same data.
func (s *Server) Restart() (*Server, error) {
	if err := s.Stop(); err != nil {
		return nil, err
	}
	return start(s.Kind, s.Dir, s.names, s.flags...)
}

// LogTail returns the last n bytes of what the server has logged.
func (s *Server) LogTail(n int) string {
	b, err := os.ReadFile(filepath.Join(s.Dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-n):])
}
