package watch

import (
	"cmp"
	"slices"

	"quorate.dev/quorate/ids"
)

// Behind is a watcher that is behind.
type Behind struct {
	Sink     Sink // of its stream
	Key, End []byte
	Lag      ids.Revision // revisions that it has not been offered
	Full     bool         // its stream does not take what was sent
}

// Crowd is how many watchers a stream has.
type Crowd struct {
	Sink     Sink
	Watchers int
}

// Look lists the watchers farthest behind, at most so many, and the streams. It looks at no more than seen of either, so that
// deliveries do not wait long.
func (h *Hub) Look(most, seen int) (behind []Behind, streams []Crowd) {
	h.mu.Lock()
	for e := h.streams.Front(); e != nil && len(streams) < seen; e = e.Next() {
		s := e.Value.(*Stream)
		streams = append(streams, Crowd{s.sink, len(s.watchers)})
		if s.lagging == 0 {
			continue
		}
		for _, w := range s.watchers {
			if w.state == stateLive || w.state == stateClosed {
				continue
			}
			if len(behind) >= seen {
				break
			}
			behind = append(behind, Behind{Sink: s.sink, Key: []byte(w.span.key), End: w.span.wireEnd(), Lag: max(0, h.log.last+1-w.next), Full: w.state == stateBlocked})
		}
	}
	h.mu.Unlock()
	slices.SortFunc(behind, func(a, b Behind) int { return cmp.Or(cmp.Compare(b.Lag, a.Lag), slices.Compare(a.Key, b.Key)) })
	return behind[:min(len(behind), most)], streams
}

// wireEnd is the end of the interval as a create request says it.
func (s span) wireEnd() []byte {
	switch {
	case s.open:
		return []byte{0}
	case !s.single:
		return []byte(s.end)
	}
	return nil
}
