package state

import (
	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/command"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/wire"
)

// AuthChange is something that happened to users and that those who keep tokens must know. It is applied to the tokens before any result
// of the batch is answered, so that a client never holds a token that its member does not know, and never uses one that is void.
type AuthChange struct {
	Kind  AuthChangeKind
	User  string    // TokenAssigned, UserDropped
	Token string    // TokenAssigned: as proposed, without the index that etcd puts at its end
	Index ids.Index // TokenAssigned: of the entry
}

// AuthChangeKind says what happened.
type AuthChangeKind uint8

// What can happen.
const (
	TokenAssigned AuthChangeKind = iota + 1
	UserDropped                  // the user is gone or has another password: no token of the user is good any more
	AuthDisabled                 // no token is good any more
)

// origin says who makes commands of a kind. A kind without one is refused while authentication is enabled.
type origin uint8

const (
	byClients origin = iota + 1 // in nobody's name only if authentication was disabled when they were proposed
	byBoth                      // those in nobody's name are of members
	byMembers
)

// asked says what a kind of command is the execution of, and so how it is decided.
type asked struct {
	origin origin
	method auth.Method
}

var kinds = [...]asked{
	command.Unknown:                  {byMembers, 0}, // refused by its handler
	command.Empty:                    {byMembers, 0},
	command.Put:                      {byClients, auth.MethodPut},
	command.DeleteRange:              {byClients, auth.MethodDeleteRange},
	command.Txn:                      {byClients, auth.MethodTxn},
	command.Compaction:               {byBoth, auth.MethodCompact},
	command.LeaseGrant:               {byBoth, auth.MethodLeaseGrant}, // of nobody, as etcd has it: a lease without keys harms nobody
	command.LeaseRevoke:              {byClients, auth.MethodLeaseRevoke},
	command.LeaseCheckpoint:          {byMembers, 0},
	command.Alarm:                    {byBoth, auth.MethodAlarm},
	command.MemberAttributes:         {byMembers, 0},
	command.ClusterVersion:           {byMembers, 0},
	command.DowngradeInfo:            {byMembers, 0},
	command.AuthEnable:               {byClients, auth.MethodAuthEnable},
	command.AuthDisable:              {byClients, auth.MethodAuthDisable},
	command.AuthUserAdd:              {byClients, auth.MethodUserAdd},
	command.AuthUserDelete:           {byClients, auth.MethodUserDelete},
	command.AuthUserChangePassword:   {byClients, auth.MethodUserChangePassword},
	command.AuthUserGrantRole:        {byClients, auth.MethodUserGrantRole},
	command.AuthUserRevokeRole:       {byClients, auth.MethodUserRevokeRole},
	command.AuthRoleAdd:              {byClients, auth.MethodRoleAdd},
	command.AuthRoleDelete:           {byClients, auth.MethodRoleDelete},
	command.AuthRoleGrantPermission:  {byClients, auth.MethodRoleGrantPermission},
	command.AuthRoleRevokePermission: {byClients, auth.MethodRoleRevokePermission},
	command.Authenticate:             {byClients, auth.MethodAuthenticate},
	command.AuthStatus:               {byClients, auth.MethodAuthStatus},
	command.AuthUserGet:              {byClients, auth.MethodUserGet},
	command.AuthUserList:             {byClients, auth.MethodUserList},
	command.AuthRoleGet:              {byClients, auth.MethodRoleGet},
	command.AuthRoleList:             {byClients, auth.MethodRoleList},
	command.V2:                       {byBoth, auth.MethodPut}, // see permittedV2
	command.ConfChange:               {byMembers, 0},           // decided at the front alone, as in etcd: its entry has no room for a name
}

// Steward is in whose name members propose what no client asked for and is decided all the same: that a lease has expired. While
// authentication is enabled the user root exists and has the role root, so that nothing keeps a lease from expiring.
func (v *View) Steward() (user string, revision uint64) { return auth.Root, v.Auth.Revision() }

// permitted decides a command on the state before it, by the name in its entry. What cannot be decoded is left to its handler,
// which refuses it.
func (m *Machine) permitted(c *command.Command) error {
	if !m.auth.Enabled() {
		return nil
	}
	if c.Kind == command.V2 {
		return m.permittedV2(c)
	}
	kind := kinds[c.Kind.Row().Kind]
	if kind.origin == byMembers || kind.origin == byBoth && c.Username == "" {
		return nil
	}
	r := auth.Request{Method: kind.method}
	var op [1]auth.Op
	var ok bool
	if op[0], ok = m.operation(c, &r); !ok {
		return nil
	}
	if op[0].Kind != 0 {
		r.Ops = op[:]
	}
	id := auth.Identity{User: c.Username, Revision: c.AuthRevision}
	if canary.On(canary.OldAccepted) && id.Revision != 0 {
		id.Revision = m.auth.Revision()
	}
	return m.auth.May(id, &r, m.leases)
}

