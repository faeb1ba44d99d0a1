package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"time"
)

// result is one workload on one server in one round. Latencies are in milliseconds, memory and disk in bytes.
type result struct {
	Workload   string  `json:"workload"`
	Server     string  `json:"server"`
	Round      int     `json:"round"`
	Operations int     `json:"operations,omitempty"`
	Seconds    float64 `json:"seconds"`
	Rate       float64 `json:"rate,omitempty"`
	P50        float64 `json:"p50_ms,omitempty"`
	P99        float64 `json:"p99_ms,omitempty"`
	P999       float64 `json:"p999_ms,omitempty"`
	CPUMicros  float64 `json:"server_cpu_us_per_op,omitempty"`
	IdleCPU    float64 `json:"idle_cpu,omitempty"` // cores
	RSS        int64   `json:"rss,omitempty"`
	PeakRSS    int64   `json:"peak_rss,omitempty"`
	Disk       int64   `json:"disk,omitempty"`
}

// figures are the columns of the report: a name, a unit, and how to read them.
var figures = []struct {
	name   string
	format string
	of     func(*result) float64
}{
	{"rate /s", "%.0f", func(r *result) float64 { return r.Rate }},
	{"p50 ms", "%.2f", func(r *result) float64 { return r.P50 }},
	{"p99 ms", "%.2f", func(r *result) float64 { return r.P99 }},
	{"p99.9 ms", "%.2f", func(r *result) float64 { return r.P999 }},
	{"CPU us/op", "%.1f", func(r *result) float64 { return r.CPUMicros }},
	{"seconds", "%.2f", func(r *result) float64 { return r.Seconds }},
	{"RSS MB", "%.0f", func(r *result) float64 { return float64(r.RSS) / 1e6 }},
	{"peak MB", "%.0f", func(r *result) float64 { return float64(r.PeakRSS) / 1e6 }},
	{"disk MB", "%.0f", func(r *result) float64 { return float64(r.Disk) / 1e6 }},
}

func (r *result) line() string {
	var parts []string
	for _, f := range figures {
		if v := f.of(r); v != 0 {
			parts = append(parts, fmt.Sprintf(f.format+" %s", v, f.name))
		}
	}
	return strings.Join(parts, ", ")
}

// report collects the results of a run.
type report struct {
	Time    string    `json:"time"`
	Command string    `json:"command"`
	Machine string    `json:"machine"`
	Results []*result `json:"results"`
}

func newReport(o *options) *report {
	command := fmt.Sprintf("go run . -build -rounds %d -seconds %d -keys %d -clients %d -conns %d", o.rounds, o.seconds, o.keys, o.clients, o.conns)
	if o.only != "" {
		command += fmt.Sprintf(" -only %q", o.only)
	}
	return &report{Time: time.Now().UTC().Format(time.RFC3339), Command: command, Machine: machine()}
}

// machine describes what was measured on.
func machine() string {
	model := "unknown CPU"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for _, line := range strings.Split(string(text), "\n") {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d cores of %s, %s/%s, %s; client and server share the machine", runtime.NumCPU(), model, runtime.GOOS, runtime.GOARCH, runtime.Version())
}

func (r *report) add(x *result) { r.Results = append(r.Results, x) }

// median of one figure of one workload on one server over the rounds.
func (r *report) median(workload, server string, of func(*result) float64) float64 {
	var v []float64
	for _, x := range r.Results {
		if x.Workload == workload && x.Server == server {
			v = append(v, of(x))
		}
	}
	if len(v) == 0 {
		return 0
	}
	sort.Float64s(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// markdown is the table of medians, with the ratio of ours to etcd's.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Quorate beside etcd, %s\n\nCommand: `%s` in `bench/`. Machine: %s. Both with fsync, on the same disk, one after the other. Medians of the rounds.\n\n",
		r.Time, r.Command, r.Machine)
	b.WriteString("| workload | figure | quorate | etcd | quorate / etcd |\n|---|---|---|---|---|\n")
	for _, j := range jobs {
		for _, f := range figures {
			ours, theirs := r.median(j.name, "quorate", f.of), r.median(j.name, "etcd", f.of)
			if ours == 0 && theirs == 0 {
				continue
			}
			ratio := "-"
			if theirs != 0 {
				ratio = fmt.Sprintf("%.2f", ours/theirs)
			}
			fmt.Fprintf(&b, "| %s | %s | "+f.format+" | "+f.format+" | %s |\n", j.name, f.name, ours, theirs, ratio)
		}
	}
	return b.String()
}

func (r *report) write(o *options) error {
	text := r.markdown()
	fmt.Println(text)
	if o.out == "" {
		return nil
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	name := filepath.Join(o.out, strings.NewReplacer(":", "", "-", "").Replace(r.Time))
	if err := os.WriteFile(name+".md", []byte(text), 0o644); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(name+".json", append(raw, '\n'), 0o644)
}
