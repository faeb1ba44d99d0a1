package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// The values of a health answer. They are texts, not booleans, because tools compare them as such.
const (
	healthy   = "true"
	unhealthy = "false"
)

// healthAnswer is the body of /health.
type healthAnswer struct {
	Health string `json:"health"`
	Reason string `json:"reason"`
}

// serveHealth answers /health: alarms, then the leader, then a read; the first that fails is the reason.
func (f *Front) serveHealth(w http.ResponseWriter, r *http.Request) {
	if !onlyGet(w, r) {
		f.cfg.Logger.Warn("/health error", zap.Int("status-code", http.StatusMethodNotAllowed))
		return
	}
	f.warn(w.Header())
	query := r.URL.Query()
	answer := healthAnswer{Health: healthy}
	if reason := f.unhealthyReason(r.Context(), query["exclude"], query.Get("serializable") == "true"); reason != "" {
		answer = healthAnswer{Health: unhealthy, Reason: reason}
	}
	if answer.Health == healthy {
		f.health.successes.Inc()
		writeJSON(w, answer)
		return
	}
	f.health.failures.Inc()
	text, err := json.Marshal(answer)
	if err != nil {
		panic(fmt.Sprintf("BUG: answer does not marshal: %v", err))
	}
	f.cfg.Logger.Warn("/health error", zap.String("output", string(text)), zap.Int("status-code", http.StatusServiceUnavailable))
	http.Error(w, string(text), http.StatusServiceUnavailable)
}

func (f *Front) unhealthyReason(ctx context.Context, excluded []string, serializable bool) string {
	for _, alarm := range f.cfg.Member.Alarms() {
		if slices.Contains(excluded, alarm) {
			continue
		}
		f.cfg.Logger.Warn("serving /health false due to an alarm", zap.String("alarm", alarm))
		if alarm != "NOSPACE" && alarm != "CORRUPT" {
			alarm = "UNKNOWN"
		}
		return "ALARM " + alarm
	}
	if !serializable && !f.cfg.Member.HasLeader() {
		f.cfg.Logger.Warn("serving /health false; no leader")
		return "RAFT NO LEADER"
	}
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Timeout)
	defer cancel()
	if err := f.cfg.Member.Read(ctx, serializable); err != nil {
		f.cfg.Logger.Warn("serving /health false; Range fails", zap.Error(err))
		return "RANGE ERROR:" + err.Error()
	}
	return ""
}

// checks are the parts of /livez and /readyz.
var checks = map[string]func(*Front, context.Context) error{
	"data_corruption": func(f *Front, _ context.Context) error {
		if slices.Contains(f.cfg.Member.Alarms(), "CORRUPT") {
			return errors.New("alarm activated: CORRUPT")
		}
		return nil
	},
	"serializable_read": func(f *Front, ctx context.Context) error { return f.cfg.Member.Read(ctx, true) },
	"linearizable_read": func(f *Front, ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, f.cfg.Timeout)
		defer cancel()
		return f.cfg.Member.Read(ctx, false)
	},
	"non_learner": func(f *Front, _ context.Context) error {
		if f.cfg.Member.IsLearner() {
			return errors.New("not supported for learner")
		}
		return nil
	},
}

// routeChecks adds the page of a kind (livez or readyz) and a page for each of its checks.
func (f *Front) routeChecks(mux *http.ServeMux, kind string, names ...string) {
	mux.HandleFunc("/"+kind, func(w http.ResponseWriter, r *http.Request) {
		if !onlyGet(w, r) {
			return
		}
		excluded := r.URL.Query()["exclude"]
		var rest []string
		for _, name := range names {
			if !slices.Contains(excluded, name) {
				rest = append(rest, name)
			}
		}
		for _, name := range excluded {
			if name != "" && !slices.Contains(names, name) {
				f.cfg.Logger.Warn("some health checks cannot be excluded", zap.String("missing-health-checks", name))
			}
		}
		f.serveChecks(w, r, kind, rest)
	})
	for _, name := range names {
		mux.HandleFunc("/"+kind+"/"+name, func(w http.ResponseWriter, r *http.Request) {
			if onlyGet(w, r) {
				f.serveChecks(w, r, kind, []string{name})
			}
		})
	}
}

// serveChecks runs the checks. A failure always lists all of them; success only when asked with ?verbose.
func (f *Front) serveChecks(w http.ResponseWriter, r *http.Request, kind string, names []string) {
	var report bytes.Buffer
	failed := false
	for _, name := range names {
		err := checks[name](f, r.Context())
		f.health.record(kind, name, err == nil)
		if err != nil {
			failed = true
			fmt.Fprintf(&report, "[-]%s failed: %v\n", name, err)
			continue
		}
		fmt.Fprintf(&report, "[+]%s ok\n", name)
	}
	for _, line := range f.warnings() {
		fmt.Fprintf(&report, "[!]%s\n", line)
	}
	if failed {
		f.cfg.Logger.Error("Health check error", zap.String("path", r.URL.Path), zap.String("reason", report.String()),
			zap.Int("status-code", http.StatusServiceUnavailable))
		http.Error(w, report.String(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if _, verbose := r.URL.Query()["verbose"]; !verbose {
		report.Reset()
	}
	report.WriteString("ok\n")
	_, _ = w.Write(report.Bytes())
}

// healthMetrics count what the pages answered.
type healthMetrics struct {
	successes, failures prometheus.Counter
	result              *prometheus.GaugeVec
	total               *prometheus.CounterVec
}

func newHealthMetrics(r prometheus.Registerer) healthMetrics {
	m := healthMetrics{
		successes: prometheus.NewCounter(prometheus.CounterOpts{Name: "etcd_server_health_success", Help: "Answers of /health that said healthy."}),
		failures:  prometheus.NewCounter(prometheus.CounterOpts{Name: "etcd_server_health_failures", Help: "Answers of /health that said unhealthy."}),
		result: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "etcd_server_healthcheck",
			Help: "Last result of a check of /livez or /readyz: 1 passed, 0 failed."}, []string{"type", "name"}),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "etcd_server_healthchecks_total",
			Help: "Checks made for /livez and /readyz, by result."}, []string{"type", "name", "status"}),
	}
	r.MustRegister(m.successes, m.failures, m.result, m.total)
	return m
}

func (m *healthMetrics) record(kind, name string, ok bool) {
	value, status := 0.0, "error"
	if ok {
		value, status = 1, "success"
	}
	m.result.WithLabelValues(kind, name).Set(value)
	m.total.WithLabelValues(kind, name, status).Inc()
}
