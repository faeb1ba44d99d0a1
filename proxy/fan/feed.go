package fan

import (
	"time"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/wire"
)

// The store's statuses that a feed understands.
var (
	noLeader  = fault.NoLeader.Text
	onLearner = fault.NotSupportedForLearner.Text
)

// feed is everything of the clients with equal credentials. Its goroutine owns all but mail, and users, which is the Hub's.
type feed struct {
	hub    *Hub
	key    string
	header *lean.Header
	users  int
	mail   mailbox

	sessions map[*session]struct{}
	groups   map[groupKey]*group
	shared   port // of the groups' watches
	probes   port // of the probes
	ask      asking
	work     work
	alarm    alarm
	arrived
	over bool
}

// arrived is the message at hand.
type arrived struct {
	reply    wire.WatchResponse
	head     []byte // of the response
	headSize int    // of its header field
}

// work is what is to be done before the feed waits again.
type work struct {
	news    []*group   // whose logs have what their live watchers have not
	settle  []*session // whose first request may be settled now
	advance []*session // with watchers that can be moved on
	touched []*session // to be flushed
	probing []*group   // with requests for the next probe
}

// alarm wakes the feed at a time.
type alarm struct {
	timer *clock.Timer
	at    time.Time // zero when it is not set
}

func newFeed(h *Hub, key string, header *lean.Header) *feed {
	f := &feed{hub: h, key: key, header: header, sessions: map[*session]struct{}{}, groups: map[groupKey]*group{}}
	f.mail.ready = make(chan struct{}, 1)
	f.shared.user, f.probes.user = (*sharedUser)(f), (*probeUser)(f)
	f.alarm.timer = h.cfg.Clock.NewTimer(time.Hour)
	f.alarm.timer.Stop()
	return f
}

// run is the feed's goroutine.
func (f *feed) run() {
	defer f.alarm.timer.Stop()
	var read letters
	for !f.over {
		var aside <-chan struct{}
		if l := f.shared.link; l != nil && !l.stays {
			aside = l.conn.Aside()
		}
		select {
		case <-f.mail.ready:
		case <-f.alarm.timer.C:
			f.alarm.at = time.Time{}
			f.tend()
		case <-aside:
			f.moveAway()
		}
		read = f.mail.take(read)
		for i := range read.list {
			f.open(&read.list[i], &read)
			if f.over {
				return
			}
		}
		f.finish()
	}
}

// open deals with one letter.
func (f *feed) open(x *letter, of *letters) {
	switch x.kind {
	case letterMessage:
		f.take(x.link, of.body(x))
	case letterEnd:
		f.ended(x.link, x.err)
	case letterJoin:
		f.sessions[x.session] = struct{}{}
		f.hub.counts.sessions.Add(1)
	case letterLeave:
		f.close(x.session)
	case letterRequest:
		f.accept(x.session, x.request)
	case letterWritable:
		x.session.writable()
	case letterStop:
		f.fail(statusStopping)
		f.over = true
	}
}

// finish does all the work that has gathered.
func (f *feed) finish() {
	w := &f.work
	for len(w.settle)+len(w.probing)+len(w.news)+len(w.advance) > 0 {
		for _, s := range drain(&w.settle) {
			s.settling = false
			s.settle()
		}
		for _, g := range drain(&w.probing) {
			g.toProbe = false
			f.probe(g)
		}
		for _, g := range drain(&w.news) {
			g.news = false
			g.round()
		}
		for _, s := range drain(&w.advance) {
			s.advancing = false
			s.advance()
		}
	}
	f.flush()
	f.tendProgress()
}

// drain empties a list and returns what was in it. What is added meanwhile is in the list, in memory of its own.
func drain[T any](list *[]T) []T {
	out := *list
	*list = nil
	return out
}

// flush has written what was given to streams.
func (f *feed) flush() {
	for i, s := range f.work.touched {
		s.touched = false
		s.out.Flush()
		f.work.touched[i] = nil
	}
	f.work.touched = f.work.touched[:0]
}

// take deals with a message of the store.
func (f *feed) take(l *link, body []byte) {
	if l.port.link != l {
		return
	}
	if err := f.reply.Unmarshal(body); err != nil {
		f.misunderstood(l)
		return
	}
	l.port.tries = 0
	l.port.user.response(l, &f.reply, body)
}

// misunderstood gives up a link on which the store says what cannot be understood.
func (f *feed) misunderstood(l *link) {
	p := l.port
	f.drop(p)
	f.hub.counts.lost.Add(1)
	p.tries++
	f.backOff(p, f.hub.cfg.Clock.Now())
	p.user.lost(l)
}

// wakeAt has tend called at t, or earlier.
func (f *feed) wakeAt(t time.Time) {
	a := &f.alarm
	if !a.at.IsZero() && !t.Before(a.at) {
		return
	}
	a.at = t
	a.timer.Reset(max(t.Sub(f.hub.cfg.Clock.Now()), 0))
}

// tend opens what was lost and is due.
func (f *feed) tend() {
	if l := f.shared.link; l != nil {
		l.stays = false
	}
	if len(f.groups) > 0 {
		f.use(&f.shared)
	}
	if f.probes.link == nil {
		for _, g := range f.groups {
			f.wantProbe(g)
		}
	}
	for s := range f.sessions {
		if s.alone != nil {
			s.alone.tend()
		}
	}
}

// moveAway leaves a member that does not serve for one that does.
func (f *feed) moveAway() {
	l := f.shared.link
	other := f.hub.cfg.Pool.Now()
	if other == nil || other == l.conn || !other.Serving() {
		l.stays = true
		f.wakeAt(f.hub.cfg.Clock.Now().Add(retryMax))
		return
	}
	f.drop(&f.shared)
	f.hub.counts.lost.Add(1)
	f.shared.user.lost(l)
	f.use(&f.shared)
}

// fail ends the streams of all clients.
func (f *feed) fail(st *rpc.Status) {
	for s := range f.sessions {
		s.out.Abort(st)
		f.close(s)
	}
	f.drop(&f.shared)
	f.drop(&f.probes)
}

// close forgets a session.
func (f *feed) close(s *session) {
	if s.closed {
		return
	}
	s.closed = true
	delete(f.sessions, s)
	f.hub.counts.sessions.Add(-1)
	for _, w := range s.watchers {
		w.retire()
	}
	for _, r := range s.queue {
		s.forget(r)
	}
	s.watchers, s.queue, s.behind, s.replies = nil, nil, nil, nil
	if s.alone != nil {
		f.drop(&s.alone.port)
		s.alone.release()
		s.alone = nil
	}
}
