package certs_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorate.dev/quorate/certs"
	"quorate.dev/quorate/internal/pki"
)

// TestMatrix: the right certificates pass; every other is refused with a reason on both sides.
func TestMatrix(t *testing.T) {
	other := pki.New(t, "other", time.Now())
	for _, c := range []struct {
		name   string
		set    func(*site)
		conf   func(*site) *tls.Config
		client string // in the client's error, "" when it passes
		server string // in the server's reason
	}{
		{"right", nil, func(s *site) *tls.Config { return s.client("alice", nil) }, "", ""},
		{"none", nil, func(s *site) *tls.Config { return &tls.Config{RootCAs: pki.Pool(s.root)} }, "certificate required", "didn't provide a certificate"},
		{"client of a wrong CA", nil, func(s *site) *tls.Config {
			return insisting(s.root, other.Issue("alice", nil))
		}, "unknown certificate authority", "unknown authority"},
		{"expired client", nil, func(s *site) *tls.Config {
			return s.client("alice", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
		}, "expired certificate", "expired"},
		{"client not yet valid", nil, func(s *site) *tls.Config {
			return s.client("alice", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) })
		}, "expired certificate", "not yet valid"},
		{"certificate of a server only", nil, func(s *site) *tls.Config {
			return s.client("alice", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
		}, "bad certificate", "usage"},
		{"allowed name", func(s *site) { s.set.AllowedCNs = []string{"bob", "alice"} }, func(s *site) *tls.Config { return s.client("alice", nil) }, "", ""},
		{"name not allowed", func(s *site) { s.set.AllowedCNs = []string{"bob"} }, func(s *site) *tls.Config { return s.client("alice", nil) },
			"bad certificate", `client certificate authentication failed: the certificate of "alice"`},
		{"name allowed without a CA needs a certificate", func(s *site) { s.set.AllowedCNs, s.set.CA = []string{"bob"}, "" },
			func(s *site) *tls.Config { return &tls.Config{RootCAs: pki.Pool(s.root)} }, "certificate required", "didn't provide a certificate"},
		{"allowed host", func(s *site) { s.set.AllowedHostnames = []string{"localhost"} }, func(s *site) *tls.Config { return s.client("alice", nil) }, "", ""},
		{"host not allowed", func(s *site) { s.set.AllowedHostnames = []string{"a.example"} }, func(s *site) *tls.Config { return s.client("alice", nil) },
			"bad certificate", "client certificate authentication failed"},
		{"server of a wrong CA", nil, func(s *site) *tls.Config {
			return &tls.Config{RootCAs: pki.Pool(other), Certificates: []tls.Certificate{s.inter.Issue("alice", nil).TLS()}}
		}, "unknown authority", "bad certificate"},
		{"server with a wrong name", func(s *site) {
			s.set.Cert, s.set.Key = s.inter.Issue("server", func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 2)} }).Write(s.dir, "server")
		}, func(s *site) *tls.Config { return s.client("alice", nil) }, "not 127.0.0.1", "bad certificate"},
		{"expired server", func(s *site) {
			s.set.Cert, s.set.Key = s.inter.Issue("server", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }).Write(s.dir, "server")
		}, func(s *site) *tls.Config { return s.client("alice", nil) }, "expired", "bad certificate"},
		{"too old a version", func(s *site) { s.set.Min = tls.VersionTLS13 }, func(s *site) *tls.Config {
			conf := s.client("alice", nil)
			conf.MaxVersion = tls.VersionTLS12
			return conf
		}, "protocol version", "unsupported versions"},
		{"no protocol in common", nil, func(s *site) *tls.Config {
			conf := s.client("alice", nil)
			conf.NextProtos = []string{"smtp"}
			return conf
		}, "no application protocol", "unsupported application protocols"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			if c.set != nil {
				c.set(s)
			}
			s.listen(s.options(), false)
			_, err := s.talk(c.conf(s))
			if c.client == "" {
				if err != nil {
					t.Fatalf("refused: %v %v", err, s.rejected)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.client) {
				t.Errorf("the client got %v, want %q", err, c.client)
			}
			s.await("the rejection", func() bool { return len(s.rejected) == 1 })
			if text := s.rejected[0].Err.Error(); !strings.Contains(text, c.server) {
				t.Errorf("the server says %q, want %q", text, c.server)
			}
		})
	}
}

// insisting shows a certificate although the server did not ask for one of its authority.
func insisting(trusted *pki.Authority, p *pki.Pair) *tls.Config {
	own := p.TLS()
	return &tls.Config{RootCAs: pki.Pool(trusted), GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }}
}

