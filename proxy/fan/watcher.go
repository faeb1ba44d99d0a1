package fan

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"quorate.dev/quorate/wire"
)

// watcherState is how a watcher gets its events.
type watcherState uint8

const (
	watcherLive   watcherState = iota // in its group's rounds
	watcherBehind                     // in session.behind, from the log
	watcherAlone                      // from a watch of its own
	watcherGone
)

// watcher is one watch of a client.
type watcher struct {
	session *session
	group   *group
	id      int64
	field   []byte // the watch_id field of its responses

	state watcherState
	slot  int   // in group.live
	start int64 // the first revision that it wants
	next  int64 // everything below was handed over
	lone  *loneWatcher

	progress bool // wants notifications
	fragment bool
}

// appendWatchID appends the watch_id field of a WatchResponse.
func appendWatchID(dst []byte, id int64) []byte {
	if id == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, 2, protowire.VarintType), uint64(id))
}

// setState moves w to a state and out of what belongs to the old one, but for session.behind.
func (w *watcher) setState(to watcherState) {
	was := w.state
	if was == to {
		return
	}
	w.state = to
	lag := func(s watcherState) int {
		if s == watcherBehind || s == watcherAlone {
			return 1
		}
		return 0
	}
	w.session.lagging += lag(to) - lag(was)
	if was == watcherLive {
		g := w.group
		last := len(g.live) - 1
		g.live[w.slot] = g.live[last]
		g.live[w.slot].slot = w.slot
		g.live[last] = nil
		g.live = g.live[:last]
	}
	if was == watcherAlone {
		w.lone.leave()
		w.lone = nil
	}
}

// live makes w get what comes next with the others. It must have had all that the log has.
func (w *watcher) live() {
	w.setState(watcherLive)
	w.slot = len(w.group.live)
	w.group.live = append(w.group.live, w)
}

// place decides how a new watcher gets its events.
func (w *watcher) place() {
	w.state = watcherGone // it is in no list yet
	if g := w.group; w.next >= g.log.first && w.next > g.log.last {
		w.live()
		return
	}
	w.session.fallBehind(w)
}

// retire takes w out of everything but its session's table.
func (w *watcher) retire() {
	if w.state == watcherGone {
		return
	}
	w.setState(watcherGone)
	w.group.remove(w)
	w.session.feed.hub.counts.watchers.Add(-1)
}

// notify sends a progress notification, which may be lost when the client is slow.
func (w *watcher) notify(h wire.Header) {
	f := w.session.feed
	r := wire.WatchResponse{Header: h, WatchID: w.id}
	f.head = r.Append(f.head[:0])
	w.session.send(f.head, nil)
}

// round gives the live watchers what the log has and they have not.
func (g *group) round() {
	f := g.feed
	g.fresh = 0
	var events, responses int64
	for {
		p, ok := g.log.next(&g.given)
		if !ok {
			break
		}
		f.headOf(p.last)
		for i := 0; i < len(g.live); {
			w := g.live[i]
			n, ok := w.hand(&p)
			if !ok {
				w.session.fallBehind(w) // which puts another one at i
				continue
			}
			if n > 0 {
				events += int64(n)
				responses++
			}
			i++
		}
	}
	f.hub.counts.delivered.Add(events)
	f.hub.counts.responses.Add(responses)
	f.flush()
}

// headOf prepares the header field of responses whose last event is of revision rev. A client that takes the header for how far
// it has got is right.
func (f *feed) headOf(rev int64) {
	r := wire.WatchResponse{Header: f.ask.header}
	r.Header.Revision = rev
	f.head = r.Append(f.head[:0])
	f.headSize = len(f.head)
}

// hand gives w what it wants of p, after the feed's head. It returns how many events that were; false means that the stream has
// no room.
func (w *watcher) hand(p *piece) (events int, ok bool) {
	if w.session.blocked {
		return 0, false
	}
	body, events := p.since(w.next)
	if events > 0 && !w.respond(body, events) {
		return 0, false
	}
	w.next = max(w.next, p.last+1)
	return events, true
}

// post is respond for events of one watcher, up to revision last.
func (w *watcher) post(body []byte, events int, last int64) bool {
	w.session.feed.headOf(last)
	return w.respond(body, events)
}

// respond sends a response, or its fragments when the client wants them and it is large. The header field is in the feed's head.
func (w *watcher) respond(rest []byte, events int) bool {
	f := w.session.feed
	f.head = append(f.head[:f.headSize], w.field...)
	limit := f.hub.cfg.FragmentBytes
	if !w.fragment || events < 2 || len(f.head)+len(rest) < limit {
		return w.session.send(f.head, rest)
	}
	// The stream takes the first fragment only when it has room, and the others with it.
	own := len(f.head)
	for first := true; len(rest) > 0; first = false {
		n := 0
		for n < len(rest) {
			_, _, field := protowire.ConsumeField(rest[n:])
			if n > 0 && own+fragmentBytes+n+field >= limit {
				break
			}
			n += field
		}
		f.head = f.head[:own]
		if n < len(rest) {
			f.head = append(f.head, fragmentField[:]...)
		}
		switch body := rest[:n:n]; {
		case w.session.send(f.head, body):
		case first:
			return false
		default:
			w.session.replies = append(w.session.replies, slices.Concat(f.head, body))
		}
		rest = rest[n:]
	}
	return true
}

// fragmentField is the fragment field of a WatchResponse that is true.
var fragmentField = [fragmentBytes]byte{7 << 3, 1}

const fragmentBytes = 2

// catchUp moves w on from the log until it is live, has to be watched for alone, or its stream is full, which is false.
func (w *watcher) catchUp() bool {
	g := w.group
	if g.state == groupNew {
		return true // it is placed when the group has a start
	}
	if w.next < g.log.first {
		w.goAlone()
		return true
	}
	f := g.feed
	at := g.log.find(w.next)
	for {
		p, ok := g.log.next(&at)
		if !ok {
			break
		}
		f.headOf(p.last)
		n, ok := w.hand(&p)
		if !ok {
			return false
		}
		if n > 0 {
			f.hub.counts.delivered.Add(int64(n))
			f.hub.counts.responses.Add(1)
		}
	}
	w.live()
	return true
}
