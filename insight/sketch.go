package insight

import (
	"container/heap"
	"slices"
	"time"
)

// sketch finds the names with most calls among any number of names, and holds a fixed number of them: a new name takes the place
// of that with the fewest calls and begins with its count, which may thus be too high by at most that (Metwally, Agrawal and
// El Abbadi: Efficient computation of frequent and top-k elements in data streams, 2005).
type sketch struct {
	most   int
	byName map[string]*tally
	heap   tallies
}

// tally is what a sketch holds of a name.
type tally struct {
	name        string
	row         Row // the words; numbers are below
	calls, over uint64
	failed      uint64
	in, out     uint64
	timed       uint64 // calls in sum
	sum, max    time.Duration
	times       latencies
	place       int // in the heap
}

func newSketch(most int) *sketch { return &sketch{most: most, byName: map[string]*tally{}} }

// add counts c for the name that words makes. The bytes of words are copied.
func (s *sketch) add(c *Call, words Row) {
	name := words.Method + "\x00" + words.Client + "\x00" + words.User + "\x00" + string(words.Key)
	t := s.byName[name]
	if t == nil {
		t = s.room()
		t.name, t.row = name, words
		t.row.Key = slices.Clone(words.Key)
		s.byName[name] = t
	}
	w := c.Weight
	t.calls += w
	t.in += w * uint64(c.In)
	t.out += w * uint64(c.Out)
	if c.Failed {
		t.failed += w
	}
	t.timed += w
	t.sum += time.Duration(w) * c.Took
	t.max = max(t.max, c.Took)
	t.times.add(c.Took, w)
	heap.Fix(&s.heap, t.place)
}

// room is a tally for a new name.
func (s *sketch) room() *tally {
	if len(s.heap) < s.most {
		t := &tally{}
		heap.Push(&s.heap, t)
		return t
	}
	t := s.heap[0]
	delete(s.byName, t.name)
	*t = tally{calls: t.calls, over: t.calls, place: t.place}
	return t
}

// rows are the names with most calls that are certain, at most so many.
func (s *sketch) rows(most int) []Row {
	out := make([]Row, 0, len(s.heap))
	for _, t := range s.heap {
		r := t.row
		r.Calls, r.Over, r.Failed, r.In, r.Out = t.calls-t.over, t.over, t.failed, t.in, t.out
		if t.timed > 0 {
			r.Mean = t.sum.Seconds() / float64(t.timed)
		}
		r.P99, r.Max = t.times.quantile(0.99, t.max).Seconds(), t.max.Seconds()
		out = append(out, r)
	}
	slices.SortFunc(out, byCalls)
	return out[:min(len(out), most)]
}

// tallies is a heap, the fewest calls first.
type tallies []*tally

func (h tallies) Len() int           { return len(h) }
func (h tallies) Less(i, j int) bool { return h[i].calls < h[j].calls }
func (h tallies) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push implements heap.Interface.
func (h *tallies) Push(x any) {
	t := x.(*tally)
	t.place = len(*h)
	*h = append(*h, t)
}

// Pop implements heap.Interface.
func (h *tallies) Pop() any {
	old := *h
	t := old[len(old)-1]
	*h = old[:len(old)-1]
	return t
}
