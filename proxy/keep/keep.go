package keep

import (
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/proxy/upstream"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/wire"
)

// requestsMax is how many requests of one session may wait for answers before the next one has to wait.
const requestsMax = 1024

// Pauses between attempts to open a stream to the store; the first one is made at once.
const (
	retryFirst = 20 * time.Millisecond
	retryMax   = 2 * time.Second
)

// Config is what a Hub needs.
type Config struct {
	Pool  *upstream.Pool
	Clock clock.Clock // nil is the machine's
}

// Hub serves keep-alive streams.
type Hub struct {
	cfg    Config
	counts struct{ sessions, asked, sent atomic.Int64 }

	mu     sync.Mutex
	feeds  map[string]*feed
	closed chan struct{}
	work   sync.WaitGroup
}

// New returns a Hub without streams. Close ends it.
func New(cfg Config) *Hub {
	if cfg.Clock == nil {
		cfg.Clock = clock.Real()
	}
	return &Hub{cfg: cfg, feeds: map[string]*feed{}, closed: make(chan struct{})}
}

// Close ends every stream and waits until nothing is left to be tried again.
func (h *Hub) Close() {
	h.mu.Lock()
	select {
	case <-h.closed:
	default:
		close(h.closed)
	}
	feeds := make([]*feed, 0, len(h.feeds))
	for _, f := range h.feeds {
		feeds = append(feeds, f)
	}
	h.mu.Unlock()
	for _, f := range feeds {
		f.fail(statusStopping)
	}
	h.work.Wait()
}

var statusStopping = &rpc.Status{Code: rpc.Unavailable, Message: "transport is closing"}

// Stats is what a Hub has at present and did so far.
type Stats struct {
	Streams  int64 // of clients, open
	Requests int64 // of clients
	Renewals int64 // asked of the store for them
}

// Stats may be called at any time.
func (h *Hub) Stats() Stats {
	return Stats{Streams: h.counts.sessions.Load(), Requests: h.counts.asked.Load(), Renewals: h.counts.sent.Load()}
}

// KeepAlive handles one keep-alive stream of a client, whose metadata for the store is meta: streams with equal metadata share
// what they can. It returns when the stream has ended.
func (h *Hub) KeepAlive(st *rpc.Stream, meta []lean.Field) *rpc.Status {
	s := &session{out: st, slots: make(chan struct{}, requestsMax), leases: map[int64]int{}}
	if status := h.enter(s, meta); status != nil {
		return status
	}
	defer h.leave(s)
	st.NotifyWritable(s.writable)
	for {
		msg, err := st.Recv()
		if errors.Is(err, io.EOF) {
			// The answers that are due still come.
			for range cap(s.slots) {
				if !s.slot() {
					break
				}
			}
			return nil
		}
		if err != nil {
			return ending(err)
		}
		var req wire.LeaseKeepAliveRequest
		if err := req.Unmarshal(msg); err != nil {
			return &rpc.Status{Code: rpc.Internal, Message: "grpc: error unmarshalling request: " + err.Error()}
		}
		if !s.slot() {
			return ending(st.Context().Err())
		}
		s.feed.renew(s, req.ID)
		h.counts.asked.Add(1)
	}
}

func ending(err error) *rpc.Status {
	var s *rpc.Status
	if errors.As(err, &s) {
		return s
	}
	return &rpc.Status{Code: rpc.Canceled, Message: err.Error()}
}

func (h *Hub) enter(s *session, meta []lean.Field) *rpc.Status {
	key, send := upstream.Sharing(meta)
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.closed:
		return statusStopping
	default:
	}
	f := h.feeds[key]
	if f == nil {
		header, err := lean.LeaseKeepAlive.Header(send...)
		if err != nil {
			return &rpc.Status{Code: rpc.InvalidArgument, Message: err.Error()}
		}
		f = &feed{hub: h, key: key, header: header, leases: map[int64]*lease{}, sessions: map[*session]struct{}{}}
		h.feeds[key] = f
	}
	s.feed = f
	f.mu.Lock()
	f.sessions[s] = struct{}{}
	f.mu.Unlock()
	h.counts.sessions.Add(1)
	return nil
}

