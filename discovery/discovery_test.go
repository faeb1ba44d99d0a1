package discovery_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"quorate.dev/quorate/discovery"
)

// zone answers from memory: records by full name, addresses by host.
type zone struct {
	records map[string][]*net.SRV
	hosts   map[string]string // comma-separated addresses
	broken  string            // the name whose answer is an error
}

func (z *zone) LookupSRV(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
	full := "_" + service + "._" + proto + "." + name
	if full == z.broken {
		return "", nil, &net.DNSError{Err: "server misbehaving", Name: full, IsTemporary: true}
	}
	if len(z.records[full]) == 0 {
		return "", nil, &net.DNSError{Err: "no such host", Name: full, IsNotFound: true}
	}
	return full, z.records[full], nil
}

func (z *zone) LookupNetIP(_ context.Context, _, host string) (out []netip.Addr, err error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	list, ok := z.hosts[strings.ToLower(strings.TrimSuffix(host, "."))]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	for text := range strings.SplitSeq(list, ",") {
		out = append(out, netip.MustParseAddr(text))
	}
	return out, nil
}

// records makes SRV records of targets such as a.test:2380.
func records(t *testing.T, targets ...string) (out []*net.SRV) {
	t.Helper()
	for _, text := range targets {
		host, port, err := net.SplitHostPort(text)
		if err != nil {
			t.Fatal(err)
		}
		n, err := net.LookupPort("tcp", port)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, &net.SRV{Target: host + ".", Port: uint16(n)})
	}
	return out
}

func urls(t *testing.T, list ...string) (out []url.URL) {
	t.Helper()
	for _, text := range list {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, *u)
	}
	return out
}

const (
	plain = "_etcd-server._tcp.example.com"
	tls   = "_etcd-server-ssl._tcp.example.com"
)

var hosts = map[string]string{"a.test": "10.0.0.1", "b.test": "10.0.0.2", "c.test": "10.0.0.3,10.0.1.3", "six.test": "::ffff:10.0.0.1"}

