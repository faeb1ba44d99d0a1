package fan

import (
	"cmp"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"quorate.dev/quorate/wire"
)

// groupKey is what watchers of one group have in common: all that decides about which events they get in which form.
type groupKey struct {
	key, end string // as the client sent them
	prevKV   bool
	filters  uint8 // bit n: FilterType n
}

// keyOf is the group of a request. Filters that nobody knows are no filters.
func keyOf(r *wire.WatchCreateRequest) groupKey {
	k := groupKey{key: string(r.Key), end: string(r.RangeEnd), prevKV: r.PrevKV}
	for _, f := range r.Filters {
		if f == wire.FilterNoPut || f == wire.FilterNoDelete {
			k.filters |= 1 << f
		}
	}
	return k
}

// request is what the store is asked for such a group.
func (k *groupKey) request(f *feed) *wire.WatchCreateRequest {
	r := &wire.WatchCreateRequest{PrevKV: k.prevKV, ProgressNotify: true}
	r.Key, r.RangeEnd = f.hub.outward(k.key, k.end)
	for _, t := range []wire.FilterType{wire.FilterNoPut, wire.FilterNoDelete} {
		if k.filters&(1<<t) != 0 {
			r.Filters = append(r.Filters, t)
		}
	}
	return r
}

// groupState is where a group is with its watch upstream.
type groupState uint8

const (
	groupNew    groupState = iota // it has no start yet
	groupLive                     // events come
	groupResume                   // it lost its watch and will have another
	groupOver
)

// group is watchers that share a watch of the store.
type group struct {
	feed  *feed
	key   groupKey
	state groupState
	id    int64 // of the watch upstream, while live
	log   eventLog
	upTo  int64 // all events up to this revision have arrived
	given place // what lies before was given to the live watchers
	fresh int   // bytes behind given
	live  []*watcher

	users   int // members and requests
	members map[*watcher]struct{}
	queue   queue
	sent    bool // the request for the watch upstream is on the present link
	news    bool // in work.news
	toProbe bool // in work.probing
}

// queue is the requests of a group that wait.
type queue struct {
	first  []*request // for the reply to the group's own watch
	next   []*request // for the next probe
	asked  bool       // a probe is under way
	settle []*session // sessions whose requests wait for the group to have a start
}

// groupOf returns the group of a key, making it when there is none.
func (f *feed) groupOf(k groupKey) *group {
	if g := f.groups[k]; g != nil {
		return g
	}
	g := &group{feed: f, key: k, members: map[*watcher]struct{}{}}
	f.groups[k] = g
	f.hub.groups.Add(1)
	return g
}

// join has r answered by the store: by the reply to the group's own watch when that is not asked for yet, else by a probe.
func (g *group) join(r *request) {
	f := g.feed
	g.users++
	r.group, r.arrived = g, g.upTo
	if g.state == groupNew && !g.sent {
		g.queue.first = append(g.queue.first, r)
		g.start()
		return
	}
	g.queue.next = append(g.queue.next, r)
	f.wantProbe(g)
}

// start makes the group's watch upstream unless that is done, or has to wait for a link.
func (g *group) start() {
	// A link that is opened here opens every group's watch.
	if l := g.feed.use(&g.feed.shared); l != nil && !g.sent {
		g.open(l)
	}
}

// open makes the group's watch upstream.
func (g *group) open(l *link) {
	r := g.key.request(g.feed)
	if g.state != groupNew {
		// From upTo on, not from what follows: a watch from a future revision has no progress. What is there twice is dropped.
		r.StartRevision = max(g.upTo, 1)
		g.state = groupResume
	}
	g.sent = true
	l.create(r, creation{group: g})
}

// leave is called when a watcher or a request needs the group no more.
func (g *group) leave() {
	if g.users--; g.users > 0 || g.state == groupOver {
		return
	}
	if l := g.feed.shared.link; l != nil && g.state == groupLive {
		delete(g.feed.ask.byID, g.id)
		l.cancel(g.id)
	}
	g.end()
}

// end takes the group out of its feed. Requests that still want it go on with another one.
func (g *group) end() {
	f := g.feed
	g.state = groupOver
	delete(f.groups, g.key)
	f.hub.groups.Add(-1)
	f.hub.counts.logged.Add(-int64(g.log.bytes))
	g.log.reset(0)
	g.given = g.log.end()
}

// sharedUser is the feed as the user of its shared link.
type sharedUser feed

