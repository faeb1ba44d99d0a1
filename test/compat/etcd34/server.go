package etcd34

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"quorate.dev/quorate/test/compat/proc"
)

// readyTimeout bounds how long a server may take from exec to its first linearizable answer.
const readyTimeout = 3 * time.Minute

// clusterVersion is what a cluster agrees on some time after it could answer first. It is a write, which takes an index.
const clusterVersion = "3.4.0"

// Server is one process of etcd 3.4 with the v2 API.
type Server struct {
	Name string
	Dir  string // working directory; data is in Dir/data, the log in Dir/log
	Addr string // host:port of the client listener
	Peer string // URL of the peer listener

	flags []string
	cmd   *exec.Cmd
	log   *os.File
	done  <-chan struct{} // closed when the process has been waited for
}

// Start runs a cluster of one member with its data below dir and returns when it answers and its version is set: the next
// write of v2 has index 4 if the directory is new. flags are added to the common ones and override them. A data directory
// that already exists is opened again.
func Start(dir string, flags ...string) (*Server, error) {
	servers, err := StartCluster(dir, 1, flags...)
	if err != nil {
		return nil, err
	}
	return servers[0], nil
}

// StartCluster runs n members, m1 and so on, with their data below dir/m1 and so on, or in dir itself when it is one.
func StartCluster(dir string, n int, flags ...string) ([]*Server, error) {
	ports, err := proc.FreePorts(2 * n)
	if err != nil {
		return nil, err
	}
	var initial []string
	servers := make([]*Server, n)
	for i := range servers {
		s := &Server{Name: fmt.Sprintf("m%d", i+1), Dir: dir, Addr: fmt.Sprintf("127.0.0.1:%d", ports[2*i]), Peer: fmt.Sprintf("http://127.0.0.1:%d", ports[2*i+1])}
		if n > 1 {
			s.Dir = filepath.Join(dir, s.Name)
		}
		servers[i] = s
		initial = append(initial, s.Name+"="+s.Peer)
	}
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i, s := range servers {
		s.flags = append([]string{"--initial-cluster=" + strings.Join(initial, ",")}, flags...)
		wg.Go(func() { errs[i] = s.run() })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		for _, s := range servers {
			s.Kill()
		}
		return nil, err
	}
	return servers, nil
}

// run starts the process on its ports and waits until it answers.
func (s *Server) run() error {
	programs, err := Programs()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	args := append([]string{
		"--name=" + s.Name, "--data-dir=" + s.DataDir(), "--enable-v2=true", "--initial-cluster-token=compat",
		"--initial-advertise-peer-urls=" + s.Peer, "--listen-peer-urls=" + s.Peer,
		"--advertise-client-urls=http://" + s.Addr, "--listen-client-urls=http://" + s.Addr,
		"--logger=zap", "--log-level=warn",
	}, s.flags...)
	if s.log, err = os.OpenFile(filepath.Join(s.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	s.cmd = exec.Command(programs.Etcd, args...)
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = s.Dir, s.log, s.log
	if s.done, err = proc.Spawn(s.cmd); err == nil {
		err = s.awaitReady()
	}
	if err != nil {
		s.Kill()
		return fmt.Errorf("starting etcd %s: %w\n--- end of its log ---\n%s", Version, err, s.LogTail(4000))
	}
	return nil
}

func (s *Server) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.probe(ctx)
		if err == nil {
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

// probe asks for the cluster's version, which follows a leader's first write, and for a linearizable read.
func (s *Server) probe(ctx context.Context) error {
	a, err := s.request(ctx, http.MethodGet, "/version", nil)
	if err != nil {
		return err
	}
	var v struct{ Etcdcluster string }
	if err := json.Unmarshal(a.Body, &v); err != nil || v.Etcdcluster != clusterVersion {
		return errors.Join(err, fmt.Errorf("/version says %s", a.Body))
	}
	if a, err = s.request(ctx, http.MethodGet, "/health", nil); err == nil && !bytes.Contains(a.Body, []byte(`"true"`)) {
		err = fmt.Errorf("/health says %s", a.Body)
	}
	return err
}

// Answer is what the server said to an HTTP request.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends an HTTP request to the client port: path with a query if there is one, and form, if not nil, as the body.
func (s *Server) Do(method, path string, form url.Values) (*Answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return s.request(ctx, method, path, form)
}

func (s *Server) request(ctx context.Context, method, path string, form url.Values) (*Answer, error) {
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, method, s.URL()+path, body)
	if err != nil {
		return nil, err
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return &Answer{resp.StatusCode, resp.Header, b}, err
}

// URL returns the client listener as http://host:port.
func (s *Server) URL() string { return "http://" + s.Addr }

// DataDir returns the server's data directory.
func (s *Server) DataDir() string { return filepath.Join(s.Dir, "data") }

// Pid returns the process id.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Stop asks the server to end with SIGTERM and kills it when it has not done so after a minute, which is an error.
func (s *Server) Stop() error {
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
		return s.log.Close()
	case <-time.After(2 * time.Minute):
		s.Kill()
		return fmt.Errorf("etcd still ran a minute after SIGTERM")
	}
}

// Kill ends the server with SIGKILL.
func (s *Server) Kill() {
	if s.cmd != nil && s.cmd.Process != nil {
		s.cmd.Process.Kill()
		<-s.done
	}
	if s.log != nil {
		s.log.Close()
	}
}

// Restart stops the server and starts another process on the same data and ports. A member of several may need the others
// to answer.
func (s *Server) Restart() error {
	if err := s.Stop(); err != nil {
		return err
	}
	return s.run()
}

// LogTail returns the last n bytes of what the server has logged.
func (s *Server) LogTail(n int) string {
	b, err := os.ReadFile(filepath.Join(s.Dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-n):])
}

// Ctl runs etcdctl with the v3 API and returns what it printed on stdout. Its error holds what it printed on stderr.
func Ctl(args ...string) (string, error) {
	programs, err := Programs()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(programs.Etcdctl, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("etcdctl %s: %w\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), nil
}
