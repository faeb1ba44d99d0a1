package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
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
		if f := strings.Fields(line); len(f) > 0 && f[0] == workload {
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
	Errors     int      `json:"errors"`
	Samples    []string `json:"error_samples"`
	Rate       float64  `json:"rate"`
	Latency    struct {
		P50  float64 `json:"p50"`
		P99  float64 `json:"p99"`
		P999 float64 `json:"p99.9"`
	} `json:"latency_ms"`
}

// leanLoad is one run of it.
type leanLoad struct {
	workload       string
	conns, clients int
	rate           float64 // 0: closed loop
	d              time.Duration
	extra          []string
}

func (l *leanLoad) args(s *server) []string {
	var addrs []string
	for _, p := range s.members {
		addrs = append(addrs, p.addr)
	}
	args := []string{"bench", l.workload, "--endpoints", strings.Join(addrs, ","), "--conns", strconv.Itoa(l.conns),
		"--clients", strconv.Itoa(l.clients), "--duration", l.d.String(), "-w", "json"}
	if l.rate > 0 {
		args = append(args, "--rate", strconv.FormatFloat(l.rate, 'f', 0, 64))
	}
	return append(args, l.extra...)
}

// runLean runs the lean client against the server; CPU is the server's while the client ran.
func (w *workbench) runLean(l *leanLoad) (*result, error) {
	if !w.lean.has(l.workload) {
		return nil, notMeasured("this quorate binary has no verb bench " + l.workload)
	}
	cpu0, err := w.s.cpu()
	if err != nil {
		return nil, err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(w.lean.bin, l.args(w.s)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("quorate bench %s: %w: %s", l.workload, err, bytes.TrimSpace(stderr.Bytes()))
	}
	cpu1, err := w.s.cpu()
	if err != nil {
		return nil, err
	}
	return parseLean(stdout.Bytes(), cpu1-cpu0)
}

func parseLean(text []byte, cpu time.Duration) (*result, error) {
	var x leanReport
	if err := json.Unmarshal(text, &x); err != nil {
		return nil, fmt.Errorf("the result of quorate bench: %w", err)
	}
	if x.Errors > 0 {
		return nil, fmt.Errorf("quorate bench %s: %d errors: %s", x.Workload, x.Errors, strings.Join(x.Samples, "; "))
	}
	if x.Operations == 0 || x.Rate == 0 {
		return nil, errors.New("quorate bench did nothing")
	}
	r := newResult().set("operations", x.Operations).set("seconds", x.Seconds).set("rate", x.Rate)
	r.set("p50", x.Latency.P50).set("p99", x.Latency.P99).set("p99.9", x.Latency.P999)
	return r.set("CPU per op", float64(cpu.Nanoseconds())/1e3/x.Operations), nil
}

func (w *workbench) leanParallel(workload string) (*result, error) {
	return w.runLean(&leanLoad{workload: workload, conns: w.sizes.conns, clients: w.sizes.clients, d: w.sizes.timed(), extra: leanBasic})
}

// leanBasic are the sizes of the basic store.
var leanBasic = []string{"--keys", strconv.Itoa(keySpace), "--value-size", "256"}

func (w *workbench) leanPut() (*result, error) { return w.leanParallel("put") }

func (w *workbench) leanGet() (*result, error) { return w.leanParallel("get") }

// leanLeaseVerb is the workload of `quorate bench` that renews node leases.
const leanLeaseVerb = "lease-txn"

func (w *workbench) leanRenewals(rate float64, d time.Duration) (*result, error) {
	return w.runLean(&leanLoad{workload: leanLeaseVerb, conns: nodeConns, clients: nodeClients, rate: rate, d: d,
		extra: []string{"--keys", strconv.Itoa(w.sizes.nodes)}})
}

func (w *workbench) leanLease() (*result, error) {
	return w.leanRenewals(float64(w.sizes.leaseRate), w.sizes.timed())
}

func (w *workbench) leanLeaseMax() (*result, error) {
	if !w.lean.has(leanLeaseVerb) {
		return nil, notMeasured("this quorate binary has no verb bench " + leanLeaseVerb)
	}
	var best *result
	rate, err := highest(float64(w.sizes.leaseRate), func(rate float64) (bool, error) {
		r, err := w.leanRenewals(rate, w.sizes.timed()/2)
		if err != nil {
			return false, err
		}
		ok := sustained(r.Figures["p99"], r.Figures["rate"], rate)
		fmt.Printf("    %.0f/s: %.0f/s, p99 %.0f ms, %v\n", rate, r.Figures["rate"], r.Figures["p99"], ok)
		if ok {
			best = r
		}
		return ok, nil
	})
	if err != nil {
		return nil, err
	}
	return best.set("rate", rate), nil
}
