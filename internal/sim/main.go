// Command sim simulates clusters, each under a seed: see package world. The same seed at the same commit gives the same run, to the
// byte of its trace.
//
// One seed is replayed with a line for each event: simulated seconds, who (a member, a client, "-" for the surroundings, "!" for a broken
// promise), what. Many seeds are run one after the other in several processes, because a run owns its process's randomness; then
// only what was found is printed, and how much was simulated.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"

	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/internal/sim/world"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		os.Exit(1)
	}
}

// A process collects seldom, because a run holds little and makes much of it, unless it holds much.
const (
	gcPercent   = 800
	memoryLimit = 1 << 30 // bytes
)

type options struct {
	seed   uint64
	seeds  int
	hours  float64
	jobs   int
	worker bool
	quiet  bool
	first  bool
	long   int
}

func command(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("sim", flag.ContinueOnError)
	var o options
	flags.Uint64Var(&o.seed, "seed", 0, "replay this seed, a line for each event; with -seeds or -hours: the first seed (0: by the time)")
	flags.IntVar(&o.seeds, "seeds", 0, "run so many seeds, from -seed on")
	flags.Float64Var(&o.hours, "hours", 0, "run seeds until so many hours have been simulated")
	flags.IntVar(&o.jobs, "jobs", runtime.NumCPU(), "processes that run seeds")
	flags.BoolVar(&o.worker, "worker", false, "read seeds from standard input and write reports (used by -seeds and -hours)")
	flags.IntVar(&o.long, "long", 6, "one of so many seeds simulates minutes in which little happens; a replay needs the same number")
	flags.BoolVar(&o.quiet, "q", false, "replay without the lines of the events")
	flags.BoolVar(&o.first, "first", false, "with -seeds: end at the first violation")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q: seeds are given as -seed N", flags.Arg(0))
	case o.jobs < 1 || o.long < 1 || o.seeds < 0 || o.hours < 0:
		return fmt.Errorf("-jobs %d, -long %d, -seeds %d, -hours %g: at least one job, -long 1 or more, and nothing negative", o.jobs, o.long, o.seeds, o.hours)
	case o.worker:
		return work(o, out)
	case o.seeds == 0 && o.hours == 0:
		return replay(o, out)
	}
	return swarm(ctx, o, out)
}

// replay runs one seed.
func replay(o options, out io.Writer) error {
	b := bufio.NewWriter(out)
	lines := io.Writer(b)
	if o.quiet {
		lines = nil
	}
	r := world.Run(o.seed, world.Settings{LongOf: o.long}, lines)
	fmt.Fprintln(b, summary(r))
	for _, v := range r.Violations {
		fmt.Fprintln(b, v)
	}
	if err := b.Flush(); err != nil {
		return err
	}
	if len(r.Violations) > 0 {
		return fmt.Errorf("seed %d broke %d promises", r.Seed, len(r.Violations))
	}
	return nil
}

func summary(r world.Report) string {
	return fmt.Sprintf("seed %d: %.1f s simulated, %d events, revision %d, %+v, trace %016x, %d violations",
		r.Seed, r.Simulated.Seconds(), r.Steps, r.Revision, r.Counts, r.Sum, len(r.Violations))
}

// work runs the seeds on standard input, one a line, and writes a report for each.
func work(o options, out io.Writer) error {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	in := bufio.NewScanner(os.Stdin)
	encoder := json.NewEncoder(out)
	for in.Scan() {
		seed, err := strconv.ParseUint(in.Text(), 10, 64)
		if err != nil {
			return err
		}
		if err := encoder.Encode(world.Run(seed, world.Settings{LongOf: o.long}, nil)); err != nil {
			return err
		}
	}
	return in.Err()
}

// totals of a swarm.
type totals struct {
	sync.Mutex
	next      uint64
	begun     int
	done      int
	simulated time.Duration
	bad       []world.Report
	counts    world.Counts
	events    uint64
}

// swarm runs many seeds in several processes.
func swarm(ctx context.Context, o options, out io.Writer) error {
	if o.seed == 0 {
		o.seed = uint64(clock.Real().Now().Unix()) * 1000
	}
	t := &totals{next: o.seed}
	began := clock.Real().Now()
	fmt.Fprintf(out, "seeds from %d on, %d processes\n", o.seed, o.jobs)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	errs := make([]error, o.jobs)
	for i := range o.jobs {
		running.Go(func() { errs[i] = t.job(ctx, o, out) })
	}
	ticker := time.NewTicker(30 * time.Second)
	go func() {
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				fmt.Fprintln(out, t.line(began))
			case <-ctx.Done():
				return
			}
		}
	}()
	running.Wait()
	fmt.Fprintln(out, t.line(began))
	for _, err := range errs {
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	if n := len(t.bad); n > 0 {
		return fmt.Errorf("%d of %d seeds broke promises: replay the first with -seed %d -long %d", n, t.done, t.bad[0].Seed, o.long)
	}
	return nil
}

func (t *totals) line(began time.Time) string {
	t.Lock()
	defer t.Unlock()
	return fmt.Sprintf("%d seeds, %.2f hours simulated in %v, %d events, %+v, %d seeds with violations",
		t.done, t.simulated.Hours(), clock.Real().Now().Sub(began).Round(time.Second), t.events, t.counts, len(t.bad))
}

// take gives the next seed, or reports that there is nothing more to do.
func (t *totals) take(o options) (uint64, bool) {
	t.Lock()
	defer t.Unlock()
	if o.first && len(t.bad) > 0 || o.seeds > 0 && t.begun >= o.seeds || o.hours > 0 && t.simulated.Hours() >= o.hours {
		return 0, false
	}
	t.begun++
	t.next++
	return t.next - 1, true
}

// job feeds seeds to one process after the other.
func (t *totals) job(ctx context.Context, o options, out io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for more := true; more && err == nil; {
		more, err = t.process(exec.CommandContext(ctx, self, "-worker", "-long", strconv.Itoa(o.long)), o, out)
	}
	return err
}

// processSeeds is how many seeds a process runs: an engine whose disk failed in a flush leaves what it held behind, some 0.8 MB.
const processSeeds = 500

// process feeds seeds to one process, and reports whether there may be more of them.
func (t *totals) process(cmd *exec.Cmd, o options, out io.Writer) (bool, error) {
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return false, err
	}
	answers, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	decoder := json.NewDecoder(answers)
	for range processSeeds {
		seed, ok := t.take(o)
		if !ok {
			return false, errors.Join(in.Close(), cmd.Wait())
		}
		var r world.Report
		_, err := fmt.Fprintln(in, seed)
		if err == nil {
			err = decoder.Decode(&r)
		}
		if err != nil {
			return false, fmt.Errorf("seed %d ended its process: %w", seed, err)
		}
		t.add(r, out)
	}
	return true, errors.Join(in.Close(), cmd.Wait())
}

func (t *totals) add(r world.Report, out io.Writer) {
	t.Lock()
	defer t.Unlock()
	t.done++
	t.simulated += r.Simulated
	t.events += r.Steps
	t.counts.Add(r.Counts)
	if len(r.Violations) > 0 {
		t.bad = append(t.bad, r)
		fmt.Fprintf(out, "%s\n  %v\n", summary(r), r.Violations[0])
	}
}
