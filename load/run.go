package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"quorate.dev/quorate/load/lean"
)

// workload is a kind of load.
type workload interface {
	// setUp prepares what the jobs need on the server, before anything is measured.
	setUp(ctx context.Context, r *run) error
	// job is the job of slot i, and how its requests travel.
	job(r *run, i int) (job, transport)
	// finish runs after the last request, while the connections are open, and may add to the result or replace figures in it.
	finish(ctx context.Context, r *run, res *Result) error
}

// run is one run of one workload.
type run struct {
	o     *Options
	work  workload
	epoch time.Time // begin of the run; measuring begins a warm-up later
	open  bool      // open loop
	lines []*line
	times timeline
	watch watching

	slots   sync.WaitGroup
	free    chan *slot // of an open loop
	tickets tickets
	stop    stopper
}

// tickets count requests.
type tickets struct {
	warm, counted atomic.Int64
	late, unsent  int64 // of an open loop; the pacer's
}

// watching is the other side of a workload that watches: connections that send no requests once watchers are made.
type watching struct {
	lines []*line
	times timeline // of events
}

// stopper is how a run ends early.
type stopper struct {
	flag  atomic.Bool
	once  sync.Once
	err   error
	ended chan struct{} // closed by the first failure that is not allowed
}

// stopping reports whether no more requests are to be sent.
func (r *run) stopping() bool { return r.stop.flag.Load() }

// failed takes note of an error, which ends the run unless errors are allowed, and reports whether the run goes on.
func (r *run) failed(err error) bool {
	if r.stopping() {
		return false
	}
	if r.o.Shape.AllowErrors && !errors.Is(err, lean.ErrWaiting) {
		return true
	}
	r.stop.once.Do(func() {
		r.stop.err = err
		r.stop.flag.Store(true)
		close(r.stop.ended)
	})
	return false
}

// over reports whether no request of a closed loop starts any more.
func (r *run) over(now time.Duration) bool {
	return r.stopping() || r.o.Shape.Duration > 0 && now >= r.o.Shape.Duration
}

// ticket is the number of the next request of a closed loop, which starts now; false when there are no more.
func (r *run) ticket(now time.Duration) (int64, bool) {
	s := &r.o.Shape
	switch {
	case r.over(now):
		return 0, false
	case now < 0:
		return r.tickets.warm.Add(1) - 1, true
	}
	n := r.tickets.counted.Add(1) - 1
	if s.Total > 0 && n >= s.Total {
		return 0, false
	}
	return n + r.tickets.warm.Load(), true
}

// giveBack returns the ticket of a request that could not be sent.
func (r *run) giveBack(now time.Duration) {
	if now < 0 {
		r.tickets.warm.Add(-1)
		return
	}
	r.tickets.counted.Add(-1)
}

// Run puts one workload on the endpoints of o and returns what was measured. An error without a Result says why nothing could
// be measured; with one, it is the error that ended the run early (see Shape.AllowErrors). When ctx ends, the run ends early
// and the Result covers it.
func Run(ctx context.Context, name string, o Options) (*Result, error) {
	kind, err := find(name)
	if err != nil {
		return nil, err
	}
	if kind.adjust != nil {
		kind.adjust(&o)
	}
	if err := o.resolve(); err != nil {
		return nil, err
	}
	r := &run{o: &o, open: o.Shape.Rate > 0}
	r.work = kind.make(r)
	r.stop.ended = make(chan struct{})
	r.times.open, r.watch.times.open = map[int]*Histogram{}, map[int]*Histogram{}
	defer r.hangUp()
	if err := r.connect(ctx); err != nil {
		return nil, err
	}
	r.epoch = o.Clock.Now()
	if err := r.work.setUp(ctx, r); err != nil {
		return nil, fmt.Errorf("preparing %s: %w", name, err)
	}
	r.makeSlots()
	r.epoch = o.Clock.Now()
	res := r.drive(ctx, name)
	if r.stopping() {
		return res, r.stop.err
	}
	if err := r.work.finish(ctx, r, res); err != nil {
		return res, err
	}
	return res, nil
}

