package world

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/internal/check"
)

// locker is a client that locks, as etcd's package concurrency does it: its session is a lease that it keeps alive, its place in the queue
// a key with that lease, and it waits until the key before its own is gone.
type locker struct {
	caller
	prefix  string        // of the lock
	phase   string        // for texts
	session *session      // nil: none
	turn    int           // counts attempts; what belongs to an earlier one is void
	waits   *watcher      // for the key before its own; nil: it does not wait
	success time.Duration // when it got the lock last
	held    int           // index of its hold in World.holds, -1 while it holds nothing
}

// session is a lease that is kept alive.
type session struct {
	lease, ttl int64
	until      time.Duration // the client believes in it until then
	over       bool
}

// begin makes a session, if there is none, and asks for the lock.
func (x *locker) begin() {
	w := x.w
	x.held = -1
	x.turn++
	if w.quiet {
		x.phase = "at rest"
		return
	}
	if x.session != nil && !x.session.over {
		x.acquire()
		return
	}
	x.phase = "wants a session"
	x.grant(int64(x.id)<<32|int64(x.turn), 2+w.rng.Int64N(4), func(id, ttl int64) {
		if id == 0 {
			w.after(w.upTo(200*time.Millisecond), x.begin)
			return
		}
		x.session = &session{lease: id, ttl: ttl, until: w.now + time.Duration(ttl)*time.Second}
		x.keep(x.session)
		x.acquire()
	})
}

// keep keeps a session alive and ends it when it is over.
func (x *locker) keep(s *session) {
	w := x.w
	switch {
	case s.over || w.quiet:
		return
	case w.now >= s.until:
		x.lose(s)
		return
	}
	next := func(d time.Duration) { w.after(d, func() { x.keep(s) }) }
	x.keepAlive(s.lease, func(ttl int64, err error) {
		switch {
		case err != nil:
			next(200 * time.Millisecond)
		case ttl <= 0:
			x.lose(s)
		default:
			s.until = w.now + time.Duration(ttl)*time.Second
			next(time.Duration(ttl) * time.Second / 3)
		}
	})
}

// lose ends a session that the client does not believe in any more, and what it did with it.
func (x *locker) lose(s *session) {
	if s.over {
		return
	}
	s.over = true
	if x.session == s {
		x.say("has lost its session")
		x.letGo()
		x.stopWaiting()
		x.again()
	}
}

// again begins anew after a while.
func (x *locker) again() {
	x.turn++
	turn := x.turn
	x.w.after(x.w.upTo(100*time.Millisecond), func() {
		if x.turn == turn {
			x.begin()
		}
	})
}

// letGo ends the belief to hold the lock.
func (x *locker) letGo() {
	if x.held >= 0 {
		x.w.holds[x.held].To = x.w.instant()
		x.held = -1
	}
}

func (x *locker) stopWaiting() {
	if x.waits != nil {
		x.waits.stop()
		x.waits = nil
	}
}

func (x *locker) key() string { return fmt.Sprintf("%s%x", x.prefix, x.session.lease) }

// queue asks for all keys of the lock.
func (x *locker) queue() check.Request {
	return check.Request{Kind: check.Range, Key: x.prefix, End: x.prefix[:len(x.prefix)-1] + "0"}
}

// step asks for something that belongs to this attempt: an answer that comes when it is over is not looked at.
func (x *locker) step(q check.Request, then func(check.Answer)) {
	turn := x.turn
	x.ask(q, func(a check.Answer, err error) {
		switch {
		case x.turn != turn:
		case errors.Is(err, fault.LeaseNotFound):
			x.lose(x.session)
		case err != nil:
			x.again()
		default:
			then(a)
		}
	})
}

// acquire puts the client's key, unless it is there already, and looks whose turn it is.
func (x *locker) acquire() {
	x.phase = "joins the queue"
	x.turn++
	key := x.key()
	x.step(check.Request{
		Kind: check.Txn, If: []check.Compare{{Key: key, Target: check.ByCreate, Relation: '='}},
		Then: []check.Request{{Kind: check.Put, Key: key, Value: fmt.Sprintf("%d.%d", x.id, x.turn), Lease: x.session.lease}, x.queue()},
		Else: []check.Request{{Kind: check.Range, Key: key}, x.queue()},
	}, func(a check.Answer) { x.look(a.Parts[1].KVs, a.Revision) })
}

