package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"quorate.dev/quorate/config"
	"quorate.dev/quorate/internal/freeport"
	"quorate.dev/quorate/internal/pki"
	"quorate.dev/quorate/node"
	"quorate.dev/quorate/server"
)

// site is a cluster of members inside the test.
type site struct {
	t     *testing.T
	sets  []map[string]string
	nodes []*instance
}

// newSite makes the settings of n members whose peers use TLS as more says; the sides' addresses are free ones.
func newSite(t *testing.T, n int, more func(i int) []string) *site {
	s := &site{t: t, nodes: make([]*instance, n)}
	var initial []string
	for i := range n {
		peer := "https://" + freeport.Address(t)
		s.sets = append(s.sets, settings(t.TempDir(), append([]string{
			"name", fmt.Sprint("m", i+1), "listen-peer-urls", peer, "initial-advertise-peer-urls", peer,
		}, more(i)...)...))
		initial = append(initial, fmt.Sprintf("m%d=%s", i+1, peer))
	}
	for _, set := range s.sets {
		set["initial-cluster"] = strings.Join(initial, ",")
	}
	return s
}

// start starts members, which only answer when most are there.
func (s *site) start(which ...int) {
	s.t.Helper()
	failed := make(chan error, len(which))
	for _, i := range which {
		go func() {
			var err error
			s.nodes[i], err = launch(s.t, s.sets[i])
			failed <- err
		}()
	}
	for range which {
		if err := <-failed; err != nil {
			s.t.Fatal(err)
		}
	}
}

// client connects to one member.
func (s *site) client(i int) *clientv3.Client { return dial(s.t, nil, s.nodes[i].ClientURLs()...) }

func (s *site) put(i int, key, value string) {
	s.t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: s.nodes[i].ClientURLs(), Logger: zap.NewNop()})
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Put(within(s.t), key, value); err != nil {
		s.t.Fatalf("put by way of m%d: %v", i+1, err)
	}
}

// expect reads a key at one member, through the leader. When a snapshot comes after the start, the member begins anew.
func (s *site) expect(i int, key, value string) {
	s.t.Helper()
	for {
		r, err := s.client(i).Get(within(s.t), key)
		if errors.Is(s.nodes[i].Err(), node.ErrInstall) {
			s.nodes[i].stop()
			s.start(i)
			continue
		}
		if err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != value {
			s.t.Fatalf("m%d has %v for %s, %v; want %s", i+1, r, key, err, value)
		}
		return
	}
}

// TestTLSCluster: three members whose peers verify each other found a cluster; one that fell behind gets a snapshot, one that is
// healed gets the leader's state, and a fourth one joins. One with a certificate of another authority, or for another address,
// or revoked, gets nowhere, and both sides say why.
func TestTLSCluster(t *testing.T) {
	a, other := newAuthority(t), pki.New(t, "other", time.Now())
	revoked := a.Issue("revoked", nil)
	crl := pki.WriteFile(t, a.dir, "crl", a.Revoke(revoked.Leaf))
	secure := func(server, client *pki.Pair) []string {
		name := server.Leaf.SerialNumber.String()
		cert, key := server.Write(a.dir, name)
		out := []string{"peer-cert-file", cert, "peer-key-file", key, "peer-trusted-ca-file", a.ca, "peer-client-cert-auth", "true", "peer-crl-file", crl,
			"snapshot-catchup-entries", "10", "snapshot-count", "10"}
		if client != nil {
			cert, key = client.Write(a.dir, name+"-client")
			out = append(out, "peer-client-cert-file", cert, "peer-client-key-file", key)
		}
		return out
	}
	serverOnly := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
	clientOnly := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }
	s := newSite(t, 3, func(i int) []string {
		if i == 0 { // its roles have certificates of their own
			return secure(a.Issue("m1", serverOnly), a.Issue("m1", clientOnly))
		}
		return secure(a.Issue(fmt.Sprint("m", i+1), nil), nil)
	})
	s.start(0, 1, 2)
	s.put(0, "a", "1")
	s.expect(2, "a", "1")

	s.nodes[2].stop()
	for i := range 40 {
		s.put(i%2, "b", fmt.Sprint(i))
	}
	s.start(2)
	s.expect(2, "b", "39")

	s.nodes[2].stop()
	if _, err := server.Heal(s.nodes[2].cfg.Member, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	s.put(0, "c", "healed")
	s.start(2)
	s.expect(2, "c", "healed")
	if s.nodes[2].log.FilterMessage("fetched the leader's store").Len() == 0 {
		t.Error("the member was not healed by another")
	}

	s.join(secure(a.Issue("m4", nil), nil))
	s.expect(3, "c", "healed")

	for name, bad := range map[string]struct {
		with []string
		line string // of a member
	}{
		"of another authority": {secure(other.Issue("m5", nil), nil), "unknown authority"},
		"of another address": {secure(a.Issue("m5", func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = []net.IP{net.IPv4(127, 0, 0, 9)}, nil }), nil),
			"not 127.0.0.1"},
		"revoked": {secure(revoked, nil), "revoked"},
	} {
		if _, err := s.tryJoin(bad.with); err == nil || !strings.Contains(err.Error(), "tls: ") {
			t.Errorf("%s: joined, or does not know why it cannot: %v", name, err)
		}
		s.nodes[0].awaitLine(t, "rejected connection on peer endpoint", bad.line)
	}
}

