package lease

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/storage"
)

func engine(t *testing.T, fs vfs.FS) *storage.Engine {
	t.Helper()
	e, err := storage.Open("db", storage.Options{FS: fs})
	require.NoError(t, err)
	return e
}

func table(t *testing.T, r storage.Reader) *Table {
	t.Helper()
	l, err := Open(r)
	require.NoError(t, err)
	return l
}

// model is the obvious table.
type model map[ids.LeaseID]*modelLease

type modelLease struct {
	Lease
	keys map[string]bool
}

// shown prints a view, or the model of one, so that the two can be compared.
func (m model) shown() string {
	var b bytes.Buffer
	for _, id := range slices.Sorted(maps.Keys(m)) {
		keys := slices.Sorted(maps.Keys(m[id].keys))
		fmt.Fprintf(&b, "%v %d %q\n", m[id].Lease, len(keys), keys)
	}
	return b.String()
}

func shown(v *View) string {
	var b bytes.Buffer
	for _, l := range v.All() {
		keys := []string{}
		for _, k := range v.Keys(l.ID) {
			keys = append(keys, string(k))
		}
		if got, ok := v.Get(l.ID); !ok || got != l {
			fmt.Fprintf(&b, "Get(%v) is %v\n", l, got)
		}
		fmt.Fprintf(&b, "%v %d %q\n", l, v.KeyCount(l.ID), keys)
	}
	return b.String()
}

// TestAgainstModel does random things to a table and to a map, keeps some views, and compares them at the end: a view must
// still show what the model was when it was made.
func TestAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	e := engine(t, vfs.NewMem())
	defer func() { require.NoError(t, e.Close()) }()
	l, m, b := table(t, e), model{}, e.NewBatch()
	type pair struct {
		view *View
		want string
	}
	var kept []pair
	for step := range 30_000 {
		id := ids.LeaseID(r.IntN(60) - 3)
		key := fmt.Sprint(r.IntN(2000))
		ml := m[id]
		switch op := r.IntN(100); {
		case op < 5:
			if ml == nil && id != 0 {
				ttl := r.Int64N(1000) - 5
				l.Grant(b, id, ttl)
				m[id] = &modelLease{Lease{ID: id, TTL: ttl}, map[string]bool{}}
			}
		case op < 6:
			want := []string{}
			if ml != nil {
				want = slices.Sorted(maps.Keys(ml.keys))
			}
			got := l.Revoke(b, id)
			require.Len(t, got, len(want))
			for i, k := range got {
				require.Equal(t, want[i], string(k))
			}
			delete(m, id)
		case op < 10:
			n := r.Int64N(100)
			l.Checkpoint(b, id, n)
			if ml != nil {
				ml.Remaining = n
			}
		case op < 65:
			l.Attach(id, []byte(key))
			if ml != nil {
				ml.keys[key] = true
			}
		case op < 98:
			if ml != nil && len(ml.keys) > 0 && op < 96 { // one that is attached
				key = slices.Sorted(maps.Keys(ml.keys))[r.IntN(len(ml.keys))]
			}
			l.Detach(id, []byte(key))
			if ml != nil {
				delete(ml.keys, key)
			}
		case step%10 == 0:
			kept = append(kept, pair{l.View(), m.shown()})
		default:
			l.View()
		}
	}
	kept = append(kept, pair{l.View(), m.shown()})
	for i, p := range kept {
		if got := shown(p.view); got != p.want {
			t.Fatalf("view %d of %d shows\n%s\nwant\n%s", i, len(kept), got, p.want)
		}
	}
	require.NoError(t, e.Commit(b, storage.Mark{Index: 1, Term: 1}))
	again := table(t, e)
	for id, ml := range m {
		for k := range ml.keys {
			again.Attach(id, []byte(k))
		}
	}
	require.Equal(t, m.shown(), shown(again.View()))
	require.Equal(t, len(m), again.Len())
	require.Equal(t, len(m), again.View().Len())
}

