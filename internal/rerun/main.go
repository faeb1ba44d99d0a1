// Command rerun is `go test` that runs again by itself what failed, so that a rare failure of a test's own timing does not block a
// release and is never silent either.
//
//	go run ./internal/rerun [-flaky FILE] -- ARGUMENTS OF GO TEST
//
// It is not for suites in which any failure is a finding: simulations, fuzzing, fault runs, clusters of processes, the race detector.
//
// How data passes: stream reads the events of `go test -json`, prints what `go test` would have printed and keeps what failed; verdict
// says whether that may be excused at all; who may is run alone, again and again, in processes of its own; and what was excused is
// named at the end of the output, and of FILE, with its first failure.
//
// Invariants: the exit code is 0 only if every failure was that of a test which then passed each of its runs alone, of which there are
// five at least. Never excused are builds, panics, time-outs, data races, tests whose output speaks of a bug, of something lost or of
// members that differ, fuzz tests, a package that fails without a failed test, and more than three tests at a time.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"quorate.dev/quorate/internal/clock"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "rerun:", err)
	}
	os.Exit(code)
}

// The runs that a failed test has to pass alone.
const (
	runsWanted = 20
	runsAtMost = 3 * time.Minute // no more are begun after that, if there were runsLeast
	runsLeast  = 5
	excusedMax = 3 // tests; more are no rare failure
)

// runner runs go test.
type runner struct {
	ctx    context.Context
	dir    string // "" for the current one
	out    io.Writer
	errors io.Writer
	clock  clock.Clock
	wanted int // runs that a failed test has to pass alone
}

func command(ctx context.Context, args []string, out, errors io.Writer) (int, error) {
	flags := flag.NewFlagSet("rerun", flag.ContinueOnError)
	file := flags.String("flaky", "", "a file to which what was excused is appended")
	if err := flags.Parse(args); err != nil {
		return 2, err
	}
	r := &runner{ctx: ctx, out: out, errors: errors, clock: clock.Real(), wanted: runsWanted}
	code, report, err := r.test(flags.Args())
	if report == "" || err != nil {
		return code, err
	}
	fmt.Fprint(out, report)
	if *file == "" {
		return code, nil
	}
	f, err := os.OpenFile(*file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = f.WriteString(report)
		if closed := f.Close(); err == nil {
			err = closed
		}
	}
	if err != nil {
		return 1, fmt.Errorf("what was excused cannot be kept: %w", err)
	}
	return code, nil
}
