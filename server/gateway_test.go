package server_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quorate.dev/quorate/internal/pki"
)

// post asks a gateway. A header may follow its name.
func post(t *testing.T, conf *tls.Config, url, body string, headers ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	web := http.Client{Transport: &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}}
	defer web.CloseIdleConnections()
	resp, err := web.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// enableAuth makes the user root and enables authentication, through the gateway, and returns a token.
func enableAuth(t *testing.T, conf *tls.Config, url string) string {
	t.Helper()
	for path, body := range map[string]string{"user/add": `{"name":"root","password":"p"}`, "role/add": `{"name":"root"}`} {
		if code, text := post(t, conf, url+"/v3/auth/"+path, body); code != http.StatusOK && code != http.StatusBadRequest {
			t.Fatal(code, text)
		}
	}
	for _, step := range [][2]string{{"user/grant", `{"user":"root","role":"root"}`}, {"enable", ``}} {
		if code, text := post(t, conf, url+"/v3/auth/"+step[0], step[1]); code != http.StatusOK {
			t.Fatal(code, text)
		}
	}
	_, text := post(t, conf, url+"/v3/auth/authenticate", `{"name":"root","password":"p"}`)
	var answer struct{ Token string }
	if err := json.Unmarshal([]byte(text), &answer); err != nil || answer.Token == "" {
		t.Fatal(text, err)
	}
	return answer.Token
}

const askA = `{"key":"YQ=="}`

// TestGatewayCertificates: over the gateway nobody is who a certificate says, neither the client's nor the server's own. The name
// in the server's is root's, which etcd would take for the user of a request without the header Accept.
func TestGatewayCertificates(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.Issue("root", nil).Write(a.dir, "server")
	m := must(t, settings(t.TempDir(), "listen-client-urls", "https://127.0.0.1:0", "advertise-client-urls", "https://127.0.0.1:0",
		"cert-file", cert, "key-file", key, "trusted-ca-file", a.ca, "client-cert-auth", "true", "bcrypt-cost", "4"))
	url := m.ClientURLs()[0]
	named, nameless := a.client(a.Issue("root", nil)), a.client(a.Issue("", nil))
	if code, text := post(t, named, url+"/v3/kv/range", askA); code != http.StatusOK {
		t.Errorf("without authentication: %d %s", code, text)
	}
	token := enableAuth(t, nameless, url)
	for _, c := range []struct {
		who     string
		conf    *tls.Config
		headers []string
		code    int
		text    string
	}{
		{"a name", named, nil, 400, "CommonName of client sending a request against gateway will be ignored and not used as expected"},
		{"a name and a token", named, []string{"Authorization", token}, 400, "CommonName"},
		{"no name", nameless, nil, 400, "etcdserver: user name is empty"},
		{"no name, with Accept", nameless, []string{"Accept", "*/*"}, 400, "etcdserver: user name is empty"},
		{"a token", nameless, []string{"Authorization", token}, 200, `"header"`},
	} {
		if code, text := post(t, c.conf, url+"/v3/kv/range", askA, c.headers...); code != c.code || !strings.Contains(text, c.text) {
			t.Errorf("%s: %d %s", c.who, code, text)
		}
	}
}

// TestGatewayAudit: the audit log shows the client's address and the user of its token, and who is refused.
func TestGatewayAudit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit")
	m := must(t, settings(t.TempDir(), "bcrypt-cost", "4", "audit-log", file, "audit-log-methods", "all"))
	url := m.ClientURLs()[0]
	token := enableAuth(t, nil, url)
	for _, headers := range [][]string{{"Authorization", token}, {"Authorization", token, "Grpc-Metadata-Quorate-Gateway-Client", "10.1.2.3:4"}, nil} {
		post(t, nil, url+"/v3/kv/range", askA, headers...)
	}
	m.stop()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range bytes.Lines(text) {
		var e struct{ Method, User, Remote, Decision string }
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		if e.Method == "/etcdserverpb.KV/Range" {
			got = append(got, e.User+" "+e.Decision)
			if !strings.HasPrefix(e.Remote, "127.0.0.1:") {
				t.Errorf("a client from %s", e.Remote)
			}
		}
	}
	if strings.Join(got, ", ") != "root allowed, root allowed,  denied" {
		t.Errorf("the audit log has %q", got)
	}
}

// TestGatewayAddresses: where the gateway is, by the settings.
func TestGatewayAddresses(t *testing.T) {
	t.Run("off", func(t *testing.T) {
		m := must(t, settings(t.TempDir(), "enable-grpc-gateway", "false"))
		if code, text := post(t, nil, m.ClientURLs()[0]+"/v3/kv/range", askA); code != http.StatusNotFound || text != "404 page not found\n" {
			t.Errorf("%d %s", code, text)
		}
	})
	t.Run("apart", func(t *testing.T) {
		m := must(t, settings(t.TempDir(), "listen-client-http-urls", "http://127.0.0.1:0"))
		if code, text := post(t, nil, "http://"+m.address(t, "serving client traffic insecurely; this is strongly discouraged!", "http")+"/v3/kv/range", askA); code != http.StatusOK {
			t.Errorf("%d %s", code, text)
		}
		if code, _ := post(t, nil, m.ClientURLs()[0]+"/v3/kv/range", askA); code != http.StatusNotFound {
			t.Errorf("the address of gRPC answers %d", code)
		}
	})
	t.Run("too large", func(t *testing.T) {
		m := must(t, settings(t.TempDir(), "max-request-bytes", "1000"))
		value := func(n int) string { return `{"key":"YQ==","value":"` + strings.Repeat("YWFh", n/3) + `"}` }
		for n, want := range map[int]int{900: http.StatusOK, 3000: http.StatusBadRequest, 1 << 20: http.StatusTooManyRequests, 8 << 20: http.StatusTooManyRequests} {
			if code, text := post(t, nil, m.ClientURLs()[0]+"/v3/kv/put", value(n)); code != want {
				t.Errorf("a value of %d bytes: %d %.200s", n, code, text)
			}
		}
	})
	t.Run("TLS and HTTP/2", func(t *testing.T) {
		a := newAuthority(t)
		cert, key := a.Issue("server", nil).Write(a.dir, "server")
		m := must(t, settings(t.TempDir(), "listen-client-urls", "https://127.0.0.1:0", "advertise-client-urls", "https://127.0.0.1:0", "cert-file", cert, "key-file", key))
		conf := &tls.Config{RootCAs: pki.Pool(a.Authority)}
		if code, text := post(t, conf, m.ClientURLs()[0]+"/v3/lease/keepalive", `{"ID":"1"}{"ID":"2"}`); code != http.StatusOK || strings.Count(text, `{"result":`) != 2 {
			t.Errorf("%d %s", code, text)
		}
	})
}