// opened implements user: every group gets its watch.
func (u *sharedUser) opened(l *link) {
	f := (*feed)(u)
	f.ask.byID = map[int64]*group{}
	for _, g := range f.groups {
		g.open(l)
	}
}

// lost implements user.
func (u *sharedUser) lost(*link) {
	f := (*feed)(u)
	f.ask.lost()
	for _, g := range f.groups {
		g.sent = false
		if g.state == groupLive {
			g.state = groupResume
		}
	}
}

// response implements user.
func (u *sharedUser) response(l *link, r *wire.WatchResponse, body []byte) {
	f := (*feed)(u)
	defer l.pay(len(body))
	if r.Created {
		c, ok := l.created()
		if !ok || c.group == nil {
			f.misunderstood(l)
			return
		}
		c.group.created(l, r)
		return
	}
	if r.WatchID < 0 && !r.Canceled {
		f.progressed(r)
		return
	}
	g := f.ask.byID[r.WatchID]
	switch {
	case g == nil:
	case r.Canceled:
		delete(f.ask.byID, r.WatchID)
		g.canceled(l, r)
	case len(r.Events) == 0:
		g.quiet(r)
	default:
		g.take(r)
	}
}

// created takes the reply to the group's watch.
func (g *group) created(l *link, r *wire.WatchResponse) {
	f := g.feed
	switch {
	case g.state == groupOver:
		if !r.Canceled {
			l.cancel(r.WatchID)
		}
		return
	case r.Canceled:
		g.refused(r)
		return
	}
	g.id = r.WatchID
	f.ask.byID[g.id] = g
	f.ask.header = r.Header
	if g.state == groupNew {
		g.upTo = r.Header.Revision
		g.log.reset(g.upTo + 1)
		g.given = g.log.end()
		for w := range g.members { // of an earlier group
			if w.state == watcherBehind {
				w.session.fallBehind(w)
			}
		}
	}
	g.state = groupLive
	g.answer(g.queue.first, r)
	g.queue.first = nil
	for _, s := range drain(&g.queue.settle) {
		f.settle(s)
	}
}

// answer gives requests what the store said.
func (g *group) answer(list []*request, r *wire.WatchResponse) {
	g.feed.ask.told = max(g.feed.ask.told, r.Header.Revision)
	for _, x := range list {
		if x.dropped {
			continue
		}
		x.ready, x.header = true, r.Header
		x.header.Revision = max(x.header.Revision, x.arrived)
		if r.Canceled {
			x.refusal = r.CancelReason
		}
		g.feed.settle(x.session)
	}
}

// refused takes the refusal of the group's watch.
func (g *group) refused(r *wire.WatchResponse) {
	if g.state == groupNew {
		g.answer(g.queue.first, r)
		g.queue.first = nil
	}
	g.over(r)
}

// canceled takes the end of the group's watch.
func (g *group) canceled(l *link, r *wire.WatchResponse) {
	if c := r.CompactRevision; c > 0 && c <= g.upTo+1 {
		// Only what everybody has is gone.
		req := g.key.request(g.feed)
		req.StartRevision = g.upTo + 1
		g.state = groupResume
		l.create(req, creation{group: g})
		return
	}
	g.over(r)
}

// over ends a group whose watch upstream has ended, and cancels its watchers with the store's words. After a compaction those go
// on who do not want what is gone, and those who are watched for alone, who will be told themselves. Who still needs a group
// gets another.
func (g *group) over(r *wire.WatchResponse) {
	f := g.feed
	g.round()
	g.end()
	for _, w := range slices.SortedFunc(maps.Keys(g.members), func(a, b *watcher) int { return cmp.Compare(a.id, b.id) }) {
		if r.CompactRevision == 0 || w.state != watcherAlone && w.next < r.CompactRevision {
			w.session.cancelled(w, r)
			continue
		}
		if w.state == watcherLive {
			w.session.fallBehind(w)
		}
		next := f.groupOf(g.key)
		next.add(w)
		next.start()
	}
	for _, x := range slices.Concat(g.queue.first, g.queue.next) {
		if !x.dropped {
			f.groupOf(g.key).join(x)
		}
	}
	for _, s := range g.queue.settle {
		f.settle(s)
	}
	g.queue, g.live, g.members = queue{}, nil, nil
}

// add makes w a member.
func (g *group) add(w *watcher) {
	g.users++
	g.members[w] = struct{}{}
	w.group = g
}

// remove ends the membership of w.
func (g *group) remove(w *watcher) {
	delete(g.members, w)
	g.leave()
}

