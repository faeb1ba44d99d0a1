package fan_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"quorate.dev/quorate/proxy/fan"
)

// modelKeys are written; ranges of them are watched.
var modelKeys = []string{"a/1", "a/2", "a/3", "b/1", "b/2", "c"}

// modelRanges are what watchers ask for.
var modelRanges = [][2]string{{"a/", "a0"}, {"a/1", ""}, {"b/", "b0"}, {"a/", "c0"}, {"\x00", "\x00"}}

// history is what happened, as the store says: a watch of everything beside the proxy.
type history struct {
	mu      sync.Mutex
	changed *sync.Cond
	events  []happened
	upTo    int64
}

// happened is an event, and how it is shown without and with its previous value.
type happened struct {
	*mvccpb.Event
	plain, prev string
}

// record follows the store directly until the test ends.
func record(t *testing.T, store string) *history {
	h := &history{}
	h.changed = sync.NewCond(&h.mu)
	s := watchStream(t, context.Background(), connect(t, store))
	s.create(&pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, PrevKv: true})
	h.upTo = s.next().Header.Revision
	go func() {
		for {
			r, err := s.Recv()
			if err != nil {
				return
			}
			h.mu.Lock()
			for _, e := range r.Events {
				h.events = append(h.events, happened{e, show(e, false), show(e, true)})
			}
			h.upTo = max(h.upTo, r.Header.Revision)
			h.changed.Broadcast()
			h.mu.Unlock()
		}
	}()
	return h
}

// between waits until the history reaches to and returns the events from..to that a watcher with r gets.
func (h *history) between(r *pb.WatchCreateRequest, from, to int64) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.upTo < to {
		h.changed.Wait()
	}
	var out []string
	for _, e := range h.events {
		switch {
		case e.Kv.ModRevision < from || e.Kv.ModRevision > to || !covers(r, string(e.Kv.Key)) || filtered(r, e.Event):
		case r.PrevKv:
			out = append(out, e.prev)
		default:
			out = append(out, e.plain)
		}
	}
	return out
}

func covers(r *pb.WatchCreateRequest, key string) bool {
	switch end := string(r.RangeEnd); end {
	case "":
		return key == string(r.Key)
	case "\x00":
		return key >= string(r.Key)
	default:
		return key >= string(r.Key) && key < end
	}
}

func filtered(r *pb.WatchCreateRequest, e *mvccpb.Event) bool {
	put := e.Type == mvccpb.PUT
	return put && slices.Contains(r.Filters, pb.WatchCreateRequest_NOPUT) || !put && slices.Contains(r.Filters, pb.WatchCreateRequest_NODELETE)
}

func show(e *mvccpb.Event, prev bool) string {
	s := fmt.Sprintf("%d %v %s v%d %.8q/%d", e.Kv.ModRevision, e.Type, e.Kv.Key, e.Kv.Version, e.Kv.Value, len(e.Kv.Value))
	if prev && e.PrevKv != nil {
		s += fmt.Sprintf(" was %d %.8q/%d", e.PrevKv.ModRevision, e.PrevKv.Value, len(e.PrevKv.Value))
	}
	return s
}

// modelWatcher is what the test knows of a watcher.
type modelWatcher struct {
	req     *pb.WatchCreateRequest
	id      int64
	low     int64 // start 0: the highest revision acknowledged before it asked
	created int64 // the revision of its reply
	got     []string
	last    int64 // the newest revision it has
	partial bool  // a fragment, and more to come
}

// from is the first revision it must see.
func (w *modelWatcher) from() int64 {
	if w.req.StartRevision > 0 {
		return w.req.StartRevision
	}
	return w.created + 1
}

// modelClient is a client with one stream: it makes and cancels watchers and checks what comes.
type modelClient struct {
	m        *model
	r        *rand.Rand
	s        *stream
	pending  []*modelWatcher // creates without replies
	watchers map[int64]*modelWatcher
	leaving  map[int64]bool
	slow     bool // reads when everything is over
}