// connect opens the connections, the first one alone, so that an endpoint that is down is named once.
func (r *run) connect(ctx context.Context) error {
	for i := range r.o.Target.Connections {
		l, err := r.newLine(i, r.o.Target.Endpoints)
		if err != nil {
			return err
		}
		r.lines = append(r.lines, l)
	}
	if err := r.lines[0].dial(ctx); err != nil {
		return err
	}
	token, err := r.authenticate(ctx)
	if err != nil {
		return err
	}
	rest := r.lines[1:]
	if token != "" {
		r.lines[0].close()
		rest = r.lines
	}
	for _, l := range r.lines {
		l.cfg.Token = token
	}
	return dialAll(ctx, rest)
}

// dialing is how many connections are opened at the same time.
const dialing = 16

func dialAll(ctx context.Context, lines []*line) error {
	work := make(chan *line)
	errs := make(chan error, dialing)
	for range dialing {
		go func() {
			var first error
			for l := range work {
				if first == nil {
					first = l.dial(ctx)
				}
			}
			errs <- first
		}()
	}
	for _, l := range lines {
		work <- l
	}
	close(work)
	var first error
	for range dialing {
		if err := <-errs; first == nil {
			first = err
		}
	}
	return first
}

// newLine is connection i, to endpoints in turn.
func (r *run) newLine(i int, endpoints []string) (*line, error) {
	t := &r.o.Target
	address, secure, err := t.Parse(endpoints[i%len(endpoints)])
	if err != nil {
		return nil, err
	}
	l := &line{r: r, cfg: lean.Config{Address: address, Timeout: t.Timeout}}
	if secure {
		l.cfg.TLS = tlsOrDefault(t.TLS)
	}
	if len(r.lines) > 0 {
		l.cfg.Token = r.lines[0].cfg.Token
	}
	l.rec.line = &r.times
	return l, nil
}

// makeSlots spreads the slots over the connections.
func (r *run) makeSlots() {
	n := r.o.Shape.Clients
	if r.open {
		n = r.o.Shape.InFlight
		r.free = make(chan *slot, n)
	}
	for i := range n {
		l := r.lines[i%len(r.lines)]
		s := &slot{r: r, line: l}
		s.job, s.via = r.work.job(r, i)
		if r.open {
			r.free <- s
		} else {
			l.parked = append(l.parked, s)
		}
	}
}

// drive runs the load to its end.
func (r *run) drive(ctx context.Context, name string) *Result {
	before := CPUTime()
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ticking := make(chan struct{})
	go r.tick(serving, ticking)
	done := make(chan struct{})
	var lines sync.WaitGroup
	if !r.open {
		r.slots.Add(r.o.Shape.Clients)
	}
	for _, l := range r.lines {
		lines.Go(func() { l.serve(serving) })
	}
	go func() {
		if r.open {
			r.pace(ctx)
		}
		r.slots.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		r.stop.flag.Store(true)
		r.cutShort(done)
	case <-r.stop.ended:
		r.cutShort(done)
	}
	cancel()
	lines.Wait()
	<-ticking
	return r.result(name, CPUTime()-before)
}

// stopGrace is how long requests under way may take to complete when a run is interrupted.
const stopGrace = time.Second

// cutShort waits a little for what is under way and then closes the connections, which completes it.
func (r *run) cutShort(done chan struct{}) {
	timer := r.o.Clock.NewTimer(stopGrace)
	defer timer.Stop()
	select {
	case <-done:
		return
	case <-timer.C:
	}
	for _, l := range r.lines {
		l.close()
	}
	<-done
}

func (r *run) hangUp() {
	for _, l := range append(r.lines, r.watch.lines...) {
		l.close()
	}
}
