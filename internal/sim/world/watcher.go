package world

import (
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/internal/check"
	"quorate.dev/quorate/watch"
	"quorate.dev/quorate/wire"
)

// watcher watches, loses its stream now and then, resumes it, and writes down what it gets.
type watcher struct {
	w        *World
	name     string
	key, end string
	prev     bool

	covered int64 // everything up to here has arrived
	watches []check.Watch
	session int // counts streams; what comes on an earlier one is void
	stream  *watch.Stream
	heard   time.Duration
	via     *Member                           // of the stream
	life    int                               // of via
	heed    func(*etcdserverpb.WatchResponse) // besides; nil: nobody does
}

// begin starts another watch, from a revision on.
func (x *watcher) begin(from int64) {
	x.watches = append(x.watches, check.Watch{Name: fmt.Sprintf("%s#%d", x.name, len(x.watches)+1), Key: x.key, End: x.end, Prev: x.prev})
	x.covered = from - 1
}

// connect opens a stream at a member that can be reached, and tries again if there is none.
func (x *watcher) connect() {
	w := x.w
	x.session++
	session := x.session
	m := w.members[w.rng.IntN(len(w.members))]
	d, ok := w.net.passes(0, m.ID)
	if !ok || !m.serves(false) {
		w.after(w.between(time.Millisecond, 100*time.Millisecond), func() { x.again(session) })
		return
	}
	life := m.life
	w.after(d, func() {
		if !m.up || m.life != life {
			x.again(session)
			return
		}
		m.enter(life, func() { x.open(m, life, session) })
	})
	x.heard = w.now
	x.lookAfter(m, life, session)
}

// again reconnects, unless that has happened already.
func (x *watcher) again(session int) {
	if x.session == session {
		x.connect()
	}
}

// lookAfter ends a stream whose member is gone or silent, and some others.
func (x *watcher) lookAfter(m *Member, life, session int) {
	w := x.w
	w.after(w.between(2*w.set.Tick, 8*w.set.Tick), func() {
		if x.session != session {
			return
		}
		dead := !m.up || m.life != life || w.now-x.heard > 40*w.set.Tick || !w.quiet && w.chance(40)
		if !dead {
			m.enter(life, func() {
				if x.session == session && x.stream != nil {
					x.stream.Progress()
				}
			})
			x.lookAfter(m, life, session)
			return
		}
		if stream := x.stream; stream != nil && m.up && m.life == life {
			m.enter(life, stream.Close)
		}
		x.connect()
	})
}

// open creates the watch on a stream of its own.
func (x *watcher) open(m *Member, life, session int) {
	if x.session != session {
		return
	}
	from := x.covered + 1
	current := &x.watches[len(x.watches)-1]
	current.Sessions = append(current.Sessions, check.Session{Via: m.name, From: from})
	x.via, x.life = m, life
	x.stream = m.hub.Open(&sink{x: x, m: m, life: life, session: session})
	req := &wire.WatchCreateRequest{Key: []byte(x.key), RangeEnd: []byte(x.end), StartRevision: from, ProgressNotify: true, PrevKV: x.prev, Fragment: true}
	x.stream.Create(req, "")
}

// receiver takes the messages of a stream.
type receiver interface {
	// receive takes a message of the stream of that number; it ignores those of an earlier stream than its own.
	receive(session int, message []byte)
}

// sink is a stream's way to the client: messages arrive in order, as long as the connection holds.
type sink struct {
	x       receiver
	m       *Member
	life    int
	session int
	last    time.Duration // when the newest message arrives
	full    bool
	dead    bool
	room    func()
}

// TrySend implements watch.Sink.
func (s *sink) TrySend(head, body []byte) bool {
	w := s.m.w
	if s.full {
		return false
	}
	if w.chance(50) { // the client is slow
		s.full = true
		w.after(w.upTo(300*time.Millisecond), func() {
			s.m.enter(s.life, func() {
				if s.full = false; s.room != nil {
					s.room()
				}
			})
		})
		return false
	}
	message := append(append([]byte(nil), head...), body...)
	d, _ := w.net.passes(s.m.ID, 0) // what is lost under way is sent again below us
	if s.dead = s.dead || w.net.cut[link{s.m.ID, 0}]; s.dead {
		return true // the connection takes it and breaks: nothing that is sent later arrives either
	}
	s.last = max(w.now+d, s.last+1)
	w.after(s.last-w.now, func() { s.x.receive(s.session, message) })
	return true
}

// Flush implements watch.Sink.
func (s *sink) Flush() {}

// NotifyWritable implements watch.Sink.
func (s *sink) NotifyWritable(fn func()) { s.room = fn }

// Fail implements watch.Sink: the connection breaks.
func (s *sink) Fail(err error) {
	s.dead = true
	s.m.w.trace.note(s.m.name, "ends a stream: %v", err)
}

// receive writes a message down.
func (x *watcher) receive(session int, message []byte) {
	if x.session != session {
		return
	}
	x.heard = x.w.now
	resp := &etcdserverpb.WatchResponse{}
	if err := proto.Unmarshal(message, resp); err != nil {
		x.w.broken("a watch's answer cannot be decoded: %v", err)
		return
	}
	if x.heed != nil {
		x.heed(resp)
	}
	sessions := x.watches[len(x.watches)-1].Sessions
	s := &sessions[len(sessions)-1]
	switch {
	case resp.CompactRevision > 0:
		x.begin(resp.CompactRevision)
		x.connect()
	case resp.Canceled:
		x.connect()
	case resp.Created:
		s.Created = resp.Header.GetRevision()
	case len(resp.Events) == 0:
		s.Batches = append(s.Batches, check.Batch{Revision: resp.Header.GetRevision(), Progress: true})
		x.covered = max(x.covered, resp.Header.GetRevision())
	default:
		b := batchOf(resp)
		s.Batches = append(s.Batches, b)
		last := b.Events[len(b.Events)-1].Revision
		if resp.Fragment {
			last-- // the rest of it is still to come
		}
		x.covered = max(x.covered, last)
	}
}

// batchOf is an answer with events.
func batchOf(resp *etcdserverpb.WatchResponse) check.Batch {
	b := check.Batch{Revision: resp.Header.GetRevision(), Fragment: resp.Fragment}
	for _, e := range resp.Events {
		event := check.Event{Revision: e.Kv.ModRevision, Delete: e.Type == mvccpb.Event_DELETE, KV: kvOf(e.Kv)}
		if event.Delete {
			event.KV = check.KV{Key: string(e.Kv.Key), Mod: e.Kv.ModRevision}
		}
		if e.PrevKv != nil {
			prev := kvOf(e.PrevKv)
			event.Prev = &prev
		}
		b.Events = append(b.Events, event)
	}
	return b
}