// model is one run.
type model struct {
	t     *testing.T
	store *clientv3.Client
	past  *history
	gate  *gate
	front *front
	mu    sync.Mutex
	acked int64 // the highest revision that a writer has
	// compacted is the highest revision that anybody may have compacted at.
	compacted int64
	final     int64 // the last revision, once the writers are done; clients stop when they have it
	over      chan struct{}
}

// TestModel: whatever watchers ask for, whoever reads slowly, and while connections to the store break, each gets exactly the
// events that happened in its range since its start, in order; progress never runs ahead.
func TestModel(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3, 4} {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runModel(t, seed) })
	}
}

func runModel(t *testing.T, seed uint64) {
	addr := startStore(t, map[string]string{"watch-progress-notify-interval": "100ms"})
	m := &model{t: t, store: client(t, addr), past: record(t, addr), gate: newGate(t, addr), over: make(chan struct{})}
	// A log of a few chunks, so that watchers fall out of it.
	m.front = startFront(t, fan.Config{LogBytes: 8 << 10, FragmentBytes: 2 << 10}, m.gate.addr())
	conns := []*grpc.ClientConn{connect(t, m.front.addr), connect(t, m.front.addr)}

	var clients, writers sync.WaitGroup
	for i := range 8 {
		c := &modelClient{m: m, r: rand.New(rand.NewPCG(seed, uint64(i))), slow: i == 7}
		clients.Go(func() { c.run(conns[i%2]) })
	}
	for i := range 3 {
		r := rand.New(rand.NewPCG(seed, uint64(100+i)))
		writers.Go(func() { m.write(r, 250) })
	}
	broken := make(chan struct{})
	go func() {
		defer close(broken)
		r := rand.New(rand.NewPCG(seed, 200))
		for range 4 {
			m.waitFor(m.revision() + 80 + r.Int64N(60))
			m.gate.cut(r.IntN(2) == 0)
			m.gate.cut(false)
		}
	}()
	writers.Wait()
	m.final = m.revision()
	close(m.over)
	<-broken
	put(t, m.store, "z", "the end") // so that who waits for a progress answer sees one beyond the last event
	clients.Wait()
	s := m.front.hub.Stats()
	t.Logf("%+v", s)
}

func (m *model) revision() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.acked
}

// waitFor returns when a revision is reached or the writers are done.
func (m *model) waitFor(rev int64) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for m.revision() < rev {
		select {
		case <-tick.C:
		case <-m.over:
			return
		}
	}
}

// write makes n random changes.
func (m *model) write(r *rand.Rand, n int) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for range n {
		key := modelKeys[r.IntN(len(modelKeys))]
		value := fmt.Sprint(r.Uint32())
		value = strings.Repeat(value, 1+r.IntN(300))
		ops := []clientv3.Op{clientv3.OpPut(key, value)}
		switch r.IntN(4) {
		case 0:
			ops[0] = clientv3.OpDelete(key)
		case 1:
			ops = nil
			for _, k := range modelKeys {
				if r.IntN(2) == 0 {
					ops = append(ops, clientv3.OpPut(k, value))
				}
			}
		}
		res, err := m.store.Txn(ctx).Then(ops...).Commit()
		if err != nil {
			m.t.Errorf("write: %v", err)
			return
		}
		m.mu.Lock()
		m.acked = max(m.acked, res.Header.Revision)
		compact := r.IntN(60) == 0 && m.acked-200 > m.compacted
		if compact {
			m.compacted = m.acked - 200
		}
		at := m.compacted
		m.mu.Unlock()
		if compact {
			// Another writer's may have come first.
			if _, err := m.store.Compact(ctx, at); err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
				m.t.Errorf("compact %d: %v", at, err)
			}
		}
	}
}

