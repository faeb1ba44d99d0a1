package load

import (
	"encoding/json"
	"io"
	"math"
	"time"
)

// Result is what a run measured. Its JSON is an interface: scripts read it.
type Result struct {
	Workload     string             `json:"workload"`
	Endpoints    []string           `json:"endpoints"`
	Client       string             `json:"client"` // "lean": package load/lean
	Connections  int                `json:"connections"`
	Clients      int                `json:"clients"`     // requests under way at most
	TargetRate   float64            `json:"target_rate"` // requests a second; 0 is a closed loop
	Seconds      float64            `json:"seconds"`     // from the begin of measuring to the last completion
	Operations   int64              `json:"operations"`  // that succeeded
	Errors       int64              `json:"errors"`      // refusals not included
	ErrorSamples []string           `json:"error_samples"`
	Rate         float64            `json:"rate"`  // operations a second
	Bytes        int64              `json:"bytes"` // values written, or responses read
	Latency      Latency            `json:"latency_ms"`
	Timeline     []Second           `json:"timeline"`
	Extra        map[string]float64 `json:"extra"`
}

// Latency is in milliseconds. In an open loop it counts from the intended start of a request.
type Latency struct {
	Min  float64 `json:"min"`
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P95  float64 `json:"p95"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

// Second is what completed in one second of the run. Seconds count from 1.
type Second struct {
	Second     int     `json:"second"`
	Operations int64   `json:"operations"`
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
}

func latencyOf(h *Histogram) Latency {
	at := func(q float64) float64 { return round(millis(h.Quantile(q)), 4) }
	return Latency{Min: round(millis(h.Min()), 4), Mean: round(millis(h.Mean()), 4), P50: at(0.5), P90: at(0.9), P95: at(0.95), P99: at(0.99),
		P999: at(0.999), Max: round(millis(h.Max()), 4)}
}

// round keeps digits after the point: more would be noise.
func round(v float64, digits int) float64 {
	p := math.Pow(10, float64(digits))
	return math.Round(v*p) / p
}

// result merges what the connections recorded. cpu is what this process used while it drove the load.
func (r *run) result(name string, cpu time.Duration) *Result {
	r.closeAll(r.lines, &r.times)
	s := sum(r.lines)
	res := &Result{Workload: name, Endpoints: r.o.Target.Endpoints, Client: "lean", Connections: r.o.Target.Connections, Clients: r.o.Shape.Clients,
		TargetRate: r.o.Shape.Rate, Extra: map[string]float64{}, ErrorSamples: s.samples(), Errors: s.errors}
	if r.open {
		res.Clients = r.o.Shape.InFlight
		res.Extra["late"] = float64(r.tickets.late)
		res.Extra["not_sent"] = float64(r.tickets.unsent)
	}
	if n := s.refused.Count(); n > 0 {
		res.Extra["refused"] = float64(n)
		res.extraLatency("refused", &s.refused)
	}
	if cpu > 0 {
		res.Extra["client_cpu_seconds"] = round(cpu.Seconds(), 3)
		if n := s.all.Count(); n > 0 {
			res.Extra["client_cpu_us_per_op"] = round(float64(cpu.Microseconds())/float64(n), 2)
		}
	}
	res.measure(s, r.times.rows)
	return res
}

// measure puts the figures of s into the result.
func (res *Result) measure(s *sums, rows []Second) {
	res.Seconds = round(s.last.Seconds(), 4)
	res.Operations, res.Bytes, res.Latency = s.all.Count(), s.bytes, latencyOf(&s.all)
	res.Rate = 0
	if s.last > 0 {
		res.Rate = round(float64(res.Operations)/s.last.Seconds(), 1)
	}
	end := int(s.last/time.Second) + 1
	res.Timeline = append([]Second{}, rows[:min(end, len(rows))]...)
	for i := range res.Timeline {
		t := &res.Timeline[i]
		t.P50, t.P99 = round(t.P50, 4), round(t.P99, 4)
	}
}

// extraLatency adds percentiles under names that begin with prefix, milliseconds.
func (res *Result) extraLatency(prefix string, h *Histogram) {
	for _, q := range []struct {
		name string
		q    float64
	}{{"p50", 0.5}, {"p99", 0.99}, {"max", 1}} {
		res.Extra[prefix+"_"+q.name+"_ms"] = round(millis(h.Quantile(q.q)), 4)
	}
}

// JSON writes the result as one object on one line.
func (res *Result) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(res)
}
