package auth_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

var decisions = flag.Int("decisions", 100_000, "how many random decisions are compared with the model")

// tandem is a table and the model of it.
type tandem struct {
	*rand.Rand
	table *auth.Table
	batch *storage.Batch
	model *model
}

// EachKey implements auth.Attached by the model's leases.
func (t *tandem) EachKey(id ids.LeaseID, f func(string) bool) {
	for _, k := range t.model.leases[id] {
		if !f(k) {
			return
		}
	}
}

// EachAttached implements auth.Attached.
func (t *tandem) EachAttached(f func(string) bool) {
	more := true
	for id := ids.LeaseID(1); id <= 4 && more; id++ {
		t.EachKey(id, func(k string) bool {
			more = f(k)
			return more
		})
	}
}

func newTandem(t testing.TB, r *rand.Rand) *tandem {
	engine, err := storage.Open("db", storage.Options{FS: vfs.NewMem()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, engine.Close()) })
	table, err := auth.Open(engine)
	require.NoError(t, err)
	return &tandem{r, table, engine.NewBatch(), newModel()}
}

func (t *tandem) pick(list ...string) string { return list[t.IntN(len(list))] }
func (t *tandem) user() string               { return t.pick("root", "ann", "bob", "eve") }
func (t *tandem) role() string               { return t.pick("root", "r", "s", "t") }
func (t *tandem) key() string                { return t.pick(named...) }

func (t *tandem) end() string {
	switch t.IntN(4) {
	case 0:
		return ""
	case 1:
		return "\x00"
	}
	return t.pick(universe...)
}

// change makes one random change in both, and says what each of them answered.
func (t *tandem) change() (got, want error) {
	user, role, b := t.user(), t.role(), t.batch
	b.Reset()
	switch n := t.IntN(40); {
	case n < 2:
		return t.table.Enable(b), t.model.enable()
	case n < 3 && t.IntN(8) == 0:
		t.table.Disable(b)
		t.model.disable()
		return nil, nil
	case n < 6:
		return t.table.UserAdd(b, &wire.AuthUserAddRequest{Name: user}), t.model.userAdd(user)
	case n < 7:
		return t.table.UserDelete(b, user), t.model.userDelete(user)
	case n < 14:
		return t.table.UserGrantRole(b, user, role), t.model.grant(user, role)
	case n < 17:
		return t.table.UserRevokeRole(b, user, role), t.model.revoke(user, role)
	case n < 19:
		return t.table.RoleAdd(b, role), t.model.roleAdd(role)
	case n < 20:
		return t.table.RoleDelete(b, role), t.model.roleDelete(role)
	case n < 30:
		p := modelPerm{key: t.key(), end: t.end()}
		kind := wire.AuthPermissionType(t.IntN(3))
		p.read, p.write = kind != wire.AuthWrite, kind != wire.AuthRead
		return t.table.RoleGrantPermission(b, role, &wire.AuthPermission{Type: kind, Key: []byte(p.key), RangeEnd: []byte(p.end)}),
			t.model.rolePermit(role, p)
	case n < 32:
		r := &wire.AuthRoleRevokePermissionRequest{Role: role, Key: []byte(t.key()), RangeEnd: []byte(t.end())}
		return t.table.RoleRevokePermission(b, r), t.model.roleForbid(role, string(r.Key), string(r.RangeEnd))
	}
	id := ids.LeaseID(1 + t.IntN(4))
	t.model.leases[id] = nil
	for range t.IntN(3) {
		t.model.leases[id] = append(t.model.leases[id], t.key())
	}
	return nil, nil
}

func (t *tandem) identity() auth.Identity {
	id := auth.Identity{User: t.user(), Revision: t.model.revision}
	switch t.IntN(12) {
	case 0:
		id.Revision--
	case 1:
		id.Revision++
	case 2:
		id.Revision = 0
	case 3:
		id = auth.Identity{}
	case 4:
		id.User = ""
	}
	return id
}

func (t *tandem) put() *wire.PutRequest {
	return &wire.PutRequest{Key: []byte(t.key()), PrevKV: t.IntN(3) == 0, Lease: max(0, t.Int64N(8)-3)}
}

func (t *tandem) get() *wire.RangeRequest {
	return &wire.RangeRequest{Key: []byte(t.key()), RangeEnd: []byte(t.end())}
}

func (t *tandem) delete() *wire.DeleteRangeRequest {
	return &wire.DeleteRangeRequest{Key: []byte(t.key()), RangeEnd: []byte(t.end()), PrevKV: t.IntN(3) == 0}
}

