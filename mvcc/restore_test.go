package mvcc_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// revKey is a revision key written out.
func revKey(main, sub byte, tail string) []byte {
	k := append(make([]byte, 7), main, '_')
	k = append(append(k, make([]byte, 7)...), sub)
	return append(k, tail...)
}

// tailOf is what follows a revision key in the engine key of a live version: create_revision, version, lease and length of the
// value, each below 128, and the key.
func tailOf(create, version, lease, size byte, key string) string {
	return string([]byte{'k', create, version, lease, size}) + key
}

// openWith opens a store on the given records of the key and meta buckets.
func openWith(t *testing.T, records map[string][]byte) (*mvcc.Store, error) {
	e, err := storage.Open("store", storage.Options{FS: vfs.NewMem()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	b := e.NewBatch()
	for k, v := range records {
		b.Set([]byte(k), v)
	}
	require.NoError(t, e.Commit(b, storage.Mark{Index: 1, Term: 1}))
	return mvcc.Open(e)
}

// TestOpenAfterCompaction checks that the revision never goes back: not when a finished compaction removed the last record,
// nor when an unfinished one did.
func TestOpenAfterCompaction(t *testing.T) {
	for _, name := range []string{"finishedCompactRev", "scheduledCompactRev"} {
		s, err := openWith(t, map[string][]byte{"m" + name: revKey(9, 0, "")})
		require.NoError(t, err)
		require.Equal(t, ids.Revision(9), s.Revision())
		require.Equal(t, ids.Revision(9), s.View().Revision())
		require.Equal(t, ids.Revision(9), s.View().Compacted())
		require.Equal(t, name == "scheduledCompactRev", s.Scrubbing())
	}
}

// TestOpenRefusesDamage checks that records which contradict themselves are named, not skipped.
func TestOpenRefusesDamage(t *testing.T) {
	good := wire.AppendKeyValue(nil, &wire.KeyValue{Key: []byte("a"), CreateRevision: 2, ModRevision: 2, Version: 1})
	size := byte(len(good))
	for name, c := range map[string]struct {
		key   []byte
		value []byte
		text  string
	}{
		"short key":      {revKey(2, 0, "")[:16], good, "is not a revision key"},
		"separator":      {bytes.Replace(revKey(2, 0, ""), []byte("_"), []byte("-"), 1), good, "is not a revision key"},
		"negative":       {append([]byte{0x80}, revKey(2, 0, "")[1:]...), good, "out of range"},
		"no tail":        {revKey(2, 0, ""), good, "revision 2_0 has a key that contradicts itself"},
		"mark":           {revKey(2, 0, "x"), good, "revision 2_0 has a key that contradicts itself"},
		"short tail":     {revKey(2, 0, tailOf(2, 1, 0, size, "")[:4]), good, "revision 2_0 has a key that contradicts itself"},
		"no key in tail": {revKey(2, 0, tailOf(2, 1, 0, size, "")), good, "revision 2_0 has a key that contradicts itself"},
		"created later":  {revKey(2, 0, tailOf(3, 1, 0, size, "a")), good, "revision 2_0 has a key that contradicts itself"},
		"no version":     {revKey(2, 0, tailOf(2, 0, 0, size, "a")), good, "revision 2_0 has a key that contradicts itself"},
		"tombstone":      {revKey(2, 0, "t"), good, "revision 2_0 has a key that contradicts itself"},
		"no key":         {revKey(2, 0, "l\x02\x01\x00\x00"), nil, "revision 2_0 is no key-value"},
		"malformed":      {revKey(2, 1, "l\x02\x01\x00\x02"), good[:2], "revision 2_1 is no key-value"},
		"mark ahead":     {revKey(2, 0, "n"), nil, "the mark of revision 2 is above the compacted revision -1"},
		"other revision": {revKey(3, 0, "l\x02\x01\x00"+string(rune(size))), good, "revision 3_0 says create_revision 2, mod_revision 2"},
	} {
		_, err := openWith(t, map[string][]byte{"k" + string(c.key): c.value})
		require.ErrorContains(t, err, c.text, name)
		require.ErrorContains(t, err, "the store is damaged", name)
	}
	_, err := openWith(t, map[string][]byte{"mfinishedCompactRev": []byte("7")})
	require.ErrorContains(t, err, `meta key "finishedCompactRev"`)
}

// TestWarmRefusesDamage checks that a value which contradicts what its engine key says is named when it is fetched, and when a
// reader comes first.
func TestWarmRefusesDamage(t *testing.T) {
	good := wire.AppendKeyValue(nil, &wire.KeyValue{Key: []byte("a"), CreateRevision: 2, ModRevision: 2, Version: 1})
	size := byte(len(good))
	for name, c := range map[string]struct {
		tail string
		text string
	}{
		"other key":     {tailOf(2, 1, 0, size, "b"), `of key "b" and holds key "a"`},
		"other version": {tailOf(2, 2, 0, size, "a"), "and its key create_revision 2, version 2"},
		"other lease":   {tailOf(2, 1, 7, size, "a"), "lease 7"},
		"other length":  {tailOf(2, 1, 0, size+1, "a"), "the store is damaged"},
	} {
		s, err := openWith(t, map[string][]byte{"k" + string(revKey(2, 0, c.tail)): good})
		require.NoError(t, err, name)
		_, err = s.Warm(10)
		require.ErrorContains(t, err, c.text, name)
		require.ErrorContains(t, err, "the store is damaged", name)
	}
	s, err := openWith(t, map[string][]byte{"k" + string(revKey(2, 0, tailOf(2, 1, 0, size+1, "a"))): good})
	require.NoError(t, err)
	_, err = s.View().Range(&wire.RangeRequest{Key: []byte("a")})
	require.ErrorContains(t, err, "the store is damaged")
}

// TestWarm checks that values are the same before, while and after they are fetched, and that fetching is bounded and ends.
func TestWarm(t *testing.T) {
	r := newRig(t)
	long := string(bytes.Repeat([]byte("long"), 1000)) // does not fit in an engine key
	for i := range 300 {
		r.put(fmt.Sprintf("key%03d", i), fmt.Sprint("value", i))
		if i%3 == 0 {
			r.put(fmt.Sprintf("key%03d", i), fmt.Sprint("newer", i))
		}
	}
	r.put(long, "of a long key")
	r.remove("key100", "key110")
	r.publish()
	all := &wire.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}
	want, err := r.s.View().Range(all)
	require.NoError(t, err)
	require.Len(t, want.KVs, 291)
	r.reopen()
	require.True(t, r.s.Warming())
	// A write to a key whose value is still on disk knows the value before.
	tx := r.s.Begin(r.b)
	require.Equal(t, "value2", string(wire.ValueOf(tx.Put(&wire.PutRequest{Key: []byte("key002"), IgnoreValue: true}))))
	require.NoError(t, tx.Err())
	tx.End()
	r.publish()
	steps := 0
	for more := true; more; steps++ {
		got, err := r.s.View().Range(&wire.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: int64(r.s.Revision()) - 1})
		require.NoError(t, err)
		require.Equal(t, want.KVs, got.KVs)
		more, err = r.s.Warm(50)
		require.NoError(t, err)
	}
	require.False(t, r.s.Warming())
	require.InDelta(t, 402/50, steps, 2)
	one, err := r.s.View().Range(&wire.RangeRequest{Key: []byte(long)})
	require.NoError(t, err)
	require.Equal(t, "of a long key", string(wire.ValueOf(one.KVs[0])))
}

