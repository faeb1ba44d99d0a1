package peer

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/ids"
)

// stream is one of the two kinds of streams between two members.
type stream int

const (
	appends stream = iota // appends of entries
	others                // everything else but snapshots
	streams               // how many kinds there are
)

func (s stream) String() string { return [streams]string{"msgapp", "message"}[s] }

func (s stream) encoder() encoder {
	if s == appends {
		return &appendEncoder{}
	}
	return plainEncoder{}
}

// remote is another member, as this one sees it.
type remote struct {
	t     *Transport
	id    ids.MemberID
	out   [streams]*outbox
	posts chan *raftpb.Message // to be sent by POST
	ctx   context.Context      // ends when the member is removed or the transport closed
	end   context.CancelFunc
	done  sync.WaitGroup // readers and posters

	fetched atomic.Int64 // when the member last took a part of a snapshot, in nanoseconds
	tally   tally

	mu    sync.Mutex
	urls  []string
	at    int       // the URL that is in use
	links int       // streams that work
	since time.Time // the time since which one or more work
}

// Bounds of what goes by POST (source: etcd's rafthttp).
const (
	posters   = 4
	postQueue = 64
)

func newRemote(t *Transport, id ids.MemberID, urls []string) *remote {
	r := &remote{t: t, id: id, urls: slices.Clone(urls), posts: make(chan *raftpb.Message, postQueue)}
	r.ctx, r.end = context.WithCancel(context.Background())
	for s := range r.out {
		r.out[s] = newOutbox()
		r.done.Go(func() { r.read(stream(s)) })
	}
	for range posters {
		r.done.Go(r.post)
	}
	r.done.Go(r.probe)
	return r
}

// send puts a message on its way or drops it and says so.
func (r *remote) send(m *raftpb.Message) {
	s := others
	switch m.GetType() {
	case raftpb.MsgApp:
		s = appends
	case raftpb.MsgSnap: // SendSnapshot is for these
		r.t.cfg.Receiver.Unreachable(r.id)
		return
	}
	if r.out[s].served() {
		if !r.out[s].put(m) {
			r.t.count(&r.t.counts.dropped)
			r.t.cfg.Receiver.Unreachable(r.id)
		}
		return
	}
	select {
	case r.posts <- m:
	default:
		r.t.count(&r.t.counts.dropped)
		r.t.cfg.Receiver.Unreachable(r.id)
	}
}

// url is the address in use.
func (r *remote) url() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.urls) == 0 {
		return ""
	}
	return r.urls[r.at%len(r.urls)]
}

// avoid goes on to the next address after one failed.
func (r *remote) avoid(url string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.urls) > 0 && r.urls[r.at%len(r.urls)] == url {
		r.at++
	}
}

func (r *remote) update(urls []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.urls, r.at = slices.Clone(urls), 0
}

// linked counts a stream that has begun to work; the returned function counts its end.
func (r *remote) linked() (unlinked func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.links++; r.links == 1 {
		r.since = r.t.cfg.Clock.Now()
		r.t.logger.Info("peer became active", zapPeer(r.id))
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.links--; r.links == 0 {
			r.since = time.Time{}
			r.tally.disconnects.Add(1)
			r.t.logger.Info("peer became inactive", zapPeer(r.id))
		}
	}
}

func (r *remote) activeSince() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.since
}

// pause waits for d, give or take a quarter so that members do not knock in step, and reports whether the member is still
// wanted.
func (r *remote) pause(d time.Duration) bool {
	t := r.t.cfg.Clock.NewTimer(d*3/4 + rand.N(d/2+1))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.ctx.Done():
		return false
	}
}

// close ends everything that concerns the member. It waits.
func (r *remote) close() {
	r.end()
	for _, o := range r.out {
		o.close()
	}
	r.done.Wait()
}
