package grpcapi

import (
	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/wire"
)

// asked makes the handler of a question about users and roles: name is the first field of its request. etcd sends these questions
// through its log; a View behind the barrier knows the same.
func (v *Services) asked(answer func(view *state.View, who *asker, name string) (proto.Message, error)) unaryHandler {
	return func(c *rpc.Call, who asker, msg []byte) {
		var req wire.AuthNames
		if err := req.Unmarshal(msg); err != nil {
			c.Fail(malformed(err))
			return
		}
		v.Node.Read(func(err error) {
			var resp proto.Message
			if err == nil {
				resp, err = answer(v.Store.View(), &who, req.First)
			}
			if err != nil {
				c.Fail(statusOf(err))
				return
			}
			replyProto(c, resp)
		})
	}
}

func (v *Services) authStatus(view *state.View, who *asker, _ string) (proto.Message, error) {
	if err := who.may(view, &auth.Request{}); err != nil {
		return nil, err
	}
	return &etcdserverpb.AuthStatusResponse{
		Header: v.headerProto(view.Revision()), Enabled: view.Auth.Enabled(), AuthRevision: view.Auth.Revision(),
	}, nil
}

func (v *Services) userGet(view *state.View, who *asker, name string) (proto.Message, error) {
	if err := who.may(view, &auth.Request{User: name}); err != nil {
		return nil, err
	}
	u, ok := view.Auth.User(name)
	if !ok {
		return nil, fault.UserNotFound
	}
	return &etcdserverpb.AuthUserGetResponse{Header: v.headerProto(view.Revision()), Roles: u.Roles}, nil
}

func (v *Services) userList(view *state.View, who *asker, _ string) (proto.Message, error) {
	if err := who.may(view, &auth.Request{}); err != nil {
		return nil, err
	}
	return &etcdserverpb.AuthUserListResponse{Header: v.headerProto(view.Revision()), Users: view.Auth.Users()}, nil
}

func (v *Services) roleGet(view *state.View, who *asker, name string) (proto.Message, error) {
	if err := who.may(view, &auth.Request{Role: name}); err != nil {
		return nil, err
	}
	role, ok := view.Auth.Role(name)
	if !ok {
		return nil, fault.RoleNotFound
	}
	resp := &etcdserverpb.AuthRoleGetResponse{Header: v.headerProto(view.Revision())}
	for _, p := range role.Permissions {
		resp.Perm = append(resp.Perm, &authpb.Permission{PermType: authpb.Permission_Type(p.Type), Key: p.Key, RangeEnd: p.RangeEnd})
	}
	return resp, nil
}

func (v *Services) roleList(view *state.View, who *asker, _ string) (proto.Message, error) {
	if err := who.may(view, &auth.Request{}); err != nil {
		return nil, err
	}
	return &etcdserverpb.AuthRoleListResponse{Header: v.headerProto(view.Revision()), Roles: view.Auth.Roles()}, nil
}
