package fan

import (
	"errors"
	"time"

	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/proxy/upstream"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/wire"
)

// link is one stream to the store. It implements lean.Handler; all but that belongs to the feed.
type link struct {
	feed    *feed
	port    *port
	conn    *upstream.Conn
	stream  *lean.Stream
	creates []creation // whose replies are to come, in order
	stays   bool       // its member does not serve, and there was no other
	unpaid  int        // bytes whose window was not given back yet
}

// creation is who made a watch upstream.
type creation struct {
	group *group       // of a group's own watch
	probe []*request   // of a probe
	alone *loneWatcher // of a lone watcher
}

// user gets what arrives on the links of a port.
type user interface {
	opened(l *link)
	response(l *link, r *wire.WatchResponse, body []byte)
	lost(l *link)
}

// port is a place for a link: when one is lost and still needed another takes its place.
type port struct {
	user  user
	link  *link // nil while there is none
	tries int   // since a link last worked
	after time.Time
}

// Message implements lean.Handler.
func (l *link) Message(body []byte) { l.feed.mail.message(l, body) }

// End implements lean.Handler.
func (l *link) End(err error) { l.feed.mail.post(letter{kind: letterEnd, link: l, err: err}) }

// payAfter is how much is given back to the store at once, bytes.
const payAfter = upstream.StreamWindow / 8

// pay gives the window of n bytes back.
func (l *link) pay(n int) {
	if l.unpaid += n; l.unpaid >= payAfter {
		l.stream.Credit(l.unpaid)
		l.unpaid = 0
		l.conn.Kick()
	}
}

// send sends a request. A failure also ends the link, which is told later.
func (l *link) send(r *wire.WatchRequest) {
	_ = l.stream.Send(r, false)
	l.conn.Kick()
}

// create makes a watch upstream; c gets the reply.
func (l *link) create(r *wire.WatchCreateRequest, c creation) {
	l.creates = append(l.creates, c)
	l.send(&wire.WatchRequest{Create: r})
}

func (l *link) cancel(id int64) { l.send(&wire.WatchRequest{Cancel: &id}) }

func (l *link) askProgress() { l.send(&wire.WatchRequest{Progress: true}) }

// created takes who made the watch that a reply is for. A store that replies to more than was asked is not understood.
func (l *link) created() (creation, bool) {
	if len(l.creates) == 0 {
		return creation{}, false
	}
	c := l.creates[0]
	l.creates[0] = creation{}
	l.creates = l.creates[1:]
	return c, true
}

// use returns the port's link, opening one if it is time; nil while there is none.
func (f *feed) use(p *port) *link {
	if p.link != nil {
		return p.link
	}
	now := f.hub.cfg.Clock.Now()
	if now.Before(p.after) {
		f.wakeAt(p.after)
		return nil
	}
	l := &link{feed: f, port: p}
	if l.conn = f.hub.cfg.Pool.Now(); l.conn != nil {
		var err error
		if l.stream, err = l.conn.Open(f.header, 0, lean.Paced, l); err == nil {
			l.conn.Kick()
			p.link = l
			f.hub.counts.upstream.Add(1)
			p.user.opened(l)
			return p.link
		}
	}
	f.backOff(p, now)
	return nil
}

// backOff has a port wait before its next attempt, the longer the more failed in a row; the first one is made at once.
func (f *feed) backOff(p *port, now time.Time) {
	wait := time.Duration(0)
	if p.tries > 0 {
		wait = min(retryFirst<<min(p.tries-1, 16), retryMax)
	}
	p.tries++
	p.after = now.Add(wait)
	f.wakeAt(p.after)
}

// drop closes a port's link.
func (f *feed) drop(p *port) {
	if l := p.link; l != nil {
		p.link = nil
		f.hub.counts.upstream.Add(-1)
		l.stream.Cancel()
		l.conn.Kick()
	}
}

// ended takes the end of a link.
func (f *feed) ended(l *link, err error) {
	p := l.port
	if p.link != l {
		return
	}
	p.link = nil
	f.hub.counts.upstream.Add(-1)
	if s := f.final(err); s != nil {
		f.fail(s)
		return
	}
	f.hub.counts.lost.Add(1)
	f.backOff(p, f.hub.cfg.Clock.Now())
	p.user.lost(l)
}

// final is the status with which the streams of clients end because the store ended one of the proxy's so; nil when another
// attempt, perhaps with another member, may go better.
func (f *feed) final(err error) *rpc.Status {
	var s *lean.Status
	if !errors.As(err, &s) {
		return nil
	}
	switch rpc.Code(s.Code) {
	case rpc.OK, rpc.Canceled, rpc.Unknown, rpc.DeadlineExceeded, rpc.ResourceExhausted, rpc.Aborted, rpc.Internal:
		return nil
	case rpc.Unavailable:
		if s.Message != noLeader {
			return nil
		}
	case rpc.FailedPrecondition:
		if s.Message == onLearner {
			return nil
		}
	}
	return upstream.StatusOf(err)
}
