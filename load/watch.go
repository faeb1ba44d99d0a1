package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/wire"
)

var watchKinds = []Kind{
	{
		Name: "watch", Summary: "Watch one prefix many times and write to it: events delivered a second",
		Detail: "Makes --watchers watchers of the prefix on --streams streams over --watch-connections connections, then puts as the put\n" +
			"workload does (default 2,000 in all). An operation is a put; extra.events counts what all watchers got, and\n" +
			"extra.event_* is the time from the start of a put to its arrival, one sample per response. The run ends when every\n" +
			"watcher has every event. With --watch-endpoints the watchers are at a proxy, and the puts go to the store behind it.",
		Example: "quorate bench watch --watchers 500 --total 2000 --clients 10",
		make:    func(*run) workload { return new(watchWork) },
		adjust: func(o *Options) {
			if o.Shape.Duration == 0 {
				set(&o.Shape.Total, 2000)
			}
		},
	},
	{
		Name: "watch-latency", Summary: "Time from a put to its event at a watcher",
		Detail: "Watches the prefix (one watcher by default) and puts. An operation is an event that arrived; its latency counts from the\n" +
			"start of the put, in an open loop from the intended start. extra.put_* is the latency of the puts themselves.",
		Example: "quorate bench watch-latency --rate 100 --seconds 10",
		make:    func(*run) workload { return &watchWork{every: true} },
		adjust:  func(o *Options) { set(&o.Work.Watchers, 1) },
	},
}

// stampBytes is the head of each value that watch writes: when the put was meant to start.
const stampBytes = 8

// watchWork is both sides of a fan-out.
type watchWork struct {
	every   bool // each event is a sample, and the events are the operations
	r       *run
	created sync.WaitGroup
	once    sync.Once
	lost    error         // valid once broken is closed
	broken  chan struct{} // a watcher or its connection ended
	events  atomic.Int64
	counted atomic.Int64 // of puts that count
	puts    atomic.Int64 // that succeeded
}

func (w *watchWork) setUp(ctx context.Context, r *run) error {
	if r.o.Data.ValueSize < stampBytes {
		return fmt.Errorf("--value-size is %d; a watched value needs %d bytes for its time", r.o.Data.ValueSize, stampBytes)
	}
	w.r, w.broken = r, make(chan struct{})
	if err := r.watchLines(ctx, r.o.Work.WatchConns); err != nil {
		return err
	}
	k := r.o.Work
	w.created.Add(k.Watchers)
	for i := range k.Streams {
		l := r.watch.lines[i%len(r.watch.lines)]
		// Watchers are dealt to the streams in turn.
		n := (k.Watchers - i + k.Streams - 1) / k.Streams
		h := &watchStream{w: w, line: l}
		if err := h.open(n, r.o); err != nil {
			return err
		}
	}
	for _, l := range r.watch.lines {
		if err := l.conn.Load().Flush(); err != nil {
			return err
		}
	}
	made := make(chan struct{})
	go func() {
		w.created.Wait()
		close(made)
	}()
	select {
	case <-made:
		return nil
	case <-w.broken:
		return w.lost
	case <-ctx.Done():
		return ctx.Err()
	}
}

// watchLines opens n connections for watchers.
func (r *run) watchLines(ctx context.Context, n int) error {
	endpoints := r.o.Target.Watch
	if len(endpoints) == 0 {
		endpoints = r.o.Target.Endpoints
	}
	for i := range n {
		l, err := r.newLine(i, endpoints)
		if err != nil {
			return err
		}
		l.cfg.Timeout = 0
		l.rec.line = &r.watch.times
		r.watch.lines = append(r.watch.lines, l)
	}
	return dialAll(ctx, r.watch.lines)
}

// fail takes the first reason why events are missing.
func (w *watchWork) fail(err error) {
	w.once.Do(func() {
		w.lost = err
		close(w.broken)
	})
	w.r.failed(err)
}

func (w *watchWork) job(r *run, i int) (job, transport) {
	return &watchPut{w: w, kv: kvJob{w: new(kvWork), o: r.o, keys: r.o.Data.space(), rnd: newSource(r.o.Shape.Seed, uint64(i)),
		values: r.o.Data.values()}}, unary
}

// watchPut is a put whose value says when it was meant to start.
type watchPut struct {
	w  *watchWork
	kv kvJob
}

func (p *watchPut) next(n int64, start time.Duration) (lean.Method, lean.Message, bool) {
	m, msg, ok := p.kv.next(n, start)
	binary.BigEndian.PutUint64(p.kv.put.Value, uint64(start))
	return m, msg, ok
}

func (p *watchPut) done(body []byte, err error) (int, error) {
	if err == nil {
		p.w.puts.Add(1)
	}
	return p.kv.done(body, err)
}

// settle is how often finish looks whether everything has arrived.
const settle = 2 * time.Millisecond

// errUndelivered is the end of a run whose watchers did not get every event.
var errUndelivered = errors.New("events were not delivered")

