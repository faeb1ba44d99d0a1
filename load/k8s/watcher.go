package k8s

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/wire"
)

// watcher is the watch of one API server on one resource.
type watcher struct {
	d    *driver
	link *link
	kind resource

	mu      sync.Mutex
	stream  *lean.Stream // nil while there is none
	run     int          // of streams; what an older one says does not count
	next    int64        // revision at which a new stream begins
	seen    int64        // revision of the last event
	told    int64        // highest revision of a progress notification
	late    int64        // events up to here happened before the watch began: their delay is not its own
	want    int64        // events of acknowledged writes that have to come
	got     int64
	unsure  bool // want is not known
	waiting []question
	faults  []string
}

// question is a progress request under way: a notification of at least this revision answers it.
type question struct {
	at       time.Duration
	revision int64
}

// streamHandler is a watcher's side of one of its streams.
type streamHandler struct {
	w    *watcher
	run  int
	resp wire.WatchResponse
}

// begin opens the watch after a revision, as an API server does that has listed at it. The driver calls it.
func (w *watcher) begin(revision int64) {
	w.mu.Lock()
	w.seen, w.next, w.got, w.told, w.late = revision, revision+1, 0, 0, w.d.highest
	w.want, w.unsure = w.d.acks[w.kind].since(revision, w)
	w.mu.Unlock()
	w.resume()
}

// resume opens the watch where it ended.
func (w *watcher) resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	conn := w.link.up()
	if w.next == 0 || conn == nil {
		return // the link opens it once it is connected again
	}
	w.run++
	stream, err := conn.Open(lean.Watch, &streamHandler{w: w, run: w.run})
	if err != nil {
		return
	}
	create := wire.WatchCreateRequest{Key: w.d.keys.prefix[w.kind], RangeEnd: w.d.keys.ends[w.kind], StartRevision: w.next, PrevKV: true, ProgressNotify: true}
	if stream.Send(&wire.WatchRequest{Create: &create}, false) == nil {
		w.stream = stream
		_ = conn.Flush() // a failure ends the connection, and the link resumes
	}
}

// drop ends the watch, as an API server does that lost it.
func (w *watcher) drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stream != nil {
		w.stream.Cancel()
	}
	w.run++
	w.stream, w.next, w.waiting = nil, 0, w.waiting[:0]
}

// ask sends a progress request: its answer has to come after all events up to revision.
func (w *watcher) ask(now time.Duration, revision int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	conn := w.link.up()
	if w.stream == nil || conn == nil {
		return
	}
	if len(w.waiting) >= progressPending {
		w.d.rec.Load().skipProgress(w.waiting[0].at)
		w.waiting = append(w.waiting[:0], w.waiting[1:]...)
	}
	if w.stream.Send(&wire.WatchRequest{Progress: true}, false) == nil {
		w.waiting = append(w.waiting, question{now, revision})
		_ = conn.Flush()
	}
}

// Message implements lean.Handler.
func (h *streamHandler) Message(body []byte) {
	w := h.w
	now := w.d.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if h.run != w.run {
		return
	}
	if err := h.resp.Unmarshal(body); err != nil {
		w.fault("a malformed answer: %v", err)
		return
	}
	r := &h.resp
	switch {
	case r.Canceled:
		w.fault("cancelled: %s (compacted at %d)", r.CancelReason, r.CompactRevision)
	case len(r.Events) > 0:
		for _, ev := range r.Events {
			w.event(now, ev)
		}
	case !r.Created:
		w.progress(now, r.Header.Revision)
	}
}

// event takes one event.
func (w *watcher) event(now time.Duration, body []byte) {
	var ev wire.Event
	if err := ev.Unmarshal(body); err != nil {
		w.fault("a malformed event: %v", err)
		return
	}
	revision := wire.ModRevisionOf(ev.KV)
	switch {
	case revision < w.seen:
		w.fault("an event of revision %d after one of %d", revision, w.seen)
	case revision <= w.told:
		w.fault("an event of revision %d after progress to %d", revision, w.told)
	}
	w.seen, w.next = revision, max(w.next, revision+1)
	at, known := time.Duration(0), false
	if ev.Type == wire.EventDelete {
		if w.kind == events {
			return // of a lease that expired: nobody wrote it
		}
		at, known = w.d.deletes.began(number(wire.KeyOf(ev.KV)))
	} else {
		at, known = w.d.objects.stampOf(wire.ValueOf(ev.KV))
	}
	w.got++
	if !known {
		w.fault("an event of a value that nobody wrote, key %q", wire.KeyOf(ev.KV))
		return
	}
	if revision > w.late {
		w.d.rec.Load().event(w.kind, at, now)
	}
}

