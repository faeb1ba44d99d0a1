package leader

import (
	"context"
	"errors"
	"maps"
	"slices"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/wire"
)

// errDemoted ends the waits for a revocation on a member that is not the leader any more.
var errDemoted = errors.New("leader: this member does not lead any more")

// queued holds callers that wait: for this member to lead, or for a lease to be revoked. Guarded by Duty.mu.
type queued struct {
	closed   bool
	awaiting []waiting
	revoked  map[ids.LeaseID][]waiting
	count    int
}

// waiting is one caller.
type waiting struct {
	done  func(error)
	until instant // awaiting: when it gives up
}

func answer(all []waiting, err error) {
	for _, w := range all {
		w.done(err)
	}
}

func (q *queued) takeAwaiting() []waiting {
	out := q.awaiting
	q.awaiting = nil
	q.count -= len(out)
	return out
}

func (q *queued) takeRevocation(id ids.LeaseID) []waiting {
	out := q.revoked[id]
	delete(q.revoked, id)
	q.count -= len(out)
	return out
}

// takeRevoked takes all who wait for a revocation, by lease: in an order that does not differ between two identical runs.
func (q *queued) takeRevoked() []waiting {
	var out []waiting
	for _, id := range slices.Sorted(maps.Keys(q.revoked)) {
		out = append(out, q.revoked[id]...)
	}
	q.revoked = nil
	q.count -= len(out)
	return out
}

func (q *queued) takeAll() []waiting { return append(q.takeAwaiting(), q.takeRevoked()...) }

// admit reports whether one more may wait.
func (q *queued) admit() error {
	switch {
	case q.closed:
		return fault.Stopped
	case q.count >= limits.ProposalsPending:
		return fault.TooManyRequests
	}
	q.count++
	return nil
}

// Await calls done exactly once: with nil when this member leads and knows its leases, at once if it does already; with
// fault.Timeout when that did not come true within the request timeout; with fault.Stopped or fault.TooManyRequests.
// Right after a start, the answer to a request about a lease is to wait for this, not to say that there is none.
func (d *Duty) Await(done func(error)) {
	d.mu.Lock()
	var err error
	if d.leases.term == 0 {
		if err = d.queued.admit(); err == nil {
			until := d.now() + instant(d.cfg.RequestTimeout)
			d.queued.awaiting = append(d.queued.awaiting, waiting{done: done, until: until})
			d.mu.Unlock()
			return
		}
	}
	d.mu.Unlock()
	done(err)
}

// expireAwaiting answers those who have waited too long for this member to lead.
func (d *Duty) expireAwaiting(now instant) {
	d.mu.Lock()
	n := 0
	for n < len(d.queued.awaiting) && d.queued.awaiting[n].until <= now {
		n++
	}
	late := d.queued.awaiting[:n:n]
	d.queued.awaiting = d.queued.awaiting[n:]
	d.queued.count -= n
	d.mu.Unlock()
	answer(late, fault.Timeout)
}

// RenewAsync starts the lease's time anew and calls done exactly once with its time to live in seconds. It is called at
// once, on the caller's goroutine, for a lease that lives. A lease that has expired and is not yet revoked is not renewed:
// done is called when it is revoked. Errors: fault.LeaseNotFound; fault.NotLeader when this member ceased to lead while the
// caller waited; those of Await when it does not lead; and, for a lease with a checkpoint, those of the proposal that clears
// it.
func (d *Duty) RenewAsync(id ids.LeaseID, done func(ttl int64, err error)) {
	now := d.now()
	d.mu.Lock()
	if d.leases.term == 0 {
		d.mu.Unlock()
		d.Await(func(err error) {
			if err != nil {
				done(0, err)
				return
			}
			d.RenewAsync(id, done)
		})
		return
	}
	t := d.leases.get(id)
	switch {
	case t == nil:
		d.mu.Unlock()
		done(0, fault.LeaseNotFound)
	case t.deadline <= now:
		err := d.queued.awaitRevocation(id, done)
		d.mu.Unlock()
		if err != nil {
			done(0, err)
		}
	case d.cfg.Checkpoints && t.remaining > 0 && !canary.On(canary.RenewalLost):
		term := d.leases.term
		d.leases.clear(id, 1)
		d.mu.Unlock()
		d.renewCheckpointed(term, id, done)
	default:
		t.deadline = now.after(t.ttl)
		ttl := t.ttl
		d.mu.Unlock()
		d.renewed.Add(1)
		done(ttl, nil)
	}
}

// awaitRevocation has done called when the lease is revoked.
func (q *queued) awaitRevocation(id ids.LeaseID, done func(int64, error)) error {
	if err := q.admit(); err != nil {
		return err
	}
	if q.revoked == nil {
		q.revoked = map[ids.LeaseID][]waiting{}
	}
	q.revoked[id] = append(q.revoked[id], waiting{done: func(err error) {
		switch {
		case err == nil:
			err = fault.LeaseNotFound
		case errors.Is(err, errDemoted):
			err = fault.NotLeader
		}
		done(0, err)
	}})
	return nil
}

// renewCheckpointed clears the checkpoint first: a later leader would otherwise give the lease what remained at the
// checkpoint and not what it was renewed for.
func (d *Duty) renewCheckpointed(term ids.Term, id ids.LeaseID, done func(ttl int64, err error)) {
	m := &wire.LeaseCheckpointRequest{Checkpoints: []wire.LeaseCheckpoint{{ID: int64(id)}}}
	d.cfg.Proposer.ProposeInTerm(term, command.LeaseCheckpoint, m, waiter(func(r *command.Result) {
		d.mu.Lock()
		if d.leases.term == term {
			d.leases.clear(id, -1)
		}
		if t := d.leases.get(id); t != nil && r.Err == nil {
			t.remaining = 0 // as Apply has been told, or is about to be
		}
		d.mu.Unlock()
		if r.Err != nil {
			done(0, r.Err)
			return
		}
		d.RenewAsync(id, done)
	}))
}

// clear counts proposals that clear the checkpoint of a lease: by 1 when there is one more, by -1 when one is answered.
func (l *leases) clear(id ids.LeaseID, by int) {
	if l.clearing == nil {
		l.clearing = map[ids.LeaseID]int{}
	}
	if l.clearing[id] += by; l.clearing[id] == 0 {
		delete(l.clearing, id)
	}
}

// Renew is RenewAsync for a caller that can wait. Besides the errors of RenewAsync it returns ctx's when ctx ends first; the
// lease may be renewed even so.
func (d *Duty) Renew(ctx context.Context, id ids.LeaseID) (ttl int64, err error) {
	type result struct {
		ttl int64
		err error
	}
	c := make(chan result, 1)
	d.RenewAsync(id, func(ttl int64, err error) { c <- result{ttl, err} })
	select {
	case r := <-c:
		return r.ttl, r.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
