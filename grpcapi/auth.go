package grpcapi

import (
	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/rpc"
)

// authRevision is the revision of an authentication store that was never changed.
const authRevision = 1

func (v *Services) registerAuth(s *rpc.Server) {
	const service = "etcdserverpb.Auth"
	v.unary(s, service, "AuthStatus", cold(func(c *rpc.Call, _ *etcdserverpb.AuthStatusRequest) {
		replyProto(c, &etcdserverpb.AuthStatusResponse{Header: v.headerProto(v.revision()), AuthRevision: authRevision})
	}))
	v.unary(s, service, "AuthDisable", cold(func(c *rpc.Call, _ *etcdserverpb.AuthDisableRequest) {
		replyProto(c, &etcdserverpb.AuthDisableResponse{Header: v.headerProto(v.revision())})
	}))
	v.unary(s, service, "UserList", cold(func(c *rpc.Call, _ *etcdserverpb.AuthUserListRequest) {
		replyProto(c, &etcdserverpb.AuthUserListResponse{Header: v.headerProto(v.revision())})
	}))
	v.unary(s, service, "RoleList", cold(func(c *rpc.Call, _ *etcdserverpb.AuthRoleListRequest) {
		replyProto(c, &etcdserverpb.AuthRoleListResponse{Header: v.headerProto(v.revision())})
	}))
	refuse := func(err error, methods ...string) {
		for _, m := range methods {
			v.unary(s, service, m, func(c *rpc.Call, _ []byte) { c.Fail(statusOf(err)) })
		}
	}
	refuse(fault.AuthNotEnabled, "Authenticate")
	// Nobody exists, so asking about somebody fails as it does for an unknown one.
	refuse(fault.UserNotFound, "UserGet")
	refuse(fault.RoleNotFound, "RoleGet")
	refuse(errAuthentication, "AuthEnable", "UserAdd", "UserDelete", "UserChangePassword", "UserGrantRole", "UserRevokeRole",
		"RoleAdd", "RoleDelete", "RoleGrantPermission", "RoleRevokePermission")
}