// look finds out from the queue at a revision whether the lock is the client's, or whom it waits for.
func (x *locker) look(queue []check.KV, revision int64) {
	w := x.w
	if w.quiet {
		x.begin()
		return
	}
	var mine, before *check.KV
	for i := range queue {
		if queue[i].Key == x.key() {
			mine = &queue[i]
		}
	}
	if mine == nil { // the lease has ended, and the key with it
		x.lose(x.session)
		return
	}
	for i := range queue {
		if kv := &queue[i]; kv.Create < mine.Create && (before == nil || kv.Create > before.Create) {
			before = kv
		}
	}
	if before != nil {
		x.wait(before.Key, revision)
		return
	}
	x.hold(mine.Create, revision)
}

// wait waits until a key is gone, and looks again.
func (x *locker) wait(key string, revision int64) {
	w, turn := x.w, x.turn
	x.phase = "waits for " + key
	n := &watcher{w: w, name: fmt.Sprintf("%s.%d", x.name, len(w.brief)), key: key}
	n.begin(revision + 1)
	n.heed = func(resp *etcdserverpb.WatchResponse) {
		gone := resp.CompactRevision > 0
		for _, e := range resp.Events {
			gone = gone || e.Type == mvccpb.Event_DELETE
		}
		if gone && x.turn == turn && x.waits == n {
			w.after(0, func() { // after it has been written down
				x.stopWaiting()
				if x.turn == turn {
					x.step(x.queue(), func(a check.Answer) { x.look(a.KVs, a.Revision) })
				}
			})
		}
	}
	w.brief = append(w.brief, n)
	x.waits = n
	n.connect()
}

// hold holds the lock for a while, and then gives it back, or not.
func (x *locker) hold(create, at int64) {
	w, s := x.w, x.session
	if s.over {
		return
	}
	x.success, x.phase = w.now, "holds"
	x.say("holds %s by lease %x at revision %d", x.prefix, s.lease, at)
	x.held = len(w.holds)
	w.holds = append(w.holds, check.Hold{
		Client: x.id, Prefix: x.prefix, Key: x.key(), Lease: s.lease, Create: create, At: at, From: w.instant(), To: check.Never,
	})
	turn := x.turn
	w.after(w.between(20*time.Millisecond, 1500*time.Millisecond), func() {
		if x.turn == turn {
			x.part(s)
		}
	})
}

// part ends a hold in one of the ways in which that happens.
func (x *locker) part(s *session) {
	w := x.w
	n := w.rng.IntN(100)
	switch {
	case w.healed || n < 70:
		x.letGo()
		x.release(x.key())
	case n < 78: // the session is closed
		x.letGo()
		s.over = true
		x.ask(check.Request{Kind: check.Revoke, Lease: s.lease}, func(check.Answer, error) {})
		x.again()
	case n < 86: // the client dies
		x.letGo()
		s.over = true
		x.again()
	default: // it is cut off, or held still, and goes on believing until its time is over
		x.turn++
		s.over = true
		w.after(max(s.until-w.now, 0), func() {
			x.letGo()
			x.begin()
		})
	}
}

// release deletes the client's key, until that has happened.
func (x *locker) release(key string) {
	turn := x.turn
	x.phase = "lets go of " + key
	x.ask(check.Request{Kind: check.Delete, Key: key}, func(_ check.Answer, err error) {
		switch {
		case x.turn != turn: // the session is over, and the key with it
		case err != nil && !errors.Is(err, errNeverAsked):
			x.session.over = true // it may happen later, and to another key of that name: none is made any more
			x.begin()
		case err != nil && !x.w.quiet:
			x.w.after(20*time.Millisecond, func() {
				if x.turn == turn {
					x.release(key)
				}
			})
		default:
			x.w.after(x.w.upTo(2*x.w.set.Pause), func() {
				if x.turn == turn {
					x.begin()
				}
			})
		}
	})
}

// stop ends a watch.
func (x *watcher) stop() {
	x.session++
	x.heed = nil
	if stream, m := x.stream, x.via; stream != nil {
		m.enter(x.life, stream.Close)
	}
}

// briefly are the watches of those who waited.
func (w *World) briefly() (all []check.Watch) {
	for _, x := range w.brief {
		all = append(all, x.watches...)
	}
	return all
}