func (h *Hub) leave(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts.sessions.Add(-1)
	if s.feed.leave(s) {
		delete(h.feeds, s.feed.key)
	}
}

// session is one client's stream.
type session struct {
	feed  *feed
	out   *rpc.Stream
	slots chan struct{} // a token for each request without an answer

	leases map[int64]int // requests without an answer, by lease; the feed's mutex guards it

	mu      sync.Mutex
	waiting [][]byte // answers that out had no room for
}

// slot takes a slot; false when the stream ends first.
func (s *session) slot() bool {
	select {
	case s.slots <- struct{}{}:
		return true
	default:
	}
	select {
	case s.slots <- struct{}{}:
		return true
	case <-s.out.Context().Done():
		return false
	}
}

// answer gives the client one answer for each of n requests.
func (s *session) answer(body []byte, n int) {
	s.mu.Lock()
	sent := 0
	for range n {
		if len(s.waiting) == 0 && s.out.TrySend(body, nil) {
			sent++
			continue
		}
		s.waiting = append(s.waiting, body)
	}
	s.mu.Unlock()
	s.release(sent)
}

// release gives slots back and has what was sent written.
func (s *session) release(n int) {
	if n == 0 {
		return
	}
	s.out.Flush()
	for range n {
		select {
		case <-s.slots:
		default: // the client has said its last word, and its handler takes the slots
		}
	}
}

// writable is called when out has room again.
func (s *session) writable() {
	s.mu.Lock()
	sent := 0
	for len(s.waiting) > 0 && s.out.TrySend(s.waiting[0], nil) {
		s.waiting[0] = nil
		s.waiting = s.waiting[1:]
		sent++
	}
	s.mu.Unlock()
	s.release(sent)
}

// feed is everything of the clients with equal credentials. mu guards all that changes.
type feed struct {
	hub    *Hub
	key    string
	header *lean.Header

	mu       sync.Mutex
	sessions map[*session]struct{}
	leases   map[int64]*lease
	order    []*lease // with a request under way, the oldest first
	link     *link    // nil while there is none
	tries    int      // since a link last worked
	retrying bool
}

// lease is one that somebody waits for.
type lease struct {
	id    int64
	under map[*session]int // requests that the renewal under way answers; nil: none is under way
	next  map[*session]int // those for the next one
}

// link is one stream to the store. It implements lean.Handler.
type link struct {
	feed   *feed
	conn   *upstream.Conn
	stream *lean.Stream
}

// renew has s answered about a lease.
func (f *feed) renew(s *session, id int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, here := f.sessions[s]; !here {
		return // it is ending
	}
	s.leases[id]++
	l := f.leases[id]
	if l == nil {
		l = &lease{id: id}
		f.leases[id] = l
	}
	if l.next == nil {
		l.next = map[*session]int{}
	}
	l.next[s]++
	if l.under == nil {
		f.begin(l)
	}
}

// begin starts a renewal for those who wait. mu held.
func (f *feed) begin(l *lease) {
	l.under, l.next = l.next, nil
	f.order = append(f.order, l)
	if f.link != nil {
		f.send(l)
		return
	}
	f.open()
}

// send asks the store. A failure also ends the link, which is told later. mu held.
func (f *feed) send(l *lease) {
	f.hub.counts.sent.Add(1)
	_ = f.link.stream.Send(&wire.LeaseKeepAliveRequest{ID: l.id}, false)
	f.link.conn.Kick()
}

// open opens a link and sends all that is under way; when there is no connection it tries again later. mu held.
func (f *feed) open() {
	if f.link != nil || f.retrying || len(f.order) == 0 {
		return
	}
	if conn := f.hub.cfg.Pool.Now(); conn != nil {
		l := &link{feed: f, conn: conn}
		var err error
		if l.stream, err = conn.Open(f.header, 0, lean.Free, l); err == nil {
			f.link = l
			for _, x := range f.order {
				f.send(x)
			}
			return
		}
	}
	f.tryLater()
}

