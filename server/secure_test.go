package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"quorate.dev/quorate/config"
	"quorate.dev/quorate/internal/pki"
	"quorate.dev/quorate/node"
	"quorate.dev/quorate/server"
)

// patience bounds waiting for something that must happen. Handshakes and elections under the race detector take long on a busy machine.
const patience = 3 * time.Minute

// authority is a CA whose certificates a test uses, and a directory for their files.
type authority struct {
	*pki.Authority
	t   *testing.T
	dir string
	ca  string // file
}

func newAuthority(t *testing.T) *authority {
	a := &authority{Authority: pki.New(t, "root", time.Now()), t: t, dir: t.TempDir()}
	a.ca = pki.WriteFile(t, a.dir, "ca.pem", pki.Bundle(a.Authority))
	return a
}

// client trusts the authority and shows a certificate, if there is one, whether the server asks for such a one or not.
func (a *authority) client(own *pki.Pair) *tls.Config {
	c := &tls.Config{RootCAs: pki.Pool(a.Authority)}
	if own != nil {
		pair := own.TLS()
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return c
}

// instance is a member that runs inside the test.
type instance struct {
	*server.Server
	cfg *config.Config
	log *observer.ObservedLogs
}

// settings of a member alone, on free ports.
func settings(dir string, more ...string) map[string]string {
	out := map[string]string{
		"data-dir": dir, "listen-client-urls": "http://127.0.0.1:0", "advertise-client-urls": "http://127.0.0.1:0",
		"listen-peer-urls": "http://127.0.0.1:0", "initial-advertise-peer-urls": "http://127.0.0.1:0",
	}
	for i := 0; i < len(more); i += 2 {
		out[more[i]] = more[i+1]
	}
	return out
}

// launch starts a member and has it stopped at the end of the test.
func launch(t *testing.T, set map[string]string) (*instance, error) {
	t.Helper()
	c := config.New()
	for name, value := range set {
		if err := c.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Finish(); err != nil {
		return nil, err
	}
	core, logs := observer.New(zap.InfoLevel)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := server.Start(ctx, c, zap.New(core))
	for errors.Is(err, node.ErrInstall) { // a snapshot has come, and the process begins anew
		s, err = server.Start(ctx, c, zap.New(core))
	}
	if err != nil {
		return nil, err
	}
	m := &instance{Server: s, cfg: c, log: logs}
	t.Cleanup(m.stop)
	return m, nil
}

func (m *instance) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = m.Stop(ctx)
}

// must is launch for a member that has to start.
func must(t *testing.T, set map[string]string) *instance {
	t.Helper()
	m, err := launch(t, set)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// address is where the member logged that it serves traffic of a kind.
func (m *instance) address(t *testing.T, line, traffic string) string {
	t.Helper()
	for _, e := range m.log.FilterMessage(line).All() {
		if fields := e.ContextMap(); traffic == "" || fields["traffic"] == traffic {
			return fields["address"].(string)
		}
	}
	t.Fatalf("the member does not say where %q is", line)
	return ""
}

// awaitLine waits until a line with a message has a field error that contains text.
func (m *instance) awaitLine(t *testing.T, message, text string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(patience); ; {
		for _, e := range m.log.FilterMessage(message).All() {
			if strings.Contains(fmt.Sprint(e.ContextMap()["error"]), text) {
				return
			}
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("no line %q with %q; there are %v", message, text, m.log.FilterMessage(message).All())
		}
	}
}

// dial connects etcd's client.
func dial(t *testing.T, conf *tls.Config, endpoints ...string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, TLS: conf, DialTimeout: patience, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// TestTLSListeners: on every listener of clients the right certificate passes, and every other is refused with a reason at the
// client and a line in the server's log. HTTP has its own address, so that gRPC is alone on another: with etcd, that one let
// revoked certificates pass (advisory GHSA-3wh4-j44w-pg92).
func TestTLSListeners(t *testing.T) {
	a, other := newAuthority(t), pki.New(t, "other", time.Now())
	cert, key := a.Issue("server", nil).Write(a.dir, "server")
	revoked := a.Issue("mallory", nil)
	crl := pki.WriteFile(t, a.dir, "crl", a.Revoke(revoked.Leaf))
	m := must(t, settings(t.TempDir(), "listen-client-urls", "https://127.0.0.1:0", "advertise-client-urls", "https://127.0.0.1:0",
		"listen-client-http-urls", "https://127.0.0.1:0", "listen-metrics-urls", "https://127.0.0.1:0",
		"cert-file", cert, "key-file", key, "trusted-ca-file", a.ca, "client-cert-auth", "true", "client-crl-file", crl))
	rpc, web, metrics := m.address(t, "serving client traffic securely", "grpc"), m.address(t, "serving client traffic securely", "http"), m.address(t, "serving metrics", "")
	for name, c := range map[string]struct {
		own    *pki.Pair
		client string // in the client's error, "" when it passes
		server string // in the line of the log
	}{
		"right":     {a.Issue("alice", nil), "", ""},
		"none":      {nil, "certificate required", "didn't provide a certificate"},
		"wrong CA":  {other.Issue("alice", nil), "unknown certificate authority", "unknown authority"},
		"expired":   {a.Issue("alice", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), "expired certificate", "has expired"},
		"too early": {a.Issue("alice", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }), "expired certificate", "not yet valid"},
		"revoked":   {revoked, "bad certificate", "revoked"},
	} {
		for kind, address := range map[string]string{"http": web, "metrics": metrics, "grpc": rpc} {
			m.log.TakeAll()
			err := handshake(address, a.client(c.own))
			if c.client == "" {
				if err != nil {
					t.Errorf("%s, %s: %v", kind, name, err)
				}
				continue
			}
			if err == nil || !strings.Contains(err.Error(), c.client) {
				t.Errorf("%s, %s: the client got %v, want %q", kind, name, err, c.client)
			}
			m.awaitLine(t, "rejected connection on client endpoint", c.server)
		}
	}
	good := a.client(a.Issue("alice", nil))
	if _, err := dial(t, good, "https://"+rpc).Put(within(t), "k", "v"); err != nil {
		t.Error(err)
	}
	for _, address := range []string{web, metrics} {
		web := http.Client{Transport: &http.Transport{TLSClientConfig: good, ForceAttemptHTTP2: true}, Timeout: patience}
		resp, err := web.Get("https://" + address + "/health")
		if err != nil {
			t.Error(err)
			continue
		}
		if body, _ := io.ReadAll(resp.Body); resp.ProtoMajor != 2 || string(body) != `{"health":"true","reason":""}` {
			t.Errorf("%s %s", resp.Proto, body)
		}
		_ = resp.Body.Close()
		web.CloseIdleConnections()
	}
}

// handshake connects as gRPC does and waits for the server's first byte, which tells whether it accepts the certificate.
func handshake(address string, conf *tls.Config) error {
	conf = conf.Clone()
	conf.NextProtos = []string{"h2"}
	c, err := tls.Dial("tcp", address, conf)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 1))
	return err
}

