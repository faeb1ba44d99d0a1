package k8s

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/wire"
)

// Flood is how fast a single watcher gets events: of Leases, with the previous value each.
type Flood struct {
	Seconds float64 `json:"seconds"`
	Events  int64   `json:"events"`
	Rate    float64 `json:"events_per_second"`
	Behind  float64 `json:"behind_ms"` // from the last acknowledged write to its last event
}

// Of a flood: writes come in transactions, so that it is the watcher and not the writing that is measured.
const (
	floodBatch    = 100 // puts in a transaction
	floodKeys     = 10_000
	floodUnderWay = 32
)

// flooding is a flood under way.
type flooding struct {
	d      *driver
	keys   [][]byte
	until  time.Duration
	n      atomic.Int64 // transactions begun
	acked  atomic.Int64 // puts
	got    atomic.Int64 // events
	last   atomic.Int64 // arrival of the last event
	ended  atomic.Int64 // answer to the last transaction
	err    atomic.Pointer[error]
	writes sync.WaitGroup
	ready  chan struct{}
	once   sync.Once
}

// flood writes Leases under a prefix of its own for a while, with one watcher, which has to get every event.
func (d *driver) flood(ctx context.Context, measured time.Duration) (*Flood, error) {
	f := &flooding{d: d, ready: make(chan struct{})}
	prefix := []byte(d.o.Store.Prefix + "flood/")
	for i := range int64(floodKeys) {
		f.keys = append(f.keys, appendNode(append([]byte(nil), prefix...), i))
	}
	reader, writer := &link{d: d}, &link{d: d}
	for _, l := range []*link{reader, writer} {
		if err := l.dial(ctx); err != nil {
			return nil, err
		}
		defer l.conn.Load().Close()
	}
	stream, err := reader.up().Open(lean.Watch, f)
	if err != nil {
		return nil, err
	}
	create := wire.WatchCreateRequest{Key: prefix, RangeEnd: rangeEnd(prefix), PrevKV: true, ProgressNotify: true}
	_ = stream.Send(&wire.WatchRequest{Create: &create}, false) // a failure ends the stream
	_ = reader.up().Flush()
	select {
	case <-f.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	begin := d.now()
	f.until = begin + measured
	f.writes.Add(floodUnderWay)
	for range floodUnderWay {
		(&flooder{f: f, conn: writer.conn.Load()}).next()
	}
	_ = writer.conn.Load().Flush()
	f.writes.Wait()
	patience := d.now() + deliveryPatience
	for f.got.Load() < f.acked.Load() && f.err.Load() == nil && d.now() < patience {
		if !d.wait(ctx, pollInbox) {
			return nil, ctx.Err()
		}
	}
	if err := f.err.Load(); err != nil {
		return nil, fmt.Errorf("flooding a watcher: %w", *err)
	}
	if f.got.Load() != f.acked.Load() {
		return nil, fmt.Errorf("flooding a watcher: %d events of %d came", f.got.Load(), f.acked.Load())
	}
	took := time.Duration(f.last.Load()) - begin
	r := &Flood{Seconds: round(took.Seconds(), 3), Events: f.got.Load(), Rate: round(float64(f.got.Load())/took.Seconds(), 0),
		Behind: round(millis(max(time.Duration(f.last.Load()-f.ended.Load()), 0)), 2)}
	_, err = d.ask(ctx, lean.DeleteRange, &wire.DeleteRangeRequest{Key: prefix, RangeEnd: rangeEnd(prefix)})
	return r, err
}

func (f *flooding) fail(err error) {
	f.err.CompareAndSwap(nil, &err)
	f.once.Do(func() { close(f.ready) })
}

// Message implements lean.Handler.
func (f *flooding) Message(body []byte) {
	var r wire.WatchResponse
	if err := r.Unmarshal(body); err != nil || r.Canceled {
		f.fail(fmt.Errorf("the watch ended: %s, %v", r.CancelReason, err))
		return
	}
	if r.Created {
		f.once.Do(func() { close(f.ready) })
	}
	f.got.Add(int64(len(r.Events)))
	f.last.Store(int64(f.d.now()))
}

// End implements lean.Handler.
func (f *flooding) End(err error) {
	if err != nil {
		f.fail(err)
	}
}

// flooder keeps one transaction under way.
type flooder struct {
	f      *flooding
	conn   *lean.Conn
	txn    wire.TxnRequest
	puts   [floodBatch]wire.PutRequest
	values []byte
}

// next sends a transaction, unless it is over.
func (x *flooder) next() {
	f := x.f
	now := f.d.now()
	if now >= f.until || f.err.Load() != nil {
		f.writes.Done()
		return
	}
	first := (f.n.Add(1) - 1) * floodBatch
	x.values, x.txn.Success = x.values[:0], x.txn.Success[:0]
	for i := range x.puts {
		n := (first + int64(i)) % floodKeys
		from := len(x.values)
		x.values = f.d.objects.lease.appendTo(x.values, identity{node: n, at: now}, f.d.objects.noise)
		x.puts[i] = wire.PutRequest{Key: f.keys[n], Value: x.values[from:]}
		x.txn.Success = append(x.txn.Success, wire.RequestOp{Put: &x.puts[i]})
	}
	if err := x.conn.Call(lean.Txn, &x.txn, x); err != nil {
		f.fail(err)
		f.writes.Done()
	}
}

// Done implements lean.Completion.
func (x *flooder) Done(_ []byte, err error) {
	if err != nil {
		x.f.fail(err)
		x.f.writes.Done()
		return
	}
	x.f.acked.Add(floodBatch)
	x.f.ended.Store(int64(x.f.d.now()))
	x.next()
}