// run is a client's life.
func (c *modelClient) run(conn *grpc.ClientConn) {
	c.s = watchStream(c.m.t, context.Background(), conn)
	c.watchers, c.leaving = map[int64]*modelWatcher{}, map[int64]bool{}
	responses := make(chan *pb.WatchResponse)
	go func() {
		defer close(responses)
		for {
			r, err := c.s.Recv()
			if err != nil {
				return
			}
			responses <- r
		}
	}()
	defer func() {
		c.s.cancel()
		for range responses {
		}
	}()
	for writing := true; writing; {
		select {
		case <-c.m.over:
			writing = false
		default:
		}
		c.act()
		c.m.waitFor(c.m.revision() + c.r.Int64N(20))
		for reading := !c.slow; reading; {
			select {
			case r, ok := <-responses:
				if !ok || !c.take(r) {
					return
				}
			default:
				reading = false
			}
		}
	}
	c.conclude(responses)
}

// conclude reads on until everything that happened is known to have come.
func (c *modelClient) conclude(responses <-chan *pb.WatchResponse) {
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	deadline := time.After(patience)
	for {
		for id, w := range c.watchers { // those who start in the future keep a stream without progress
			if w.req.StartRevision > c.m.final && !c.leaving[id] && len(c.pending) == 0 {
				c.leaving[id] = true
				c.s.cancelWatch(id)
			}
		}
		if len(c.pending) == 0 && len(c.watchers) == 0 {
			return
		}
		select {
		case r, ok := <-responses:
			if !ok {
				c.m.t.Error("the stream ended")
				return
			}
			if !c.take(r) {
				return
			}
			if r.WatchId == -1 && !r.Created && len(c.pending) == 0 && len(c.leaving) == 0 && r.Header.Revision >= c.m.final {
				return
			}
		case <-again.C:
			c.s.progress()
		case <-deadline:
			c.m.t.Errorf("no progress to %d within %v: %d creates and %d cancels without reply, watchers %v", c.m.final, patience,
				len(c.pending), len(c.leaving), c.watchers)
			return
		}
	}
}

// act makes a random request.
func (c *modelClient) act() {
	switch n := c.r.IntN(10); {
	case n < 4 && len(c.watchers)+len(c.pending) < 5:
		c.create()
	case n < 6:
		for id := range c.watchers {
			// Not an id that is also asked for: a compaction may have freed it already, and the cancel would be the new watcher's.
			if !c.leaving[id] && !slices.ContainsFunc(c.pending, func(w *modelWatcher) bool { return w.req.WatchId == id }) {
				c.leaving[id] = true
				c.s.cancelWatch(id)
				break
			}
		}
	case n < 8:
		c.s.progress()
	}
}

func (c *modelClient) create() {
	keys := modelRanges[max(0, c.r.IntN(2*len(modelRanges))-len(modelRanges))] // the first one half of the time
	w := &modelWatcher{low: c.m.revision(), req: &pb.WatchCreateRequest{Key: []byte(keys[0]), RangeEnd: []byte(keys[1]),
		PrevKv: c.r.IntN(5) == 0, Fragment: c.r.IntN(3) == 0, ProgressNotify: c.r.IntN(2) == 0}}
	switch c.r.IntN(10) {
	case 0:
		w.req.Filters = []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT}
	case 1:
		w.req.Filters = []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NODELETE}
	}
	switch c.r.IntN(4) {
	case 0:
		w.req.StartRevision = 1 + c.r.Int64N(w.low+1)
	case 1:
		w.req.StartRevision = w.low + 1 + c.r.Int64N(10)
	}
	if c.r.IntN(3) == 0 {
		w.req.WatchId = 100 + c.r.Int64N(3) // sometimes taken
	}
	c.pending = append(c.pending, w)
	c.s.create(w.req)
}

// take checks a response; false after the first fault.
func (c *modelClient) take(r *pb.WatchResponse) bool {
	if err := c.check(r); err != nil {
		c.m.t.Error(err)
		return false
	}
	return true
}

