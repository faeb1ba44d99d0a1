package world

import (
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/internal/check"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/watch"
	"quorate.dev/quorate/wire"
)

// viewer opens streams with several watches each, of all kinds and from any revision: around the last compaction, in the past, in the
// future. It keeps a stream for a short time and never resumes a watch.
type viewer struct {
	w       *World
	name    string
	session int // counts streams
	stream  *watch.Stream
	open    map[int64]*check.Watch // the watches of this stream by id, until they end
	order   []int64                // ids of open
	past    []check.Watch          // of earlier streams
}

const (
	viewers      = 2
	viewsMost    = 4               // watches on a stream
	viewLife     = 2 * time.Second // of a stream, at most
	viewersPause = 3 * time.Second // between two streams, at most
	futureMost   = 30              // revisions ahead of what is known
	viewsKept    = 200             // watches of a viewer, over a run
)

func (w *World) addViewers() {
	for i := range viewers {
		v := &viewer{w: w, name: fmt.Sprintf("v%d", i+1)}
		w.viewers = append(w.viewers, v)
		w.after(w.upTo(viewersPause), v.connect)
	}
}

// connect opens a stream at some member.
func (v *viewer) connect() {
	w := v.w
	v.end()
	if w.quiet || len(v.past) >= viewsKept {
		return
	}
	lasts, pause := w.upTo(viewLife), viewersPause
	if w.set.Long {
		pause *= 10
	}
	w.after(lasts+w.upTo(pause), v.connect)
	m := w.members[w.rng.IntN(len(w.members))]
	d, ok := w.net.passes(0, m.ID)
	if !ok || !m.up {
		return
	}
	life, session := m.life, v.session
	w.after(d, func() { m.enter(life, func() { v.begin(m, session) }) })
	for at := w.upTo(time.Second); at < lasts; at += w.upTo(time.Second) {
		w.after(at, func() {
			m.enter(life, func() {
				if v.session == session && v.stream != nil {
					v.stream.Progress()
				}
			})
		})
	}
	w.after(lasts, func() {
		if stream := v.stream; v.session == session && stream != nil {
			m.enter(life, stream.Close)
			v.end()
		}
	})
}

// end keeps what the stream has brought; what comes later is void.
func (v *viewer) end() {
	for _, id := range v.order {
		v.past = append(v.past, *v.open[id])
	}
	v.session++
	v.stream, v.open, v.order = nil, nil, nil
}

// begin opens the stream, and its watches.
func (v *viewer) begin(m *Member, session int) {
	if v.session != session {
		return
	}
	v.stream, v.open = m.hub.Open(&sink{x: v, m: m, life: m.life, session: session}), map[int64]*check.Watch{}
	for id := range 1 + v.w.rng.Int64N(viewsMost) {
		req := v.request()
		req.WatchID = id + 1
		one := &check.Watch{Name: fmt.Sprintf("%s.%d#%d", v.name, session, req.WatchID), Key: string(req.Key), End: string(req.RangeEnd), Prev: req.PrevKV}
		for _, f := range req.Filters {
			one.NoPut, one.NoDelete = one.NoPut || f == wire.FilterNoPut, one.NoDelete || f == wire.FilterNoDelete
		}
		one.Sessions = []check.Session{{Via: m.name, From: req.StartRevision}}
		v.open[req.WatchID] = one
		v.order = append(v.order, req.WatchID)
		v.w.trace.note(one.Name, "watches %q to %q from revision %d via %s", one.Key, one.End, req.StartRevision, m.name)
		v.stream.Create(req, "")
	}
}

// request makes up a watch.
func (v *viewer) request() *wire.WatchCreateRequest {
	w := v.w
	one := fmt.Sprintf("k%02d", w.rng.IntN(w.set.Keys))
	span := [][2]string{{"\x00", "\x00"}, {one, ""}, {one[:2], one[:2] + "\xff"}, {one, "\x00"}, {one, one + "~"}}[w.rng.IntN(5)]
	req := &wire.WatchCreateRequest{Key: []byte(span[0]), RangeEnd: []byte(span[1]), PrevKV: w.chance(2), Fragment: w.chance(2), ProgressNotify: w.chance(2)}
	switch w.rng.IntN(8) {
	case 0:
		req.Filters = append(req.Filters, wire.FilterNoPut)
	case 1:
		req.Filters = append(req.Filters, wire.FilterNoDelete)
	}
	switch w.rng.IntN(8) {
	case 0: // from now on
	case 1:
		req.StartRevision = w.seen + w.rng.Int64N(futureMost)
	case 2:
		req.StartRevision = max(1, w.compacted-w.rng.Int64N(3))
	case 3:
		req.StartRevision = w.compacted + 1 + w.rng.Int64N(3)
	case 4:
		req.StartRevision = max(1, w.seen-w.rng.Int64N(40))
	default:
		req.StartRevision = max(1, w.compacted)
	}
	return req
}

// receive implements receiver.
func (v *viewer) receive(session int, message []byte) {
	if v.session != session {
		return
	}
	resp := &etcdserverpb.WatchResponse{}
	if err := proto.Unmarshal(message, resp); err != nil {
		v.w.broken("a watch's answer cannot be decoded: %v", err)
		return
	}
	if resp.WatchId == limits.WatchIDInvalid { // of the whole stream
		for _, id := range v.order {
			one := &v.open[id].Sessions[0]
			one.Batches = append(one.Batches, check.Batch{Revision: resp.Header.GetRevision(), Progress: true})
		}
		return
	}
	one := v.open[resp.WatchId]
	if one == nil {
		v.w.violate("watches", "stream %d of %s got an answer for watch %d, which it has not opened: %v", session, v.name, resp.WatchId, resp)
		return
	}
	s := &one.Sessions[0]
	switch {
	case resp.Created:
		s.Created = resp.Header.GetRevision()
	case resp.Canceled:
		if resp.CompactRevision == 0 || resp.CompactRevision <= s.From {
			v.w.violate("watches", "%s from revision %d was cancelled: %v", one.Name, s.From, resp)
		}
		v.past = append(v.past, *one)
		delete(v.open, resp.WatchId)
		v.order = slices.DeleteFunc(v.order, func(id int64) bool { return id == resp.WatchId })
	case len(resp.Events) == 0:
		s.Batches = append(s.Batches, check.Batch{Revision: resp.Header.GetRevision(), Progress: true})
	default:
		s.Batches = append(s.Batches, batchOf(resp))
	}
}

// views are all watches of viewers.
func (w *World) views() (all []check.Watch) {
	for _, v := range w.viewers {
		v.end()
		all = append(all, v.past...)
	}
	return all
}
