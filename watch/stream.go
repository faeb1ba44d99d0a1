package watch

import (
	"bytes"
	"container/list"
	"maps"
	"slices"
	"sync"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/wire"
)

// repliesMax is how many replies to requests may wait for a full stream before the stream's next request has to wait.
const repliesMax = 1024

// Reasons of a refused create request (source: etcd v3.7 server/storage/mvcc/watcher.go and api/v3rpc/watch.go).
const (
	reasonEmptyRange  = "mvcc: watcher range is empty"
	reasonDuplicateID = "mvcc: duplicate watch ID provided on the WatchStream"
	reasonNegative    = "etcdserver: mvcc: required revision has been compacted"
	reasonTooMany     = "etcdserver: too many watchers on the stream"
)

// Stream is one client's watch stream: its watchers and its sink. Its methods are for the goroutine that reads the
// client's requests, except that Close may be called from any.
type Stream struct {
	hub  *Hub
	sink Sink

	// Guarded by hub.mu.
	guard    Guard         // nil: everything may be watched
	place    *list.Element // in hub.streams
	watchers map[int64]*watcher
	nextID   int64
	blocked  []*watcher // wait for the sink
	lagging  int        // watchers that are not live
	wakes    uint64     // how often the sink said it has room
	owed     bool       // a progress request waits for lagging to reach 0
	touched  bool       // in hub.round.touched
	closed   bool

	replies struct { // messages that must not be lost or overtaken by events
		sync.Mutex
		waiting [][]byte
		room    *sync.Cond
		closed  bool
	}
}

// Open starts a stream that writes to sink.
func (h *Hub) Open(sink Sink) *Stream {
	s := &Stream{hub: h, sink: sink, watchers: map[int64]*watcher{}}
	s.replies.room = sync.NewCond(&s.replies)
	h.mu.Lock()
	s.place = h.streams.PushBack(s)
	h.mu.Unlock()
	sink.NotifyWritable(s.writable)
	return s
}

// Close ends the stream and all its watchers.
func (s *Stream) Close() {
	h := s.hub
	h.mu.Lock()
	if !s.closed {
		s.closed = true
		for _, w := range slices.SortedFunc(maps.Values(s.watchers), byID) {
			h.retire(w) // in this order, as it decides the order of those that stay in the index
		}
		s.watchers, s.blocked = nil, nil
		h.streams.Remove(s.place)
	}
	h.mu.Unlock()
	s.replies.Lock()
	s.replies.closed = true
	s.replies.room.Broadcast()
	s.replies.Unlock()
}

// Create adds a watcher and replies to the request. denied, when not empty, is the reason why this client may not watch
// these keys. It waits while the stream is Crowded, so a client that does not read cannot make the queue grow; with
// Config.Driven, where nobody else could make room, the caller has to see to that.
func (s *Stream) Create(req *wire.WatchCreateRequest, denied string) {
	h := s.hub
	h.mu.Lock()
	if !s.closed {
		h.drain()
		s.create(req, denied)
	}
	h.mu.Unlock()

	s.replies.Lock()
	for s.crowded() && !h.cfg.Driven {
		s.replies.room.Wait()
	}
	s.replies.Unlock()
}

// Crowded reports whether so many replies wait for room in the sink that the client's next request has to wait.
func (s *Stream) Crowded() bool {
	s.replies.Lock()
	defer s.replies.Unlock()
	return s.crowded()
}

// crowded is Crowded with replies held.
func (s *Stream) crowded() bool { return len(s.replies.waiting) > repliesMax && !s.replies.closed }

// create is Create with hub.mu held and the log up to date.
func (s *Stream) create(req *wire.WatchCreateRequest, denied string) {
	h := s.hub
	span, nonEmpty := spanOf(req.Key, req.RangeEnd)
	denied = s.deniedBy(req, denied)
	_, taken := s.watchers[req.WatchID]
	switch {
	case req.StartRevision < 0:
		denied = reasonNegative
	case denied != "":
	case !nonEmpty:
		denied = reasonEmptyRange
	case taken && req.WatchID != limits.WatchIDAuto:
		denied = reasonDuplicateID
	case len(s.watchers) >= limits.WatchersPerStream:
		denied = reasonTooMany
	}
	head := h.header(h.log.last)
	if denied != "" {
		s.offer(&wire.WatchResponse{Header: head, WatchID: limits.WatchIDInvalid, Created: true, Canceled: true, CancelReason: denied})
		return
	}
	w := &watcher{
		stream: s, id: s.chooseID(req.WatchID), span: span,
		prevKV: req.PrevKV, fragment: req.Fragment, progress: req.ProgressNotify, quiet: true,
		next: ids.Revision(req.StartRevision), state: stateClosed,
	}
	for _, f := range req.Filters {
		w.noPut = w.noPut || f == wire.FilterNoPut
		w.noDelete = w.noDelete || f == wire.FilterNoDelete
	}
	s.offer(&wire.WatchResponse{Header: head, WatchID: w.id, Created: true})
	compacted := h.cfg.View().Compacted()
	if canary.On(canary.FutureIgnored) {
		w.next = min(w.next, h.log.last+1)
	}
	if w.next > 0 && w.next < compacted && !canary.On(canary.DeleteLost) {
		s.cancelCompacted(w.id, compacted)
		return
	}
	w.prevAbove = compacted
	s.watchers[w.id] = w
	h.counts.Watchers++
	if w.next == 0 {
		w.next = h.log.last + 1
	}
	if w.next > h.log.last {
		h.setLive(w)
		return
	}
	h.setBehind(w, stateQueued)
}

