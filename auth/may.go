package auth

import (
	"bytes"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/wire"
)

// Identity is who asks, proved by a token or a certificate.
type Identity struct {
	User     string // "" is nobody
	Revision uint64 // the authentication revision at which it was proved; 0 for nobody, since revisions start at 1
}

// OpKind says what an Op does.
type OpKind uint8

// What an Op can do. The zero OpKind is nothing and is refused.
const (
	Read OpKind = iota + 1
	Write
	Delete
	Txn
)

// Op is what one request does with keys.
type Op struct {
	Kind     OpKind
	Key, End []byte           // End as in a RangeRequest: empty for the one key, "\x00" for all keys from Key on
	PrevKV   bool             // the answer shows what was there before
	Lease    ids.LeaseID      // Write: the lease that the key is attached to, 0 for none
	Txn      *wire.TxnRequest // Txn: nothing else is looked at then
}

// OfRange is the Op of a range request, also of RangeStream.
func OfRange(r *wire.RangeRequest) Op { return Op{Kind: Read, Key: r.Key, End: r.RangeEnd} }

// OfPut is the Op of a put.
func OfPut(r *wire.PutRequest) Op {
	return Op{Kind: Write, Key: r.Key, PrevKV: r.PrevKV, Lease: ids.LeaseID(r.Lease)}
}

// OfDelete is the Op of a delete.
func OfDelete(r *wire.DeleteRangeRequest) Op {
	return Op{Kind: Delete, Key: r.Key, End: r.RangeEnd, PrevKV: r.PrevKV}
}

// OfTxn is the Op of a transaction: its comparisons, both branches, and what is nested in them.
func OfTxn(r *wire.TxnRequest) Op { return Op{Kind: Txn, Txn: r} }

// OfWatch is the Op of a watch of which the client sent this key and range end. No key means the first one.
func OfWatch(key, end []byte) Op {
	if len(key) == 0 {
		key = firstKey
	}
	return Op{Kind: Read, Key: key, End: end}
}

var firstKey = []byte{0}

// Request is what somebody wants to do. Besides Method only what its rule asks about is looked at.
type Request struct {
	Method   Method
	Ops      []Op        // KV, Watch, Lock and Election: everything that will be done
	User     string      // UserGet: whom it asks about
	Role     string      // RoleGet: which role it asks about
	Lease    ids.LeaseID // LeaseRevoke, LeaseKeepAlive, LeaseTimeToLive
	WithKeys bool        // LeaseTimeToLive: the answer names the keys
	AlarmGet bool        // Alarm: it only lists
}

// Attached knows which keys are attached to which lease. It must belong to the state that decides.
type Attached interface {
	// EachKey calls f with the keys attached to the lease until f returns false.
	EachKey(id ids.LeaseID, f func(key string) bool)
	// EachAttached calls f with the keys attached to all leases until f returns false.
	EachAttached(f func(key string) bool)
}

// May decides a request: nil, or one of fault.UserEmpty, fault.AuthOldRevision, fault.UserNotFound and fault.PermissionDenied,
// in etcd's order. It is nil while authentication is disabled, for whatever request. leases may be nil for methods that concern no
// lease and for ops without one; others are refused then.
//
// An identity that is older than the state is refused where keys are concerned, and not where only the role root matters, as
// in etcd.
func (v *View) May(id Identity, r *Request, leases Attached) error {
	if !v.enabled {
		return nil
	}
	if r.Method >= methodEnd {
		return fault.PermissionDenied
	}
	switch methods[r.Method].rule {
	case ruleOpen:
		return nil
	case ruleUser:
		return someone(id)
	case ruleRoot:
		return v.root(id)
	case ruleAlarm:
		if r.AlarmGet {
			return someone(id)
		}
		return v.root(id)
	case ruleKeys:
		return v.keys(id, r.Ops, leases)
	case ruleLeaseWrite, ruleLeaseRead, ruleLeasesRead:
		return v.lease(id, r, leases)
	case ruleOwnUser:
		if err := v.root(id); err != nil && (id.User == "" || id.User != r.User) {
			return err
		}
		return nil
	case ruleOwnRole:
		err := v.root(id)
		if err == nil {
			return nil
		}
		if u := v.find(id.User); u != nil && u.has(r.Role) {
			return nil
		}
		return err
	}
	return fault.PermissionDenied
}

// someone is for requests that anybody may send who is known.
func someone(id Identity) error {
	if id.User == "" {
		return fault.UserEmpty
	}
	return nil
}

