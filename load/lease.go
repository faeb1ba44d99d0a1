package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/wire"
)

var leaseKinds = []Kind{
	{
		Name: "lease-keepalive", Summary: "Keep --leases leases alive",
		Detail: "Grants the leases first. Each client has a stream of its own and sends its next keep-alive when the last one is\n" +
			"answered. A lease that has expired is an error. The leases are revoked in the end.",
		Example: "quorate bench lease-keepalive --leases 10000 --clients 100 --connections 10",
		make:    func(*run) workload { return new(keepAliveWork) },
	},
	{
		Name: "lease-grant", Summary: "Grant leases",
		Detail:  "Each request grants a lease of --ttl seconds, which is left to expire.",
		Example: "quorate bench lease-grant --ttl 10 --clients 100 --connections 10",
		make:    func(*run) workload { return new(grantWork) },
	},
	{
		Name: "lease-expire", Summary: "Let leases expire and see when their keys go",
		Detail: "Grants --leases leases of --ttl seconds (default 5), attaches a key to each, and watches the keys being deleted. An\n" +
			"operation is a deletion; its latency counts from the instant at which the lease was due to expire. extra.grant_* is\n" +
			"the latency of grants and of the puts that attach keys; extra.early counts keys that went before their time.",
		Example: "quorate bench lease-expire --leases 100000 --clients 1000 --connections 10",
		make:    func(*run) workload { return new(expireWork) },
		adjust: func(o *Options) {
			set(&o.Work.TTL, 5)
			set(&o.Work.Leases, 1000)
			o.Shape.Total, o.Shape.Duration, o.Shape.Warmup = Endless, 0, 0 // the leases end the run
			o.Shape.Rate = 0
			o.Data.Keys = o.Work.Leases
			o.Work.Watchers, o.Work.WatchConns, o.Work.Streams = 1, 1, 1
		},
	},
}

// leaseIDOf reads the id of a LeaseGrantResponse, which has KeepAlive's fields.
func leaseIDOf(body []byte) (int64, error) {
	var resp wire.LeaseKeepAliveResponse
	if err := resp.Unmarshal(body); err != nil {
		return 0, err
	}
	if resp.ID == 0 {
		return 0, errAnswer
	}
	return resp.ID, nil
}

// keepAliveWork holds the granted leases.
type keepAliveWork struct{ leases []int64 }

func (w *keepAliveWork) setUp(ctx context.Context, r *run) error {
	w.leases = make([]int64, r.o.Work.Leases)
	return r.bulk(ctx, &bulk{n: r.o.Work.Leases,
		write: func(int64) (lean.Method, lean.Message) {
			return lean.LeaseGrant, &wire.LeaseGrantRequest{TTL: r.o.Work.TTL}
		},
		read: func(i int64, body []byte) (err error) {
			w.leases[i], err = leaseIDOf(body)
			return err
		}})
}

func (w *keepAliveWork) finish(ctx context.Context, r *run, res *Result) error {
	res.Extra["leases"] = float64(len(w.leases))
	return r.bulk(ctx, &bulk{n: int64(len(w.leases)), write: func(i int64) (lean.Method, lean.Message) {
		return lean.LeaseRevoke, &wire.LeaseRevokeRequest{ID: w.leases[i]}
	}})
}

func (w *keepAliveWork) job(*run, int) (job, transport) { return &keepAliveJob{w: w}, session }

type keepAliveJob struct {
	w    *keepAliveWork
	req  wire.LeaseKeepAliveRequest
	resp wire.LeaseKeepAliveResponse
}

func (j *keepAliveJob) next(n int64, _ time.Duration) (lean.Method, lean.Message, bool) {
	j.req.ID = j.w.leases[n%int64(len(j.w.leases))]
	return lean.LeaseKeepAlive, &j.req, true
}

var errExpired = errors.New("a lease has expired although it was kept alive: --ttl is too short for the rate")

func (j *keepAliveJob) done(body []byte, err error) (int, error) {
	if err != nil {
		return 0, nil
	}
	if err := j.resp.Unmarshal(body); err != nil {
		return 0, err
	}
	switch {
	case j.resp.ID != j.req.ID:
		return 0, errAnswer
	case j.resp.TTL <= 0:
		return 0, errExpired
	}
	return 0, nil
}

// grantWork grants leases and forgets them.
type grantWork struct{ plain }

func (w *grantWork) job(r *run, _ int) (job, transport) {
	return &grantJob{req: wire.LeaseGrantRequest{TTL: r.o.Work.TTL}}, unary
}

type grantJob struct{ req wire.LeaseGrantRequest }

func (j *grantJob) next(int64, time.Duration) (lean.Method, lean.Message, bool) {
	return lean.LeaseGrant, &j.req, true
}

func (j *grantJob) done(body []byte, err error) (int, error) {
	if err != nil {
		return 0, nil
	}
	_, err = leaseIDOf(body)
	return 0, err
}

// expireWork knows when each lease is due to expire.
type expireWork struct {
	r       *run
	granted []atomic.Int64 // when lease i was asked for, since the begin of measuring; 0 before
	due     []atomic.Int64 // when it has to be gone: its grant was answered, and its TTL later
	next    atomic.Int64
	put     atomic.Int64 // keys attached
	gone    atomic.Int64
	early   atomic.Int64
	once    sync.Once
	lost    error
	broken  chan struct{}
	ready   chan struct{}
}

