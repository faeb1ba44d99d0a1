package world

import (
	"errors"
	"time"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/check"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/state"
)

// ledger is what is recorded of leases, for check.Leases. It holds the leases of clients who record what they do to them.
type ledger struct {
	ops   []check.LeaseOp
	known map[int64]bool // recorded leases; true: their end has been seen
	past  map[int64]bool // leases whose end a member has applied
	order []int64        // of known, as they were asked for
	reign reign
}

// reign is the leadership of one member.
type reign struct {
	leader *Member       // that has taken over its leases; nil: none
	term   ids.Term      // in which it leads
	calm   time.Duration // from when on no fault disturbs anybody
	from   time.Duration // since when it has led without a fault; 0: there are faults
	spans  []check.Span  // in which one led without a fault
	leaps  []check.Leap  // of the leader's clock
}

// disturbance is how long a fault may have an effect, with what the cluster needs to come to itself.
const disturbance = 9 * time.Second

// disturb says that something bad happens.
func (w *World) disturb() { w.calmFrom(w.now + disturbance) }

// calmFrom says that from an instant on nothing bad has an effect any more, as far as is known now.
func (w *World) calmFrom(at time.Duration) {
	w.leases.reign.end(w.now)
	w.leases.reign.calm = at
}

func (r *reign) end(now time.Duration) {
	if r.from != 0 {
		r.spans = append(r.spans, check.Span{From: int64(r.from), To: int64(now)})
	}
	r.from = 0
}

// promoted says that a member leads and has taken over its leases.
func (w *World) promoted(m *Member, term ids.Term) {
	if r := &w.leases.reign; term > r.term {
		r.end(w.now)
		r.leader, r.term = m, term
	}
}

// demoted says that a member does not lead any more, or is down.
func (w *World) demoted(m *Member) {
	if r := &w.leases.reign; r.leader == m {
		r.end(w.now)
		r.leader = nil
	}
}

// reigns looks now and then whether a leadership is undisturbed.
func (w *World) reigns() {
	if r := &w.leases.reign; r.leader != nil && r.from == 0 && w.now >= r.calm {
		r.from = w.now
	}
	w.after(250*time.Millisecond, w.reigns)
}

// add records something; of a lease that was not known until now too.
func (l *ledger) add(o check.LeaseOp) {
	if _, ok := l.known[o.Lease]; !ok {
		if l.known == nil {
			l.known = map[int64]bool{}
		}
		l.known[o.Lease] = false
		l.order = append(l.order, o.Lease)
	}
	l.ops = append(l.ops, o)
}

// ends records that leases have ended. The first member that applies it counts: whoever asks it now is told so.
func (w *World) ends(m *Member, changes []state.LeaseChange) {
	l := &w.leases
	for _, c := range changes {
		if c.Kind != state.Revoked || l.past[int64(c.ID)] {
			continue
		}
		if l.past == nil {
			l.past = map[int64]bool{}
		}
		l.past[int64(c.ID)] = true // also before the answer to its grant: a member that starts again shows it once more
		if seen, ok := l.known[int64(c.ID)]; !ok || seen {
			continue
		}
		l.known[int64(c.ID)] = true
		w.trace.note(m.name, "lease %x has ended", int64(c.ID))
		l.add(check.LeaseOp{Act: check.LeaseGone, Via: m.name, Lease: int64(c.ID), Call: w.instant(), Return: w.instant(), Prompt: true})
	}
}

// revoked records a revocation.
func (l *ledger) revoked(o *check.Operation, err error, now int64) {
	if _, ok := l.known[o.Request.Lease]; !ok || errors.Is(err, errNeverAsked) || errors.Is(err, fault.LeaseNotFound) {
		return
	}
	r := check.LeaseOp{Act: check.LeaseRevoke, Via: "a client", Lease: o.Request.Lease, Call: o.Call, Return: check.Never}
	if err == nil {
		r.Return = now
	}
	l.add(r)
}

// refused records that an operation was refused because its lease is not there.
func (l *ledger) refused(o *check.Operation) {
	lease := o.Request.Lease
	for _, part := range o.Request.Then {
		lease = max(lease, part.Lease)
	}
	if _, ok := l.known[lease]; ok {
		l.add(check.LeaseOp{Act: check.LeaseGone, Via: "a client", Lease: lease, Call: o.Call, Return: o.Return})
	}
}

