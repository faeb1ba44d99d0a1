package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// TestCompact checks that what was deleted takes no space after it, that nothing else is lost, and that it can be told to stop.
func TestCompact(t *testing.T) {
	files := vfs.NewMem()
	e, err := Open("store", Options{FS: files})
	require.NoError(t, err)
	key := func(i int) []byte { return fmt.Appendf([]byte{BucketLease}, "%05d", i) }
	noise := func(i int) []byte { return bytes.Repeat([]byte(fmt.Sprint(i*7919)), 200) }
	b := e.NewBatch()
	for i := range 4000 {
		b.Set(key(i), noise(i))
	}
	require.NoError(t, e.Commit(b, Mark{1, 1}))
	require.NoError(t, e.Flush())
	b.Reset()
	for i := range 3900 {
		b.Delete(key(i))
	}
	require.NoError(t, e.Commit(b, Mark{2, 1}))
	before := e.Stats().DiskBytes
	require.NoError(t, e.Compact(t.Context()))
	require.NoError(t, e.Close())
	e, err = Open("store", Options{FS: files})
	require.NoError(t, err)
	require.Less(t, e.Stats().DiskBytes, before)
	_, ok, err := e.Get(key(3899))
	require.NoError(t, err)
	require.False(t, ok)
	for i := 3900; i < 4000; i++ {
		v, _, err := e.Get(key(i))
		require.NoError(t, err)
		require.Equal(t, noise(i), v)
	}
	require.Equal(t, Mark{2, 1}, e.Applied())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Compact(ctx); err != nil { // there may be nothing left to stop
		require.True(t, errors.Is(err, context.Canceled), err)
	}
	require.NoError(t, e.Close())

	e, err = Open("store", Options{FS: files, ReadOnly: true})
	require.NoError(t, err)
	require.ErrorContains(t, e.Compact(t.Context()), "reading only")
	require.NoError(t, e.Close())
}
