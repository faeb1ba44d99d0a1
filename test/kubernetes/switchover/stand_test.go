package switchover

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"quorate.dev/quorate/test/compat/proc"
	"quorate.dev/quorate/test/kubernetes"
)

// stand is a control plane with a balancer and both stores. Its hooks are what services are to an operator.
type stand struct {
	t       *testing.T
	dir     string
	plane   *kubernetes.Plane
	storeCA *kubernetes.CA
	cert    kubernetes.Pair // of everybody who serves or asks a store
	apis    map[string]*kubernetes.APIServer
	stores  map[string]*store
	api     string // the balancer's doors
	door    string
	conf    string
	hooks   http.Server
}

// store is etcd or Quorate: one member, by the same flags.
type store struct {
	kind proc.Kind
	dir  string
	url  string
	args []string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done <-chan struct{}
}

func (s *store) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	bin, err := proc.Binary(s.kind)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(s.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = exec.Command(bin, s.args...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.done, err = proc.Spawn(s.cmd)
	return err
}

// stop ends the process if there is one.
func (s *store) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return nil
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(time.Minute):
		s.cmd.Process.Kill()
		<-s.done
		return fmt.Errorf("%s still ran a minute after SIGTERM", s.kind)
	}
	s.cmd = nil
	return nil
}

func newStand(t *testing.T) *stand {
	s := &stand{t: t, dir: t.TempDir(), apis: map[string]*kubernetes.APIServer{}, stores: map[string]*store{}}
	var err error
	s.plane, err = kubernetes.NewPlane(filepath.Join(s.dir, "plane"))
	must(t, err)
	must(t, os.Mkdir(filepath.Join(s.dir, "pki"), 0o700))
	s.storeCA, err = kubernetes.NewCA(filepath.Join(s.dir, "pki"), "etcd-ca")
	must(t, err)
	s.cert, err = s.storeCA.Issue("store", "store")
	must(t, err)
	ports, err := proc.FreePorts(7)
	must(t, err)
	s.api, s.door = fmt.Sprintf("https://127.0.0.1:%d", ports[0]), fmt.Sprintf("https://127.0.0.1:%d", ports[1])
	s.stores["etcd"] = s.newStore(proc.Etcd, ports[2], ports[3])
	s.stores["quorate"] = s.newStore(proc.Quorate, ports[4], ports[5])
	for i, name := range []string{"cp1", "cp2"} {
		s.apis[name], err = s.plane.NewAPIServer(name, i+1)
		must(t, err)
		t.Cleanup(s.apis[name].Kill)
	}
	must(t, s.stores["etcd"].start())
	s.awaitEtcd()
	s.startAPIs(s.stores["etcd"].url)
	s.startBalancer()
	s.startHooks(ports[6])
	return s
}

func (s *stand) newStore(k proc.Kind, client, peer int) *store {
	dir := filepath.Join(s.dir, k.String())
	url, peers := fmt.Sprintf("https://127.0.0.1:%d", client), fmt.Sprintf("https://127.0.0.1:%d", peer)
	st := &store{kind: k, dir: dir, url: url, args: []string{
		"--name=m1", "--data-dir=" + dir, "--listen-client-urls=" + url, "--advertise-client-urls=" + url,
		"--listen-peer-urls=" + peers, "--initial-advertise-peer-urls=" + peers, "--initial-cluster=m1=" + peers,
		"--cert-file=" + s.cert.Cert, "--key-file=" + s.cert.Key, "--trusted-ca-file=" + s.storeCA.File, "--client-cert-auth",
		"--peer-cert-file=" + s.cert.Cert, "--peer-key-file=" + s.cert.Key, "--peer-trusted-ca-file=" + s.storeCA.File, "--peer-client-cert-auth",
	}}
	s.t.Cleanup(func() { st.stop() })
	return st
}

func (s *stand) awaitEtcd() {
	pool, pair := x509.NewCertPool(), tls.Certificate{}
	pem, err := os.ReadFile(s.storeCA.File)
	must(s.t, err)
	pool.AppendCertsFromPEM(pem)
	pair, err = tls.LoadX509KeyPair(s.cert.Cert, s.cert.Key)
	must(s.t, err)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}}}
	eventually(s.t, "etcd is healthy", func() error {
		resp, err := client.Get(s.stores["etcd"].url + "/health")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				err = fmt.Errorf("%s", resp.Status)
			}
		}
		return err
	})
}

