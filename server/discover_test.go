package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"quorate.dev/quorate/config"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/internal/freeport"
	"quorate.dev/quorate/wal"
)

// dnsStub names localhost with these ports, and is broken without any.
type dnsStub []uint16

func (d dnsStub) LookupSRV(_ context.Context, service, _, name string) (string, []*net.SRV, error) {
	switch {
	case len(d) == 0:
		return "", nil, errors.New("DNS is down")
	case service != "etcd-server-blue" || name != "example.com":
		return "", nil, &net.DNSError{Err: "no such host", Name: service, IsNotFound: true}
	}
	var out []*net.SRV
	for _, port := range d {
		out = append(out, &net.SRV{Target: "localhost.", Port: port})
	}
	return "", out, nil
}

func (d dnsStub) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

// freePorts chooses ports that nobody listens on.
func freePorts(t *testing.T, n int) (out dnsStub) {
	t.Helper()
	for range n {
		out = append(out, uint16(freeport.Port(t)))
	}
	return out
}

// discoverer is the configuration of a member that advertises an address where DNS has a name.
func discoverer(t *testing.T, dir, name string, port uint16, more ...string) *config.Config {
	t.Helper()
	return settings(t, dir, name, port, append([]string{"discovery-srv", "example.com", "discovery-srv-name", "blue"}, more...)...)
}