// tryLater opens a link after a pause. mu held.
func (f *feed) tryLater() {
	wait := time.Duration(0)
	if f.tries > 0 {
		wait = min(retryFirst<<min(f.tries-1, 16), retryMax)
	}
	f.tries++
	f.retrying = true
	f.hub.work.Go(func() {
		t := f.hub.cfg.Clock.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-f.hub.closed:
			return
		}
		f.mu.Lock()
		f.retrying = false
		f.open()
		f.mu.Unlock()
	})
}

// Message implements lean.Handler.
func (l *link) Message(body []byte) {
	var r wire.LeaseKeepAliveResponse
	if r.Unmarshal(body) != nil {
		return // the client's own decoder would refuse it too; without an answer the store is asked again
	}
	l.feed.answered(l, r.ID, body)
}

// answered passes an answer on.
func (f *feed) answered(l *link, id int64, body []byte) {
	f.mu.Lock()
	x := f.leases[id]
	at := slices.Index(f.order, x)
	if f.link != l || x == nil || at < 0 {
		f.mu.Unlock()
		return
	}
	f.tries = 0
	if at == 0 { // as nearly always: the store answers in order
		f.order[0] = nil
		f.order = f.order[1:]
	} else {
		f.order = slices.Delete(f.order, at, at+1)
	}
	who := x.under
	x.under = nil
	for s, n := range who {
		s.settled(id, n)
	}
	if len(x.next) > 0 {
		f.begin(x)
	} else {
		delete(f.leases, id)
	}
	f.mu.Unlock()
	body = slices.Clone(body)
	for s, n := range who {
		s.answer(body, n)
	}
}

// settled forgets n requests of s. mu of the feed held.
func (s *session) settled(id int64, n int) {
	if s.leases[id] -= n; s.leases[id] <= 0 {
		delete(s.leases, id)
	}
}

// End implements lean.Handler.
func (l *link) End(err error) {
	f := l.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.link != l {
		return
	}
	f.link = nil
	var s *lean.Status
	switch {
	case !errors.As(err, &s):
		f.tryLater()
	case s.Message == fault.NoLeader.Text:
		f.end(f.sessions, upstream.StatusOf(err))
	case len(f.order) > 0:
		// The store answers in order, so this is about the oldest. The others go on.
		guilty := map[*session]struct{}{}
		for s := range f.order[0].under {
			guilty[s] = struct{}{}
		}
		f.end(guilty, upstream.StatusOf(err))
		f.open()
	}
}

// end ends sessions with a status. mu held.
func (f *feed) end(who map[*session]struct{}, st *rpc.Status) {
	for s := range who {
		f.forget(s)
		s.out.Abort(st)
	}
}

// fail ends all.
func (f *feed) fail(st *rpc.Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.end(f.sessions, st)
	f.closeLink()
}

// closeLink closes the stream to the store. mu held.
func (f *feed) closeLink() {
	if l := f.link; l != nil {
		f.link = nil
		l.stream.Cancel()
		l.conn.Kick()
	}
}

// leave takes a session out, and reports whether it was the last one.
func (f *feed) leave(s *session) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forget(s)
	if len(f.sessions) > 0 {
		return false
	}
	f.closeLink()
	return true
}

// forget drops all that s waits for. A renewal that was sent runs its course; one that was not is not needed. mu held.
func (f *feed) forget(s *session) {
	delete(f.sessions, s)
	for id := range s.leases {
		l := f.leases[id]
		delete(l.under, s)
		delete(l.next, s)
		if f.link == nil && len(l.under) == 0 && len(l.next) == 0 {
			delete(f.leases, id)
			f.order = slices.DeleteFunc(f.order, func(x *lease) bool { return x == l })
		}
	}
	clear(s.leases)
}
