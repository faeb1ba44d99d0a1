package ops

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
)

// metrics are the lines of a page of Prometheus: a series, such as `name{a="b"}`, and its value.
type metrics map[string]float64

// parseMetrics reads a page. What it does not understand it leaves out.
func parseMetrics(page string) metrics {
	m := metrics{}
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' {
			continue
		}
		if v, err := strconv.ParseFloat(line[at+1:], 64); err == nil {
			m[line[:at]] = v
		}
	}
	return m
}

// value is the value of a series without labels, 0 when there is none.
func (m metrics) value(name string) float64 { return m[name] }

// has says whether there is a series of that name without labels.
func (m metrics) has(name string) bool { _, ok := m[name]; return ok }

// labelled calls f with every series of that name, and a function that finds its labels.
func (m metrics) labelled(name string, f func(label func(string) string, v float64)) {
	for series, v := range m {
		rest, ok := strings.CutPrefix(series, name+"{")
		if !ok {
			continue
		}
		f(func(label string) string {
			for _, pair := range strings.Split(strings.TrimSuffix(rest, "}"), ",") {
				if k, v, ok := strings.Cut(pair, "="); ok && k == label {
					return strings.Trim(v, `"`)
				}
			}
			return ""
		}, v)
	}
}

// sum adds all series of that name.
func (m metrics) sum(name string) (total float64) {
	total = m[name]
	m.labelled(name, func(_ func(string) string, v float64) { total += v })
	return total
}

// minus is what happened between two pages, of counters.
func (m metrics) minus(before metrics) metrics {
	out := metrics{}
	for series, v := range m {
		out[series] = v - before[series]
	}
	return out
}

// histogram is one of a page, by a label if want is not "".
type histogram struct {
	count   float64
	bounds  []float64
	buckets []float64 // cumulative
}

// histogram finds the histogram of that name whose labels other than le are those given, as `To="1f"`; "" for none.
func (m metrics) histogram(name, labels string) histogram {
	h := histogram{}
	type bucket struct{ bound, n float64 }
	var all []bucket
	for series, v := range m {
		rest, ok := strings.CutPrefix(series, name+"_bucket{")
		if !ok || labels != "" && !strings.Contains(rest, labels) {
			continue
		}
		_, le, _ := strings.Cut(rest, `le="`)
		le, _, _ = strings.Cut(le, `"`)
		if bound, err := strconv.ParseFloat(le, 64); err == nil {
			all = append(all, bucket{bound, v})
		}
	}
	slices.SortFunc(all, func(a, b bucket) int { return cmp.Compare(a.bound, b.bound) })
	for _, b := range all {
		h.bounds, h.buckets = append(h.bounds, b.bound), append(h.buckets, b.n)
		h.count = b.n
	}
	return h
}

// quantile is the upper bound of the bucket that the q-th part falls into; of the last one, the bound of the one before.
func (h histogram) quantile(q float64) float64 {
	for i, n := range h.buckets {
		if n >= q*h.count && n > 0 {
			if math.IsInf(h.bounds[i], 1) && i > 0 {
				return h.bounds[i-1]
			}
			return h.bounds[i]
		}
	}
	return 0
}
