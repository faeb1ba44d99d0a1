package world

import (
	"encoding/base64"
	"maps"
	"slices"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/state"
)

// canon is users and roles as they are from one entry of the log on, by the rules and nothing else: what somebody may is looked up in
// the permissions of all roles each time. It never changes.
type canon struct {
	since    ids.Index
	enabled  bool
	revision uint64
	users    map[string]profile
	roles    map[string][]*authpb.Permission

	hash   uint32 // of the state of the first member that came here
	member string // which that was; "": none
}

type profile struct {
	roles      []string
	noPassword bool
}

// touch is some keys that a request reads or writes.
type touch struct {
	write    bool
	key, end string
	lease    int64 // that a key is put with
}

// need is what a request needs.
type need struct {
	level   level
	touches []touch
	lease   int64
}

// level says what a decision looks at.
type level uint8

const (
	open    level = iota
	someone       // anybody who is known
	ofRoot        // the role root
	ofKeys        // need.touches
	ofLease       // to write all keys of need.lease
)

// holdings are the keys of a lease. ok is false when they are not known.
type holdings func(lease int64) (keys []string, ok bool)

// decide says what a request must be answered. sure is false when that depends on keys of leases that are not known.
func (v *canon) decide(id auth.Identity, n *need, leases holdings) (_ error, sure bool) {
	u, known := v.users[id.User]
	root := known && slices.Contains(u.roles, auth.Root)
	switch {
	case !v.enabled || n.level == open:
		return nil, true
	case n.level != ofKeys && id.User == "":
		return fault.UserEmpty, true
	case n.level == someone, n.level != ofKeys && root:
		return nil, true
	case n.level == ofRoot && !known:
		return fault.UserNotFound, true
	case n.level == ofRoot:
		return fault.PermissionDenied, true
	}
	touches := n.touches
	if n.level == ofLease {
		keys, ok := leases(n.lease)
		if !ok || len(keys) == 0 {
			return nil, ok
		}
		touches = nil
		for _, key := range keys {
			touches = append(touches, touch{write: true, key: key})
		}
	}
	switch {
	case id.Revision == 0:
		return fault.UserEmpty, true
	case id.Revision < v.revision:
		return fault.AuthOldRevision, true
	case !known:
		return fault.PermissionDenied, true
	case root:
		return nil, true
	}
	return v.allow(u, touches, leases)
}

// allow looks at all that a request touches.
func (v *canon) allow(u profile, touches []touch, leases holdings) (_ error, sure bool) {
	sure = true
	for _, t := range touches {
		if !v.covers(u, t) {
			return fault.PermissionDenied, true
		}
		if t.lease == 0 {
			continue
		}
		keys, ok := leases(t.lease)
		sure = sure && ok
		for _, key := range keys {
			if !v.covers(u, touch{write: true, key: key}) {
				return fault.PermissionDenied, true
			}
		}
	}
	return nil, sure
}

// covers goes from the first key that is touched to the last, from one permission to the next.
func (v *canon) covers(u profile, t touch) bool {
	at, end, all := t.key, t.end, t.end == "\x00"
	if end == "" {
		end = t.key + "\x00"
	}
	for all || at < end {
		next := at
		for _, name := range u.roles {
			for _, p := range v.roles[name] {
				if t.write && p.PermType == authpb.READ || !t.write && p.PermType == authpb.WRITE || at < string(p.Key) {
					continue
				}
				switch to := string(p.RangeEnd); {
				case to == "\x00":
					return true
				case to == "":
					next = max(next, string(p.Key)+"\x00")
				default:
					next = max(next, to)
				}
			}
		}
		if next == at {
			return false
		}
		at = next
	}
	return true
}

// message decodes the body of an entry, or says that it cannot be.
func message[M proto.Message](m M, body []byte) M {
	if err := proto.Unmarshal(body, m); err != nil {
		panic(err) // nobody has written such an entry
	}
	return m
}