// txn is small, so that the usual one has a chance to be permitted.
func (t *tandem) txn(depth int) *wire.TxnRequest {
	r := &wire.TxnRequest{}
	for t.IntN(3) == 0 {
		r.Compare = append(r.Compare, wire.Compare{Key: []byte(t.key()), RangeEnd: []byte(t.pick("", "", t.end()))})
	}
	for _, branch := range []*[]wire.RequestOp{&r.Success, &r.Failure} {
		for t.IntN(2) == 0 {
			switch n := t.IntN(5); {
			case n == 0:
				*branch = append(*branch, wire.RequestOp{Range: t.get()})
			case n == 1:
				*branch = append(*branch, wire.RequestOp{DeleteRange: t.delete()})
			case n == 2 && depth > 0:
				*branch = append(*branch, wire.RequestOp{Txn: t.txn(depth - 1)})
			default:
				*branch = append(*branch, wire.RequestOp{Put: t.put()})
			}
		}
	}
	return r
}

// ask is a random request, half of them on keys.
func (t *tandem) ask() *ask {
	all := auth.Methods()
	a := &ask{method: all[t.IntN(len(all))].String()}
	if t.IntN(2) == 0 {
		a.method = t.pick("/etcdserverpb.KV/Range", "/etcdserverpb.Watch/Watch", "/etcdserverpb.KV/Put", "/etcdserverpb.KV/DeleteRange",
			"/etcdserverpb.KV/Txn", "/etcdserverpb.KV/Txn", "/etcdserverpb.KV/Txn")
	}
	switch method := short(a.method); method {
	case "Range", "RangeStream", "Leader", "Observe":
		a.get = t.get()
	case "Put":
		a.put = t.put()
	case "DeleteRange", "Unlock":
		a.delete = t.delete()
	case "Txn", "Lock", "Campaign", "Proclaim", "Resign":
		a.txn = t.txn(2)
	case "Watch":
		if a.method == "/etcdserverpb.Watch/Watch" {
			a.watch = &wire.WatchCreateRequest{Key: []byte(t.pick("", t.key())), RangeEnd: []byte(t.end())}
		}
	}
	a.lease, a.keys, a.alarms = ids.LeaseID(t.IntN(6)), t.IntN(2) == 0, t.IntN(2) == 0
	if short(a.method) == "UserGet" {
		a.name = t.pick(t.user(), "")
	} else {
		a.name = t.role()
	}
	return a
}

// request translates an ask into what May is given.
func (a *ask) request() *auth.Request {
	m, ok := auth.MethodOf(a.method)
	if !ok {
		panic("no row for " + a.method)
	}
	r := &auth.Request{Method: m, User: a.name, Role: a.name, Lease: a.lease, WithKeys: a.keys, AlarmGet: a.alarms}
	switch {
	case a.get != nil:
		r.Ops = []auth.Op{auth.OfRange(a.get)}
	case a.put != nil:
		r.Ops = []auth.Op{auth.OfPut(a.put)}
	case a.delete != nil:
		r.Ops = []auth.Op{auth.OfDelete(a.delete)}
	case a.txn != nil:
		r.Ops = []auth.Op{auth.OfTxn(a.txn)}
	case a.watch != nil:
		r.Ops = []auth.Op{auth.OfWatch(a.watch.Key, a.watch.RangeEnd)}
	}
	return r
}

// compare makes n random decisions on a state that changes all the time, and returns the first on which decide and the model
// differ, and how many were permitted by each method.
func compare(t testing.TB, seed uint64, n int, decide func(v *auth.View, id auth.Identity, a *ask, leases auth.Attached) error) (difference string, permitted, refused map[string]int) {
	d := newTandem(t, rand.New(rand.NewPCG(seed, 0)))
	permitted, refused = map[string]int{}, map[string]int{}
	for i := range n {
		for i == 0 && d.model.revision < 40 || d.IntN(30) == 0 {
			got, want := d.change()
			require.ErrorIs(t, got, want, "seed %d, decision %d", seed, i)
			require.Equal(t, want == nil, got == nil, "seed %d, decision %d: a change gives %v, the model %v", seed, i, got, want)
			require.Equal(t, d.model.revision, d.table.Revision(), "seed %d, decision %d", seed, i)
		}
		id, a := d.identity(), d.ask()
		want := d.model.decide(id, a)
		got := decide(d.table.Published(), id, a, d)
		if !errors.Is(got, want) || (got == nil) != (want == nil) {
			return fmt.Sprintf("seed %d, decision %d: %s of %+v: %v, the model says %v", seed, i, a.method, id, got, want), permitted, refused
		}
		if !d.model.enabled {
			continue
		}
		if want == nil {
			permitted[short(a.method)]++
		} else {
			refused[short(a.method)]++
		}
	}
	return "", permitted, refused
}

func may(v *auth.View, id auth.Identity, a *ask, leases auth.Attached) error {
	return v.May(id, a.request(), leases)
}

// coveredSeed gives every method both answers soon. A seed of which nothing is known may leave authentication off for thousands
// of changes: nobody becomes root.
const coveredSeed = 1

// TestDecisions compares May with the model, under a new seed each time. -decisions says how often.
func TestDecisions(t *testing.T) {
	n := *decisions
	if testing.Short() {
		n /= 10
	}
	difference, _, _ := compare(t, rand.Uint64(), n, may)
	require.Empty(t, difference)
}