// TestKeysOfOneLease drives one large key set up and down, so that its tree grows and joins on every level.
func TestKeysOfOneLease(t *testing.T) {
	e := engine(t, vfs.NewMem())
	defer func() { require.NoError(t, e.Close()) }()
	l, b := table(t, e), e.NewBatch()
	l.Grant(b, 1, 10)
	const n = 20_000
	for _, stride := range []int{1, 7919} {
		for i := range n {
			l.Attach(1, fmt.Appendf(nil, "%05d", i*stride%n))
		}
		full := l.View()
		for i := range n - 1 {
			l.Detach(1, fmt.Appendf(nil, "%05d", i*stride%n))
		}
		require.Equal(t, 1, l.View().KeyCount(1))
		require.Len(t, l.View().Keys(1), 1)
		keys := full.Keys(1)
		require.Len(t, keys, n)
		for i, k := range keys {
			require.Equal(t, fmt.Sprintf("%05d", i), string(k))
		}
	}
}

func TestViewIsSharedWhenNothingChanged(t *testing.T) {
	e := engine(t, vfs.NewMem())
	defer func() { require.NoError(t, e.Close()) }()
	l, b := table(t, e), e.NewBatch()
	first := l.View()
	require.Same(t, first, l.View())
	l.Attach(7, []byte("k")) // no such lease
	l.Detach(7, []byte("k"))
	l.Checkpoint(b, 7, 1)
	require.Empty(t, l.Revoke(b, 7))
	require.Same(t, first, l.View())
	require.Zero(t, b.Len())
	l.Grant(b, 7, 5)
	require.NotSame(t, first, l.View())
	require.Empty(t, first.All())
	require.Panics(t, func() { l.Grant(b, 7, 5) })
	require.Panics(t, func() { l.Grant(b, 0, 5) })
}

// TestRecordIsEtcds compares the stored record with the encoding of a message that has the same fields: leasepb.Lease is not
// in etcd's public module, LeaseTimeToLiveResponse has int64 in fields 2 and 3 too.
func TestRecordIsEtcds(t *testing.T) {
	e := engine(t, vfs.NewMem())
	defer func() { require.NoError(t, e.Close()) }()
	l, b := table(t, e), e.NewBatch()
	l.Grant(b, -2, 60)
	l.Checkpoint(b, -2, 7)
	require.NoError(t, e.Commit(b, storage.Mark{Index: 1, Term: 1}))
	got, ok, err := e.Get([]byte("l\xff\xff\xff\xff\xff\xff\xff\xfe"))
	require.NoError(t, err)
	require.True(t, ok)
	want, err := proto.Marshal(&etcdserverpb.LeaseTimeToLiveResponse{ID: 60, TTL: 7})
	require.NoError(t, err)
	require.Equal(t, append([]byte("\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"), want...), got)
}

func TestOpenRefusesDamage(t *testing.T) {
	for name, rec := range map[string][2]string{
		"short key":       {"l\x00\x01", "\x08\x01"},
		"other id":        {"l\x00\x00\x00\x00\x00\x00\x00\x02", "\x08\x01"},
		"no value":        {"l\x00\x00\x00\x00\x00\x00\x00\x02", ""},
		"torn value":      {"l\x00\x00\x00\x00\x00\x00\x00\x02", "\x08\x02\x10"},
		"lease 0":         {"l\x00\x00\x00\x00\x00\x00\x00\x00", ""},
		"wrong wire type": {"l\x00\x00\x00\x00\x00\x00\x00\x02", "\x0a\x01\x02"},
	} {
		t.Run(name, func(t *testing.T) {
			e := engine(t, vfs.NewMem())
			defer func() { require.NoError(t, e.Close()) }()
			b := e.NewBatch()
			b.Set([]byte(rec[0]), []byte(rec[1]))
			require.NoError(t, e.Commit(b, storage.Mark{Index: 1, Term: 1}))
			_, err := Open(e)
			require.ErrorContains(t, err, "is no lease")
		})
	}
}
