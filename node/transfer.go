package node

import (
	"slices"
	"time"

	"go.etcd.io/raft/v3"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
)

// transfer is a hand-over of the leadership that somebody waits for.
type transfer struct {
	to       ids.MemberID
	deadline time.Time
	done     func(error)
}

// TransferLeadership asks that another voter becomes the leader, and calls done exactly once, on another goroutine that it
// must not block: with nil when that member leads (at once when it is this one, which leads already), fault.NotLeader when
// this member does not lead, fault.BadLeaderTransferee when to is not a voter, fault.TimeoutLeaderTransfer when it did not
// happen within the request timeout, and fault.Stopped when the host has ended.
func (h *Host) TransferLeadership(to ids.MemberID, done func(error)) {
	if !h.inbox.put(event{call: func(l *loop) { l.transfer(to, done) }, drop: func() { done(fault.Stopped) }}) {
		done(fault.Stopped)
	}
}

func (l *loop) transfer(to ids.MemberID, done func(error)) {
	switch {
	case l.role != raft.StateLeader:
		done(fault.NotLeader)
	case uint64(to) == *l.self:
		done(nil)
	case !slices.Contains(l.conf.GetVoters(), uint64(to)):
		done(fault.BadLeaderTransferee)
	default:
		deadline := l.h.cfg.Clock.Now().Add(l.h.cfg.Timing.RequestTimeout())
		l.transfers = append(l.transfers, transfer{to: to, deadline: deadline, done: done})
		l.rn.TransferLeader(uint64(to))
	}
}

// settleTransfers answers the transfers to the member that leads now.
func (l *loop) settleTransfers(leader ids.MemberID) {
	l.endTransfers(nil, func(t transfer) bool { return t.to == leader })
}

// expireTransfers answers the transfers that did not happen in time.
func (l *loop) expireTransfers(now time.Time) {
	l.endTransfers(fault.TimeoutLeaderTransfer, func(t transfer) bool { return !now.Before(t.deadline) })
}

// abortTransfers answers all transfers when the loop ends.
func (l *loop) abortTransfers() {
	l.endTransfers(fault.Stopped, func(transfer) bool { return true })
}

func (l *loop) endTransfers(err error, which func(transfer) bool) {
	l.transfers = slices.DeleteFunc(l.transfers, func(t transfer) bool {
		if which(t) {
			t.done(err)
			return true
		}
		return false
	})
}
