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

// notice is one message of a watch stream: how many events it held. The events of a few streams are looked into for when
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

// watcher is one stream with some watchers, who all get every event.
type watcher struct {
	watchers int
	stream   grpc.ClientStream
	notice   notice
	seen     atomic.Int64
	want     int64 // events until the present batch is complete
	lags     []time.Duration
	err      atomic.Pointer[error]
}

// watch opens a stream with n watchers of [key, end) and waits until the server has them.
func watch(ctx context.Context, conn *grpc.ClientConn, key, end string, n int) (*watcher, error) {
	x := &watcher{watchers: n}
	var err error
	if x.stream, err = conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, methodWatch); err != nil {
		return nil, err
	}
	for range n {
		if err := x.stream.SendMsg(&message{b: appendWatch(nil, []byte(key), []byte(end))}); err != nil {
			return nil, err
		}
		if err := x.stream.RecvMsg(&x.notice); err != nil {
			return nil, err
		}
		if !x.notice.created {
			return nil, errors.New("the answer to creating a watcher does not say created")
		}
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

// fan is how watchers and writers are spread.
type fan struct {
	perConn, perStream int // watchers
	putters            int
}

// fanOut is the fan-out to clients as etcd's own client makes them: the watchers of a connection share one stream, and the
// puts come all at once, so that the watchers fall behind and events travel in batches.
func (w *workbench) fanOut() (*result, error) {
	return w.fanOutAs(fan{perConn: 5, perStream: 5, putters: min(w.sizes.clients, w.sizes.puts/2)})
}

// fanOutLive is the fan-out to watchers with a stream each, who follow the puts of a few writers.
func (w *workbench) fanOutLive() (*result, error) {
	return w.fanOutAs(fan{perConn: 5, perStream: 1, putters: 32})
}

// fanOutAs puts keys under a prefix that many watch, and waits until each watcher has had each event; several times, medians.
func (w *workbench) fanOutAs(f fan) (*result, error) {
	const writers = 50
	connections := max(1, w.sizes.watchers/f.perConn)
	cs, err := w.s.connect(connections + writers)
	if err != nil {
		return nil, err
	}
	defer cs.close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	progress := make(chan struct{}, 1)
	base := time.Now()
	streams := make([]*watcher, w.sizes.watchers/f.perStream)
	for i := range streams {
		x, err := watch(ctx, cs[i%connections], watchFirst, watchEnd, f.perStream)
		if err != nil {
			return nil, err
		}
		if i%50 == 0 {
			x.notice.sent = func(value []byte) {
				x.lags = append(x.lags, time.Since(base)-time.Duration(binary.BigEndian.Uint64(value)))
			}
		}
		streams[i] = x
		go x.follow(progress)
	}
	var rates, cpus []float64
	for range w.sizes.repeats {
		rate, cpu, err := w.fanOutOnce(cs[connections:], streams, f.putters, base, progress)
		if err != nil {
			return nil, err
		}
		rates, cpus = append(rates, rate), append(cpus, cpu)
	}
	var lags []time.Duration
	for _, x := range streams {
		lags = append(lags, x.lags...) // the streams wait for messages now and none is left
	}
	slices.Sort(lags)
	r := newResult().set("operations", float64(w.sizes.repeats*w.sizes.puts*w.sizes.watchers))
	r.set("events/s", median(rates...)).set("CPU per event", median(cpus...))
	return r.set("p50", quantile(lags, 0.5)).set("p99", quantile(lags, 0.99)), nil
}

// fanOutOnce does one batch of puts: events delivered a second, and server CPU in microseconds an event.
func (w *workbench) fanOutOnce(cs conns, streams []*watcher, putters int, base time.Time, progress <-chan struct{}) (rate, cpu float64, err error) {
	for _, x := range streams {
		x.want += int64(w.sizes.puts * x.watchers)
	}
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
	for _, x := range streams {
		for x.seen.Load() < x.want {
			if e := x.err.Load(); e != nil {
				return 0, 0, *e
			}
			select {
			case <-progress:
			case <-time.After(time.Millisecond):
			case <-patience.C:
				return 0, 0, fmt.Errorf("a stream has %d of %d events a minute after the last put", x.seen.Load(), x.want)
			}
		}
	}
	took := time.Since(start)
	cpu1, err := w.s.cpu()
	events := float64(w.sizes.puts * w.sizes.watchers)
	return events / took.Seconds(), float64((cpu1 - cpu0).Nanoseconds()) / 1e3 / events, err
}
