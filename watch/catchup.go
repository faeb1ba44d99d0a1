package watch

import (
	"errors"
	"fmt"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/mvcc"
)

// The moves between states. All are called with Hub.mu held.

// setLive puts a watcher that has everything up to the log's last revision into the index.
func (h *Hub) setLive(w *watcher) {
	h.leaveBehind(w)
	w.state = stateLive
	h.live.add(w)
}

// setBehind takes a watcher that is not in the index out of the live set and has it brought forward: at once
// (stateQueued) or when its stream has room again (stateBlocked).
func (h *Hub) setBehind(w *watcher, to state) {
	if w.state == stateLive || w.state == stateClosed {
		w.stream.lagging++
		h.counts.Slow++
	}
	if to == stateQueued {
		h.enqueue(w)
		return
	}
	w.state = stateBlocked
	w.stream.blocked = append(w.stream.blocked, w)
}

func (h *Hub) enqueue(w *watcher) {
	w.state = stateQueued
	h.behind = append(h.behind, w)
	h.work.Signal()
}

func (h *Hub) leaveBehind(w *watcher) {
	if w.state == stateQueued || w.state == stateWorking || w.state == stateBlocked {
		w.stream.lagging--
		h.counts.Slow--
	}
}

// retire makes sure that nothing more is sent to w. The caller removes it from its stream's map.
func (h *Hub) retire(w *watcher) {
	if w.state == stateLive {
		h.live.remove(w)
	}
	h.leaveBehind(w)
	w.state = stateClosed
	h.counts.Watchers--
}

// worker brings watchers forward that are behind, one turn after the other. A turn has up to three parts: take, which needs
// the lock, send, which must not have it, and settle, which needs it again. In between, everything else may happen.
type worker struct {
	hub    *Hub
	replay replay
	turn   turn // the one under way, if turn.w is set
}

// turn is one watcher being moved one chunk forward.
type turn struct {
	w     *watcher
	wakes uint64 // of its stream, when the turn began

	// What is to be sent: what the replay has, unless logged is set or the watcher is below the log.
	logged []*mvcc.EventBatch
	below  ids.Revision // above 0: the start of the log, which the watcher is below

	// How it went.
	sent   bool         // the sending is over
	unsent ids.Revision // the first revision that the watcher still needs
	taken  bool         // everything was taken by the stream
	err    error
}

// run is the worker's goroutine.
func (c *worker) run() {
	h := c.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	for !h.closed {
		switch {
		case !c.take():
			h.work.Wait()
		case c.turn.w != nil:
			h.mu.Unlock()
			c.send()
			h.mu.Lock()
			c.settle()
		}
	}
}

// step does the next part of a turn, for a driver. It reports whether there was anything to do.
func (c *worker) step() bool {
	if c.turn.w != nil && !c.turn.sent {
		c.send()
		return true
	}
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	if c.turn.w != nil {
		c.settle()
		return true
	}
	return c.take()
}

// chunk is a stretch of the past to send to one watcher: all its events from its next revision up to, not including, until.
type chunk struct {
	batches []*mvcc.EventBatch
	until   ids.Revision
}

// replay is a worker's latest chunk, already matched and encoded. Watchers that fell behind together want the same bytes
// one after the other.
type replay struct {
	enc         encoder
	span        span
	from, until ids.Revision // nothing when equal
	hits        []hit
}

// replayForms bounds the forms of one replay that are kept.
const replayForms = 16

// serves reports whether the next chunk of w is here.
func (r *replay) serves(w *watcher) bool {
	return r.from <= w.next && w.next < r.until && r.span == w.span && r.enc.used < replayForms
}

// load takes a chunk for the watchers of a span.
func (r *replay) load(w *watcher, c chunk) {
	r.span, r.from, r.until = w.span, w.next, c.until
	r.hits = r.hits[:0]
	for _, b := range c.batches {
		for i := range b.Events {
			if ev := &b.Events[i]; w.span.contains(ev.Key) {
				r.hits = append(r.hits, hit{b.Revision, ev})
			}
		}
	}
	r.enc.begin(r.hits)
}

// forget gives up the memory.
func (r *replay) forget() { *r = replay{} }

