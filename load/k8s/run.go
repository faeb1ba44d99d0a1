package k8s

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"quorate.dev/quorate/load"
	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/wire"
)

// Run plays the cluster that o describes against its endpoints, and reports. An error without a report says why nothing could be
// measured; with one, it is what ended everything early. A service level that was not kept is no error: the report says it.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.resolve(); err != nil {
		return nil, err
	}
	d, err := newDriver(&o)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var serving sync.WaitGroup
	defer func() {
		cancel()
		d.hangUp()
		serving.Wait()
	}()
	if err := d.connect(ctx, &serving); err != nil {
		return nil, err
	}
	if err := d.empty(ctx); err != nil {
		return nil, err
	}
	rep := newReport(&o)
	begin := d.now()
	if err := d.grow(ctx, o.Size.Nodes); err != nil {
		return nil, err
	}
	rep.FillSeconds, rep.FillPods = round((d.now()-begin).Seconds(), 2), d.pods.live()
	if err := d.watch(ctx); err != nil {
		return nil, err
	}
	err = d.measureAll(ctx, rep)
	rep.judge()
	return rep, err
}

// measureAll makes the runs that were asked for.
func (d *driver) measureAll(ctx context.Context, rep *Report) (err error) {
	o := d.o
	d.o.Progress("measuring: run")
	rep.Run, err = d.measure(ctx, &trial{nodes: o.Size.Nodes, measured: o.Times.Measured})
	d.o.Progress("measured: run")
	if err != nil {
		return err
	}
	if o.Times.Relist > 0 {
		d.o.Progress("measuring: relist")
		rep.Relist, err = d.measure(ctx, &trial{nodes: o.Size.Nodes, measured: o.Times.Relist, relist: o.Times.Relist / 3})
		d.o.Progress("measured: relist")
		if err != nil {
			return err
		}
	}
	if o.Store.Verify {
		if rep.Verified, err = d.verify(ctx); err != nil {
			return err
		}
	}
	if o.Times.Flood > 0 {
		d.o.Progress("measuring: flood")
		rep.Flood, err = d.flood(ctx, o.Times.Flood)
		d.o.Progress("measured: flood")
		if err != nil {
			return err
		}
	}
	if o.Search.On {
		d.o.Progress("measuring: limit")
		rep.Limit, err = d.findLimit(ctx)
		d.o.Progress("measured: limit")
	}
	return err
}

