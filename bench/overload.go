package main

import (
	"fmt"
	"strings"
	"time"
)

// overload offers ten times what the server sustains, as far as the lean client can, for half as long as a timed job, and
// looks at the five seconds after. Nothing that is refused or late fails the run here: that is the measurement.
func (w *workbench) overload() (*result, error) {
	const floodConns, patience = 200, 10 * time.Second
	if !w.lean.has("put") {
		return nil, notMeasured("this quorate binary has no verb bench put")
	}
	calm, err := w.s.connect(steadyConns)
	if err != nil {
		return nil, err
	}
	defer calm.close()
	d := w.sizes.timed() / 2
	free, _, err := w.runLean(&leanLoad{workload: "put", conns: w.sizes.conns, clients: w.sizes.clients, d: d, extra: leanBasic})
	if err != nil {
		return nil, err
	}
	steady := workload{clients: steadyClients, rate: float64(w.sizes.steady), d: d, grace: patience, limit: bounded(patience), crowded: true, op: putOf(value256())}
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
		x   *leanReport
		err error
	}
	flooded := make(chan ran, 1)
	go func() {
		x, _, err := w.runLean(&leanLoad{workload: "put", conns: floodConns, clients: w.sizes.flood, rate: 10 * free.Rate, d: d, crowded: true,
			extra: append([]string{"--timeout", patience.String()}, leanBasic...)})
		flooded <- ran{x, err}
	}()
	// The client needs a moment to connect. What follows begins when nothing more is offered; what was offered may still wait.
	const connecting = 1500 * time.Millisecond
	time.Sleep(connecting + d)
	steady.d = 5 * time.Second
	if w.o.quick {
		steady.d = time.Second
	}
	after, err := w.s.drive(calm, &steady)
	if err != nil {
		return nil, err
	}
	flood := <-flooded
	if flood.err != nil {
		return nil, flood.err
	}
	m, err := w.s.memory()
	if err != nil {
		return nil, err
	}
	for _, text := range flood.x.Samples {
		fmt.Printf("    the flood met: %s\n", text)
	}
	r := judgeFlood(flood.x).set("sustainable", free.Rate).set("before p99", quantile(latencies(before.samples, nil), 0.99))
	l := latencies(after.samples, nil)
	r.set("after rate", after.steadyRate(steady.d)).set("after p50", quantile(l, 0.5)).set("after p99", quantile(l, 0.99))
	r.set("after failed", 1-after.share(answered))
	r.set("resident", float64(rest.resident)).set("peak resident", float64(m.peak))
	return r.set("above resting", float64(m.peak-rest.resident)), nil
}

// judgeFlood are the figures of the flood itself. What the client could not send, because too much was under way, was not
// offered to the server.
func judgeFlood(x *leanReport) *result {
	refusals, failures := x.Extra["refused"], x.Errors
	for _, text := range x.Samples { // refusals that the client does not count as such; it lists the texts of both
		var n float64
		var code string
		known := x.Extra["refused"] > 0 && strings.Contains(text, "too many requests")
		if _, err := fmt.Sscanf(text, "%f x %s", &n, &code); err == nil && !known && (code == "Unavailable:" || strings.Contains(text, "too many requests")) {
			refusals, failures = refusals+n, failures-n
		}
	}
	sent := x.Operations + refusals + failures
	r := newResult().set("offered", sent/x.Seconds).set("answered", x.Rate)
	if sent > 0 {
		r.set("refused", refusals/sent).set("failed", failures/sent)
	}
	if x.Extra["refused"] > 0 {
		r.set("refusal p50", x.Extra["refused_p50_ms"]).set("refusal p99", x.Extra["refused_p99_ms"])
	}
	return r.set("p50", x.Latency.P50).set("p99", x.Latency.P99)
}

func (o *outcome) share(f fate) float64 {
	if len(o.samples) == 0 {
		return 0
	}
	return float64(o.count(f)) / float64(len(o.samples))
}
