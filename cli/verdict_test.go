package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"quorate.dev/quorate/internal/clock"
)

// TestProgress: a bar with rate and what is left, which comes often enough and not more often.
func TestProgress(t *testing.T) {
	now := clock.NewManual(time.Unix(0, 0))
	var out bytes.Buffer
	s := &Session{Process: &Process{Stderr: &out}, tool: &Tool{clock: now}}
	p := newProgress(s, "mirror", "keys", 1000)
	now.Advance(10 * time.Second)
	p.to(250)
	p.to(251) // too soon to be drawn
	want := "\r\x1b[Kmirror [=======                       ]  25%  250 keys of 1,000 keys  25 keys/s  30s left"
	if out.String() != want {
		t.Errorf("%q\n%q", out.String(), want)
	}
	p.end()
	if out.String() != want+"\r\x1b[K" {
		t.Errorf("%q", out.String())
	}
	p = newProgress(s, "snapshot", "", 0)
	now.Advance(2 * time.Second)
	out.Reset()
	p.to(4_000_000)
	if out.String() != "\r\x1b[Ksnapshot 4.0 MB, 2.0 MB/s" {
		t.Errorf("%q", out.String())
	}
	var none *progress
	none.to(1)
	none.resize(1)
	none.end()
}

// TestVerdict: etcdctl's limits; under our own name a failure says what to do.
func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		own   bool
		rate  float64
		times []float64
		errs  map[string]int
		ok    bool
		out   string
	}{
		{false, 149.2, []float64{0.001, 0.003}, nil, true, "PASS: Throughput is 150 writes/s\nPASS: Slowest request took 0.003000s\nPASS: Stddev is 0.001000s\n"},
		{false, 100, []float64{0.1, 0.7}, nil, false, "FAIL: Throughput too low: 101 writes/s\nSlowest request took too long: 0.700000s\nStddev too high: 0.300000s\n"},
		{false, 150, []float64{0.1}, map[string]int{"b": 1, "a": 2}, false,
			"FAIL: too many errors\nFAIL: ERROR(a) -> 2\nFAIL: ERROR(b) -> 1\nPASS: Throughput is 151 writes/s\nPASS: Slowest request took 0.100000s\nPASS: Stddev is 0.000000s\n"},
		{true, 100, []float64{0.1, 0.1}, nil, false, "FAIL: Throughput too low: 101 writes/s\n      150/s were asked for: look at"},
	} {
		var out bytes.Buffer
		k := &checker{f: new(checkFlags), s: &Session{Process: &Process{Stdout: &out}, tool: &Tool{own: c.own}}, rate: c.rate, times: c.times, errs: c.errs}
		if ok := k.verdict(150); ok != c.ok || !strings.HasPrefix(out.String(), c.out) || !c.own && out.String() != c.out {
			t.Errorf("%v %q\nwant %v %q", ok, out.String(), c.ok, c.out)
		}
	}
}

// TestNearest: what was probably meant, and nothing where that is not clear.
func TestNearest(t *testing.T) {
	names := []string{"get", "put", "del", "member", "endpoint", "prefix"}
	for name, want := range map[string]string{"gte": "get", "mebmer": "member", "prefx": "prefix", "endpiont": "endpoint", "x": "", "snapshot": "", "ptu": "put"} {
		if got := nearest(name, names); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
