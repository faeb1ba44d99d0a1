package load

import (
	"context"
	"time"
)

// Tick is the state of a run, for whoever watches it.
type Tick struct {
	Elapsed  time.Duration // of the measured part; negative during the warm-up
	Duration time.Duration // of the measured part, 0 when only Total ends it
	Total    int64         // operations that end the run, 0 when only Duration does
	Done     int64         // operations so far
	Errors   int64         // refusals included
	Last     Second        // the last whole second
}

// tick closes the seconds of the timeline, and shows progress, until ctx ends.
func (r *run) tick(ctx context.Context, done chan struct{}) {
	defer close(done)
	ticker := r.o.Clock.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := r.now()
		t := Tick{Elapsed: now, Duration: r.o.Shape.Duration, Total: r.o.Shape.Total, Last: r.closeSeconds(int(max(now, 0)/time.Second) + 1)}
		if r.o.Progress == nil {
			continue
		}
		for _, l := range r.lines {
			l.rec.mu.Lock()
			t.Done += l.rec.all.Count()
			t.Errors += l.rec.errors
			if l.rec.refused != nil {
				t.Errors += l.rec.refused.Count()
			}
			l.rec.mu.Unlock()
		}
		r.o.Progress(t)
	}
}

// closeSeconds makes rows of the timelines of what ended before second, and returns the last row of the requests.
func (r *run) closeSeconds(second int) Second {
	closeLines(r.watch.lines, &r.watch.times, second)
	return closeLines(r.lines, &r.times, second)
}

func closeLines(lines []*line, t *timeline, second int) Second {
	for _, l := range lines {
		l.rec.handBefore(second)
	}
	return t.closeBefore(second)
}

// closeAll closes every second so far, the one under way included. What lines record must have come to its end.
func (r *run) closeAll(lines []*line, t *timeline) {
	closeLines(lines, t, int(max(r.now(), 0)/time.Second)+2)
}
