package grpcapi

import (
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/rpc"
)

func (v *Services) registerCluster(s *rpc.Server) {
	const service = "etcdserverpb.Cluster"
	v.unary(s, service, "MemberList", cold(v.handleMemberList))
	v.unary(s, service, "MemberAdd", cold(v.handleMemberAdd))
	v.unary(s, service, "MemberRemove", cold(v.handleMemberRemove))
	v.unary(s, service, "MemberUpdate", cold(v.handleMemberUpdate))
	v.unary(s, service, "MemberPromote", cold(v.handleMemberPromote))
}

func (v *Services) handleMemberList(c *rpc.Call, who asker, req *etcdserverpb.MemberListRequest) {
	list := func(err error) {
		if err == nil {
			err = who.may(v.Store.View(), &auth.Request{})
		}
		if err != nil {
			c.Fail(statusOf(err))
			return
		}
		// The headers of this service carry no revision.
		replyProto(c, &etcdserverpb.MemberListResponse{Header: v.headerProto(0), Members: v.memberProtos()})
	}
	if req.Linearizable {
		v.Node.Read(list)
		return
	}
	list(nil)
}

// The changes below are checked as etcd checks them before it asks the group, in its order; the group checks the rest
// (source: etcd v3.7 server/etcdserver/server.go, AddMember and its neighbours).

func (v *Services) handleMemberAdd(c *rpc.Call, who asker, req *etcdserverpb.MemberAddRequest) {
	urls := slices.Clone(req.PeerURLs)
	for i := range urls {
		urls[i] = strings.TrimSpace(urls[i])
	}
	slices.Sort(urls)
	err := member.CheckURLs(urls)
	if err == nil {
		err = who.may(v.Store.View(), &auth.Request{})
	}
	if err == nil {
		err = v.mayAdd(req.IsLearner)
	}
	if err != nil {
		c.Fail(statusOf(err))
		return
	}
	m := member.Member{ID: member.IDOfAdded(urls, time.Now().Unix()), PeerURLs: urls, IsLearner: req.IsLearner}
	v.Members.Change(member.Change{Kind: member.Added, Member: m}, &answer{c, func(*command.Result) {
		replyProto(c, &etcdserverpb.MemberAddResponse{Header: v.headerProto(0), Member: memberProto(&m), Members: v.memberProtos()})
	}})
}

// CheckChange is what is asked of a change of members before it is proposed, for callers who propose it themselves.
func (v *Services) CheckChange(c member.Change) error {
	switch c.Kind {
	case member.Added:
		return v.mayAdd(c.Member.IsLearner)
	case member.Removed:
		return v.mayRemove(c.Member.ID)
	}
	return nil
}

// mayAdd is the strict check: one more member must not put the quorum at risk.
func (v *Services) mayAdd(learner bool) error {
	if !v.Settings.StrictReconfig {
		return nil
	}
	members := v.Store.View().Members
	if !learner {
		if err := members.CheckReadyToAdd(); err != nil {
			return err
		}
	}
	// The new member counts as down.
	if connected, voters := v.connected(members); voters != 1 && connected < (voters+1)/2+1 {
		return fault.Unhealthy
	}
	return nil
}

// connected counts the voters that have been connected for limits.HealthInterval, this member included, and all voters.
func (v *Services) connected(members *member.View) (connected, voters int) {
	since := time.Now().Add(-limits.HealthInterval)
	for _, m := range members.Members() {
		if m.IsLearner {
			continue
		}
		voters++
		if at := v.Members.ActiveSince(m.ID); m.ID == v.Member || !at.IsZero() && at.Before(since) {
			connected++
		}
	}
	return connected, voters
}

func (v *Services) handleMemberRemove(c *rpc.Call, _ asker, req *etcdserverpb.MemberRemoveRequest) {
	id := ids.MemberID(req.ID)
	if err := v.mayRemove(id); err != nil {
		c.Fail(statusOf(err))
		return
	}
	v.Members.Change(member.Change{Kind: member.Removed, Member: member.Member{ID: id}}, &answer{c, func(*command.Result) {
		replyProto(c, &etcdserverpb.MemberRemoveResponse{Header: v.headerProto(0), Members: v.memberProtos()})
	}})
}

// mayRemove is the strict check: the members that remain must be a quorum that works. One that is down may always go.
func (v *Services) mayRemove(id ids.MemberID) error {
	members := v.Store.View().Members
	if m, ok := members.Get(id); !v.Settings.StrictReconfig || ok && m.IsLearner {
		return nil
	}
	if err := members.CheckReadyToRemove(id); err != nil {
		return err
	}
	if id != v.Member && v.Members.ActiveSince(id).IsZero() {
		return nil
	}
	if connected, voters := v.connected(members); connected-1 < 1+(voters-1)/2 {
		return fault.Unhealthy
	}
	return nil
}

func (v *Services) handleMemberUpdate(c *rpc.Call, _ asker, req *etcdserverpb.MemberUpdateRequest) {
	m := member.Member{ID: ids.MemberID(req.ID), PeerURLs: req.PeerURLs}
	_, known := v.Store.View().Members.Get(m.ID)
	if err := member.CheckURLs(m.PeerURLs); err != nil && known { // etcd takes what is no URL, and dies of it on every member
		c.Fail(statusOf(err))
		return
	}
	v.Members.Change(member.Change{Kind: member.Updated, Member: m}, &answer{c, func(*command.Result) {
		replyProto(c, &etcdserverpb.MemberUpdateResponse{Header: v.headerProto(0), Members: v.memberProtos()})
	}})
}

func (v *Services) handleMemberPromote(c *rpc.Call, _ asker, req *etcdserverpb.MemberPromoteRequest) {
	v.Members.Promote(ids.MemberID(req.ID), func(err error) {
		if err != nil {
			c.Fail(statusOf(err))
			return
		}
		replyProto(c, &etcdserverpb.MemberPromoteResponse{Header: v.headerProto(0), Members: v.memberProtos()})
	})
}

func memberProto(m *member.Member) *etcdserverpb.Member {
	return &etcdserverpb.Member{ID: uint64(m.ID), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner}
}

func (v *Services) memberProtos() (out []*etcdserverpb.Member) {
	for _, m := range v.Store.View().Members.Members() {
		out = append(out, memberProto(&m))
	}
	return out
}
