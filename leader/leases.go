package leader

import (
	"cmp"
	"math"
	"slices"
	"time"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/lease"
	"quorate.dev/quorate/limits"
)

// forever is the deadline of a lease that would outlive the scale of instants, about 292 years.
const forever = instant(math.MaxInt64)

// timed is a lease with its deadline.
type timed struct {
	id        ids.LeaseID
	ttl       int64   // as granted, seconds
	remaining int64   // seconds left at the last checkpoint; 0: none since the last renewal
	deadline  instant // when it expires
	queued    instant // the instant in expiries that counts; 0: none, it is being revoked
	check     instant // the instant in checks that counts; 0: none
}

// leases are the deadlines of all leases while this member leads, and empty else. Guarded by Duty.mu.
type leases struct {
	term     ids.Term // led by this member; 0: it does not lead
	demoted  ids.Term // a promotion to this term or an earlier one comes too late
	byID     map[ids.LeaseID]int32
	slab     []timed // where byID points
	free     []int32 // unused places of slab
	expiries queue
	revoking int // revocations under way
	checks   queue
	// clearing counts, by lease, the proposals under way that clear its checkpoint for a renewal. Meanwhile it gets no new one, which would come
	// after the clearing and undo the renewal for the next leader.
	clearing map[ids.LeaseID]int
}

func (l *leases) reset() {
	*l = leases{demoted: l.demoted}
}

func (l *leases) get(id ids.LeaseID) *timed {
	if at, ok := l.byID[id]; ok {
		return &l.slab[at]
	}
	return nil
}

// add takes in a lease and queues its deadline.
func (l *leases) add(t timed) {
	t.queued = t.deadline
	if at, ok := l.byID[t.id]; ok {
		l.slab[at] = t
	} else if n := len(l.free); n > 0 {
		at := l.free[n-1]
		l.free = l.free[:n-1]
		l.slab[at], l.byID[t.id] = t, at
	} else {
		l.byID[t.id] = int32(len(l.slab))
		l.slab = append(l.slab, t)
	}
	l.expiries.push(due{t.deadline, t.id})
}

// remove forgets a lease. What the queues still hold of it is dropped when it comes up.
func (l *leases) remove(id ids.LeaseID) {
	at, ok := l.byID[id]
	if !ok {
		return
	}
	delete(l.byID, id)
	l.slab[at] = timed{}
	l.free = append(l.free, at)
}

// after is the instant ttl seconds after now.
func (now instant) after(ttl int64) instant {
	const second = int64(time.Second)
	if ttl > (math.MaxInt64-int64(now))/second {
		return forever
	}
	return now + instant(ttl*second)
}

