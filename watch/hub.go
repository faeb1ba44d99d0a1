package watch

import (
	"cmp"
	"container/list"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/wire"
)

// catchupWorkers bring watchers forward that are behind; two keep one long read from holding up the rest.
const catchupWorkers = 2

// tailRevisions is how much of the log may be replayed to one watcher while the hub is locked, so that a watcher reaches
// the head however fast the log grows, revisions.
const tailRevisions = 16

// progressFloor is the shortest period of progress notifications (as etcd's).
const progressFloor = 100 * time.Millisecond

// Config says what a hub needs from its surroundings. View, Header and FragmentBytes are
// required.
type Config struct {
	View             func() *mvcc.View  // the newest published view
	Header           func() wire.Header // cluster, member and term for responses; the hub fills in the revision
	FragmentBytes    int                // responses of at least this size are split for watchers that asked for it
	LogRevisions     int                // revisions kept in the shared log; 0 takes limits.WatchLogRevisions
	ProgressInterval time.Duration      // period of progress notifications; 0 takes limits.WatchProgress, floor 100 ms
	Clock            clock.Clock        // nil takes the real clock
	Driven           bool               // no goroutine is started: the caller does their work with Step
}

// Sink is where a stream's responses go; an *rpc.Stream is most of one.
type Sink interface {
	// TrySend queues one message, head and body; false when the outbox is full. It copies head. It may refer to body, which
	// never changes and is given to many sinks.
	TrySend(head, body []byte) bool
	// Flush has what was queued sent, without waiting for it.
	Flush()
	// NotifyWritable registers fn, called without locks after a TrySend that returned false once there is room again.
	NotifyWritable(fn func())
	// Fail ends the client's stream, so that it begins again, here or at another member. It must not call the hub.
	Fail(err error)
}

// Hub owns the shared event log and all watchers. Publish is called by the apply goroutine alone; the rest is safe for
// any goroutine.
type Hub struct {
	cfg Config

	in struct { // the hand-over from the apply goroutine, so that it never waits for deliveries
		sync.Mutex
		batches []*mvcc.EventBatch
		wake    chan struct{} // capacity 1: something is in batches
	}

	mu      sync.Mutex // guards everything below and all streams and watchers
	log     eventLog
	live    *index
	streams list.List  // of *Stream, in the order in which they were opened
	behind  []*watcher // waiting for a catch-up worker, oldest first
	work    *sync.Cond // signalled when behind grows or the hub closes
	due     time.Time  // of the next progress notifications
	counts  Stats
	round   round
	closed  bool

	driven driven // empty unless Config.Driven
	stop   chan struct{}
	done   sync.WaitGroup
}

// Stats counts what the hub holds.
type Stats struct {
	Streams, Watchers int
	Slow              int   // watchers that are behind
	Pending           int   // events handed over and not yet offered to the live watchers
	Events            int64 // events offered to live watchers since the start
	Turns             int64 // turns of catch-up workers with a watcher since the start
	LogRevisions      int   // revisions in the shared log
	LogBytes          int   // bytes of their events
}

// New starts a hub at the current revision of the view.
func New(cfg Config) *Hub {
	if cfg.Clock == nil {
		cfg.Clock = clock.Real()
	}
	if cfg.ProgressInterval == 0 {
		cfg.ProgressInterval = limits.WatchProgress
	}
	if cfg.LogRevisions == 0 {
		cfg.LogRevisions = limits.WatchLogRevisions
	}
	cfg.ProgressInterval = max(cfg.ProgressInterval, progressFloor)
	h := &Hub{cfg: cfg, live: newIndex(), stop: make(chan struct{})}
	h.in.wake = make(chan struct{}, 1)
	h.work = sync.NewCond(&h.mu)
	h.log.max = cfg.LogRevisions
	h.log.last = cfg.View().Revision()
	h.log.first = h.log.last + 1
	h.due = cfg.Clock.Now().Add(h.progressPeriod())
	if cfg.Driven {
		h.drive()
		return h
	}
	h.done.Go(h.run)
	for range catchupWorkers {
		h.done.Go((&worker{hub: h}).run)
	}
	return h
}

// Close stops deliveries, and a Step does nothing any more. Streams stay open and silent; their owner ends them.
func (h *Hub) Close() {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return
	}
	h.closed = true
	close(h.stop)
	h.work.Broadcast()
	h.mu.Unlock()
	h.done.Wait()
}

// Publish hands over the events of newly applied revisions, in order. The view that holds them must be published before,
// and whoever wrote them be answered after: then progress and created responses cover every acknowledged write.
func (h *Hub) Publish(batches []*mvcc.EventBatch) {
	if len(batches) == 0 {
		return
	}
	h.in.Lock()
	h.in.batches = append(h.in.batches, batches...)
	h.in.Unlock()
	select {
	case h.in.wake <- struct{}{}:
	default:
	}
}

// Stats returns the present counts.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.counts
	s.Streams = h.streams.Len()
	s.LogRevisions, s.LogBytes = len(h.log.batches), h.log.bytes
	h.in.Lock()
	for _, b := range h.in.batches {
		s.Pending += len(b.Events)
	}
	h.in.Unlock()
	return s
}

// run offers new events to the live watchers and sends the periodic progress notifications.
func (h *Hub) run() {
	tick := h.cfg.Clock.NewTimer(h.untilDue())
	defer tick.Stop()
	for {
		select {
		case <-h.stop:
			return
		case <-h.in.wake:
			h.offerPublished()
		case <-tick.C:
			h.notifyDue()
			tick.Reset(h.untilDue())
		}
	}
}

