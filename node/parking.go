package node

import (
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/limits"
)

// parking holds proposals of other members that raft does not take, because the leadership is being handed over or there is no
// leader. Whoever proposed them is not told by raft, so they are offered again: to this leader, or through raft to the next.
type parking struct {
	parked      []parked // oldest first
	parkedBytes int      // their entries' data
}

type parked struct {
	m     *raftpb.Message
	start int64 // coarse clock, nanoseconds
	size  int
}

// stepRemote gives raft a message of another member.
func (l *loop) stepRemote(m *raftpb.Message) {
	if m.GetType() != raftpb.MsgProp {
		// Raft refuses messages of strangers and storage messages that somebody else made up. Neither matters here.
		_ = l.rn.Step(m)
		return
	}
	if l.parting { // its group is that of before its removal: nothing may be built on it
		return
	}
	if l.outdated(m) { // whoever proposed it does so again when the next leader has begun
		return
	}
	if l.holdForwarded(m) || l.lead != raft.None && l.rn.Step(m) == nil {
		return
	}
	// Whoever proposed what there is no room for gets a timeout.
	if size := dataBytes(m.GetEntries()); len(l.parked) < limits.ProposalsParked && l.parkedBytes+size <= limits.ProposalsParkedBytes {
		l.parkedBytes += size
		l.parked = append(l.parked, parked{m: m, start: l.h.gauges.now.Load(), size: size})
	}
}

// unpark offers raft what it did not take, in the order in which it came, unless it is so old that nobody waits for it.
func (l *loop) unpark() {
	oldest := l.h.gauges.now.Load() - int64(l.h.cfg.Timing.RequestTimeout())
	for len(l.parked) > 0 {
		p := l.parked[0]
		if p.start > oldest && !l.outdated(p.m) && (l.lead == raft.None || l.rn.Step(p.m) != nil) {
			return
		}
		l.parkedBytes -= p.size
		l.parked[0] = parked{}
		l.parked = l.parked[1:]
	}
	l.parked = nil
}
