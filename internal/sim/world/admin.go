package world

import (
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
)

// admin is a client that changes users and roles, one change after the other.
type admin struct {
	caller
	plan  []change // comes first
	count int
}

// change is one change of users or roles.
type change struct {
	kind   command.Kind
	method auth.Method
	body   proto.Message
}

// govern starts the administrators. The first one sets up what the others find.
func (w *World) govern() {
	if !w.guarded() {
		return
	}
	for i := range w.set.Admins {
		a := &admin{caller: caller{w: w, id: 501 + i, name: fmt.Sprintf("a%d", i+1)}}
		if i == 0 {
			a.plan = a.foundation()
		}
		w.admins = append(w.admins, a)
		w.after(w.upTo(time.Second), a.act)
	}
	for _, c := range w.clients {
		c.login()
	}
}

// act makes one change and then another.
func (a *admin) act() {
	w := a.w
	if w.quiet {
		return
	}
	who := byRoot
	var c change
	planned := len(a.plan) > 0
	if planned {
		c = a.plan[0]
	} else {
		c = a.draw()
		if len(a.plan) > 0 { // what was drawn takes more than one step
			c, planned = a.plan[0], true
		} else if w.chance(10) {
			who = credential{user: a.user()}
		}
	}
	a.open++
	call(w, func(m *Member, answer func(struct{}, error)) {
		m.order(who, c.method, c.kind, encoded(c.body), answer)
	}, func(_ struct{}, err error) {
		a.open--
		known := err == nil || certain(err) || managed(err)
		if known {
			if err != nil {
				w.counts.Refused++
			} else {
				w.counts.AuthChanges++
			}
		}
		if planned && known && len(a.plan) > 0 {
			a.plan = a.plan[1:]
		}
		a.say("as %q: %s %v: %v", who.user, c.kind, showChange(c), err)
		pause := w.between(w.set.Change/4, 2*w.set.Change)
		if planned {
			pause = w.upTo(20 * time.Millisecond)
		}
		w.after(pause, a.act)
	})
}

// showChange is the change in one line. The text of a message is not: protobuf draws its spaces.
func showChange(c change) string { return fmt.Sprintf("%q", encoded(c.body)) }

