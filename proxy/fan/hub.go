package fan

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/proxy/upstream"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/wire"
)

// Config is what a Hub needs.
type Config struct {
	Pool  *upstream.Pool
	Clock clock.Clock // nil is the machine's
	// Namespace is put before every key towards the store and taken away from every key on the way back; nil for nothing.
	Namespace []byte
	// FragmentBytes is the size from which on a response is split for clients that want that; 0 is the store's default.
	FragmentBytes int
	// LogBytes bounds the log of one group, bytes; 0 is 8 MiB.
	LogBytes int
}

// Hub serves watch streams.
type Hub struct {
	cfg    Config
	groups atomic.Int64 // of all feeds: they share the room for logs
	counts counters

	mu     sync.Mutex
	feeds  map[string]*feed
	closed bool
	work   sync.WaitGroup
}

// New returns a Hub without streams. Close ends it.
func New(cfg Config) *Hub {
	if cfg.Clock == nil {
		cfg.Clock = clock.Real()
	}
	cfg.FragmentBytes = cmp.Or(cfg.FragmentBytes, limits.RequestBytes+limits.RequestOverheadBytes)
	cfg.LogBytes = cmp.Or(cfg.LogBytes, logBytesMax)
	return &Hub{cfg: cfg, feeds: map[string]*feed{}}
}

// Close ends every stream and waits for the feeds.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true
	feeds := make([]*feed, 0, len(h.feeds))
	for _, f := range h.feeds {
		feeds = append(feeds, f)
	}
	h.mu.Unlock()
	for _, f := range feeds {
		f.mail.post(letter{kind: letterStop})
	}
	h.work.Wait()
}

// logBytes is how much each group may keep at present.
func (h *Hub) logBytes() int {
	return min(h.cfg.LogBytes, max(logBytesMin, logBytesAll/int(max(1, h.groups.Load()))))
}

// statusStopping is what clients get when the proxy ends.
var statusStopping = &rpc.Status{Code: rpc.Unavailable, Message: "transport is closing"}

// Watch handles one watch stream of a client, whose metadata for the store is meta: streams with equal metadata share what
// they can. It returns when the stream has ended.
func (h *Hub) Watch(st *rpc.Stream, meta []lean.Field) *rpc.Status {
	f, status := h.enter(meta)
	if status != nil {
		return status
	}
	defer h.leave(f)
	s := newSession(f, st)
	st.NotifyWritable(func() { f.mail.post(letter{kind: letterWritable, session: s}) })
	f.mail.post(letter{kind: letterJoin, session: s})
	defer f.mail.post(letter{kind: letterLeave, session: s})
	for {
		msg, err := st.Recv()
		if errors.Is(err, io.EOF) {
			// When the client has said its last word the stream goes on until it is cancelled, as the store's does.
			<-st.Context().Done()
			err = st.Context().Err()
		}
		if err != nil {
			return ending(err)
		}
		r := &request{}
		if err := r.Unmarshal(msg); err != nil {
			return &rpc.Status{Code: rpc.Internal, Message: "grpc: error unmarshalling request: " + err.Error()}
		}
		if r.Create == nil && r.Cancel == nil && !r.Progress {
			continue
		}
		select {
		case s.slots <- struct{}{}:
		case <-st.Context().Done():
			return ending(st.Context().Err())
		}
		f.mail.post(letter{kind: letterRequest, session: s, request: r})
	}
}

// ending is the status of a stream whose Recv failed.
func ending(err error) *rpc.Status {
	var s *rpc.Status
	if errors.As(err, &s) && s.Code != rpc.Canceled {
		return s
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &rpc.Status{Code: rpc.DeadlineExceeded, Message: err.Error()}
	}
	return &rpc.Status{Code: rpc.Code(fault.WatchCanceled.Code), Message: fault.WatchCanceled.Text}
}

// enter returns the feed of these credentials, which lives until the last stream that entered leaves it.
func (h *Hub) enter(meta []lean.Field) (*feed, *rpc.Status) {
	key, send := upstream.Sharing(meta)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, statusStopping
	}
	f := h.feeds[key]
	if f == nil {
		header, err := lean.Watch.Header(send...)
		if err != nil {
			return nil, &rpc.Status{Code: rpc.InvalidArgument, Message: err.Error()}
		}
		f = newFeed(h, key, header)
		h.feeds[key] = f
		h.work.Go(f.run)
	}
	f.users++
	return f, nil
}

func (h *Hub) leave(f *feed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f.users--; f.users == 0 {
		delete(h.feeds, f.key)
		f.mail.post(letter{kind: letterStop})
	}
}

// counters count what a Hub did and has.
type counters struct {
	sessions, watchers, alone, upstream atomic.Int64
	received, delivered, responses      atomic.Int64
	probes, lost, logged, held          atomic.Int64
}

// Stats is what a Hub has at present and did so far.
type Stats struct {
	Streams  int64 // of clients, open
	Watchers int64 // of clients
	Groups   int64 // of watchers that share a watch of the store
	Alone    int64 // watchers that have a watch of the store for themselves for now
	Upstream int64 // streams to the store, open
	Logged   int64 // bytes in the groups' logs
	Held     int64 // bytes that the store sent for lone watchers whose clients do not read

	EventsReceived  int64 // from the store, for groups and for lone watchers
	EventsDelivered int64 // to clients
	Responses       int64 // that carried them
	Probes          int64 // watches made and cancelled to ask the store about new watchers
	Resumed         int64 // times an upstream stream was lost
}

// Stats may be called at any time.
func (h *Hub) Stats() Stats {
	c := &h.counts
	return Stats{Streams: c.sessions.Load(), Watchers: c.watchers.Load(), Groups: h.groups.Load(), Alone: c.alone.Load(), Upstream: c.upstream.Load(),
		Logged: c.logged.Load(), Held: c.held.Load(), EventsReceived: c.received.Load(), EventsDelivered: c.delivered.Load(), Responses: c.responses.Load(),
		Probes: c.probes.Load(), Resumed: c.lost.Load()}
}

// request is one request of a client, and what has become known for its reply.
type request struct {
	wire.WatchRequest
	session *session
	group   *group // of a create
	arrived int64  // what the group had when the request came

	// Of a create that may be settled:
	ready   bool
	header  wire.Header
	refusal string // "" when the store allows it
	dropped bool   // its session has gone
}