// chooseID returns the wanted id, or the next free one.
func (s *Stream) chooseID(want int64) int64 {
	if want != limits.WatchIDAuto {
		return want
	}
	for {
		id := s.nextID
		s.nextID++
		if _, taken := s.watchers[id]; !taken {
			return id
		}
	}
}

// Cancel removes a watcher and confirms it; an unknown id is ignored.
func (s *Stream) Cancel(id int64) {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	w := s.watchers[id]
	if w == nil {
		return
	}
	h.drain()
	if w.state == stateWorking {
		// The worker may be sending right now: it confirms when it is done, so that no event follows the confirmation.
		if w.drop == nil {
			w.drop = new(string)
		}
		return
	}
	h.confirmCancel(w, "")
}

// confirmCancel retires w and tells the client; why is "" unless the client may not watch those keys any more.
func (h *Hub) confirmCancel(w *watcher, why string) {
	s := w.stream
	h.retire(w)
	delete(s.watchers, w.id)
	s.offer(&wire.WatchResponse{Header: h.header(h.log.last), WatchID: w.id, Canceled: true, CancelReason: why})
	h.payProgress(s)
}

// Progress answers with one message for the whole stream, with the revision up to which everything was handed to it. It
// is dropped when there is no watcher or one that starts in the future; while a watcher is behind, the answer is sent as
// soon as it has caught up.
func (s *Stream) Progress() {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.closed {
		return
	}
	h.drain()
	s.owed = true
	h.payProgress(s)
}

// payProgress sends an owed progress message if it is due now.
func (h *Hub) payProgress(s *Stream) {
	if !s.owed || s.lagging > 0 {
		return
	}
	s.owed = false
	for _, w := range s.watchers {
		if !h.synced(w) {
			return // starts in the future
		}
	}
	if len(s.watchers) > 0 {
		s.offer(&wire.WatchResponse{Header: h.header(h.log.last), WatchID: limits.WatchIDInvalid})
	}
}

// cancelCompacted tells the client that the revisions its watcher wants are gone. As etcd does, the header carries no
// revision and there is no reason text.
func (s *Stream) cancelCompacted(id int64, compacted ids.Revision) {
	s.offer(&wire.WatchResponse{
		Header: s.hub.header(0), WatchID: id, Canceled: true, CompactRevision: int64(compacted),
	})
}

// offer queues a reply; it is sent before any later event of the stream.
func (s *Stream) offer(r *wire.WatchResponse) {
	s.queue(r.Append(nil))
	s.sink.Flush()
}

// queue queues one message, which it copies, now or as soon as the sink has room.
func (s *Stream) queue(msg []byte) {
	s.replies.Lock()
	defer s.replies.Unlock()
	if s.flush() && s.sink.TrySend(msg, nil) {
		return
	}
	s.replies.waiting = append(s.replies.waiting, bytes.Clone(msg))
}

// trySend queues one response with events unless replies wait or the sink is full. The caller flushes the sink.
func (s *Stream) trySend(head, body []byte) bool {
	s.replies.Lock()
	defer s.replies.Unlock()
	return s.flush() && s.sink.TrySend(head, body)
}

// flush queues the waiting replies; false when some are left. Called with replies held.
func (s *Stream) flush() bool {
	for len(s.replies.waiting) > 0 {
		if !s.sink.TrySend(s.replies.waiting[0], nil) {
			return false
		}
		s.replies.waiting[0] = nil
		s.replies.waiting = s.replies.waiting[1:]
	}
	return true
}

// writable is called by the sink when it has room again.
func (s *Stream) writable() {
	s.replies.Lock()
	empty := s.flush()
	s.replies.room.Broadcast()
	s.replies.Unlock()
	s.sink.Flush()
	if !empty {
		return // the sink refused again and will call again
	}
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	s.wakes++
	for _, w := range s.blocked {
		if w.state == stateBlocked {
			h.enqueue(w)
		}
	}
	s.blocked = s.blocked[:0]
}