func (s *stand) storeAt(url string) kubernetes.Store {
	return kubernetes.Store{URLs: []string{url}, CA: s.storeCA.File, Pair: s.cert}
}

func (s *stand) startAPIs(url string) {
	_, err := kubernetes.Program("kube-apiserver")
	must(s.t, err)
	var wg sync.WaitGroup
	errs := make(chan error, len(s.apis))
	for _, a := range s.apis {
		wg.Go(func() { errs <- a.Start(s.t.Context(), s.storeAt(url)) })
	}
	wg.Wait()
	for range s.apis {
		must(s.t, <-errs)
	}
}

// startBalancer runs HAProxy on the operators' file, with the addresses and paths of this stand.
func (s *stand) startBalancer() {
	t := s.t
	text, err := os.ReadFile("../../../deploy/switchover/haproxy.cfg")
	must(t, err)
	client, err := s.plane.FrontProxy.Issue("balancer-front-proxy", "front-proxy-client")
	must(t, err)
	server, err := s.plane.Cluster.Issue("balancer", "balancer")
	must(t, err)
	host := func(url string) string { return strings.TrimPrefix(url, "https://") }
	cfg := strings.NewReplacer(
		"/run/haproxy/admin.sock", s.dir+"/admin.sock", "/etc/haproxy/switchover.map", s.dir+"/switchover.map",
		"/etc/haproxy/balancer.pem", server.Both, "/etc/kubernetes/pki/ca.crt", s.plane.Cluster.File, "/etc/haproxy/front-proxy.pem", client.Both,
		"/etc/haproxy/store.pem", s.cert.Both, "/etc/kubernetes/pki/etcd/ca.crt", s.storeCA.File, "/etc/haproxy/etcd-client.pem", s.cert.Both,
		"10.0.0.10:6443", host(s.api), "10.0.0.10:2390", host(s.door), "10.0.0.11:6443", s.apis["cp1"].Addr, "10.0.0.12:6443", s.apis["cp2"].Addr,
		"10.0.0.11:2379", host(s.stores["etcd"].url), "10.0.0.21:2379", host(s.stores["quorate"].url),
	).Replace(string(text))
	cfg = regexp.MustCompile(`(?m)^    server (cp3|m2|m3) .*\n`).ReplaceAllString(cfg, "")
	if left := regexp.MustCompile(`(?m)^[^#\n]*(10\.0\.0\.|/etc/).*`).FindString(cfg); left != "" {
		t.Fatalf("haproxy.cfg has something that is not replaced here: %s", left)
	}
	must(t, os.WriteFile(s.dir+"/haproxy.cfg", []byte(cfg), 0o600))
	doors, err := os.ReadFile("../../../deploy/switchover/switchover.map")
	must(t, err)
	must(t, os.WriteFile(s.dir+"/switchover.map", doors, 0o600))
	bin, env, err := kubernetes.HAProxy()
	must(t, err)
	log, err := os.Create(s.dir + "/haproxy.log")
	must(t, err)
	defer log.Close()
	cmd := exec.Command(bin, "-f", s.dir+"/haproxy.cfg")
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	done, err := proc.Spawn(cmd)
	must(t, err)
	t.Cleanup(func() { cmd.Process.Kill(); <-done })
	eventually(t, "the balancer answers", func() error {
		select {
		case <-done:
			text, _ := os.ReadFile(s.dir + "/haproxy.log")
			t.Fatalf("haproxy ended: %s", text)
		default:
		}
		_, err := os.Stat(s.dir + "/admin.sock")
		return err
	})
}