// TestDecisionsCover: what is always refused, or always permitted, is not tested.
func TestDecisionsCover(t *testing.T) {
	const seed = coveredSeed
	difference, permitted, refused := compare(t, seed, 100_000, may)
	require.Empty(t, difference)
	for _, m := range auth.Methods() {
		name := short(m.String())
		if permitted[name] == 0 || refused[name] == 0 && !m.Open() {
			t.Errorf("seed %d: %s was permitted %d times and refused %d times", seed, name, permitted[name], refused[name])
		}
	}
	t.Logf("permitted %v, refused %v", permitted, refused)
}

// TestDecisionsFindMistakes plants the mistakes that authorization is known for, those of etcd's published advisories among
// them, and wants TestDecisions to find each.
func TestDecisionsFindMistakes(t *testing.T) {
	for name, forget := range mistakes {
		t.Run(name, func(t *testing.T) {
			difference, _, _ := compare(t, coveredSeed, 200_000, forget)
			require.NotEmpty(t, difference)
			t.Log(difference)
		})
	}
}

type decider = func(v *auth.View, id auth.Identity, a *ask, leases auth.Attached) error

// onOps is May of a request whose transactions and operations were changed.
func onOps(change func(op *wire.RequestOp)) decider {
	return func(v *auth.View, id auth.Identity, a *ask, leases auth.Attached) error {
		b := *a
		top := wire.RequestOp{Range: a.get, Put: a.put, DeleteRange: a.delete, Txn: a.txn}
		top = rewrite(top, change)
		b.get, b.put, b.delete, b.txn = top.Range, top.Put, top.DeleteRange, top.Txn
		return may(v, id, &b, leases)
	}
}

// rewrite applies a change to copies of an operation and all within it, the inner ones first.
func rewrite(op wire.RequestOp, change func(op *wire.RequestOp)) wire.RequestOp {
	if op.Put != nil {
		c := *op.Put
		op.Put = &c
	}
	if op.DeleteRange != nil {
		c := *op.DeleteRange
		op.DeleteRange = &c
	}
	if op.Txn != nil {
		c := *op.Txn
		c.Success, c.Failure = slices.Clone(c.Success), slices.Clone(c.Failure)
		for _, branch := range [][]wire.RequestOp{c.Success, c.Failure} {
			for i := range branch {
				branch[i] = rewrite(branch[i], change)
			}
		}
		op.Txn = &c
	}
	change(&op)
	return op
}

var mistakes = map[string]decider{
	"nested transactions": onOps(func(op *wire.RequestOp) {
		if op.Txn != nil {
			for _, branch := range [][]wire.RequestOp{op.Txn.Success, op.Txn.Failure} {
				for i := range branch {
					branch[i].Txn = nil
				}
			}
		}
	}),
	"the previous value of a put": onOps(func(op *wire.RequestOp) {
		if op.Put != nil {
			op.Put.PrevKV = false
		}
	}),
	"the previous value of a delete": onOps(func(op *wire.RequestOp) {
		if op.DeleteRange != nil {
			op.DeleteRange.PrevKV = false
		}
	}),
	"what a put attaches to": onOps(func(op *wire.RequestOp) {
		if op.Put != nil {
			op.Put.Lease = 0
		}
	}),
	"puts in transactions": onOps(func(op *wire.RequestOp) {
		if op.Txn != nil {
			for _, branch := range [][]wire.RequestOp{op.Txn.Success, op.Txn.Failure} {
				for i := range branch {
					if p := branch[i].Put; p != nil {
						p.PrevKV, p.Lease = false, 0
					}
				}
			}
		}
	}),
	"comparisons": onOps(func(op *wire.RequestOp) {
		if op.Txn != nil {
			op.Txn.Compare = nil
		}
	}),
	"the branch of failure": onOps(func(op *wire.RequestOp) {
		if op.Txn != nil {
			op.Txn.Failure = nil
		}
	}),
	"the end of a watch": func(v *auth.View, id auth.Identity, a *ask, leases auth.Attached) error {
		b := *a
		if a.watch != nil && string(a.watch.RangeEnd) == "\x00" {
			b.watch = &wire.WatchCreateRequest{Key: a.watch.Key}
		}
		return may(v, id, &b, leases)
	},
	"who lists members": func(v *auth.View, id auth.Identity, a *ask, leases auth.Attached) error {
		if short(a.method) == "MemberList" {
			return nil
		}
		return may(v, id, a, leases)
	},
	"the keys of a lease": func(v *auth.View, id auth.Identity, a *ask, leases auth.Attached) error {
		b := *a
		b.keys = false
		return may(v, id, &b, leases)
	},
	"the revision": func(v *auth.View, id auth.Identity, a *ask, leases auth.Attached) error {
		id.Revision = max(id.Revision, v.Revision())
		return may(v, id, a, leases)
	},
}