// root asks for the role root. The revision of the identity does not matter: the user is looked up in the state as it is.
func (v *View) root(id Identity) error {
	if id.User == "" {
		return fault.UserEmpty
	}
	u := v.find(id.User)
	switch {
	case u == nil:
		return fault.UserNotFound
	case !u.root:
		return fault.PermissionDenied
	}
	return nil
}

// who finds the user for a request that concerns keys.
func (v *View) who(id Identity) (*user, error) {
	switch {
	case id.Revision == 0:
		return nil, fault.UserEmpty
	case id.Revision < v.revision:
		return nil, fault.AuthOldRevision
	}
	u := v.find(id.User)
	if u == nil {
		return nil, fault.PermissionDenied
	}
	return u, nil
}

func (v *View) keys(id Identity, ops []Op, leases Attached) error {
	u, err := v.who(id)
	if err != nil || u.root {
		return err
	}
	if len(ops) == 0 {
		return fault.PermissionDenied // the caller has not said what the request does
	}
	for i := range ops {
		if !u.may(&ops[i], leases) {
			return fault.PermissionDenied
		}
	}
	return nil
}

func (v *View) lease(id Identity, r *Request, leases Attached) error {
	if err := someone(id); err != nil || v.root(id) == nil {
		return err
	}
	rule := methods[r.Method].rule
	if rule == ruleLeaseRead && !r.WithKeys {
		return nil
	}
	if leases == nil {
		return fault.PermissionDenied
	}
	var err error
	each := func(key string) bool {
		var u *user
		if u, err = v.who(id); err != nil {
			return false
		}
		set := u.access.read
		if rule == ruleLeaseWrite {
			set = u.access.write
		}
		if !set.hasKey(key) {
			err = fault.PermissionDenied
		}
		return err == nil
	}
	if rule == ruleLeasesRead {
		leases.EachAttached(each)
	} else {
		leases.EachKey(r.Lease, each)
	}
	return err
}

// may says whether the user, who has not the role root, may do one thing.
func (u *user) may(o *Op, leases Attached) bool {
	switch o.Kind {
	case Read:
		return u.access.read.has(o.Key, o.End)
	case Write:
		return u.mayPut(o.Key, o.PrevKV, o.Lease, leases)
	case Delete:
		return u.mayDelete(o.Key, o.End, o.PrevKV)
	case Txn:
		return o.Txn != nil && u.mayTxn(o.Txn, leases)
	}
	return false
}

// mayPut: who attaches a key to a lease must be allowed to write all keys of the lease, since whoever may do that may revoke
// it, which deletes the key too.
func (u *user) mayPut(key []byte, prev bool, lease ids.LeaseID, leases Attached) bool {
	if !u.access.write.has(key, nil) || prev && !u.access.read.has(key, nil) {
		return false
	}
	if lease == 0 || leases == nil {
		return lease == 0
	}
	ok := true
	leases.EachKey(lease, func(key string) bool {
		ok = u.access.write.hasKey(key)
		return ok
	})
	return ok
}

func (u *user) mayDelete(key, end []byte, prev bool) bool {
	return u.access.write.has(key, end) && (!prev || u.access.read.has(key, end))
}

func (u *user) mayTxn(t *wire.TxnRequest, leases Attached) bool {
	for i := range t.Compare {
		if c := &t.Compare[i]; !u.access.read.has(c.Key, c.RangeEnd) {
			return false
		}
	}
	return u.mayBranch(t.Success, leases) && u.mayBranch(t.Failure, leases)
}

func (u *user) mayBranch(ops []wire.RequestOp, leases Attached) bool {
	for i := range ops {
		ok := true
		switch o := &ops[i]; {
		case o.Range != nil:
			ok = u.access.read.has(o.Range.Key, o.Range.RangeEnd)
		case o.Put != nil:
			ok = u.mayPut(o.Put.Key, o.Put.PrevKV, ids.LeaseID(o.Put.Lease), leases)
		case o.DeleteRange != nil:
			ok = u.mayDelete(o.DeleteRange.Key, o.DeleteRange.RangeEnd, o.DeleteRange.PrevKV)
		case o.Txn != nil:
			ok = canary.On(canary.SkipNested) || u.mayTxn(o.Txn, leases)
		}
		if !ok {
			return false
		}
	}
	return true
}

// openEnd says whether a range end means all keys from its key on.
func openEnd(end []byte) bool { return bytes.Equal(end, firstKey) }
