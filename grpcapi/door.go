package grpcapi

import (
	"bytes"
	"errors"
	"slices"

	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/authn"
	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/state"
)

// Every method is registered behind a door. The door finds out who asks and, unless the method is in asksItself, asks auth.May
// before the handler runs: a method that nobody thought of is refused to all but what its row in auth's table says, and
// one without a row to everybody.

// asksItself are the methods whose handlers ask auth.May themselves, since only they know what the request is about, or
// since the answer has to come from the same View as the data, behind the barrier. All that have a row by which something
// else than the method counts must be here: the door asks with an empty request, which is refused then.
var asksItself = []auth.Method{
	auth.MethodRange, auth.MethodRangeStream, auth.MethodPut, auth.MethodDeleteRange, auth.MethodTxn, auth.MethodWatch,
	auth.MethodLeaseGrant, // after the quota, as etcd
	auth.MethodLeaseRevoke, auth.MethodLeaseKeepAlive, auth.MethodLeaseTimeToLive, auth.MethodLeaseLeases,
	auth.MethodMemberAdd,  // after its URLs, as etcd
	auth.MethodMemberList, // behind the barrier
	auth.MethodAlarm, auth.MethodUserGet, auth.MethodRoleGet,
	auth.MethodUserList, auth.MethodRoleList, auth.MethodAuthStatus, // behind the barrier
	auth.MethodLock, auth.MethodUnlock, auth.MethodCampaign, auth.MethodProclaim, auth.MethodLeader, auth.MethodObserve, auth.MethodResign,
}

// anonymous are the methods for which it does not matter who asks, so that not even a token is looked at.
var anonymous = []auth.Method{
	auth.MethodAuthenticate, auth.MethodHealthCheck, auth.MethodHealthList, auth.MethodHealthWatch, auth.MethodReflection, auth.MethodReflectionAlpha,
}

// inLog are the methods that change users and roles. The log decides them, so that a member that is behind must not refuse
// them by what it knows: it asks again behind the barrier.
var inLog = []auth.Method{
	auth.MethodAuthEnable, auth.MethodAuthDisable, auth.MethodUserAdd, auth.MethodUserDelete, auth.MethodUserChangePassword,
	auth.MethodUserGrantRole, auth.MethodUserRevokeRole, auth.MethodRoleAdd, auth.MethodRoleDelete, auth.MethodRoleGrantPermission,
	auth.MethodRoleRevokePermission,
}

// door is the way into one method.
type door struct {
	services  *Services
	method    auth.Method // 0: the method has no row
	path      string
	data      bool // closed while the member is fenced
	anonymous bool
	asks      bool // the door itself asks auth.May
	inLog     bool
	handle    unaryHandler // of unary methods
}

// unaryHandler is an rpc.UnaryHandler that knows who asks.
type unaryHandler func(c *rpc.Call, who asker, msg []byte)

// streamHandler is an rpc.StreamHandler that can find out who asks.
type streamHandler func(st *rpc.Stream, d *door) *rpc.Status

func (v *Services) door(service, method string) *door {
	path := "/" + service + "/" + method
	m, _ := auth.MethodOf(path)
	return &door{
		services: v, method: m, path: path, data: ofData(service),
		anonymous: slices.Contains(anonymous, m), asks: !slices.Contains(asksItself, m), inLog: slices.Contains(inLog, m),
	}
}

// asker is who sent a request.
type asker struct {
	door  *door
	call  *rpc.Call // nil where the identity is not to be proved again
	id    auth.Identity
	err   error // the token was wrong
	old   bool  // the token is of a revision of users and roles that has passed
	again bool  // this is behind the barrier already
}

// prove finds out who sent a request. wait says that the token may be known once this member has applied that index.
func (d *door) prove(view *state.View, c authn.Caller) (who asker, wait ids.Index) {
	who.door = d
	if d.anonymous {
		return who, 0
	}
	var id authn.Identity
	id, wait, who.err = d.services.Keeper.Identity(view.Auth, c)
	who.id = auth.Identity{User: id.User, Revision: id.Revision}
	who.old = id.User != "" && id.Revision < view.Auth.Revision()
	if d.services.Audit != nil {
		identified(c, view, who.id)
	}
	if d.services.Desk.Looking() {
		countedFor(c, who.id.User)
	}
	return who, wait
}

