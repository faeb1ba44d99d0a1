// Package httpapi answers the requests on the client port that are not gRPC: version, health, readiness, metrics, debug
// pages, and the refusals of what is not served there.
//
// It is not the JSON gateway (Config.Gateway is one, when there is one) and it opens no listener: it returns handlers
// that package server binds to addresses.
//
// How data passes: handlers ask the running member through the small interface Member at the time of a request. Metrics
// come from two sides: hot paths add to preallocated atomics (RPC, Histogram), and everything else is read when a scrape
// comes, as one Sample for all of them.
//
// Invariants: answers follow etcd v3.7 in paths, codes, bodies and content types (server/etcdserver/api/etcdhttp and
// server/embed/serve.go there), so that probes, dashboards and alerts work unchanged; a scrape and a probe never take a
// lock that writers of the store wait for.
package httpapi

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
)

// Member is what the handlers ask of the running member. All methods may be called at any time from any goroutine.
type Member interface {
	// Alarms names the raised alarms, such as NOSPACE and CORRUPT.
	Alarms() []string
	// HasLeader reports whether this member knows a leader.
	HasLeader() bool
	// IsLearner reports whether this member has no vote.
	IsLearner() bool
	// Read does a read of one key, through the read barrier unless serializable.
	Read(ctx context.Context, serializable bool) error
	// ClusterVersion is the version that the cluster decided on, "" before.
	ClusterVersion() string
}

// Versions are the constant parts of /version.
type Versions struct {
	Etcd    string // the etcd release we are compatible with
	Storage string // the schema of the store
	Own     string // this program's
}

// Config is what New needs.
type Config struct {
	Member   Member
	Metrics  *Metrics
	Versions Versions
	Timeout  time.Duration         // of the read behind /health
	CORS     []string              // allowed origins, empty or "*" for all
	Hosts    []string              // allowed Host names of requests without TLS, empty or "*" for all
	Pprof    bool                  // serve /debug/pprof/ and /debug/flight
	Gateway  http.Handler          // serves /v3/; nil for 404
	UI       http.Handler          // serves /ui and what is below it; nil for nothing there
	Vars     map[string]func() any // added to /debug/vars
	Args     []string              // the command line as /debug shows it, without secrets
	Logger   *zap.Logger

	// RefuseNames says whether a request to the gateway is refused when its client's certificate has a name, which would not
	// count; nil for never.
	RefuseNames func() bool

	// Own are handlers that authorise for themselves, by the pattern that they serve: /quorate/ and /v2/.
	Own map[string]http.Handler

	// Warnings are what an operator has to do soon; nil for nothing ever.
	Warnings func() []string
}

// Front holds the handlers of one member.
type Front struct {
	cfg     Config
	health  healthMetrics
	client  http.Handler
	metrics http.Handler
	peer    http.Handler
}

// New builds the handlers.
func New(cfg Config) *Front {
	f := &Front{cfg: cfg, health: newHealthMetrics(cfg.Metrics.registry)}

	monitor := http.NewServeMux()
	f.routeMonitor(monitor)
	f.metrics = monitor

	client := http.NewServeMux()
	f.routeMonitor(client)
	client.HandleFunc("/version", f.serveVersion)
	client.HandleFunc("/debug/vars", f.serveVars)
	if cfg.Pprof {
		f.routePprof(client)
		routeFlight(client)
	}
	if cfg.Gateway != nil {
		client.Handle(gatewayPath, cfg.Gateway)
	}
	if cfg.UI != nil {
		client.Handle("/ui", cfg.UI)
		client.Handle("/ui/", cfg.UI)
	}
	for pattern, h := range cfg.Own {
		if pattern != v2Path {
			client.Handle(pattern, h)
		}
	}
	f.client = f.access(f.v2(client))

	peer := http.NewServeMux()
	peer.HandleFunc("/version", f.serveVersion)
	f.peer = peer
	return f
}

// Client serves the client port.
func (f *Front) Client() http.Handler { return f.client }

// Monitor serves the addresses of --listen-metrics-urls.
func (f *Front) Monitor() http.Handler { return f.metrics }

// Peer serves the peer port of a member that has no peers: the version, and 404 for the rest.
func (f *Front) Peer() http.Handler { return f.peer }

