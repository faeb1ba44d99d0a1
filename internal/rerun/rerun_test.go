package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"quorate.dev/quorate/internal/clock"
)

// tried runs the tests of packages of testdata/module.
func tried(t *testing.T, args ...string) (code int, out, report string) {
	t.Helper()
	t.Setenv("RERUN_STATE", filepath.Join(t.TempDir(), "state"))
	var text, errors bytes.Buffer
	r := &runner{ctx: t.Context(), dir: "testdata/module", out: &text, errors: &errors, clock: clock.Real(), wanted: runsLeast}
	code, report, err := r.test(args)
	if err != nil {
		t.Fatal(err)
	}
	return code, text.String() + errors.String(), report
}

// TestExcused: a test that fails once and then passes alone is excused, by name and with what it said.
func TestExcused(t *testing.T) {
	code, out, report := tried(t, "-timeout", "5m", "./once")
	if code != 0 {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	for _, want := range []string{"FLAKY: example.test/module/once TestOnce failed, and then passed 5 of 5 runs", "the machine was slow",
		"FLAKY: example.test/module/once TestOnceMore failed", "and slower", "is to be mended"} {
		if !strings.Contains(report, want) {
			t.Errorf("%q is not in\n%s", want, report)
		}
	}
	for _, want := range []string{"--- FAIL: TestOnce ", "    --- FAIL: TestOnce/part ", "the machine was slow", "FAIL\texample.test/module/once"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}

// TestNotExcused: what fails again is not excused, nor what is never excused, of which nothing is run again.
func TestNotExcused(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		{"always", []string{"./always"}, []string{"as always", "run 1 of TestAlways alone: exit status 1, 0 tests passed; it is not excused"}},
		{"a panic", []string{"./once", "./panics"}, []string{"panic: for a reason", "nothing is run again: example.test/module/panics: its output has: panic: for a reason"}},
		{"a build", []string{"./once", "./broken"}, []string{"undefined: nothing", "nothing is run again: example.test/module/broken [example.test/module/broken.test] does not build"}},
		{"something lost", []string{"./once", "./grave"}, []string{`nothing is run again: example.test/module/grave: TestGrave says "lost"`}},
		{"no test", []string{"./dies"}, []string{"nothing is run again: example.test/module/dies: it failed, and none of its tests did"}},
		{"a time-out", []string{"-timeout", "1s", "./slow"}, []string{"nothing is run again: example.test/module/slow: its output has: panic: test timed out after 1s"}},
		{"no package", []string{"./nowhere"}, []string{"nothing is run again: "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, report := tried(t, c.args...)
			if code != 1 || report != "" {
				t.Errorf("exit code %d, report %q", code, report)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("%q is not in\n%s", want, out)
				}
			}
		})
	}
}

// times are durations as go test prints them.
var times = regexp.MustCompile(`[0-9.]+s\b|\(cached\)`)

// TestPrintsWhatGoTestPrints compares with go test itself.
func TestPrintsWhatGoTestPrints(t *testing.T) {
	for _, args := range [][]string{{"./always"}, {"./once", "./panics"}} {
		_, out, _ := tried(t, args...)
		out, _, _ = strings.Cut(out, "\nrun again alone")
		out, _, _ = strings.Cut(out, "\nnothing is run again")
		t.Setenv("RERUN_STATE", filepath.Join(t.TempDir(), "state"))
		var plain bytes.Buffer
		r := &runner{ctx: t.Context(), dir: "testdata/module", errors: os.Stderr}
		c := r.command(append([]string{"test"}, args...))
		c.Stdout = &plain
		_ = c.Run() // fails as it should
		if got, want := lines(out), lines(plain.String()); !slices.Equal(got, want) {
			t.Errorf("go test %v prints\n%s\nand this\n%s", args, plain.String(), out)
		}
	}
}

// lines are those of a text in an order that does not depend on that of the packages, without durations, addresses and stacks.
func lines(text string) (out []string) {
	for text := range strings.Lines(times.ReplaceAllString(text, "T")) {
		if !strings.HasPrefix(text, "\t/") && !strings.HasPrefix(text, "goroutine ") && !strings.Contains(text, "(0x") && !strings.HasPrefix(text, "created by ") {
			out = append(out, strings.TrimSpace(text))
		}
	}
	slices.Sort(out)
	return out
}

func TestArguments(t *testing.T) {
	a := parse(strings.Fields("-timeout 15m -count=1 -run X -v -tags invariants -race ./... quorate.dev/x -args -decisions 5"))
	if got := strings.Join(a.alone("p", "TestY"), " "); got != "test -json -count=1 -run ^TestY$ -timeout 15m -tags invariants -race p -args -decisions 5" {
		t.Error(got)
	}
	if got := strings.Join(a.packages, " "); got != "./... quorate.dev/x" || !a.verbose {
		t.Error(got, a.verbose)
	}
}

// TestFile: what was excused is kept for the end of a longer log, and a command without an excuse writes nothing.
func TestFile(t *testing.T) {
	t.Chdir("testdata/module")
	t.Setenv("RERUN_STATE", filepath.Join(t.TempDir(), "state"))
	file := filepath.Join(t.TempDir(), "flaky")
	var text, errors bytes.Buffer
	if code, err := command(t.Context(), []string{"-flaky", file, "--", "-run", "TestFine", "./once"}, &text, &errors); code != 0 || err != nil {
		t.Fatal(code, err, text.String())
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("something was written: %v", err)
	}
	if code, err := command(t.Context(), []string{"-flaky", file, "--", "./nowhere"}, &text, &errors); code != 1 || err != nil {
		t.Error(code, err)
	}
}
