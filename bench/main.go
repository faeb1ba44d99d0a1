// Command bench runs Quorate and a real etcd in turn on one machine, with the same clients, and writes a dated report: rate,
// latency, server CPU per operation, memory, disk, restart time, for every row of the goals.
//
// It is not a load generator for production clusters and it imports nothing of the product: the servers are processes with
// the same flags, and each suite of jobs gets fresh data directories on the same disk with fsync on. Within a round every
// suite runs on one server and then on the other, the order changing from suite to suite and from round to round, so that
// drift of the machine hits both.
//
// How data passes: a job drives a server and returns a result (figures by name); a report collects the results of all rounds,
// takes medians, and holds them against the goals.
//
// Invariants: a number in a report was measured in the run that the report names; a request that failed ends the run (the
// overload counts failures, that is its purpose); a report of a run that ended early says so in its name and first line.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// options are the command line.
type options struct {
	quorate, etcd string
	build         bool
	out, dir      string
	rounds        int
	members       int
	only          string
	quick         bool
	list          bool
	sizes         sizes
}

func main() {
	o := options{sizes: full()}
	flag.StringVar(&o.quorate, "quorate", "", "the quorate binary")
	flag.StringVar(&o.etcd, "etcd", "", "the etcd binary; \"none\" measures quorate alone")
	flag.BoolVar(&o.build, "build", false, "build both binaries from this repository first")
	flag.StringVar(&o.out, "out", "results", "directory of the report; empty prints only, as -quick does")
	flag.StringVar(&o.dir, "dir", "", "directory for the data, on the disk to measure; default: a temporary one")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds, each of both servers")
	flag.IntVar(&o.members, "members", 1, "members of each cluster, all on this machine; with more than 1 only the jobs run that make sense then")
	flag.StringVar(&o.only, "only", "", "comma separated names of jobs or suites; default: all")
	flag.BoolVar(&o.quick, "quick", false, "one round of everything with small sizes: checks the harness, the numbers mean nothing")
	flag.BoolVar(&o.list, "list", false, "list the jobs and end")
	flag.IntVar(&o.sizes.seconds, "seconds", o.sizes.seconds, "seconds of each timed job")
	flag.IntVar(&o.sizes.keys, "keys", o.sizes.keys, "keys of 1 KB in the large store")
	flag.IntVar(&o.sizes.pods, "pods", o.sizes.pods, "pods of 10 KB in the store of pods")
	flag.IntVar(&o.sizes.clients, "clients", o.sizes.clients, "concurrent clients of the parallel jobs")
	flag.IntVar(&o.sizes.conns, "conns", o.sizes.conns, "connections of the parallel jobs")
	flag.IntVar(&o.sizes.kubeNodes, "k8s-nodes", o.sizes.kubeNodes, "nodes of the Kubernetes cluster")
	flag.IntVar(&o.sizes.kubeMax, "k8s-nodes-max", o.sizes.kubeMax, "nodes at which the search for its largest size ends")
	flag.IntVar(&o.sizes.nodes, "nodes", o.sizes.nodes, "nodes that renew a lease each")
	flag.Parse()
	if err := run(&o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(o *options) error {
	plan, err := choose(o.only, o.members)
	if err != nil {
		return err
	}
	if o.list {
		for _, s := range plan {
			for _, j := range s.jobs {
				fmt.Printf("%-8s %-22s %s\n", s.name, j.name, j.what)
			}
		}
		return nil
	}
	if o.quick {
		o.sizes, o.rounds, o.out = quick(), 1, ""
	}
	if o.dir == "" {
		dir, err := os.MkdirTemp("", "quorate-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.dir = dir
	}
	contenders, err := prepare(o)
	if err != nil {
		return err
	}
	r, err := newReport(o, contenders)
	if err != nil {
		return err
	}
	fmt.Println(r.Machine)
	failure := measure(o, plan, contenders, r)
	if failure != nil {
		r.Failure = strings.ReplaceAll(failure.Error(), o.dir, "DIR") // a report names no path of the machine
	}
	r.Took = time.Since(r.start).Round(time.Second).String()
	return errors.Join(failure, r.write(o.out))
}

// measure runs all rounds.
func measure(o *options, plan []*suite, contenders []*contender, r *report) error {
	for round := range o.rounds {
		for i, s := range plan {
			if s.once && round > 0 {
				continue
			}
			order := slices.Clone(contenders)
			if (round+i)%2 == 1 {
				slices.Reverse(order)
			}
			for _, c := range order {
				if err := runSuite(o, s, c, round, r); err != nil {
					return fmt.Errorf("round %d, %s, %s: %w", round+1, s.name, c.name, err)
				}
			}
		}
	}
	return nil
}

// prepare finds or builds the binaries.
func prepare(o *options) ([]*contender, error) {
	if o.build {
		if err := buildBoth(o); err != nil {
			return nil, err
		}
	}
	contenders := []*contender{{name: "quorate", bin: o.quorate}, {name: "etcd", bin: o.etcd}}
	if o.etcd == "none" {
		contenders = contenders[:1]
	}
	for _, c := range contenders {
		if c.bin == "" {
			return nil, fmt.Errorf("no binary for %s: give -%s PATH, or -build", c.name, c.name)
		}
		out, err := exec.Command(c.bin, "--version").Output()
		if err != nil {
			return nil, fmt.Errorf("%s --version: %w", c.name, err)
		}
		c.version = strings.TrimSuffix(strings.TrimSpace(strings.SplitN(string(out), "\n", 2)[0]), ", compatible with")
	}
	return contenders, nil
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
		linked := *b.bin + ".linked"
		cmd := exec.Command("go", "build", "-o", linked, b.pkg)
		cmd.Dir = b.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", b.name, err, out)
		}
		if err := install(linked, *b.bin); err != nil {
			return fmt.Errorf("installing %s: %w", b.name, err)
		}
	}
	return nil
}

// install copies a program, as installing does. How a linker writes its output decides how the kernel keeps the file's pages,
// and with that how much of the program counts as resident memory of a server that has just been built.
func install(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return errors.Join(err, in.Close())
	}
	// In the small pieces in which unpacking writes; *os.File would let the kernel copy all at once.
	_, err = io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{in}, make([]byte, 32<<10))
	return errors.Join(err, out.Close(), in.Close(), os.Remove(from))
}