// progress takes a notification and answers the questions that it settles.
func (w *watcher) progress(now time.Duration, revision int64) {
	w.told = max(w.told, revision)
	w.next = max(w.next, revision+1)
	n := 0
	for _, q := range w.waiting {
		if q.revision <= revision {
			w.d.rec.Load().answered(q.at, now)
			continue
		}
		w.waiting[n] = q
		n++
	}
	w.waiting = w.waiting[:n]
}

// fault notes what a store must not do.
func (w *watcher) fault(format string, args ...any) {
	if len(w.faults) < errorTexts {
		w.faults = append(w.faults, fmt.Sprintf("watch of %s: ", resourceNames[w.kind])+fmt.Sprintf(format, args...))
	}
}

// End implements lean.Handler. The link opens the watch again when the connection was lost; a stream that the server ended alone
// is opened here.
func (h *streamHandler) End(err error) {
	w := h.w
	w.mu.Lock()
	mine := h.run == w.run
	if mine {
		w.stream, w.waiting = nil, w.waiting[:0]
	}
	if mine && !lost(err) {
		w.fault("the server ended the stream: %v", err)
	}
	w.mu.Unlock()
	if mine && !lost(err) {
		w.resume()
	}
}

// idleWatch is the watches of an API server on resources without traffic, on one stream.
type idleWatch struct {
	d       *driver
	created atomic.Int64
}

func (i *idleWatch) open(l *link) {
	conn := l.up()
	if conn == nil {
		return
	}
	stream, err := conn.Open(lean.Watch, i)
	if err != nil {
		return
	}
	for _, name := range idleNames {
		key := []byte(i.d.o.Store.Prefix + name + "/")
		create := wire.WatchCreateRequest{Key: key, RangeEnd: rangeEnd(key), PrevKV: true, ProgressNotify: true}
		if stream.Send(&wire.WatchRequest{Create: &create}, false) != nil {
			return
		}
	}
	_ = conn.Flush()
}

// Message implements lean.Handler.
func (i *idleWatch) Message([]byte) { i.created.Add(1) }

// End implements lean.Handler.
func (i *idleWatch) End(error) {}

// acked counts the acknowledged writes of a resource and keeps the last revisions.
type acked struct {
	mu      sync.Mutex
	last    []int64            // a ring
	n       int64              // ever
	unknown int64              // writes of which it is not known whether they happened
	hearing map[*watcher]int64 // the revision after which each counts
	more    map[*watcher]int64 // acknowledged writes since, beyond what since returned
}

func newAcked() *acked {
	return &acked{last: make([]int64, acksKept), hearing: map[*watcher]int64{}, more: map[*watcher]int64{}}
}

// note takes the revision of an acknowledged write.
func (a *acked) note(revision int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last[a.n%acksKept] = revision
	a.n++
	for w, from := range a.hearing {
		if revision > from {
			a.more[w]++
		}
	}
}

// doubt counts a write of which it is not known whether it happened.
func (a *acked) doubt() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unknown++
}

// since begins to count for w the writes after a revision, those included that were acknowledged already; unsure when those are
// more than are kept.
func (a *acked) since(revision int64, w *watcher) (n int64, unsure bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	kept := min(a.n, acksKept)
	for _, r := range a.last[:kept] {
		if r > revision {
			n++
		}
	}
	a.hearing[w], a.more[w] = revision, 0
	return n, n == acksKept
}

// expected is how many writes were acknowledged since w began to count, beyond what since returned, and how many more may have happened.
func (a *acked) expected(w *watcher) (n, unknown int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.more[w], a.unknown
}

// deletions are when deletions of pods were due, by the pod's number.
type deletions struct{ at [deletesKept]atomic.Int64 }

func (d *deletions) begin(pod int64, at time.Duration) { d.at[pod%deletesKept].Store(int64(at)) }

func (d *deletions) began(pod int64) (time.Duration, bool) {
	if pod < 0 {
		return 0, false
	}
	return time.Duration(d.at[pod%deletesKept].Load()), true
}
