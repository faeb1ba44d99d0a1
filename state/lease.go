package state

import (
	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/lease"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/wire"
)

// leaseGrant refuses id 0: the member that proposes chooses the id, since the state machine has no randomness.
func leaseGrant(m *Machine, body []byte, r *command.Result) error {
	var req wire.LeaseGrantRequest
	if err := decode(command.LeaseGrant, &req, body); err != nil {
		return err
	}
	id := ids.LeaseID(req.ID)
	switch {
	case id == 0:
		return fault.LeaseNotFound
	case req.TTL > limits.LeaseTTLSecondsMax:
		return fault.LeaseTTLTooLarge
	case m.leases.Has(id):
		return fault.LeaseExist
	}
	ttl := max(req.TTL, m.config.LeaseTTLMin)
	m.leases.Grant(m.batch, id, ttl)
	m.leaseChanged(lease.Granted, lease.Lease{ID: id, TTL: ttl})
	r.Lease, r.TTL = id, ttl
	return nil
}

// leaseRevoke deletes the lease and its keys, in order of the keys, as one revision.
func leaseRevoke(m *Machine, body []byte, _ *command.Result) error {
	var req wire.LeaseRevokeRequest
	if err := decode(command.LeaseRevoke, &req, body); err != nil {
		return err
	}
	l, ok := m.leases.Get(ids.LeaseID(req.ID))
	if !ok {
		return fault.LeaseNotFound
	}
	// The lease goes first, so that its keys need not be detached one by one.
	keys := m.leases.Revoke(m.batch, l.ID)
	tx := m.keys.Begin(m.batch)
	for i, key := range keys {
		if canary.On(canary.KeepRevoked) && i > 0 {
			break
		}
		tx.DeleteRange(key, nil)
	}
	m.v2.writing = canary.On(canary.V2LeaseUnseen)
	m.end(tx)
	m.v2.writing = false
	m.leaseChanged(lease.Revoked, l)
	return nil
}

// leaseCheckpoint passes over leases that are gone meanwhile.
func leaseCheckpoint(m *Machine, body []byte, _ *command.Result) error {
	var req wire.LeaseCheckpointRequest
	if err := decode(command.LeaseCheckpoint, &req, body); err != nil {
		return err
	}
	for _, c := range req.Checkpoints {
		l, ok := m.leases.Get(ids.LeaseID(c.ID))
		if !ok {
			continue
		}
		l.Remaining = c.RemainingTTL
		m.leases.Checkpoint(m.batch, l.ID, l.Remaining)
		m.leaseChanged(lease.Checkpointed, l)
	}
	return nil
}

func (m *Machine) leaseChanged(kind lease.Kind, l lease.Lease) {
	m.effects.Leases = append(m.effects.Leases, LeaseChange{Lease: l, Kind: kind})
}
