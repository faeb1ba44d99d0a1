package node

import "quorate.dev/quorate/limits"

// Length is how much one of the host's queues holds at this moment.
type Length struct {
	Queue string
	Holds int64 // entries, messages or bytes, as the name says
	Limit int64 // the most that it may hold
}

// Lengths are all queues whose length the host bounds, always in the same order. "idle entries" are those in memory that are applied, beyond
// what is kept for followers, while no follower is brought a snapshot.
func (d *Driver) Lengths() []Length {
	h, l := d.Host, d.parts.loop
	h.reads.mu.Lock()
	reads := len(h.reads.waiting) + len(h.reads.round) + len(h.reads.indexed)
	h.reads.mu.Unlock()
	h.inbox.mu.Lock()
	remote := h.inbox.remote
	h.inbox.mu.Unlock()
	toApply := 0
	h.applies.mu.Lock()
	for _, m := range h.applies.messages {
		toApply += dataBytes(m.GetEntries())
	}
	h.applies.mu.Unlock()
	last, _ := l.store.LastIndex()
	entries := int64(len(l.store.entries))
	idle := entries - int64(last) + int64(min(l.applied, last)) - int64(l.store.keep+l.store.slack)
	if len(l.store.held) > 0 {
		idle = 0
	}
	return []Length{
		{"proposals and their answers", h.gauges.pending.Load(), limits.ProposalsPending},
		{"bytes of proposals", h.gauges.pendingBytes.Load(), limits.ProposalPendingBytes + limits.RequestBytes},
		{"reads", int64(reads), limits.ProposalsPending},
		{"messages of other members", int64(remote), remoteMessages},
		{"bytes to be applied", int64(toApply), limits.ApplyOutstanding + limits.RequestBytes},
		{"entries to be applied", int64(h.gauges.backlog()), limits.ProposalsInFlight + limits.ProposalsPending},
		{"parked proposals", int64(len(l.parked)), limits.ProposalsParked},
		{"bytes of parked proposals", int64(l.parkedBytes), limits.ProposalsParkedBytes},
		{"changes of members", int64(len(l.changes)), limits.ChangesPending},
		{"entries in memory", entries, limits.LogHeldEntries + limits.ProposalsInFlight},
		{"idle entries", max(idle, 0), 0},
	}
}