// take begins a turn with the watcher that waits longest, and ends it at once if it is a short one. It reports whether any
// waits. Called with Hub.mu held.
func (c *worker) take() bool {
	h := c.hub
	for len(h.behind) > 0 {
		w := h.behind[0]
		h.behind[0] = nil
		h.behind = h.behind[1:]
		if w.state == stateQueued { // else it was cancelled meanwhile
			w.state = stateWorking
			h.counts.Turns++
			c.begin(w)
			return true
		}
	}
	c.replay.forget()
	return false
}

// begin finds what to send to w. Called with Hub.mu held.
func (c *worker) begin(w *watcher) {
	h, r := c.hub, &c.replay
	c.turn = turn{w: w, wakes: w.stream.wakes}
	switch last := h.log.last; {
	case w.next >= h.log.first && last-w.next < tailRevisions:
		// Short enough to finish under the lock, so that the log cannot run away from the watcher.
		if !r.serves(w) || r.until <= last {
			r.load(w, chunk{h.log.from(w.next, tailRevisions+1, 1<<62), last + 1})
		}
		c.send()
		c.settle()
	case w.next < h.log.first:
		c.turn.below = h.log.first
	case !r.serves(w):
		c.turn.logged = h.log.from(w.next, limits.WatchBatchRevs, limits.WatchBatchBytes)
	}
}

// send reads what the turn is about and offers it to the watcher's stream.
func (c *worker) send() {
	t := &c.turn
	t.sent = true
	switch {
	case t.below > 0:
		if t.err = c.hub.past(t.w, t.below, &c.replay); t.err != nil {
			return
		}
	case t.logged != nil:
		c.replay.load(t.w, chunk{t.logged, t.logged[len(t.logged)-1].Revision + 1})
	}
	t.unsent, t.taken = c.hub.sendReplay(t.w, &c.replay)
}

// settle ends the turn and decides what happens to its watcher next. Called with Hub.mu held.
func (c *worker) settle() {
	h, t := c.hub, c.turn
	c.turn = turn{}
	w, s := t.w, t.w.stream
	switch {
	case w.state != stateWorking:
		return // the stream was closed
	case w.drop != nil:
		h.confirmCancel(w, *w.drop)
		return
	case t.err != nil:
		h.abandon(w, t.err)
		return
	}
	w.quiet = w.quiet && w.next == t.unsent
	w.next = t.unsent
	switch {
	case !t.taken && s.wakes == t.wakes:
		h.setBehind(w, stateBlocked)
	case w.next > h.log.last:
		h.setLive(w)
		h.payProgress(s)
	default:
		h.enqueue(w)
	}
}

// abandon cancels a watcher whose events are compacted. When it cannot be served because the store cannot be read, the stream
// ends instead: a client takes a cancelled watch for lost, and one whose stream broke goes on where it was, at a member that can.
func (h *Hub) abandon(w *watcher, err error) {
	s := w.stream
	h.retire(w)
	delete(s.watchers, w.id)
	if errors.Is(err, fault.Compacted) {
		s.cancelCompacted(w.id, h.cfg.View().Compacted())
	} else {
		s.sink.Fail(fmt.Errorf("%w: %w", fault.StoreUnreadable, err))
	}
	h.payProgress(s)
}

// past reads events below the log from a view, unless the replay has them. Runs without the lock.
func (h *Hub) past(w *watcher, below ids.Revision, r *replay) error {
	view, from := h.cfg.View(), w.next
	if canary.On(canary.WatchTravelsBack) {
		from--
		w.next = from
	}
	if from < view.Compacted() {
		if !canary.On(canary.DeleteLost) {
			return fault.Compacted
		}
		from = view.Compacted()
	}
	if r.serves(w) {
		return nil
	}
	batches, next, err := view.Events(from, below-1, limits.WatchBatchBytes, w.span.contains)
	if err == nil {
		r.load(w, chunk{batches, next})
	}
	return err
}

// sendReplay sends w its events of the replay. It returns the first revision that w still needs and whether everything
// was taken.
func (h *Hub) sendReplay(w *watcher, r *replay) (unsent ids.Revision, ok bool) {
	if len(r.hits) == 0 {
		return r.until, true
	}
	events, unsent, ok := r.enc.send(w, h.header(h.cfg.View().Revision()))
	if events > 0 {
		w.stream.sink.Flush()
	}
	if !ok {
		return unsent, false
	}
	return r.until, true
}
