package world

import (
	"encoding/binary"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/check"
	"quorate.dev/quorate/wire"
)

// Realm is what there is of authentication.
type Realm struct {
	Users  int           // besides root; 0: there is no authentication
	Roles  int           // besides root
	Admins int           // clients that change users and roles
	Change time.Duration // between two changes of an administrator, on average
}

// drawRealm makes up what there is of authentication, in one seed of three. It does not draw from the run's randomness: a seed without
// authentication is the same run as it would be if there were none.
func (w *World) drawRealm(seed uint64) {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	key[31] = 2
	rng := mathrand.New(mathrand.NewChaCha8(key))
	if rng.IntN(3) > 0 {
		return
	}
	w.set.Realm = Realm{
		Users: 1 + rng.IntN(3), Roles: 1 + rng.IntN(4), Admins: 1 + rng.IntN(2),
		Change: []time.Duration{50 * time.Millisecond, 150 * time.Millisecond, 600 * time.Millisecond}[rng.IntN(3)],
	}
	if w.set.Long { // administrators are as calm as everybody else
		w.set.Change = max(w.set.Change, w.set.Pause)
	}
}

// guarded reports whether there is authentication in this run.
func (w *World) guarded() bool { return w.set.Users > 0 }

// credential is by what a client is known.
type credential struct {
	user     string // "": nobody
	revision uint64 // that the client's token says it was made at; 0: a certificate or a token that is looked up, good as long as the user is
}

var (
	nobody = credential{}
	byRoot = credential{user: auth.Root}
)

// prove is who asks by a credential, as the server finds it out from what it knows now. It looks at no credential while authentication is
// disabled.
func (c credential) prove(v *auth.View) auth.Identity {
	switch {
	case !v.Enabled() || c.user == "":
		return auth.Identity{}
	case c.revision == 0:
		return auth.Identity{User: c.user, Revision: v.Revision()}
	}
	return auth.Identity{User: c.user, Revision: c.revision}
}

// login draws whom a client is from now on.
func (c *client) login() {
	w := c.w
	if !w.guarded() || c.turn != nil {
		c.who = byRoot
		return
	}
	switch n := w.rng.IntN(16); {
	case n == 0:
		c.who = nobody
		return
	case n < 3:
		c.who = byRoot
	default:
		c.who = credential{user: fmt.Sprintf("u%d", 1+w.rng.IntN(w.set.Users))}
	}
	if w.chance(2) {
		c.again()
	}
}

// again has the client's token say the newest revision of users and roles that some member knows.
func (c *client) again() {
	if m := c.w.anyMember(); m.up && c.who.user != "" {
		c.who.revision = m.state.View().Auth.Revision()
	}
}

// dismissed lets a client whose token is too old get another one and ask the same again, and others be somebody else now and then.
func (c *client) dismissed(q check.Request, err error) bool {
	if !c.w.guarded() || c.turn != nil {
		return false
	}
	if errors.Is(err, fault.AuthOldRevision) && !c.w.resting() {
		c.again()
		c.w.after(c.w.upTo(20*time.Millisecond), func() { c.ask(q) })
		return true
	}
	if c.w.chance(12) {
		c.login()
	}
	return false
}

// authRequest is what the decision about a request depends on.
func authRequest(q check.Request) (auth.Request, error) {
	var op auth.Op
	switch q.Kind {
	case check.Range:
		op = auth.Op{Kind: auth.Read, Key: []byte(q.Key), End: []byte(q.End)}
		return auth.Request{Method: auth.MethodRange, Ops: []auth.Op{op}}, nil
	case check.Put:
		op = auth.Op{Kind: auth.Write, Key: []byte(q.Key), PrevKV: q.Prev, Lease: ids.LeaseID(q.Lease)}
		return auth.Request{Method: auth.MethodPut, Ops: []auth.Op{op}}, nil
	case check.Delete:
		op = auth.Op{Kind: auth.Delete, Key: []byte(q.Key), End: []byte(q.End), PrevKV: q.Prev}
		return auth.Request{Method: auth.MethodDeleteRange, Ops: []auth.Op{op}}, nil
	case check.Grant:
		return auth.Request{Method: auth.MethodLeaseGrant}, nil
	case check.Revoke:
		return auth.Request{Method: auth.MethodLeaseRevoke, Lease: ids.LeaseID(q.Lease)}, nil
	case check.Compact:
		return auth.Request{Method: auth.MethodCompact}, nil
	}
	body, err := proto.Marshal(txnOf(q))
	if err != nil {
		return auth.Request{}, err
	}
	txn := &wire.TxnRequest{}
	if err := txn.Unmarshal(body); err != nil {
		return auth.Request{}, err
	}
	return auth.Request{Method: auth.MethodTxn, Ops: []auth.Op{auth.OfTxn(txn)}}, nil
}

// admit does what the server does before it proposes something, which is q or, if that is nil, r: it refuses what may not be, as far as this member knows, and where it
// might know too little it looks again behind the barrier.
func (m *Member) admit(who credential, r auth.Request, q *check.Request, refuse func(error), then func(auth.Identity)) {
	if !m.w.guarded() {
		then(auth.Identity{})
		return
	}
	if q != nil {
		var err error
		if r, err = authRequest(*q); err != nil {
			refuse(err)
			return
		}
	}
	view := m.state.View()
	id := who.prove(view.Auth)
	err := view.Auth.May(id, &r, view.Leases)
	m.w.judgeFront(m, id, &r, q, err, 0)
	patient := r.Method != auth.MethodLeaseGrant && r.Method != auth.MethodCompact
	if err == nil || !patient {
		if err != nil {
			refuse(err)
			return
		}
		then(id)
		return
	}
	floor := m.w.applications.frontier()
	m.drive.Host.Read(func(err error) {
		if err != nil {
			refuse(err)
			return
		}
		view := m.state.View()
		id := who.prove(view.Auth)
		err = view.Auth.May(id, &r, view.Leases)
		m.w.judgeFront(m, id, &r, q, err, floor)
		if err != nil {
			refuse(err)
			return
		}
		then(id)
	})
}

// readable decides a read on the view that it reads. floor is what had been applied anywhere when it came; 0: it need not see that.
func (m *Member) readable(who credential, q check.Request, floor ids.Index) error {
	if !m.w.guarded() {
		return nil
	}
	r, err := authRequest(q)
	if err != nil {
		return err
	}
	view := m.state.View()
	id := who.prove(view.Auth)
	err = view.Auth.May(id, &r, view.Leases)
	m.w.judgeFront(m, id, &r, &q, err, floor)
	return err
}

// order asks for a change of users or roles, or for a token.
func (m *Member) order(who credential, method auth.Method, kind command.Kind, body []byte, answer func(struct{}, error)) {
	done := waiter(func(r *command.Result) { answer(struct{}{}, r.Err) })
	if method == auth.MethodAuthenticate {
		m.drive.Host.ProposeAs(kind, body, "", 0, done)
		return
	}
	m.admit(who, auth.Request{Method: method}, nil, func(err error) { answer(struct{}{}, err) }, func(id auth.Identity) {
		m.drive.Host.ProposeAs(kind, body, id.User, id.Revision, done)
	})
}

// denials are all refusals that authentication knows for requests.
var denials = []error{fault.UserEmpty, fault.AuthOldRevision, fault.PermissionDenied, fault.UserNotFound}

// denied reports whether an error is a decision.
func denied(err error) bool {
	for _, d := range denials {
		if errors.Is(err, d) {
			return true
		}
	}
	return false
}
