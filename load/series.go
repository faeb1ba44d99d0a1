package load

import "math"

// point is one column of a plot: one second, or several that share a column.
type point struct {
	second   float64 // middle, from the begin of measuring
	end      int     // of the last second
	rate     float64 // operations a second
	p50, p99 float64 // milliseconds, the highest of the seconds that share the column; 0 without operations
}

// points are the columns of a plot, at most width. The last second is left out when it is not a whole one, because its rate
// would look like a drop.
func (res *Result) points(width int) []point {
	rows := res.Timeline
	if n := len(rows); n > 1 && res.Seconds < float64(rows[n-1].Second) {
		rows = rows[:n-1]
	}
	per := (len(rows) + width - 1) / max(width, 1)
	var out []point
	for len(rows) > 0 {
		group := rows[:min(per, len(rows))]
		rows = rows[len(group):]
		end := group[len(group)-1].Second
		p := point{second: float64(group[0].Second-1+end) / 2, end: end}
		for _, s := range group {
			p.rate += float64(s.Operations) / float64(len(group))
			p.p50, p.p99 = max(p.p50, s.P50), max(p.p99, s.P99)
		}
		out = append(out, p)
	}
	return out
}

// scale maps values to 0..1, by their logarithm between two round numbers.
type scale struct{ low, high float64 }

// latencyScale covers all latencies of points with round ends.
func latencyScale(points []point) scale {
	low, high := math.Inf(1), 0.0
	for _, p := range points {
		for _, v := range []float64{p.p50, p.p99} {
			if v > 0 {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	if high == 0 {
		return scale{0.1, 1}
	}
	s := scale{roundDown(low), roundUp(high)}
	if s.high < 4*s.low {
		s.low = roundDown(s.low * 0.9)
		s.high = roundUp(s.high * 1.1)
	}
	return s
}

func (s scale) at(v float64) float64 {
	return min(1, max(0, math.Log(v/s.low)/math.Log(s.high/s.low)))
}

// ticks are the round numbers of the scale.
func (s scale) ticks() []float64 {
	var out []float64
	for v := s.low; v <= s.high*1.0001; v = roundUp(v * 1.0001) {
		out = append(out, v)
	}
	return out
}

// roundUp is the next of 1, 2 and 5 times a power of ten that is not below v.
func roundUp(v float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if m*unit >= v*(1-1e-9) {
			return tidy(m * unit)
		}
	}
	return tidy(10 * unit)
}

// roundDown is the last of them that is not above v.
func roundDown(v float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{5, 2} {
		if m*unit <= v*(1+1e-9) {
			return tidy(m * unit)
		}
	}
	return tidy(unit)
}

// tidy takes away the noise of powers of ten, so that labels and files are the same everywhere.
func tidy(v float64) float64 {
	unit := math.Pow(10, 3-math.Floor(math.Log10(v)))
	return math.Round(v*unit) / unit
}
