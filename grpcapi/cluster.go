package grpcapi

import (
	"cmp"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
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

func (v *Services) handleMemberList(c *rpc.Call, req *etcdserverpb.MemberListRequest) {
	list := func(err error) {
		if err != nil {
			c.Fail(statusOf(err))
			return
		}
		// The headers of this service carry no revision.
		resp := &etcdserverpb.MemberListResponse{Header: v.headerProto(0)}
		for _, m := range v.Store.View().Members.Members() {
			resp.Members = append(resp.Members, &etcdserverpb.Member{
				ID: uint64(m.ID), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner,
			})
		}
		replyProto(c, resp)
	}
	if req.Linearizable {
		v.Node.Read(list)
		return
	}
	list(nil)
}

// The changes below check what can be checked, in etcd's order, and then say that the rest is not there.

func (v *Services) handleMemberAdd(c *rpc.Call, req *etcdserverpb.MemberAddRequest) {
	urls := slices.Clone(req.PeerURLs)
	for i := range urls {
		urls[i] = strings.TrimSpace(urls[i])
	}
	members := v.Store.View().Members
	err := member.CheckURLs(urls)
	if err == nil && v.Settings.StrictReconfig && !req.IsLearner {
		err = members.CheckReadyToAdd()
	}
	if err == nil {
		err = urlsFree(members, urls, 0)
	}
	c.Fail(statusOf(cmp.Or(err, error(errMembership))))
}

func (v *Services) handleMemberRemove(c *rpc.Call, req *etcdserverpb.MemberRemoveRequest) {
	members := v.Store.View().Members
	var err error
	if v.Settings.StrictReconfig {
		err = members.CheckReadyToRemove(ids.MemberID(req.ID))
	}
	if err == nil {
		_, err = known(members, req.ID)
	}
	c.Fail(statusOf(cmp.Or(err, error(errMembership))))
}

func (v *Services) handleMemberUpdate(c *rpc.Call, req *etcdserverpb.MemberUpdateRequest) {
	members := v.Store.View().Members
	_, err := known(members, req.ID)
	if err == nil {
		err = urlsFree(members, req.PeerURLs, req.ID)
	}
	c.Fail(statusOf(cmp.Or(err, error(errMembership))))
}

func (v *Services) handleMemberPromote(c *rpc.Call, req *etcdserverpb.MemberPromoteRequest) {
	members := v.Store.View().Members
	m, err := known(members, req.ID)
	if err == nil && v.Settings.StrictReconfig {
		err = members.CheckReadyToPromote()
	}
	if err == nil && !m.IsLearner {
		err = fault.MemberNotLearner
	}
	c.Fail(statusOf(cmp.Or(err, error(errMembership))))
}

func known(members *member.View, id uint64) (member.Member, error) {
	m, ok := members.Get(ids.MemberID(id))
	if !ok {
		return m, fault.MemberNotFound
	}
	return m, nil
}

// urlsFree says whether no member other than except has one of the URLs.
func urlsFree(members *member.View, urls []string, except uint64) error {
	for _, m := range members.Members() {
		taken := func(u string) bool { return slices.Contains(m.PeerURLs, u) }
		if uint64(m.ID) != except && slices.ContainsFunc(urls, taken) {
			return fault.PeerURLExist
		}
	}
	return nil
}
