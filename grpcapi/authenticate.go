package grpcapi

import (
	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"quorate.dev/quorate/authn"
	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/wire"
)

// login is one Authenticate between its arrival and its answer: behind the barrier the password is checked, then an entry
// makes every member know the token, and the token is answered. When users or roles have changed since the password was
// checked, it may be another one by now, and everything begins anew.
type login struct {
	services       *Services
	call           *rpc.Call
	name, password string

	revision uint64 // of users and roles when the password was checked
	prefix   string // what the entry carries of the token
}

func (v *Services) handleAuthenticate(c *rpc.Call, _ asker, msg []byte) {
	var req wire.AuthNames // name, password
	if err := req.Unmarshal(msg); err != nil {
		c.Fail(malformed(err))
		return
	}
	l := &login{services: v, call: c, name: req.First, password: req.Second}
	v.Node.Read(l.check)
}

// check has the password checked.
func (l *login) check(err error) {
	if err != nil {
		l.call.Fail(statusOf(err))
		return
	}
	users := l.services.Store.View().Auth
	if !users.Enabled() {
		l.call.Fail(statusOf(fault.AuthNotEnabled))
		return
	}
	l.revision = users.Revision()
	account := authn.Account{Name: l.name}
	if u, ok := users.User(l.name); ok {
		account.Known, account.Hash, account.NoPassword = true, u.PasswordHash, u.NoPassword
	}
	l.services.Verifier.Check(account, l.password, l.propose)
}

// propose has the members know the token. The entry has no password and is in nobody's name.
func (l *login) propose(err error) {
	if err == nil {
		l.prefix, err = l.services.Keeper.Tokens.Prefix()
	}
	if err != nil {
		l.call.Fail(statusOf(err))
		return
	}
	req := wire.AuthNames{First: l.name, Third: l.prefix}
	l.services.Node.ProposeAs(command.Authenticate, req.Append(nil), "", 0, l)
}

// Complete answers with the token.
func (l *login) Complete(r *command.Result) {
	if r.Err != nil {
		l.call.Fail(statusOf(r.Err))
		return
	}
	v := l.services
	if now := v.Store.View().Auth.Revision(); now != l.revision && l.call.Context().Err() == nil {
		v.Node.Read(l.check)
		return
	}
	token, err := v.Keeper.Tokens.Issue(l.name, l.prefix, r.Index, l.revision)
	if err != nil {
		l.call.Fail(statusOf(err))
		return
	}
	replyProto(l.call, &etcdserverpb.AuthenticateResponse{Header: v.headerProto(r.Revision), Token: token})
}
