package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestJudge(t *testing.T) {
	of := func(v float64) spread { return spread{n: 1, median: v, min: v, max: v} }
	rate := goal{figure: "rate", bound: ratioAtLeast, value: 2.5}
	cpu := goal{figure: "CPU per op", bound: ratioAtMost, value: 0.2}
	above := goal{figure: "above resting", bound: atMost, value: 64e6}
	shown := goal{figure: "rate", bound: noGoal}
	for _, c := range []struct {
		what       string
		g          goal
		ours, etcd spread
		want       verdict
	}{
		{"a ratio that is just reached", rate, of(2500), of(1000), verdict{"1000 /s", "2500 /s", "2.50", "≥ 2.5x", "yes"}},
		{"a ratio that is missed", rate, of(2499), of(1000), verdict{"1000 /s", "2499 /s", "2.50", "≥ 2.5x", "no"}},
		{"a smaller one is better", cpu, of(20), of(100), verdict{"100.00 us", "20.00 us", "0.20", "≤ 0.2x", "yes"}},
		{"and it is missed", cpu, of(21), of(100), verdict{"100.00 us", "21.00 us", "0.21", "≤ 0.2x", "no"}},
		{"a ratio without etcd is open", rate, of(2500), spread{}, verdict{unknown, "2500 /s", "-", "≥ 2.5x", unknown}},
		{"a ratio without ours is open", rate, spread{}, of(1000), verdict{"1000 /s", unknown, "-", "≥ 2.5x", unknown}},
		{"a ratio to nothing is open", rate, of(1), of(0), verdict{"0 /s", "1 /s", "-", "≥ 2.5x", unknown}},
		{"an absolute goal needs no etcd", above, of(64e6), spread{}, verdict{unknown, "64.0 MB", "-", "≤ 64.0 MB", "yes"}},
		{"and is missed", above, of(64.1e6), of(3e9), verdict{"3000.0 MB", "64.1 MB", "0.02", "≤ 64.0 MB", "no"}},
		{"and open without ours", above, spread{}, of(3e9), verdict{"3000.0 MB", unknown, "-", "≤ 64.0 MB", unknown}},
		{"an absolute least", goal{figure: "nodes", bound: atLeast, value: 5000}, of(5000), spread{}, verdict{unknown, "5000", "-", "≥ 5000", "yes"}},
		{"and it is missed", goal{figure: "nodes", bound: atLeast, value: 5000}, of(4999), of(6000), verdict{"6000", "4999", "0.83", "≥ 5000", "no"}},
		{"what has no goal is only shown", shown, of(2), of(1), verdict{"1 /s", "2 /s", "2.00", "-", "-"}},
	} {
		if got := c.g.judge(c.ours, c.etcd); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.what, got, c.want)
		}
	}
}

