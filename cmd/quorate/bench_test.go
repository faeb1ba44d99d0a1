package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorate.dev/quorate/embed"
	"quorate.dev/quorate/load"
)

// command runs a command line and returns its exit code and what it wrote.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	files := [2]*os.File{}
	for i, name := range []string{"out", "err"} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		files[i] = f
	}
	out, errs := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = files[0], files[1]
	code = asQuorate(args)
	os.Stdout, os.Stderr = out, errs
	text := [2]string{}
	for i, f := range files {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		text[i] = string(b)
		f.Close()
	}
	return code, text[0], text[1]
}

// TestBench runs a workload through the command line: the JSON stands alone on stdout, with the fields that scripts read.
func TestBench(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	s, err := embed.Start(ctx, embed.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	svg := filepath.Join(t.TempDir(), "plot.svg")
	code, out, errs := command(t, "bench", "put", "--endpoints", s.ClientURLs()[0], "--total", "300", "--clients", "10", "--connections", "2", "-w", "json", "--plot", "--svg", svg)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	var res map[string]any
	if err := json.Unmarshal([]byte(out), &res); err != nil || strings.Count(out, "\n") != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	if res["workload"] != "put" || res["client"] != "lean" || res["operations"] != 300.0 || res["clients"] != 10.0 || res["connections"] != 2.0 || res["target_rate"] != 0.0 {
		t.Errorf("%s", out)
	}
	for _, name := range []string{"endpoints", "seconds", "errors", "error_samples", "rate", "bytes", "latency_ms", "timeline", "extra"} {
		if res[name] == nil {
			t.Errorf("no %s in %s", name, out)
		}
	}
	if text, err := os.ReadFile(svg); err != nil || !bytes.HasPrefix(text, []byte("<svg ")) {
		t.Errorf("%v %.40s", err, text)
	}
	if code, out, errs = command(t, "bench", "get", "--endpoints", s.ClientURLs()[0], "--total", "10"); code != 0 || !strings.Contains(out, "p99.9") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	if code, _, errs = command(t, "bench", "put", "--endpoints", s.ClientURLs()[0], "--total", "10", "--value-size", "1600000"); code != 1 ||
		errs != "quorate bench put: InvalidArgument: etcdserver: request is too large\n" {
		t.Errorf("exit code %d: %s", code, errs)
	}
}

// TestBenchMistakes: what cannot work says why, in one line, with the exit code of its kind.
func TestBenchMistakes(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		text string
	}{
		{"bench put --endpoints 127.0.0.1:1", 1, "quorate bench put: 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused"},
		{"bench put --endpoints nowhere", 1, `quorate bench put: endpoint "nowhere": it must be host:port`},
		{"bench put --clients -3", 1, "--clients is -3; it must be from 1 to 1048576"},
		{"bench put --key-size 5", 1, "--key-size is 5, too small for the prefix"},
		{"bench put --cacert /nowhere/ca.pem", 1, "--cacert: open /nowhere/ca.pem"},
		{"bench put --cert x", 1, "--cert and --key need each other"},
		{"bench put --write-out xml", 2, `--write-out is "xml"; it must be table or json`},
		{"bench pot", 2, `there is no workload "pot"`},
		{"bench put --read-ratio 1", 2, "unknown flag: --read-ratio"},
	} {
		code, out, errs := command(t, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(errs, c.text) || out != "" {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", c.args, code, out, errs)
		}
	}
}

// TestBenchHelp: every workload has a page with examples, and the product's help leads there.
func TestBenchHelp(t *testing.T) {
	if code, out, _ := command(t, "--help"); code != 0 || !strings.Contains(out, "bench") {
		t.Errorf("exit code %d: %s", code, out)
	}
	_, all, _ := command(t, "bench")
	for _, k := range load.Kinds() {
		if !strings.Contains(all, k.Name+" ") || !strings.Contains(all, k.Summary) {
			t.Errorf("the help of bench does not name %s", k.Name)
		}
		code, out, _ := command(t, "bench", k.Name, "--help")
		if code != 0 || !strings.Contains(out, "quorate bench "+k.Name) || !strings.Contains(out, k.Detail) || !strings.Contains(out, "--endpoints") {
			t.Errorf("%s: exit code %d: %s", k.Name, code, out)
		}
		for _, line := range strings.Split(k.Detail+"\n"+k.Example, "\n") {
			if len(line) > 120 {
				t.Errorf("%s: a line of %d characters: %s", k.Name, len(line), line)
			}
		}
	}
}

func TestProgress(t *testing.T) {
	var b bytes.Buffer
	lines := &progress{w: &b}
	tick := load.Tick{Elapsed: 5 * time.Second, Duration: 10 * time.Second, Done: 1234, Errors: 2, Last: load.Second{Second: 5, Operations: 250, P50: 1.234, P99: 5.678}}
	for range 12 {
		lines.show(tick)
	}
	lines.end()
	want := "   5 s  1234 done  250/s  p50 1.23 ms  p99 5.68 ms  2 errors\n"
	if b.String() != want+want {
		t.Errorf("%q", b.String())
	}
	b.Reset()
	drawn := &progress{w: &b, terminal: true}
	drawn.show(tick)
	drawn.show(load.Tick{Elapsed: -1500 * time.Millisecond})
	drawn.show(load.Tick{Elapsed: time.Second, Total: load.Endless, Done: 7})
	drawn.end()
	for i, part := range []string{"", "\x1b[K[============            ]    5 s", "\x1b[Kwarming up, 2 s to go", "\x1b[K   1 s  7 done", "\x1b[K"} {
		if got := strings.Split(b.String(), "\r"); len(got) != 5 || !strings.HasPrefix(got[i], part) {
			t.Errorf("%d: %q does not begin with %q", i, got, part)
		}
	}
}

// TestBenchK8s: the JSON stands alone on stdout with the verdict, and the exit code says whether a service level was broken.
func TestBenchK8s(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s, err := embed.Start(ctx, embed.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	small := []string{"bench", "k8s", "--endpoints", s.ClientURLs()[0], "--nodes", "5", "--seconds", "1", "--warmup", "0", "--lease-interval", "500ms",
		"--slo-call", "1h", "--slo-delivery", "1h", "--slo-progress", "1h", "--timeout", "1m"}
	code, out, errs := command(t, append(small, "-w", "json", "--slots")...)
	var rep struct {
		OK  bool `json:"ok"`
		Run struct {
			All   struct{ Count int64 }
			Slots []any
		}
	}
	if err := json.Unmarshal([]byte(out), &rep); code != 0 || err != nil || !rep.OK || rep.Run.All.Count == 0 || len(rep.Run.Slots) != 20 {
		t.Fatalf("exit code %d, %v: %s%s", code, err, out, errs)
	}
	if !strings.Contains(errs, "filled: 5 nodes, 150 pods") {
		t.Errorf("%s", errs)
	}
	code, out, errs = command(t, append(small, "--clear", "--slo-delivery", "1ns")...)
	if code != 1 || !strings.Contains(out, "verdict: broken\n  delivery of ") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	if code, _, errs = command(t, small...); code != 1 || !strings.Contains(errs, "quorate bench k8s: the store holds ") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if code, _, errs = command(t, "bench", "k8s", "-w", "xml"); code != 2 || !strings.Contains(errs, "it must be table or json") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}
