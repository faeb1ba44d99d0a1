package grpcapi

import (
	"sync/atomic"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/wire"
)

// quotaGuard lets one alarm request be under way at a time.
type quotaGuard struct{ raising atomic.Bool }

// The cost of a request is etcd's model (source: etcd v3.7 server/storage/quota.go): what the request could add.

func putCost(r *wire.PutRequest) int64 {
	return limits.QuotaCostPut + int64(len(r.Key)) + int64(len(r.Value))
}

// txnCost is the cost of the dearer branch. Only puts cost.
func txnCost(r *wire.TxnRequest) int64 { return max(branchCost(r.Success), branchCost(r.Failure)) }

func branchCost(ops []wire.RequestOp) (sum int64) {
	for i := range ops {
		switch op := &ops[i]; {
		case op.Put != nil:
			sum += putCost(op.Put)
		case op.Txn != nil:
			sum += txnCost(op.Txn)
		}
	}
	return sum
}

// full says whether a request of this cost would go over the quota, and whether this member's NOSPACE alarm has yet to be
// raised for it. A request that costs nothing fits however full the store is: it is how space comes back.
func (v *Services) full(cost int64) (full, raise bool) {
	quota := v.Settings.QuotaBytes
	if cost == 0 || quota <= 0 {
		return false, false
	}
	view := v.Store.View()
	if view.RetainedBytes()+cost < quota {
		return false, false
	}
	for _, a := range view.Alarms {
		if a.MemberID == uint64(v.Member) && a.Alarm == wire.AlarmNoSpace {
			return true, false
		}
	}
	return true, v.quota.raising.CompareAndSwap(false, true)
}

// raiseNoSpace proposes this member's NOSPACE alarm and calls done when it is up, or could not be raised.
func (v *Services) raiseNoSpace(done func()) {
	alarm := wire.AlarmRequest{Action: wire.AlarmActivate, MemberID: uint64(v.Member), Alarm: wire.AlarmNoSpace}
	v.Node.ProposeAs(command.Alarm, alarm.Append(nil), "", 0, &alarmRaised{v, done})
}

type alarmRaised struct {
	services *Services
	done     func()
}

func (w *alarmRaised) Complete(*command.Result) {
	w.services.quota.raising.Store(false)
	w.done()
}

// admit says whether a request of this cost fits the quota. If not it answers the call; the request that finds the store
// full first is answered when everybody can see the alarm.
func (v *Services) admit(c *rpc.Call, cost int64) bool {
	full, raise := v.full(cost)
	switch {
	case !full:
		return true
	case raise:
		v.raiseNoSpace(func() { c.Fail(statusOf(fault.NoSpace)) })
	default:
		c.Fail(statusOf(fault.NoSpace))
	}
	return false
}
