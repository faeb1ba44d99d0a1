package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestLoad runs the scenarios of testdata: "load" reads a configuration whose arguments, variables and file are given in
// the input (a line each: arg TEXT, env NAME=VALUE, program NAME, host NAME; the file follows a line "file") and prints the
// settings that differ from the defaults, then the notes, or the error with the exit code that a program gives it.
func TestLoad(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "load" {
				d.Fatalf(t, "unknown verb %q", d.Cmd)
			}
			return outcome(Load(scenario(t, d.Input)))
		})
	})
}

func scenario(t *testing.T, input string) Source {
	src := Source{Program: "quorate", ReadFile: func(name string) ([]byte, error) { return nil, fmt.Errorf("open %s: %w", name, os.ErrNotExist) }}
	lines := strings.Split(input, "\n")
	for i, line := range lines {
		verb, rest, _ := strings.Cut(line, " ")
		switch verb {
		case "":
		case "program":
			src.Program = rest
		case "arg":
			src.Args = append(src.Args, rest)
		case "env":
			src.Env = append(src.Env, rest)
		case "host":
			src.DefaultHost = func() (string, error) { return rest, nil }
		case "file":
			text := strings.Join(lines[i+1:], "\n")
			src.ReadFile = func(string) ([]byte, error) { return []byte(text), nil }
			src.Args = append(src.Args, "--config-file=q.yaml")
			return src
		default:
			t.Fatalf("scenario line %q", line)
		}
	}
	return src
}

func outcome(l Loaded, err error) string {
	var b strings.Builder
	if l.Config != nil && err == nil {
		for _, v := range l.Config.Values() {
			if lookup(v.Name).changed(l.Config) {
				fmt.Fprintf(&b, "%s=%s (%s)\n", v.Name, v.Text, v.Origin)
			}
		}
	}
	for _, n := range l.Notes {
		level := "info"
		if n.Warn {
			level = "warn"
		}
		fmt.Fprintf(&b, "%s: %s %v\n", level, n.Message, n.Fields)
	}
	var usage *UsageError
	switch {
	case errors.As(err, &usage):
		first, _, _ := strings.Cut(usage.Text, "\n")
		fmt.Fprintf(&b, "exit 2: %s\n", first)
	case err != nil:
		fmt.Fprintf(&b, "exit 1: %v\n", err)
	case l.Action != Run:
		fmt.Fprintf(&b, "action %d\n", l.Action)
	}
	return b.String()
}

// TestMaskArgs: whoever sees the command line does not see passwords.
func TestMaskArgs(t *testing.T) {
	args := []string{"quorate", "serve", "--discovery-password=a", "-discovery-password=b=c", "--discovery-password", "d", "--name=discovery-password", "--name", "e", "--discovery-password"}
	want := []string{"quorate", "serve", "--discovery-password=***", "-discovery-password=***", "--discovery-password", "***", "--name=discovery-password", "--name", "e", "--discovery-password"}
	if got := MaskArgs(args); !slices.Equal(got, want) {
		t.Errorf("masked %q, want %q", got, want)
	}
	if args[2] != "--discovery-password=a" {
		t.Error("the argument was changed")
	}
}