// needOf is what an entry needs. origin is false for what members do in nobody's name.
func needOf(c *command.Command) need {
	switch c.Kind {
	case command.Put:
		return need{level: ofKeys, touches: putTouches(message(&etcdserverpb.PutRequest{}, c.Body))}
	case command.DeleteRange:
		return need{level: ofKeys, touches: deleteTouches(message(&etcdserverpb.DeleteRangeRequest{}, c.Body))}
	case command.Txn:
		return need{level: ofKeys, touches: txnTouches(message(&etcdserverpb.TxnRequest{}, c.Body))}
	case command.V2: // of a tree that is shared
		return v2need(c)
	case command.LeaseRevoke:
		return need{level: ofLease, lease: message(&etcdserverpb.LeaseRevokeRequest{}, c.Body).ID}
	case command.Compaction:
		if c.Username != "" {
			return need{level: ofRoot}
		}
	case command.LeaseGrant:
		if c.Username != "" {
			return need{level: someone}
		}
	case command.AuthEnable, command.AuthDisable, command.AuthUserAdd, command.AuthUserDelete, command.AuthUserChangePassword, command.AuthUserGrantRole,
		command.AuthUserRevokeRole, command.AuthRoleAdd, command.AuthRoleDelete, command.AuthRoleGrantPermission, command.AuthRoleRevokePermission:
		return need{level: ofRoot}
	}
	return need{}
}

func putTouches(r *etcdserverpb.PutRequest) []touch {
	out := []touch{{write: true, key: string(r.Key), lease: r.Lease}}
	if r.PrevKv {
		out = append(out, touch{key: string(r.Key)})
	}
	return out
}

func deleteTouches(r *etcdserverpb.DeleteRangeRequest) []touch {
	out := []touch{{write: true, key: string(r.Key), end: string(r.RangeEnd)}}
	if r.PrevKv {
		out = append(out, touch{key: string(r.Key), end: string(r.RangeEnd)})
	}
	return out
}

func txnTouches(r *etcdserverpb.TxnRequest) (out []touch) {
	for _, c := range r.Compare {
		out = append(out, touch{key: string(c.Key), end: string(c.RangeEnd)})
	}
	for _, op := range append(append([]*etcdserverpb.RequestOp(nil), r.Success...), r.Failure...) {
		switch {
		case op.GetRequestPut() != nil:
			out = append(out, putTouches(op.GetRequestPut())...)
		case op.GetRequestDeleteRange() != nil:
			out = append(out, deleteTouches(op.GetRequestDeleteRange())...)
		case op.GetRequestTxn() != nil:
			out = append(out, txnTouches(op.GetRequestTxn())...)
		case op.GetRequestRange() != nil:
			out = append(out, touch{key: string(op.GetRequestRange().Key), end: string(op.GetRequestRange().RangeEnd)})
		}
	}
	return out
}

// draft is a canon that is being changed.
type draft struct {
	canon
	tokens []state.AuthChange // what those who keep tokens must know
}

// change takes an entry that changes users and roles, and says how it must be answered. ours is false for other entries.
func (v *canon) change(c *command.Command) (next *draft, err error, ours bool) {
	d := &draft{canon: canon{since: c.Index, enabled: v.enabled, revision: v.revision, users: maps.Clone(v.users), roles: maps.Clone(v.roles)}}
	switch c.Kind {
	case command.AuthEnable:
		err = d.enable()
	case command.AuthDisable:
		if d.enabled {
			d.enabled = false
			d.revision++
			d.tokens = []state.AuthChange{{Kind: state.AuthDisabled}}
		}
	case command.Authenticate:
		err = d.authenticate(message(&etcdserverpb.InternalAuthenticateRequest{}, c.Body))
	case command.AuthUserAdd, command.AuthUserDelete, command.AuthUserChangePassword, command.AuthUserGrantRole, command.AuthUserRevokeRole:
		err = d.changeUser(c)
	case command.AuthRoleAdd, command.AuthRoleDelete, command.AuthRoleGrantPermission, command.AuthRoleRevokePermission:
		err = d.changeRole(c)
	default:
		return nil, nil, false
	}
	return d, err, true
}

func (d *draft) enable() error {
	u, ok := d.users[auth.Root]
	switch {
	case d.enabled:
	case !ok:
		return fault.RootUserNotExist
	case !slices.Contains(u.roles, auth.Root):
		return fault.RootRoleNotExist
	}
	d.enabled = true
	return nil
}

func (d *draft) authenticate(r *etcdserverpb.InternalAuthenticateRequest) error {
	u, ok := d.users[r.Name]
	switch {
	case !d.enabled:
		return fault.AuthNotEnabled
	case !ok || u.noPassword:
		return fault.AuthFailed
	}
	d.tokens = []state.AuthChange{{Kind: state.TokenAssigned, User: r.Name, Token: r.SimpleToken, Index: d.since}}
	return nil
}

