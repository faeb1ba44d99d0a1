package load

import (
	"context"
	"time"

	"quorate.dev/quorate/internal/clock"
)

// pacer is an open loop under way: it sends requests when the schedule says so, whether or not earlier ones have completed.
type pacer struct {
	r     *run
	table schedule
	timer *clock.Timer // nil until the pacer waits; armed only while it does
	sent  int64
	late  int64
	dirty []*line
}

// pace sends the requests of an open loop on schedule, and returns when all that were sent have completed.
func (r *run) pace(ctx context.Context) {
	p := pacer{r: r, table: newSchedule(&r.o.Shape)}
	p.run(ctx)
	p.flush()
	r.tickets.late = p.late
	if !r.stopping() {
		r.tickets.unsent = p.table.last - p.sent
	}
	for range cap(r.free) {
		<-r.free
	}
}

func (p *pacer) run(ctx context.Context) {
	for p.sent < p.table.last && !p.r.stopping() && ctx.Err() == nil {
		now := p.r.now()
		due := p.table.due(now + p.r.o.Shape.Warmup)
		for p.sent < due {
			s := p.slot(ctx)
			if s == nil {
				return
			}
			if !p.start(s) {
				return
			}
		}
		p.flush()
		if p.sent < p.table.last {
			if wait := p.table.at(p.sent) - p.r.o.Shape.Warmup - p.r.now(); wait > 0 {
				p.wait(ctx, max(wait, PaceQuantum))
			}
		}
	}
}

// start sends the next request with s; false ends the loop.
func (p *pacer) start(s *slot) bool {
	intended := p.table.at(p.sent) - p.r.o.Shape.Warmup
	if intended >= 0 && p.r.now()-intended > LateAfter {
		p.late++
	}
	sent, err := s.issue(p.sent, intended)
	p.sent++
	if err != nil {
		s.line.rec.record(p.r.now(), intended, 0, err)
		p.r.free <- s
		return p.r.failed(err)
	}
	if !sent {
		p.r.free <- s
		return false
	}
	if !s.line.dirty {
		s.line.dirty = true
		p.dirty = append(p.dirty, s.line)
	}
	return true
}

// flush lets out what was sent. A failure ends the connection, which its line notices.
func (p *pacer) flush() {
	for _, l := range p.dirty {
		l.dirty = false
		_ = l.conn.Load().Flush()
	}
	p.dirty = p.dirty[:0]
}

// slot is a free slot, nil when the time to send is over before there is one. Until then the schedule goes on, and what it
// delays is late.
func (p *pacer) slot(ctx context.Context) *slot {
	select {
	case s := <-p.r.free:
		return s
	default:
	}
	p.flush()
	var end <-chan time.Time
	if d := p.r.o.Shape.Duration; d > 0 {
		p.arm(d - p.r.now())
		defer p.timer.Stop()
		end = p.timer.C
	}
	select {
	case s := <-p.r.free:
		return s
	case <-end:
	case <-ctx.Done():
	case <-p.r.stop.ended:
	}
	return nil
}

func (p *pacer) wait(ctx context.Context, d time.Duration) {
	p.arm(d)
	defer p.timer.Stop()
	select {
	case <-p.timer.C:
	case <-ctx.Done():
	case <-p.r.stop.ended:
	}
}

// arm starts the pacer's timer. It is never armed for nothing, not even for a moment: whoever moves the clock by hand takes an armed
// timer for a pacer that waits.
func (p *pacer) arm(d time.Duration) {
	if p.timer == nil {
		p.timer = p.r.o.Clock.NewTimer(d)
		return
	}
	p.timer.Reset(d)
}
