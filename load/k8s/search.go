package k8s

import (
	"context"
	"fmt"
)

// Limit is the result of a search.
type Limit struct {
	Nodes  int     `json:"nodes"` // the most that kept the service levels, 0: none
	Capped bool    `json:"capped"`
	Probes []Probe `json:"probes"`
}

// Probe is one run of a search.
type Probe struct {
	Nodes       int      `json:"nodes"`
	OK          bool     `json:"ok"`
	Rate        float64  `json:"calls_per_second"`
	P99         float64  `json:"p99_ms"`
	DeliveryP99 float64  `json:"delivery_p99_ms"`
	Broken      []string `json:"broken"`
}

// search finds the largest n up to max for which try is true, to within a fraction of what failed: it doubles from start, and
// halves what is between. It returns 0 when nothing is true.
func search(start, max int, within float64, try func(n int) (bool, error)) (best int, err error) {
	lo, hi := 0, 0
	for n := min(start, max); hi == 0; n = min(2*n, max) {
		ok, err := try(n)
		if err != nil {
			return lo, err
		}
		if !ok {
			hi = n
			break
		}
		if lo = n; n == max {
			return lo, nil
		}
	}
	for float64(hi-lo) > within*float64(hi) && hi-lo > 1 {
		mid := lo + (hi-lo)/2
		ok, err := try(mid)
		if err != nil {
			return lo, err
		}
		if ok {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo, nil
}

// findLimit looks for the largest cluster that keeps the service levels. A probe that fails is made twice, so that a moment in
// which the machine did something else does not decide.
func (d *driver) findLimit(ctx context.Context) (*Limit, error) {
	l := &Limit{Probes: []Probe{}}
	var err error
	l.Nodes, err = search(d.o.Size.Nodes, d.o.Search.NodesMax, d.o.Search.Within, func(n int) (bool, error) {
		if n > len(d.nodes) {
			if err := d.grow(ctx, n); err != nil {
				return false, err
			}
			if err := d.settle(ctx); err != nil {
				return false, err
			}
		}
		ok := false
		for i := 0; i < 2 && !ok; i++ {
			r, err := d.measure(ctx, &trial{nodes: n, measured: d.o.Search.Measured, hasty: true})
			if err != nil {
				return false, err
			}
			p := probeOf(r)
			l.Probes = append(l.Probes, p)
			d.o.Progress(p.line())
			ok = p.OK
		}
		return ok, nil
	})
	l.Capped = l.Nodes == d.o.Search.NodesMax
	return l, err
}

func probeOf(r *RunReport) Probe {
	p := Probe{Nodes: r.Nodes, OK: r.OK, Rate: r.All.Rate, P99: r.All.P99, Broken: r.Broken}
	for _, row := range r.Delivery {
		p.DeliveryP99 = max(p.DeliveryP99, row.P99)
	}
	return p
}

func (p *Probe) line() string {
	s := fmt.Sprintf("probe of %d nodes: %.0f calls/s, p99 %.1f ms, delivery p99 %.1f ms: ", p.Nodes, p.Rate, p.P99, p.DeliveryP99)
	if p.OK {
		return s + "kept"
	}
	return s + "broken: " + p.Broken[0]
}
