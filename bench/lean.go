package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// lean is Quorate's own load generator, `quorate bench`, run as a process against either server. It costs the machine less
// than grpc-go's client, so that more of it is left for the server.
type lean struct {
	bin   string
	verbs string // the help text that names them; empty: the binary has no such verb
}

func findLean(bin string) *lean {
	out, err := exec.Command(bin, "bench", "--help").CombinedOutput()
	if err != nil {
		return &lean{bin: bin}
	}
	return &lean{bin: bin, verbs: string(out)}
}

// has says whether a workload is among the verbs.
func (l *lean) has(workload string) bool {
	for line := range strings.SplitSeq(l.verbs, "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == workload {
			return true
		}
	}
	return false
}

// leanReport is the part of its JSON that is used.
type leanReport struct {
	Workload   string   `json:"workload"`
	Seconds    float64  `json:"seconds"`
	Operations float64  `json:"operations"`
	Errors     float64  `json:"errors"`
	Samples    []string `json:"error_samples"`
	Rate       float64  `json:"rate"`
	Latency    struct {
		P50  float64 `json:"p50"`
		P99  float64 `json:"p99"`
		P999 float64 `json:"p99.9"`
	} `json:"latency_ms"`
	Timeline []struct {
		Operations float64 `json:"operations"`
	} `json:"timeline"`
	Extra map[string]float64 `json:"extra"`
}

// leanLoad is one run of it.
type leanLoad struct {
	workload       string
	conns, clients int           // clients: requests under way at most
	rate           float64       // 0: closed loop
	d              time.Duration // 0: until what extra says is done
	crowded        bool          // errors are counted instead of ending the run
	extra          []string
}

func (l *leanLoad) args(s *server) []string {
	var addrs []string
	for _, p := range s.members {
		addrs = append(addrs, p.addr)
	}
	args := []string{"bench", l.workload, "--endpoints", strings.Join(addrs, ","), "--connections", strconv.Itoa(l.conns), "-w", "json"}
	if l.d > 0 {
		args = append(args, "--seconds", strconv.FormatFloat(l.d.Seconds(), 'f', -1, 64))
	}
	if l.rate > 0 {
		args = append(args, "--rate", strconv.FormatFloat(l.rate, 'f', 0, 64), "--in-flight", strconv.Itoa(l.clients))
	} else {
		args = append(args, "--clients", strconv.Itoa(l.clients))
	}
	if l.crowded {
		args = append(args, "--allow-errors")
	}
	return slices.Concat(args, s.access.lean, l.extra)
}