// join adds a member to the running cluster.
func (s *site) join(more []string) {
	s.t.Helper()
	set := s.joining(more)
	c := s.client(0)
	eventually(s.t, "the cluster is healthy enough for another member", func() bool {
		_, err := c.MemberAdd(within(s.t), []string{set["listen-peer-urls"]})
		return err == nil
	})
	s.sets, s.nodes = append(s.sets, set), append(s.nodes, nil)
	s.start(len(s.sets) - 1)
}

// tryJoin starts a member that nobody has added.
func (s *site) tryJoin(more []string) (*instance, error) { return launch(s.t, s.joining(more)) }

func (s *site) joining(more []string) map[string]string {
	peer, name := "https://"+freeport.Address(s.t), fmt.Sprint("m", len(s.sets)+1)
	initial := name + "=" + peer
	for i, set := range s.sets {
		initial += fmt.Sprintf(",m%d=%s", i+1, set["listen-peer-urls"])
	}
	return settings(s.t.TempDir(), append([]string{"name", name, "listen-peer-urls", peer, "initial-advertise-peer-urls", peer, "initial-cluster", initial,
		"initial-cluster-state", "existing"}, more...)...)
}

// TestPeerAutoTLS: members with certificates of their own making form a cluster.
func TestPeerAutoTLS(t *testing.T) {
	s := newSite(t, 3, func(int) []string { return []string{"peer-auto-tls", "true"} })
	s.start(0, 1, 2)
	s.put(0, "a", "1")
	s.expect(2, "a", "1")
}

// TestRotation: certificate, CA bundle and revocation list of a server are replaced by those of another authority while a client
// writes and watches. Nothing is lost: connections that exist go on, and new ones are judged by the new files.
func TestRotation(t *testing.T) {
	old, next := newAuthority(t), pki.New(t, "next", time.Now())
	write := func(a *pki.Authority, bundle ...*pki.Authority) {
		a.Issue("server", nil).Write(old.dir, "server")
		pki.WriteFile(t, old.dir, "ca.pem", pki.Bundle(bundle...))
	}
	mallory := next.Issue("mallory", nil)
	crl := pki.WriteFile(t, old.dir, "crl", old.Revoke())
	write(old.Authority, old.Authority)
	m := must(t, settings(t.TempDir(), "listen-client-urls", "https://127.0.0.1:0", "advertise-client-urls", "https://127.0.0.1:0", "client-crl-file", crl,
		"cert-file", old.dir+"/server.pem", "key-file", old.dir+"/server.key", "trusted-ca-file", old.ca, "client-cert-auth", "true"))
	url := m.ClientURLs()[0]
	load := startLoad(t, dial(t, old.client(old.Issue("alice", nil)), url))
	load.await(50)

	trusted := pki.Pool(old.Authority, next)
	as := func(p *pki.Pair) *tls.Config {
		pair := p.TLS()
		return &tls.Config{RootCAs: trusted, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }}
	}
	address := strings.TrimPrefix(url, "https://")
	write(old.Authority, old.Authority, next) // first both authorities count,
	eventually(t, "a client of the new authority passes", func() bool { return handshake(address, as(next.Issue("bob", nil))) == nil })
	write(next, next) // then the new one alone
	pki.WriteFile(t, old.dir, "crl", next.Revoke(mallory.Leaf))
	eventually(t, "a client of the old authority is refused", func() bool { return handshake(address, as(old.Issue("carol", nil))) != nil })
	eventually(t, "a revoked client is refused", func() bool { return handshake(address, as(mallory)) != nil })
	later := startLoad(t, dial(t, &tls.Config{RootCAs: pki.Pool(next), Certificates: []tls.Certificate{next.Issue("bob", nil).TLS()}}, url))
	later.await(50)
	load.await(50)
	for _, l := range []*workload{load, later} {
		l.stop()
	}
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(patience); !holds(); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited %v until %s", patience, what)
		}
	}
}

