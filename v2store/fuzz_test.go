package v2store_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/v2store"
	"quorate.dev/quorate/wire"
)

// FuzzRows damages one row of a store. It is either refused, or opens as a store that goes on working.
func FuzzRows(f *testing.F) {
	engine, err := storage.Open("db", storage.Options{FS: vfs.NewMem(), MemTableBytes: 1 << 20})
	require.NoError(f, err)
	s := v2store.New()
	b := engine.NewBatch()
	for _, p := range []string{"/1/a/b", "/1/c"} {
		_, err := s.Apply(b, &wire.V2Request{Method: "PUT", Path: p, Val: "v", Time: start, Expiration: start + second})
		require.NoError(f, err)
	}
	require.NoError(f, engine.Commit(b, storage.Mark{Index: 1, Term: 1}))
	lower, upper := storage.BucketBounds(storage.BucketV2)
	it, err := engine.Iter(lower, upper)
	require.NoError(f, err)
	for ok := it.First(); ok; ok = it.Next() {
		f.Add(append([]byte(nil), it.Key()[1:]...), append([]byte(nil), it.Value()...))
	}
	require.NoError(f, it.Close())
	f.Add([]byte("s/1/a"), []byte("x"))
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		row := append([]byte{storage.BucketV2}, key...)
		was, had, err := engine.Get(row)
		require.NoError(t, err)
		put := func(set bool, v []byte) {
			b := engine.NewBatch()
			if set {
				b.Set(row, v)
			} else {
				b.Delete(row)
			}
			require.NoError(t, engine.Commit(b, storage.Mark{Index: 1, Term: 1}))
		}
		put(true, value)
		defer put(had, was)
		s, err := v2store.Open(engine)
		if err != nil {
			return
		}
		_, _ = s.Apply(nil, &wire.V2Request{Method: "DELETE", Path: "/1/a", Recursive: true, Time: start})
		_, _ = s.Apply(nil, &wire.V2Request{Method: "SYNC", Time: start + 2*second})
		_, err = s.Publish().Get("/", true, true, start)
		require.NoError(t, err)
	})
}
