package world

import (
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"quorate.dev/quorate/internal/check"
	"quorate.dev/quorate/leader"
)

// Tenancy is what those do who hold leases.
type Tenancy struct {
	Lessees    int               // clients that look after leases
	Lockers    int               // clients that lock
	Locks      int               // that they compete for
	Linger     time.Duration     // how long leases are looked at after the last request
	Checkpoint time.Duration     // the period of checkpoints of leases
	Automatic  leader.Compaction // by time or by number
}

// drawTenancy makes up what those do who hold leases.
func drawTenancy(rng *mathrand.Rand) Tenancy {
	t := Tenancy{
		Lessees: []int{0, 1, 2, 2, 3, 4}[rng.IntN(6)], Lockers: []int{0, 1, 2, 2, 3, 4}[rng.IntN(6)], Locks: 1 + rng.IntN(2),
		Checkpoint: []time.Duration{time.Second, 3 * time.Second, 4 * time.Second, 0}[rng.IntN(4)],
	}
	if rng.IntN(3) == 0 {
		t.Linger = time.Duration(4+rng.IntN(16)) * time.Second
	}
	return t
}

// tenants are those who hold leases, and what is known of them.
type tenants struct {
	leases  ledger
	lessees []*lessee
	lockers []*locker
	holds   []check.Hold
	brief   []*watcher // that wait for a lock
	clocks  clocks
	bounds  bounds
	spent   []check.Operation // that members asked for by themselves
}

// settle gives everybody who holds leases something to do.
func (w *World) settle() {
	for i := range w.set.Lessees {
		x := &lessee{caller: caller{w: w, id: 101 + i, name: fmt.Sprintf("l%d", i+1)}}
		w.lessees = append(w.lessees, x)
		w.after(w.upTo(time.Second), x.act)
	}
	for i := range w.set.Lockers {
		x := &locker{caller: caller{w: w, id: 201 + i, name: fmt.Sprintf("h%d", i+1)}, prefix: fmt.Sprintf("lock%d/", i%w.set.Locks)}
		w.lockers = append(w.lockers, x)
		w.after(w.upTo(time.Second), x.begin)
	}
	w.after(250*time.Millisecond, w.reigns)
	w.after(time.Second, w.sample)
}

// callers are all who follow a plan.
func (w *World) callers() (all []*caller) {
	for _, x := range w.lessees {
		all = append(all, &x.caller)
	}
	for _, x := range w.lockers {
		all = append(all, &x.caller)
	}
	for _, x := range w.legacy.askers {
		all = append(all, &x.caller)
	}
	return all
}

// busy reports whether one of them waits for an answer.
func (w *World) busy() bool {
	for _, c := range w.callers() {
		if c.open > 0 {
			return true
		}
	}
	return false
}

// content reports whether everybody who holds leases got on since an instant.
func (w *World) content(since time.Duration) bool { return w.discontent(since) == "" }

// discontent says who did not get on since an instant.
func (w *World) discontent(since time.Duration) (text string) {
	for _, x := range w.lessees {
		if x.success <= since {
			text += x.name + " had no answer about a lease; "
		}
	}
	for _, x := range w.lockers {
		if x.success <= since {
			text += fmt.Sprintf("%s did not get lock %s: %s; ", x.name, x.prefix, x.phase)
		}
	}
	for _, x := range w.legacy.askers {
		if x.success <= since {
			text += x.name + " had no answer of the v2 API; "
		}
	}
	return text
}

// recorded is what they were answered.
func (w *World) recorded() []check.Operation {
	all := append(append([]check.Operation(nil), w.spent...), w.legacy.spent...)
	for _, c := range w.callers() {
		all = append(all, c.history...)
	}
	return all
}

// linger has time pass, in which leases end, and asks for all of them in the end.
func (w *World) linger() {
	c := &caller{w: w, id: 301, name: "last"}
	until := w.now + w.set.Linger
	for w.now < until && !w.stopped {
		w.run(w.now + 970*time.Millisecond) // not in step with what happens every second, such as a lease's checkpoint
		if w.set.Linger >= atRestAfter && until-w.now <= atRestAfter/2 {
			w.rest()
		}
		if n := len(w.leases.order); n > 0 {
			c.timeToLive(w.leases.order[w.rng.IntN(n)], func(bool) {})
		}
	}
	left := len(w.leases.order)
	for _, id := range w.leases.order {
		c.last(id, func() { left-- })
	}
	for limit := w.now + w.set.Calm; left > 0 && !w.stopped; {
		if w.now >= limit {
			w.violate("stuck", "%v after the last fault: %d questions for the time of a lease have no answer", w.set.Calm, left)
			return
		}
		w.run(w.now + 100*time.Millisecond)
	}
}

