package httpapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"go.uber.org/zap"
)

// fakeMember answers what a scenario has set.
type fakeMember struct {
	alarms          []string
	leader, learner bool
	version         string
	readErr         map[bool]error // by serializable
}

func (m *fakeMember) Alarms() []string       { return m.alarms }
func (m *fakeMember) HasLeader() bool        { return m.leader }
func (m *fakeMember) IsLearner() bool        { return m.learner }
func (m *fakeMember) ClusterVersion() string { return m.version }
func (m *fakeMember) Read(_ context.Context, serializable bool) error {
	return m.readErr[serializable]
}

// set changes one property: alarms=A,B leader=false learner=true version=3.7.0 fail=serializable fail=linearizable.
func (m *fakeMember) set(word string) {
	name, value, _ := strings.Cut(word, "=")
	switch name {
	case "alarms":
		m.alarms = strings.Split(value, ",")
	case "leader":
		m.leader = value == "true"
	case "learner":
		m.learner = value == "true"
	case "version":
		m.version = value
	case "fail":
		m.readErr[value == "serializable"] = errors.New("etcdserver: request timed out")
	}
}

func testMetrics() *Metrics {
	return NewMetrics(MetricsConfig{Read: func() Sample { return Sample{} }, EtcdVersion: "3.7.3", QuorateOwn: "0.1.0", NoProcessInfo: true})
}

// TestFront runs the scenarios of testdata: "request" with the member's state, settings (cors, hosts, pprof, port) in its
// arguments and METHOD PATH, then header lines, in its input, with the pseudo-header Certificate for the client's name; it prints status, telling headers and body.
func TestFront(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			member := &fakeMember{leader: true, version: "3.7.0", readErr: map[bool]error{}}
			cfg := Config{Member: member, Metrics: testMetrics(), Timeout: time.Minute, Logger: zap.NewNop(),
				Versions: Versions{Etcd: "3.7.3", Storage: "3.7.0", Own: "0.1.0"},
				Vars:     map[string]func() any{"raft.status": func() any { return map[string]int{"term": 2} }}}
			port := (*Front).Client
			for _, arg := range d.CmdArgs {
				value := strings.Join(arg.Vals, ",")
				switch arg.Key {
				case "cors":
					cfg.CORS = arg.Vals
				case "hosts":
					cfg.Hosts = arg.Vals
				case "pprof":
					cfg.Pprof = true
				case "gateway":
					cfg.Gateway = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "gateway "+r.URL.Path) })
				case "own":
					cfg.Own = map[string]http.Handler{value: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "own "+r.URL.Path) })}
				case "refuse-names":
					cfg.RefuseNames = func() bool { return true }
				case "port":
					port = map[string]func(*Front) http.Handler{"monitor": (*Front).Monitor, "peer": (*Front).Peer}[value]
				default:
					member.set(arg.Key + "=" + value)
				}
			}
			return exchange(t, port(New(cfg)), d.Input)
		})
	})
}

func exchange(t *testing.T, h http.Handler, input string) string {
	lines := strings.Split(input, "\n")
	method, path, ok := strings.Cut(lines[0], " ")
	if !ok {
		t.Fatalf("request line %q", lines[0])
	}
	r := httptest.NewRequest(method, path, nil)
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if name == "Host" {
			r.Host = value
			continue
		}
		if name == "Certificate" {
			r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{Subject: pkix.Name{CommonName: value}}}}}
			continue
		}
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(w.Result().Status + "\n")
	for _, name := range []string{"Content-Type", "Allow", "X-Content-Type-Options", "Access-Control-Allow-Origin"} {
		if v := w.Header().Get(name); v != "" {
			b.WriteString(name + ": " + v + "\n")
		}
	}
	if len(body) > 400 {
		body = append(body[:0:0], "(long)"...)
	}
	b.WriteString(strings.ReplaceAll(string(body), "\n", "$\n"))
	return b.String()
}

// TestVars checks that /debug/vars is one JSON object that holds the configured variables and Go's own.
func TestVars(t *testing.T) {
	f := New(Config{Member: &fakeMember{}, Metrics: testMetrics(), Logger: zap.NewNop(),
		Vars: map[string]func() any{"raft.status": func() any { return "x" }}, Args: []string{"quorate", "--password=***"}})
	w := httptest.NewRecorder()
	f.Client().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/debug/vars", nil))
	for _, want := range []string{`"raft.status": "x"`, `"memstats": {`, `"cmdline": ["quorate","--password=***"]`} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %s in\n%.300s", want, w.Body.String())
		}
	}
}
