package transfer_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/storage"
	. "quorate.dev/quorate/transfer"
	"quorate.dev/quorate/wire"
)

// TestHashes compares the two programs that compute HashKV on random histories, at every revision.
func TestHashes(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		e, err := storage.Open("store", storage.Options{FS: vfs.NewMem()})
		require.NoError(t, err)
		s, err := mvcc.Open(e)
		require.NoError(t, err)
		b, keys := e.NewBatch(), 1+rng.IntN(8)
		compacted := ids.Revision(0)
		for range 10 + rng.IntN(80) {
			tx := s.Begin(b)
			for range 1 + rng.IntN(3) {
				if key := fmt.Appendf(nil, "k%d", rng.IntN(keys)); rng.IntN(2) == 0 {
					tx.DeleteRange(key, nil)
				} else {
					tx.Put(&wire.PutRequest{Key: key, Value: fmt.Append(nil, rng.IntN(100))})
				}
			}
			tx.End()
			if now := s.Revision(); rng.IntN(12) == 0 && now > compacted+1 {
				compacted += 1 + ids.Revision(rng.Int64N(int64(now-compacted)))
				require.NoError(t, s.Compact(b, compacted))
				for rng.IntN(3) > 0 && s.Scrub(b, 1+rng.IntN(5)) {
				}
			}
		}
		require.NoError(t, e.Commit(b, storage.Mark{Index: 1, Term: 1}))
		frozen := e.Freeze()
		var at []ids.Revision
		for rev := max(compacted, 1); rev <= s.Revision(); rev++ {
			at = append(at, rev)
		}
		got, err := Hashes(func(visit func(key, value []byte) error) error {
			it, err := frozen.Iter(storage.BucketBounds(storage.BucketKey))
			require.NoError(t, err)
			defer it.Close()
			for ok := it.First(); ok; ok = it.Next() {
				if err := visit(storage.RevisionKey(it.Key()[1:]), it.Value()); err != nil {
					return err
				}
			}
			return it.Err()
		}, compacted, at)
		require.NoError(t, err)
		for i, rev := range at {
			want, err := mvcc.HashKV(frozen, rev)
			require.NoError(t, err)
			require.Equal(t, want.Hash, got[i].Hash, "seed %d, revision %d, compacted %d", seed, rev, compacted)
		}
		require.NoError(t, frozen.Close())
		require.NoError(t, e.Close())
	}
}
