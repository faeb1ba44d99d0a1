package main

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"

	"go.uber.org/zap"

	"quorate.dev/quorate/tcpproxy"
)

// zone is DNS with the records of one name.
type zone struct {
	name    string
	records []*net.SRV
}

func (z zone) LookupSRV(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
	if full := "_" + service + "._" + proto + "." + name; full != z.name {
		return "", nil, &net.DNSError{Err: "no such host", Name: full, IsNotFound: true}
	}
	return z.name, z.records, nil
}

func (z zone) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if host == "self" {
		return []netip.Addr{netip.MustParseAddr("::ffff:127.0.0.1")}, nil
	}
	a, err := netip.ParseAddr(host)
	return []netip.Addr{a}, err
}

// TestGatewayTargets: who connections are passed on to, by flags and by DNS.
func TestGatewayTargets(t *testing.T) {
	dns := zone{"_etcd-client-x._tcp.example.com", []*net.SRV{{Target: "a.", Port: 1, Priority: 2, Weight: 3}, {Target: "b.", Port: 4}}}
	for _, c := range []struct {
		f    gatewayFlags
		want []tcpproxy.Target
		err  string
	}{
		{gatewayFlags{endpoints: []string{"h:1", "http://i:2", "https://j:3/"}}, []tcpproxy.Target{{Addr: "h:1"}, {Addr: "i:2"}, {Addr: "j:3"}}, ""},
		{gatewayFlags{endpoints: []string{"h"}}, nil, `error parsing endpoint "h"`},
		{gatewayFlags{endpoints: []string{"h:http"}}, nil, `error parsing endpoint "h:http"`},
		{gatewayFlags{domain: "example.com", service: "x", insecure: true}, []tcpproxy.Target{{Addr: "a:1", Priority: 2, Weight: 3}, {Addr: "b:4"}}, ""},
		{gatewayFlags{domain: "example.com", service: "y", insecure: true}, nil, "no SRV records of _etcd-client-ssl-y._tcp.example.com"},
		{gatewayFlags{domain: "example.com", service: "x"}, nil, "http://a:1 is insecure"},
		{gatewayFlags{domain: "example.com", service: "x", ca: "/nowhere"}, nil, "--trusted-ca-file"},
		{gatewayFlags{domain: "example.com", service: "x", given: true}, nil, "--discovery-srv and --endpoints"},
	} {
		got, err := c.f.targets(t.Context(), dns, zap.NewNop())
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%+v: %v, error %v", c.f, got, err)
			}
			continue
		}
		if err != nil || len(got) != len(c.want) {
			t.Fatalf("%+v: %v, %v", c.f, got, err)
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%+v: %v", c.f, got)
			}
		}
	}
}

// TestGatewayIsNoMember: connections must not go round.
func TestGatewayIsNoMember(t *testing.T) {
	for _, c := range []struct {
		listen, target string
		refused        bool
	}{
		{"127.0.0.1:2379", "self:2379", true},
		{":2379", "127.0.0.1:2379", true},
		{"0.0.0.0:2379", "self:2379", true},
		{"127.0.0.1:2379", "self:2380", false},
		{"127.0.0.1:2379", "10.0.0.1:2379", false},
		{"127.0.0.1:2379", "unknown:2379", false},
	} {
		err := notItself(t.Context(), zone{}, c.listen, []tcpproxy.Target{{Addr: c.target}})
		if (err != nil) != c.refused {
			t.Errorf("%s before %s: %v", c.listen, c.target, err)
		}
	}
	if err := notItself(t.Context(), zone{}, "nonsense", nil); err == nil || !strings.Contains(err.Error(), "failed to validate listen address: nonsense") {
		t.Error(err)
	}
}

// TestGatewayCommand: what cannot work ends with a text and a code, under each name.
func TestGatewayCommand(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		errs string
	}{
		{"gateway start --endpoints x", 1, "quorate gateway start: error parsing endpoint \"x\""},
		{"gateway --endpoints x", 1, "quorate gateway: error parsing endpoint \"x\""},
		{"gateway --endpoints 127.0.0.1:1 --retry-delay 0s", 1, "retry delay 0s"},
		{"gateway --listen-addr x --endpoints 127.0.0.1:1", 1, "failed to validate listen address: x"},
		{"gateway --listen-addr 127.0.0.1:1 --endpoints 127.0.0.1:1", 1, "should not resolve to the gateway listen addr (127.0.0.1:1)"},
		{"gateway stop", 2, "unknown command"},
	} {
		code, _, errs := command(t, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(errs, c.errs) {
			t.Errorf("%s: %d %q", c.args, code, errs)
		}
	}
}
