package auth_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// noLeases is for requests that concern no lease.
type noLeases struct{}

func (noLeases) EachKey(ids.LeaseID, func(string) bool) {}
func (noLeases) EachAttached(func(string) bool)         {}

// oneLease is lease 7 with these keys.
type oneLease []string

func (l oneLease) EachKey(id ids.LeaseID, f func(string) bool) {
	if id == 7 {
		l.EachAttached(f)
	}
}

func (l oneLease) EachAttached(f func(string) bool) {
	for _, k := range l {
		if !f(k) {
			return
		}
	}
}

// store is a table on an engine.
type store struct {
	testing.TB
	engine *storage.Engine
	table  *auth.Table
	index  ids.Index
}

func newStore(t testing.TB) *store {
	t.Helper()
	engine, err := storage.Open("db", storage.Options{FS: vfs.NewMem()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, engine.Close()) })
	s := &store{TB: t, engine: engine}
	s.reopen()
	return s
}

func (s *store) reopen() {
	s.Helper()
	var err error
	s.table, err = auth.Open(s.engine)
	require.NoError(s, err)
}

// do makes changes in one batch.
func (s *store) do(changes ...func(b *storage.Batch) error) {
	s.Helper()
	b := s.engine.NewBatch()
	for _, c := range changes {
		require.NoError(s, c(b))
	}
	s.index++
	require.NoError(s, s.engine.Commit(b, storage.Mark{Index: s.index, Term: 1}))
}

// people adds the user root, enables, and adds users with a role of the same name and these permissions.
func (s *store) people(permissions map[string][]wire.AuthPermission) *auth.View {
	s.Helper()
	t := s.table
	s.do(func(b *storage.Batch) error { return t.UserAdd(b, &wire.AuthUserAddRequest{Name: "root"}) },
		func(b *storage.Batch) error { return t.UserGrantRole(b, "root", "root") },
		func(b *storage.Batch) error { return t.Enable(b) })
	for name, list := range permissions {
		s.do(func(b *storage.Batch) error {
			return t.UserAdd(b, &wire.AuthUserAddRequest{Name: name, HashedPassword: "eA=="})
		},
			func(b *storage.Batch) error { return t.RoleAdd(b, name) },
			func(b *storage.Batch) error { return t.UserGrantRole(b, name, name) })
		for _, p := range list {
			s.do(func(b *storage.Batch) error { return t.RoleGrantPermission(b, name, &p) })
		}
	}
	return t.Published()
}

func perm(kind wire.AuthPermissionType, key, end string) wire.AuthPermission {
	return wire.AuthPermission{Type: kind, Key: []byte(key), RangeEnd: []byte(end)}
}

func as(user string, v *auth.View) auth.Identity {
	return auth.Identity{User: user, Revision: v.Revision()}
}

// TestEveryMethodHasARow compares the table with the services as etcd declares them.
func TestEveryMethodHasARow(t *testing.T) {
	var names []string
	services := etcdserverpb.File_rpc_proto.Services()
	for i := range services.Len() {
		methods := services.Get(i).Methods()
		for j := range methods.Len() {
			names = append(names, fmt.Sprintf("/%s/%s", services.Get(i).FullName(), methods.Get(j).Name()))
		}
	}
	for _, m := range []string{"v3lockpb.Lock/Lock", "v3lockpb.Lock/Unlock", "v3electionpb.Election/Campaign", "v3electionpb.Election/Proclaim",
		"v3electionpb.Election/Leader", "v3electionpb.Election/Observe", "v3electionpb.Election/Resign", "grpc.health.v1.Health/Check",
		"grpc.health.v1.Health/List", "grpc.health.v1.Health/Watch", "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
		"grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"} {
		names = append(names, "/"+m)
	}
	var rows []string
	for _, m := range auth.Methods() {
		rows = append(rows, m.String())
		again, ok := auth.MethodOf(m.String())
		require.True(t, ok)
		require.Equal(t, m, again)
	}
	slices.Sort(names)
	slices.Sort(rows)
	require.Equal(t, names, rows)
}

// TestNoRowIsRefused asks, as root, for what has no row, and for operations that are none.
func TestNoRowIsRefused(t *testing.T) {
	s := newStore(t)
	unknown, ok := auth.MethodOf("/etcdserverpb.KV/Rnage")
	require.False(t, ok)
	require.NoError(t, s.table.Published().May(auth.Identity{}, &auth.Request{Method: unknown}, nil), "authentication is disabled")
	v := s.people(map[string][]wire.AuthPermission{"ann": {perm(wire.AuthReadWrite, "\x00", "\x00")}})
	for _, m := range []auth.Method{unknown, 999, 1 << 15} {
		require.ErrorIs(t, v.May(as("root", v), &auth.Request{Method: m}, noLeases{}), fault.PermissionDenied)
	}
	for _, ops := range [][]auth.Op{nil, {{}}, {{Kind: 99, Key: []byte("a")}}, {{Kind: auth.Txn}}, {{Kind: auth.Read}}} {
		require.ErrorIs(t, v.May(as("ann", v), &auth.Request{Method: auth.MethodPut, Ops: ops}, noLeases{}), fault.PermissionDenied)
	}
}

