package watch

import (
	"google.golang.org/protobuf/encoding/protowire"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/wire"
)

// eventsField is the number of WatchResponse.events.
const eventsField = 11

// slot is one event of a round in the two forms watchers may want, encoded when first wanted. The forms are offsets into
// the encoder's buffer because that buffer moves as it grows.
type slot struct {
	rev         ids.Revision
	event       *mvcc.Event
	plain, prev extent
}

type extent struct{ from, to int }

// encoder turns the events of one round into responses; each event is encoded at most once per form however many
// watchers get it. Not safe for concurrent use.
type encoder struct {
	slots []slot
	buf   []byte
	head  []byte
	parts [][]byte
}

func (e *encoder) reset() {
	clear(e.slots)
	e.slots = e.slots[:0]
	if cap(e.buf) > 4*limits.WatchBatchBytes {
		e.buf = nil // a rare big round must not be kept for ever
	}
	e.buf = e.buf[:0]
}

func (e *encoder) add(rev ids.Revision, ev *mvcc.Event) int {
	e.slots = append(e.slots, slot{rev: rev, event: ev})
	return len(e.slots) - 1
}

// form returns the event, as w wants it, as a field of WatchResponse.
func (e *encoder) form(i int, w *watcher) extent {
	s := &e.slots[i]
	x := &s.plain
	if w.prevKV && s.rev > w.prevAbove && s.event.PrevKV != nil {
		x = &s.prev
	}
	if x.to > 0 {
		return *x
	}
	m := wire.Event{Type: s.event.Type, KV: s.event.KV}
	if x == &s.prev {
		m.PrevKV = s.event.PrevKV
	}
	x.from = len(e.buf)
	e.buf = protowire.AppendTag(e.buf, eventsField, protowire.BytesType)
	e.buf = protowire.AppendVarint(e.buf, uint64(m.Size()))
	e.buf = m.Append(e.buf)
	x.to = len(e.buf)
	return *x
}

// send offers the events of the given slots to w, in responses that end at revision boundaries. When the stream is full
// it stops and returns the first revision that was not sent.
func (e *encoder) send(w *watcher, slots []int, head wire.Header) (unsent ids.Revision, ok bool) {
	for len(slots) > 0 {
		n, bytes := 0, 0
		for n < len(slots) {
			rev := e.slots[slots[n]].rev
			if bytes >= limits.WatchBatchBytes {
				break
			}
			for n < len(slots) && e.slots[slots[n]].rev == rev {
				x := e.form(slots[n], w)
				bytes += x.to - x.from
				n++
			}
		}
		if !e.respond(w, slots[:n], head) {
			return e.slots[slots[0]].rev, false
		}
		slots = slots[n:]
	}
	return 0, true
}

// respond sends one response, or its fragments if the watcher wants them and the response is large.
func (e *encoder) respond(w *watcher, slots []int, head wire.Header) bool {
	r := wire.WatchResponse{Header: head, WatchID: w.id}
	e.parts = e.parts[:0]
	e.parts = append(e.parts, nil) // the head, once it is known
	bytes := 0
	for _, i := range slots {
		x := e.form(i, w)
		e.parts = append(e.parts, e.buf[x.from:x.to])
		bytes += x.to - x.from
	}
	limit := w.stream.hub.cfg.FragmentBytes
	if w.fragment && len(slots) > 1 && r.Size()+bytes >= limit {
		return e.fragments(w, slots, r, limit)
	}
	e.head = r.Append(e.head[:0])
	e.parts[0] = e.head
	return w.stream.trySend(e.parts)
}

// fragments sends one response in pieces, each below limit or of a single event; all but the last say so. The pieces are
// queued as one: the stream takes the first only when there is room, and the others with it.
func (e *encoder) fragments(w *watcher, slots []int, r wire.WatchResponse, limit int) bool {
	events := e.parts[1:]
	for first := true; len(events) > 0; first = false {
		r.Fragment = true
		n, bytes := 0, r.Size()
		for n < len(events) && (n == 0 || bytes+len(events[n]) < limit) {
			bytes += len(events[n])
			n++
		}
		r.Fragment = n < len(events)
		piece := append([][]byte{r.Append(nil)}, events[:n]...)
		events = events[n:]
		if first && !w.stream.trySend(piece) {
			return false
		}
		if !first {
			w.stream.queue(piece)
		}
	}
	return true
}