// Promote says that this member leads term and that all is the complete list of leases. Every lease lives for the election
// timeout and its remaining time, or its whole time if it was never checkpointed, from now on: nobody could renew it while
// there was no leader. Deadlines that pile up are spread (see spread). Promotions must come in the order of the log with the
// changes given to Apply; one that comes after a Demote of the same or a later term is ignored.
func (d *Duty) Promote(term ids.Term, all []lease.Lease) {
	start := d.now() + instant(d.cfg.Election)
	next := leases{
		term: term, byID: make(map[ids.LeaseID]int32, len(all)),
		slab: make([]timed, 0, len(all)), expiries: make(queue, 0, len(all)),
	}
	for _, l := range all {
		ttl := l.TTL
		if l.Remaining > 0 {
			ttl = l.Remaining
		}
		next.slab = append(next.slab, timed{id: l.ID, ttl: l.TTL, remaining: l.Remaining, deadline: start.after(ttl)})
	}
	slices.SortFunc(next.slab, func(a, b timed) int {
		return cmp.Or(cmp.Compare(a.deadline, b.deadline), cmp.Compare(a.id, b.id))
	})
	spread(next.slab)
	for i := range next.slab {
		t := &next.slab[i]
		t.queued = t.deadline
		next.byID[t.id] = int32(i)
		next.expiries = append(next.expiries, due{t.deadline, t.id})
		if d.checkpointed(t.ttl) {
			t.check = d.now() + instant(d.cfg.CheckpointEvery)
			next.checks = append(next.checks, due{t.check, t.id})
		}
	}
	next.expiries.order()
	next.checks.order()

	d.mu.Lock()
	if term <= d.leases.demoted || d.queued.closed {
		d.mu.Unlock()
		return
	}
	next.demoted = d.leases.demoted
	d.leases = next
	waiting := d.queued.takeAwaiting()
	d.mu.Unlock()
	answer(waiting, nil)
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// spread delays deadlines, which ascend, so that no second has more of them than three quarters of what the rounds of a
// second can revoke, if there are more leases than those rounds could revoke at all: the rest of the rate is left to leases
// that expire for their own reasons (source: etcd's lessor.Promote).
func spread(sorted []timed) {
	const perSecond = limits.LeaseRevokesPerRound * int(time.Second/limits.LeaseRound)
	const most = 3 * perSecond / 4
	if len(sorted) < perSecond {
		return
	}
	start, count := sorted[0].deadline, 0
	for i := range sorted {
		t := &sorted[i]
		switch {
		case t.deadline >= start+instant(time.Second):
			start, count = t.deadline, 0
		case count == most:
			start, count = start+instant(time.Second), 0
		}
		if t.deadline < forever {
			t.deadline = max(t.deadline, start)
		}
		count++
	}
}

// Demote says that this member does not lead any more, as of the given term: leases do not expire here, and whoever waits
// for a revocation is told fault.NotLeader by Renew.
func (d *Duty) Demote(term ids.Term) {
	d.mu.Lock()
	d.leases.demoted = max(d.leases.demoted, term)
	d.leases.reset()
	waiting := d.queued.takeRevoked()
	d.mu.Unlock()
	answer(waiting, errDemoted)
}

// ChangeKind says what happened to a lease.
type ChangeKind uint8

// What can happen to a lease.
const (
	Granted ChangeKind = iota + 1
	Revoked
	Checkpointed
)

// Change is one change of a lease in the replicated state.
type Change struct {
	ID        ids.LeaseID
	Kind      ChangeKind
	TTL       int64 // Granted: seconds
	Remaining int64 // Checkpointed: seconds, 0 clears
}

// Apply takes over what a batch of commands did to leases, after it can be read and before its results are delivered. It
// does nothing while this member does not lead.
func (d *Duty) Apply(changes []Change) {
	if len(changes) == 0 {
		return
	}
	now := d.now()
	var gone []waiting
	d.mu.Lock()
	if d.leases.term == 0 {
		d.mu.Unlock()
		return
	}
	for _, c := range changes {
		switch c.Kind {
		case Granted:
			t := timed{id: c.ID, ttl: c.TTL, deadline: now.after(c.TTL)}
			if d.checkpointed(c.TTL) {
				t.check = now + instant(d.cfg.CheckpointEvery)
				d.leases.checks.push(due{t.check, t.id})
			}
			d.leases.add(t)
		case Revoked:
			d.leases.remove(c.ID)
			gone = append(gone, d.queued.takeRevocation(c.ID)...)
		case Checkpointed:
			if t := d.leases.get(c.ID); t != nil {
				t.remaining = c.Remaining
			}
		}
	}
	d.mu.Unlock()
	answer(gone, nil)
}

// Remaining is how long the lease still lives, 0 when it has expired and is not yet revoked, and how long it was granted
// for in seconds. ok is false when there is no such lease, leading when this member does not know because it does not lead.
func (d *Duty) Remaining(id ids.LeaseID) (left time.Duration, granted int64, ok, leading bool) {
	now := d.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.leases.get(id)
	if t == nil {
		return 0, 0, false, d.leases.term != 0
	}
	return time.Duration(max(t.deadline-now, 0)), t.ttl, true, true
}

// Order sorts lease ids by how long they still live, the shortest first. Leases that are unknown come last; equal ones are
// sorted by id. While this member does not lead that is the order of ids.
func (d *Duty) Order(all []ids.LeaseID) {
	dues := make([]due, len(all))
	d.mu.Lock()
	for i, id := range all {
		dues[i] = due{forever, id}
		if t := d.leases.get(id); t != nil {
			dues[i].at = t.deadline
		}
	}
	d.mu.Unlock()
	slices.SortFunc(dues, func(a, b due) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.id, b.id)) })
	for i := range dues {
		all[i] = dues[i].id
	}
}
