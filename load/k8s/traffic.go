package k8s

import (
	"math"
	"time"
)

// plan is a run that is to begin: what recurs, and how often.
type plan struct {
	begin, measured, end time.Duration
	relist               time.Duration // since begin of measuring, 0: never
	nodes                int           // the first so many have traffic
	hasty                bool          // end early once it cannot keep the service levels
}

// start fills the agenda with what recurs. The nodes' phases are at random, so that arrivals are not evenly spaced.
func (d *driver) start(p plan) {
	d.until, d.closing, d.playing, d.hasty = p.end, false, p.nodes, p.hasty
	o := d.o
	every := func(period time.Duration) time.Duration {
		return p.begin + time.Duration(d.rnd.Float64()*float64(period))
	}
	for i := range d.playing {
		d.agenda.add(due{at: every(o.Rates.LeaseEvery), what: renewLease, id: int64(i)})
		d.agenda.add(due{at: every(o.Rates.StatusEvery), what: postStatus, id: int64(i)})
	}
	if d.churn() > 0 {
		d.agenda.add(due{at: p.begin, what: createPod})
		d.agenda.add(due{at: p.begin, what: retirePod})
	}
	if d.gets() > 0 {
		d.agenda.add(due{at: p.begin, what: getOne})
	}
	if o.Rates.AllEvery > 0 {
		d.agenda.add(due{at: p.begin + o.Rates.AllEvery/2, what: listAll})
	}
	for s := range o.Size.APIServers {
		if o.Rates.ListEvery > 0 {
			d.agenda.add(due{at: every(o.Rates.ListEvery), what: listSpace, id: int64(s)})
		}
		d.agenda.add(due{at: p.begin + o.Times.Compaction/2 + time.Duration(s)*100*time.Millisecond, what: casCompaction, id: int64(s)})
		for kind := range active {
			d.agenda.add(due{at: every(progressEvery), what: askProgress, id: int64(s)*int64(active) + int64(kind)})
		}
	}
	if p.relist > 0 {
		d.agenda.add(due{at: p.measured + p.relist, what: relistServer})
	}
}

// churn and gets are a second.
func (d *driver) churn() float64 { return max(d.o.Rates.Churn, 0) * float64(d.playing) / 1000 }
func (d *driver) gets() float64  { return max(d.o.Rates.Gets, 0) * float64(d.playing) / 1000 }

// again puts a recurring entry back.
func (d *driver) again(x due, period time.Duration) {
	if x.at += period; x.at < d.until {
		d.agenda.add(x)
	}
}

// gap is the time to the next of arrivals at random, so many a second.
func (d *driver) gap(rate float64) time.Duration {
	return time.Duration(-math.Log(1-d.rnd.Float64()) / rate * float64(time.Second))
}

// act does one thing that is due.
func (d *driver) act(x due, now time.Duration) {
	switch x.what {
	case retryCall:
		d.send(x.call)
		return
	case stepPod:
		d.stepPod(x)
		return
	case postEvent:
		d.postEvent(x)
		return
	}
	if x.at >= d.until {
		return
	}
	switch x.what {
	case renewLease:
		d.again(x, d.o.Rates.LeaseEvery)
		d.renew(x)
	case postStatus:
		d.again(x, d.o.Rates.StatusEvery)
		d.post(x)
	case createPod:
		d.again(x, d.gap(d.churn()))
		d.newPod(x.at)
	case retirePod:
		d.again(x, d.gap(d.churn()))
		d.retire(x.at)
	case getOne:
		d.again(x, d.gap(d.gets()))
		d.get(x.at)
	case askProgress:
		d.again(x, progressEvery)
		d.links[x.id/int64(active)][x.id%int64(active)].watcher.ask(now, d.highest)
	case casCompaction:
		d.again(x, d.o.Times.Compaction)
		d.compact(x)
	case relistServer:
		d.relist(0, x.at)
	default:
		d.lists(x)
	}
}

// crowded reports whether no more calls may be sent, and counts the one that is not.
func (d *driver) crowded(c class, at time.Duration) bool {
	if d.underWay < UnderWayMax {
		return false
	}
	d.rec.Load().skip(c, at)
	return true
}

func (d *driver) renew(x due) {
	n := &d.nodes[x.id]
	if n.leaseBusy {
		d.rec.Load().leftOut(x.at)
		return
	}
	if d.crowded(updateLeases, x.at) {
		return
	}
	n.leaseBusy = true
	d.send(&call{d: d, class: updateLeases, id: x.id, at: x.at, rev: n.lease})
}

