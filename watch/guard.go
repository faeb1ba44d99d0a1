package watch

import (
	"maps"
	"slices"

	"quorate.dev/quorate/wire"
)

// Guard says whether the client of a stream may watch some keys at this moment. It is asked with the hub locked, from any
// goroutine, and must neither wait nor call the hub. A watcher that it refuses is cancelled, so that it is asked no more.
type Guard interface {
	// Refusal is why the client may not watch the keys from key up to end, both as in a create request; "" when it may.
	Refusal(key, end []byte) string
}

// OpenGuarded is Open for a stream whose watchers need permission. The guard is asked when a watcher is created, and
// about all of them at every Recheck.
func (h *Hub) OpenGuarded(sink Sink, g Guard) *Stream {
	s := h.Open(sink)
	h.mu.Lock()
	s.guard = g
	h.mu.Unlock()
	return s
}

// Recheck asks the guards about every watcher again, and cancels those that are refused, with the reason. Who calls it
// after the guards answer by the new rules and before it publishes the events that happened under them can be sure that
// no watcher shows an event that its client was not permitted to see when it happened.
func (h *Hub) Recheck() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for e := h.streams.Front(); e != nil; e = e.Next() {
		s := e.Value.(*Stream)
		if s.guard == nil {
			continue
		}
		for _, w := range slices.SortedFunc(maps.Values(s.watchers), byID) {
			if w.drop != nil {
				continue
			}
			switch why := s.refusal(w.span); {
			case why == "":
			case w.state == stateWorking:
				w.drop = &why // as in Cancel
			default:
				h.confirmCancel(w, why)
			}
		}
	}
}

// refusal is why the stream's client may not watch the interval.
func (s *Stream) refusal(of span) string {
	if s.guard == nil {
		return ""
	}
	return s.guard.Refusal([]byte(of.key), of.wireEnd())
}

// deniedBy adds what the guard says about a create request to what its caller says.
func (s *Stream) deniedBy(req *wire.WatchCreateRequest, denied string) string {
	if denied == "" && s.guard != nil {
		denied = s.guard.Refusal(req.Key, req.RangeEnd)
	}
	return denied
}