func (w *expireWork) setUp(ctx context.Context, r *run) error {
	n := r.o.Work.Leases
	w.r, w.granted, w.due = r, make([]atomic.Int64, n), make([]atomic.Int64, n)
	w.broken, w.ready = make(chan struct{}), make(chan struct{})
	if err := r.watchLines(ctx, 1); err != nil {
		return err
	}
	l := r.watch.lines[0]
	stream, err := l.conn.Load().Open(lean.Watch, &deletions{w: w, line: l, keys: r.o.Data.space()})
	if err != nil {
		return err
	}
	create := wire.WatchRequest{Create: &wire.WatchCreateRequest{Key: []byte(r.o.Data.Prefix), RangeEnd: r.o.Data.space().end(),
		Filters: []wire.FilterType{wire.FilterNoPut}}}
	if err := stream.Send(&create, false); err != nil {
		return err
	}
	if err := l.conn.Load().Flush(); err != nil {
		return err
	}
	select {
	case <-w.ready:
		return nil
	case <-w.broken:
		return w.lost
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *expireWork) fail(err error) {
	w.once.Do(func() {
		w.lost = err
		close(w.broken)
	})
	w.r.failed(err)
}

func (w *expireWork) job(r *run, i int) (job, transport) {
	return &expireJob{w: w, keys: r.o.Data.space(), rnd: newSource(r.o.Shape.Seed, uint64(i)), values: r.o.Data.values()}, unary
}

// finish waits until every key is gone.
func (w *expireWork) finish(ctx context.Context, r *run, res *Result) error {
	res.Extra["grant_p50_ms"], res.Extra["grant_p99_ms"] = res.Latency.P50, res.Latency.P99
	res.Extra["grant_seconds"] = res.Seconds
	res.Extra["leases"] = float64(w.put.Load())
	err := r.await(ctx, w.broken, &w.gone, w.put.Load(), time.Duration(r.o.Work.TTL)*time.Second+DeliveryWait)
	if errors.Is(err, errUndelivered) && w.lost != nil {
		err = w.lost
	}
	r.closeAll(r.watch.lines, &r.watch.times)
	s := sum(r.watch.lines)
	res.measure(s, r.watch.times.rows)
	res.Extra["early"] = float64(w.early.Load())
	return err
}

// expireJob grants a lease and then attaches a key to it.
type expireJob struct {
	w      *expireWork
	keys   keySpace
	rnd    source
	values values

	i     int64 // number of the lease
	lease int64 // its id; 0 when the next request is a grant
	asked time.Duration
	key   []byte
	grant wire.LeaseGrantRequest
	put   wire.PutRequest
}

func (j *expireJob) next(int64, time.Duration) (lean.Method, lean.Message, bool) {
	if j.lease != 0 {
		j.key = j.keys.appendKey(j.key[:0], j.i)
		j.put = wire.PutRequest{Key: j.key, Value: j.values.next(j.rnd), Lease: j.lease}
		return lean.Put, &j.put, true
	}
	if j.i = j.w.next.Add(1) - 1; j.i >= int64(len(j.w.due)) {
		return 0, nil, false
	}
	j.asked = j.w.r.now()
	j.grant.TTL = j.w.r.o.Work.TTL
	return lean.LeaseGrant, &j.grant, true
}

func (j *expireJob) done(body []byte, err error) (int, error) {
	if err != nil {
		j.lease = 0
		return 0, nil
	}
	if j.lease != 0 {
		j.lease = 0
		j.w.put.Add(1)
		return len(j.put.Value), nil
	}
	ttl := int64(time.Duration(j.grant.TTL) * time.Second)
	j.w.granted[j.i].Store(int64(j.asked) + ttl)
	j.w.due[j.i].Store(int64(j.w.r.now()) + ttl)
	j.lease, err = leaseIDOf(body)
	return 0, err
}

// deletions is the watcher of expiring keys.
type deletions struct {
	w    *expireWork
	line *line
	keys keySpace
	resp wire.WatchResponse
}

// Message implements lean.Handler.
func (d *deletions) Message(body []byte) {
	if err := d.resp.Unmarshal(body); err != nil {
		d.w.fail(err)
		return
	}
	switch {
	case d.resp.Canceled:
		d.w.fail(fmt.Errorf("%s cancelled the watcher: %s", d.line.cfg.Address, d.resp.CancelReason))
		return
	case d.resp.Created:
		close(d.w.ready)
		return
	}
	now := d.w.r.now()
	for _, ev := range d.resp.Events {
		i, ok := d.keys.number(wire.KeyOf(kvOf(ev)))
		if !ok || d.w.due[i].Load() == 0 {
			continue // not ours
		}
		due := time.Duration(d.w.due[i].Load())
		if now < time.Duration(d.w.granted[i].Load()) {
			d.w.early.Add(1)
		}
		// A server may count from when it granted, a moment before the answer came.
		d.line.rec.record(max(now, due), due, len(ev), nil)
		d.w.gone.Add(1)
	}
}

// End implements lean.Handler.
func (d *deletions) End(err error) {
	if errors.Is(err, lean.ErrClosed) {
		return
	}
	if err == nil {
		err = errSessionOver
	}
	d.w.fail(fmt.Errorf("watching %s: %w", d.line.cfg.Address, err))
}
