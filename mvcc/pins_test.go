package mvcc

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// TestPinnedLists begins lists at some revisions, changes the keys for longer than the ring reaches back, and checks that the
// lists go on with quick counts, that others are counted as well, and that a compaction lets go of what it passes.
func TestPinnedLists(t *testing.T) {
	e, err := storage.Open("store", storage.Options{FS: vfs.NewMem()})
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	s, err := Open(e)
	require.NoError(t, err)
	b := e.NewBatch()
	index := ids.Index(0)
	publish := func() *View {
		index++
		require.NoError(t, e.Commit(b, storage.Mark{Index: index, Term: 1}))
		b.Reset()
		return s.Publish()
	}
	// Every batch has one update and then a create or a delete, so that the count at each revision is known.
	counts := map[ids.Revision]int64{}
	step := func(i int) *View {
		for _, req := range []wire.PutRequest{{Key: []byte("k0")}, {Key: fmt.Appendf(nil, "k%d", i)}} {
			tx := s.Begin(b)
			if i%3 == 2 && string(req.Key) != "k0" {
				tx.DeleteRange(fmt.Appendf(nil, "k%d", i-1), nil)
			} else {
				tx.Put(&req)
			}
			tx.End()
			counts[s.Revision()] = s.stats.Keys
		}
		return publish()
	}
	list := wire.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l"), Limit: 2}
	var begun []ids.Revision
	for i := range 60 {
		if v := step(i); i > 20 && i%10 == 0 {
			resp, err := v.Range(&list)
			require.NoError(t, err)
			require.True(t, resp.More)
			begun = append(begun, v.Revision())
		}
	}
	for i := range 2 * limits.IndexRoots {
		step(60 + i)
	}
	v := s.View()
	exact := map[ids.Revision]bool{}
	for rev := ids.Revision(3); rev < begun[len(begun)-1]+4; rev++ {
		sc, err := v.resolve(int64(rev))
		require.NoError(t, err)
		exact[rev] = sc.exact
		n, err := v.Count(list.Key, list.RangeEnd, rev)
		require.NoError(t, err)
		require.Equal(t, counts[rev], n, "revision %d", rev)
	}
	for _, rev := range begun {
		require.True(t, exact[rev], "revision %d", rev)
		require.True(t, exact[rev+1], "the next batch begins with an update, so the set is exact there as well")
		require.False(t, exact[rev-1], "revision %d", rev-1)
		require.False(t, exact[rev+2], "revision %d", rev+2)
	}
	require.NoError(t, s.Compact(b, begun[len(begun)-1]))
	s.Scrub(b, 1)
	kept := 0
	for i := range v.pins.slots {
		if v.pins.slots[i].Load() != nil {
			kept++
		}
	}
	require.Equal(t, 1, kept)
}
