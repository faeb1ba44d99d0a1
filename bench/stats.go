package main

import (
	"slices"
	"time"
)

// quantile is the nearest-rank quantile of sorted latencies in milliseconds: the smallest that a share q of them does not
// exceed. No latencies give 0.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(q*float64(len(sorted)) + 0.999999) // ceil, safe against 0.99*100 = 99.00000000000001
	return milliseconds(sorted[min(max(rank, 1), len(sorted))-1])
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// spread is what a figure was over the rounds.
type spread struct {
	n                int
	median, min, max float64
}

// spreadOf summarizes values; the median of an even number of values is the mean of the middle two.
func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return spread{n: n, median: (v[(n-1)/2] + v[n/2]) / 2, min: v[0], max: v[n-1]}
}

func median(values ...float64) float64 { return spreadOf(values).median }

// latencies are the sorted times of the samples that keep admits; nil admits all.
func latencies(samples []sample, keep func(sample) bool) []time.Duration {
	out := make([]time.Duration, 0, len(samples))
	for _, s := range samples {
		if keep == nil || keep(s) {
			out = append(out, s.took)
		}
	}
	slices.Sort(out)
	return out
}

// between admits the samples that were due from a to b, measured from the start of the run.
func between(a, b time.Duration) func(sample) bool {
	return func(s sample) bool { return s.at >= a && s.at < b }
}