// workload puts one key again and again and watches it.
type workload struct {
	t     *testing.T
	seen  chan int64 // versions as the watch shows them
	done  chan error
	end   context.CancelFunc
	count int64
}

var workloads int

func startLoad(t *testing.T, c *clientv3.Client) *workload {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &workload{t: t, seen: make(chan int64, 1<<20), done: make(chan error, 2), end: cancel}
	workloads++
	key := fmt.Sprint("load", workloads)
	watch := c.Watch(ctx, key, clientv3.WithCreatedNotify())
	if r := <-watch; !r.Created {
		t.Fatalf("no watch: %v", r.Err())
	}
	go func() {
		want := int64(1)
		for r := range watch {
			for _, e := range r.Events {
				if e.Kv.Version != want {
					w.done <- fmt.Errorf("the watch shows version %d after %d", e.Kv.Version, want-1)
					return
				}
				w.seen <- want
				want++
			}
			if err := r.Err(); err != nil && ctx.Err() == nil {
				w.done <- fmt.Errorf("watch: %w", err)
				return
			}
		}
		w.done <- nil
	}()
	go func() {
		for ctx.Err() == nil {
			if _, err := c.Put(ctx, key, "v"); err != nil && ctx.Err() == nil {
				w.done <- fmt.Errorf("put: %w", err)
				return
			}
		}
		w.done <- nil
	}()
	return w
}

// await waits until the watch has shown n more puts.
func (w *workload) await(n int) {
	w.t.Helper()
	limit := time.After(patience)
	for range n {
		select {
		case w.count = <-w.seen:
		case err := <-w.done:
			w.t.Fatalf("after %d puts: %v", w.count, err)
		case <-limit:
			w.t.Fatalf("the load stopped after %d puts", w.count)
		}
	}
}

func (w *workload) stop() {
	w.t.Helper()
	w.end()
	for range 2 {
		if err := <-w.done; err != nil {
			w.t.Error(err)
		}
	}
}

// TestDiscoveryTLS: a member finds its cluster at a service that wants certificates, and not at one of an unknown authority.
func TestDiscoveryTLS(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.Issue("service", nil).Write(a.dir, "service")
	service := must(t, settings(t.TempDir(), "listen-client-urls", "https://127.0.0.1:0", "advertise-client-urls", "https://127.0.0.1:0",
		"cert-file", cert, "key-file", key, "trusted-ca-file", a.ca))
	c := dial(t, a.client(a.Issue("alice", nil)), service.ClientURLs()...)
	if _, err := c.Put(within(t), "/_etcd/registry/T/_config/size", "1"); err != nil {
		t.Fatal(err)
	}
	cert, key = a.Issue("m1", nil).Write(a.dir, "m1")
	endpoint := service.ClientURLs()[0]
	for _, e := range []string{endpoint, strings.TrimPrefix(endpoint, "https://")} { // the second by its certificates
		m := must(t, settings(t.TempDir(), "name", "m1", "discovery-token", "T", "discovery-endpoints", e,
			"discovery-cacert", a.ca, "discovery-cert", cert, "discovery-key", key,
			"listen-peer-urls", "http://127.0.0.1:0", "initial-advertise-peer-urls", "http://localhost:1"))
		m.stop()
	}
	stranger := pki.WriteFile(t, a.dir, "stranger.pem", pki.Bundle(pki.New(t, "stranger", time.Now())))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	core, logs := observer.New(zap.InfoLevel)
	go func() {
		conf := config.New()
		for name, value := range settings(t.TempDir(), "discovery-token", "T", "discovery-endpoints", endpoint, "discovery-cacert", stranger) {
			if err := conf.Set(name, value); err != nil {
				done <- err
				return
			}
		}
		err := conf.Finish()
		if err == nil {
			_, err = server.Start(ctx, conf, zap.New(core))
		}
		done <- err
	}()
	m := &instance{log: logs}
	m.awaitLine(t, "the discovery service could not be asked; trying again", "unknown authority")
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
