package fan

import (
	"bytes"

	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/wire"
)

// Reasons of refusals that the proxy gives itself, because ids and negative revisions are between it and its client. They are
// those of the store (source: etcd v3.7 server/storage/mvcc/watcher.go and api/v3rpc/watch.go).
const (
	reasonDuplicateID = "mvcc: duplicate watch ID provided on the WatchStream"
	reasonNegative    = "etcdserver: mvcc: required revision has been compacted"
	reasonTooMany     = "etcdserver: too many watchers on the stream"
)

// session is one client's watch stream: its watchers, its requests, and what waits to be sent to it. All but out and slots
// belongs to the feed.
type session struct {
	feed  *feed
	out   *rpc.Stream
	slots chan struct{} // a token for each request that is not settled

	queue    []*request // not settled, in order
	watchers map[int64]*watcher
	nextID   int64
	behind   []*watcher // to be moved on from the log as the stream has room; some may be something else by now
	alone    *alone     // its link of its own; nil when it has none
	lagging  int        // watchers that are behind or alone
	replies  [][]byte   // wait for room in out, before anything else
	owed     int64      // the revision of a progress answer that is due as soon as everything up to it is handed over; 0: none

	sessionMarks
}

// sessionMarks say in which state a session is and in which lists.
type sessionMarks struct {
	closed    bool
	blocked   bool // out refused: nothing is sent before it says that it has room
	asking    bool // in ask.sent or ask.next
	touched   bool // in work.touched
	settling  bool // in work.settle
	advancing bool // in work.advance
}

func newSession(f *feed, out *rpc.Stream) *session {
	return &session{feed: f, out: out, slots: make(chan struct{}, requestsMax), watchers: map[int64]*watcher{}}
}

// accept takes a request: what it needs of the store is asked for at once, and it is settled in its turn.
func (f *feed) accept(s *session, r *request) {
	if s.closed {
		return
	}
	r.session = s
	s.queue = append(s.queue, r)
	if r.Create != nil {
		f.groupOf(keyOf(r.Create)).join(r)
	}
	if len(s.queue) == 1 {
		f.settle(s)
	}
}

// forget takes back a request that was not settled.
func (s *session) forget(r *request) {
	r.dropped = true
	if r.group != nil {
		r.group.leave()
	}
}

// settle has s look at its first request soon.
func (f *feed) settle(s *session) {
	if !s.settling && !s.closed {
		s.settling = true
		f.work.settle = append(f.work.settle, s)
	}
}

// settle replies to requests, in order, as far as that can be done now.
func (s *session) settle() {
	for len(s.queue) > 0 && len(s.replies) < repliesMax && !s.closed {
		r := s.queue[0]
		switch {
		case r.Create != nil && !r.ready:
			return
		case r.Create != nil && r.refusal == "" && r.group.state == groupOver:
			r.ready = false
			s.feed.groupOf(r.group.key).join(r)
			return
		case r.Create != nil && r.refusal == "" && r.group.state == groupNew:
			r.group.queue.settle = append(r.group.queue.settle, s)
			return
		}
		s.queue[0] = nil
		s.queue = s.queue[1:]
		<-s.slots
		switch {
		case r.Create != nil:
			s.create(r)
		case r.Cancel != nil:
			if w := s.watchers[*r.Cancel]; w != nil {
				s.cancelled(w, &wire.WatchResponse{Header: s.feed.now(w.group)})
			}
		case r.Progress:
			s.feed.askFor(s)
		}
	}
}

// now is the header of a reply that the store has no part in. It is not older than what a client was told before.
func (f *feed) now(g *group) wire.Header {
	h := f.ask.header
	h.Revision = max(h.Revision, g.upTo, f.ask.told)
	return h
}

// create makes a watcher, or refuses.
func (s *session) create(r *request) {
	g, c := r.group, r.Create
	why := r.refusal
	_, taken := s.watchers[c.WatchID]
	switch {
	case c.StartRevision < 0:
		why = reasonNegative
	case why != "":
	case taken && c.WatchID != limits.WatchIDAuto:
		why = reasonDuplicateID
	case len(s.watchers) >= watchersMax:
		why = reasonTooMany
	}
	if why != "" {
		s.reply(&wire.WatchResponse{Header: r.header, WatchID: limits.WatchIDInvalid, Created: true, Canceled: true, CancelReason: why})
		g.leave()
		return
	}
	w := &watcher{session: s, id: s.chooseID(c.WatchID), progress: c.ProgressNotify, fragment: c.Fragment, next: c.StartRevision}
	if w.next == 0 {
		w.next = r.header.Revision + 1
	}
	w.start = w.next
	w.field = appendWatchID(nil, w.id)
	s.watchers[w.id] = w
	s.feed.hub.counts.watchers.Add(1)
	g.add(w)
	g.leave() // as a request
	s.reply(&wire.WatchResponse{Header: r.header, WatchID: w.id, Created: true})
	w.place()
}

// chooseID returns the wanted id, or the next free one.
func (s *session) chooseID(want int64) int64 {
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

// cancelled retires a watcher and tells the client with the words of r.
func (s *session) cancelled(w *watcher, r *wire.WatchResponse) {
	w.retire()
	delete(s.watchers, w.id)
	s.reply(&wire.WatchResponse{Header: r.Header, WatchID: w.id, Canceled: true, CompactRevision: r.CompactRevision, CancelReason: r.CancelReason})
	s.pay()
}

// reply sends a message that must not be lost, now or before anything else when there is room.
func (s *session) reply(r *wire.WatchResponse) {
	f := s.feed
	f.head = r.Append(f.head[:0])
	if !s.send(f.head, nil) {
		s.replies = append(s.replies, bytes.Clone(f.head))
	}
}

// send gives a message to the stream. When that has no room, it is not asked again before it says that it has.
func (s *session) send(head, body []byte) bool {
	if s.blocked || s.closed {
		return false
	}
	if !s.out.TrySend(head, body) {
		s.blocked = true
		return false
	}
	if !s.touched {
		s.touched = true
		s.feed.work.touched = append(s.feed.work.touched, s)
	}
	return true
}

// writable is called when the stream has room again.
func (s *session) writable() {
	s.blocked = false
	for len(s.replies) > 0 {
		if !s.send(s.replies[0], nil) {
			return
		}
		s.replies[0] = nil
		s.replies = s.replies[1:]
	}
	s.replies = nil
	if s.alone != nil {
		s.alone.goOn()
	}
	s.advanceSoon()
	s.feed.settle(s)
	s.pay()
}

func (s *session) advanceSoon() {
	if !s.advancing && !s.closed {
		s.advancing = true
		s.feed.work.advance = append(s.feed.work.advance, s)
	}
}

// fallBehind has w moved on by itself from now on.
func (s *session) fallBehind(w *watcher) {
	w.setState(watcherBehind)
	s.behind = append(s.behind, w)
	s.advanceSoon()
}

// advance moves the watchers that are behind on, as far as the stream has room.
func (s *session) advance() {
	for len(s.behind) > 0 && !s.blocked && !s.closed {
		w := s.behind[0]
		if w.state == watcherBehind && !w.catchUp() {
			return
		}
		s.behind[0] = nil
		s.behind = s.behind[1:]
	}
	if len(s.behind) == 0 {
		s.behind = nil
	}
	s.pay()
}
