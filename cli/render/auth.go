package render

import (
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// headed is an answer that says nothing but that it was done.
type headed interface{ GetHeader() *pb.ResponseHeader }

// done is such an answer, with the line that the simple format shows.
func done(r headed, format string, args ...any) Result {
	return Result{
		JSON: r, Proto: r,
		Text:   func(t *Text) { t.Printf(format+"\n", args...) },
		Fields: func(l *Lines) { l.Header(r.GetHeader()) },
	}
}

// RoleAdd is the answer to a new role.
func RoleAdd(role string, r *clientv3.AuthRoleAddResponse) Result {
	return done((*pb.AuthRoleAddResponse)(r), "Role %s created", role)
}

// RoleDelete is the answer to a role's deletion.
func RoleDelete(role string, r *clientv3.AuthRoleDeleteResponse) Result {
	return done((*pb.AuthRoleDeleteResponse)(r), "Role %s deleted", role)
}

// RoleGrantPermission is the answer to a grant.
func RoleGrantPermission(role string, r *clientv3.AuthRoleGrantPermissionResponse) Result {
	return done((*pb.AuthRoleGrantPermissionResponse)(r), "Role %s updated", role)
}

// RoleRevokePermission is the answer to a revocation of [key, end), or of key alone when end is empty.
func RoleRevokePermission(role, key, end string, resp *clientv3.AuthRoleRevokePermissionResponse) Result {
	r := (*pb.AuthRoleRevokePermissionResponse)(resp)
	switch end {
	case "":
		return done(r, "Permission of key %s is revoked from role %s", key, role)
	case openEnd:
		return done(r, "Permission of range [%s, <open ended> is revoked from role %s", key, role)
	}
	return done(r, "Permission of range [%s, %s) is revoked from role %s", key, end, role)
}

// RoleList are the names of all roles.
func RoleList(resp *clientv3.AuthRoleListResponse) Result {
	r := (*pb.AuthRoleListResponse)(resp)
	return Result{
		JSON: r, Proto: r,
		Text: func(t *Text) {
			for _, role := range r.GetRoles() {
				t.Line(role)
			}
		},
		Fields: func(l *Lines) {
			l.Header(r.GetHeader())
			l.list("Roles", r.GetRoles())
		},
	}
}

// openEnd is the end of a range that has none.
const openEnd = "\x00"

// rootRole may do everything without a permission.
const rootRole = "root"

// RoleGet are the permissions of a role.
func RoleGet(role string, resp *clientv3.AuthRoleGetResponse) Result {
	r := (*pb.AuthRoleGetResponse)(resp)
	return Result{
		JSON: r, Proto: r,
		Text: func(t *Text) { textRole(t, role, r) },
		Fields: func(l *Lines) {
			l.Header(r.GetHeader())
			for _, p := range r.GetPerm() {
				l.Field("PermType", " "+p.GetPermType().String()) // etcdctl has two spaces here
				l.Quoted("Key", string(p.GetKey()))
				l.Quoted("RangeEnd", string(p.GetRangeEnd()))
			}
		},
	}
}

func textRole(t *Text, role string, r *pb.AuthRoleGetResponse) {
	t.Printf("Role %s\n", role)
	all := role == rootRole && r.GetPerm() == nil
	for _, kind := range []struct {
		title string
		perm  authpb.Permission_Type
	}{{"KV Read:", clientv3.PermRead}, {"KV Write:", clientv3.PermWrite}} {
		t.Line(kind.title)
		if all {
			t.Line("\t[, <open ended>")
		}
		for _, p := range r.GetPerm() {
			if p.GetPermType() == kind.perm || p.GetPermType() == clientv3.PermReadWrite {
				t.Printf("\t%s\n", permission(string(p.GetKey()), string(p.GetRangeEnd())))
			}
		}
	}
}

// permission shows a range the way it was probably given.
func permission(key, end string) string {
	if end == "" {
		return key
	}
	text := "[" + key + ", " + end + ")"
	if end == openEnd {
		text = "[" + key + ", <open ended>"
	}
	if key != "" && clientv3.GetPrefixRangeEnd(key) == end {
		text += " (prefix " + key + ")"
	}
	return text
}

// UserAdd is the answer to a new user.
func UserAdd(name string, r *clientv3.AuthUserAddResponse) Result {
	return done((*pb.AuthUserAddResponse)(r), "User %s created", name)
}

// UserDelete is the answer to a user's deletion.
func UserDelete(name string, r *clientv3.AuthUserDeleteResponse) Result {
	return done((*pb.AuthUserDeleteResponse)(r), "User %s deleted", name)
}

// UserChangePassword is the answer to a new password.
func UserChangePassword(r *clientv3.AuthUserChangePasswordResponse) Result {
	return done((*pb.AuthUserChangePasswordResponse)(r), "Password updated")
}

// UserGrantRole is the answer to a role's grant.
func UserGrantRole(user, role string, r *clientv3.AuthUserGrantRoleResponse) Result {
	return done((*pb.AuthUserGrantRoleResponse)(r), "Role %s is granted to user %s", role, user)
}

// UserRevokeRole is the answer to a role's revocation.
func UserRevokeRole(user, role string, r *clientv3.AuthUserRevokeRoleResponse) Result {
	return done((*pb.AuthUserRevokeRoleResponse)(r), "Role %s is revoked from user %s", role, user)
}

// UserGet are the roles of a user.
func UserGet(name string, resp *clientv3.AuthUserGetResponse) Result {
	r := (*pb.AuthUserGetResponse)(resp)
	return Result{JSON: r, Proto: r, Text: func(t *Text) {
		t.Printf("User: %s\n", name)
		t.Line(strings.Join(append([]string{"Roles:"}, r.GetRoles()...), " "))
	}}
}

// UserList are the names of all users.
func UserList(resp *clientv3.AuthUserListResponse) Result {
	r := (*pb.AuthUserListResponse)(resp)
	return Result{JSON: r, Proto: r, Text: func(t *Text) {
		for _, u := range r.GetUsers() {
			t.Line(u)
		}
	}}
}

// AuthStatus is whether authentication is on.
func AuthStatus(resp *clientv3.AuthStatusResponse) Result {
	r := (*pb.AuthStatusResponse)(resp)
	return Result{JSON: r, Proto: r, Text: func(t *Text) {
		t.Line("Authentication Status:", r.GetEnabled())
		t.Line("AuthRevision:", r.GetAuthRevision())
	}}
}

// list writes names in quotes on one line.
func (l *Lines) list(name string, items []string) {
	l.w.WriteString(`"` + name + `" :`)
	for _, i := range items {
		l.w.WriteString(" " + strconv.Quote(i))
	}
	l.Blank()
}