// settings is the configuration of a member on any client port.
func settings(t *testing.T, dir, name string, port uint16, more ...string) *config.Config {
	t.Helper()
	peer := "http://127.0.0.1:" + strconv.Itoa(int(port))
	c := config.New()
	set := append([]string{"name", name, "data-dir", filepath.Join(dir, name), "listen-client-urls", "http://127.0.0.1:0", "advertise-client-urls", "http://127.0.0.1:0",
		"listen-peer-urls", peer, "initial-advertise-peer-urls", peer}, more...)
	for i := 0; i < len(set); i += 2 {
		if err := c.Set(set[i], set[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Finish(); err != nil {
		t.Fatal(err)
	}
	return c
}

func stopServer(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// TestDiscoverSRV founds a cluster of three by DNS alone: all agree who is in it, each under its own name, and a start with
// data asks DNS nothing.
func TestDiscoverSRV(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	dir, ports := t.TempDir(), freePorts(t, 3)
	var cs []*config.Config
	for i, port := range ports {
		cs = append(cs, discoverer(t, dir, fmt.Sprintf("m%d", i), port))
	}
	servers := startAll(ctx, t, cs, ports)
	for _, s := range servers[1:] { // what the log begins with must be the same everywhere
		first, err := servers[0].founders()
		if other, err2 := s.founders(); err != nil || err2 != nil || !reflect.DeepEqual(first, other) {
			t.Errorf("members found %v and %v, %v, %v", first, other, err, err2)
		}
	}
	want := map[string]string{}
	for i, port := range ports {
		want[fmt.Sprintf("m%d", i)] = fmt.Sprintf("http://localhost:%d", port)
	}
	for _, s := range servers {
		awaitNames(ctx, t, s, want)
	}
	for _, s := range servers {
		defer stopServer(t, s)
	}
	stopServer(t, servers[0])
	again, err := start(ctx, discoverer(t, dir, "m0", ports[0]), zap.NewNop(), dnsStub{})
	if err != nil {
		t.Fatalf("a start with data and without DNS: %v", err)
	}
	stopServer(t, again)
}

// startAll starts members at the same time, as they wait for each other.
func startAll(ctx context.Context, t *testing.T, cs []*config.Config, dns dnsStub) []*Server {
	t.Helper()
	servers, failed := make([]*Server, len(cs)), make(chan error, len(cs))
	for i, c := range cs {
		go func() {
			var err error
			servers[i], err = start(ctx, c, zap.NewNop(), dns)
			failed <- err
		}()
	}
	for range cs {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	return servers
}

// TestDiscoverAt founds a cluster of three at a discovery service. A fourth comes too late, a start with data asks nobody, and
// a token without a size, or with a wrong one, is refused.
func TestDiscoverAt(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	dir, ports := t.TempDir(), freePorts(t, 5)
	service, err := start(ctx, settings(t, dir, "service", ports[4]), zap.NewNop(), dnsStub{})
	if err != nil {
		t.Fatal(err)
	}
	address := urlsOf(service.addrs.client)[0]
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{address}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	for key, value := range map[string]string{"T/_config/size": "3", "none/_config/size": "none", "bad/_config/size": "3", "bad/members/1": "junk"} {
		if _, err := client.Put(ctx, "/_etcd/registry/"+key, value); err != nil {
			t.Fatal(err)
		}
	}
	at := func(i int, token string) *config.Config {
		return settings(t, dir, fmt.Sprintf("m%d", i), ports[i], "discovery-token", token, "discovery-endpoints", "127.0.0.1:1,"+address)
	}
	servers := startAll(ctx, t, []*config.Config{at(0, "T"), at(1, "T"), at(2, "T")}, dnsStub{})
	want := map[string]string{}
	for i := range servers {
		want[fmt.Sprintf("m%d", i)] = fmt.Sprintf("http://127.0.0.1:%d", ports[i])
	}
	for i, s := range servers {
		awaitNames(ctx, t, s, want)
		key := fmt.Sprintf("/_etcd/registry/T/members/%s", s.core.identity.member)
		if got, err := client.Get(ctx, key); err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != fmt.Sprintf("m%d=http://127.0.0.1:%d", i, ports[i]) {
			t.Errorf("%s holds %v, %v", key, got, err)
		}
	}
	for token, words := range map[string]string{"T": "the cluster is full: its 3 members are", "X": "put the number of members under /_etcd/registry/X/_config/size", "none": `holds "none"`, "bad": `/_etcd/registry/bad/members/1 holds "junk"`} {
		if _, err := start(ctx, at(3, token), zap.NewNop(), dnsStub{}); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("token %s: error %v does not say %q", token, err, words)
		}
	}
	stopServer(t, service)
	for _, s := range servers {
		defer stopServer(t, s)
	}
	stopServer(t, servers[0])
	again, err := start(ctx, at(0, "T"), zap.NewNop(), dnsStub{})
	if err != nil {
		t.Fatalf("a start with data and without the service: %v", err)
	}
	stopServer(t, again)
}

// awaitNames waits until the server's members have these names and peer URLs.
func awaitNames(ctx context.Context, t *testing.T, s *Server, want map[string]string) {
	t.Helper()
	poll := clock.Real().NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		got := map[string]string{}
		for _, m := range s.core.machine.View().Members.Members() {
			got[m.Name] = strings.Join(m.PeerURLs, ",")
		}
		if fmt.Sprint(got) == fmt.Sprint(want) {
			return
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			t.Fatalf("members are %v, want %v", got, want)
		}
	}
}

// TestDiscoverInterrupted finishes a founding that ended after the log was made, and refuses to guess while DNS is down.
func TestDiscoverInterrupted(t *testing.T) {
	dir, ports := t.TempDir(), freePorts(t, 1)
	s, err := start(t.Context(), discoverer(t, dir, "m", ports[0]), zap.NewNop(), ports)
	if err != nil {
		t.Fatal(err)
	}
	id := s.core.identity
	stopServer(t, s)

	fresh := discoverer(t, t.TempDir(), "m", ports[0])
	path, err := openDataDir(fresh.Member, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	log, err := wal.Create(path.log, wal.Options{}, wal.Metadata{Member: id.member, Cluster: id.cluster})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(log.Close(), path.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := start(t.Context(), fresh, zap.NewNop(), dnsStub{}); err == nil || !strings.Contains(err.Error(), "_etcd-server-ssl-blue._tcp.example.com: DNS is down") {
		t.Errorf("without DNS: %v", err)
	}
	s, err = start(t.Context(), fresh, zap.NewNop(), ports)
	if err != nil {
		t.Fatal(err)
	}
	defer stopServer(t, s)
	if s.core.identity != id {
		t.Errorf("identity %v, want %v", s.core.identity, id)
	}
}

// TestDiscoverRefused checks that a suffix without a domain is no cluster of one.
func TestDiscoverRefused(t *testing.T) {
	c := discoverer(t, t.TempDir(), "m", freePorts(t, 1)[0], "discovery-srv", "")
	if _, err := start(t.Context(), c, zap.NewNop(), dnsStub{}); err == nil || !strings.Contains(err.Error(), `--discovery-srv-name "blue" has no domain`) {
		t.Errorf("%v", err)
	}
}