// TestCiphers: the suites that are named are used, and no others.
func TestCiphers(t *testing.T) {
	s := newSite(t)
	p, err := certs.ParseProtocol([]string{"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305"}, "TLS1.2", "TLS1.2")
	if err != nil {
		t.Fatal(err)
	}
	s.set.Protocol = p
	s.listen(s.options(), false)
	state, err := s.talk(s.client("alice", nil))
	if err != nil || state.Version != tls.VersionTLS12 || state.CipherSuite != tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 {
		t.Errorf("%v, version %x, suite %x", err, state.Version, state.CipherSuite)
	}
	for _, c := range []struct {
		suites    []string
		low, high string
		want      string
	}{
		{[]string{"TLS_FAST"}, "", "", `unexpected TLS cipher suite "TLS_FAST"`},
		{nil, "TLS1.1", "", `unexpected TLS version "TLS1.1" (must be one of: TLS1.2, TLS1.3)`},
		{nil, "TLS1.3", "TLS1.2", "min version (TLS1.3) is greater than max version (TLS1.2)"},
		{[]string{"TLS_AES_128_GCM_SHA256"}, "TLS1.3", "", "cipher suites cannot be configured when only TLS1.3 is enabled"},
	} {
		if _, err := certs.ParseProtocol(c.suites, c.low, c.high); err == nil || err.Error() != c.want {
			t.Errorf("%v: %v, want %q", c, err, c.want)
		}
	}
}

// TestRevoked: what the list names is refused, as a leaf and as an authority in between, in both forms of the file.
func TestRevoked(t *testing.T) {
	for name, encode := range map[string]func([]byte) []byte{
		"DER": func(b []byte) []byte { return b },
		"PEM": func(b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: b}) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			bad, good := s.client("bad", nil), s.client("good", nil)
			s.set.CRL = pki.WriteFile(t, s.dir, "crl", encode(s.inter.Revoke(bad.Certificates[0].Leaf)))
			s.listen(s.options(), false)
			if _, err := s.talk(good); err != nil {
				t.Errorf("good: %v", err)
			}
			if _, err := s.talk(bad); err == nil || !strings.Contains(err.Error(), "bad certificate") {
				t.Errorf("bad: %v", err)
			}
			s.await("the rejection", func() bool { return len(s.rejected) == 1 && strings.Contains(s.rejected[0].Err.Error(), "revoked") })
			pki.WriteFile(t, s.dir, "crl", encode(s.root.Revoke(s.inter.Cert)))
			s.later()
			if _, err := s.talk(good); err == nil {
				t.Error("passed although the authority that signed it is revoked")
			}
		})
	}
}

// TestResumedSession: a session that is resumed is judged by what holds now, as a new one is.
func TestResumedSession(t *testing.T) {
	for name, change := range map[string]func(s *site, leaf *x509.Certificate){
		"revoked": func(s *site, leaf *x509.Certificate) { pki.WriteFile(s.t, s.dir, "crl", s.inter.Revoke(leaf)) },
		"CA gone": func(s *site, _ *x509.Certificate) {
			pki.WriteFile(s.t, s.dir, "ca.pem", pki.Bundle(pki.New(s.t, "other", time.Now())))
		},
		"expired": func(s *site, _ *x509.Certificate) { s.clock.Advance(30 * time.Minute) },
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			s := newSite(t)
			s.set.CRL = pki.WriteFile(t, s.dir, "crl", s.inter.Revoke())
			s.listen(s.options(), false)
			conf := s.client("alice", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(20 * time.Minute) })
			conf.MaxVersion, conf.ClientSessionCache = version, tls.NewLRUClientSessionCache(4)
			if _, err := s.talk(conf); err != nil {
				t.Fatal(err)
			}
			if state, err := s.talk(conf); err != nil || !state.DidResume {
				t.Fatalf("%s, %x: the session was not resumed, so this test shows nothing: %v", name, version, err)
			}
			change(s, conf.Certificates[0].Leaf)
			s.later()
			if _, err := s.talk(conf); err == nil {
				t.Errorf("%s, %x: the client passed with an old session", name, version)
			}
		}
	}
}

