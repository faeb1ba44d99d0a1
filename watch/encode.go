package watch

import (
	"google.golang.org/protobuf/encoding/protowire"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/wire"
)

// hit is one event that concerns a watcher's keys.
type hit struct {
	rev   ids.Revision
	event *mvcc.Event
}

// form is what decides, besides its keys, which bytes a watcher gets. Watchers of equal forms share them.
type form struct {
	from            ids.Revision // the first revision that concerns the watcher
	prevAbove       ids.Revision // previous values are shown for events above it
	noPut, noDelete bool
}

// shows reports whether an event's previous value is part of the form.
func (f *form) shows(h hit) bool { return h.rev > f.prevAbove && h.event.PrevKV != nil }

func (f *form) drops(h hit) bool {
	return h.rev < f.from || h.event.Type == wire.EventPut && f.noPut || h.event.Type == wire.EventDelete && f.noDelete
}

// noPrevious is a prevAbove that no revision is above.
const noPrevious = ids.Revision(1<<63 - 1)

// packet is the events of one response, encoded as the events field of WatchResponse, so that a response is a head
// followed by the packet.
type packet struct {
	first  ids.Revision
	events int
	body   []byte // never changes once it is made; other than small ones it is memory of its own
}

// small reports whether the body is rather copied than referred to.
func (p *packet) small() bool { return len(p.body) <= smallBody }

// smallBody is the size up to which a copy of a packet costs less than memory of its own, bytes.
const smallBody = 1 << 10

// formed is one form of a round and its packets.
type formed struct {
	form    form
	packets []packet
}

// encoder turns the hits of one interval into packets, once for every form, however many watchers get them. Not safe for
// concurrent use.
type encoder struct {
	hits  []hit
	forms []formed // of hits
	used  int      // of forms; those behind are kept for their lists
	small []byte   // the small bodies
	head  []byte
}

// begin starts with new hits; they belong to the encoder until the next begin.
func (e *encoder) begin(hits []hit) {
	e.hits, e.used, e.small = hits, 0, e.small[:0]
}

// formOf is the form that w wants of the present hits, in its simplest spelling.
func (e *encoder) formOf(w *watcher) form {
	first, last := e.hits[0].rev, e.hits[len(e.hits)-1].rev
	f := form{prevAbove: noPrevious, noPut: w.noPut, noDelete: w.noDelete}
	if w.next > first {
		f.from = w.next
	}
	switch {
	case !w.prevKV || w.prevAbove >= last:
	case w.prevAbove < first:
		f.prevAbove = 0
	default:
		f.prevAbove = w.prevAbove
	}
	return f
}

// packets returns what w gets of the present hits.
func (e *encoder) packets(w *watcher) []packet {
	f := e.formOf(w)
	for i := range e.forms[:e.used] {
		if e.forms[i].form == f {
			return e.forms[i].packets
		}
	}
	if e.used == len(e.forms) {
		e.forms = append(e.forms, formed{})
	}
	made := &e.forms[e.used]
	e.used++
	made.form = f
	made.packets = e.encode(made.packets[:0], &f)
	return made.packets
}

// encode makes the packets of a form. A packet ends at a revision's end once it has limits.WatchBatchBytes.
func (e *encoder) encode(list []packet, f *form) []packet {
	for i := 0; i < len(e.hits); {
		p := packet{first: e.hits[i].rev}
		end, size := i, 0
		for end < len(e.hits) && (size < limits.WatchBatchBytes || e.hits[end].rev == e.hits[end-1].rev) {
			if h := e.hits[end]; !f.drops(h) {
				m := f.message(h)
				size += wire.EventFieldSize(&m)
				p.events++
			}
			end++
		}
		if p.events > 0 {
			p.body = e.encodeBody(e.hits[i:end], f, size)
			list = append(list, p)
		}
		i = end
	}
	return list
}

func (e *encoder) encodeBody(hits []hit, f *form, size int) []byte {
	var dst []byte
	at := 0
	if size <= smallBody {
		// A small buffer that grows leaves the earlier bodies where they are.
		at = len(e.small)
		dst = e.small
	} else {
		dst = make([]byte, 0, size)
	}
	for _, h := range hits {
		if !f.drops(h) {
			m := f.message(h)
			dst = wire.AppendEventField(dst, &m)
		}
	}
	if size <= smallBody {
		e.small = dst
	}
	return dst[at:len(dst):len(dst)]
}

func (f *form) message(h hit) wire.Event {
	m := wire.Event{Type: h.event.Type, KV: h.event.KV}
	if f.shows(h) {
		m.PrevKV = h.event.PrevKV
	}
	return m
}

// send offers the present hits to w. When the stream is full it stops and returns the first revision that was not sent.
// events is how many were taken.
func (e *encoder) send(w *watcher, head wire.Header) (events int, unsent ids.Revision, ok bool) {
	packets := e.packets(w)
	for i := range packets {
		if !e.respond(w, &packets[i], head) {
			return events, max(packets[i].first, w.next), false
		}
		events += packets[i].events
	}
	return events, 0, true
}

// respond sends one response, or its fragments if the watcher wants them and the response is large.
func (e *encoder) respond(w *watcher, p *packet, head wire.Header) bool {
	r := wire.WatchResponse{Header: head, WatchID: w.id}
	if limit := w.stream.hub.cfg.FragmentBytes; w.fragment && p.events > 1 && r.Size()+len(p.body) >= limit {
		return e.fragments(w, p, r, limit)
	}
	e.head = r.Append(e.head[:0])
	if p.small() {
		e.head = append(e.head, p.body...)
		return w.stream.trySend(e.head, nil)
	}
	return w.stream.trySend(e.head, p.body)
}

// fragments sends one response in pieces, each below limit or of a single event; all but the last say so. The pieces are
// queued as one: the stream takes the first only when there is room, and the others with it.
func (e *encoder) fragments(w *watcher, p *packet, r wire.WatchResponse, limit int) bool {
	rest := p.body
	for first := true; len(rest) > 0; first = false {
		r.Fragment = true
		n := 0
		for size := r.Size(); n < len(rest); {
			_, _, field := protowire.ConsumeField(rest[n:])
			if n > 0 && size+n+field >= limit {
				break
			}
			n += field
		}
		r.Fragment = n < len(rest)
		e.head = append(r.Append(e.head[:0]), rest[:n]...)
		rest = rest[n:]
		if first && !w.stream.trySend(e.head, nil) {
			return false
		}
		if !first {
			w.stream.queue(e.head)
		}
	}
	return true
}
