// Command bench runs Quorate and a real etcd in turn on the same machine with the same grpc-go client and writes a dated
// report: rate, latency, server CPU per operation, memory, disk, restart time.
//
// It is not a load generator for production clusters and it imports nothing of the product: both servers are processes with
// the same flags, and both get fresh data directories on the same disk with fsync on. Each round runs one server after
// the other (A B, then B A), so that drift of the machine hits both.
//
// Invariants: a number in a report was measured in the run that the report names; a request that failed ends the run.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// options are the command line.
type options struct {
	quorate, etcd string
	build         bool
	out, dir      string
	rounds        int
	seconds       int
	keys          int
	clients       int
	conns         int
	only          string
}

func main() {
	var o options
	flag.StringVar(&o.quorate, "quorate", "", "the quorate binary")
	flag.StringVar(&o.etcd, "etcd", "", "the etcd binary; \"none\" measures quorate alone")
	flag.BoolVar(&o.build, "build", false, "build both binaries from this repository first")
	flag.StringVar(&o.out, "out", "results", "directory of the report; empty prints only")
	flag.StringVar(&o.dir, "dir", "", "directory for the data, on the disk to measure; default: a temporary one")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds, each of both servers")
	flag.IntVar(&o.seconds, "seconds", 10, "seconds of each timed workload")
	flag.IntVar(&o.keys, "keys", 500_000, "keys of 1 KB in the large store")
	flag.IntVar(&o.clients, "clients", 1000, "concurrent clients of the parallel workloads")
	flag.IntVar(&o.conns, "conns", 100, "connections of the parallel workloads")
	flag.StringVar(&o.only, "only", "", "comma separated names of workloads; default: all")
	flag.Parse()
	if err := run(&o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(o *options) error {
	if o.dir == "" {
		dir, err := os.MkdirTemp("", "quorate-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.dir = dir
	}
	if o.build {
		if err := buildBoth(o); err != nil {
			return err
		}
	}
	servers := []*contender{{name: "quorate", bin: o.quorate}, {name: "etcd", bin: o.etcd}}
	if o.etcd == "none" {
		servers = servers[:1]
	}
	for _, s := range servers {
		if s.bin == "" {
			return fmt.Errorf("no binary for %s: give -%s PATH, or -build", s.name, s.name)
		}
	}
	r := newReport(o)
	for round := range o.rounds {
		order := append([]*contender(nil), servers...)
		if round%2 == 1 && len(order) == 2 {
			order[0], order[1] = order[1], order[0]
		}
		for _, s := range order {
			fmt.Printf("round %d of %d: %s\n", round+1, o.rounds, s.name)
			if err := measure(o, s, round, r); err != nil {
				return fmt.Errorf("round %d, %s: %w", round+1, s.name, err)
			}
		}
	}
	return r.write(o)
}

// buildBoth builds quorate and the etcd of test/compat into the data directory.
func buildBoth(o *options) error {
	root, err := exec.Command("git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		return fmt.Errorf("-build needs the repository: %w", err)
	}
	top := strings.TrimSpace(string(root))
	for _, b := range []struct {
		bin      *string
		name     string
		dir, pkg string
	}{{&o.quorate, "quorate", top, "./cmd/quorate"}, {&o.etcd, "etcd", filepath.Join(top, "test/compat"), "./cmd/etcd"}} {
		if *b.bin != "" {
			continue
		}
		*b.bin = filepath.Join(o.dir, b.name)
		cmd := exec.Command("go", "build", "-o", *b.bin, b.pkg)
		cmd.Dir = b.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", b.name, err, out)
		}
	}
	return nil
}

// measure runs every workload on a fresh server.
func measure(o *options, c *contender, round int, r *report) error {
	dir := filepath.Join(o.dir, fmt.Sprintf("%s-%d", c.name, round))
	defer os.RemoveAll(dir)
	p, err := c.start(dir)
	if err != nil {
		return err
	}
	defer func() { p.kill() }()
	w := &workbench{o: o, p: p}
	for _, job := range jobs {
		if o.only != "" && !contains(strings.Split(o.only, ","), job.name) {
			continue
		}
		start := time.Now()
		got, err := job.run(w)
		if err != nil {
			return fmt.Errorf("%s: %w", job.name, err)
		}
		got.Workload, got.Server, got.Round = job.name, c.name, round
		r.add(got)
		fmt.Printf("  %-22s %s (%.0f s)\n", job.name, got.line(), time.Since(start).Seconds())
		if w.p != p {
			p = w.p
		}
	}
	return p.stop()
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
