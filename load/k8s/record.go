package k8s

import (
	"errors"
	"sync"
	"time"

	"quorate.dev/quorate/load"
	"quorate.dev/quorate/load/lean"
)

// counts are what came of the calls, or events, that were due in some time.
type counts struct {
	calls  int64 // answered
	errors int64
	lost   int64 // failed because the connection to the member was lost
	over   int64 // slower than the service level
	max    time.Duration
}

func (c *counts) add(o counts) {
	c.calls += o.calls
	c.errors += o.errors
	c.lost += o.lost
	c.over += o.over
	c.max = max(c.max, o.max)
}

// slot is one SlotWidth of the run.
type slot struct{ calls, events counts }

// recorder counts one run. Calls and events that were due before measuring began, or after it ended, do not count.
type recorder struct {
	slo   *SLO
	begin time.Duration // of measuring, since the begin of the program's run
	end   time.Duration

	mu       sync.Mutex
	hist     [classes]*load.Histogram
	counts   [classes]counts
	all      load.Histogram
	delivery [active]*load.Histogram
	progress load.Histogram
	slots    []slot
	texts    map[string]int64
	late     int64 // started LateAfter after they were due
	unsent   int64
	waits    counts // of progress requests
}

func newRecorder(slo *SLO, begin, end time.Duration) *recorder {
	return &recorder{slo: slo, begin: begin, end: end, slots: make([]slot, (end-begin+SlotWidth-1)/SlotWidth), texts: map[string]int64{}}
}

// slot is where what was due at an instant counts, nil when it does not.
func (r *recorder) slot(at time.Duration) *slot {
	if at < r.begin || at >= r.end {
		return nil
	}
	return &r.slots[(at-r.begin)/SlotWidth]
}

// call counts one call that was due at an instant.
func (r *recorder) call(c class, at, now time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.slot(at)
	if s == nil {
		return
	}
	took := max(now-at, 0)
	n := counts{max: took}
	switch {
	case err == nil:
		n.calls = 1
		if took > r.slo.limit(c) {
			n.over = 1
		}
		if r.hist[c] == nil {
			r.hist[c] = new(load.Histogram)
		}
		r.hist[c].Add(took)
		r.all.Add(took)
	case lost(err):
		n.lost = 1
		r.note(err.Error())
	default:
		n.errors = 1
		r.note(kinds[c].verb + " " + kinds[c].resource + ": " + err.Error())
	}
	s.calls.add(n)
	r.counts[c].add(n)
}

// skip counts a call that was due and not sent, because there is too much under way.
func (r *recorder) skip(c class, at time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.slot(at); s != nil {
		s.calls.errors++
		r.counts[c].errors++
		r.unsent++
		r.note(kinds[c].verb + " " + kinds[c].resource + ": not sent, too many calls are under way")
	}
}

// leftOut counts a write that was due while the one before, of the same object, was under way: a kubelet leaves it out, too. How long the
// one before took is what counts.
func (r *recorder) leftOut(at time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slot(at) != nil {
		r.unsent++
	}
}

func (r *recorder) note(text string) {
	if _, known := r.texts[text]; !known && len(r.texts) >= errorTexts {
		text = "other errors"
	}
	r.texts[text]++
}

// started counts a call that began after it was due.
func (r *recorder) started(at, now time.Duration) {
	if now-at <= LateAfter {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slot(at) != nil {
		r.late++
	}
}

// event counts one event of a write that was due at an instant.
func (r *recorder) event(kind resource, at, now time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.slot(at)
	if s == nil {
		return
	}
	took := max(now-at, 0)
	if r.delivery[kind] == nil {
		r.delivery[kind] = new(load.Histogram)
	}
	r.delivery[kind].Add(took)
	n := counts{calls: 1, max: took}
	if took > r.slo.Delivery {
		n.over = 1
	}
	s.events.add(n)
}

// answered counts one progress request.
func (r *recorder) answered(at, now time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slot(at) == nil {
		return
	}
	r.progress.Add(max(now-at, 0))
	r.waits.calls++
	if now-at > r.slo.Progress {
		r.waits.over++
	}
}

// lost reports whether a call failed because its connection was lost.
func lost(err error) bool {
	var c *lean.ConnError
	return errors.As(err, &c)
}

// skipProgress counts a progress request that was given up.
func (r *recorder) skipProgress(at time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slot(at) != nil {
		r.waits.errors++
	}
}

// hopeless reports whether so much has gone wrong that the run cannot keep the service levels any more.
func (r *recorder) hopeless() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	var sum counts
	for _, c := range r.counts {
		sum.add(c)
	}
	return sum.errors+sum.over > max(sum.calls/10, 1000)
}
