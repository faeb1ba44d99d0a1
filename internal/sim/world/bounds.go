package world

import (
	"slices"
	"strings"
	"time"

	"quorate.dev/quorate/internal/check"
	"quorate.dev/quorate/limits"
)

// bounds are the longest that queues were.
type bounds struct {
	samples []check.QueueSample
	worst   map[string]int // of each queue of each member: its sample; looked up only
	limits  map[string]int64
	rests   []atRest
}

// atRest is the shortest that a queue was when nobody asked anything any more.
type atRest struct {
	member *Member
	life   int
	queue  string
	least  int64
}

// Load on a simulated member is small, so what its queues may hold at a time is too, whatever their bounds for a real one: more is
// something that is forgotten.
const (
	askedMost    = 3000 // requests that clients may have under way, with those that they have given up, and entries
	askedBytes   = 3 << 20
	unwatched    = 3000 // events that wait for the watches
	atRestAfter  = 10 * time.Second
	sampledEvery = 500 * time.Millisecond
)

// sample looks at all queues now and then.
func (w *World) sample() {
	for _, m := range w.members {
		if m.up && !m.paused {
			m.enter(m.life, m.lengths)
		}
	}
	if !w.healed || !w.quiet {
		w.after(w.between(sampledEvery/2, sampledEvery), w.sample)
	}
}

// lengths notes what one member holds.
func (m *Member) lengths() {
	b := &m.w.bounds
	for _, l := range m.drive.Lengths() {
		limit := min(l.Limit, askedMost)
		if strings.HasPrefix(l.Queue, "bytes ") {
			limit = min(l.Limit, askedBytes)
		}
		b.note(m, l.Queue, l.Holds, limit)
	}
	s := m.hub.Stats()
	b.note(m, "events that are not offered to watches", int64(s.Pending), unwatched)
	b.note(m, "revisions kept for watches", int64(s.LogRevisions), int64(m.w.set.WatchLog))
	b.note(m, "bytes kept for watches", int64(s.LogBytes), limits.WatchLogBytes)
}

// note keeps the longest that a queue was.
func (b *bounds) note(m *Member, queue string, length, limit int64) {
	if b.worst == nil {
		b.worst, b.limits = map[string]int{}, map[string]int64{}
	}
	b.limits[queue] = limit
	s := check.QueueSample{At: m.w.instant(), Member: m.name, Queue: queue, Length: length}
	name := queue + "\x00" + m.name
	at, ok := b.worst[name]
	switch {
	case !ok:
		b.worst[name] = len(b.samples)
		b.samples = append(b.samples, s)
	case s.Length > b.samples[at].Length:
		b.samples[at] = s
	}
}

// rest looks at all queues when everybody was served long ago. What is under way by itself, as the end of a lease, is not there the next time.
func (w *World) rest() {
	for _, m := range w.members {
		if !m.up || m.paused {
			continue
		}
		for _, l := range m.drive.Lengths() {
			if l.Queue != "entries in memory" && l.Queue != "messages of other members" {
				w.bounds.left(m, l.Queue, l.Holds)
			}
		}
		w.bounds.left(m, "events that are not offered to watches", int64(m.hub.Stats().Pending))
		w.bounds.left(m, "open iterators", m.engine.Stats().Readers)
	}
}

// left keeps the shortest that a queue was at rest.
func (b *bounds) left(m *Member, queue string, length int64) {
	i := slices.IndexFunc(b.rests, func(r atRest) bool { return r.member == m && r.life == m.life && r.queue == queue })
	if i < 0 {
		b.rests = append(b.rests, atRest{m, m.life, queue, length})
		return
	}
	b.rests[i].least = min(b.rests[i].least, length)
}

// judgeBounds looks whether a queue was ever longer than it may be, and whether anything was left in one at rest.
func (w *World) judgeBounds() {
	b := &w.bounds
	for _, r := range b.rests {
		b.note(r.member, "at rest: "+r.queue, r.least, 0)
	}
	w.collect(check.Bounds(b.samples, b.limits))
}