// finish waits for the events of all puts.
func (w *watchWork) finish(ctx context.Context, r *run, res *Result) error {
	want := w.puts.Load() * int64(r.o.Work.Watchers)
	err := r.await(ctx, w.broken, &w.events, want, DeliveryWait)
	if errors.Is(err, errUndelivered) && w.lost != nil {
		err = w.lost
	}
	r.closeAll(r.watch.lines, &r.watch.times)
	s := sum(r.watch.lines)
	if w.every {
		put := Latency(res.Latency)
		res.Extra["put_p50_ms"], res.Extra["put_p99_ms"] = put.P50, put.P99
		res.Extra["puts"] = float64(res.Operations)
		res.measure(s, r.watch.times.rows)
	} else {
		res.extraLatency("event", &s.all)
	}
	res.Extra["events"] = float64(w.counted.Load())
	if s.last > 0 {
		res.Extra["events_per_second"] = round(float64(w.counted.Load())/s.last.Seconds(), 1)
	}
	res.Extra["watchers"], res.Extra["streams"] = float64(r.o.Work.Watchers), float64(r.o.Work.Streams)
	res.Extra["watch_connections"] = float64(r.o.Work.WatchConns)
	return err
}

// await returns when n is want, with errUndelivered when it has not grown for patience or broken is closed.
func (r *run) await(ctx context.Context, broken <-chan struct{}, n *atomic.Int64, want int64, patience time.Duration) error {
	ticker := r.o.Clock.NewTicker(settle)
	defer ticker.Stop()
	last, since := n.Load(), r.now()
	for {
		now := n.Load()
		switch {
		case now >= want:
			return nil
		case now != last:
			last, since = now, r.now()
		case r.now()-since > patience:
			return fmt.Errorf("%w: %d of %d, and none for %v", errUndelivered, now, want, patience)
		}
		select {
		case <-ticker.C:
		case <-broken:
			return fmt.Errorf("%w: %d of %d", errUndelivered, now, want)
		case <-ctx.Done():
			return fmt.Errorf("%w: %d of %d when the run was interrupted", errUndelivered, now, want)
		}
	}
}

// watchStream is one stream of watchers.
type watchStream struct {
	w    *watchWork
	line *line
	resp wire.WatchResponse
}

// open starts the stream and makes n watchers of the whole prefix on it.
func (h *watchStream) open(n int, o *Options) error {
	stream, err := h.line.conn.Load().Open(lean.Watch, h)
	if err != nil {
		return err
	}
	create := wire.WatchRequest{Create: &wire.WatchCreateRequest{Key: []byte(o.Data.Prefix), RangeEnd: o.Data.space().end(), PrevKV: o.Work.PrevKV}}
	for range n {
		if err := stream.Send(&create, false); err != nil {
			return err
		}
	}
	return nil
}

// Message implements lean.Handler.
func (h *watchStream) Message(body []byte) {
	events, first := countEvents(body)
	if events == 0 {
		h.control(body)
		return
	}
	now, w := h.w.r.now(), h.w
	if w.every {
		if h.resp.Unmarshal(body) != nil {
			w.fail(errAnswer)
			return
		}
		for _, ev := range h.resp.Events {
			h.sample(now, ev, len(ev))
		}
	} else if h.sample(now, first, len(body)) {
		w.counted.Add(events)
	}
	w.events.Add(events)
}

// sample records the latency of one event and reports whether its put counts.
func (h *watchStream) sample(now time.Duration, event []byte, bytes int) bool {
	value := wire.ValueOf(kvOf(event))
	if len(value) < stampBytes {
		return false // somebody else writes to the prefix
	}
	start := time.Duration(binary.BigEndian.Uint64(value))
	if start < 0 || start > now {
		return false
	}
	h.line.rec.record(now, start, bytes, nil)
	if h.w.every {
		h.w.counted.Add(1)
	}
	return true
}

// control takes a response without events.
func (h *watchStream) control(body []byte) {
	if err := h.resp.Unmarshal(body); err != nil {
		h.w.fail(err)
		return
	}
	switch {
	case h.resp.Canceled:
		h.w.fail(fmt.Errorf("%s cancelled a watcher: %s", h.line.cfg.Address, h.resp.CancelReason))
	case h.resp.Created:
		h.w.created.Done()
	}
}

// End implements lean.Handler.
func (h *watchStream) End(err error) {
	if errors.Is(err, lean.ErrClosed) {
		return // the run is over
	}
	if err == nil {
		err = errSessionOver
	}
	h.w.fail(fmt.Errorf("watching %s: %w", h.line.cfg.Address, err))
}

// Tags of WatchResponse and Event.
const (
	tagEvents  = 11<<3 | typeBytes
	tagEventKV = 2<<3 | typeBytes
)

// countEvents counts the events of a WatchResponse without decoding them, and returns the first. A body that is malformed
// ends the count.
func countEvents(body []byte) (n int64, first []byte) {
	eachField(body, func(tag uint64, data []byte) bool {
		if tag == tagEvents {
			if n++; n == 1 {
				first = data
			}
		}
		return true
	})
	return n, first
}

// kvOf is the KeyValue of an Event, nil when it has none.
func kvOf(event []byte) (kv []byte) {
	eachField(event, func(tag uint64, data []byte) bool {
		if tag == tagEventKV {
			kv = data
			return false
		}
		return true
	})
	return kv
}

// eachField walks the fields of a message that are varints or bytes, until f returns false.
func eachField(b []byte, f func(tag uint64, data []byte) bool) {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return
		}
		v, m := binary.Uvarint(b[n:])
		if m <= 0 {
			return
		}
		b = b[n+m:]
		var data []byte
		if tag&7 == typeBytes {
			if v > uint64(len(b)) {
				return
			}
			data, b = b[:v], b[v:]
		}
		if !f(tag, data) {
			return
		}
	}
}
