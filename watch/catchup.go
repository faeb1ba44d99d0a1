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
	var enc encoder
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		for len(h.behind) == 0 && !h.closed {
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
			h.advance(w, &enc)
		}
	}
}

// chunk is a stretch of the past to send to one watcher: all its events from its next revision up to, not including, until.
type chunk struct {
	batches []*mvcc.EventBatch
	until   ids.Revision
}

// advance moves one watcher forward and decides what happens to it next. It is called with mu held and gives it up while
// it reads and sends.
func (h *Hub) advance(w *watcher, enc *encoder) {
	s := w.stream
	wakes := s.wakes
	var unsent ids.Revision
	sent, err := true, error(nil)
	if last := h.log.last; w.next >= h.log.first && last-w.next < tailRevisions {
		// Short enough to finish under the lock, so that the log cannot run away from the watcher.
		c := chunk{h.log.from(w.next, tailRevisions+1, 1<<62), last + 1}
		unsent, sent = h.sendChunk(w, c, enc)
	} else {
		from, logged := w.next, h.log.from(w.next, limits.WatchBatchRevs, limits.WatchBatchBytes)
		inLog := w.next >= h.log.first
		below := h.log.first
		h.mu.Unlock()
		c := chunk{batches: logged}
		if inLog {
			c.until = logged[len(logged)-1].Revision + 1
		} else {
			c, err = h.past(w, from, below)
		}
		if err == nil {
			unsent, sent = h.sendChunk(w, c, enc)
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

// past reads events below the log from a view. Runs without the lock.
func (h *Hub) past(w *watcher, from, below ids.Revision) (chunk, error) {
	view := h.cfg.View()
	if from < view.Compacted() {
		return chunk{}, fault.Compacted
	}
	batches, next, err := view.Events(from, below-1, limits.WatchBatchBytes, w.span.contains)
	return chunk{batches, next}, err
}

// sendChunk sends w its events of a chunk. It returns the first revision that w still needs and whether the whole chunk
// was taken.
func (h *Hub) sendChunk(w *watcher, c chunk, enc *encoder) (unsent ids.Revision, ok bool) {
	enc.reset()
	w.round = w.round[:0]
	for _, b := range c.batches {
		if b.Revision < w.next {
			continue
		}
		for i := range b.Events {
			ev := &b.Events[i]
			if !w.drops(ev.Type) && w.span.contains(ev.Key) {
				w.round = append(w.round, enc.add(b.Revision, ev))
			}
		}
	}
	head := h.header(h.cfg.View().Revision())
	unsent, ok = enc.send(w, w.round, head)
	w.round = w.round[:0]
	if !ok {
		return unsent, false
	}
	return c.until, true
}
