package load

import (
	"math"
	"math/bits"
	"time"
)

// Histogram counts durations in buckets whose width grows with the duration, so that any quantile is within 1% of the exact
// one and memory is fixed (19 KB). The zero value is empty.
type Histogram struct {
	counts   [bucketsAll]uint64
	n        uint64
	sum      float64 // nanoseconds
	min, max uint64  // nanoseconds, exact
}

// bucket is where v nanoseconds are counted: one bucket per value up to 127, then 64 per doubling. Durations over an hour or so
// share the last one.
func bucket(v uint64) int {
	if v < 2<<subBits {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return min(shift<<subBits+int(v>>shift), bucketsAll-1)
}

// middle is the value that stands for bucket i, nanoseconds.
func middle(i int) uint64 {
	if i < 2<<subBits {
		return uint64(i)
	}
	shift := i>>subBits - 1
	return uint64(i-shift<<subBits)<<shift + 1<<(shift-1)
}

// Add counts one duration; a negative one counts as zero.
func (h *Histogram) Add(d time.Duration) {
	v := uint64(max(d, 0))
	h.counts[bucket(v)]++
	if h.n == 0 || v < h.min {
		h.min = v
	}
	h.max = max(h.max, v)
	h.n++
	h.sum += float64(v)
}

// Merge adds what o counted.
func (h *Histogram) Merge(o *Histogram) {
	if o.n == 0 {
		return
	}
	for i, n := range o.counts {
		if n != 0 {
			h.counts[i] += n
		}
	}
	if h.n == 0 || o.min < h.min {
		h.min = o.min
	}
	h.max = max(h.max, o.max)
	h.n += o.n
	h.sum += o.sum
}

// Count is how many durations were added.
func (h *Histogram) Count() int64 { return int64(h.n) }

// Quantile is the duration that the fraction q (0 to 1) of all durations does not exceed, 0 when there are none. The ends
// are exact.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := uint64(math.Ceil(q * float64(h.n)))
	if rank <= 1 {
		return time.Duration(h.min)
	}
	if rank >= h.n {
		return time.Duration(h.max)
	}
	var seen uint64
	for i, n := range h.counts {
		if seen += n; seen >= rank {
			return time.Duration(min(max(middle(i), h.min), h.max))
		}
	}
	return time.Duration(h.max)
}

// Mean is exact, 0 when there are no durations.
func (h *Histogram) Mean() time.Duration {
	if h.n == 0 {
		return 0
	}
	return time.Duration(h.sum / float64(h.n))
}

// Min is exact, 0 when there are no durations.
func (h *Histogram) Min() time.Duration { return time.Duration(h.min) }

// Max is exact, 0 when there are no durations.
func (h *Histogram) Max() time.Duration { return time.Duration(h.max) }

// Reset empties the histogram.
func (h *Histogram) Reset() { *h = Histogram{} }
