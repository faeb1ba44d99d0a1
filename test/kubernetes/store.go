package kubernetes

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"quorate.dev/quorate/test/compat/proc"
)

// StoreUser is who an API server is for its store, by its certificate.
const StoreUser = "kube-apiserver"

// StoreCluster is one cluster of members of a kind, with certificates on both sides of every connection.
type StoreCluster struct {
	Kind    proc.Kind
	CA      *CA
	Members []*StoreMember
	root    Pair
	api     Pair
}

// StoreMember is one process, which may be down.
type StoreMember struct {
	Name string
	URL  string // for clients, the same after a restart
	// Flags are added to what it needs at the next start.
	Flags []string

	kind proc.Kind
	dir  string
	args []string
	*Process
}

// NewStoreCluster chooses addresses and makes certificates by ca. Its files are below dir/name.
func NewStoreCluster(kind proc.Kind, ca *CA, dir, name string, members int, flags ...string) (*StoreCluster, error) {
	c := &StoreCluster{Kind: kind, CA: ca}
	dir = filepath.Join(dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	server, err := ca.Issue(name+"-member", "member")
	if err != nil {
		return nil, err
	}
	if c.root, err = ca.Issue(name+"-root", "root"); err != nil {
		return nil, err
	}
	if c.api, err = ca.Issue(name+"-client", StoreUser); err != nil {
		return nil, err
	}
	ports, err := proc.FreePorts(2 * members)
	if err != nil {
		return nil, err
	}
	var initial []string
	peer := func(i int) string { return fmt.Sprintf("https://127.0.0.1:%d", ports[2*i+1]) }
	for i := range members {
		initial = append(initial, fmt.Sprintf("m%d=%s", i+1, peer(i)))
	}
	for i := range members {
		m := &StoreMember{Name: fmt.Sprintf("m%d", i+1), URL: fmt.Sprintf("https://127.0.0.1:%d", ports[2*i]), kind: kind, dir: dir}
		if kind == proc.Quorate {
			m.args = []string{"serve"}
		}
		m.args = append(m.args, "--name="+m.Name, "--data-dir="+filepath.Join(dir, m.Name), "--listen-client-urls="+m.URL, "--advertise-client-urls="+m.URL,
			"--listen-peer-urls="+peer(i), "--initial-advertise-peer-urls="+peer(i), "--initial-cluster="+strings.Join(initial, ","),
			"--cert-file="+server.Cert, "--key-file="+server.Key, "--trusted-ca-file="+c.CA.File, "--client-cert-auth",
			"--peer-cert-file="+server.Cert, "--peer-key-file="+server.Key, "--peer-trusted-ca-file="+c.CA.File, "--peer-client-cert-auth",
			"--watch-progress-notify-interval=5s")
		m.Flags = append(m.Flags, flags...)
		c.Members = append(c.Members, m)
	}
	return c, nil
}

// Start starts the process, on what is in its directory.
func (m *StoreMember) Start() error {
	bin, err := proc.Binary(m.kind)
	if err != nil {
		return err
	}
	m.Process, err = StartProcess(m.dir, m.Name, bin, append(slices.Clone(m.args), m.Flags...)...)
	return err
}

// Start starts all members and returns when they answer.
func (c *StoreCluster) Start(ctx context.Context) error {
	for _, m := range c.Members {
		if err := m.Start(); err != nil {
			return err
		}
	}
	client, err := c.Client()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if _, err := client.Get(ctx, "ready"); err != nil {
		return fmt.Errorf("%s does not answer: %w\n%s", c.Kind, err, c.Members[0].LogTail(4000))
	}
	return nil
}

// Kill ends all members.
func (c *StoreCluster) Kill() {
	for _, m := range c.Members {
		if m.Process != nil {
			m.Kill()
		}
	}
}

// URLs are those of the members for clients.
func (c *StoreCluster) URLs() (urls []string) {
	for _, m := range c.Members {
		urls = append(urls, m.URL)
	}
	return urls
}

// Store is how an API server comes to it.
func (c *StoreCluster) Store() Store { return Store{URLs: c.URLs(), CA: c.CA.File, Pair: c.api} }

// TLS is how root comes to it.
func (c *StoreCluster) TLS() (*tls.Config, error) { return clientTLS(c.CA.File, c.root) }

func clientTLS(ca string, p Pair) (*tls.Config, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", ca)
	}
	pair, err := tls.LoadX509KeyPair(p.Cert, p.Key)
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}, err
}

// Client is root's client.
func (c *StoreCluster) Client() (*clientv3.Client, error) { return c.client(c.root) }

// APIClient is a client with the rights of an API server.
func (c *StoreCluster) APIClient() (*clientv3.Client, error) { return c.client(c.api) }

func (c *StoreCluster) client(p Pair) (*clientv3.Client, error) {
	config, err := clientTLS(c.CA.File, p)
	if err != nil {
		return nil, err
	}
	return clientv3.New(clientv3.Config{Endpoints: c.URLs(), TLS: config, DialTimeout: time.Minute, Logger: zap.NewNop(), MaxCallSendMsgSize: 16 << 20})
}

// Protect turns authentication on: root may do everything, the API server's user may read and write what Kubernetes keeps, and nothing
// else.
func (c *StoreCluster) Protect(ctx context.Context) error {
	client, err := c.Client()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	noPassword := &clientv3.UserAddOptions{NoPassword: true}
	var errs []error
	step := func(_ any, err error) { errs = append(errs, err) }
	step(client.UserAddWithOptions(ctx, "root", "", noPassword))
	step(client.UserGrantRole(ctx, "root", "root"))
	step(client.RoleAdd(ctx, "kubernetes"))
	both := clientv3.PermissionType(clientv3.PermReadWrite)
	step(client.RoleGrantPermission(ctx, "kubernetes", "/registry/", clientv3.GetPrefixRangeEnd("/registry/"), both))
	step(client.RoleGrantPermission(ctx, "kubernetes", "compact_rev_key", "", both))
	step(client.UserAddWithOptions(ctx, StoreUser, "", noPassword))
	step(client.UserGrantRole(ctx, StoreUser, "kubernetes"))
	step(client.AuthEnable(ctx))
	return errors.Join(errs...)
}
