package load

import (
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"quorate.dev/quorate/load/lean"
)

// recorder counts what completed on one connection. Its lock is almost never contended: the connection's reader records, and
// once a second the timeline looks in.
type recorder struct {
	mu      sync.Mutex
	line    *timeline
	all     Histogram
	current Histogram // of the second under way
	second  int       // which that is, from 1
	refused *Histogram

	bytes  int64
	errors int64
	texts  map[string]int64
	last   time.Duration // completion of the last counted request, since the begin of measuring
}

// record counts a request that was meant to start at start and completed at now, both since the begin of measuring. Requests
// that started before it do not count.
func (r *recorder) record(now, start time.Duration, bytes int, err error) {
	if start < 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = max(r.last, now)
	if err != nil {
		r.failure(now-start, err)
		return
	}
	r.all.Add(now - start)
	r.bytes += int64(bytes)
	if second := int(now/time.Second) + 1; second != r.second {
		r.hand(second)
	}
	r.current.Add(now - start)
}

// hand gives the finished second to the timeline.
func (r *recorder) hand(second int) {
	if r.current.n > 0 {
		r.line.add(r.second, &r.current)
		r.current.Reset()
	}
	r.second = second
}

// handBefore hands over a second that is over although nothing else completed since.
func (r *recorder) handBefore(second int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.second < second {
		r.hand(second)
	}
}

func (r *recorder) failure(took time.Duration, err error) {
	if refusal(err) {
		if r.refused == nil {
			r.refused = new(Histogram)
		}
		r.refused.Add(took)
	} else {
		r.errors++
	}
	if r.texts == nil {
		r.texts = map[string]int64{}
	}
	countText(r.texts, err.Error(), 1)
}

// otherErrors stands for error texts beyond ErrorTexts.
const otherErrors = "other errors"

func countText(texts map[string]int64, text string, n int64) {
	if _, known := texts[text]; !known && len(texts) >= ErrorTexts {
		text = otherErrors
	}
	texts[text] += n
}

// tooMany is in etcd's words for having too much to do. Its servers send them with code Unknown.
const tooMany = "too many requests"

// refusal reports whether a server declined a request because it has too much to do.
func refusal(err error) bool {
	var s *lean.Status
	return errors.As(err, &s) && (s.Code == lean.CodeResourceExhausted || strings.Contains(s.Message, tooMany))
}

// sums is what all recorders counted together.
type sums struct {
	all, refused Histogram
	bytes        int64
	errors       int64
	texts        map[string]int64
	last         time.Duration
}

// sum merges what was recorded on lines.
func sum(lines []*line) *sums {
	s := &sums{texts: map[string]int64{}}
	for _, l := range lines {
		r := &l.rec
		r.mu.Lock()
		s.all.Merge(&r.all)
		if r.refused != nil {
			s.refused.Merge(r.refused)
		}
		s.bytes += r.bytes
		s.errors += r.errors
		s.last = max(s.last, r.last)
		for text, n := range r.texts {
			countText(s.texts, text, n)
		}
		r.mu.Unlock()
	}
	return s
}

// samples are the error texts with their counts, the most frequent first.
func (s *sums) samples() []string {
	texts := make([]string, 0, len(s.texts))
	for t := range s.texts {
		texts = append(texts, t)
	}
	sort.Slice(texts, func(i, j int) bool {
		if a, b := s.texts[texts[i]], s.texts[texts[j]]; a != b {
			return a > b
		}
		return texts[i] < texts[j]
	})
	for i, t := range texts {
		texts[i] = fmt.Sprintf("%d x %s", s.texts[t], t)
	}
	return texts
}

// timeline gathers the seconds of all recorders.
type timeline struct {
	mu   sync.Mutex
	open map[int]*Histogram
	rows []Second // of the seconds that are closed, in order
}

func (t *timeline) add(second int, h *Histogram) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if second <= len(t.rows) {
		// A completion that was measured in a second and recorded after it was closed.
		t.rows[second-1].Operations += h.Count()
		return
	}
	if second > TimelineSeconds {
		return
	}
	if t.open[second] == nil {
		t.open[second] = new(Histogram)
	}
	t.open[second].Merge(h)
}

// closeBefore turns the seconds before second into rows and returns the last one.
func (t *timeline) closeBefore(second int) Second {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := len(t.rows) + 1; n < min(second, TimelineSeconds+1); n++ {
		row := Second{Second: n}
		if h := t.open[n]; h != nil {
			row.Operations, row.P50, row.P99 = h.Count(), millis(h.Quantile(0.5)), millis(h.Quantile(0.99))
			delete(t.open, n)
		}
		t.rows = append(t.rows, row)
	}
	if len(t.rows) == 0 {
		return Second{}
	}
	return t.rows[len(t.rows)-1]
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
