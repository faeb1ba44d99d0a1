package main

import (
	"bufio"
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

// kubeRun is `quorate bench k8s`, run once against a server: the store is filled once, and every job of the suite takes its part.
type kubeRun struct {
	report kubeReport
	usage  map[string]*usage // by the phase's name
}

// usage is what the server used in a phase.
type usage struct {
	begin time.Time
	took  time.Duration
	cpu   time.Duration // until it ends, the server's at its begin
	peak  int64
}

// kubeReport is the part of its JSON that is used.
type kubeReport struct {
	FillSeconds float64    `json:"fill_seconds"`
	FillPods    float64    `json:"fill_pods"`
	Run         kubePhase  `json:"run"`
	Relist      kubePhase  `json:"relist"`
	Flood       *kubeFlood `json:"flood"`
	Limit       *kubeLimit `json:"limit"`
	Broken      []string   `json:"broken"`
	Verified    *struct{}  `json:"verified"`
}

type kubePhase struct {
	Seconds  float64   `json:"seconds"`
	All      kubeRow   `json:"all"`
	Calls    []kubeRow `json:"calls"`
	Delivery []kubeRow `json:"delivery"`
	Progress kubeRow   `json:"progress"`
	Rate     float64   `json:"events_per_second"`
	Late     float64   `json:"late"`
	CPU      float64   `json:"client_cpu_share"`
	Relisted float64   `json:"relist_ms"`
	OK       bool      `json:"ok"`
}

type kubeRow struct {
	Verb     string  `json:"verb"`
	Resource string  `json:"resource"`
	Count    float64 `json:"count"`
	Rate     float64 `json:"per_second"`
	Errors   float64 `json:"errors"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	P999     float64 `json:"p99.9_ms"`
	P9999    float64 `json:"p99.99_ms"`
}

type kubeFlood struct {
	Seconds float64 `json:"seconds"`
	Events  float64 `json:"events"`
	Rate    float64 `json:"events_per_second"`
}

type kubeLimit struct {
	Nodes  float64 `json:"nodes"`
	Probes []struct {
		Nodes       float64 `json:"nodes"`
		OK          bool    `json:"ok"`
		Rate        float64 `json:"calls_per_second"`
		P99         float64 `json:"p99_ms"`
		DeliveryP99 float64 `json:"delivery_p99_ms"`
	} `json:"probes"`
}

// kubeArgs are the same for both servers.
func (w *workbench) kubeArgs() []string {
	z := w.sizes
	var addrs []string
	for _, p := range w.s.members {
		addrs = append(addrs, p.addr)
	}
	return []string{"bench", "k8s", "--endpoints", strings.Join(addrs, ","), "-w", "json", "--nodes", strconv.Itoa(z.kubeNodes),
		"--pods-max", strconv.Itoa(30 * z.kubeNodes), "--seconds", strconv.Itoa(z.kubeSeconds), "--compaction-interval", fmt.Sprintf("%ds", max(z.kubeSeconds/3, 1)),
		"--relist", strconv.Itoa(z.kubeSeconds / 2), "--flood", strconv.Itoa(z.kubeFlood), "--find-limit", "--probe-seconds", strconv.Itoa(z.kubeProbe),
		"--nodes-max", strconv.Itoa(z.kubeMax), "--list-all-interval", "40s"}
}

// kubeAll runs it and keeps what it says for the other jobs. Its exit code says whether a service level was broken, which is a
// result here and no failure.
func (w *workbench) kubeAll() (*result, error) {
	if !w.lean.has("k8s") {
		return nil, notMeasured("this quorate binary has no verb bench k8s")
	}
	w.kube = &kubeRun{usage: map[string]*usage{}}
	var stdout bytes.Buffer
	cmd := exec.Command(w.lean.bin, w.kubeArgs()...)
	cmd.Stdout = &stdout
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var last string
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		last = lines.Text()
		fmt.Println("    " + last)
		if err := w.kube.mark(w.s, last); err != nil {
			return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
		}
	}
	var code *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &code) {
		return nil, err
	}
	r := &w.kube.report
	if err := json.Unmarshal(stdout.Bytes(), r); err != nil || r.Limit == nil || r.Flood == nil || r.Verified == nil {
		return nil, fmt.Errorf("quorate bench k8s did not come to its end: %s", last)
	}
	for _, why := range r.Broken {
		fmt.Println("    broken: " + why)
	}
	out := r.Run.result().set("CPU share", w.kube.usage["run"].share()).set("peak resident", float64(w.kube.usage["run"].peak))
	out.set("fill", r.FillSeconds).set("pods", r.FillPods)
	return out, nil
}

// mark takes note of what the server used, at the lines that say that a phase begins or ends.
func (k *kubeRun) mark(s *server, line string) error {
	name, begins := strings.CutPrefix(line, "measuring: ")
	if !begins {
		var ends bool
		if name, ends = strings.CutPrefix(line, "measured: "); !ends || k.usage[name] == nil {
			return nil
		}
	}
	cpu, err := s.cpu()
	if err != nil {
		return err
	}
	if begins {
		k.usage[name] = &usage{begin: time.Now(), cpu: cpu}
		return s.resetPeak()
	}
	u := k.usage[name]
	m, err := s.memory()
	u.took, u.cpu, u.peak = time.Since(u.begin), cpu-u.cpu, m.peak
	return err
}

// share is of one core.
func (u *usage) share() float64 {
	if u == nil || u.took == 0 {
		return 0
	}
	return u.cpu.Seconds() / u.took.Seconds()
}

// result are the figures of a phase.
func (p *kubePhase) result() *result {
	r := newResult().set("operations", p.All.Count).set("seconds", p.Seconds).set("rate", p.All.Rate)
	r.set("p50", p.All.P50).set("p99", p.All.P99).set("p99.9", p.All.P999).set("errors", p.All.Errors)
	r.set("slowest p99", slowest(p.Calls)).set("delivery p99", slowest(p.Delivery))
	r.set("progress p99", p.Progress.P99).set("progress p99.9", p.Progress.P999).set("progress p99.99", p.Progress.P9999)
	return r.set("events/s", p.Rate).set("late", p.Late/max(p.All.Count, 1)).set("client CPU", p.CPU)
}

// slowest is the largest p99 of rows that are not pages of 10,000 objects, whose level is another.
func slowest(rows []kubeRow) float64 {
	ms := []float64{0}
	for _, r := range rows {
		if !strings.HasSuffix(r.Verb, "-10000") {
			ms = append(ms, r.P99)
		}
	}
	return slices.Max(ms)
}

func (w *workbench) kubeRelist() (*result, error) {
	r := &w.kube.report.Relist
	return r.result().set("relist", r.Relisted/1e3).set("CPU share", w.kube.usage["relist"].share()).set("peak resident", float64(w.kube.usage["relist"].peak)), nil
}

func (w *workbench) kubeFlood() (*result, error) {
	f := w.kube.report.Flood
	r := newResult().set("operations", f.Events).set("seconds", f.Seconds).set("events/s", f.Rate)
	if u := w.kube.usage["flood"]; u != nil && f.Events > 0 {
		r.set("CPU per event", float64(u.cpu.Nanoseconds())/1e3/f.Events)
	}
	return r, nil
}

func (w *workbench) kubeLimit() (*result, error) {
	l := w.kube.report.Limit
	r := newResult().set("nodes", l.Nodes)
	for _, p := range l.Probes {
		if p.OK && p.Nodes == l.Nodes {
			r.set("rate", p.Rate).set("p99", p.P99).set("delivery p99", p.DeliveryP99)
		}
	}
	if u := w.kube.usage["limit"]; u != nil {
		r.set("peak resident", float64(u.peak))
	}
	return r, nil
}