// runLean runs the lean client against the server; cpu is the server's while the client ran, its preparations included.
func (w *workbench) runLean(l *leanLoad) (x *leanReport, cpu time.Duration, err error) {
	if !w.lean.has(l.workload) {
		return nil, 0, notMeasured("this quorate binary has no verb bench " + l.workload)
	}
	cpu0, err := w.s.cpu()
	if err != nil {
		return nil, 0, err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(w.lean.bin, l.args(w.s)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, 0, fmt.Errorf("quorate bench %s: %w: %s", l.workload, err, bytes.TrimSpace(stderr.Bytes()))
	}
	cpu1, err := w.s.cpu()
	if err != nil {
		return nil, 0, err
	}
	x, err = parseLean(stdout.Bytes(), l.crowded)
	return x, cpu1 - cpu0, err
}

// parseLean reads the JSON; errors in it are a failure unless the load allows them.
func parseLean(text []byte, crowded bool) (*leanReport, error) {
	var x leanReport
	if err := json.Unmarshal(text, &x); err != nil {
		return nil, fmt.Errorf("the result of quorate bench: %w", err)
	}
	if crowded {
		return &x, nil
	}
	if n := x.Errors + x.Extra["refused"]; n > 0 {
		return nil, fmt.Errorf("quorate bench %s: %.0f errors: %s", x.Workload, n, strings.Join(x.Samples, "; "))
	}
	if x.Operations == 0 || x.Rate == 0 {
		return nil, errors.New("quorate bench did nothing")
	}
	return &x, nil
}

// result are the figures, with the CPU that the server used for the operations.
func (x *leanReport) result(cpu time.Duration) *result {
	r := newResult().set("operations", x.Operations).set("seconds", x.Seconds).set("rate", x.Rate)
	r.set("p50", x.Latency.P50).set("p99", x.Latency.P99).set("p99.9", x.Latency.P999)
	if n := x.Extra["refused"]; n > 0 {
		r.set("refused", n/(n+x.Operations))
	}
	if x.Operations > 0 {
		r.set("CPU per op", float64(cpu.Nanoseconds())/1e3/x.Operations)
	}
	return r
}

// leanBasic are the sizes of the store that the lean client writes and reads beside the basic one.
var leanBasic = []string{"--keys", strconv.Itoa(keySpace), "--value-size", "256", "--prefix", "bench/lean/"}

func (w *workbench) leanParallel(workload string) (*result, error) {
	x, cpu, err := w.runLean(&leanLoad{workload: workload, conns: w.sizes.conns, clients: w.sizes.clients, d: w.sizes.timed(), extra: leanBasic})
	if err != nil {
		return nil, err
	}
	return x.result(cpu), nil
}

func (w *workbench) leanPut() (*result, error) { return w.leanParallel("put") }

func (w *workbench) leanGet() (*result, error) {
	if _, _, err := w.runLean(&leanLoad{workload: "fill", conns: w.sizes.conns, clients: w.sizes.clients, extra: leanBasic}); err != nil {
		return nil, err
	}
	return w.leanParallel("get")
}

// leanNodes is the load of node leases by the lean client. It has keys of its own, with 512 bytes of value.
func (w *workbench) leanNodes(rate float64, d time.Duration) *leanLoad {
	return &leanLoad{workload: "txn", conns: nodeConns, clients: min(nodeClients, w.sizes.nodes), rate: rate, d: d, crowded: true,
		extra: []string{"--node-leases", "--keys", strconv.Itoa(w.sizes.nodes)}}
}

// leanSetUp makes the nodes' keys, and then returns the CPU that the server uses for what the lean client does before its
// first request: it reads all keys' revisions.
func (w *workbench) leanSetUp() (time.Duration, error) {
	var cpu time.Duration
	for range 2 {
		once := w.leanNodes(0, 0)
		once.extra = append(once.extra, "--total", "1")
		var err error
		if _, cpu, err = w.runLean(once); err != nil {
			return 0, err
		}
	}
	return cpu, nil
}

func (w *workbench) leanLease() (*result, error) {
	before, err := w.leanSetUp()
	if err != nil {
		return nil, err
	}
	x, cpu, err := w.runLean(w.leanNodes(float64(w.sizes.leaseRate), w.sizes.timed()))
	if err != nil {
		return nil, err
	}
	return x.result(cpu-before).set("conflicts", x.Extra["conflicts"]), nil
}

// leanLeaseMax looks for the highest rate that is sustained.
func (w *workbench) leanLeaseMax() (*result, error) {
	before, err := w.leanSetUp()
	if err != nil {
		return nil, err
	}
	var best *result
	d := w.sizes.timed() / 2
	rate, err := highest(float64(w.sizes.leaseRate), twice(func(rate float64) (bool, error) {
		x, cpu, err := w.runLean(w.leanNodes(rate, d))
		if err != nil {
			return false, err
		}
		ok := x.sustained(rate, d)
		fmt.Printf("    %.0f/s: %.0f/s, p99 %.0f ms, %v\n", rate, x.steadyRate(d), x.Latency.P99, ok)
		if ok {
			best = x.result(cpu - before)
		}
		return ok, nil
	}))
	if err != nil {
		return nil, err
	}
	return best.set("rate", rate), nil
}

// sustained says whether the rate was.
func (x *leanReport) sustained(rate float64, d time.Duration) bool {
	return x.Errors+x.Extra["refused"]+x.Extra["not_sent"] == 0 && sustained(x.Latency.P99, x.steadyRate(d), rate)
}

// steadyRate is how many requests a second were answered in the whole seconds of a schedule of length d but the first; of a
// schedule too short for that, in all of it.
func (x *leanReport) steadyRate(d time.Duration) float64 {
	whole := min(int(d.Seconds()), len(x.Timeline))
	if whole < 2 {
		return x.Rate
	}
	sum := 0.0
	for _, t := range x.Timeline[1:whole] {
		sum += t.Operations
	}
	return sum / float64(whole-1)
}

// leanFanOut is the fan-out with the lean client on both sides.
func (w *workbench) leanFanOut() (*result, error) {
	conns := strconv.Itoa(max(1, w.sizes.watchers/5))
	x, cpu, err := w.runLean(&leanLoad{workload: "watch", conns: 50, clients: min(w.sizes.clients, w.sizes.puts/2),
		extra: []string{"--watchers", strconv.Itoa(w.sizes.watchers), "--watch-connections", conns, "--streams", conns,
			"--total", strconv.Itoa(w.sizes.puts * w.sizes.repeats)}})
	if err != nil {
		return nil, err
	}
	events := x.Extra["events"]
	if want := float64(w.sizes.watchers * w.sizes.puts * w.sizes.repeats); events != want {
		return nil, fmt.Errorf("quorate bench watch delivered %.0f events, want %.0f", events, want)
	}
	r := newResult().set("operations", events).set("events/s", x.Extra["events_per_second"])
	r.set("p50", x.Extra["event_p50_ms"]).set("p99", x.Extra["event_p99_ms"])
	return r.set("CPU per event", float64(cpu.Nanoseconds())/1e3/events), nil
}