// TestAutoTLS: without any certificate one is made, clients connect without verifying it or with it as their CA, and the next
// start uses it again.
func TestAutoTLS(t *testing.T) {
	dir := t.TempDir()
	set := settings(dir, "listen-client-urls", "https://127.0.0.1:0", "advertise-client-urls", "https://127.0.0.1:0", "auto-tls", "true",
		"listen-peer-urls", "https://127.0.0.1:0", "initial-advertise-peer-urls", "https://127.0.0.1:0", "peer-auto-tls", "true")
	var serials []string
	for range 2 {
		m := must(t, set)
		if _, err := dial(t, &tls.Config{InsecureSkipVerify: true}, m.ClientURLs()...).Put(within(t), "k", "v"); err != nil {
			t.Fatal(err)
		}
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "fixtures", "client", "cert.pem"), filepath.Join(dir, "fixtures", "client", "key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(pair.Leaf)
		if _, err := dial(t, &tls.Config{RootCAs: roots}, m.ClientURLs()...).Get(within(t), "k"); err != nil {
			t.Error(err)
		}
		serials = append(serials, pair.Leaf.SerialNumber.String())
		m.stop()
	}
	if serials[0] != serials[1] {
		t.Error("the second start made another certificate")
	}
}

// TestMisdirected: a client without TLS at an address with it, and the other way round, finds a line in the log that says so.
func TestMisdirected(t *testing.T) {
	m := must(t, settings(t.TempDir(), "listen-client-urls", "https://127.0.0.1:0", "advertise-client-urls", "https://127.0.0.1:0", "auto-tls", "true"))
	resp, err := http.Get(strings.Replace(m.ClientURLs()[0], "https", "http", 1) + "/version")
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), "HTTP request to an HTTPS server") {
		t.Errorf("%s %q", resp.Status, body)
	}
	m.awaitLine(t, "rejected connection on client endpoint", "does not look like a TLS handshake")
	if _, err := http.Get("https://" + m.address(t, "serving peer traffic", "")); err == nil {
		t.Error("https passed at the address of peers")
	}
	m.awaitLine(t, "rejected connection on peer endpoint", "this address is without TLS")

	plain := must(t, settings(t.TempDir()))
	if _, err := http.Get(strings.Replace(plain.ClientURLs()[0], "http", "https", 1)); err == nil {
		t.Error("https passed at the address of clients")
	}
	plain.awaitLine(t, "rejected connection on client endpoint", "this address is without TLS")
}

