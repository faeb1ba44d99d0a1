package proxy_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"quorate.dev/quorate/proxy"
	"quorate.dev/quorate/rpc"
)

// get fetches a page of the proxy.
func get(t testing.TB, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// metric reads one of the proxy's own numbers.
func metric(t testing.TB, p *proxy.Proxy, name string) float64 {
	t.Helper()
	_, body := get(t, "http://"+p.Address()+"/proxy/metrics")
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// TestPages: the store's metrics and health, and the proxy's own, on the clients' port and on --metrics-addr.
func TestPages(t *testing.T) {
	s := store(t, nil)
	p := start(t, s.ClientURLs(), func(c *proxy.Config) { c.Listen.MetricsURL = "http://127.0.0.1:0" })
	for _, base := range []string{"http://" + p.Address(), "http://" + p.MetricsAddress()} {
		for path, want := range map[string]string{
			"/metrics": "etcd_server_has_leader 1\n", "/proxy/metrics": "etcd_grpc_proxy_watchers_coalescing_total 0\n",
			"/health": `{"health":"true","reason":""}`, "/proxy/health": `{"health":"true","reason":""}`,
		} {
			if code, body := get(t, base+path); code != http.StatusOK || !strings.Contains(body, want) {
				t.Errorf("%s%s: %d %.200s", base, path, code, body)
			}
		}
		for _, path := range []string{"/debug/pprof/", "/nowhere"} {
			if code, _ := get(t, base+path); code != http.StatusNotFound {
				t.Errorf("%s%s: %d", base, path, code)
			}
		}
		resp, err := http.Post(base+"/health", "text/plain", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != http.MethodGet {
			t.Errorf("POST /health: %s", resp.Status)
		}
	}
	profiled := start(t, s.ClientURLs(), func(c *proxy.Config) { c.Pprof = true })
	if code, _ := get(t, "http://"+profiled.Address()+"/debug/pprof/cmdline"); code != http.StatusOK {
		t.Errorf("profiles: %d", code)
	}
}

// TestHealth: a refused read is an answer, a store that cannot be reached is none.
func TestHealth(t *testing.T) {
	refuse := &rpc.Status{Code: rpc.InvalidArgument, Message: "etcdserver: user name is empty"}
	f := newFake(t, func(s *rpc.Server) { s.Unary(methodRange, func(c *rpc.Call, _ []byte) { c.Fail(refuse) }) })
	p := start(t, []string{f.address}, func(c *proxy.Config) { c.Store.Wait = 50 * time.Millisecond })
	if code, body := get(t, "http://"+p.Address()+"/health"); code != http.StatusOK {
		t.Errorf("with authorisation: %d %s", code, body)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/health", "/proxy/health"} {
		code, body := get(t, "http://"+p.Address()+path)
		if code != http.StatusServiceUnavailable || !strings.HasPrefix(body, `{"health":"false","reason":"GET ERROR:`) {
			t.Errorf("%s without a store: %d %s", path, code, body)
		}
	}
	if code, _ := get(t, "http://"+p.Address()+"/metrics"); code != http.StatusInternalServerError {
		t.Errorf("/metrics without a store: %d", code)
	}
}
