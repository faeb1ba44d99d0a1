package watch

import (
	"errors"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
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

// catchup is a worker: it takes the watcher that waits longest and moves it one chunk forward.
func (h *Hub) catchup() {
	defer h.done.Done()
	var r replay
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		for len(h.behind) == 0 && !h.closed {
			r.forget()
			h.work.Wait()
		}
		if h.closed {
			return
		}
		w := h.behind[0]
		h.behind[0] = nil
		h.behind = h.behind[1:]
		if w.state == stateQueued { // else it was cancelled meanwhile
			w.state = stateWorking
			h.counts.Turns++
			h.advance(w, &r)
		}
	}
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

// advance moves one watcher forward and decides what happens to it next. It is called with mu held and gives it up while
// it reads and sends.
func (h *Hub) advance(w *watcher, r *replay) {
	s := w.stream
	wakes := s.wakes
	var unsent ids.Revision
	sent, err := true, error(nil)
	if last := h.log.last; w.next >= h.log.first && last-w.next < tailRevisions {
		// Short enough to finish under the lock, so that the log cannot run away from the watcher.
		if !r.serves(w) || r.until <= last {
			r.load(w, chunk{h.log.from(w.next, tailRevisions+1, 1<<62), last + 1})
		}
		unsent, sent = h.sendReplay(w, r)
	} else {
		from, below := w.next, h.log.first
		inLog := from >= below
		var logged []*mvcc.EventBatch
		if inLog && !r.serves(w) {
			logged = h.log.from(from, limits.WatchBatchRevs, limits.WatchBatchBytes)
		}
		h.mu.Unlock()
		switch {
		case inLog && logged != nil:
			r.load(w, chunk{logged, logged[len(logged)-1].Revision + 1})
		case !inLog:
			err = h.past(w, from, below, r)
		}
		if err == nil {
			unsent, sent = h.sendReplay(w, r)
		}
		h.mu.Lock()
	}
	h.settle(w, unsent, sent, err, wakes)
}

// settle ends a worker's turn with w. Called with mu held.
func (h *Hub) settle(w *watcher, unsent ids.Revision, sent bool, err error, wakes uint64) {
	if w.state != stateWorking {
		return // the stream was closed
	}
	s := w.stream
	switch {
	case w.drop:
		h.confirmCancel(w)
		return
	case err != nil:
		h.abandon(w, err)
		return
	}
	w.quiet = w.quiet && w.next == unsent
	w.next = unsent
	switch {
	case !sent && s.wakes == wakes:
		h.setBehind(w, stateBlocked)
	case w.next > h.log.last:
		h.setLive(w)
		h.payProgress(s)
	default:
		h.enqueue(w)
	}
}

// abandon cancels a watcher that cannot be served.
func (h *Hub) abandon(w *watcher, err error) {
	s := w.stream
	h.retire(w)
	delete(s.watchers, w.id)
	if errors.Is(err, fault.Compacted) {
		s.cancelCompacted(w.id, h.cfg.View().Compacted())
	} else {
		r := h.cancelResponse(w, err)
		s.offer(&r)
	}
	h.payProgress(s)
}

// past reads events below the log from a view, unless the replay has them. Runs without the lock.
func (h *Hub) past(w *watcher, from, below ids.Revision, r *replay) error {
	view := h.cfg.View()
	if from < view.Compacted() {
		return fault.Compacted
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