// TestReload: changed files are used by the next handshake; what cannot be used changes nothing and is said once.
func TestReload(t *testing.T) {
	s := newSite(t)
	s.listen(s.options(), false)
	serial := func() string {
		t.Helper()
		state, err := s.talk(s.client("alice", nil))
		if err != nil {
			t.Fatal(err)
		}
		return state.PeerCertificates[0].SerialNumber.String()
	}
	first := serial()
	next := s.inter.Issue("server", nil)
	cert, key := next.PEM()
	pki.WriteFile(t, s.dir, "server.pem", cert)
	s.later()
	if got := serial(); got != first {
		t.Errorf("a certificate without its key is in use: %s", got)
	}
	s.later()
	serial()
	s.await("one failure", func() bool { return len(s.failed) == 1 && strings.Contains(s.failed[0].Error(), "server.pem") })
	if s.keeper.Failing() == "" {
		t.Error("nothing is said to be wrong")
	}
	pki.WriteFile(t, s.dir, "server.key", key)
	s.later()
	if got := serial(); got != next.Leaf.SerialNumber.String() || s.keeper.Failing() != "" {
		t.Errorf("serial %s is in use, failing: %q", got, s.keeper.Failing())
	}

	other := pki.New(t, "other", time.Now())
	stranger := insisting(s.root, other.Issue("bob", nil))
	if _, err := s.talk(stranger); err == nil {
		t.Error("a client of an unknown CA passed")
	}
	pki.WriteFile(t, s.dir, "ca.pem", pki.Bundle(s.root, other))
	s.later()
	if _, err := s.talk(stranger); err != nil {
		t.Errorf("a client of the new CA: %v", err)
	}
	for _, bad := range []string{"", "no PEM at all"} {
		pki.WriteFile(t, s.dir, "ca.pem", []byte(bad))
		s.later()
		serial()
	}
	if err := os.Remove(filepath.Join(s.dir, "ca.pem")); err != nil {
		t.Fatal(err)
	}
	s.later()
	serial()
	if n := s.keeper.Counts(); n.Reloads != 2 || n.Failures < 2 {
		t.Errorf("counts %+v", n)
	}
}

