package metamorphic

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/internal/check"
	"quorate.dev/quorate/watch"
	"quorate.dev/quorate/wire"
)

// patience is how long anything may take that should take no time at all.
const patience = 2 * time.Minute

// outbox is a stream's sink: it holds a few messages until the watcher takes them.
type outbox struct {
	capacity int // 0: no bound
	arrived  chan struct{}

	mu       sync.Mutex
	queue    [][]byte
	refused  bool
	writable func()
}

// TrySend implements watch.Sink.
func (o *outbox) TrySend(head, body []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.capacity > 0 && len(o.queue) >= o.capacity {
		o.refused = true
		return false
	}
	o.queue = append(o.queue, slices.Concat(head, body))
	select {
	case o.arrived <- struct{}{}:
	default:
	}
	return true
}

// Flush implements watch.Sink.
func (o *outbox) Flush() {}

// NotifyWritable implements watch.Sink.
func (o *outbox) NotifyWritable(fn func()) { o.writable = fn }

// Fail implements watch.Sink.
func (o *outbox) Fail(err error) { panic(err) }

// take removes up to n messages.
func (o *outbox) take(n int) [][]byte {
	o.mu.Lock()
	n = min(n, len(o.queue))
	out := o.queue[:n:n]
	o.queue = o.queue[n:]
	call := n > 0 && o.refused
	if call {
		o.refused = false
	}
	o.mu.Unlock()
	if call {
		o.writable()
	}
	return out
}

// watcher is a client that watches, through restarts of the member and beyond compactions.
type watcher struct {
	t       *testing.T
	name    string
	req     wire.WatchCreateRequest
	seen    []check.Watch // the last one goes on
	next    int64         // everything before it has come
	stream  *watch.Stream // nil while the member is not running
	box     *outbox
	created bool
}

func newWatcher(t *testing.T, name string, req wire.WatchCreateRequest) *watcher {
	w := &watcher{t: t, name: name, req: req, next: req.StartRevision}
	w.begin()
	return w
}

// begin begins another watch, from next on.
func (w *watcher) begin() {
	end := string(w.req.RangeEnd)
	w.seen = append(w.seen, check.Watch{Name: fmt.Sprintf("%s#%d", w.name, len(w.seen)), Key: string(w.req.Key), End: end, Prev: w.req.PrevKV,
		NoPut: slices.Contains(w.req.Filters, wire.FilterNoPut), NoDelete: slices.Contains(w.req.Filters, wire.FilterNoDelete)})
}

func (w *watcher) current() *check.Watch { return &w.seen[len(w.seen)-1] }

// open starts, or resumes, the watch on a hub.
func (w *watcher) open(hub *watch.Hub, capacity int) {
	w.box = &outbox{capacity: capacity, arrived: make(chan struct{}, 1)}
	w.stream = hub.Open(w.box)
	w.create()
}

func (w *watcher) create() {
	req := w.req
	req.StartRevision = w.next
	c := w.current()
	c.Sessions = append(c.Sessions, check.Session{Via: "the hub", From: w.next})
	w.stream.Create(&req, "")
}

// lose ends the stream: what has not been taken is gone, and so is a revision of which only a part has come.
func (w *watcher) lose() {
	if w.stream == nil {
		return
	}
	w.stream.Close()
	w.stream = nil
	c := w.current()
	if len(c.Sessions) == 0 {
		return
	}
	s := &c.Sessions[len(c.Sessions)-1]
	for len(s.Batches) > 0 && s.Batches[len(s.Batches)-1].Fragment {
		s.Batches = s.Batches[:len(s.Batches)-1]
	}
}

// take takes up to n messages. compacted is the newest compaction that may have happened.
func (w *watcher) take(n int, compacted int64) {
	if w.stream == nil {
		return
	}
	for _, raw := range w.box.take(n) {
		var m wire.WatchResponse
		require.NoError(w.t, m.Unmarshal(raw))
		switch {
		case m.Canceled && (m.CompactRevision <= w.next || m.CompactRevision > compacted):
			w.t.Errorf("watcher %s wants revision %d and was canceled (%q) because of a compaction at %d; the newest was at %d",
				w.name, w.next, m.CancelReason, m.CompactRevision, compacted)
			return
		case m.Canceled:
			w.next = m.CompactRevision
			w.begin()
			w.create()
			return
		case m.Created:
			c := w.current()
			c.Sessions[len(c.Sessions)-1].Created = m.Header.Revision
		default:
			w.batch(&m)
		}
	}
}

func (w *watcher) batch(m *wire.WatchResponse) {
	b := check.Batch{Revision: m.Header.Revision, Progress: len(m.Events) == 0, Fragment: m.Fragment}
	for _, raw := range m.Events {
		b.Events = append(b.Events, eventOf(w.t, raw))
	}
	c := w.current()
	s := &c.Sessions[len(c.Sessions)-1]
	s.Batches = append(s.Batches, b)
	if n := len(b.Events); n > 0 && !b.Fragment {
		w.next = max(w.next, b.Events[n-1].Revision+1)
	}
	if b.Progress {
		w.next = max(w.next, b.Revision+1)
	}
}

// await takes messages until everything up to and including revision rev has come.
func (w *watcher) await(rev, compacted int64) {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for !w.t.Failed() {
		w.take(1<<30, compacted)
		if w.next > rev {
			return
		}
		select {
		case <-w.box.arrived:
		case <-deadline.C:
			w.t.Errorf("watcher %s (%+v) waits for revision %d in vain, and wants to see up to %d", w.name, w.req, w.next, rev)
			return
		}
	}
}

// eventOf translates an event from its wire form.
func eventOf(t *testing.T, raw []byte) check.Event {
	var e wire.Event
	require.NoError(t, e.Unmarshal(raw))
	out := check.Event{Delete: e.Type != 0, KV: kvOf(t, e.KV)}
	out.Revision = out.KV.Mod
	if e.PrevKV != nil {
		prev := kvOf(t, e.PrevKV)
		out.Prev = &prev
	}
	return out
}

func kvOf(t *testing.T, raw []byte) check.KV {
	var kv wire.KeyValue
	require.NoError(t, kv.Unmarshal(raw))
	return check.KV{Key: string(kv.Key), Value: showValue(kv.Value),
		Create: kv.CreateRevision, Mod: kv.ModRevision, Version: kv.Version, Lease: kv.Lease}
}