// ask makes one call beside the driver and waits for its answer.
func (d *driver) ask(ctx context.Context, m lean.Method, msg lean.Message) ([]byte, error) {
	conn := d.links[0][pods].up()
	if conn == nil {
		return nil, errors.New("the connection is lost")
	}
	a := &asked{answer: make(chan struct{})}
	if err := conn.Call(m, msg, a); err != nil {
		return nil, err
	}
	_ = conn.Flush() // a failure ends the connection, which completes the call
	select {
	case <-a.answer:
		return a.body, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type asked struct {
	answer chan struct{}
	body   []byte
	err    error
}

// Done implements lean.Completion.
func (a *asked) Done(body []byte, err error) {
	a.body, a.err = append([]byte(nil), body...), err
	close(a.answer)
}

// empty makes sure that there is nothing under the prefix.
func (d *driver) empty(ctx context.Context) error {
	prefix := []byte(d.o.Store.Prefix)
	end := rangeEnd(prefix)
	if d.o.Store.Clear {
		for _, r := range []wire.DeleteRangeRequest{{Key: prefix, RangeEnd: end}, {Key: []byte(compactKey)}} {
			if _, err := d.ask(ctx, lean.DeleteRange, &r); err != nil {
				return err
			}
		}
		return nil
	}
	body, err := d.ask(ctx, lean.Range, &wire.RangeRequest{Key: prefix, RangeEnd: end, CountOnly: true})
	if err != nil {
		return err
	}
	var r wire.RangeResponse
	if err := r.Unmarshal(body); err != nil {
		return err
	}
	if r.Count > 0 {
		return fmt.Errorf("the store holds %d keys under %q; give a fresh store, another --prefix, or --clear, which deletes them", r.Count, prefix)
	}
	return nil
}

// watch opens every watch.
func (d *driver) watch(ctx context.Context) error {
	body, err := d.ask(ctx, lean.Range, &wire.RangeRequest{Key: []byte(compactKey), Limit: 1})
	if err != nil {
		return err
	}
	var r wire.RangeResponse
	if err := r.Unmarshal(body); err != nil {
		return err
	}
	d.highest = max(d.highest, r.Header.Revision)
	for s := range d.links {
		for _, l := range d.links[s] {
			l.watcher.begin(r.Header.Revision)
		}
		d.idle[s].idle.open(d.idle[s])
	}
	return nil
}

// trial is one run that is to be made.
type trial struct {
	nodes    int // whose traffic is played
	measured time.Duration
	relist   time.Duration // since the begin of measuring, 0: never
	hasty    bool          // ends early once it cannot keep the service levels
}

// measure makes one run.
func (d *driver) measure(ctx context.Context, t *trial) (*RunReport, error) {
	begin := d.now() + 20*time.Millisecond
	p := plan{begin: begin, measured: begin + max(d.o.Times.Warmup, 0), relist: t.relist, nodes: t.nodes, hasty: t.hasty}
	p.end = p.measured + t.measured
	rec := newRecorder(&d.o.SLO, p.measured, p.end)
	d.rec.Store(rec)
	before := d.meters()
	d.relisted = 0
	d.start(p)
	showing, stop := context.WithCancel(ctx)
	var shown sync.WaitGroup
	shown.Go(func() { d.show(showing, rec) })
	err := d.loop(ctx)
	stop()
	shown.Wait()
	stuck := errors.Is(err, errStuck)
	if err == nil || stuck { // what is under way goes on, and the run is broken
		err = d.settle(ctx)
	}
	took := min(t.measured, max(d.until-p.measured, 0)) // of a hasty run, what there was
	r := d.report(rec, took, d.meters().since(before))
	r.Start = d.epoch.Add(p.measured - time.Second).UTC()
	r.Nodes, r.Pods = t.nodes, d.pods.live()
	if stuck {
		r.Faults = append(r.Faults, fmt.Sprintf("%d calls were still under way a minute after the end", d.underWay))
	}
	d.missing(r)
	r.judge(&d.o.SLO)
	return r, err
}

// meters count what is not counted by a recorder.
type meters struct {
	conflicts, redials int64
	cpu                time.Duration // of this process
}

func (d *driver) meters() meters { return meters{d.conflicts, d.redials.Load(), load.CPUTime()} }

func (m meters) since(o meters) meters {
	return meters{m.conflicts - o.conflicts, m.redials - o.redials, m.cpu - o.cpu}
}

// show says every five seconds how the run is getting on.
func (d *driver) show(ctx context.Context, rec *recorder) {
	for d.wait(ctx, 5*time.Second) {
		d.o.Progress(rec.line(d.now()))
	}
}

func (r *recorder) line(now time.Duration) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var sum counts
	for _, c := range r.counts {
		sum.add(c)
	}
	return fmt.Sprintf("%3.0f s: %d calls, p99 %.1f ms, max %.1f ms, %d errors, %d lost, %d late", (now - r.begin).Seconds(), sum.calls,
		millis(r.all.Quantile(0.99)), millis(r.all.Max()), sum.errors, sum.lost, r.late)
}

// settle waits until every watcher has seen all that was acknowledged: progress to the highest revision says so.
func (d *driver) settle(ctx context.Context) error {
	patience := d.now() + deliveryPatience
	for d.now() < patience {
		behind := false
		for s := range d.links {
			for _, l := range d.links[s] {
				behind = l.watcher.behind(d.now(), d.highest) || behind
			}
		}
		if !behind {
			return nil
		}
		if !d.wait(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
	return nil // what is missing is counted
}

// behind asks for progress unless the watcher has it.
func (w *watcher) behind(now time.Duration, revision int64) bool {
	w.mu.Lock()
	told, asking := w.told, len(w.waiting) > 0 && now-w.waiting[len(w.waiting)-1].at < progressEvery
	w.mu.Unlock()
	if told >= revision {
		return false
	}
	if !asking {
		w.ask(now, revision)
	}
	return true
}

// missing compares what the watchers got with what was acknowledged.
func (d *driver) missing(r *RunReport) {
	for s := range d.links {
		for _, l := range d.links[s] {
			w := l.watcher
			w.mu.Lock()
			more, unknown := d.acks[w.kind].expected(w)
			want := w.want + more
			if w.told < d.highest {
				r.Faults = append(r.Faults, fmt.Sprintf("watch of %s: no progress to revision %d, only to %d", resourceNames[w.kind], d.highest, w.told))
			}
			if !w.unsure && w.got < want {
				r.Missing += want - w.got
			}
			if !w.unsure && w.got > want+unknown {
				r.Surplus += w.got - want - unknown
			}
			r.Faults = append(r.Faults, w.faults...)
			w.faults = nil
			w.mu.Unlock()
		}
	}
}
