package world

import (
	"encoding/binary"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/check"
	"quorate.dev/quorate/leader"
	"quorate.dev/quorate/v2store"
)

// Legacy is what there is of the v2 API.
type Legacy struct {
	Askers int           // clients of the v2 API; 0: nobody uses it
	Mode   string        // separate or shared, as members are set; "": clients change it
	Every  time.Duration // between two requests of a client, on average
	Flood  int           // requests at once, so that the history lets go of what is old; 0: none
}

// The modes.
const (
	modeSeparate = "separate"
	modeShared   = "shared"
)

// legacyOneOf is how many seeds there are for one in which clients use the v2 API.
const legacyOneOf = 4

// drawLegacy makes up what there is of the v2 API. It does not draw from the run's randomness: a seed without is the same run as it would
// be if there were none.
func (w *World) drawLegacy(seed uint64) {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	key[31] = 3
	rng := mathrand.New(mathrand.NewChaCha8(key))
	if rng.IntN(legacyOneOf) > 0 {
		return
	}
	w.set.Legacy = Legacy{
		Askers: 1 + rng.IntN(3), Mode: []string{modeSeparate, modeShared, modeShared, ""}[rng.IntN(4)],
		Every: []time.Duration{20 * time.Millisecond, 60 * time.Millisecond, 200 * time.Millisecond}[rng.IntN(3)],
	}
	if rng.IntN(6) == 0 {
		w.set.Flood = 1200
	}
	if rng.IntN(4) > 0 { // clocks that show another time of day let everything expire at once, or never
		w.set.Skew = 0
	}
	if w.set.Long {
		w.set.Every = max(w.set.Every, w.set.Pause)
	}
}

// legacy is what is known of the v2 API.
type legacy struct {
	askers  []*asker
	viewers []*follower
	ops     []*check.V2Op // also those that nobody has got yet: the member adds to them
	judged
	clock drifting
}

// judged is what members did, as the first of them did it.
type judged struct {
	frontier ids.Index // of the entries
	entries  []check.V2Entry
	events   []check.V2Event
	texts    []string // of events
	contents []check.V2Content
	samples  []check.V2Sample
	sessions []*check.V2Session
	overdue  []check.V2Due
	rows     map[ids.Index]stateHash
	spent    []check.Operation // what v2 requests did to v3 keys
}

// drifting is how wrong members' clocks were, at the instants at which it mattered.
type drifting struct{ least, most int64 }

// old reports whether there is a v2 API in this run.
func (w *World) old() bool { return w.set.Askers > 0 }

// wall is the time of day by the member's clock.
func (m *Member) wall() int64 {
	now := m.clock.Now()
	off := int64(now.Sub(epoch.Add(m.w.now)))
	d := &m.w.legacy.clock
	d.least, d.most = min(d.least, off), max(d.most, off)
	return now.UnixNano()
}

// tree is what a leader has to know of the tree.
func (m *Member) tree() leader.V2 {
	if !m.w.old() {
		return leader.V2{}
	}
	return leader.V2{Mode: m.w.set.Mode, State: func() (int64, string) {
		m.wall() // it is what is proposed
		v := m.state.View().V2
		return v.NextExpiry(), v.Mode().String()
	}}
}

// revisit gives everybody something to do who uses the v2 API.
func (w *World) revisit() {
	if !w.old() {
		return
	}
	w.legacy.rows = map[ids.Index]stateHash{}
	for i := range w.set.Askers {
		x := &asker{caller: caller{w: w, id: 501 + i, name: fmt.Sprintf("o%d", i+1)}, known: map[string]*v2store.Node{}}
		w.legacy.askers = append(w.legacy.askers, x)
		w.after(w.upTo(time.Second), x.act)
	}
	for i, f := range []follower{
		{path: "/1", recursive: true}, {path: "/1/d0", recursive: true, stream: true}, {path: "/1/r0"}, {path: "/1/d1/_h"},
		{path: "/1/d0/a", stream: true}, {path: "/", recursive: true, stream: true}, {path: "/1/d1", recursive: true, now: true},
	} {
		f.w, f.name = w, fmt.Sprintf("f%d", i+1)
		w.legacy.viewers = append(w.legacy.viewers, &f)
		w.after(w.upTo(time.Second), f.connect)
	}
	if w.set.Flood > 0 {
		w.after(w.between(w.set.Faulty/4, w.set.Faulty), w.flood)
	}
	w.after(time.Second, w.overdue)
}

// overdue looks now and then what has expired at a leader.
func (w *World) overdue() {
	if r := &w.leases.reign; r.from != 0 && r.leader.up && !r.leader.paused {
		m := r.leader
		m.enter(m.life, func() {
			w.legacy.overdue = append(w.legacy.overdue, check.V2Due{At: w.instant(), Via: m.name, Clock: m.wall(), Due: m.state.View().V2.NextExpiry()})
		})
	}
	w.after(700*time.Millisecond, w.overdue)
}

// Past counts what has to do with the v2 API.
type Past struct {
	V2Answered int
	V2Refused  int
	V2Unknown  int
	V2Events   int // changes of the tree
	V2Expired  int
	V2Watched  int // events that watchers got
	V2Cleared  int // watchers that were told that the history is gone
}

func (p *Past) add(o Past) {
	p.V2Answered += o.V2Answered
	p.V2Refused += o.V2Refused
	p.V2Unknown += o.V2Unknown
	p.V2Events += o.V2Events
	p.V2Expired += o.V2Expired
	p.V2Watched += o.V2Watched
	p.V2Cleared += o.V2Cleared
}
