package main

import (
	"context"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// caller is one client: its connection and the memory that its requests use again and again.
type caller struct {
	conn       *grpc.ClientConn
	req, reply message
	key, value []byte
	scratch    []byte
	random     *rand.Rand
}

func newCaller(conn *grpc.ClientConn, seed uint64) *caller {
	return &caller{conn: conn, random: rand.New(rand.NewPCG(seed, 1))}
}

// limit bounds one request; the zero limit does not.
type limit struct{ d time.Duration }

func bounded(d time.Duration) limit { return limit{d: d} }

// call sends what c.req holds.
func (c *caller) call(l limit, method string, reply any) error {
	ctx := context.Background()
	if l.d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.d)
		defer cancel()
	}
	err := c.conn.Invoke(ctx, method, &c.req, reply)
	if err != nil {
		c.req.b = nil // the transport may still hold the request's memory
	}
	return err
}

func (c *caller) get(l limit, q *query) error {
	c.req.b = q.append(c.req.b[:0])
	return c.call(l, methodRange, &c.reply)
}

func (c *caller) put(l limit, key, value []byte) error {
	c.req.b = appendPut(c.req.b[:0], key, value)
	return c.call(l, methodPut, &c.reply)
}

// operation is the i-th request of a workload.
type operation func(c *caller, l limit, i int64) error

// workload says who sends what.
type workload struct {
	clients int           // concurrent clients, shared out over the connections
	rate    float64       // requests per second by schedule, however late the answers are; 0: each client sends on when it was answered
	d       time.Duration // for how long requests are due
	total   int64         // with rate 0: this many requests instead of d, when not 0
	limit   limit         // of one request
	crowded bool          // refusals and timeouts are counted instead of ending the run
	grace   time.Duration // how long after d a request of the schedule may still be sent
	stop    <-chan struct{}
	op      operation
}

// sample is one request.
type sample struct {
	at   time.Duration // when it was due, from the start of the run
	wait time.Duration // from then until it was sent
	took time.Duration // from when it was due to the answer
	fate fate
}

// fate is how a request ended.
type fate uint8

const (
	answered fate = iota
	refused       // the server itself said no, or could not say yes
	late          // not within its limit, or never sent
	failed        // anything else
)

// fateOf reads an error as fate. etcd says that it has too many requests with the code Unknown in some of its paths.
func fateOf(err error) fate {
	if err == nil {
		return answered
	}
	switch s := status.Convert(err); {
	case s.Code() == codes.DeadlineExceeded:
		return late
	case s.Code() == codes.ResourceExhausted, s.Code() == codes.Unavailable, strings.Contains(s.Message(), "too many requests"):
		return refused
	}
	return failed
}

// outcome is what a workload came to. Requests of the schedule that were never sent are among the samples, as answered at
// the end: leaving them out would flatter the slow.
type outcome struct {
	samples []sample
	unsent  int
	took    time.Duration
	cpu     time.Duration // of the server
}

// source hands out requests: the number, and when it was due since the start.
type source func() (i int64, due time.Duration, ok bool)

// drive runs w over open connections.
func (s *server) drive(cs conns, w *workload) (*outcome, error) {
	var failure atomic.Pointer[error]
	cpu0, err := s.cpu()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	next, left := w.closedLoop(start), func() []time.Duration { return nil }
	if w.rate > 0 {
		next, left = w.openLoop(start, &failure)
	}
	done := make([][]sample, w.clients)
	var wg sync.WaitGroup
	for i := range w.clients {
		wg.Go(func() {
			c := newCaller(cs[i%len(cs)], uint64(i))
			for failure.Load() == nil {
				n, due, ok := next()
				if !ok {
					return
				}
				sent := time.Since(start)
				err := w.op(c, w.limit, n)
				f := fateOf(err)
				if f == failed || f != answered && !w.crowded {
					failure.CompareAndSwap(nil, &err)
					return
				}
				done[i] = append(done[i], sample{at: due, wait: sent - due, took: time.Since(start) - due, fate: f})
			}
		})
	}
	wg.Wait()
	if e := failure.Load(); e != nil {
		return nil, *e
	}
	out := &outcome{took: time.Since(start)}
	cpu1, err := s.cpu()
	if err != nil {
		return nil, err
	}
	out.cpu = cpu1 - cpu0
	for _, d := range done {
		out.samples = append(out.samples, d...)
	}
	for _, due := range left() {
		out.unsent++
		out.samples = append(out.samples, sample{at: due, took: out.took - due, fate: late})
	}
	return out, nil
}

func (w *workload) stopped() bool {
	select {
	case <-w.stop:
		return true
	default:
		return false
	}
}

func (w *workload) closedLoop(start time.Time) source {
	var n atomic.Int64
	return func() (int64, time.Duration, bool) {
		i, now := n.Add(1)-1, time.Since(start)
		if w.total > 0 {
			return i, now, i < w.total
		}
		return i, now, now < w.d && !w.stopped()
	}
}

// openLoop starts the clock of a schedule. Requests that are due wait in a queue for a client that is free; the queue holds
// the whole schedule, so the clock never waits. left are the requests that were not taken in time, once all clients ended.
func (w *workload) openLoop(start time.Time, failure *atomic.Pointer[error]) (next source, left func() []time.Duration) {
	total := int64(w.rate * w.d.Seconds())
	queue := make(chan int64, total)
	due := func(i int64) time.Duration { return time.Duration(float64(i) / w.rate * float64(time.Second)) }
	var late atomic.Bool
	go func() {
		// A thread of its own, because the runtime's timers are late by up to a millisecond on an idle machine.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for i := int64(0); i < total && failure.Load() == nil && !w.stopped(); {
			now := time.Since(start)
			for ; i < total && due(i) <= now; i++ {
				queue <- i
			}
			pause := syscall.NsecToTimespec(int64(max(due(i)-now, 200*time.Microsecond)))
			syscall.Nanosleep(&pause, nil)
		}
		close(queue)
		time.AfterFunc(w.grace, func() { late.Store(true) })
	}()
	next = func() (int64, time.Duration, bool) {
		if late.Load() {
			return 0, 0, false
		}
		i, ok := <-queue
		return i, due(i), ok
	}
	left = func() []time.Duration {
		var out []time.Duration
		for i := range queue {
			out = append(out, due(i))
		}
		return out
	}
	return next, left
}

// result are the figures of an outcome. Refusals count as no operations; a request that was never sent counts as one that
// was answered at the end.
func (o *outcome) result() *result {
	r := newResult()
	done := o.count(answered)
	r.set("operations", float64(done)).set("seconds", o.took.Seconds())
	if n := o.count(refused); n > 0 {
		r.set("refused", float64(n)/float64(len(o.samples)))
	}
	if done == 0 {
		return r
	}
	l := latencies(o.samples, func(s sample) bool { return s.fate != refused })
	r.set("rate", float64(done)/o.took.Seconds())
	r.set("p50", quantile(l, 0.5)).set("p99", quantile(l, 0.99)).set("p99.9", quantile(l, 0.999))
	return r.set("CPU per op", float64(o.cpu.Nanoseconds())/1e3/float64(done))
}

// count is how many requests ended so.
func (o *outcome) count(f fate) int {
	n := 0
	for _, s := range o.samples {
		if s.fate == f {
			n++
		}
	}
	return n
}
