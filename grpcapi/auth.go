package grpcapi

import (
	"encoding/base64"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/wire"
)

const serviceAuth = "etcdserverpb.Auth"

// registerAuth adds the Auth service. Changes go through the log, which decides them; questions are answered from a View behind
// the barrier. No password is in the log, and none is kept longer than it takes to compute its hash.
func (v *Services) registerAuth(s *rpc.Server) {
	for method, kind := range map[string]command.Kind{
		"AuthEnable": command.AuthEnable, "AuthDisable": command.AuthDisable, "UserDelete": command.AuthUserDelete,
		"UserGrantRole": command.AuthUserGrantRole, "UserRevokeRole": command.AuthUserRevokeRole, "RoleAdd": command.AuthRoleAdd,
		"RoleDelete": command.AuthRoleDelete, "RoleGrantPermission": command.AuthRoleGrantPermission,
		"RoleRevokePermission": command.AuthRoleRevokePermission,
	} {
		v.unary(s, serviceAuth, method, func(c *rpc.Call, who asker, msg []byte) {
			if err := decodable(kind, msg); err != nil {
				c.Fail(malformed(err))
				return
			}
			who.propose(kind, msg, v.authChanged(c))
		})
	}
	v.unary(s, serviceAuth, "UserAdd", v.handleUserAdd)
	v.unary(s, serviceAuth, "UserChangePassword", v.handleChangePassword)
	v.unary(s, serviceAuth, "Authenticate", v.handleAuthenticate)
	v.unary(s, serviceAuth, "AuthStatus", v.asked(v.authStatus))
	v.unary(s, serviceAuth, "UserGet", v.asked(v.userGet))
	v.unary(s, serviceAuth, "UserList", v.asked(v.userList))
	v.unary(s, serviceAuth, "RoleGet", v.asked(v.roleGet))
	v.unary(s, serviceAuth, "RoleList", v.asked(v.roleList))
}

// decodable says whether a request is a message of its type: what is in the log is decoded by every member.
func decodable(kind command.Kind, msg []byte) error {
	switch kind {
	case command.AuthRoleGrantPermission:
		return new(wire.AuthRoleGrantPermissionRequest).Unmarshal(msg)
	case command.AuthRoleRevokePermission:
		return new(wire.AuthRoleRevokePermissionRequest).Unmarshal(msg)
	}
	return new(wire.AuthNames).Unmarshal(msg)
}

// authChanged answers a change of users or roles. All those answers are a header.
func (v *Services) authChanged(c *rpc.Call) *answer {
	return &answer{c, func(r *command.Result) { c.Reply(&headerReply{v.header(r.Revision)}) }}
}

func (v *Services) handleUserAdd(c *rpc.Call, who asker, msg []byte) {
	var req wire.AuthUserAddRequest
	if err := req.Unmarshal(msg); err != nil {
		c.Fail(malformed(err))
		return
	}
	password := req.Password
	req.Password = ""
	if req.Options != nil && req.Options.NoPassword {
		who.propose(command.AuthUserAdd, req.Append(nil), v.authChanged(c))
		return
	}
	v.hash(c, password, func(hashed string) {
		req.HashedPassword = hashed
		who.propose(command.AuthUserAdd, req.Append(nil), v.authChanged(c))
	})
}

// handleChangePassword takes a hash instead of a password, too, and takes neither for an empty hash, which no password has.
func (v *Services) handleChangePassword(c *rpc.Call, who asker, msg []byte) {
	var req wire.AuthNames // name, password, hashed password
	if err := req.Unmarshal(msg); err != nil {
		c.Fail(malformed(err))
		return
	}
	password := req.Second
	req.Second = ""
	if password == "" {
		who.propose(command.AuthUserChangePassword, req.Append(nil), v.authChanged(c))
		return
	}
	v.hash(c, password, func(hashed string) {
		req.Third = hashed
		who.propose(command.AuthUserChangePassword, req.Append(nil), v.authChanged(c))
	})
}

// hash computes the hash of a password as the log has it, away from the connection's reader.
func (v *Services) hash(c *rpc.Call, password string, then func(hashed string)) {
	v.Verifier.Hash(password, func(hash string, err error) {
		if err != nil {
			c.Fail(statusOf(err))
			return
		}
		then(base64.StdEncoding.EncodeToString([]byte(hash)))
	})
}
