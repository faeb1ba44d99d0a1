package fan

import (
	"bytes"
	"time"

	"quorate.dev/quorate/wire"
)

// alone is the upstream stream of a session whose watchers want what the log of their group does not have. When the client is
// slow, what came waits here, and the store is held back by the stream's receive window.
type alone struct {
	session *session
	port    port
	members map[*loneWatcher]struct{}
	byID    map[int64]*loneWatcher // those with a watch upstream
	held    [][]byte               // messages that were not dealt with, in order
	asked   time.Time              // when progress was asked for; zero: it is not
}

// loneWatcher is a watcher's watch upstream.
type loneWatcher struct {
	of    *alone
	w     *watcher // nil: it is not wanted any more
	id    int64
	made  bool // id is known
	asked bool // it was made before progress was asked for
}

// goAlone has w watched for alone.
func (w *watcher) goAlone() {
	s := w.session
	a := s.alone
	if a == nil {
		a = &alone{session: s, members: map[*loneWatcher]struct{}{}, byID: map[int64]*loneWatcher{}}
		a.port.user = a
		s.alone = a
	}
	w.setState(watcherAlone)
	x := &loneWatcher{of: a, w: w}
	w.lone = x
	s.feed.hub.counts.alone.Add(1)
	// A link that is opened here makes every member's watch.
	l := a.port.link
	a.members[x] = struct{}{}
	if l != nil {
		a.create(l, x)
		return
	}
	s.feed.use(&a.port)
}

// create makes the watch of x upstream.
func (a *alone) create(l *link, x *loneWatcher) {
	r := x.w.group.key.request(a.session.feed)
	r.StartRevision, r.ProgressNotify = x.w.next, x.w.progress
	l.create(r, creation{alone: x})
}

// leave is called when the watcher needs no watch of its own any more.
func (x *loneWatcher) leave() {
	a := x.of
	f := a.session.feed
	x.w = nil
	delete(a.members, x)
	f.hub.counts.alone.Add(-1)
	if len(a.members) == 0 {
		f.drop(&a.port)
		a.release()
		if a.session.alone == a {
			a.session.alone = nil
		}
		return
	}
	if l := a.port.link; l != nil && x.made {
		delete(a.byID, x.id)
		l.cancel(x.id)
	}
}

// opened implements user.
func (a *alone) opened(l *link) {
	for x := range a.members {
		a.create(l, x)
	}
}

// lost implements user: every watch is made again where its watcher is.
func (a *alone) lost(*link) {
	clear(a.byID)
	a.release()
	a.asked = time.Time{}
	for x := range a.members {
		x.made, x.asked = false, false
	}
}

// tend does what is due.
func (a *alone) tend() {
	f := a.session.feed
	l := f.use(&a.port)
	if l == nil || a.asked.IsZero() {
		return
	}
	if due := a.asked.Add(progressRetry); f.hub.cfg.Clock.Now().Before(due) {
		f.wakeAt(due)
		return
	}
	a.askProgress(l)
}

// askProgress asks the store up to where the members have everything, which is what a watcher of quiet keys waits for.
func (a *alone) askProgress(l *link) {
	f := a.session.feed
	for _, x := range a.byID {
		x.asked = true
	}
	a.asked = f.hub.cfg.Clock.Now()
	l.askProgress()
	f.wakeAt(a.asked.Add(progressRetry))
}

// response implements user.
func (a *alone) response(l *link, r *wire.WatchResponse, body []byte) {
	if a.session.blocked || len(a.held) > 0 || !a.take(l, r) {
		a.held = append(a.held, bytes.Clone(body))
		a.session.feed.hub.counts.held.Add(int64(len(body)))
		return
	}
	l.pay(len(body))
}

// release drops what is held.
func (a *alone) release() {
	for _, body := range a.held {
		a.session.feed.hub.counts.held.Add(-int64(len(body)))
	}
	a.held = nil
}

// goOn deals with what was held.
func (a *alone) goOn() {
	f := a.session.feed
	for len(a.held) > 0 && !a.session.blocked && a.port.link != nil {
		l, body := a.port.link, a.held[0]
		if err := f.reply.Unmarshal(body); err != nil {
			f.misunderstood(l)
			return
		}
		if !a.take(l, &f.reply) {
			return
		}
		if len(a.held) > 0 { // else the link was lost or left on the way
			a.held[0] = nil
			a.held = a.held[1:]
			f.hub.counts.held.Add(-int64(len(body)))
		}
		l.pay(len(body))
	}
}

// take deals with a message; false when the client's stream has no room for it.
func (a *alone) take(l *link, r *wire.WatchResponse) bool {
	s := a.session
	if r.Created {
		a.created(l, r)
		return true
	}
	if r.WatchID < 0 && !r.Canceled {
		a.progressed(l, r)
		return true
	}
	x := a.byID[r.WatchID]
	if x == nil || x.w == nil {
		return true
	}
	switch {
	case r.Canceled:
		s.cancelled(x.w, r)
	case len(r.Events) == 0:
		x.w.next = max(x.w.next, r.Header.Revision+1)
		if x.w.progress {
			x.w.notify(r.Header)
		}
		x.w.reunite()
	default:
		return x.w.takeAlone(r)
	}
	return true
}

// created takes the reply to a watch.
func (a *alone) created(l *link, r *wire.WatchResponse) {
	c, ok := l.created()
	x := c.alone
	switch {
	case !ok || x == nil:
		a.session.feed.misunderstood(l)
	case x.w == nil && !r.Canceled:
		l.cancel(r.WatchID)
	case x.w == nil:
	case r.Canceled:
		a.session.cancelled(x.w, r)
	default:
		x.id, x.made = r.WatchID, true
		a.byID[x.id] = x
		if a.asked.IsZero() {
			a.askProgress(l)
		}
	}
}

// progressed takes the answer to a progress request: those who were there when it was made have everything up to then.
func (a *alone) progressed(l *link, r *wire.WatchResponse) {
	a.asked = time.Time{}
	var there []*loneWatcher
	for x := range a.members {
		if x.made && x.asked {
			there = append(there, x)
		}
	}
	for _, x := range there {
		x.w.next = max(x.w.next, r.Header.Revision+1)
		x.w.reunite()
	}
	if len(a.members) > 0 && a.port.link == l {
		a.askProgress(l)
	}
}

// takeAlone hands events of the watch of its own to w; false when the stream has no room.
func (w *watcher) takeAlone(r *wire.WatchResponse) bool {
	f := w.session.feed
	var body []byte
	last, events := int64(0), 0
	for _, e := range r.Events {
		rev := revisionOf(e)
		if rev < w.next {
			continue
		}
		body = appendEvents(body, f.hub.inward(e))
		last = rev
		events++
	}
	if events == 0 {
		return true
	}
	if !w.post(body, events, last) {
		return false
	}
	f.hub.counts.received.Add(int64(events))
	f.hub.counts.delivered.Add(int64(events))
	f.hub.counts.responses.Add(1)
	w.next = last + 1
	w.reunite()
	return true
}

// reunite has w go on with its group when that has all it still wants.
func (w *watcher) reunite() {
	if g := w.group; w.state == watcherAlone && g.state != groupNew && g.log.near(w.next) {
		w.session.fallBehind(w)
	}
}
