package mvcc_test

import (
	"bytes"
	"fmt"
	"math/rand"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/wire"
)

// objects is the number of objects on the heap that belong to a store of n keys.
func objects(t *testing.T, n int) int64 {
	r := newRig(t)
	r.fill(n, 64)
	count := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapObjects)
	}
	// The engine is closed meanwhile, because it works in the background.
	held := func() int64 {
		require.NoError(t, r.e.Close())
		with := count()
		r.s = nil
		with -= count()
		r.open()
		return with
	}
	filled := held()
	for more := true; more; {
		var err error
		more, err = r.s.Warm(10_000)
		require.NoError(t, err)
	}
	opened := held()
	t.Logf("%d keys: %d objects when filled, %d when opened", n, filled, opened)
	return max(filled, opened)
}

// TestObjectsDoNotGrowWithKeys checks that a key costs the garbage collector nothing: a store of twenty times the keys has
// only the nodes of its trees and the pieces of its memory more.
func TestObjectsDoNotGrowWithKeys(t *testing.T) {
	few, many := 10_000, 200_000
	if testing.Short() {
		few, many = 2000, 40_000
	}
	grown := objects(t, many) - objects(t, few)
	const past = 1400 // nodes of past key sets, of which a store keeps a mebibyte however many keys it has
	require.Less(t, grown, int64(many-few)/50+past)
}

// churn is a store under random changes, and what every readable revision of its keys must be.
type churn struct {
	*rig
	*rand.Rand
	value map[int]string // current, by key
}

func churnKey(i int) []byte { return fmt.Appendf(nil, "/churn/%04d", i) }

// churnValue is a value that says whose it is, of any length up to some kilobytes, seldom more than a slab.
func (c *churn) churnValue(i, step int) []byte {
	v := fmt.Appendf(nil, "%04d %08d ", i, step)
	n := c.Intn(1 << c.Intn(12))
	if c.Intn(500) == 0 {
		n = 100_000
	}
	return append(v, bytes.Repeat(v[:5], n/5)...)
}

// step changes, publishes and compacts at random.
func (c *churn) step(n int) {
	tx := c.s.Begin(c.b)
	for range 1 + c.Intn(4) {
		i := c.Intn(2000)
		if c.Intn(5) == 0 {
			tx.DeleteRange(churnKey(i), churnKey(i+c.Intn(20)))
			continue
		}
		tx.Put(&wire.PutRequest{Key: churnKey(i), Value: c.churnValue(i, n)})
	}
	tx.End()
	switch c.Intn(10) {
	case 0, 1, 2, 3:
		c.publish()
	case 4:
		if rev := c.s.Revision() - ids.Revision(c.Intn(50)); rev > c.s.Compacted() {
			require.NoError(c.t, c.s.Compact(c.b, rev))
		}
	case 5, 6, 7:
		c.s.Scrub(c.b, 1+c.Intn(200))
	}
}

// whole says whether a wire KeyValue is one that churnValue and churnKey made together, every byte of it.
func whole(kv []byte) bool {
	key, value := wire.KeyOf(kv), wire.ValueOf(kv)
	if len(key) != 11 || len(value) < 14 || !bytes.Equal(key[7:], value[:4]) {
		return false
	}
	rest := value[14:]
	for len(rest) >= 5 {
		if !bytes.Equal(rest[:5], value[:5]) {
			return false
		}
		rest = rest[5:]
	}
	return len(rest) == 0
}

// TestChurn has readers check every byte of what they read, and again after the store has gone on, while keys are made,
// changed, removed and compacted at random and the collector runs.
func TestChurn(t *testing.T) {
	const seed = 21
	t.Log("seed", seed)
	c := &churn{rig: newRigWith(t, 1<<20), Rand: rand.New(rand.NewSource(seed))}
	c.publish()
	var done atomic.Bool
	var readers sync.WaitGroup
	for i := range 2 {
		readers.Go(func() {
			rnd := rand.New(rand.NewSource(int64(i)))
			var held []*wire.RangeResponse
			for !done.Load() {
				v := c.s.View()
				rev := int64(max(v.Compacted(), 1, v.Revision()-ids.Revision(rnd.Intn(30))))
				from := rnd.Intn(2000)
				resp, err := v.Range(&wire.RangeRequest{Key: churnKey(from), RangeEnd: churnKey(from + rnd.Intn(300)), Revision: rev})
				if overtaken(t, err) {
					continue
				}
				if held = append(held, resp); len(held) > 20 {
					held = held[1:]
				}
				for _, kv := range held[rnd.Intn(len(held))].KVs {
					if !whole(kv) {
						t.Errorf("revision %d: not a value: %.60q", rev, kv)
						return
					}
				}
				runtime.Gosched()
			}
		})
	}
	for n := range 5000 {
		c.step(n)
		if n%500 == 0 {
			runtime.GC()
		}
	}
	done.Store(true)
	readers.Wait()
	c.settle()
}

// settle checks that after all compactions memory is near what lives.
func (c *churn) settle() {
	c.publish()
	require.NoError(c.t, c.s.Compact(c.b, c.s.Revision()))
	c.scrubAll()
	c.publish()
	want, err := c.s.View().Range(&wire.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	require.NoError(c.t, err)
	for _, kv := range want.KVs {
		require.True(c.t, whole(kv))
	}
	c.reopen()
	got, err := c.s.View().Range(&wire.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	require.NoError(c.t, err)
	require.Equal(c.t, want.KVs, got.KVs)
}