// proveStream is prove for a request of a stream, which can wait for its token.
func (d *door) proveStream(st *rpc.Stream) asker {
	v := d.services
	who, wait := d.prove(v.Store.View(), st)
	if wait == 0 {
		return who
	}
	if err := v.await(st.Context()); err != nil {
		who.err = err
		return who
	}
	who, _ = d.prove(v.Store.View(), st)
	return who
}

// enter lets a call in. again says that it has waited for the barrier.
func (d *door) enter(c *rpc.Call, msg []byte, again bool) {
	view := d.services.Store.View()
	who, wait := d.prove(view, c)
	who.call, who.again = c, again
	if wait > 0 && !again {
		d.later(c, msg)
		return
	}
	if d.asks {
		if d.inLog {
			if !who.admitted(c, msg, &auth.Request{}) {
				return
			}
		} else if err := who.may(view, &auth.Request{}); err != nil {
			c.Fail(statusOf(err))
			return
		}
	}
	d.handle(c, who, msg)
}

// enterStream lets a stream in.
func (d *door) enterStream(st *rpc.Stream, h streamHandler) *rpc.Status {
	recorded := d.services.Audit != nil
	if (d.asks || recorded) && !d.anonymous {
		who := d.proveStream(st)
		if d.asks {
			if err := who.may(d.services.Store.View(), &auth.Request{}); err != nil {
				return statusOf(err)
			}
		}
	}
	if recorded {
		witnessOf(st).open()
	}
	return h(st, d)
}

// later lets a call in once this member has applied all that was acknowledged anywhere.
func (d *door) later(c *rpc.Call, msg []byte) {
	msg = bytes.Clone(msg)
	d.services.Node.Read(func(err error) {
		if err != nil {
			c.Fail(statusOf(err))
			return
		}
		d.enter(c, msg, true)
	})
}

// may decides a request by a View. A call that waited is known anew when the View has another revision of users and roles
// than the one it was known by: only a token that says itself at which revision it was made can be too old then.
func (a *asker) may(view *state.View, r *auth.Request) error {
	if a.door.anonymous {
		return nil
	}
	if a.call != nil && view.Auth.Enabled() && a.id.Revision != view.Auth.Revision() {
		now, _ := a.door.prove(view, a.call)
		a.id, a.err = now.id, now.err
	}
	if a.err != nil {
		return a.err
	}
	r.Method = a.door.method
	return view.Auth.May(a.id, r, view.Leases)
}

// mayGrant decides the lease that a lock or an election makes for a caller who brought none.
func (a *asker) mayGrant(view *state.View) error {
	if a.err != nil {
		return a.err
	}
	return view.Auth.May(a.id, &auth.Request{Method: auth.MethodLeaseGrant}, view.Leases)
}

// admitted says whether a request may go to the log, which decides it again. If not, it sees to the answer: this member may
// be behind, so it asks again behind the barrier before it refuses.
func (a *asker) admitted(c *rpc.Call, msg []byte, r *auth.Request) bool {
	err := a.may(a.door.services.Store.View(), r)
	switch {
	case err == nil:
		return true
	case a.again || a.err != nil:
		c.Fail(statusOf(err))
	default:
		a.door.later(c, msg)
	}
	return false
}

// propose sends a command to the log in the name of who asks.
func (a *asker) propose(kind command.Kind, body []byte, w command.Waiter) {
	a.door.services.Node.ProposeAs(kind, body, a.id.User, a.id.Revision, w)
}

// renewed is who asks at a later moment of a long call: the user's permissions may have changed since, and count as they are. A token
// that was too old when the call came stays too old.
func (a *asker) renewed(view *state.View) asker {
	now := *a
	now.call = nil
	if now.id.User != "" && !now.old {
		now.id.Revision = view.Auth.Revision()
	}
	return now
}

// errNoRow refuses methods that auth has no row for, whether authentication is enabled or not.
var errNoRow = fault.PermissionDenied

// watchDenied are the refusals that a watch is told as they are. Everything else is told as a denied permission, as etcd does.
var watchDenied = []error{fault.InvalidAuthToken, fault.AuthOldRevision, fault.UserEmpty}

// watchRefusal is a refusal as the reason of a cancelled watch: the whole text of a gRPC error.
func watchRefusal(err error) string {
	if err == nil {
		return ""
	}
	told := error(fault.PermissionDenied)
	for _, d := range watchDenied {
		if errors.Is(err, d) {
			told = d
		}
	}
	code, text := fault.Of(told)
	return "rpc error: code = " + rpc.Code(code).String() + " desc = " + text
}