func (d *driver) post(x due) {
	n := &d.nodes[x.id]
	if n.statusBusy {
		d.rec.Load().leftOut(x.at)
		return
	}
	if d.crowded(updateNodes, x.at) {
		return
	}
	n.statusBusy = true
	d.send(&call{d: d, class: updateNodes, id: x.id, at: x.at, rev: n.status})
}

func (d *driver) get(at time.Duration) {
	c, id := getNodes, d.rnd.Int64N(int64(d.playing))
	if live := d.pods.live(); live > 0 && d.rnd.IntN(2) == 0 {
		c, id = getPods, d.pods.head+d.rnd.Int64N(live)
	}
	if !d.crowded(c, at) {
		d.send(&call{d: d, class: c, id: id, at: at})
	}
}

// lists starts a list of pods.
func (d *driver) lists(x due) {
	done := func(*listing, error) {} // a page that failed is counted, and ends the list
	switch x.what {
	case listSpace:
		d.again(x, d.o.Rates.ListEvery)
		prefix := d.keys.space(nil, d.space(d.pods.head+d.rnd.Int64N(max(d.pods.live(), 1))))
		d.startList(listPods, x.id, x.at, &listing{kind: pods, from: prefix, end: rangeEnd(prefix), limit: pageLimit, done: done})
	case listAll:
		d.again(x, d.o.Rates.AllEvery)
		d.startList(listAllPods, 0, x.at, d.wholeOf(pods, done))
	}
}

// compact is an API server's turn at compacting: whoever claims the round compacts at the revision of the round before.
func (d *driver) compact(x due) {
	c := &d.compaction[x.id]
	if c.busy {
		return
	}
	c.busy = true
	d.send(&call{d: d, class: updateCompact, id: x.id, at: x.at, rev: c.version})
}

func (d *driver) compacted(x *call) {
	c := &d.compaction[x.id]
	c.busy = false
	if x.answer.err != nil || x.class == compactStore {
		return
	}
	old := c.revision
	c.revision = x.answer.revision
	if !x.answer.succeeded {
		c.version = x.answer.version
		return
	}
	if c.version++; old > 0 {
		c.busy = true
		d.send(&call{d: d, class: compactStore, id: x.id, at: x.answer.at, rev: old})
	}
}

// completed takes a call that has come to its end.
func (d *driver) completed(x *call) {
	if x.answer.err == nil {
		d.highest = max(d.highest, x.answer.revision)
	}
	switch x.class {
	case getPods, getNodes:
	case revisions:
		if x.list != nil {
			d.listed(x)
		}
	case listPods, listAllPods, relists:
		d.listed(x)
	case updateCompact, compactStore:
		d.compacted(x)
	case grantLeases:
		d.granted(x)
	default:
		d.written(x)
	}
}

// written takes the end of a write: a conflict is tried again with the revision that the answer gave, as API servers do.
func (d *driver) written(x *call) {
	a := &x.answer
	kind := kindOf(x)
	switch {
	case a.err != nil:
		d.acks[kind].doubt()
		d.failed(x)
		return
	case a.succeeded:
		d.acks[kind].note(a.revision)
	case x.class == createPods || x.class == createEvents || x.class == createNodes || x.class == createLeases:
		a.revision = 0 // it is there, as a write without an answer left it: the next write learns the revision
	case x.class == deletePods && a.known == 0:
		// It is gone already.
	default:
		d.conflicts++
		if a.known == 0 {
			d.err = errorLost(x)
			return
		}
		d.send(&call{d: d, class: x.class, id: x.id, stage: x.stage, at: a.at, rev: a.known})
		return
	}
	d.applied(x)
}

// failed takes a write without an answer. Leases and statuses are written again when they are due; the rest is tried again.
func (d *driver) failed(x *call) {
	switch x.class {
	case updateLeases:
		d.nodes[x.id].leaseBusy = false
	case updateNodes:
		d.nodes[x.id].statusBusy = false
	default:
		at := x.answer.at + retryAfter
		d.agenda.add(due{at: at, what: retryCall, call: &call{d: d, class: x.class, id: x.id, stage: x.stage, at: at, rev: x.rev, quiet: x.quiet}})
	}
}

// applied notes a write that the store has.
func (d *driver) applied(x *call) {
	switch x.class {
	case updateLeases:
		d.nodes[x.id].lease, d.nodes[x.id].leaseBusy = x.answer.revision, false
	case updateNodes:
		d.nodes[x.id].status, d.nodes[x.id].statusBusy = x.answer.revision, false
	case createNodes:
		d.nodes[x.id].status = x.answer.revision
	case createLeases:
		d.nodes[x.id].lease = x.answer.revision
	case createPods, updatePods, deletePods:
		d.podApplied(x)
	}
	if d.fill != nil {
		d.fill.done++
	}
}
