package world

import (
	"errors"
	"fmt"
	"time"

	"quorate.dev/quorate/internal/check"
	"quorate.dev/quorate/v2hub"
	"quorate.dev/quorate/v2store"
)

// heritage is what a member has for the v2 API besides its state.
type heritage struct {
	hub  *v2hub.Hub
	last *v2store.View
}

func newHeritage(v *v2store.View) heritage { return heritage{hub: v2hub.New(v), last: v} }

// publish brings what happened to the watchers, as server does.
func (h *heritage) publish(v *v2store.View, events []*v2store.Event) {
	if v != h.last {
		h.last = v
		h.hub.Publish(v, events)
	}
}

func (h *heritage) close() {
	if h.hub != nil {
		h.hub.Close()
	}
}

// follower watches a path of the v2 tree, goes to another member when its own is gone or silent, and now and then for no reason, and goes
// on there at the next index.
type follower struct {
	w         *World
	name      string
	path      string
	recursive bool
	stream    bool
	now       bool // it waits for what comes next, and not from an index on

	next    uint64 // index
	session int    // counts requests; what comes of an earlier one is void
	at      *check.V2Session
	via     *Member
	life    int
	watcher *v2hub.Watcher
	ended   bool // the watcher's channel is closed or a single event has come
}

// connect asks a member to watch.
func (f *follower) connect() {
	w := f.w
	f.session++
	session := f.session
	f.drop()
	m := w.anyMember()
	d, ok := w.net.passes(0, m.ID)
	if !ok || !m.serves(false) {
		w.after(w.between(5*time.Millisecond, 200*time.Millisecond), func() { f.again(session) })
		return
	}
	life := m.life
	w.after(d, func() {
		if !m.up || m.life != life {
			f.again(session)
			return
		}
		m.enter(life, func() { f.open(m, session) })
	})
	w.after(w.between(200*time.Millisecond, 4*time.Second), func() { f.look(session) })
}

func (f *follower) again(session int) {
	if f.session == session {
		f.connect()
	}
}

// drop gives up the watcher at a member.
func (f *follower) drop() {
	if f.watcher == nil {
		return
	}
	watcher := f.watcher
	f.watcher, f.at = nil, nil
	if f.via.up && f.via.life == f.life {
		f.via.enter(f.life, watcher.Close)
	}
}

// look goes to another member when this one is gone, and some other times.
func (f *follower) look(session int) {
	if f.session != session {
		return
	}
	gone := f.watcher == nil || !f.via.up || f.via.life != f.life || f.ended
	if gone || f.w.net.cut[link{f.via.ID, 0}] || !f.w.quiet && f.w.chance(4) {
		f.connect()
		return
	}
	f.w.after(f.w.between(200*time.Millisecond, 4*time.Second), func() { f.look(session) })
}

// open makes the watcher.
func (f *follower) open(m *Member, session int) {
	w := f.w
	if f.session != session {
		return
	}
	since := f.next
	if f.now {
		since = 0
	} else if since == 0 {
		since = 1
	}
	s := check.V2Session{
		Name: fmt.Sprintf("%s/%d", f.name, session), Via: fmt.Sprintf("%s#%d", m.name, m.life), Path: f.path, Recursive: f.recursive, Stream: f.stream,
		Since: since, Start: m.state.View().V2.Index(),
	}
	w.legacy.sessions = append(w.legacy.sessions, &s)
	watcher, err := m.v2.hub.Watch(f.path, f.recursive, f.stream, since)
	var refused *v2store.Error
	switch {
	case errors.As(err, &refused):
		s.Refusal = &check.V2Refusal{Code: refused.Code, Cause: refused.Cause, Index: refused.Index}
		w.counts.V2Cleared++
		w.trace.note(f.name, "waits at %s for %s from %d: %v", s.Via, f.path, since, err)
		f.next = refused.Index + 1
		w.after(w.upTo(20*time.Millisecond), func() { f.again(session) })
		return
	case err != nil:
		w.broken("%s cannot watch at %s: %v", f.name, m.name, err)
		return
	}
	s.Start = watcher.StartIndex()
	f.at, f.via, f.life, f.watcher, f.ended = &s, m, m.life, watcher, false
	f.poll(m, session)
}

// poll takes what has come, and looks again soon: a client that reads slowly now and then.
func (f *follower) poll(m *Member, session int) {
	if f.session != session || f.ended {
		return
	}
	for more := true; more; {
		select {
		case e, ok := <-f.watcher.Events():
			if more = ok; !ok {
				f.ended = true
				f.w.trace.note(f.name, "is sent away by %s", m.name)
			} else {
				f.receive(e)
				more = f.stream
			}
		default:
			more = false
		}
	}
	w, life := f.w, m.life
	if f.ended {
		w.after(w.upTo(50*time.Millisecond), func() { f.again(session) })
		return
	}
	pause := 50 * time.Millisecond
	if w.set.Long {
		pause = 500 * time.Millisecond
	}
	if w.chance(60) {
		pause *= 10
	}
	w.after(w.between(pause/2, pause), func() { m.enter(life, func() { f.poll(m, session) }) })
}

// receive writes an event down.
func (f *follower) receive(e *v2store.Event) {
	f.at.Events = append(f.at.Events, v2event(e))
	f.w.counts.V2Watched++
	f.next = e.Index + 1
	f.ended = !f.stream
	f.w.trace.note(f.name, "gets %s %s at index %d from %s", e.Action, e.Node.Key, e.Index, f.via.name)
}

// finish says of the last session whether it has got all that there was to send.
func (f *follower) finish() {
	if f.watcher == nil || f.ended || !f.via.up || f.via.life != f.life {
		return
	}
	f.poll(f.via, f.session)
	if f.at != nil && !f.ended {
		f.at.Complete = true
	}
}