// startHooks serves what an operator's systemctl and ssh do, and writes the configuration that calls it.
func (s *stand) startHooks(port int) {
	answer := func(w http.ResponseWriter, err error) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /start/{store}", func(w http.ResponseWriter, r *http.Request) { answer(w, s.stores[r.PathValue("store")].start()) })
	mux.HandleFunc("POST /stop/{store}", func(w http.ResponseWriter, r *http.Request) { answer(w, s.stores[r.PathValue("store")].stop()) })
	mux.HandleFunc("POST /restart/{api}", func(w http.ResponseWriter, r *http.Request) {
		a := s.apis[r.PathValue("api")]
		err := a.Stop()
		if err == nil {
			err = a.Start(context.WithoutCancel(r.Context()), s.storeAt(r.FormValue("store")))
		}
		answer(w, err)
	})
	s.hooks = http.Server{Addr: fmt.Sprintf("127.0.0.1:%d", port), Handler: mux}
	go s.hooks.ListenAndServe()
	s.t.Cleanup(func() { s.hooks.Close() })

	tool, err := proc.Binary(proc.Quorate)
	must(s.t, err)
	etcdutl, err := proc.Binary(proc.Etcdutl)
	must(s.t, err)
	must(s.t, os.WriteFile(s.dir+"/tool", fmt.Appendf(nil, breaks, s.dir, tool), 0o700))
	admin, err := s.plane.Cluster.Issue("admin", "the-operator", "system:masters")
	must(s.t, err)
	conf := fmt.Sprintf(`API=%s STORE=%s ETCD=%s QUORATE=%s
APISERVERS="cp1 cp2"
TLS="--cacert %s --cert %s --key %s"
ADMIN="--cacert %s --cert %s --key %s"
MAP=%[11]s/switchover.map SOCKET=%[11]s/admin.sock STATE=%[11]s/state QUORATE_DIR=%[11]s/quorate ETCD_DIR=%[11]s/etcd TOOL=%[12]s
balancer_command() {
	case "$2 ${BREAK-}" in *"api read-write open") kill -9 $$ ;; esac
	printf '%%s\n' "$2" | curl -sS -m 5 --unix-socket "$SOCKET" telnet://haproxy
}
hook() { curl -fsS -X POST "http://127.0.0.1:%[13]d/$1"; }
restart_apiserver() { hook "restart/$1?store=$2"; }
start_quorate() { hook start/quorate; }
stop_quorate() { hook stop/quorate; }
start_etcd() { hook start/etcd; }
stop_etcd() { hook stop/etcd; }
QUORATE_MEMBERS=${QUORATE_AS-} ETCD_MEMBERS=${ETCD_AS-} ETCDUTL=%[14]s
`, s.api, s.door, s.stores["etcd"].url, s.stores["quorate"].url, s.storeCA.File, s.cert.Cert, s.cert.Key, s.plane.Cluster.File, admin.Cert, admin.Key,
		s.dir, s.dir+"/tool", port, etcdutl)
	s.conf = s.dir + "/switchover.conf"
	must(s.t, os.WriteFile(s.conf, []byte(conf), 0o600))
}

// breaks is the tool, which fails in the middle of a copy, or kills the script then, when it is told to.
const breaks = `#!/bin/sh
case "$1 $2 ${BREAK-}" in
"import "*" copy") echo "the disk is full" >&2; exit 1 ;;
"etcdutl snapshot kill") kill -9 "$(cat %s/state/lock/pid)"; exit 1 ;;
esac
exec %s "$@"
`

// as names the only member of a store, for a copy in which it becomes a new one.
func (s *stand) as(name string) string {
	for _, a := range s.stores[name].args {
		if members, ok := strings.CutPrefix(a, "--initial-cluster="); ok {
			return strings.ToUpper(name) + "_AS=" + members
		}
	}
	panic("there is no --initial-cluster")
}

// script runs switchover.sh and returns what it printed.
func (s *stand) script(command string, env ...string) (string, error) {
	s.t.Helper()
	cmd := exec.Command("sh", "../../../deploy/switchover/switchover.sh", s.conf, command)
	cmd.Env = append(os.Environ(), env...)
	begin := time.Now()
	// Not a pipe: the end of the script is when it ends, not when the last thing that it started does.
	out, err := os.CreateTemp(s.dir, command+"-")
	must(s.t, err)
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	text, _ := os.ReadFile(out.Name())
	s.t.Logf("switchover.sh %s: %.1f s, %v\n%s", command, time.Since(begin).Seconds(), err, text)
	return string(text), err
}

// run is script, which must work.
func (s *stand) run(command string, env ...string) string {
	s.t.Helper()
	out, err := s.script(command, env...)
	if err != nil {
		for name, a := range s.apis {
			s.t.Logf("end of the log of %s:\n%s", name, a.LogTail(3000))
		}
		s.t.Fatalf("switchover.sh %s: %v", command, err)
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-tick.C {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("not within a minute: %s: %v", what, err)
}