// TestSRV checks who is found, under which names, and what is refused with which words.
func TestSRV(t *testing.T) {
	three := records(t, "c.test:2380", "a.test:2380", "B.Test:2380")
	for _, c := range []struct {
		what    string
		records map[string][]*net.SRV
		broken  string
		suffix  string
		name    string
		own     []string
		want    string // the members, or words of the error after "error: ", separated by "|"
	}{
		{"plain", map[string][]*net.SRV{plain: three}, "", "", "m", []string{"http://b.test:2380"},
			"0=http://a.test:2380,m=http://b.test:2380,1=http://c.test:2380"},
		{"own by address", map[string][]*net.SRV{plain: three}, "", "", "m", []string{"http://10.0.1.3:2380"},
			"0=http://a.test:2380,1=http://b.test:2380,m=http://c.test:2380"},
		{"own by mapped address", map[string][]*net.SRV{plain: three}, "", "", "m", []string{"http://six.test:2380"},
			"m=http://a.test:2380,0=http://b.test:2380,1=http://c.test:2380"},
		{"own name is a number", map[string][]*net.SRV{plain: three}, "", "", "0", []string{"http://b.test:2380"},
			"1=http://a.test:2380,0=http://b.test:2380,2=http://c.test:2380"},
		{"suffix", map[string][]*net.SRV{"_etcd-server-x._tcp.example.com": records(t, "a.test:1"), plain: three}, "", "x", "m", []string{"http://a.test:1"},
			"m=http://a.test:1"},
		{"https", map[string][]*net.SRV{tls: records(t, "a.test:2380", "b.test:2380")}, "", "", "m", []string{"https://a.test:2380"},
			"m=https://a.test:2380,0=https://b.test:2380"},
		{"both", map[string][]*net.SRV{tls: records(t, "b.test:2380"), plain: records(t, "a.test:2380")}, "", "", "m", []string{"http://a.test:2380"},
			"m=http://a.test:2380,0=https://b.test:2380"},
		{"same host, two ports", map[string][]*net.SRV{plain: records(t, "a.test:1", "a.test:2")}, "", "", "m", []string{"http://a.test:2"},
			"0=http://a.test:1,m=http://a.test:2"},
		{"two own URLs", map[string][]*net.SRV{plain: records(t, "a.test:1", "b.test:2")}, "", "", "m", []string{"http://a.test:1", "http://b.test:2"},
			"m=http://a.test:1,m=http://b.test:2"},
		{"service withdrawn", map[string][]*net.SRV{tls: {{Target: "."}}, plain: records(t, "a.test:1")}, "", "", "m", []string{"http://a.test:1"},
			"m=http://a.test:1"},
		{"nothing", nil, "", "", "m", []string{"http://a.test:1"}, "error: no SRV records of " + tls + "|" + plain},
		{"one name fails", map[string][]*net.SRV{plain: three}, tls, "", "m", []string{"http://a.test:2380"}, "error: " + tls + "|server misbehaving"},
		{"a target fails", map[string][]*net.SRV{plain: records(t, "a.test:1", "gone.test:1")}, "", "", "m", []string{"http://a.test:1"},
			"error: " + plain + "|gone.test:1|no such host"},
		{"own host fails", map[string][]*net.SRV{plain: three}, "", "", "m", []string{"http://gone.test:1"}, "error: http://gone.test:1|no such host"},
		{"not named", map[string][]*net.SRV{plain: three}, "", "", "m", []string{"http://a.test:9"}, "error: " + plain + "|b.test:2380|http://a.test:9"},
		{"one of two named", map[string][]*net.SRV{plain: three}, "", "", "m", []string{"http://a.test:2380", "http://a.test:9"}, "error: http://a.test:9"},
		{"named by two targets", map[string][]*net.SRV{plain: records(t, "a.test:1", "six.test:1")}, "", "", "m", []string{"http://a.test:1"}, "error: a.test:1 http://six.test:1"},
		{"named twice", map[string][]*net.SRV{plain: records(t, "a.test:1", "b.test:1", "b.test:1")}, "", "", "m", []string{"http://a.test:1"}, "error: http://b.test:1 twice"},
		{"other scheme", map[string][]*net.SRV{tls: three}, "", "", "m", []string{"http://a.test:2380"}, "error: " + tls + "|https://a.test:2380|http://a.test:2380"},
		{"socket", map[string][]*net.SRV{plain: three}, "", "", "m", []string{"unix:///x"}, "error: unix:///x"},
	} {
		got, err := discovery.SRV(t.Context(), &zone{records: c.records, hosts: hosts, broken: c.broken},
			discovery.Question{Domain: "example.com", Suffix: c.suffix, Name: c.name, Advertised: urls(t, c.own...)})
		words, refused := strings.CutPrefix(c.want, "error: ")
		if !refused {
			if text := discovery.Initial(got); err != nil || text != c.want {
				t.Errorf("%s: %q, %v, want %q", c.what, text, err, c.want)
			}
			continue
		}
		for word := range strings.SplitSeq(words, "|") {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("%s: error %v does not say %q", c.what, err, word)
			}
		}
	}
}

// TestDNS asks a real DNS server, over UDP, with the resolver that the server uses.
func TestDNS(t *testing.T) {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	go serveDNS(socket)
	dns := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", socket.LocalAddr().String())
	}}
	q := discovery.Question{Domain: "example.com.", Name: "m", Advertised: urls(t, "http://127.0.0.2:2380")}
	got, err := discovery.SRV(t.Context(), dns, q)
	if text := discovery.Initial(got); err != nil || text != "0=http://n1.example.com:2380,m=http://n2.example.com:2380" {
		t.Errorf("%q, %v", text, err)
	}
	q.Suffix = "other"
	if _, err := discovery.SRV(t.Context(), dns, q); err == nil || !strings.Contains(err.Error(), "_etcd-server-other._tcp.example.com.") {
		t.Errorf("a service without records: %v", err)
	}
}

// serveDNS answers for example.com, where nN has the address 127.0.0.N, until the socket is closed.
func serveDNS(socket net.PacketConn) {
	buf := make([]byte, 2048)
	for {
		n, from, err := socket.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		m.Response, m.Authoritative, m.Additionals = true, true, nil
		q := m.Questions[0]
		head := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
		var node byte
		_, hostErr := fmt.Sscanf(q.Name.String(), "n%d.example.com.", &node)
		switch {
		case q.Name.String() == "_etcd-server._tcp.example.com." && q.Type == dnsmessage.TypeSRV:
			for _, target := range []string{"n2.example.com.", "n1.example.com."} {
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.SRVResource{Port: 2380, Target: dnsmessage.MustNewName(target)}})
			}
		case hostErr != nil:
			m.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, node}}})
		}
		if answer, err := m.Pack(); err == nil {
			_, _ = socket.WriteTo(answer, from)
		}
	}
}
