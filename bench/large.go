package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
)

const (
	largeKey   = "bench/large/%08d"
	largeFirst = "bench/large/"
	largeEnd   = "bench/large0"
	largeValue = 1024 // bytes
	largeName  = 20   // bytes of a key
)

// load creates the large store: half compressible values, different for each key.
func (w *workbench) load() (*result, error) {
	r, err := figuresOf(w.once(w.sizes.conns, &workload{clients: w.sizes.clients, total: int64(w.sizes.keys), op: putLarge}))
	if err != nil {
		return nil, err
	}
	m, err := w.s.memory()
	return r.set("peak resident", float64(m.peak)), err
}

func putLarge(c *caller, l limit, i int64) error {
	if cap(c.value) < largeValue {
		c.value = make([]byte, largeValue)
	}
	return c.put(l, c.numbered(largeKey, i), halfRandom(c.value[:largeValue], uint64(i)+2))
}

func (w *workbench) settled() (*result, error) {
	if err := w.s.settle(time.Duration(w.sizes.calm) * time.Second); err != nil {
		return nil, err
	}
	r, err := w.holdings(newResult())
	if err != nil {
		return nil, err
	}
	live := float64(w.sizes.keys) * (largeName + largeValue)
	return r.set("resident / live data", r.Figures["resident"]/live), nil
}

// list pages through the large store as Kubernetes does: 500 at a time, at the first page's revision.
func (w *workbench) list() (*result, error) {
	cs, err := w.s.connect(1)
	if err != nil {
		return nil, err
	}
	defer cs.close()
	c := newCaller(cs[0], 0)
	o := &outcome{}
	cpu0, err := w.s.cpu()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	q := query{key: []byte(largeFirst), end: []byte(largeEnd), limit: 500}
	for seen, more := 0, true; more; {
		at := time.Since(start)
		if err := c.get(limit{}, &q); err != nil {
			return nil, err
		}
		p, err := decodePage(c.reply.b)
		if err != nil {
			return nil, err
		}
		o.samples = append(o.samples, sample{at: at, took: time.Since(start) - at})
		seen, more = seen+p.kvs, p.more
		if more && p.kvs == 0 || !more && seen != w.sizes.keys {
			return nil, fmt.Errorf("the pages held %d keys, want %d", seen, w.sizes.keys)
		}
		q.rev, q.key = p.rev, append(append(q.key[:0], p.last...), 0)
	}
	o.took = time.Since(start)
	cpu1, err := w.s.cpu()
	if err != nil {
		return nil, err
	}
	o.cpu = cpu1 - cpu0
	m, err := w.s.memory()
	r := o.result()
	r.set("resident", float64(m.resident)).set("anonymous", float64(m.anonymous))
	return r, err
}

// above runs read, which returns how many keys it saw, and adds its time, CPU, and peak memory above resting.
func (w *workbench) above(read func(c *caller, r *result) (int, error)) (*result, error) {
	cs, err := w.s.connect(1)
	if err != nil {
		return nil, err
	}
	defer cs.close()
	c := newCaller(cs[0], 0)
	rest, err := w.s.memory()
	if err != nil {
		return nil, err
	}
	if err := w.s.resetPeak(); err != nil {
		return nil, err
	}
	cpu0, err := w.s.cpu()
	if err != nil {
		return nil, err
	}
	r := newResult()
	start := time.Now()
	seen, err := read(c, r)
	if err != nil {
		return nil, err
	}
	r.set("seconds", time.Since(start).Seconds())
	cpu1, err := w.s.cpu()
	if err != nil {
		return nil, err
	}
	m, err := w.s.memory()
	if err != nil {
		return nil, err
	}
	if seen != w.sizes.keys {
		return nil, fmt.Errorf("the answer held %d keys, want %d", seen, w.sizes.keys)
	}
	r.set("CPU", (cpu1 - cpu0).Seconds())
	return r.set("resident", float64(rest.resident)).set("peak resident", float64(m.peak)).set("above resting", float64(m.peak-rest.resident)), nil
}

func allLarge() []byte {
	q := query{key: []byte(largeFirst), end: []byte(largeEnd)}
	return q.append(nil)
}

// rangeAll asks for the large store in one answer. The client counts the keys without keeping the answer in one piece.
func (w *workbench) rangeAll() (*result, error) {
	return w.above(func(c *caller, r *result) (int, error) {
		c.req.b = allLarge()
		n := counter{field: 2}
		err := c.call(bounded(5*time.Minute), methodRange, &n)
		return n.n, err
	})
}

func (w *workbench) rangeStream() (*result, error) {
	return w.above(func(c *caller, r *result) (int, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		start := time.Now()
		stream, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, methodRangeStream)
		if err != nil {
			return 0, err
		}
		if err := errors.Join(stream.SendMsg(&message{b: allLarge()}), stream.CloseSend()); err != nil {
			return 0, err
		}
		n := counter{field: 2, in: 1}
		for first := true; ; first = false {
			if err := stream.RecvMsg(&n); errors.Is(err, io.EOF) {
				return n.n, nil
			} else if err != nil {
				return n.n, err
			}
			if first {
				r.set("first byte", milliseconds(time.Since(start)))
			}
		}
	})
}

// restartTerm stops the server cleanly and measures from starting it again to its first answer.
func (w *workbench) restartTerm() (*result, error) {
	if err := w.s.stop(); err != nil {
		return nil, err
	}
	return w.again()
}

// restartKill does the same to a server that was killed while its log held writes that its engine did not.
func (w *workbench) restartKill() (*result, error) {
	const more = 20_000
	if _, err := w.once(w.sizes.conns, &workload{clients: w.sizes.clients, total: more, op: putOf(value256())}); err != nil {
		return nil, err
	}
	if err := w.s.kill(); err != nil {
		return nil, err
	}
	return w.again()
}

func (w *workbench) again() (*result, error) {
	start := time.Now()
	if err := w.s.exec(); err != nil {
		return nil, err
	}
	r := newResult().set("seconds", time.Since(start).Seconds())
	m, err := w.s.memory()
	return r.set("resident", float64(m.resident)).set("anonymous", float64(m.anonymous)).set("peak resident", float64(m.peak)), err
}
