package world

import (
	"fmt"
	"time"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/check"
)

// client asks at random, one thing after the other, and writes down what it is answered.
type client struct {
	w       *World
	id      int
	history []check.Operation
	leases  []int64
	mods    map[string]int64 // what this client saw last of each key
	asked   int              // counts requests; an answer to an earlier one is void
	success time.Duration    // of its last answer
	granted int64
	sticks  *Member // if it asks none but this
	turn    func()  // takes the place of a random request
	who     credential
	compact int64 // a revision to compact up to when all watches have it
}

// begin asks, and goes on asking.
func (c *client) begin() {
	if c.turn != nil {
		c.turn()
		return
	}
	if c.w.resting() || c.content() {
		c.w.after(50*time.Millisecond, c.begin)
		return
	}
	c.ask(c.choose())
}

func (c *client) key() string { return fmt.Sprintf("k%02d", c.w.rng.IntN(c.w.set.Keys)) }

// content reports whether the client was served since the faults are over: it waits for the others then.
func (c *client) content() bool { return c.w.healed && c.success > c.w.since && c.w.since > 0 }

// waiting reports whether a request is not answered and not given up: asked is raised once when it is made and once when it ends.
func (c *client) waiting() bool { return c.asked%2 != 0 }

// choose makes up a request.
func (c *client) choose() check.Request {
	rng := c.w.rng
	if at := c.compact; at != 0 && at <= c.w.safe {
		c.compact = 0
		return check.Request{Kind: check.Compact, Revision: at}
	}
	put := check.Request{Kind: check.Put, Key: c.key(), Value: fmt.Sprintf("%d.%d", c.id, len(c.history)), Prev: rng.IntN(3) == 0}
	switch n := rng.IntN(100); {
	case n < 33:
		return put
	case n < 50:
		return check.Request{Kind: check.Range, Key: put.Key}
	case n < 56:
		return check.Request{Kind: check.Range, Key: "k", End: "l", Limit: int64(rng.IntN(3) * 6)}
	case n < 60:
		return check.Request{Kind: check.Range, Key: "k", End: "l", Stale: true}
	case n < 64 && c.w.seen > 20:
		return check.Request{Kind: check.Range, Key: "k", End: "l", Revision: c.past()}
	case n < 69:
		return check.Request{Kind: check.Delete, Key: put.Key, Prev: put.Prev}
	case n < 70:
		return check.Request{Kind: check.Delete, Key: put.Key, End: put.Key[:2] + "\xff"}
	case n < 84:
		return c.txn(put)
	case n < 88 || len(c.leases) == 0:
		c.granted++
		return check.Request{Kind: check.Grant, Lease: int64(c.id)<<32 | c.granted}
	case n < 95:
		put.Lease = c.leases[rng.IntN(len(c.leases))]
		return put
	case n < 98:
		i := rng.IntN(len(c.leases))
		lease := c.leases[i]
		if rng.IntN(3) > 0 { // the others are used on, to be refused
			c.leases = append(c.leases[:i], c.leases[i+1:]...)
		}
		return check.Request{Kind: check.Revoke, Lease: lease}
	}
	if back := int64(60); c.w.safe > back && rng.IntN(2) == 0 {
		return check.Request{Kind: check.Compact, Revision: c.w.safe - rng.Int64N(back)*rng.Int64N(2)}
	}
	return put
}

// ask sends a request to a member and waits for the answer, for as long as a client does.
func (c *client) ask(q check.Request) {
	w := c.w
	c.asked++
	turn := c.asked
	m := w.members[w.rng.IntN(len(w.members))]
	if c.sticks != nil {
		m = c.sticks
	}
	op := check.Operation{Client: c.id, Call: w.instant(), Return: check.Never, Request: q}
	finish := func(a check.Answer, err error) {
		if c.asked != turn {
			return
		}
		c.asked++ // the next answer or the timeout finds nobody
		c.record(op, a, err)
		if c.dismissed(q, err) {
			return
		}
		w.after(w.upTo(2*w.set.Pause), c.begin)
	}
	ttl := int64(2 + w.rng.IntN(8))
	d, ok := w.net.passes(0, m.ID)
	life := m.life
	w.after(opTimeout, func() { finish(check.Answer{}, errUnderWay) })
	if !ok {
		return
	}
	w.after(d, func() {
		if !m.serves(q.Kind == check.Range && q.Stale) { // refused: it was never asked
			if c.asked == turn {
				c.asked++
				w.after(w.upTo(20*time.Millisecond), c.begin)
			}
			return
		}
		if m.life != life {
			life = m.life
		}
		m.enter(life, func() {
			m.serve(c.who, q, ttl, func(a check.Answer, err error) { w.back(m, life, func() { finish(a, err) }) })
		})
	})
}

// back brings an answer from a member to a client.
func (w *World) back(m *Member, life int, do func()) {
	if !m.up || m.life != life {
		return // it was killed while it refused
	}
	if d, ok := w.net.passes(m.ID, 0); ok {
		w.after(d, do)
	}
}

// record writes an operation down and learns from it.
func (c *client) record(op check.Operation, a check.Answer, err error) {
	w := c.w
	switch {
	case err == nil:
		op.Return, op.Answer = w.instant(), a
		c.success = w.now
		w.counts.Answered++
		c.learn(op)
	case certain(err):
		op.Return, op.Answer = w.instant(), check.Answer{Refusal: err.Error()}
		c.success = w.now
		w.counts.Refused++
	default:
		w.counts.Unknown++
	}
	w.trace.note(fmt.Sprintf("c%d", c.id), "%s: revision %d, %v", op.Request, a.Revision, err)
	c.history = append(c.history, op)
}

func (c *client) learn(o check.Operation) {
	c.w.seen = max(c.w.seen, o.Answer.Revision)
	if o.Answer.Lease != 0 {
		c.leases = append(c.leases, o.Answer.Lease)
		if c.w.chance(2) {
			c.keep(ids.LeaseID(o.Answer.Lease), c.w.between(time.Second, 20*time.Second))
		}
	}
	switch o.Request.Kind {
	case check.Delete:
		if o.Answer.Count > 0 && (c.turn != nil || c.w.chance(6)) { // compactions meet deletions, and restarts what they leave
			c.compact = o.Answer.Revision
		}
	case check.Compact:
		c.w.afterCompaction(o.Request.Revision)
	case check.Put:
		c.mods[o.Request.Key] = o.Answer.Revision
	case check.Range:
		for _, kv := range o.Answer.KVs {
			c.mods[kv.Key] = kv.Mod
		}
	}
}

// keep keeps a lease alive for some time, at whichever member leads.
func (c *client) keep(id ids.LeaseID, rest time.Duration) {
	w := c.w
	if rest <= 0 {
		return
	}
	m := w.members[w.rng.IntN(len(w.members))]
	if d, ok := w.net.passes(0, m.ID); ok && m.up {
		life := m.life
		w.after(d, func() { m.enter(life, func() { m.renew(id, func(int64, error) {}) }) })
	}
	w.after(300*time.Millisecond, func() { c.keep(id, rest-300*time.Millisecond) })
}