// operation reads what a command's request asks for: an operation on keys, or else what it says in r.
func (m *Machine) operation(c *command.Command, r *auth.Request) (op auth.Op, ok bool) {
	var err error
	switch c.Kind {
	case command.Put:
		err = m.scratch.put.Unmarshal(c.Body)
		op = auth.OfPut(&m.scratch.put)
	case command.DeleteRange:
		err = m.scratch.delete.Unmarshal(c.Body)
		op = auth.OfDelete(&m.scratch.delete)
	case command.Txn:
		err = m.scratch.txn.Unmarshal(c.Body)
		op = auth.OfTxn(&m.scratch.txn)
	case command.LeaseRevoke:
		var req wire.LeaseRevokeRequest
		err = req.Unmarshal(c.Body)
		r.Lease = ids.LeaseID(req.ID)
	case command.Alarm:
		var req wire.AlarmRequest
		err = req.Unmarshal(c.Body)
		r.AlarmGet = req.Action == wire.AlarmGet
	case command.AuthUserGet, command.AuthRoleGet:
		var req wire.AuthNames
		err = req.Unmarshal(c.Body)
		r.User, r.Role = req.First, req.First
	}
	return op, err == nil
}

// authNames makes the handler of a request that consists of names.
func authNames(kind command.Kind, do func(m *Machine, r *wire.AuthNames) error) handler {
	return func(m *Machine, body []byte, _ *command.Result) error {
		var req wire.AuthNames
		if err := decode(kind, &req, body); err != nil {
			return err
		}
		return do(m, &req)
	}
}

func authEnable(m *Machine, _ []byte, _ *command.Result) error { return m.auth.Enable(m.batch) }

func authDisable(m *Machine, _ []byte, _ *command.Result) error {
	if m.auth.Disable(m.batch) {
		m.authChanged(AuthChange{Kind: AuthDisabled})
	}
	return nil
}

func authUserAdd(m *Machine, body []byte, _ *command.Result) error {
	var req wire.AuthUserAddRequest
	if err := decode(command.AuthUserAdd, &req, body); err != nil {
		return err
	}
	return m.auth.UserAdd(m.batch, &req)
}

func authUserDelete(m *Machine, r *wire.AuthNames) error {
	return m.userDropped(r.First, m.auth.UserDelete(m.batch, r.First))
}

func authUserChangePassword(m *Machine, r *wire.AuthNames) error {
	return m.userDropped(r.First, m.auth.UserChangePassword(m.batch, r.First, r.Second, r.Third))
}

func (m *Machine) userDropped(name string, err error) error {
	if err == nil {
		m.authChanged(AuthChange{Kind: UserDropped, User: name})
	}
	return err
}

func authUserGrantRole(m *Machine, r *wire.AuthNames) error {
	return m.auth.UserGrantRole(m.batch, r.First, r.Second)
}

func authUserRevokeRole(m *Machine, r *wire.AuthNames) error {
	return m.auth.UserRevokeRole(m.batch, r.First, r.Second)
}

func authRoleAdd(m *Machine, r *wire.AuthNames) error { return m.auth.RoleAdd(m.batch, r.First) }

func authRoleDelete(m *Machine, r *wire.AuthNames) error { return m.auth.RoleDelete(m.batch, r.First) }

func authRoleGrantPermission(m *Machine, body []byte, _ *command.Result) error {
	var req wire.AuthRoleGrantPermissionRequest
	if err := decode(command.AuthRoleGrantPermission, &req, body); err != nil {
		return err
	}
	return m.auth.RoleGrantPermission(m.batch, req.Name, req.Perm)
}

func authRoleRevokePermission(m *Machine, body []byte, _ *command.Result) error {
	var req wire.AuthRoleRevokePermissionRequest
	if err := decode(command.AuthRoleRevokePermission, &req, body); err != nil {
		return err
	}
	return m.auth.RoleRevokePermission(m.batch, &req)
}

// authenticate assigns a token, which the front chose after it had checked the password. JWTs need no assigning: theirs is empty.
func authenticate(m *Machine, body []byte, r *command.Result) error {
	var req wire.AuthNames
	if err := decode(command.Authenticate, &req, body); err != nil {
		return err
	}
	if err := m.auth.MayAuthenticate(req.First); err != nil {
		return err
	}
	r.Index = m.scratch.running
	if req.Third != "" {
		m.authChanged(AuthChange{Kind: TokenAssigned, User: req.First, Token: req.Third, Index: m.scratch.running})
	}
	return nil
}

// authAsked is for what etcd asks through its log. Here the front asks the view.
func authAsked(*Machine, []byte, *command.Result) error { return nil }

func (m *Machine) authChanged(c AuthChange) { m.effects.Auth = append(m.effects.Auth, c) }