// TestRecordsAreEtcds reads what is stored with etcd's generated types, and reads what they write.
func TestRecordsAreEtcds(t *testing.T) {
	s := newStore(t)
	s.people(map[string][]wire.AuthPermission{"ann": {perm(wire.AuthReadWrite, "k", "l"), perm(wire.AuthRead, "a", "\x00"), perm(wire.AuthWrite, "b", "")}})
	read := func(bucket byte, name string, m proto.Message) {
		v, ok, err := s.engine.Get(storage.BucketKeyOf(bucket, []byte(name)))
		require.NoError(t, err)
		require.True(t, ok)
		require.NoError(t, proto.Unmarshal(v, m))
		again, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		require.NoError(t, err)
		require.Equal(t, again, v)
	}
	var user authpb.User
	read(storage.BucketAuthUsers, "ann", &user)
	require.True(t, proto.Equal(&user, &authpb.User{Name: []byte("ann"), Password: []byte("x"), Roles: []string{"ann"}, Options: &authpb.UserAddOptions{}}), &user)
	var role authpb.Role
	read(storage.BucketAuthRoles, "ann", &role)
	require.True(t, proto.Equal(&role, &authpb.Role{Name: []byte("ann"), KeyPermission: []*authpb.Permission{
		{PermType: authpb.READ, Key: []byte("a"), RangeEnd: []byte{0}}, {PermType: authpb.WRITE, Key: []byte("b")},
		{PermType: authpb.READWRITE, Key: []byte("k"), RangeEnd: []byte("l")}}}), &role)

	// A user as etcd before 3.5 wrote it keeps its form.
	old, err := proto.Marshal(&authpb.User{Name: []byte("old"), Password: []byte("y")})
	require.NoError(t, err)
	s.do(func(b *storage.Batch) error {
		b.Set(storage.BucketKeyOf(storage.BucketAuthUsers, []byte("old")), old)
		return nil
	})
	hash := s.table.Hash()
	s.reopen()
	require.NotEqual(t, hash, s.table.Hash())
	s.do(func(b *storage.Batch) error { return s.table.UserGrantRole(b, "old", "ann") })
	read(storage.BucketAuthUsers, "old", &user)
	require.Nil(t, user.Options)
	require.Equal(t, []string{"ann"}, user.Roles)
}

func TestOpenRefusesDamage(t *testing.T) {
	for key, value := range map[string]string{
		string(storage.BucketAuth) + "authEnabled":  "\x02",
		string(storage.BucketAuth) + "authRevision": "\x00",
		string(storage.BucketAuthUsers) + "ann":     "\x0a\x03bob",
		string(storage.BucketAuthRoles) + "r":       "\x0a\x05r",
	} {
		s := newStore(t)
		s.do(func(b *storage.Batch) error {
			b.Set([]byte(key), []byte(value))
			return nil
		})
		_, err := auth.Open(s.engine)
		require.ErrorContains(t, err, "restore it from a snapshot", "%q", key)
	}
}

// TestViewsDoNotChange takes a view, changes everything and looks at the view again.
func TestViewsDoNotChange(t *testing.T) {
	s := newStore(t)
	v := s.people(map[string][]wire.AuthPermission{"ann": {perm(wire.AuthReadWrite, "a", "c")}})
	require.Same(t, v, s.table.Published())
	hash, users, roles, revision := v.Hash(), v.Users(), v.Roles(), v.Revision()
	put := &auth.Request{Method: auth.MethodPut, Ops: []auth.Op{auth.OfPut(&wire.PutRequest{Key: []byte("b")})}}
	require.NoError(t, v.May(as("ann", v), put, noLeases{}))
	s.do(func(b *storage.Batch) error { return s.table.RoleAdd(b, "a") },
		func(b *storage.Batch) error { return s.table.UserGrantRole(b, "ann", "a") },
		func(b *storage.Batch) error { return s.table.UserAdd(b, &wire.AuthUserAddRequest{Name: "aaa"}) },
		func(b *storage.Batch) error {
			return s.table.RoleRevokePermission(b, &wire.AuthRoleRevokePermissionRequest{Role: "ann", Key: []byte("a"), RangeEnd: []byte("c")})
		},
		func(b *storage.Batch) error { return s.table.RoleDelete(b, "ann") },
		func(b *storage.Batch) error { return s.table.UserDelete(b, "ann") })
	require.Equal(t, hash, v.Hash())
	require.Equal(t, users, v.Users())
	require.Equal(t, roles, v.Roles())
	require.NoError(t, v.May(auth.Identity{User: "ann", Revision: revision}, put, noLeases{}))
	now := s.table.Published()
	require.NotEqual(t, hash, now.Hash())
	require.ErrorIs(t, now.May(as("ann", now), put, noLeases{}), fault.PermissionDenied)
	hash = now.Hash()
	s.reopen()
	require.Equal(t, hash, s.table.Hash(), "what is stored is what was in memory")
}

