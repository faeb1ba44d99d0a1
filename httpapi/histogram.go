package httpapi

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Histogram counts durations in buckets without locks or allocation, several equal observations at once if need be.
type Histogram struct {
	bounds []float64       // upper bounds, seconds, ascending
	counts []atomic.Uint64 // one more than bounds: the last is above them all
	sum    atomic.Uint64   // float64 bits, seconds
}

// NewHistogram makes one with count buckets, the first up to start seconds and each factor times the one before.
func NewHistogram(start, factor float64, count int) *Histogram {
	return &Histogram{bounds: prometheus.ExponentialBuckets(start, factor, count), counts: make([]atomic.Uint64, count+1)}
}

// Observe counts one duration.
func (h *Histogram) Observe(d time.Duration) { h.ObserveMany(d, 1) }

// ObserveMany counts n observations of one duration.
func (h *Histogram) ObserveMany(d time.Duration, n uint64) {
	if n == 0 {
		return
	}
	seconds := d.Seconds()
	i := 0
	for i < len(h.bounds) && seconds > h.bounds[i] {
		i++
	}
	h.counts[i].Add(n)
	for add := seconds * float64(n); ; {
		old := h.sum.Load()
		if h.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+add)) {
			return
		}
	}
}

// count is the number of observations.
func (h *Histogram) count() (n uint64) {
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}

// digest is a reading as Digest shows it.
func (h *Histogram) digest() DigestTimes {
	out := DigestTimes{Counts: make([]uint64, len(h.counts)), Sum: math.Float64frombits(h.sum.Load())}
	for i := range h.counts {
		out.Counts[i] = h.counts[i].Load()
	}
	return out
}

// metric is a reading. Observations that arrive meanwhile may be in the counts and not yet in the sum.
func (h *Histogram) metric(desc *prometheus.Desc, labels ...string) prometheus.Metric {
	buckets := make(map[float64]uint64, len(h.bounds))
	var n uint64
	for i, bound := range h.bounds {
		n += h.counts[i].Load()
		buckets[bound] = n
	}
	n += h.counts[len(h.bounds)].Load()
	return prometheus.MustNewConstHistogram(desc, n, math.Float64frombits(h.sum.Load()), buckets, labels...)
}
