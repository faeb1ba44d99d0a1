package mvcc_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/wire"
)

// TestHashOfEtcd repeats a history for which etcd 3.7.3 gave the numbers below: HashKV before, during and after
// compactions, and the hashes that compactions left behind.
func TestHashOfEtcd(t *testing.T) {
	r := newRig(t)
	hash := func(rev, compacted, covers ids.Revision, want uint32) {
		t.Helper()
		r.publish()
		f := r.e.Freeze()
		got, err := mvcc.HashKV(f, rev)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.Equal(t, mvcc.Hash{Hash: want, Compacted: compacted, Revision: covers}, got)
	}
	compact := func(rev ids.Revision, want uint32) {
		t.Helper()
		r.publish()
		f := r.e.Freeze()
		prev := r.s.Compacted()
		require.NoError(t, r.s.Compact(r.b, rev))
		got, err := mvcc.HashOf(f, prev, rev)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.Equal(t, mvcc.Hash{Hash: want, Compacted: prev, Revision: rev}, got)
	}
	hash(0, -1, 1, 1084519789)
	for i := range 60 {
		key := fmt.Appendf(nil, "key-%d", i*7%11)
		tx := r.s.Begin(r.b)
		if i%5 == 4 {
			tx.DeleteRange(key, []byte("key-5"))
		} else {
			tx.Put(&wire.PutRequest{Key: key, Value: fmt.Append(nil, "value-", i), Lease: int64(i % 3)})
		}
		tx.End()
		switch i {
		case 30:
			hash(0, -1, 29, 3427862868)
			compact(25, 1115233444)
			hash(0, 25, 29, 2688956128)
			r.s.Scrub(r.b, 3)
			hash(27, 25, 27, 3744394124)
			r.scrubAll()
			hash(27, 25, 27, 3744394124)
		case 45:
			hash(0, 25, 42, 4202984923)
			compact(40, 4017390914)
			r.scrubAll()
			hash(42, 40, 42, 3105783415)
		}
	}
	hash(0, 40, 54, 1837872638)
	r.remove("a", "z")
	hash(0, 40, 55, 3857839640)
	compact(55, 747169611)
	r.publish()
	r.reopen()
	r.scrubAll()
	r.put("z", "")
	hash(0, 55, 56, 2250931113)
}
