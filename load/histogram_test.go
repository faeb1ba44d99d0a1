package load

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestHistogramAgainstExact compares quantiles with those of the sorted durations: at most 1% off, ends exact.
func TestHistogramAgainstExact(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for name, draw := range map[string]func() float64{
		"uniform":     func() float64 { return r.Float64() * 1e8 },
		"exponential": func() float64 { return r.ExpFloat64() * 2e6 },
		"lognormal":   func() float64 { return math.Exp(14 + 2*r.NormFloat64()) },
		"two humps":   func() float64 { return 3e5 + 4e8*float64(r.IntN(2)) + 1e4*r.Float64() },
		"small":       func() float64 { return float64(r.IntN(300)) },
		"constant":    func() float64 { return 777_777 },
	} {
		t.Run(name, func(t *testing.T) {
			var whole Histogram
			parts := make([]Histogram, 4)
			var exact []time.Duration
			sum := 0.0
			for i := range 50_000 {
				d := time.Duration(draw())
				exact = append(exact, d)
				sum += float64(d)
				parts[i%len(parts)].Add(d)
			}
			for i := range parts {
				whole.Merge(&parts[i])
			}
			slices.Sort(exact)
			n := len(exact)
			if whole.Count() != int64(n) || whole.Min() != exact[0] || whole.Max() != exact[n-1] {
				t.Errorf("count %d, min %v, max %v; want %d, %v, %v", whole.Count(), whole.Min(), whole.Max(), n, exact[0], exact[n-1])
			}
			if got, want := float64(whole.Mean()), sum/float64(n); math.Abs(got-want) > 1 {
				t.Errorf("mean %v, want %v", got, want)
			}
			for _, q := range []float64{0, 0.001, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1} {
				want := exact[max(1, int(math.Ceil(q*float64(n))))-1]
				if got := whole.Quantile(q); math.Abs(float64(got-want)) > 0.01*float64(want) {
					t.Errorf("quantile %v is %v, want %v", q, got, want)
				}
			}
		})
	}
}

func TestHistogramEdges(t *testing.T) {
	var h Histogram
	if h.Quantile(0.5) != 0 || h.Mean() != 0 || h.Max() != 0 {
		t.Error("an empty histogram has figures")
	}
	h.Add(-5)
	h.Add(100 * time.Hour) // beyond the last bucket
	if h.Min() != 0 || h.Max() != 100*time.Hour || h.Quantile(1) != 100*time.Hour || h.Quantile(0.5) != 0 {
		t.Errorf("%v %v %v %v", h.Min(), h.Max(), h.Quantile(1), h.Quantile(0.5))
	}
	var empty Histogram
	h.Merge(&empty)
	empty.Merge(&h)
	if empty.Count() != 2 || empty.Max() != h.Max() || empty.Min() != 0 {
		t.Error("merging into an empty histogram")
	}
	h.Reset()
	if h != (Histogram{}) {
		t.Error("Reset leaves something")
	}
}

// TestBucketsMeet: buckets follow each other without gap, and each holds its own middle.
func TestBucketsMeet(t *testing.T) {
	last := -1
	for v := uint64(0); v < 1<<20; v++ {
		b := bucket(v)
		if b != last && b != last+1 {
			t.Fatalf("%d is in bucket %d after %d", v, b, last)
		}
		last = b
	}
	for i := range bucketsAll - 1 {
		if got := bucket(middle(i)); got != i {
			t.Fatalf("the middle of bucket %d, %d, is in bucket %d", i, middle(i), got)
		}
	}
}
