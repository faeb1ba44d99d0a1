package discovery_test

import (
	stdtls "crypto/tls"
	"crypto/x509"
	"net"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"quorate.dev/quorate/discovery"
)

// TestClients checks which endpoints are found, and with which words nothing is.
func TestClients(t *testing.T) {
	const plain, secure = "_etcd-client._tcp.example.com", "_etcd-client-ssl._tcp.example.com"
	one := []*net.SRV{{Target: "A.test.", Port: 2379, Priority: 1, Weight: 7}}
	two := []*net.SRV{{Target: "b.test.", Port: 1}, {Target: ".", Port: 2}}
	for _, c := range []struct {
		what    string
		records map[string][]*net.SRV
		broken  string
		suffix  string
		want    string // URLs, or words of the error after "error: ", separated by "|"
	}{
		{"plain", map[string][]*net.SRV{plain: one}, "", "", "http://a.test:2379/1/7"},
		{"secure first", map[string][]*net.SRV{plain: one, secure: two}, "", "", "https://b.test:1/0/0 http://a.test:2379/1/7"},
		{"suffix", map[string][]*net.SRV{plain: one, "_etcd-client-x._tcp.example.com": two}, "", "x", "http://b.test:1/0/0"},
		{"one name fails", map[string][]*net.SRV{plain: one}, secure, "", "http://a.test:2379/1/7"},
		{"nothing", nil, "", "", "error: no SRV records of " + secure + "|" + plain + "|--endpoints"},
		{"only a lone dot", map[string][]*net.SRV{plain: two[1:]}, "", "", "error: no SRV records"},
		{"failure", nil, plain, "", "error: " + plain + "|server misbehaving"},
	} {
		found, err := discovery.Clients(t.Context(), &zone{records: c.records, broken: c.broken}, "example.com", c.suffix)
		words, refused := strings.CutPrefix(c.want, "error: ")
		if !refused {
			var got []string
			for _, e := range found {
				got = append(got, strings.Join([]string{e.URL.String(), string(rune('0' + e.Priority)), string(rune('0' + e.Weight))}, "/"))
			}
			if err != nil || strings.Join(got, " ") != c.want {
				t.Errorf("%s: %v, %v, want %s", c.what, got, err, c.want)
			}
			continue
		}
		for word := range strings.SplitSeq(words, "|") {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %v, error %v does not say %q", c.what, found, err, word)
			}
		}
	}
}

// TestSecure: who shows a certificate for the name is kept, the others are named with what is wrong.
func TestSecure(t *testing.T) {
	server := httptest.NewUnstartedServer(nil)
	server.Config.ErrorLog = nil
	server.StartTLS()
	defer server.Close()
	plain := httptest.NewServer(nil)
	defer plain.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	var found []discovery.Endpoint
	for _, text := range []string{server.URL, "http://" + server.Listener.Addr().String(), "https://" + plain.Listener.Addr().String(), "https://" + gone.Addr().String()} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, discovery.Endpoint{URL: *u})
	}
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	good, err := discovery.Secure(t.Context(), found, &stdtls.Config{RootCAs: roots, ServerName: "example.com"})
	if !slices.Equal(good, found[:1]) || err == nil {
		t.Errorf("%v, %v", good, err)
	}
	for i, word := range []string{"is insecure", "first record does not look like a TLS handshake", "refused"} {
		if err != nil && !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %q is not in %v", found[i+1].URL.String(), word, err)
		}
	}
	if good, err := discovery.Secure(t.Context(), found[:1], &stdtls.Config{RootCAs: roots, ServerName: "other.test"}); len(good) != 0 || err == nil {
		t.Errorf("another name: %v, %v", good, err)
	}
}