// progressPeriod is the interval with up to a tenth of jitter, so that the members of a cluster do not answer in step. Who
// drives the hub wants no chance in it.
func (h *Hub) progressPeriod() time.Duration {
	d := h.cfg.ProgressInterval
	if h.cfg.Driven {
		return d
	}
	return d + time.Duration(rand.Int64N(int64(d)/10+1))
}

// untilDue is how long there is until the next progress notifications; 0 or less when they are due.
func (h *Hub) untilDue() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.due.Sub(h.cfg.Clock.Now())
}

// offerPublished delivers what was published and reports whether there was anything.
func (h *Hub) offerPublished() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.drain()
}

// drain takes what was published and delivers it. It reports whether there was anything. Called with mu held.
func (h *Hub) drain() (found bool) {
	for {
		h.in.Lock()
		batches := h.in.batches
		h.in.batches = nil
		h.in.Unlock()
		if len(batches) == 0 {
			return found
		}
		for _, b := range batches {
			h.log.append(b)
		}
		h.deliver(batches)
		found = true
	}
}

// round is what one delivery needs; its memory is used again.
type round struct {
	groups  []*group // those with hits
	enc     encoder
	touched []*Stream // to be flushed
}

// flushEvery is how many streams may have something to send before they are flushed: enough for the streams of a
// connection to share a write, few enough for the first not to wait long.
const flushEvery = 1024

// deliver offers batches to the watchers that are live: events find their intervals, and what an interval got is encoded
// once for all its watchers. Called with mu held.
func (h *Hub) deliver(batches []*mvcc.EventBatch) {
	r := &h.round
	for _, b := range batches {
		for i := range b.Events {
			ev := &b.Events[i]
			h.live.visit(ev.Key, func(g *group) {
				if len(g.hits) == 0 {
					r.groups = append(r.groups, g)
				}
				g.hits = append(g.hits, hit{b.Revision, ev})
			})
		}
	}
	head := h.header(h.log.last)
	for i, g := range r.groups {
		h.deliverGroup(g, head)
		clear(g.hits)
		if g.hits = g.hits[:0]; cap(g.hits) > hitsKeep {
			g.hits = nil
		}
		r.groups[i] = nil
	}
	r.groups = r.groups[:0]
	r.enc.begin(nil)
	h.flush()
}

// hitsKeep is how many hits an interval's list keeps room for between rounds.
const hitsKeep = 64

// deliverGroup offers the hits of one interval to its watchers.
func (h *Hub) deliverGroup(g *group, head wire.Header) {
	enc := &h.round.enc
	enc.begin(g.hits)
	last := g.hits[len(g.hits)-1].rev
	for i := 0; i < len(g.watchers); {
		w := g.watchers[i]
		if w.next > last {
			i++
			continue // starts in the future
		}
		events, unsent, ok := enc.send(w, head)
		if events > 0 {
			h.counts.Events += int64(events)
			w.quiet = false
			h.touch(w.stream)
		}
		if ok {
			i++
			continue
		}
		if canary.On(canary.EventsDropped) {
			unsent = last + 1
		}
		h.live.remove(w) // another takes its place
		w.next = unsent
		h.setBehind(w, stateBlocked)
	}
}

// touch notes a stream that has something to be flushed.
func (h *Hub) touch(s *Stream) {
	if s.touched {
		return
	}
	s.touched = true
	if h.round.touched = append(h.round.touched, s); len(h.round.touched) >= flushEvery {
		h.flush()
	}
}

// flush flushes the noted streams.
func (h *Hub) flush() {
	for i, s := range h.round.touched {
		s.touched = false
		s.sink.Flush()
		h.round.touched[i] = nil
	}
	h.round.touched = h.round.touched[:0]
}

func (h *Hub) header(rev ids.Revision) wire.Header {
	head := h.cfg.Header()
	head.Revision = int64(rev)
	return head
}

// notifyDue sends the progress notifications if they are due by the clock, and reports whether they were.
func (h *Hub) notifyDue() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.cfg.Clock.Now()
	if now.Before(h.due) {
		return false
	}
	h.due = now.Add(h.progressPeriod())
	h.notifyProgress()
	return true
}

// notifyProgress tells every watcher that asked for it, and had no event since the last time, how far it is. Called with mu
// held.
func (h *Hub) notifyProgress() {
	h.drain()
	var told []*watcher // of one stream
	for e := h.streams.Front(); e != nil; e = e.Next() {
		s := e.Value.(*Stream)
		for _, w := range s.watchers {
			if w.progress && w.quiet && h.synced(w) {
				told = append(told, w)
			}
			w.quiet = true
		}
		slices.SortFunc(told, byID)
		for _, w := range told {
			s.offer(&wire.WatchResponse{Header: h.header(h.log.last), WatchID: w.id})
		}
		clear(told)
		told = told[:0]
	}
}

// byID gives the watchers of a stream an order: that of a map may not decide who is served first.
func byID(a, b *watcher) int { return cmp.Compare(a.id, b.id) }

// synced reports whether everything up to the last revision was handed to w's stream.
func (h *Hub) synced(w *watcher) bool {
	if canary.On(canary.FutureNotified) {
		return w.state == stateLive
	}
	return canary.On(canary.ProgressAhead) || w.state == stateLive && w.next <= h.log.last+1
}
