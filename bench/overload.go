package main

import (
	"time"

	"google.golang.org/grpc/codes"
)

// overload offers ten times what the server sustains, as far as the client can, for as long as a timed job, and looks at the
// five seconds after. Nothing fails the run here: what was refused and what timed out is the measurement.
func (w *workbench) overload() (*result, error) {
	const floodConns, patience = 200, 10 * time.Second
	cs, err := w.s.connect(floodConns)
	if err != nil {
		return nil, err
	}
	defer cs.close()
	calm, err := w.s.connect(steadyConns)
	if err != nil {
		return nil, err
	}
	defer calm.close()
	op := putOf(value256())
	d := w.sizes.timed() / 2
	free, err := w.s.drive(cs, &workload{clients: w.sizes.clients, d: d, op: op})
	if err != nil {
		return nil, err
	}
	sustainable := float64(len(free.samples)) / free.took.Seconds()
	steady := workload{clients: steadyClients, rate: float64(w.sizes.steady), d: d, grace: patience, limit: bounded(patience), tolerant: true, op: op}
	before, err := w.s.drive(calm, &steady)
	if err != nil {
		return nil, err
	}
	rest, err := w.s.memory()
	if err != nil {
		return nil, err
	}
	if err := w.s.resetPeak(); err != nil {
		return nil, err
	}
	type ran struct {
		o   *outcome
		err error
	}
	flood := make(chan ran, 1)
	go func() {
		o, err := w.s.drive(cs, &workload{clients: w.sizes.flood, rate: 10 * sustainable, d: d, limit: bounded(patience), tolerant: true, op: op})
		flood <- ran{o, err}
	}()
	time.Sleep(d)
	steady.d = 5 * time.Second
	if w.o.quick {
		steady.d = time.Second
	}
	after, err := w.s.drive(calm, &steady)
	if err != nil {
		return nil, err
	}
	x := <-flood
	if x.err != nil {
		return nil, x.err
	}
	m, err := w.s.memory()
	if err != nil {
		return nil, err
	}
	r := judgeFlood(x.o, d)
	r.set("sustainable", sustainable).set("before p99", quantile(latencies(before.samples, nil), 0.99))
	l := latencies(after.samples, nil)
	r.set("after rate", after.steadyRate(steady.d)).set("after p50", quantile(l, 0.5)).set("after p99", quantile(l, 0.99))
	r.set("after failed", share(after, func(s sample) bool { return s.code != codes.OK }))
	r.set("resident", float64(rest.resident)).set("peak resident", float64(m.peak))
	return r.set("above resting", float64(m.peak-rest.resident)), nil
}

// judgeFlood are the figures of the flood itself, which was offered for d.
func judgeFlood(o *outcome, d time.Duration) *result {
	sent := &outcome{samples: o.samples[:len(o.samples)-o.unsent]}
	for i := range sent.samples { // the time a request waited for a client of its own says nothing about the server
		sent.samples[i].took -= sent.samples[i].wait
	}
	r := newResult().set("offered", float64(len(sent.samples))/d.Seconds())
	r.set("answered", share(sent, func(s sample) bool { return s.code == codes.OK })*float64(len(sent.samples))/d.Seconds())
	r.set("refused", share(sent, refusal)).set("timed out", share(sent, func(s sample) bool { return s.code == codes.DeadlineExceeded }))
	if l := latencies(sent.samples, refusal); len(l) > 0 {
		r.set("refusal p50", quantile(l, 0.5)).set("refusal p99", quantile(l, 0.99))
	}
	l := latencies(sent.samples, func(s sample) bool { return s.code == codes.OK })
	return r.set("p50", quantile(l, 0.5)).set("p99", quantile(l, 0.99))
}

// refusal says whether the server itself said no.
func refusal(s sample) bool { return s.code == codes.ResourceExhausted || s.code == codes.Unavailable }

func share(o *outcome, which func(sample) bool) float64 {
	if len(o.samples) == 0 {
		return 0
	}
	n := 0
	for _, s := range o.samples {
		if which(s) {
			n++
		}
	}
	return float64(n) / float64(len(o.samples))
}
