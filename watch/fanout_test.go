package watch

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/wire"
)

// deafSink takes room messages and never has room again.
type deafSink struct {
	room  atomic.Int64
	asked atomic.Int64 // calls of TrySend
}

func (s *deafSink) TrySend(_, _ []byte) bool { s.asked.Add(1); return s.room.Add(-1) >= 0 }
func (s *deafSink) Flush()                   {}
func (s *deafSink) NotifyWritable(func())    {}
func (s *deafSink) Fail(err error)           { panic(err) }

// TestStoppedWatchersCostNothing has a thousand watchers on a hundred streams that stopped reading. Once a watcher was
// refused nothing is tried for it again, neither by the hub nor by the catch-up workers.
func TestStoppedWatchersCostNothing(t *testing.T) {
	const streams, each, room = 100, 10, 50
	f := newFixture(t, 1<<20)
	sinks := make([]deafSink, streams)
	for i := range sinks {
		sinks[i].room.Store(room)
		s := f.hub.Open(&sinks[i])
		for range each {
			s.Create(create("k", "l", 0), "")
		}
	}
	asked := func() (n int64) {
		for i := range sinks {
			n += sinks[i].asked.Load()
		}
		return n
	}
	eventually(t, "all watchers stop", func() bool {
		f.write(put("k", "v"))
		return f.hub.Stats().Slow == streams*each
	})
	// Every stream took its room, and refused each of its watchers once.
	if got := asked(); got != streams*(room+each) {
		t.Errorf("%d messages were offered, want %d", got, streams*(room+each))
	}
	before, turns := asked(), f.hub.Stats().Turns
	fine := &fakeSink{}
	f.hub.Open(fine).Create(create("k", "", 0), "")
	fine.await(t, 1)
	const n = 2000
	for i := range n {
		f.write(put("k", fmt.Sprint(i)))
	}
	for got := 0; got < n; {
		got += len(fine.await(t, 1)[0].Events)
	}
	if got := asked() - before; got != 0 {
		t.Errorf("%d messages were offered to streams that stopped", got)
	}
	if got := f.hub.Stats().Turns - turns; got != 0 {
		t.Errorf("catch-up workers took %d turns", got)
	}
}

// countingSink counts messages, and keeps the last body.
type countingSink struct {
	mu   *sync.Mutex
	sent *int
	body []byte
}

func (s *countingSink) TrySend(_, body []byte) bool {
	s.mu.Lock()
	*s.sent++
	s.mu.Unlock()
	s.body = body
	return true
}
func (s *countingSink) Flush()                {}
func (s *countingSink) NotifyWritable(func()) {}
func (s *countingSink) Fail(err error)        { panic(err) }

// fanout is a hub without a store behind it, watchers on one interval, and rounds of events for them.
type fanout struct {
	hub   *Hub
	sinks []*countingSink
	sent  int
	rev   ids.Revision
}

func newFanout(tb testing.TB, watchers int) *fanout {
	view := new(mvcc.View)
	f := &fanout{hub: New(Config{View: func() *mvcc.View { return view }, FragmentBytes: 1 << 20,
		Header: func() wire.Header { return wire.Header{ClusterID: 1 << 60, MemberID: 1 << 61, RaftTerm: 3} }})}
	tb.Cleanup(f.hub.Close)
	mu := new(sync.Mutex)
	for range watchers {
		s := &countingSink{mu: mu, sent: &f.sent}
		f.sinks = append(f.sinks, s)
		f.hub.Open(s).Create(create("k", "l", 0), "")
	}
	f.sent = 0
	return f
}

// batches makes the events of n revisions, with values of 256 bytes.
func (f *fanout) batches(n int) []*mvcc.EventBatch {
	list := make([]*mvcc.EventBatch, n)
	for i := range list {
		f.rev++
		kv := wire.KeyValue{Key: []byte("key"), Value: make([]byte, 256), ModRevision: int64(f.rev), Version: int64(f.rev)}
		list[i] = &mvcc.EventBatch{Revision: f.rev, Bytes: 300, Events: []mvcc.Event{{Key: kv.Key, KV: kv.Append(nil)}}}
	}
	return list
}

func (f *fanout) deliver(list []*mvcc.EventBatch) {
	f.hub.mu.Lock()
	f.hub.deliver(list)
	f.hub.mu.Unlock()
}

// TestFanoutBudget holds a round of 30 events for 500 watchers to one encoding: the allocations do not depend on the
// number of watchers, and all of them share the body.
func TestFanoutBudget(t *testing.T) {
	const watchers, events, budget = 500, 30, 3
	f := newFanout(t, watchers)
	list := f.batches(events)
	f.deliver(list)
	if f.sent != watchers {
		t.Fatalf("%d messages for %d watchers", f.sent, watchers)
	}
	for _, s := range f.sinks {
		if len(s.body) < events*256 || &s.body[0] != &f.sinks[0].body[0] {
			t.Fatal("a watcher got a body of its own")
		}
	}
	if got := testing.AllocsPerRun(100, func() { f.deliver(list) }); got > budget {
		t.Errorf("%v allocations a round, budget %d", got, budget)
	}
}

// BenchmarkFanout is the hub's share of an event for a watcher: match, encode, offer.
func BenchmarkFanout(b *testing.B) {
	for _, watchers := range []int{1, 500} {
		b.Run(fmt.Sprint(watchers), func(b *testing.B) {
			const events = 30
			f := newFanout(b, watchers)
			list := f.batches(events)
			b.ReportAllocs()
			for b.Loop() {
				f.deliver(list)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*events*watchers), "ns/event")
		})
	}
}

// TestMatchBudget: finding the intervals of a key allocates nothing, however many there are.
func TestMatchBudget(t *testing.T) {
	x := newIndex()
	for i := range 10_000 {
		x.add(&watcher{span: span{key: fmt.Sprintf("k%05d", i), single: true}})
		x.add(&watcher{span: span{key: fmt.Sprintf("k%05d", i), end: fmt.Sprintf("k%05d", i+3)}})
	}
	key := []byte("k05000")
	found := 0
	visit := func(g *group) { found += len(g.watchers) }
	if got := testing.AllocsPerRun(1000, func() { x.visit(key, visit) }); got > 0 {
		t.Errorf("%v allocations to find the watchers of a key", got)
	}
	if found != 1001*4 {
		t.Errorf("%d watchers found in 1,001 looks, want 4 each", found)
	}
}