// TestExpiry: a certificate that is about to end is told of in the log, in metrics and in the answers about health, none of which
// says that the member is unwell. What cannot be reloaded is told of, too.
func TestExpiry(t *testing.T) {
	a := newAuthority(t)
	day := 24 * time.Hour
	cert, key := a.Issue("server", func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(-340*day), time.Now().Add(20*day) }).Write(a.dir, "server")
	fresh, freshKey := a.Issue("server", nil).Write(a.dir, "fresh") // for a day, so that the last hours count
	m := must(t, settings(t.TempDir(), "listen-client-urls", "https://127.0.0.1:0", "advertise-client-urls", "https://127.0.0.1:0", "cert-file", cert, "key-file", key,
		"peer-cert-file", fresh, "peer-key-file", freshKey))
	web := http.Client{Transport: &http.Transport{TLSClientConfig: a.client(nil)}, Timeout: patience}
	defer web.CloseIdleConnections()
	get := func(path string) (http.Header, string) {
		t.Helper()
		resp, err := web.Get(m.ClientURLs()[0] + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status, err)
		}
		return resp.Header, string(body)
	}
	warning := fmt.Sprintf("client certificate %s ends at ", cert)
	if h, body := get("/health"); body != `{"health":"true","reason":""}` || len(h.Values("X-Quorate-Warning")) != 1 || !strings.HasPrefix(h.Get("X-Quorate-Warning"), warning) {
		t.Errorf("%v %s", h, body)
	}
	if _, body := get("/readyz"); body != "ok\n" {
		t.Errorf("%q", body)
	}
	if _, body := get("/readyz?verbose"); !strings.Contains(body, "[!]"+warning) || !strings.HasSuffix(body, "ok\n") {
		t.Errorf("%q", body)
	}
	_, body := get("/metrics")
	for _, want := range []string{
		fmt.Sprintf("quorate_tls_certificate_not_after_seconds{file=%q,side=\"client\",what=\"certificate\"} 1.", cert),
		fmt.Sprintf("quorate_tls_certificate_left_seconds{file=%q,side=\"client\",what=\"certificate\"} 1.7", cert), `quorate_tls_handshakes_total{side="client"} 1`,
		`quorate_tls_reload_failing{side="client"} 0`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
	eventually(t, "the log has the warning", func() bool { return m.log.FilterMessageSnippet("a certificate is about to end").Len() > 0 })
	pki.WriteFile(t, a.dir, "server.key", []byte("no key"))
	eventually(t, "metrics show that the key is of no use", func() bool {
		_, body := get("/metrics")
		return strings.Contains(body, `quorate_tls_reload_failing{side="client"} 1`)
	})
	if h, _ := get("/health"); !strings.Contains(strings.Join(h.Values("X-Quorate-Warning"), "\n"), "client certificates cannot be reloaded") {
		t.Errorf("%v", h)
	}
	m.awaitLine(t, "cannot use changed certificates", "server.key")
}