// TestRewriteInOneTick: a file that was written again so soon that its stamp did not change is still noticed.
func TestRewriteInOneTick(t *testing.T) {
	s := newSite(t)
	s.set.CRL = filepath.Join(s.dir, "crl")
	leaf := s.client("bad", nil)
	write := func(b []byte, at time.Time) {
		t.Helper()
		if err := errors.Join(os.WriteFile(s.set.CRL, b, 0o600), os.Chtimes(s.set.CRL, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	at := time.Now()
	before, after := s.inter.Revoke(s.inter.Issue("nobody", nil).Leaf), s.inter.Revoke(leaf.Certificates[0].Leaf)
	for len(before) != len(after) { // signatures differ in length at times
		after = s.inter.Revoke(leaf.Certificates[0].Leaf)
	}
	write(before, at)
	s.listen(s.options(), false)
	write(after, at)
	s.later()
	if _, err := s.talk(leaf); err == nil {
		t.Error("the old list is still in use")
	}
}

// TestNew says which file cannot be used.
func TestNew(t *testing.T) {
	s := newSite(t)
	bad := pki.WriteFile(t, s.dir, "bad", []byte("bad"))
	_, otherKey := s.inter.Issue("other", nil).Write(s.dir, "other")
	for _, c := range []struct {
		edit func(*certs.Settings)
		want string
	}{
		{func(c *certs.Settings) { c.Key = "" }, "KeyFile and CertFile must both be present"},
		{func(c *certs.Settings) { c.ClientKey = "x" }, "ClientKeyFile and ClientCertFile must both be present or both absent"},
		{func(c *certs.Settings) { c.AllowedCNs, c.AllowedHostnames = []string{"a"}, []string{"b"} }, "mutually exclusive"},
		{func(c *certs.Settings) { c.Cert = filepath.Join(s.dir, "gone") }, "gone"},
		{func(c *certs.Settings) { c.Key = otherKey }, "other.key"},
		{func(c *certs.Settings) { c.CA = bad }, "bad: there is no certificate in PEM form"},
		{func(c *certs.Settings) { c.CRL = bad }, "bad: neither a list in DER form"},
	} {
		set := s.set
		c.edit(&set)
		if _, err := certs.New(set, certs.Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

// names is DNS in a test.
type names struct{ of, addrs map[string][]string }

func (n names) LookupAddr(_ context.Context, addr string) ([]string, error) { return n.of[addr], nil }
func (n names) LookupHost(_ context.Context, host string) ([]string, error) {
	if n.addrs[host] == nil {
		return nil, errors.New("no such host: " + host)
	}
	return n.addrs[host], nil
}

// TestAddresses: the addresses and names in a certificate must be the caller's.
func TestAddresses(t *testing.T) {
	const here = "127.0.0.1"
	for name, c := range map[string]struct {
		ips  []net.IP
		dns  []string
		want string
	}{
		"neither":              {nil, nil, ""},
		"own address":          {[]net.IP{net.IPv4(127, 0, 0, 1)}, nil, ""},
		"another address":      {[]net.IP{net.IPv4(127, 0, 0, 2)}, nil, "not 127.0.0.1"},
		"name by reverse":      {[]net.IP{net.IPv4(127, 0, 0, 2)}, []string{"m1.example"}, ""},
		"wildcard by reverse":  {nil, []string{"*.example"}, ""},
		"name by forward":      {nil, []string{"forward.example.org"}, ""},
		"wildcard not forward": {nil, []string{"*.example.org"}, `"127.0.0.1" does not match any of DNSNames ["*.example.org"]`},
		"another name":         {nil, []string{"m2.example"}, "does not match any of DNSNames"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			options := s.options()
			options.Resolver = names{map[string][]string{here: {"m1.example."}}, map[string][]string{"forward.example.org": {here}}}
			s.listen(options, true)
			_, err := s.talk(s.client("peer", func(x *x509.Certificate) { x.IPAddresses, x.DNSNames = c.ips, c.dns }))
			if (err == nil) != (c.want == "") {
				t.Fatalf("%v, want %q", err, c.want)
			}
			if c.want != "" {
				s.await("the rejection", func() bool { return len(s.rejected) == 1 && strings.Contains(s.rejected[0].Err.Error(), c.want) })
			}
		})
	}
}

// TestClient: one member connects to another with the certificates of both, verifies it, and does not verify self-made ones.
func TestClient(t *testing.T) {
	s := newSite(t)
	s.set.ClientCert, s.set.ClientKey = s.inter.Issue("as client", nil).Write(s.dir, "client")
	s.set.AllowedCNs = []string{"as client", "server"}
	s.listen(s.options(), true)
	conf := s.keeper.Client()
	conf.ServerName = "localhost"
	if _, err := s.talk(conf); err != nil {
		t.Fatal(err)
	}
	pki.WriteFile(t, s.dir, "ca.pem", pki.Bundle(pki.New(t, "other", time.Now())))
	s.later()
	conf = s.keeper.Client()
	conf.ServerName = "localhost"
	if _, err := s.talk(conf); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("the CA that was replaced still counts: %v", err)
	}

	one, two := makeSite(t), makeSite(t)
	two.listen(two.options(), false)
	one.listen(one.options(), false)
	if _, err := two.talk(one.keeper.Client()); err != nil {
		t.Errorf("self-made: %v", err)
	}
}

func makeSite(t *testing.T) *site {
	s := newSite(t)
	made, err := certs.Make(filepath.Join(s.dir, "fixtures", "peer"), []string{"127.0.0.1", "m.example"}, 2, time.Now())
	if err != nil || !made.Fresh {
		t.Fatal(err, made)
	}
	s.set = certs.Settings{Cert: made.Cert, Key: made.Key, SelfMade: true}
	return s
}

// TestMake: what was made is as etcd makes it, and is there the next time.
func TestMake(t *testing.T) {
	s := makeSite(t)
	pair, err := tls.LoadX509KeyPair(s.set.Cert, s.set.Key)
	if err != nil {
		t.Fatal(err)
	}
	l := pair.Leaf
	if l.PublicKeyAlgorithm != x509.ECDSA || l.Subject.Organization[0] != "etcd" || l.VerifyHostname("m.example") != nil || l.VerifyHostname("127.0.0.1") != nil ||
		l.NotAfter.Sub(l.NotBefore) != 2*365*24*time.Hour {
		t.Errorf("%+v", l)
	}
	again, err := certs.Make(filepath.Dir(s.set.Cert), nil, 1, time.Now())
	if err != nil || again.Fresh || again.Cert != s.set.Cert {
		t.Errorf("%+v %v", again, err)
	}
	if info, err := os.Stat(s.set.Key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode: %v %v", info.Mode(), err)
	}
	if _, err := certs.Make(t.TempDir(), nil, 0, time.Now()); err == nil {
		t.Error("a certificate that is never valid was made")
	}
}

// TestExpiries names each file's end.
func TestExpiries(t *testing.T) {
	s := newSite(t)
	s.set.CRL = pki.WriteFile(t, s.dir, "crl", s.inter.Revoke())
	s.listen(s.options(), false)
	var got []string
	for _, e := range s.keeper.Expiries() {
		got = append(got, e.What+" "+filepath.Base(e.File))
		if d := time.Until(e.At); d < 23*time.Hour || d > 25*time.Hour {
			t.Errorf("%+v", e)
		}
	}
	if strings.Join(got, ", ") != "certificate server.pem, CA ca.pem, CRL crl" {
		t.Error(got)
	}
}
