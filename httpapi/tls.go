package httpapi

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
)

// tlsDescs are the series of certificates, which etcd does not have.
type tlsDescs struct {
	handshakes, rejected, reloads, failures, failing, ends, left *prometheus.Desc
}

func newTLSDescs() tlsDescs {
	side := func(name, help string) *prometheus.Desc { return desc(name, help, "side") }
	return tlsDescs{
		handshakes: side("quorate_tls_handshakes_total", "Connections whose TLS handshake succeeded."),
		rejected:   side("quorate_tls_rejected_total", "Connections that were refused in or before the TLS handshake."),
		reloads:    side("quorate_tls_reloads_total", "Times that changed certificate files were loaded."),
		failures:   side("quorate_tls_reload_failures_total", "Times that changed certificate files could not be used."),
		failing:    side("quorate_tls_reload_failing", "1 while files cannot be used and what was loaded before stays in use."),
		ends:       desc("quorate_tls_certificate_not_after_seconds", "Unix time at which what a file holds ends.", "side", "what", "file"),
		left:       desc("quorate_tls_certificate_left_seconds", "Seconds until what a file holds ends; negative afterwards.", "side", "what", "file"),
	}
}

func (d *tlsDescs) collect(out chan<- prometheus.Metric, all []TLSSample) {
	for i := range all {
		t := &all[i]
		for _, m := range []struct {
			desc  *prometheus.Desc
			kind  prometheus.ValueType
			value float64
		}{
			{d.handshakes, counter, float64(t.Handshakes)}, {d.rejected, counter, float64(t.Rejected)}, {d.reloads, counter, float64(t.Reloads)},
			{d.failures, counter, float64(t.Failures)}, {d.failing, gauge, number(t.Failing)},
		} {
			out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value, t.Side)
		}
		for _, e := range t.Ends {
			out <- prometheus.MustNewConstMetric(d.ends, gauge, float64(e.Unix), t.Side, e.What, e.File)
			out <- prometheus.MustNewConstMetric(d.left, gauge, e.Left, t.Side, e.What, e.File)
		}
	}
}

// warningHeader carries what an operator has to do soon, where bodies must be as etcd's.
const warningHeader = "X-Quorate-Warning"

// warnings are what an operator has to do soon; none of it makes the member unhealthy.
func (f *Front) warnings() []string {
	if f.cfg.Warnings == nil {
		return nil
	}
	return f.cfg.Warnings()
}

func (f *Front) warn(h http.Header) {
	for _, line := range f.warnings() {
		h.Add(warningHeader, line)
	}
}
