// Command faults runs clusters of real processes under random faults and has what their clients recorded judged. It prints
// one line of JSON a run, and fails if any run found a violation.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"quorate.dev/quorate/internal/check"
	"quorate.dev/quorate/test/cluster/faults"
	"quorate.dev/quorate/test/compat/proc"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := 0
	if err := command(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		code = 1
	}
	stop()
	proc.Cleanup()
	os.Exit(code)
}

func command(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("faults", flag.ContinueOnError)
	seed := flags.Uint64("seed", 0, "seed of the first run; each further run has the next; 0: by the time")
	runs := flags.Int("runs", 1, "how many runs")
	length := flags.Duration("for", time.Minute, "how long faults happen in each run")
	heal := flags.Duration("heal", 10*time.Second, "after the last fault is mended, every client must be answered within this")
	members := flags.Int("members", 0, "members of each cluster; 0: three or five, by the seed")
	out := flags.String("out", "", "append the line of each run to this file too")
	dir := flags.String("dir", "", "where data and what is found are kept (default: below the temporary directory)")
	verbose := flags.Bool("v", false, "say what happens when")
	keep := flags.Bool("keep", false, "keep history and logs of every run, even if nothing was found")
	packets := flags.String("packets", "mixed", "network namespaces and packets (needs root) instead of proxies: always, never, or in every third run (mixed)")
	again := flags.String("judge", "", "judge a kept history.json again and run nothing")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *again != "" {
		return judge(*again)
	}
	kind := proc.Quorate
	if os.Getenv("CLUSTER_KIND") == "etcd" {
		kind = proc.Etcd
	}
	if *seed == 0 {
		*seed = uint64(time.Now().Unix())
	}
	if *dir == "" {
		*dir = filepath.Join(os.TempDir(), "faults")
	}
	fmt.Fprintln(os.Stderr, "clock jumps are left out: a process cannot be given a clock of its own, and the machine's is everybody's")
	bad := 0
	for i := range *runs {
		cfg := faults.Config{Kind: kind, Seed: *seed + uint64(i), For: *length, Members: *members, Disk: os.Geteuid() == 0,
			Keep: *keep, Heal: *heal,
			Packets: *packets == "always" || *packets == "mixed" && os.Geteuid() == 0 && i%3 == 2,
			Dir:     filepath.Join(*dir, fmt.Sprintf("%s-%d", kind, *seed+uint64(i))), Log: func(string, ...any) {}}
		if *verbose {
			cfg.Log = func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
		}
		if err := os.RemoveAll(cfg.Dir); err != nil {
			return err
		}
		summary, err := faults.Run(ctx, cfg)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			summary.Violations = append(summary.Violations, "the run failed: "+err.Error())
		}
		if len(summary.Violations) > 0 {
			bad++
		}
		if err := report(summary, *out); err != nil {
			return err
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d runs found violations; histories and logs are below %s", bad, *runs, *dir)
	}
	return nil
}

// report prints a summary, and appends it to a file.
func report(s faults.Summary, out string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	fmt.Println(string(b))
	if out == "" {
		return nil
	}
	f, err := os.OpenFile(out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(f, string(b)+"\n"); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// judge checks a kept history again.
func judge(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var kept faults.Kept
	if err := json.Unmarshal(b, &kept); err != nil {
		return err
	}
	compacted := int64(0)
	for _, o := range kept.Operations {
		if o.Request.Kind == check.Compact {
			compacted = max(compacted, o.Request.Revision)
		}
	}
	truth, first := check.TruthOf(kept.Watches, compacted)
	found := append(first.Violations, check.Watches(kept.Watches, truth).Violations...)
	found = append(found, check.Linearizable(kept.Operations, truth, 2*time.Minute).Violations...)
	for _, v := range found {
		fmt.Println(v)
	}
	if len(found) > 0 {
		return fmt.Errorf("%d violations", len(found))
	}
	return nil
}
