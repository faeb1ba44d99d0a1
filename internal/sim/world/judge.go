package world

import (
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/check"
	"quorate.dev/quorate/wire"
)

// checkLimit bounds the search for an order of operations, which takes milliseconds for nearly all seeds and for ever for some.
const checkLimit = 2 * time.Second

// heal ends all faults, and waits until everybody is served and all members agree.
func (w *World) heal() {
	w.trace.note("-", "no more faults")
	w.healed = true
	w.net.cut, w.net.loss, w.net.twice, w.net.late, w.net.delay = map[link]bool{}, 0, 0, 0, time.Millisecond
	w.net.tails, w.lull = tails{jam: map[link]time.Duration{}}, lull{}
	w.unrot()
	for _, m := range w.members {
		m.mended()
		m.disk.SetStalled(false)
		m.slow = 0
		if m.cutting {
			w.powerLoss(m)
		}
		w.resume(m, m.life)
		w.start(m)
		m.enter(m.life, func() {})
	}
	healed := w.now
	w.since = healed
	w.calmFrom(w.now + 3*time.Second)
	limit := healed + w.set.Calm
	for !w.stopped && !w.served(healed) {
		if w.now >= limit {
			w.violate("stuck", "%v after the last fault: %s", w.set.Calm, w.condition(healed))
			return
		}
		w.run(w.now + 100*time.Millisecond)
	}
	w.quiet = true
	w.linger()
	w.lastOfLegacy()
	limit = w.now + w.set.Calm
	for !w.stopped && !w.settled() {
		if w.now >= limit {
			w.violate("stuck", "%v after the last request: %s", w.set.Calm, w.condition(healed))
			return
		}
		w.run(w.now + 100*time.Millisecond)
	}
}

// served reports whether every client had an answer since.
func (w *World) served(since time.Duration) bool {
	for _, c := range w.clients {
		if c.success <= since {
			return false
		}
	}
	return w.content(since)
}

// settled reports whether nobody waits, all members have applied the same, and all watches have got everything.
func (w *World) settled() bool {
	index, revision := w.newest()
	if int64(revision) < w.seen { // a member that has just started has not applied yet what its log holds
		return false
	}
	for _, m := range w.members {
		if !m.up || m.state.Applied().Index != index {
			return false
		}
	}
	if !w.assembled() {
		return false
	}
	for _, c := range w.clients {
		if c.waiting() {
			return false
		}
	}
	if w.busy() || !w.governed() {
		return false
	}
	for _, x := range w.watchers {
		if x.covered < int64(revision) {
			return false
		}
	}
	return true
}

func (w *World) newest() (index ids.Index, revision ids.Revision) {
	for _, m := range w.members {
		if m.up {
			index, revision = max(index, m.state.Applied().Index), max(revision, m.state.View().Revision())
		}
	}
	return index, revision
}

// condition says what is missing.
func (w *World) condition(since time.Duration) string {
	text := ""
	for _, m := range w.members {
		if !m.up {
			text += m.name + " is down; "
			continue
		}
		s := m.drive.Host.Status()
		text += fmt.Sprintf("%s follows %s and has applied %d; ", m.name, w.nameOf(s.Leader), s.Applied)
	}
	for i, c := range w.clients {
		if c.success <= since {
			text += fmt.Sprintf("client %d had no answer; ", i+1)
		}
	}
	if !w.assembled() {
		text += "those who run are not those in the cluster; "
	}
	_, revision := w.newest()
	for _, x := range w.watchers {
		if x.covered < int64(revision) {
			text += "watch " + x.name + " lacks events; "
		}
	}
	return text + w.discontent(since)
}

// judge looks whether what clients recorded can be true, and whether members agree.
func (w *World) judge() {
	_, revision := w.newest()
	var watches []check.Watch
	for _, x := range w.watchers {
		last := &x.watches[len(x.watches)-1]
		if x.covered >= int64(revision) {
			last.Through = int64(revision)
		}
		watches = append(watches, x.watches...)
	}
	watches = append(watches, w.briefly()...)
	watches = append(watches, w.views()...)
	history := w.recorded()
	compacted := int64(0)
	for _, c := range w.clients {
		history = append(history, c.history...)
	}
	for _, o := range history {
		if o.Request.Kind == check.Compact {
			compacted = max(compacted, o.Request.Revision)
		}
	}
	truth, report := check.TruthOf(watches, compacted)
	w.collect(report)
	w.collect(check.Watches(watches, truth))
	w.collect(check.Durable(history, truth, w.contents()))
	w.judgeLeases(truth)
	w.judgeBounds()
	order := check.Linearizable(history, truth, checkLimit)
	if order.Verdict == "Unknown" {
		w.counts.Undecided++
	}
	w.collect(order)
	w.compare()
	w.compareUsers()
	w.judgeLegacy()
	w.rolls()
}

// contents is what each member holds.
func (w *World) contents() (all []check.Content) {
	for _, m := range w.members {
		if !m.up {
			continue
		}
		view := m.state.View()
		resp, err := view.Range(&wire.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
		if err != nil {
			w.violate("broken", "%s cannot be read in the end: %v", m.name, err)
			continue
		}
		out := &etcdserverpb.RangeResponse{}
		if err := proto.Unmarshal(resp.Append(nil), out); err != nil {
			w.violate("broken", "what %s holds cannot be decoded: %v", m.name, err)
			continue
		}
		all = append(all, check.Content{Member: m.name, Revision: int64(view.Revision()), KVs: kvsOf(out.Kvs)})
	}
	return all
}

func (w *World) collect(r check.Report) {
	for _, v := range r.Violations {
		w.violate(v.Rule, "%s", v.Text)
	}
}

// compare hashes the final state of all members.
func (w *World) compare() {
	var first *Member
	var want uint32
	for _, m := range w.members {
		if !m.up {
			continue
		}
		image := m.state.Image()
		hash, err := image.Hash(0)
		if err2 := image.Close(); err == nil {
			err = err2
		}
		switch {
		case err != nil:
			w.violate("broken", "the state of %s cannot be hashed: %v", m.name, err)
		case first == nil:
			first, want = m, hash.Hash
		case hash.Hash != want:
			w.violate("divergence", "%s and %s differ in the end: %08x and %08x", first.name, m.name, want, hash.Hash)
		}
	}
}