// TestLeasesAfterOpen checks that a lease table can be filled after a restart: the lease of each current value, in key order.
func TestLeasesAfterOpen(t *testing.T) {
	r := newRig(t)
	for _, p := range []wire.PutRequest{{Key: []byte("c"), Lease: 3}, {Key: []byte("a"), Lease: 1}, {Key: []byte("b"), Lease: 2},
		{Key: []byte("d"), Lease: 4}, {Key: []byte("b")}, {Key: []byte("e")}} {
		tx := r.s.Begin(r.b)
		tx.Put(&p)
		tx.End()
	}
	r.remove("d", "")
	r.publish()
	r.reopen()
	got := ""
	r.s.Leases(func(id ids.LeaseID, key []byte) { got += fmt.Sprintf("%s=%v ", key, id) })
	require.Equal(t, "a=1 c=3 ", got)
}

// TestMissingRecord checks that a record which is gone without a compaction is an error that names it, not an absent key.
func TestMissingRecord(t *testing.T) {
	r := newRig(t)
	r.put("a", "1")
	r.put("a", "2")
	size := byte(len(wire.AppendKeyValue(nil, &wire.KeyValue{Key: []byte("a"), CreateRevision: 2, ModRevision: 2, Version: 1, Value: []byte("1")})))
	r.b.Delete(append([]byte{'k'}, revKey(2, 0, tailOf(2, 1, 0, size, "a"))...))
	v := r.publish()
	_, err := v.Range(&wire.RangeRequest{Key: []byte("a"), Revision: 2})
	require.ErrorContains(t, err, `the record of key "a" at revision 2_0 is missing`)
}

// TestSupersededValuesLeaveMemory checks that only current values stay in memory once the engine has the others.
func TestSupersededValuesLeaveMemory(t *testing.T) {
	r := newRigWith(t, 1<<20) // the race detector counts memtables too
	before := heap()
	for range 1000 {
		r.put("a", string(make([]byte, 32<<10)))
		if r.b.Bytes() > 1<<20 {
			r.publish()
		}
	}
	r.publish()
	require.NoError(t, r.e.Flush())
	// The engine lets go of flushed memtables a little later.
	require.Eventually(t, func() bool { return heap()-before < 16<<20 }, 30*time.Second, 50*time.Millisecond, "32 MiB that were written are still there")
	require.Equal(t, int64(1000), r.s.View().Stats().Revisions)
}

// TestReadInsideBatch checks that a transaction reads revisions that no engine has yet.
func TestReadInsideBatch(t *testing.T) {
	r := newRig(t)
	r.put("a", "1")
	r.put("a", "2")
	r.remove("a", "")
	tx := r.s.Begin(r.b)
	for rev, want := range map[int64]int64{1: 0, 2: 1, 3: 1, 4: 0} {
		resp, err := tx.Range(&wire.RangeRequest{Key: []byte("a"), RangeEnd: []byte("b"), Revision: rev})
		require.NoError(t, err)
		require.Equal(t, want, resp.Count, rev)
		for _, kv := range resp.KVs {
			require.Equal(t, rev, wire.ModRevisionOf(kv))
		}
	}
	require.Nil(t, tx.End())
}

// TestEventsAtCompactedRevision checks that a value before a change is left out when its revision is compacted, removed or
// not, so that the answer does not depend on how far the removal has come.
func TestEventsAtCompactedRevision(t *testing.T) {
	r := newRig(t)
	r.put("a", "1")
	r.put("a", "2")
	r.put("a", "3")
	require.NoError(t, r.s.Compact(r.b, 3))
	v := r.publish()
	batches, next, err := v.Events(3, 4, 1<<20, nil)
	require.NoError(t, err)
	require.Equal(t, ids.Revision(5), next)
	require.Len(t, batches, 2)
	require.Nil(t, batches[0].Events[0].PrevKV)
	require.NotNil(t, batches[1].Events[0].PrevKV)
}