func (c *modelClient) check(r *pb.WatchResponse) error {
	if r.Created {
		return c.created(r)
	}
	if r.WatchId == -1 {
		for _, w := range c.watchers {
			if err := w.complete(c.m, r.Header.Revision); err != nil {
				return fmt.Errorf("progress of the stream: %w", err)
			}
		}
		return nil
	}
	w := c.watchers[r.WatchId]
	if w == nil {
		return fmt.Errorf("a response for watcher %d, which there is not: %v", r.WatchId, r)
	}
	switch {
	case r.Canceled:
		delete(c.watchers, r.WatchId)
		if !c.leaving[r.WatchId] && (r.CompactRevision == 0 || r.CompactRevision <= max(w.last+1, w.from())) {
			return fmt.Errorf("watcher %d, which has %d, was cancelled: %v", r.WatchId, w.last, r)
		}
		delete(c.leaving, r.WatchId)
		return w.complete(c.m, w.last)
	case len(r.Events) == 0:
		if !w.req.ProgressNotify {
			return fmt.Errorf("a notification that watcher %d did not ask for: %v", r.WatchId, r)
		}
		return w.complete(c.m, r.Header.Revision)
	}
	return w.take(r)
}

func (c *modelClient) created(r *pb.WatchResponse) error {
	if len(c.pending) == 0 {
		return fmt.Errorf("a reply without a request: %v", r)
	}
	w := c.pending[0]
	c.pending = c.pending[1:]
	if r.Canceled {
		if r.WatchId != -1 || c.watchers[w.req.WatchId] == nil {
			return fmt.Errorf("refused: %v for %v", r, w.req)
		}
		return nil
	}
	if c.watchers[r.WatchId] != nil || w.req.WatchId != 0 && w.req.WatchId != r.WatchId {
		return fmt.Errorf("created under another id: %v for %v", r, w.req)
	}
	if r.Header.Revision < w.low {
		return fmt.Errorf("created at %d, after %d was acknowledged", r.Header.Revision, w.low)
	}
	w.created = r.Header.Revision
	c.watchers[r.WatchId] = w
	return nil
}

// take takes a response with events.
func (w *modelWatcher) take(r *pb.WatchResponse) error {
	first, last := r.Events[0].Kv.ModRevision, r.Events[len(r.Events)-1].Kv.ModRevision
	switch {
	case r.Fragment && !w.req.Fragment:
		return fmt.Errorf("a fragment that was not asked for: %v", r)
	case first < w.last || first == w.last && !w.partial:
		return fmt.Errorf("events from %d on, after %d", first, w.last)
	case r.Header.Revision < last:
		return fmt.Errorf("events up to %d under a header of %d", last, r.Header.Revision)
	}
	w.partial, w.last = r.Fragment, last
	for _, e := range r.Events {
		w.got = append(w.got, show(e, true))
	}
	return nil
}

// complete says what is wrong when everything up to a revision must have come.
func (w *modelWatcher) complete(m *model, upTo int64) error {
	want := m.past.between(w.req, w.from(), max(upTo, w.last))
	got := w.got
	if w.last > upTo {
		upTo = w.last
	}
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return fmt.Errorf("%v created at %d: up to %d, %s is missing", w.req, w.created, upTo, want[i])
		case i >= len(want):
			return fmt.Errorf("%v created at %d: %s is not to come", w.req, w.created, got[i])
		case got[i] != want[i] && !m.without(got[i], want[i]):
			return fmt.Errorf("%v created at %d: got %s instead of %s", w.req, w.created, got[i], want[i])
		}
	}
	return nil
}

// without reports whether got is want but for the previous value, and that may have been compacted.
func (m *model) without(got, want string) bool {
	var rev int64
	if _, err := fmt.Sscan(got, &rev); err != nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.HasPrefix(want, got+" was ") && rev <= m.compacted+1
}
