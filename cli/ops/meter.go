package ops

import (
	"context"
	"crypto/tls"
	"net/http"
	"slices"
	"strings"
	"time"

	"quorate.dev/quorate/cli/verdict"
	"quorate.dev/quorate/internal/clock"
)

// meterPatience is how long a member may take to show its metrics.
const meterPatience = 2 * time.Second

// Meter is what members' metrics said at one moment.
type Meter struct {
	at    time.Time
	pages map[string]metrics // by endpoint
}

// ReadMeter reads the metrics at the endpoints. Members that do not show any are left out.
func ReadMeter(ctx context.Context, endpoints []string, config *tls.Config) *Meter {
	m := &Meter{pages: map[string]metrics{}}
	g := &gatherer{web: &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, DialContext: dialer(meterPatience)}}}
	defer g.close()
	for _, ep := range endpoints {
		ctx, cancel := context.WithTimeout(ctx, meterPatience)
		if page, _, err := g.get(ctx, baseURL(ep, config != nil)+"/metrics", false); err == nil {
			m.pages[ep] = parseMetrics(string(page))
		}
		cancel()
	}
	m.at = clock.Real().Now()
	return m
}

// Since is what the members did between two readings.
func (m *Meter) Since(before *Meter) (all []verdict.Server) {
	took := m.at.Sub(before.at).Seconds()
	for ep, page := range m.pages {
		old := before.pages[ep]
		if old == nil || took <= 0 {
			continue
		}
		d := page.minus(old)
		s := verdict.Server{Name: ep, Busy: verdict.Unknown, Syncing: verdict.Unknown, Sync: verdict.Unknown, SyncP99: verdict.Unknown, RoundTrip: verdict.Unknown}
		if cores := page.value("go_sched_gomaxprocs_threads"); cores > 0 && page.has("process_cpu_seconds_total") {
			s.Busy = d.value("process_cpu_seconds_total") / took / cores
		}
		if h := d.histogram("etcd_disk_wal_fsync_duration_seconds", ""); h.count > 0 {
			sum := d.value("etcd_disk_wal_fsync_duration_seconds_sum")
			s.Syncing, s.Sync, s.SyncP99 = sum/took, sum/h.count, h.quantile(0.99)
		}
		if h := page.histogram("etcd_network_peer_round_trip_time_seconds", ""); h.count > 0 {
			s.RoundTrip = h.quantile(0.5)
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b verdict.Server) int { return strings.Compare(a.Name, b.Name) })
	return all
}