func (d *draft) changeUser(c *command.Command) error {
	switch c.Kind {
	case command.AuthUserAdd:
		r := message(&etcdserverpb.AuthUserAddRequest{}, c.Body)
		if _, ok := d.users[r.Name]; ok {
			return fault.UserAlreadyExist
		}
		if _, err := base64.StdEncoding.DecodeString(r.HashedPassword); err != nil {
			return fault.NoPasswordUser
		}
		return d.setUser(r.Name, profile{noPassword: r.Options.GetNoPassword()})
	case command.AuthUserDelete:
		name := message(&etcdserverpb.AuthUserDeleteRequest{}, c.Body).Name
		if _, ok := d.users[name]; d.enabled && name == auth.Root {
			return fault.InvalidAuthMgmt
		} else if !ok {
			return fault.UserNotFound
		}
		delete(d.users, name)
		d.revision++
		d.tokens = []state.AuthChange{{Kind: state.UserDropped, User: name}}
		return nil
	case command.AuthUserChangePassword:
		name := message(&etcdserverpb.AuthUserChangePasswordRequest{}, c.Body).Name
		u, ok := d.users[name]
		if !ok {
			return fault.UserNotFound
		}
		d.tokens = []state.AuthChange{{Kind: state.UserDropped, User: name}}
		return d.setUser(name, u)
	case command.AuthUserGrantRole:
		r := message(&etcdserverpb.AuthUserGrantRoleRequest{}, c.Body)
		return d.grantRole(r.User, r.Role)
	}
	r := message(&etcdserverpb.AuthUserRevokeRoleRequest{}, c.Body)
	u, ok := d.users[r.Name]
	switch {
	case d.enabled && r.Name == auth.Root && r.Role == auth.Root:
		return fault.InvalidAuthMgmt
	case !ok:
		return fault.UserNotFound
	case !slices.Contains(u.roles, r.Role):
		return fault.RoleNotGranted
	}
	u.roles = without(u.roles, r.Role)
	return d.setUser(r.Name, u)
}

func (d *draft) setUser(name string, u profile) error {
	d.users[name] = u
	d.revision++
	return nil
}

func without(roles []string, role string) []string {
	return slices.DeleteFunc(slices.Clone(roles), func(r string) bool { return r == role })
}

func (d *draft) grantRole(user, role string) error {
	u, ok := d.users[user]
	if !ok {
		return fault.UserNotFound
	}
	if _, ok := d.roles[role]; !ok && role != auth.Root {
		return fault.RoleNotFound
	}
	if slices.Contains(u.roles, role) {
		return nil
	}
	u.roles = append(slices.Clone(u.roles), role)
	return d.setUser(user, u)
}

func (d *draft) changeRole(c *command.Command) error {
	switch c.Kind {
	case command.AuthRoleAdd:
		name := message(&etcdserverpb.AuthRoleAddRequest{}, c.Body).Name
		if _, ok := d.roles[name]; ok {
			return fault.RoleAlreadyExist
		}
		d.roles[name] = nil
	case command.AuthRoleDelete:
		name := message(&etcdserverpb.AuthRoleDeleteRequest{}, c.Body).Role
		if _, ok := d.roles[name]; d.enabled && name == auth.Root {
			return fault.InvalidAuthMgmt
		} else if !ok {
			return fault.RoleNotFound
		}
		delete(d.roles, name)
		for user, u := range d.users { // in any order: each for itself
			u.roles = without(u.roles, name)
			d.users[user] = u
		}
	case command.AuthRoleGrantPermission:
		r := message(&etcdserverpb.AuthRoleGrantPermissionRequest{}, c.Body)
		list, ok := d.roles[r.Name]
		switch end := string(r.Perm.RangeEnd); {
		case end != "" && end != "\x00" && end <= string(r.Perm.Key):
			return fault.InvalidAuthMgmt
		case !ok:
			return fault.RoleNotFound
		}
		d.roles[r.Name] = append(withoutKeys(list, r.Perm.Key, r.Perm.RangeEnd), r.Perm)
	default:
		r := message(&etcdserverpb.AuthRoleRevokePermissionRequest{}, c.Body)
		list, ok := d.roles[r.Role]
		rest := withoutKeys(list, r.Key, r.RangeEnd)
		switch {
		case !ok:
			return fault.RoleNotFound
		case len(rest) == len(list):
			return fault.PermissionNotGranted
		}
		d.roles[r.Role] = rest
	}
	d.revision++
	return nil
}

func withoutKeys(list []*authpb.Permission, key, end []byte) []*authpb.Permission {
	return slices.DeleteFunc(slices.Clone(list), func(p *authpb.Permission) bool {
		return string(p.Key) == string(key) && string(p.RangeEnd) == string(end)
	})
}
