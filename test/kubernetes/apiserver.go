package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/rest"

	"quorate.dev/quorate/test/compat/proc"
)

// Token is the bearer token of a user who may do everything.
const Token = "the-token-of-an-administrator"

const (
	readyTimeout = 5 * time.Minute // for an API server on a machine that is busy with other tests
	stopTimeout  = 2 * time.Minute // it waits for watches for a minute
)

// Plane is what the API servers of one cluster have in common: authorities, keys, users.
type Plane struct {
	Dir        string
	Cluster    *CA // of API servers and their clients
	FrontProxy *CA // whose certificates may speak for others (X-Remote-User)
	flags      []string
	accountKey string // file of the key that signs service accounts' tokens
}

// Store is where API servers keep their objects.
type Store struct {
	URLs []string
	CA   string // file; empty for a store without TLS
	Pair        // by which API servers come
}

// NewPlane makes a plane whose files are below dir.
func NewPlane(dir string) (*Plane, error) {
	p := &Plane{Dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if p.Cluster, err = NewCA(dir, "cluster-ca"); err != nil {
		return nil, err
	}
	if p.FrontProxy, err = NewCA(dir, "front-proxy-ca"); err != nil {
		return nil, err
	}
	server, err := p.Cluster.Issue("apiserver", "kube-apiserver")
	if err != nil {
		return nil, err
	}
	proxy, err := p.FrontProxy.Issue("front-proxy", "front-proxy-client")
	if err != nil {
		return nil, err
	}
	account, err := p.Cluster.Issue("service-accounts", "service-accounts") // only its key matters
	if err != nil {
		return nil, err
	}
	p.accountKey = account.Key
	tokens := filepath.Join(dir, "tokens.csv")
	if err := os.WriteFile(tokens, []byte(Token+",administrator,1,\"system:masters\"\n"), 0o600); err != nil {
		return nil, err
	}
	p.flags = []string{
		"--bind-address=127.0.0.1", "--tls-cert-file=" + server.Cert, "--tls-private-key-file=" + server.Key, "--client-ca-file=" + p.Cluster.File,
		"--requestheader-client-ca-file=" + p.FrontProxy.File, "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group", "--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + proxy.Cert, "--proxy-client-key-file=" + proxy.Key,
		"--service-account-key-file=" + account.Key, "--service-account-signing-key-file=" + account.Key, "--service-account-issuer=https://kubernetes.default.svc",
		"--token-auth-file=" + tokens, "--authorization-mode=Node,RBAC", "--service-cluster-ip-range=10.96.0.0/16", "--storage-backend=etcd3",
	}
	return p, nil
}

// Config is how the administrator reaches the API at url.
func (p *Plane) Config(url string) *rest.Config {
	return &rest.Config{Host: url, BearerToken: Token, TLSClientConfig: rest.TLSClientConfig{CAFile: p.Cluster.File}, QPS: 1e6, Burst: 1e6}
}

// APIServer is one process, which may be down.
type APIServer struct {
	Name string
	Addr string // host:port, the same after a restart
	// Flags are added to those of the plane at the next start.
	Flags []string

	plane *Plane
	cmd   *exec.Cmd
	done  <-chan struct{}
	ip    string
}

// NewAPIServer chooses an address. number, from 1 to 254, differs among the servers of a plane.
func (p *Plane) NewAPIServer(name string, number int, flags ...string) (*APIServer, error) {
	ports, err := proc.FreePorts(1)
	if err != nil {
		return nil, err
	}
	// What it advertises is an address for documentation: it must not be a loopback address, and nobody uses it.
	return &APIServer{Name: name, Addr: fmt.Sprintf("127.0.0.1:%d", ports[0]), plane: p, ip: fmt.Sprintf("192.0.2.%d", number), Flags: flags}, nil
}

// URL is where it serves.
func (a *APIServer) URL() string { return "https://" + a.Addr }

// Start starts the process on a store and returns when it is ready.
func (a *APIServer) Start(ctx context.Context, s Store) error {
	bin, err := Program("kube-apiserver")
	if err != nil {
		return err
	}
	dir := filepath.Join(a.plane.Dir, a.Name)
	if err := os.MkdirAll(filepath.Join(dir, "certs"), 0o700); err != nil {
		return err
	}
	_, port, _ := strings.Cut(a.Addr, ":")
	args := append([]string{"--secure-port=" + port, "--advertise-address=" + a.ip, "--cert-dir=" + filepath.Join(dir, "certs"), "--etcd-servers=" + strings.Join(s.URLs, ",")}, a.plane.flags...)
	if s.CA != "" {
		args = append(args, "--etcd-cafile="+s.CA, "--etcd-certfile="+s.Cert, "--etcd-keyfile="+s.Key)
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	a.cmd = exec.Command(bin, append(args, a.Flags...)...)
	a.cmd.Stdout, a.cmd.Stderr = log, log
	if a.done, err = proc.Spawn(a.cmd); err != nil {
		return err
	}
	if err := a.ready(ctx); err != nil {
		return fmt.Errorf("API server %s: %w\n--- end of its log ---\n%s", a.Name, err, a.LogTail(4000))
	}
	return nil
}

func (a *APIServer) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	transport, err := rest.TransportFor(a.plane.Config(a.URL()))
	if err != nil {
		return err
	}
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	last := errors.New("nothing was answered")
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready after %v: %w", readyTimeout, last)
		case <-a.done:
			return fmt.Errorf("the process ended: %v", a.cmd.ProcessState)
		case <-tick.C:
		}
		resp, err := client.Get(a.URL() + "/readyz")
		if err != nil {
			last = err
			continue
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
		last = fmt.Errorf("%s: %s", resp.Status, text)
	}
}

// Stop ends the process as a service manager does; one that has not ended after two minutes is killed, which is an error.
func (a *APIServer) Stop() error {
	if a.cmd == nil {
		return nil
	}
	a.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-a.done:
		return nil
	case <-time.After(stopTimeout):
		a.Kill()
		return fmt.Errorf("API server %s still ran %v after SIGTERM", a.Name, stopTimeout)
	}
}

// Kill ends the process at once.
func (a *APIServer) Kill() {
	if a.cmd != nil && a.cmd.Process != nil {
		a.cmd.Process.Kill()
		<-a.done
	}
}

// LogTail returns the last n bytes of its log.
func (a *APIServer) LogTail(n int) string {
	b, err := os.ReadFile(filepath.Join(a.plane.Dir, a.Name, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-n):])
}
