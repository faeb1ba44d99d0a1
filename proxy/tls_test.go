package proxy_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/internal/pki"
	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/proxy"
)

func local(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }

// secured is a store with TLS that clients must show a certificate to, and the authority of it all.
type secured struct {
	*pki.Authority
	dir, ca  string
	endpoint string
}

func secure(t *testing.T) *secured {
	ca := pki.New(t, "ca", time.Now())
	s := &secured{Authority: ca, dir: t.TempDir()}
	s.ca = pki.WriteFile(t, s.dir, "ca.pem", pki.Bundle(ca))
	cert, key := ca.Issue("store", local).Write(s.dir, "store")
	s.endpoint = store(t, map[string]string{
		"listen-client-urls": "https://127.0.0.1:0", "advertise-client-urls": "https://127.0.0.1:0",
		"cert-file": cert, "key-file": key, "trusted-ca-file": s.ca, "client-cert-auth": "true",
	}).ClientURLs()[0]
	return s
}

// toStore has the proxy show a certificate with that common name.
func (s *secured) toStore(c *proxy.Config, name string) {
	cert, key := s.Issue(name, nil).Write(s.dir, "proxy-"+name)
	c.Store.TLS.ClientCert, c.Store.TLS.ClientKey, c.Store.TLS.CA = cert, key, s.ca
}

// TestTLS: both sides with certificates that are verified.
func TestTLS(t *testing.T) {
	s := secure(t)
	p := start(t, []string{s.endpoint}, func(c *proxy.Config) {
		s.toStore(c, "")
		c.Listen.TLS.Cert, c.Listen.TLS.Key = s.Issue("proxy", local).Write(s.dir, "listen")
		c.Listen.TLS.CA = s.ca
	})
	conf := &tls.Config{RootCAs: pki.Pool(s.Authority), Certificates: []tls.Certificate{s.Issue("somebody", nil).TLS()}}
	c := client(t, "https://"+p.Address(), func(cc *clientv3.Config) { cc.TLS = conf })
	if _, err := c.Put(within(t), "k", "v"); err != nil {
		t.Fatal(err)
	}
	if _, err := lean.Dial(within(t), lean.Config{Address: p.Address(), TLS: &tls.Config{RootCAs: pki.Pool(s.Authority)}}); err == nil {
		t.Error("a client without a certificate is served")
	}
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: conf}}
	defer web.CloseIdleConnections()
	for _, path := range []string{"/metrics", "/proxy/health"} {
		resp, err := web.Get("https://" + p.Address() + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}

// TestCommonName: a certificate that names a user is refused, because the store would take every client for that user.
func TestCommonName(t *testing.T) {
	s := secure(t)
	cfg := proxy.Default()
	cfg.Listen.Address, cfg.Store.Endpoints = "127.0.0.1:0", []string{s.endpoint}
	s.toStore(&cfg, "root")
	_, err := proxy.Start(within(t), cfg, proxy.Options{})
	if want := "cert has non empty Common Name (root): " + cfg.Store.TLS.ClientCert; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestUntrusted: a store that the proxy cannot verify gets no call, unless verification is switched off.
func TestUntrusted(t *testing.T) {
	s := secure(t)
	other := pki.WriteFile(t, s.dir, "other.pem", pki.Bundle(pki.New(t, "other", time.Now())))
	for _, skip := range []bool{false, true} {
		p := start(t, []string{s.endpoint}, func(c *proxy.Config) {
			s.toStore(c, "")
			c.Store.TLS.CA, c.Store.SkipVerify, c.Store.Wait = other, skip, 100*time.Millisecond
			if skip {
				c.Store.Wait = patience
			}
		})
		_, err := dial(t, p.Address(), nil).call(methodPut, []byte{10, 1, 'k'})
		if skip && err != nil {
			t.Error(err)
		} else if !skip {
			wantStatus(t, err, 14, "there is no connection available")
		}
	}
}

// TestAutoTLS: the generated certificate is made once.
func TestAutoTLS(t *testing.T) {
	s := store(t, nil)
	dir := t.TempDir()
	for range 2 {
		p := start(t, s.ClientURLs(), func(c *proxy.Config) { c.Listen.AutoTLS, c.DataDir = true, dir })
		made, err := tls.LoadX509KeyPair(filepath.Join(dir, "fixtures", "proxy", "cert.pem"), filepath.Join(dir, "fixtures", "proxy", "key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(made.Leaf)
		c := client(t, "https://"+p.Address(), func(c *clientv3.Config) { c.TLS = &tls.Config{RootCAs: roots} })
		if _, err := c.Put(within(t), "k", "v"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestConfig: what contradicts itself is refused in etcd's words, and a feature that is not there says so.
func TestConfig(t *testing.T) {
	for want, edit := range map[string]func(*proxy.Config){
		"invalid resolver-ttl 0":               func(c *proxy.Config) { c.Advertise.Prefix = "p" },
		`invalid resolver-prefix ""`:           func(c *proxy.Config) { c.Advertise.TTL = 1 },
		`invalid advertise-client-url ""`:      func(c *proxy.Config) { c.Advertise = proxy.Advertise{Prefix: "p", TTL: 1} },
		"selfSignedCertValidity is invalid":    func(c *proxy.Config) { c.Listen.AutoTLS, c.Listen.AutoTLSYear = true, 0 },
		"--experimental-leasing-prefix: ":      func(c *proxy.Config) { c.LeasingPrefix = "l/" },
		"KeyFile and CertFile are not present": func(c *proxy.Config) { c.Listen.TLS.CA = "ca.pem" },
		"--metrics-addr is":                    func(c *proxy.Config) { c.Listen.MetricsURL = "127.0.0.1:0" },
		"https needs --cert-file":              func(c *proxy.Config) { c.Listen.MetricsURL = "https://127.0.0.1:0" },
		"the scheme must be":                   func(c *proxy.Config) { c.Store.Endpoints = []string{"ftp://x:1"} },
		"it must be a URL or host:port":        func(c *proxy.Config) { c.Store.Endpoints = []string{"x"} },
		"0 endpoints are given":                func(c *proxy.Config) { c.Store.Endpoints = nil },
	} {
		cfg := proxy.Default()
		cfg.Listen.Address = "127.0.0.1:0"
		edit(&cfg)
		p, err := proxy.Start(within(t), cfg, proxy.Options{})
		if err == nil {
			_ = p.Stop(context.Background())
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