func (f *Front) routeMonitor(mux *http.ServeMux) {
	mux.Handle("/metrics", f.cfg.Metrics.Handler())
	mux.HandleFunc("/health", f.serveHealth)
	f.routeChecks(mux, "livez", "serializable_read")
	f.routeChecks(mux, "readyz", "data_corruption", "serializable_read", "linearizable_read", "non_learner")
}

func (f *Front) routePprof(mux *http.ServeMux) {
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/cmdline", f.serveArgs)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	for _, name := range []string{"heap", "goroutine", "threadcreate", "block", "mutex"} {
		mux.Handle("/debug/pprof/"+name, pprof.Handler(name))
	}
}

// v2 passes on what is of the v2 API before the router sees it, which would clean paths in another way than etcd does.
func (f *Front) v2(next http.Handler) http.Handler {
	v2 := f.cfg.Own[v2Path]
	if v2 == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, v2Path) {
			v2.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// access checks the Host of requests without TLS, which stops DNS rebinding, and answers CORS.
func (f *Front) access(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v3beta/") {
			r.URL.Path = gatewayPath + strings.TrimPrefix(r.URL.Path, "/v3beta/")
		}
		if host := hostname(r.Host); r.TLS == nil && !allowed(f.cfg.Hosts, host) {
			f.cfg.Logger.Warn("rejecting HTTP request to prevent DNS rebinding attacks", zap.String("host", host))
			http.Error(w, fmt.Sprintf("The host name %q of this request is not one this server answers to.\n\n"+
				"Ask for one of its own names, or add this one: --host-whitelist %q.\n"+
				"The list protects browsers on the server's network from DNS rebinding; requests over TLS are not checked.", host, host),
				http.StatusMisdirectedRequest)
			return
		}
		if f.named(r) {
			http.Error(w, "CommonName of client sending a request against gateway will be ignored and not used as expected", http.StatusBadRequest)
			return
		}
		if origin := r.Header.Get("Origin"); allowed(f.cfg.CORS, anyone) {
			allowOrigin(w, anyone)
		} else if allowed(f.cfg.CORS, origin) {
			allowOrigin(w, origin)
		}
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusOK)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// What the paths of the gateway and of the v2 API begin with.
const (
	gatewayPath = "/v3/"
	v2Path      = "/v2/"
)

// named reports whether a request to the gateway comes under a name that will not count, since the gateway has no certificates.
func (f *Front) named(r *http.Request) bool {
	if r.TLS == nil || f.cfg.Gateway == nil || f.cfg.RefuseNames == nil || !strings.HasPrefix(r.URL.Path, gatewayPath) || !f.cfg.RefuseNames() {
		return false
	}
	return slices.ContainsFunc(r.TLS.VerifiedChains, func(chain []*x509.Certificate) bool {
		return len(chain) > 0 && chain[0].Subject.CommonName != ""
	})
}

// anyone in a list allows everything.
const anyone = "*"

func allowed(list []string, name string) bool {
	return len(list) == 0 || slices.Contains(list, anyone) || slices.Contains(list, name)
}

func hostname(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.Trim(hostport, "[]")
}

func allowOrigin(w http.ResponseWriter, origin string) {
	h := w.Header()
	h.Add("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE")
	h.Add("Access-Control-Allow-Origin", origin)
	h.Add("Access-Control-Allow-Headers", "accept, content-type, authorization")
}

// onlyGet answers other methods with 405 and reports whether to go on.
func onlyGet(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet {
		return true
	}
	w.Header().Set("Allow", http.MethodGet)
	http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	return false
}

func (f *Front) serveVersion(w http.ResponseWriter, r *http.Request) {
	if !onlyGet(w, r) {
		return
	}
	cluster := f.cfg.Member.ClusterVersion()
	if cluster == "" {
		cluster = "not_decided"
	}
	v := f.cfg.Versions
	w.Header().Set("Content-Type", "application/json")
	writeJSON(w, struct {
		Server  string `json:"etcdserver"`
		Cluster string `json:"etcdcluster"`
		Storage string `json:"storage"`
		Own     string `json:"quorate"`
	}{v.Etcd, cluster, v.Storage, v.Own})
}

// writeJSON writes values that always marshal. A client that went away is its own affair.
func writeJSON(w http.ResponseWriter, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("BUG: answer does not marshal: %v", err))
	}
	_, _ = w.Write(text)
}