func encoded(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

// managed reports whether an error is an answer to a change of users or roles.
func managed(err error) bool {
	for _, e := range []error{
		fault.RootUserNotExist, fault.RootRoleNotExist, fault.UserAlreadyExist, fault.RoleAlreadyExist, fault.RoleNotFound, fault.RoleNotGranted,
		fault.PermissionNotGranted, fault.InvalidAuthMgmt, fault.AuthFailed, fault.AuthNotEnabled, fault.NoPasswordUser,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// foundation is what users and roles begin with.
func (a *admin) foundation() (plan []change) {
	plan = a.enabling()[:2]
	for i := range a.w.set.Roles {
		plan = append(plan, roleAdd(fmt.Sprintf("r%d", i+1)), a.grant(fmt.Sprintf("r%d", i+1)))
	}
	for i := range a.w.set.Users {
		user := fmt.Sprintf("u%d", i+1)
		plan = append(plan, a.userAdd(user), grantRole(user, a.role()))
	}
	return append(plan, enable)
}

// enabling turns authentication on, whatever there was before.
func (a *admin) enabling() []change {
	return []change{a.userAdd(auth.Root), grantRole(auth.Root, auth.Root), enable}
}

var (
	enable  = change{command.AuthEnable, auth.MethodAuthEnable, &etcdserverpb.AuthEnableRequest{}}
	disable = change{command.AuthDisable, auth.MethodAuthDisable, &etcdserverpb.AuthDisableRequest{}}
)

func (a *admin) user() string {
	if a.w.chance(12) {
		return auth.Root
	}
	return fmt.Sprintf("u%d", 1+a.w.rng.IntN(a.w.set.Users))
}

func (a *admin) role() string {
	if a.w.chance(15) {
		return auth.Root
	}
	return fmt.Sprintf("r%d", 1+a.w.rng.IntN(a.w.set.Roles))
}

// draw makes up a change. One that takes more than one step becomes the plan.
func (a *admin) draw() change {
	switch n := a.w.rng.IntN(100); {
	case n < 7:
		a.plan = a.enabling()
		return change{}
	case n < 10:
		return disable
	case n < 36:
		return a.grant(a.role())
	case n < 48:
		key, end := a.keys()
		return change{command.AuthRoleRevokePermission, auth.MethodRoleRevokePermission,
			&etcdserverpb.AuthRoleRevokePermissionRequest{Role: a.role(), Key: []byte(key), RangeEnd: []byte(end)}}
	case n < 62:
		return grantRole(a.user(), a.role())
	case n < 70:
		return change{command.AuthUserRevokeRole, auth.MethodUserRevokeRole, &etcdserverpb.AuthUserRevokeRoleRequest{Name: a.user(), Role: a.role()}}
	case n < 76:
		return roleAdd(a.role())
	case n < 79:
		return change{command.AuthRoleDelete, auth.MethodRoleDelete, &etcdserverpb.AuthRoleDeleteRequest{Role: a.role()}}
	case n < 86:
		return a.userAdd(a.user())
	case n < 89:
		return change{command.AuthUserDelete, auth.MethodUserDelete, &etcdserverpb.AuthUserDeleteRequest{Name: a.user()}}
	case n < 94:
		return change{command.AuthUserChangePassword, auth.MethodUserChangePassword,
			&etcdserverpb.AuthUserChangePasswordRequest{Name: a.user(), HashedPassword: a.hash()}}
	}
	a.count++
	return change{command.Authenticate, auth.MethodAuthenticate,
		&etcdserverpb.InternalAuthenticateRequest{Name: a.user(), SimpleToken: fmt.Sprintf("%s-%d", a.name, a.count)}}
}

// hash makes up the hash of a password.
func (a *admin) hash() string {
	a.count++
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "hash-%d-%d", a.id, a.count))
}

func (a *admin) userAdd(name string) change {
	r := &etcdserverpb.AuthUserAddRequest{Name: name, HashedPassword: a.hash(), Options: &authpb.UserAddOptions{}}
	if name != auth.Root && a.w.chance(4) {
		r.HashedPassword, r.Options = "", &authpb.UserAddOptions{NoPassword: true}
	}
	return change{command.AuthUserAdd, auth.MethodUserAdd, r}
}

func grantRole(user, role string) change {
	return change{command.AuthUserGrantRole, auth.MethodUserGrantRole, &etcdserverpb.AuthUserGrantRoleRequest{User: user, Role: role}}
}

func roleAdd(name string) change {
	return change{command.AuthRoleAdd, auth.MethodRoleAdd, &etcdserverpb.AuthRoleAddRequest{Name: name}}
}

func (a *admin) grant(role string) change {
	key, end := a.keys()
	kind := authpb.Permission_Type([]int{0, 1, 2, 2, 2}[a.w.rng.IntN(5)])
	return change{command.AuthRoleGrantPermission, auth.MethodRoleGrantPermission,
		&etcdserverpb.AuthRoleGrantPermissionRequest{Name: role, Perm: &authpb.Permission{PermType: kind, Key: []byte(key), RangeEnd: []byte(end)}}}
}

// keys are those of a permission: one, those with a prefix, any interval, everything, or none at all.
func (a *admin) keys() (key, end string) {
	w := a.w
	one := fmt.Sprintf("k%02d", w.rng.IntN(w.set.Keys))
	switch n := w.rng.IntN(20); {
	case n < 4:
		return one, ""
	case n < 8:
		return one, one + "~" // with what belongs to it
	case n < 11:
		return one[:2], one[:2] + "\xff"
	case n < 15:
		return "k", "l"
	case n < 18:
		return one, fmt.Sprintf("k%02d", w.rng.IntN(w.set.Keys)) // none, if it ends before it begins
	case n < 19:
		return one, "\x00"
	}
	return "\x00", "\x00"
}

// governed reports whether no administrator waits for an answer.
func (w *World) governed() bool {
	for _, a := range w.admins {
		if a.open > 0 {
			return false
		}
	}
	return true
}