// quiet takes a progress notification.
func (g *group) quiet(r *wire.WatchResponse) {
	g.round()
	g.upTo = max(g.upTo, r.Header.Revision)
	g.feed.ask.header = r.Header
	for _, w := range g.live {
		if w.progress && w.next <= r.Header.Revision+1 {
			w.notify(r.Header)
		}
	}
}

// take puts events into the log.
func (g *group) take(r *wire.WatchResponse) {
	f := g.feed
	f.hub.counts.received.Add(int64(len(r.Events)))
	f.ask.header = r.Header
	g.log.limit = f.hub.logBytes()
	before := g.log.bytes
	for i := 0; i < len(r.Events); {
		rev := revisionOf(r.Events[i])
		size, n := 0, i
		for ; n < len(r.Events) && (n == i || revisionOf(r.Events[n]) == rev); n++ {
			r.Events[n] = f.hub.inward(r.Events[n])
			size += eventSize(r.Events[n])
		}
		if rev > g.upTo {
			g.log.append(rev, size, r.Events[i:n])
			g.upTo = rev
			g.fresh += size
			if !g.news {
				g.news = true
				f.work.news = append(f.work.news, g)
			}
		}
		i = n
	}
	if g.fresh >= roundBytes {
		g.round()
	}
	g.log.trim(g.given)
	f.hub.counts.logged.Add(int64(g.log.bytes - before))
}

// revisionOf is the revision of an event.
func revisionOf(event []byte) int64 {
	for len(event) > 0 {
		num, typ, n := protowire.ConsumeTag(event)
		if n < 0 {
			break
		}
		if num == 2 && typ == protowire.BytesType {
			kv, m := protowire.ConsumeBytes(event[n:])
			if m < 0 {
				break
			}
			return wire.ModRevisionOf(kv)
		}
		m := protowire.ConsumeFieldValue(num, typ, event[n:])
		if m < 0 {
			break
		}
		event = event[n+m:]
	}
	return 0
}

// fieldEvents is the number of the events field of WatchResponse.
const fieldEvents = 11

// eventSize is the length of an event as a field of a WatchResponse.
func eventSize(event []byte) int { return 1 + protowire.SizeBytes(len(event)) }

func appendEvents(dst []byte, events ...[]byte) []byte {
	for _, e := range events {
		dst = protowire.AppendBytes(append(dst, fieldEvents<<3|byte(protowire.BytesType)), e)
	}
	return dst
}

// probeUser is the feed as the user of its link for probes.
type probeUser feed

// wantProbe has a probe sent soon for the requests that wait.
func (f *feed) wantProbe(g *group) {
	if len(g.queue.next) > 0 && !g.queue.asked && !g.toProbe {
		g.toProbe = true
		f.work.probing = append(f.work.probing, g)
	}
}

// probe asks the store about those who wait.
func (f *feed) probe(g *group) {
	if len(g.queue.next) == 0 || g.queue.asked || g.state == groupOver {
		return
	}
	l := f.use(&f.probes)
	if l == nil || g.queue.asked {
		return
	}
	r := g.key.request(f)
	r.StartRevision, r.ProgressNotify = startNever, false
	g.queue.asked = true
	f.hub.counts.probes.Add(1)
	l.create(r, creation{group: g, probe: g.queue.next})
	g.queue.next = nil
}

// opened implements user.
func (u *probeUser) opened(*link) {}

// lost implements user: what was asked is asked again.
func (u *probeUser) lost(l *link) {
	f := (*feed)(u)
	for _, c := range l.creates {
		c.group.queue.asked = false
		f.rejoin(c.group, c.probe)
	}
	l.creates = nil
}

// rejoin has requests wait for the next probe, of another group when theirs is over.
func (f *feed) rejoin(g *group, list []*request) {
	for _, r := range list {
		switch {
		case r.dropped:
		case g.state == groupOver:
			f.groupOf(g.key).join(r)
		default:
			g.queue.next = append(g.queue.next, r)
		}
	}
	f.wantProbe(g)
}

// response implements user.
func (u *probeUser) response(l *link, r *wire.WatchResponse, body []byte) {
	f := (*feed)(u)
	defer l.pay(len(body))
	if !r.Created {
		return // the end of an earlier probe
	}
	c, ok := l.created()
	if !ok || c.group == nil {
		f.misunderstood(l)
		return
	}
	if !r.Canceled {
		l.cancel(r.WatchID)
	}
	g := c.group
	g.queue.asked = false
	if g.state == groupOver && !r.Canceled {
		f.rejoin(g, c.probe)
		return
	}
	g.answer(c.probe, r)
	f.wantProbe(g)
}
