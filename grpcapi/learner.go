package grpcapi

import (
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/wire"
)

// The calls that a member without a vote answers, besides serializable ranges (source: etcd's
// server/etcdserver/api/v3rpc/util.go and interceptor.go). Everything else would look like the service of a full member.
const (
	methodStatus   = "/" + serviceMaintenance + "/Status"
	methodSnapshot = "/" + serviceMaintenance + "/Snapshot"
	methodRange    = "/" + serviceKV + "/Range"
)

// standing is whether this member is a learner in one state of the register.
type standing struct {
	members *member.View
	learner bool
}

// learner reports whether this member has no vote. The register changes rarely, so that is worked out once for each.
func (v *Services) learner() bool {
	members := v.Store.View().Members
	if s := v.standing.Load(); s != nil && s.members == members {
		return s.learner
	}
	m, ok := members.Get(v.Member)
	v.standing.Store(&standing{members: members, learner: ok && m.IsLearner})
	return ok && m.IsLearner
}

// learnerCall refuses the unary calls that a learner does not answer.
func (v *Services) learnerCall(method string, msg []byte) *rpc.Status {
	switch method {
	case methodStatus:
		return nil
	case methodRange:
		var req wire.RangeRequest
		if err := req.Unmarshal(msg); err != nil {
			return malformed(err)
		}
		if req.Serializable {
			return nil
		}
	}
	return statusOf(fault.NotSupportedForLearner)
}
