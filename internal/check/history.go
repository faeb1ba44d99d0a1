package check

import (
	"fmt"
	"strings"
)

// Kind says what an operation asks for.
type Kind uint8

// The kinds of operations. Expire is nobody's request: it is what the store does to a lease whose time is over.
const (
	Put Kind = iota + 1
	Delete
	Range
	Txn
	Grant
	Revoke
	Compact
	Expire
)

// Refusals that the model understands, in etcd's words. Other refusals are taken as "nothing happened".
const (
	LeaseNotFound = "etcdserver: requested lease not found"
	LeaseExists   = "etcdserver: lease already exists"
	Compacted     = "etcdserver: mvcc: required revision has been compacted"
	FutureRev     = "etcdserver: mvcc: required revision is a future revision"
)

// Never is the return of an operation that was not answered.
const Never = int64(1) << 62

// KV is a key as the store holds it.
type KV struct {
	Key, Value                  string
	Create, Mod, Version, Lease int64
}

// Target is what a comparison looks at.
type Target uint8

// The targets of a comparison. A key that does not exist has version, creation, modification and lease 0 and no value.
const (
	ByVersion Target = iota + 1
	ByCreate
	ByMod
	ByValue
	ByLease
)

// Compare is one condition of a transaction. Relation is one of = ! < >.
type Compare struct {
	Key      string
	Target   Target
	Relation byte
	Number   int64  // for all targets but ByValue
	Value    string // for ByValue
}

// Request is what a client asked for. Which fields mean something depends on Kind.
type Request struct {
	Kind     Kind
	Key, End string // Range and Delete: [Key, End); an empty End is Key alone, End "\x00" is everything from Key
	Value    string
	Lease    int64     // Put, Revoke, Expire
	Revision int64     // Range: the revision to read at, 0 for the newest; Compact: the revision to compact up to
	Limit    int64     // Range, 0 for none
	Prev     bool      // Put, Delete: the answer holds what was there before
	Stale    bool      // Range: serializable, so any revision that was current at some time will do
	If       []Compare // Txn
	Then     []Request // Txn: puts, deletes, ranges and transactions
	Else     []Request // Txn
}

// Answer is what the store answered.
type Answer struct {
	Revision  int64 // of the header; 0 for a refusal, which has none
	KVs       []KV  // Range: what was found; Put and Delete with Prev: what was there before
	Count     int64 // Range: how many keys there are without the limit; Delete: how many were deleted
	More      bool  // Range: the limit left some out
	Succeeded bool  // Txn: which branch was taken
	Lease     int64 // Grant
	Parts     []Answer
	Refusal   string // the error, when it says for certain that nothing happened
}

// Operation is one request of one client with its answer. Call and Return are instants of one clock for all clients.
type Operation struct {
	Client  int
	Call    int64
	Return  int64 // Never when the outcome is not known
	Request Request
	Answer  Answer
}

// Known reports whether the operation was answered.
func (o *Operation) Known() bool { return o.Return != Never }

// String names the operation so that it can be found in a history.
func (o *Operation) String() string {
	if o.Request.Kind == Expire {
		return o.Request.String()
	}
	if !o.Known() {
		return fmt.Sprintf("client %d: %s [called at %d, not answered]", o.Client, o.Request, o.Call)
	}
	return fmt.Sprintf("client %d: %s [%d to %d] -> %s", o.Client, o.Request, o.Call, o.Return, o.Answer.text(o.Request.Kind))
}

// String is the request in one line.
func (r Request) String() string {
	var b strings.Builder
	switch r.Kind {
	case Put:
		fmt.Fprintf(&b, "put %q=%q", r.Key, short(r.Value))
		if r.Lease != 0 {
			fmt.Fprintf(&b, " lease %x", r.Lease)
		}
	case Delete:
		fmt.Fprintf(&b, "delete %s", span(r.Key, r.End))
	case Range:
		fmt.Fprintf(&b, "get %s", span(r.Key, r.End))
		if r.Revision != 0 {
			fmt.Fprintf(&b, " at revision %d", r.Revision)
		}
		if r.Limit != 0 {
			fmt.Fprintf(&b, " limit %d", r.Limit)
		}
		if r.Stale {
			b.WriteString(" serializable")
		}
	case Txn:
		fmt.Fprintf(&b, "txn if %v then %v else %v", r.If, r.Then, r.Else)
	case Grant:
		b.WriteString("grant")
	case Revoke:
		fmt.Fprintf(&b, "revoke lease %x", r.Lease)
	case Compact:
		fmt.Fprintf(&b, "compact to %d", r.Revision)
	case Expire:
		fmt.Fprintf(&b, "expiry of lease %x", r.Lease)
	default:
		fmt.Fprintf(&b, "request of kind %d", r.Kind)
	}
	return b.String()
}

// String is the condition in one line.
func (c Compare) String() string {
	name := [...]string{"?", "version", "create", "mod", "value", "lease"}[c.Target]
	if c.Target == ByValue {
		return fmt.Sprintf("%s(%q) %c %q", name, c.Key, c.Relation, short(c.Value))
	}
	return fmt.Sprintf("%s(%q) %c %d", name, c.Key, c.Relation, c.Number)
}

// String is the key in one line.
func (kv KV) String() string {
	return fmt.Sprintf("{%q=%q create %d mod %d version %d lease %x}", kv.Key, short(kv.Value), kv.Create, kv.Mod, kv.Version, kv.Lease)
}

func (a Answer) text(k Kind) string {
	if a.Refusal != "" {
		return "refused: " + a.Refusal
	}
	head := fmt.Sprintf("revision %d", a.Revision)
	switch k {
	case Range:
		return fmt.Sprintf("%s, %d of %d keys %v", head, len(a.KVs), a.Count, few(a.KVs))
	case Delete:
		return fmt.Sprintf("%s, deleted %d", head, a.Count)
	case Txn:
		return fmt.Sprintf("%s, succeeded %t", head, a.Succeeded)
	case Grant:
		return fmt.Sprintf("%s, lease %x", head, a.Lease)
	}
	return head
}

func span(key, end string) string {
	if end == "" {
		return fmt.Sprintf("%q", key)
	}
	return fmt.Sprintf("[%q, %q)", key, end)
}

// short keeps texts readable: values of a load may be long.
func short(v string) string {
	if len(v) > 32 {
		return fmt.Sprintf("%s… (%d bytes)", v[:24], len(v))
	}
	return v
}

func few(kvs []KV) string {
	const most = 5
	if len(kvs) <= most {
		return fmt.Sprint(kvs)
	}
	return fmt.Sprintf("%v and %d more", kvs[:most], len(kvs)-most)
}
