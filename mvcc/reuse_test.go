package mvcc

import (
	"fmt"
	"math/rand"
	"runtime"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// bare is a store and its engine, driven as the state machine drives it.
type bare struct {
	t     *testing.T
	e     *storage.Engine
	s     *Store
	b     *storage.Batch
	index ids.Index
}

func newBare(t *testing.T) *bare {
	e, err := storage.Open("store", storage.Options{FS: vfs.NewMem()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	s, err := Open(e)
	require.NoError(t, err)
	return &bare{t: t, e: e, s: s, b: e.NewBatch()}
}

func (r *bare) publish() *View {
	r.index++
	require.NoError(r.t, r.e.Commit(r.b, storage.Mark{Index: r.index, Term: 1}))
	r.b.Reset()
	return r.s.Publish()
}

func (r *bare) put(key string, value []byte) {
	tx := r.s.Begin(r.b)
	tx.Put(&wire.PutRequest{Key: []byte(key), Value: value})
	tx.End()
}

func (r *bare) remove(key, end string) {
	tx := r.s.Begin(r.b)
	tx.DeleteRange([]byte(key), []byte(end))
	tx.End()
}

// compact forgets everything but the current values.
func (r *bare) compact() {
	require.NoError(r.t, r.s.Compact(r.b, r.s.Revision()))
	for r.s.Scrub(r.b, 1000) {
		r.publish()
	}
	r.publish()
}

// used is how many slots are given out, of entries and of versions.
func (r *bare) used() (entries, versions int) {
	entries, _ = r.s.data.entries.Slots()
	versions, _ = r.s.data.versions.Slots()
	return entries - 1, versions - 1
}

// TestSlotsWaitForViews checks that entries and versions that a compaction removed are not used again while a view of before
// is held, that the view's trees and chains can be walked, and that they are used again once it is dropped.
func TestSlotsWaitForViews(t *testing.T) {
	const keys = 2000
	r := newBare(t)
	round := func(n int) {
		for i := range keys {
			r.put(fmt.Sprintf("%d/%05d", n, i), []byte("value"))
		}
		r.publish()
		r.remove(fmt.Sprint(n), fmt.Sprint(n+1))
		r.publish()
		r.put("x", nil) // a tombstone at the compacted revision would stay
		r.compact()
	}
	r.put("0", nil)
	for i := range keys {
		r.put(fmt.Sprintf("k%05d", i), []byte("value"))
	}
	old := r.publish()
	r.remove("k", "l")
	for n := range 5 {
		round(n)
		runtime.GC()
	}
	entries, versions := r.used()
	require.GreaterOrEqual(t, entries, 6*keys)
	require.GreaterOrEqual(t, versions, 12*keys)
	// The old view's tree leads to the entries that it did, though the view may not answer any more.
	var c cursor
	c.seek(old.data, old.keys.root, "k")
	n := 0
	for id := c.next(); id != 0; id = c.next() {
		require.Equal(t, fmt.Sprintf("k%05d", n), old.data.key(old.data.entry(id)))
		n++
	}
	require.Equal(t, keys, n)
	_, err := old.Range(&wire.RangeRequest{Key: []byte("k00042")})
	require.ErrorIs(t, err, Stale)
	old.era.KeepAlive()
	for range 1000 {
		runtime.GC()
		r.publish()
		if entries, versions = r.used(); entries < keys && versions < keys {
			break
		}
	}
	require.Less(t, entries, 500, "freed entries do not come back")
	require.Less(t, versions, 500, "freed versions do not come back")
}

// TestMemoryFollowsLiveData overwrites, removes and compacts at random and checks that slabs and slots stay near what lives.
func TestMemoryFollowsLiveData(t *testing.T) {
	const seed = 4
	t.Log("seed", seed)
	rnd := rand.New(rand.NewSource(seed))
	r := newBare(t)
	value := make([]byte, 1000)
	for n := range 15_000 {
		r.put(fmt.Sprintf("k%05d", rnd.Intn(4000)), value[:rnd.Intn(1000)])
		if n%50 == 0 {
			r.publish()
			size, live := r.s.data.values.Bytes()
			require.Less(t, size, live+live/8+4<<20, "step %d", n)
		}
		if n%2000 == 1999 {
			r.compact()
			runtime.GC()
		}
	}
	r.publish()
	size, live := r.s.data.values.Bytes()
	require.InDelta(t, r.s.stats.LiveBytes, live, 0.05*float64(live))
	require.Less(t, size, live*5/4+2<<20)
	r.remove("k1", "l")
	r.put("x", nil)
	r.compact()
	for range 1000 {
		runtime.GC()
		r.publish()
		if entries, versions := r.used(); entries < 2000 && versions < 2000 {
			break
		}
	}
	size, live = r.s.data.values.Bytes()
	require.Less(t, size, live*5/4+2<<20)
	size, live = r.s.data.keys.Bytes()
	require.Less(t, size, live*5/4+2<<20)
	_, slots := r.s.data.versions.Slots()
	require.Less(t, slots, 10_000, "slots of removed versions keep their memory")
}