// keepAlive renews a lease for a client and records it. then hears of the answer: the TTL, or 0 if there is no such lease.
func (c *caller) keepAlive(id int64, then func(ttl int64, err error)) {
	w := c.w
	o := check.LeaseOp{Act: check.LeaseRenew, Via: c.name, Lease: id, Call: w.instant(), Return: check.Never}
	c.open++
	call(w, func(m *Member, answer leaseReply) { m.keepAlive(id, answer) }, func(v lifetime, err error) {
		c.open--
		if errors.Is(err, errNeverAsked) {
			then(0, err)
			return
		}
		if errors.Is(err, fault.LeaseNotFound) {
			v, err = lifetime{}, nil
		}
		if err == nil {
			o.Return, o.TTL = w.instant(), v.ttl
		}
		w.leases.add(o)
		c.say("keeps lease %x alive: %d, %v", id, v.ttl, err)
		then(v.ttl, err)
	})
}

// timeToLive asks for the time to live of a lease and records it.
func (c *caller) timeToLive(id int64, then func(ok bool)) {
	w := c.w
	o := check.LeaseOp{Act: check.LeaseAsk, Via: c.name, Lease: id, Call: w.instant(), Return: check.Never}
	c.open++
	call(w, func(m *Member, answer leaseReply) { m.timeToLive(id, answer) }, func(v lifetime, err error) {
		c.open--
		if errors.Is(err, fault.LeaseNotFound) {
			v, err = lifetime{ttl: -1}, nil
		}
		c.say("asks for lease %x: %d of %d, %v", id, v.ttl, v.granted, err)
		if err == nil {
			o.Return, o.TTL, o.Granted = w.instant(), v.ttl, v.granted
			w.leases.add(o)
		}
		then(err == nil)
	})
}

// grant asks for a lease and records it. then hears of its id and TTL, or of 0 when there was no answer.
func (c *caller) grant(id, ttl int64, then func(id, ttl int64)) {
	w := c.w
	op := check.Operation{Client: c.id, Call: w.instant(), Return: check.Never, Request: check.Request{Kind: check.Grant, Lease: id}}
	c.open++
	call(w, func(m *Member, answer leaseReply) { m.grant(id, ttl, answer) }, func(v lifetime, err error) {
		c.open--
		if !errors.Is(err, errNeverAsked) && (err == nil || id != 0) {
			o := check.LeaseOp{Act: check.LeaseGrant, Via: c.name, Lease: max(id, v.id), Call: op.Call, Return: check.Never, TTL: ttl}
			if err == nil {
				o.Return, o.TTL = w.instant(), v.ttl
			}
			w.leases.add(o)
		}
		c.say("is granted lease %x for %d of %d s", v.id, v.ttl, ttl)
		c.record(op, check.Answer{Revision: v.revision, Lease: v.id}, err)
		if err == nil && v.ttl != max(ttl, w.leaseTTLMin()) {
			w.violate("a lease's TTL", "lease %x: %d s were asked for, %d s granted", v.id, ttl, v.ttl)
		}
		then(v.id, v.ttl)
	})
}

// rules are what the cluster promises of its leases.
func (w *World) rules() check.LeaseRules {
	w.leases.reign.end(w.now)
	return check.LeaseRules{
		Second: int64(time.Second), MinTTL: w.leaseTTLMin(), Lag: int64(2*w.set.Apply + 50*time.Millisecond), Election: int64(w.timing().Election()) + int64(w.timing().Election())/20,
		Bound: int64(limits.LeaseRound + 1500*time.Millisecond), Unanswered: int64(20 * time.Second),
		Drift: w.set.Drift + w.set.Drift/10, Stable: w.leases.reign.spans, Leaps: w.leases.reign.leaps,
	}
}

// judgeLeases looks whether leases lived as long as they had to, and no longer, and whether locks had one holder.
func (w *World) judgeLeases(truth *check.Truth) {
	rules := w.rules()
	report := check.Leases(w.leases.ops, rules)
	w.collect(report)
	w.counts.Leases += len(w.leases.order)
	w.counts.Expired += report.Expired
	w.counts.Holds += len(w.holds)
	w.collect(check.Locks(w.holds, truth, w.leases.ops, rules))
}
