package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	watchKey   = "bench/watch/%08d"
	watchFirst = "bench/watch/"
	watchEnd   = "bench/watch0"
)

// notice is one message of a watch stream: how many events it held. The events of a few watchers are looked into for when
// their puts were sent; for the others counting is all.
type notice struct {
	events   int
	created  bool
	canceled bool
	whole    []byte // the answer in one piece, when it came in several
	sent     func(value []byte)
}

func (n *notice) decode(data mem.BufferSlice) error {
	n.events, n.created, n.canceled = 0, false, false
	b := []byte(nil)
	if len(data) == 1 {
		b = data[0].ReadOnlyData()
	} else {
		size := data.Len()
		n.whole = slices.Grow(n.whole[:0], size)[:size]
		data.CopyTo(n.whole)
		b = n.whole
	}
	return fields(b, func(field protowire.Number, v uint64, body []byte) error {
		switch field {
		case 3:
			n.created = v != 0
		case 4:
			n.canceled = v != 0
		case 11:
			n.events++
			if n.sent == nil {
				return nil
			}
			_, kv, err := inner(body, 2)
			if err != nil {
				return err
			}
			_, value, err := inner(kv, 5)
			if err == nil && len(value) >= 8 {
				n.sent(value)
			}
			return err
		}
		return nil
	})
}

// watcher is one stream with one watcher.
type watcher struct {
	stream grpc.ClientStream
	notice notice
	seen   atomic.Int64
	lags   []time.Duration
	err    atomic.Pointer[error]
}

// watch opens a stream with one watcher of [key, end) and waits until the server has it.
func watch(ctx context.Context, conn *grpc.ClientConn, key, end string) (*watcher, error) {
	x := &watcher{}
	var err error
	if x.stream, err = conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, methodWatch); err != nil {
		return nil, err
	}
	if err := x.stream.SendMsg(&message{b: appendWatch(nil, []byte(key), []byte(end))}); err != nil {
		return nil, err
	}
	if err := x.stream.RecvMsg(&x.notice); err != nil {
		return nil, err
	}
	if !x.notice.created {
		return nil, errors.New("the first message of a watch stream does not say created")
	}
	return x, nil
}

// follow receives until the stream ends; progress is told after every message.
func (x *watcher) follow(progress chan<- struct{}) {
	for {
		err := x.stream.RecvMsg(&x.notice)
		if err == nil && x.notice.canceled {
			err = errors.New("the server canceled a watcher")
		}
		if err != nil {
			x.err.Store(&err)
			return
		}
		x.seen.Add(int64(x.notice.events))
		select {
		case progress <- struct{}{}:
		default:
		}
	}
}

// fanOut puts keys under a prefix that many watch, and waits until each watcher has had each event; several times, medians.
func (w *workbench) fanOut() (*result, error) {
	connections := max(1, w.sizes.watchers/5)
	cs, err := w.s.connect(connections + 8)
	if err != nil {
		return nil, err
	}
	defer cs.close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	progress := make(chan struct{}, 1)
	base := time.Now()
	watchers := make([]*watcher, w.sizes.watchers)
	for i := range watchers {
		x, err := watch(ctx, cs[i%connections], watchFirst, watchEnd)
		if err != nil {
			return nil, err
		}
		if i%50 == 0 {
			x.notice.sent = func(value []byte) {
				x.lags = append(x.lags, time.Since(base)-time.Duration(binary.BigEndian.Uint64(value)))
			}
		}
		watchers[i] = x
		go x.follow(progress)
	}
	var rates, cpus []float64
	for n := range w.sizes.repeats {
		rate, cpu, err := w.fanOutOnce(cs[connections:], watchers, int64(n+1)*int64(w.sizes.puts), base, progress)
		if err != nil {
			return nil, err
		}
		rates, cpus = append(rates, rate), append(cpus, cpu)
	}
	var lags []time.Duration
	for _, x := range watchers {
		lags = append(lags, x.lags...) // the watchers wait for messages now and none is left
	}
	slices.Sort(lags)
	r := newResult().set("operations", float64(w.sizes.repeats*w.sizes.puts*w.sizes.watchers))
	r.set("events/s", median(rates...)).set("CPU per event", median(cpus...))
	return r.set("p50", quantile(lags, 0.5)).set("p99", quantile(lags, 0.99)), nil
}

// fanOutOnce does one batch of puts: events delivered a second, and server CPU in microseconds an event.
func (w *workbench) fanOutOnce(cs conns, watchers []*watcher, until int64, base time.Time, progress <-chan struct{}) (rate, cpu float64, err error) {
	const putters = 32
	cpu0, err := w.s.cpu()
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	op := func(c *caller, l limit, i int64) error {
		if c.value == nil {
			c.value = value256()
		}
		binary.BigEndian.PutUint64(c.value, uint64(time.Since(base)))
		return c.put(l, c.numbered(watchKey, i), c.value)
	}
	if _, err := w.s.drive(cs, &workload{clients: putters, total: int64(w.sizes.puts), op: op}); err != nil {
		return 0, 0, err
	}
	patience := time.NewTimer(time.Minute)
	defer patience.Stop()
	for _, x := range watchers {
		for x.seen.Load() < until {
			if e := x.err.Load(); e != nil {
				return 0, 0, *e
			}
			select {
			case <-progress:
			case <-time.After(time.Millisecond):
			case <-patience.C:
				return 0, 0, fmt.Errorf("a watcher has %d of %d events a minute after the last put", x.seen.Load(), until)
			}
		}
	}
	took := time.Since(start)
	cpu1, err := w.s.cpu()
	events := float64(w.sizes.puts * len(watchers))
	return events / took.Seconds(), float64((cpu1 - cpu0).Nanoseconds()) / 1e3 / events, err
}
