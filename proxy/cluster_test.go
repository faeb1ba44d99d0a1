package proxy_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"

	"quorate.dev/quorate/proxy"
	"quorate.dev/quorate/rpc"
)

func addresses(t *testing.T, c *clientv3.Client) (list []string) {
	t.Helper()
	resp, err := c.MemberList(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range resp.Members {
		list = append(list, m.ClientURLs...)
	}
	return list
}

// TestMemberList: with an advertised address clients are shown the proxy, or all that are registered, instead of the members.
func TestMemberList(t *testing.T) {
	s := store(t, nil)
	direct := client(t, s.ClientURLs()[0], nil)
	advertising := func(url, prefix string) *proxy.Proxy {
		return start(t, s.ClientURLs(), func(c *proxy.Config) {
			c.Advertise.URL, c.Advertise.Prefix = url, prefix
			if prefix != "" {
				c.Advertise.TTL = 60
			}
		})
	}
	alone := client(t, advertising("proxy:1", "").Address(), nil)
	resp, err := alone.MemberList(within(t))
	name, herr := os.Hostname()
	if err != nil || herr != nil || len(resp.Members) != 1 || resp.Header != nil || resp.Members[0].Name != name || resp.Members[0].ClientURLs[0] != "proxy:1" {
		t.Errorf("%v %v", resp, err)
	}
	if got, want := addresses(t, client(t, advertising("", "").Address(), nil)), addresses(t, direct); !slices.Equal(got, want) {
		t.Errorf("without an advertised address: %q, want %q", got, want)
	}
	one, two := advertising("proxy:2", "proxies"), advertising("proxy:3", "proxies")
	for _, p := range []*proxy.Proxy{one, two} {
		c := client(t, p.Address(), nil)
		eventually(t, "both proxies are listed", func() bool { return slices.Equal(addresses(t, c), []string{"proxy:2", "proxy:3"}) })
	}
	// The registration is what etcd's proxies and clients read.
	manager, err := endpoints.NewManager(direct, "proxies")
	if err != nil {
		t.Fatal(err)
	}
	registered, err := manager.List(within(t))
	if err != nil || registered["proxies/proxy:2"].Addr != "proxy:2" || registered["proxies/proxy:2"].Metadata != `{"name":"`+name+`"}` {
		t.Errorf("%v %v", registered, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := two.Stop(ctx); err != nil {
		t.Error(err)
	}
	c := client(t, one.Address(), nil)
	eventually(t, "a stopped proxy is gone at once", func() bool { return slices.Equal(addresses(t, c), []string{"proxy:2"}) })
}

// TestMemberDies: when a member is gone the proxy goes on with the others, and calls that it had not looked at are made there.
func TestMemberDies(t *testing.T) {
	answering := func(text string) *fake {
		return newFake(t, func(s *rpc.Server) {
			s.Unary(methodPut, func(c *rpc.Call, _ []byte) { c.Reply(rpc.RawMessage(text)) })
		})
	}
	one, two := answering("one"), answering("two")
	p := start(t, []string{one.address, two.address}, nil)
	c := dial(t, p.Address(), nil)
	put := func() string {
		t.Helper()
		body, err := c.call(methodPut, []byte{10, 1, 'k'})
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	seen := map[string]bool{}
	eventually(t, "both members get calls", func() bool {
		seen[put()] = true
		return len(seen) == 2
	})
	// GOAWAY first: a call that is on its way then was not looked at, and no call fails.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	gone := make(chan error, 1)
	go func() { gone <- one.Shutdown(ctx) }()
	for range 200 {
		put()
	}
	if err := wait(t, "the member is gone", gone); err != nil {
		t.Error(err)
	}
	for range 20 {
		if got := put(); got != "two" {
			t.Errorf("answered by %q", got)
		}
	}
}

// TestAutoSync: the endpoints become those of the members.
func TestAutoSync(t *testing.T) {
	s := store(t, nil)
	p := start(t, append(s.ClientURLs(), "127.0.0.1:1"), func(c *proxy.Config) { c.Store.AutoSync = 5 * time.Millisecond })
	eventually(t, "the endpoint that is no member's is gone", func() bool { return metric(t, p, "quorate_proxy_endpoints") == 1 })
}

// TestPassedOn: methods that etcd's proxy does not have reach the store.
func TestPassedOn(t *testing.T) {
	s := store(t, nil)
	c := dial(t, start(t, s.ClientURLs(), nil).Address(), nil)
	_, err := c.call("/etcdserverpb.Cluster/MemberPromote", []byte{0x08, 0x07})
	wantStatus(t, err, rpc.NotFound, "etcdserver: member not found")
	if body, err := c.call("/grpc.health.v1.Health/Check", nil); err != nil || string(body) != "\x08\x01" {
		t.Errorf("health: %x %v", body, err)
	}
	// The services, field 7 of ListServicesRequest: the answer names the store's.
	stream := openWith(t, c, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", []byte{0x3a, 1, '*'})
	if got := string(wait(t, "the services", stream.messages)); !strings.Contains(got, "etcdserverpb.KV") {
		t.Errorf("reflection: %q", got)
	}
	_, err = c.call("/etcdserverpb.KV/Nothing", nil)
	wantStatus(t, err, rpc.Unimplemented, "")
}
