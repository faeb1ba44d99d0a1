package leader

import (
	"errors"
	"math"
	"time"

	"go.uber.org/zap"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/wire"
)

// lockedSteps is how many dues are looked at before the lock is given to others for a moment.
const lockedSteps = 1024

// revokeExpired proposes to revoke leases that have expired, as many as may be under way.
func (d *Duty) revokeExpired(now instant) {
	for {
		term, expired, more := d.takeExpired(now)
		for _, id := range expired {
			d.revoke(term, id)
		}
		if !more {
			return
		}
	}
}

// takeExpired looks at up to lockedSteps dues and returns the leases among them that have expired. A due that is not the one
// its lease counts on is left from an earlier life of the lease; one whose lease was renewed is put off to the new deadline.
func (d *Duty) takeExpired(now instant) (term ids.Term, expired []ids.LeaseID, more bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := &d.leases
	for range lockedSteps {
		if l.term == 0 || l.revoking >= limits.LeaseRevokesPerRound {
			return l.term, expired, false
		}
		next, ok := l.expiries.pop(now)
		if !ok {
			return l.term, expired, false
		}
		t := l.get(next.id)
		switch {
		case t == nil || t.queued != next.at:
		case t.deadline > now && !canary.On(canary.LeaseEarly):
			t.queued = t.deadline
			l.expiries.push(due{t.deadline, t.id})
		default:
			t.queued = 0
			l.revoking++
			expired = append(expired, t.id)
		}
	}
	return l.term, expired, true
}

// revoke proposes to revoke one lease, as the leader of term: a later leader may have renewed it. Apply learns of it when it is done.
func (d *Duty) revoke(term ids.Term, id ids.LeaseID) {
	d.expired.Add(1)
	d.cfg.Proposer.ProposeInTerm(term, command.LeaseRevoke, &wire.LeaseRevokeRequest{ID: int64(id)}, waiter(func(r *command.Result) {
		answer(d.revokeAnswered(term, id, r.Err), nil)
	}))
}

// revokeAnswered takes a revocation off the books. One that failed is tried again in a later round.
func (d *Duty) revokeAnswered(term ids.Term, id ids.LeaseID, err error) []waiting {
	now := d.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.leases.term != term {
		return nil // the answer to an earlier leadership's question
	}
	d.leases.revoking--
	if err == nil || errors.Is(err, fault.LeaseNotFound) {
		// Apply has removed it, unless somebody else revoked it before this member led.
		if t := d.leases.get(id); t == nil || t.queued == 0 {
			d.leases.remove(id)
			return d.queued.takeRevocation(id)
		}
		return nil
	}
	if t := d.leases.get(id); t != nil && t.queued == 0 {
		t.queued = now + instant(limits.LeaseRound)
		d.leases.expiries.push(due{t.queued, id})
		d.cfg.Logger.Warn("could not revoke an expired lease, will try again", zap.Stringer("lease", id), zap.Error(err))
	}
	return nil
}

// checkpointed reports whether a lease lives long enough to be checkpointed.
func (d *Duty) checkpointed(ttl int64) bool {
	return d.cfg.Checkpoints && ttl > int64(d.cfg.CheckpointEvery/time.Second)
}

// checkpoint proposes the remaining times of the leases whose turn it is, so that a later leader does not give them their
// whole time again. Each lease has its turn every Config.CheckpointEvery.
func (d *Duty) checkpoint(now instant) {
	for d.cfg.Checkpoints {
		// A renewal that comes from here on must clear the checkpoint after it: so it must not be proposed before.
		d.mu.Lock()
		m, more := d.takeCheckpoints(now)
		if len(m.Checkpoints) > 0 {
			d.cfg.Proposer.ProposeInTerm(d.leases.term, command.LeaseCheckpoint, m, waiter(func(r *command.Result) {
				if r.Err != nil {
					d.cfg.Logger.Warn("could not checkpoint leases, will try again in their next turn",
						zap.Int("leases", len(m.Checkpoints)), zap.Duration("period", d.cfg.CheckpointEvery), zap.Error(r.Err))
				}
			}))
		}
		d.mu.Unlock()
		if !more {
			return
		}
	}
}

// takeCheckpoints collects one command's worth of leases and gives each its next turn. d.mu is held.
func (d *Duty) takeCheckpoints(now instant) (m *wire.LeaseCheckpointRequest, more bool) {
	m = &wire.LeaseCheckpointRequest{}
	for range limits.LeaseCheckpointsPerReq {
		next, ok := d.leases.checks.pop(now)
		if !ok {
			return m, false
		}
		t := d.leases.get(next.id)
		if t == nil || t.check != next.at {
			continue // left from an earlier life of the lease
		}
		t.check = now + instant(d.cfg.CheckpointEvery)
		d.leases.checks.push(due{t.check, t.id})
		left := int64(math.Ceil(time.Duration(t.deadline - now).Seconds()))
		if left <= 0 || left >= t.ttl || d.leases.clearing[t.id] > 0 {
			continue // expired, just renewed, or about to be
		}
		t.remaining = left // already now, so that a renewal clears it even if it comes before the checkpoint is applied
		m.Checkpoints = append(m.Checkpoints, wire.LeaseCheckpoint{ID: int64(t.id), RemainingTTL: left})
	}
	return m, true
}