// TestMayAllocates: a put or range of an authenticated user costs no memory.
func TestMayAllocates(t *testing.T) {
	s := newStore(t)
	disabled := s.table.Published()
	var list []wire.AuthPermission
	for i := range 100 {
		list = append(list, perm(wire.AuthReadWrite, fmt.Sprintf("k%02d", i), fmt.Sprintf("k%02d5", i)))
	}
	v := s.people(map[string][]wire.AuthPermission{"ann": list})
	put := wire.PutRequest{Key: []byte("k371"), PrevKV: true}
	get := wire.RangeRequest{Key: []byte("k441"), RangeEnd: []byte("k442")}
	txn := wire.TxnRequest{Compare: []wire.Compare{{Key: []byte("k01")}}, Success: []wire.RequestOp{{Put: &put}}, Failure: []wire.RequestOp{{Range: &get}}}
	var leases auth.Attached = noLeases{}
	for name, op := range map[string]auth.Op{"put": auth.OfPut(&put), "range": auth.OfRange(&get), "txn": auth.OfTxn(&txn)} {
		for _, view := range []*auth.View{v, disabled} {
			id := as("ann", view)
			n := testing.AllocsPerRun(100, func() {
				ops := [1]auth.Op{op}
				if err := view.May(id, &auth.Request{Method: auth.MethodPut, Ops: ops[:]}, leases); err != nil {
					t.Error(err)
				}
			})
			if n > 0 {
				t.Errorf("%s: %v allocations a decision, want none", name, n)
			}
		}
	}
}

func BenchmarkMay(b *testing.B) {
	s := newStore(b)
	var list []wire.AuthPermission
	for i := range 100 {
		list = append(list, perm(wire.AuthReadWrite, fmt.Sprintf("k%02d", i), fmt.Sprintf("k%02d5", i)))
	}
	v := s.people(map[string][]wire.AuthPermission{"ann": list})
	put := wire.PutRequest{Key: []byte("k371")}
	id := as("ann", v)
	for b.Loop() {
		ops := [1]auth.Op{auth.OfPut(&put)}
		if err := v.May(id, &auth.Request{Method: auth.MethodPut, Ops: ops[:]}, noLeases{}); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzOpen opens a store that holds any bytes: it is refused or decides without panic, and it comes back as it was.
func FuzzOpen(f *testing.F) {
	f.Add([]byte("U"), []byte("\x0a\x01u\x12\x01x\x1a\x01r\x22\x00"), []byte("\x0a\x01r\x12\x06\x12\x01b\x1a\x01c\x12\x03\x12\x01k"))
	f.Add([]byte("A"), []byte("\x01"), []byte("\x00\x00\x00\x00\x00\x00\x00\x0c"))
	f.Fuzz(func(t *testing.T, which, user, role []byte) {
		s := newStore(t)
		s.do(func(b *storage.Batch) error {
			b.Set([]byte("Uu"), user)
			b.Set([]byte("Or"), role)
			if len(which) > 0 && which[0] == 'A' {
				b.Set([]byte("AauthEnabled"), user)
				b.Set([]byte("AauthRevision"), role)
			}
			return nil
		})
		table, err := auth.Open(s.engine)
		if err != nil {
			return
		}
		s.table = table
		v := table.Published()
		for _, m := range auth.Methods() {
			ops := []auth.Op{auth.OfDelete(&wire.DeleteRangeRequest{Key: which, RangeEnd: user, PrevKV: true})}
			_ = v.May(as("u", v), &auth.Request{Method: m, Ops: ops, User: "u", Role: "r", WithKeys: true}, oneLease{"k", "l"})
		}
		s.do(func(b *storage.Batch) error {
			_ = table.RoleGrantPermission(b, "r", &wire.AuthPermission{Key: which, RangeEnd: user})
			_ = table.UserRevokeRole(b, "u", "r")
			return nil
		})
		hash := table.Hash()
		s.reopen()
		require.Equal(t, hash, s.table.Hash())
	})
}
