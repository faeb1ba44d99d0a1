package main

import (
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1)*time.Millisecond)
	}
	for _, c := range []struct {
		sorted []time.Duration
		q      float64
		want   float64
	}{
		{hundred, 0.5, 50}, {hundred, 0.99, 99}, {hundred, 0.999, 100}, {hundred, 1, 100}, {hundred, 0, 1},
		{hundred[:1], 0.5, 1}, {hundred[:1], 0.999, 1}, {hundred[:2], 0.5, 1}, {hundred[:3], 0.5, 2}, {nil, 0.5, 0},
	} {
		if got := quantile(c.sorted, c.q); got != c.want {
			t.Errorf("quantile(%d values, %v) = %v, want %v", len(c.sorted), c.q, got, c.want)
		}
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   spread
	}{
		{nil, spread{}},
		{[]float64{3}, spread{1, 3, 3, 3}},
		{[]float64{9, 1}, spread{2, 5, 1, 9}},
		{[]float64{7, 1, 3}, spread{3, 3, 1, 7}},
		{[]float64{4, 1, 2, 9}, spread{4, 3, 1, 9}},
	} {
		before := append([]float64(nil), c.values...)
		if got := spreadOf(c.values); got != c.want {
			t.Errorf("spreadOf(%v) = %+v, want %+v", before, got, c.want)
		}
		for i := range before {
			if c.values[i] != before[i] {
				t.Errorf("spreadOf(%v) changed its argument", before)
			}
		}
	}
}

func TestLatenciesOfAWindow(t *testing.T) {
	ms := time.Millisecond
	samples := []sample{{at: 0, took: 9 * ms}, {at: 10 * ms, took: 5 * ms}, {at: 15 * ms, took: 3 * ms}, {at: 20 * ms, took: 1 * ms}}
	got := latencies(samples, between(10*ms, 20*ms))
	if len(got) != 2 || got[0] != 3*ms || got[1] != 5*ms {
		t.Errorf("got %v, want the two of the window in order", got)
	}
}

func TestOutcomeCountsRefusalsAndTheUnsent(t *testing.T) {
	ms := time.Millisecond
	o := &outcome{took: time.Second, cpu: 30 * ms, unsent: 1, samples: []sample{
		{took: 2 * ms}, {took: 4 * ms}, {took: ms / 2, fate: refused}, {took: 900 * ms, fate: late}}}
	r := o.result()
	for figure, want := range map[string]float64{"operations": 2, "rate": 2, "p50": 4, "p99": 900, "refused": 0.25, "CPU per op": 15_000} {
		if got := r.Figures[figure]; got != want {
			t.Errorf("%s = %v, want %v", figure, got, want)
		}
	}
}

func TestSteadyRateIgnoresLatencyAlone(t *testing.T) {
	// 100 a second for 4 s, every answer 200 ms late: the rate is still 100.
	o := &outcome{}
	for i := range 400 {
		o.samples = append(o.samples, sample{at: time.Duration(i) * 10 * time.Millisecond, took: 200 * time.Millisecond})
	}
	if got := o.steadyRate(4 * time.Second); got != 100 {
		t.Errorf("got %v/s, want 100", got)
	}
}

func TestHighest(t *testing.T) {
	for _, limit := range []float64{130, 700, 1000, 1001, 4444, 38_000} {
		tried := 0
		got, err := highest(1000, func(rate float64) (bool, error) {
			tried++
			return rate <= limit, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got > limit || got < limit*0.93 {
			t.Errorf("limit %v: found %v after %d tries, want at most 7%% less than it", limit, got, tried)
		}
	}
	if _, err := highest(1000, func(float64) (bool, error) { return true, nil }); err == nil {
		t.Error("a search without end gave no error")
	}
	if _, err := highest(1000, func(float64) (bool, error) { return false, nil }); err == nil {
		t.Error("a server that sustains nothing gave no error")
	}
}

func TestTwice(t *testing.T) {
	var answers []bool
	try := twice(func(float64) (bool, error) {
		a := answers[0]
		answers = answers[1:]
		return a, nil
	})
	for _, c := range []struct {
		answers []bool
		want    bool
		left    int
	}{{[]bool{true, false}, true, 1}, {[]bool{false, true}, true, 0}, {[]bool{false, false}, false, 0}} {
		answers = c.answers
		if got, _ := try(1); got != c.want || len(answers) != c.left {
			t.Errorf("%v: got %v with %d answers left", c.answers, got, len(answers))
		}
	}
}