// last asks for a lease until it is told.
func (c *caller) last(id int64, done func()) {
	c.timeToLive(id, func(ok bool) {
		if ok {
			done()
			return
		}
		c.w.after(50*time.Millisecond, func() { c.last(id, done) })
	})
}

// lessee is a client that has leases, keeps them alive for a while, and sees what becomes of them.
type lessee struct {
	caller
	leases  []*tenancy
	granted int64
	success time.Duration // of the last answer about a lease
}

// tenancy is one lease of a lessee.
type tenancy struct {
	id, ttl int64
	until   time.Duration // it is kept alive until then
	pace    time.Duration // of keeping it alive
	keys    int           // attached until now
}

// act does one thing, and then another.
func (x *lessee) act() {
	w := x.w
	if w.quiet {
		return
	}
	pause := w.set.Pause
	if w.healed { // everybody is waited for
		pause = min(pause, 200*time.Millisecond)
	}
	w.after(w.between(pause/4, 4*pause), x.act)
	if x.open > 4 {
		return
	}
	if len(x.leases) < 5 || len(x.leases) < 9 && w.chance(12) {
		x.take()
		return
	}
	i := w.rng.IntN(len(x.leases))
	t := x.leases[i]
	switch n := w.rng.IntN(100); {
	case n < 35:
		x.timeToLive(t.id, func(ok bool) { x.answered(ok) })
	case n < 60:
		x.attach(t, fmt.Sprintf("k%02d", w.rng.IntN(w.set.Keys)))
	case n < 70: // its keys move to another one, or away
		x.attach(x.leases[w.rng.IntN(len(x.leases))], fmt.Sprintf("lease/%x/%d", t.id, w.rng.IntN(2)))
	case n < 80:
		x.once(t)
	case n < 86:
		x.leases = append(x.leases[:i], x.leases[i+1:]...)
		x.ask(check.Request{Kind: check.Revoke, Lease: t.id}, func(check.Answer, error) {})
	case n < 94: // nobody looks at it any more
		x.leases = append(x.leases[:i], x.leases[i+1:]...)
	}
}

func (x *lessee) answered(ok bool) {
	if ok {
		x.success = x.w.now
	}
}

// take asks for one more lease.
func (x *lessee) take() {
	w := x.w
	x.granted++
	id := int64(x.id)<<32 | x.granted
	if w.chance(4) {
		id = 0
	}
	ttls := []int64{1, 2, 2, 3, 3, 4, 5, 6, 8, 10, 20, 60, 600}
	if w.chance(40) {
		ttls = []int64{0, 9_000_000_000}
	}
	x.grant(id, ttls[w.rng.IntN(len(ttls))], func(id, ttl int64) {
		if id == 0 {
			return
		}
		x.answered(true)
		t := &tenancy{id: id, ttl: ttl}
		x.leases = append(x.leases, t)
		if w.chance(5) {
			t.until = w.now
		} else {
			t.until = w.now + w.upTo(time.Duration(min(8*ttl, 120))*time.Second)
		}
		for i := range w.rng.IntN(3) {
			x.attach(t, fmt.Sprintf("lease/%x/%d", id, i))
		}
		t.pace = min(time.Duration(ttl)*time.Second/3, 30*time.Second) // as etcd's client does
		if ttl < 1000 && w.chance(int(max(2, 7-ttl))) {                // at the last moment
			t.pace = time.Duration(ttl) * time.Second * time.Duration(70+w.rng.IntN(29)) / 100
		}
		w.after(t.pace, func() { x.keep(t) })
	})
}

// keep keeps a lease alive.
func (x *lessee) keep(t *tenancy) {
	if x.w.quiet || x.w.now >= t.until {
		return
	}
	x.keepAlive(t.id, func(ttl int64, err error) {
		x.answered(err == nil)
		switch {
		case err != nil:
			x.w.after(500*time.Millisecond, func() { x.keep(t) })
		case ttl > 0:
			x.w.after(t.pace, func() { x.keep(t) })
		}
	})
}

// once keeps a lease alive that may be over.
func (x *lessee) once(t *tenancy) {
	x.keepAlive(t.id, func(_ int64, err error) { x.answered(err == nil) })
}

// attach puts a key that ends with the lease.
func (x *lessee) attach(t *tenancy, key string) {
	t.keys++
	x.ask(check.Request{Kind: check.Put, Key: key, Value: fmt.Sprintf("%d.%x.%d.%d", x.id, t.id, t.keys, len(x.history)), Lease: t.id, Prev: x.w.chance(3)},
		func(_ check.Answer, err error) { x.answered(err == nil || certain(err)) })
}
