package fan

import (
	"time"

	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/wire"
)

// asking is the progress requests of a feed: one at a time upstream, for all sessions that wait.
type asking struct {
	header wire.Header // the store's latest on the shared link
	told   int64       // newest revision that a reply about a new watcher showed
	byID   map[int64]*group
	next   []*session // for the next request
	sent   []*session // for the one under way
	due    []debt     // answers, to be paid after the rounds: what came before them may not be handed out yet
	at     time.Time  // when the request under way, or the last one, was made
	open   bool       // one is under way
}

// debt is an answer for a session.
type debt struct {
	session *session
	rev     int64
}

// lost is called with the shared link.
func (a *asking) lost() {
	for _, s := range a.sent {
		if !s.asking {
			s.asking = true
			a.next = append(a.next, s)
		}
	}
	a.sent, a.open, a.byID = nil, false, nil
}

// askFor notes that s wants to know. An answer under way does not do: it may be from before the client asked.
func (f *feed) askFor(s *session) {
	if !s.asking && len(s.watchers) > 0 {
		s.asking = true
		f.ask.next = append(f.ask.next, s)
	}
}

// tendProgress makes the next request if there is a reason, and pays what is due. An answer speaks for all watches on the link,
// so it has to wait until these are made.
func (f *feed) tendProgress() {
	a := &f.ask
	for _, d := range a.due {
		d.session.owed = max(d.session.owed, d.rev)
		d.session.pay()
	}
	clear(a.due)
	a.due = a.due[:0]
	f.flush()
	l := f.shared.link
	if l == nil || len(a.byID) == 0 {
		return
	}
	now := f.hub.cfg.Clock.Now()
	wait := progressIdle
	switch {
	case a.open:
		wait = progressRetry
	case len(a.next) > 0:
		wait = 0
	}
	if due := a.at.Add(wait); now.Before(due) {
		f.wakeAt(due)
		return
	}
	if len(l.creates) > 0 {
		return // the last reply wakes the feed
	}
	if !a.open {
		a.sent, a.next = a.next, nil
		for _, s := range a.sent {
			s.asking = false
		}
	}
	a.open, a.at = true, now
	l.askProgress()
	f.wakeAt(now.Add(progressRetry))
}

// progressed takes an answer.
func (f *feed) progressed(r *wire.WatchResponse) {
	a := &f.ask
	a.header, a.open = r.Header, false
	for _, g := range a.byID {
		g.upTo = max(g.upTo, r.Header.Revision)
	}
	for _, s := range a.sent {
		a.due = append(a.due, debt{s, r.Header.Revision})
	}
	a.sent = nil
}

// pay sends a progress answer that is owed, as soon as everything up to its revision was handed over.
func (s *session) pay() {
	if s.owed == 0 || s.lagging > 0 || s.closed {
		return
	}
	h := s.feed.ask.header
	h.Revision = s.owed
	s.owed = 0
	if len(s.watchers) == 0 {
		return
	}
	for _, w := range s.watchers {
		if w.start > h.Revision+1 || w.group.state == groupNew {
			return // starts in the future
		}
	}
	s.reply(&wire.WatchResponse{Header: h, WatchID: limits.WatchIDInvalid})
}