// TestNames holds the tables to each other: a goal without its job or figure would never be measured.
func TestNames(t *testing.T) {
	names := map[string]bool{}
	for _, s := range suites {
		before := map[string]bool{}
		for _, j := range s.jobs {
			if names[j.name] {
				t.Errorf("two jobs are called %s", j.name)
			}
			for _, other := range suites {
				if other.name == j.name && len(other.jobs) > 1 {
					t.Errorf("-only %s could mean a job or a suite", j.name)
				}
			}
			if j.needs != "" && !before[j.needs] {
				t.Errorf("%s needs %s, which does not run before it", j.name, j.needs)
			}
			names[j.name], before[j.name] = true, true
		}
	}
	for _, g := range slices.Concat(goals, clusterGoals) {
		if !names[g.job] {
			t.Errorf("the goal %q is of the job %q, which does not exist", g.row, g.job)
		}
		figureNamed(g.figure)
	}
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		only    string
		members int
		want    string // jobs
		wrong   bool
	}{
		{"list", 1, "load list", false},
		{"list-after-term,idle", 1, "idle load restart-term list-after-term", false},
		{"steady", 1, "stopped-watchers compaction", false},
		{"put, one-get", 3, "put one-get", false},
		{"idle", 1, "idle", false},
		{"list", 3, "", true},
		{"nothing", 1, "", true},
		{"put,nothing", 1, "", true},
	} {
		plan, err := choose(c.only, c.members)
		if (err != nil) != c.wrong {
			t.Errorf("%q with %d members: error %v", c.only, c.members, err)
			continue
		}
		var got []string
		for _, s := range plan {
			for _, j := range s.jobs {
				got = append(got, j.name)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q with %d members: got %v, want %s", c.only, c.members, got, c.want)
		}
	}
	all, err := choose("", 1)
	if err != nil || len(all) != len(suites) {
		t.Errorf("everything: %d suites of %d, %v", len(all), len(suites), err)
	}
	some, err := choose("", 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range some {
		if !s.cluster {
			t.Errorf("%s runs with three members", s.name)
		}
	}
}

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// sampleReport is a run of two rounds, the second of which measured less.
func sampleReport() *report {
	r := &report{Time: "2026-01-02T03:04:05Z", Took: "2m0s", Command: "go run . -rounds=2", Machine: "2 cores.", Sources: "commit abc",
		Servers: map[string]string{"quorate": "quorate Version: 0.1.0", "etcd": "etcd Version: 3.7.3"}, Members: 1, Rounds: 2,
		LeftOut: map[string]map[string]string{}}
	add := func(round int, server, job string, figures map[string]float64) {
		r.Results = append(r.Results, &result{Job: job, Server: server, Round: round, Figures: figures})
	}
	add(1, "etcd", "put", map[string]float64{"rate": 15000, "p99": 130, "CPU per op": 77})
	add(1, "quorate", "put", map[string]float64{"rate": 40000, "p99": 60, "CPU per op": 15})
	add(2, "quorate", "put", map[string]float64{"rate": 38000, "p99": 70, "CPU per op": 17})
	add(2, "etcd", "put", map[string]float64{"rate": 16000, "p99": 140, "CPU per op": 79})
	add(1, "etcd", "list", map[string]float64{"seconds": 62, "p50": 58})
	add(1, "quorate", "list", map[string]float64{"seconds": 1.7, "p50": 1.3})
	add(2, "quorate", "list", map[string]float64{"seconds": 1.9, "p50": 1.4})
	add(1, "quorate", "idle", map[string]float64{"resident": 24e6, "disk": 64e6, "CPU share": 0.001})
	r.leaveOut("put-lean", "quorate", "this quorate binary has no verb bench put")
	return r
}

func TestReport(t *testing.T) {
	complete, partial, quick := sampleReport(), sampleReport(), sampleReport()
	partial.Failure, quick.Quick = "round 2, list, etcd: it broke", true
	for name, r := range map[string]*report{"complete": complete, "partial": partial, "quick": quick} {
		file := filepath.Join("testdata", name+".md")
		got := r.markdown()
		if *rewrite {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs from %s; -rewrite writes it anew:\n%s", name, file, got)
		}
	}
	if text := partial.markdown(); strings.Contains(text, "goals reached") || !strings.HasPrefix(text, "**INCOMPLETE") {
		t.Error("the report of a run that ended early looks complete")
	}
	if text := quick.markdown(); strings.Contains(text, "| yes |") || !strings.HasPrefix(text, "**QUICK") {
		t.Error("the report of a quick run says that goals are reached")
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	r := sampleReport()
	r.Failure = "it broke"
	if err := r.write(dir); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(files) != 2 {
		t.Fatalf("got %v", files)
	}
	for _, f := range files {
		if !strings.Contains(filepath.Base(f), "20260102T030405Z-incomplete.") {
			t.Errorf("a run that ended early wrote %s", filepath.Base(f))
		}
	}
}

func TestParseLean(t *testing.T) {
	const text = `{"workload":"put","endpoints":["127.0.0.1:2379"],"client":"lean","connections":100,"clients":1000,"target_rate":0,
 "seconds":10.01,"operations":374480,"errors":0,"error_samples":[],"rate":37411.2,"bytes":95866880,
 "latency_ms":{"min":1,"mean":2,"p50":25,"p90":30,"p95":40,"p99":63,"p99.9":80,"max":90},
 "timeline":[{"second":1,"operations":37000,"p50_ms":25,"p99_ms":63}],"extra":{"conflicts":3}}`
	x, err := parseLean([]byte(text), false)
	if err != nil {
		t.Fatal(err)
	}
	r := x.result(3_744_800 * time.Microsecond)
	for figure, want := range map[string]float64{"rate": 37411.2, "operations": 374480, "p50": 25, "p99": 63, "p99.9": 80, "CPU per op": 10} {
		if got := r.Figures[figure]; got != want {
			t.Errorf("%s = %v, want %v", figure, got, want)
		}
	}
	for what, wrong := range map[string]string{
		"errors":   strings.Replace(text, `"errors":0`, `"errors":2`, 1),
		"refusals": strings.Replace(text, `"conflicts":3`, `"refused":3`, 1),
		"nothing":  strings.Replace(text, `"operations":374480`, `"operations":0`, 1),
		"no JSON":  "put: 37411/s",
	} {
		if _, err := parseLean([]byte(wrong), false); err == nil {
			t.Errorf("%s were accepted", what)
		}
	}
	if _, err := parseLean([]byte(strings.Replace(text, `"errors":0`, `"errors":2`, 1)), true); err != nil {
		t.Errorf("errors that are allowed: %v", err)
	}
}

func TestLeanSustained(t *testing.T) {
	run := func(p99 float64, extra string, perSecond ...int) *leanReport {
		var rows []string
		for _, n := range perSecond {
			rows = append(rows, fmt.Sprintf(`{"operations":%d}`, n))
		}
		x, err := parseLean(fmt.Appendf(nil, `{"operations":1,"rate":900,"latency_ms":{"p99":%v},"timeline":[%s],"extra":{%s}}`, p99, strings.Join(rows, ","), extra), true)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	for what, c := range map[string]struct {
		x    *leanReport
		want bool
	}{
		"at its rate but for the first second": {run(50, "", 900, 1000, 990, 1010, 100), true},
		"what was answered after the schedule": {run(50, "", 1000, 900, 900, 900, 300), false},
		"with a tail":                          {run(1001, "", 1000, 1000, 1000, 1000), false},
		"with a refusal":                       {run(50, `"refused":1`, 1000, 1000, 1000, 1000), false},
		"with some unsent":                     {run(50, `"not_sent":1`, 1000, 1000, 1000, 1000), false},
	} {
		if got := c.x.sustained(1000, 4*time.Second); got != c.want {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
	if got := run(50, "", 990).steadyRate(time.Second); got != 900 {
		t.Errorf("a schedule of a second: %v/s, want that of the whole run", got)
	}
}

func TestFlood(t *testing.T) {
	x := &leanReport{Seconds: 4, Operations: 60_000, Rate: 15_000, Errors: 20_000, Extra: map[string]float64{"refused": 120_000, "refused_p50_ms": 1, "refused_p99_ms": 5, "not_sent": 900_000}}
	r := judgeFlood(x)
	for figure, want := range map[string]float64{"offered": 50_000, "answered": 15_000, "refused": 0.6, "failed": 0.1, "refusal p99": 5} {
		if got := r.Figures[figure]; got != want {
			t.Errorf("%s = %v, want %v", figure, got, want)
		}
	}
	x = &leanReport{Seconds: 4, Operations: 50, Errors: 50, Samples: []string{"20 x Unknown: etcdserver: too many requests",
		"10 x Unavailable: etcdserver: request timed out", "20 x DeadlineExceeded: no answer within the client's timeout"}}
	if r := judgeFlood(x); r.Figures["refused"] != 0.3 || r.Figures["failed"] != 0.2 {
		t.Errorf("refusals told by text: %v refused, %v failed, want 0.3 and 0.2", r.Figures["refused"], r.Figures["failed"])
	}
	// The client's own count of refusals is not added to by their texts, which it lists as well.
	y := &leanReport{Seconds: 1, Operations: 50, Errors: 0, Extra: map[string]float64{"refused": 50}, Samples: []string{"50 x Unknown: etcdserver: too many requests"}}
	if r := judgeFlood(y); r.Figures["refused"] != 0.5 || r.Figures["failed"] != 0 {
		t.Errorf("refusals known to the client: %v refused, %v failed, want 0.5 and 0", r.Figures["refused"], r.Figures["failed"])
	}
}

func TestFateOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want fate
	}{
		{nil, answered},
		{status.Error(codes.ResourceExhausted, "etcdserver: too many requests"), refused},
		{status.Error(codes.Unknown, "etcdserver: too many requests"), refused},
		{status.Error(codes.Unavailable, "etcdserver: request timed out"), refused},
		{status.Error(codes.DeadlineExceeded, "context deadline exceeded"), late},
		{status.Error(codes.InvalidArgument, "etcdserver: key is not provided"), failed},
		{errors.New("a key that was written is not there"), failed},
	} {
		if got := fateOf(c.err); got != c.want {
			t.Errorf("%v is %v, want %v", c.err, got, c.want)
		}
	}
}

func TestFindMount(t *testing.T) {
	const text = `28 1 254:0 / / rw,relatime - ext4 /dev/vda1 rw
30 28 0:25 / /tmp rw - tmpfs tmpfs rw
31 28 259:1 / /data/disk rw shared:1 - xfs /dev/nvme0n1 rw`
	for dir, want := range map[string]string{"/tmp/x": "/tmp tmpfs tmpfs", "/tmpx": "/ ext4 /dev/vda1", "/data/disk": "/data/disk xfs /dev/nvme0n1", "/data": "/ ext4 /dev/vda1"} {
		if mount, fs, source := findMount(text, dir); mount+" "+fs+" "+source != want {
			t.Errorf("%s: got %s %s %s, want %s", dir, mount, fs, source, want)
		}
	}
}

func TestParseMemory(t *testing.T) {
	m := parseMemory("Name:\tetcd\nVmHWM:\t   30000 kB\nVmRSS:\t   20000 kB\nRssAnon:\t    5000 kB\nRssFile:\t   15000 kB\n")
	if want := (memory{resident: 20000 << 10, anonymous: 5000 << 10, peak: 30000 << 10}); m != want {
		t.Errorf("got %+v, want %+v", m, want)
	}
}
