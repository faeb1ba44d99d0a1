package mvcc_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// benchKey has the length and the order of a Kubernetes key.
func benchKey(i int) []byte {
	return fmt.Appendf(nil, "/registry/pods/namespace-%03d/deployment-7d9f8b6c5-%08d", i%100, i)
}

// fill puts n keys with values of the given size, in batches.
func (r *rig) fill(n, valueBytes int) {
	value := make([]byte, valueBytes)
	for i := range n {
		tx := r.s.Begin(r.b)
		tx.Put(&wire.PutRequest{Key: benchKey(i), Value: value})
		tx.End()
		if r.b.Bytes() > 1<<20 {
			r.publish()
		}
	}
	r.publish()
}

// budget fails when f allocates more than most times a run.
func budget(t *testing.T, name string, most float64, f func()) {
	t.Helper()
	got := testing.AllocsPerRun(2000, f)
	t.Logf("%s: %.1f allocations", name, got)
	require.LessOrEqual(t, got, most, name)
}

// TestAllocations holds the hot paths to their budgets.
func TestAllocations(t *testing.T) {
	r := newRig(t)
	r.fill(2000, 256)
	put := &wire.PutRequest{Key: benchKey(77), Value: make([]byte, 256)}
	// The event batch; amortized: slabs, slots, the queue of garbage, the list of superseded versions.
	budget(t, "put of an existing key", 1, func() {
		tx := r.s.Begin(r.b)
		tx.Put(put)
		tx.End()
	})
	v := r.publish()
	req := &wire.RangeRequest{Key: benchKey(42)}
	var resp wire.RangeResponse
	budget(t, "get into a response", 0, func() { require.NoError(t, v.RangeInto(req, &resp)) })
	budget(t, "get", 1, func() { _, _ = v.Range(req) })
	page := &wire.RangeRequest{Key: []byte("/"), RangeEnd: []byte("0"), Limit: 500}
	budget(t, "page of 500", 1, func() { _, _ = v.Range(page) })
	page.KeysOnly = true
	budget(t, "page of 500 keys", 1, func() { _, _ = v.Range(page) })
	budget(t, "count", 0, func() { _, _ = v.Count(page.Key, page.RangeEnd, 0) })
	txn := kubernetesTxn(r.s, 5)
	budget(t, "transaction", 5, func() {
		tx := r.s.Begin(r.b)
		resp, err := tx.Txn(txn, grantedID)
		require.NoError(t, err)
		require.True(t, resp.Succeeded)
		tx.End()
		txn.Compare[0].Number = int64(r.s.Revision())
	})
}

func current(s *mvcc.Store, i int) []byte {
	kv, _, _ := s.View().Get(benchKey(i))
	return kv
}

// kubernetesTxn is how Kubernetes updates an object: if it was not changed since, put, else get.
func kubernetesTxn(s *mvcc.Store, i int) *wire.TxnRequest {
	key := benchKey(i)
	return &wire.TxnRequest{
		Compare: []wire.Compare{{Target: wire.CompareMod, Key: key, Union: 6, Number: wire.ModRevisionOf(current(s, i))}},
		Success: []wire.RequestOp{{Put: &wire.PutRequest{Key: key, Value: make([]byte, 256)}}},
		Failure: []wire.RequestOp{{Range: &wire.RangeRequest{Key: key}}},
	}
}

// TestMemoryPerKey measures what a store of many keys holds in memory and keeps it near the data itself: after it was filled,
// opened with the values on disk (then only the index is there), and with the values fetched.
func TestMemoryPerKey(t *testing.T) {
	n, most := 100_000, 1.2
	if testing.Short() {
		n, most = 20_000, 1.4 // what does not grow with the keys weighs more
	}
	r := newRig(t)
	r.fill(n, 1024)
	live := r.s.View().Stats().LiveBytes
	// The engine is closed while memory is read: what it does in the background, and its disk in memory, are not ours to count.
	held := func() float64 {
		require.NoError(t, r.e.Close())
		with := heap()
		r.s = nil
		bytes := with - heap()
		r.open()
		return float64(bytes)
	}
	filled := held()
	index := held()
	for more := true; more; {
		var err error
		more, err = r.s.Warm(10_000)
		require.NoError(t, err)
	}
	fetched := held()
	t.Logf("%d keys of %d bytes, live %d bytes a key; filled: %.1f (x%.3f), opened: %.1f, fetched: %.1f (x%.3f)", n, len(benchKey(0)), live/int64(n),
		filled/float64(n), filled/float64(live), index/float64(n), fetched/float64(n), fetched/float64(live))
	require.Less(t, filled/float64(live), most)
	require.Less(t, fetched/float64(live), most)
	require.Less(t, index/float64(n), float64(len(benchKey(0))+130))
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// benchRig is shared by the benchmarks of one run: filling a million keys takes seconds.
var benchRig *rig

func million(b *testing.B) *rig {
	if benchRig == nil {
		r := &rig{t: b, fs: nil}
		e, err := storage.Open(b.TempDir(), storage.Options{FS: vfs.NewMem()})
		require.NoError(b, err)
		r.e, r.b = e, e.NewBatch()
		r.s, err = mvcc.Open(e)
		require.NoError(b, err)
		r.fill(1_000_000, 256)
		benchRig = r
	}
	benchRig.t = b
	b.ReportAllocs()
	b.ResetTimer()
	return benchRig
}

func BenchmarkPutUpdate(b *testing.B) {
	r := million(b)
	req := &wire.PutRequest{Value: make([]byte, 256)}
	for i := range b.N {
		req.Key = benchKey(i * 7919 % 1_000_000)
		tx := r.s.Begin(r.b)
		tx.Put(req)
		tx.End()
		if i%100 == 99 {
			r.publishUncounted(b)
		}
	}
	r.publish()
}

// publishUncounted leaves the engine out of the time.
func (r *rig) publishUncounted(b *testing.B) {
	b.StopTimer()
	r.index++
	require.NoError(b, r.e.Commit(r.b, storage.Mark{Index: r.index, Term: 1}))
	r.b.Reset()
	b.StartTimer()
	r.s.Publish()
}

var created = 1_000_000

func BenchmarkPutCreate(b *testing.B) {
	r := million(b)
	req := &wire.PutRequest{Value: make([]byte, 256)}
	for i := range b.N {
		created++
		req.Key = append(benchKey(created*7919%1_000_000), byte('a'+created%26), byte('a'+created/26%26), byte('a'+created/676%26))
		tx := r.s.Begin(r.b)
		tx.Put(req)
		tx.End()
		if i%100 == 99 {
			r.publishUncounted(b)
		}
	}
	r.publish()
}

func BenchmarkGet(b *testing.B) {
	r := million(b)
	v := r.s.View()
	var resp wire.RangeResponse
	req := &wire.RangeRequest{}
	for i := range b.N {
		req.Key = benchKey(i * 7919 % 1_000_000)
		if err := v.RangeInto(req, &resp); err != nil || resp.Count != 1 {
			b.Fatal(err, resp.Count)
		}
	}
}

func BenchmarkCount(b *testing.B) {
	r := million(b)
	v := r.s.View()
	for i := range b.N {
		if n, err := v.Count(benchKey(i*7919%1_000_000), []byte("0"), 0); err != nil || n == 0 {
			b.Fatal(err, n)
		}
	}
}

func benchPage(b *testing.B, rev ids.Revision) {
	v := benchRig.s.View()
	var resp wire.RangeResponse
	req := &wire.RangeRequest{RangeEnd: []byte("0"), Limit: 500, Revision: int64(rev)}
	for i := range b.N {
		req.Key = benchKey(i * 7919 % 900_000)
		if err := v.RangeInto(req, &resp); err != nil || len(resp.KVs) == 0 {
			b.Fatal(err, resp.Count)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/500, "ns/key")
}

func BenchmarkPage500(b *testing.B) {
	million(b)
	benchPage(b, 0)
}

// BenchmarkPage500Recent reads a page at the revision of a recent view, of which a tenth was changed since.
func BenchmarkPage500Recent(b *testing.B) {
	r := million(b)
	rev := r.s.View().Revision()
	for i := range 100_000 {
		tx := r.s.Begin(r.b)
		tx.Put(&wire.PutRequest{Key: benchKey(i * 10), Value: make([]byte, 256)})
		if i%1000 == 0 {
			tx.Put(&wire.PutRequest{Key: append(benchKey(created), fmt.Sprint(r.s.Revision())...)})
		}
		tx.End()
		if i%1000 == 999 {
			r.publish()
		}
	}
	b.ResetTimer()
	benchPage(b, rev)
}

// BenchmarkPage500Old reads a page at a revision for which no key set is kept.
func BenchmarkPage500Old(b *testing.B) {
	million(b)
	benchPage(b, 900_000)
}

func BenchmarkTxnKubernetes(b *testing.B) {
	r := million(b)
	txn := kubernetesTxn(r.s, 1)
	for i := range b.N {
		tx := r.s.Begin(r.b)
		if resp, err := tx.Txn(txn, grantedID); err != nil || !resp.Succeeded {
			b.Fatal(err)
		}
		tx.End()
		txn.Compare[0].Number = int64(r.s.Revision())
		if i%100 == 99 {
			r.publishUncounted(b)
		}
	}
	r.publish()
}

func BenchmarkOpen(b *testing.B) {
	r := million(b)
	for range b.N {
		if _, err := mvcc.Open(r.e); err != nil {
			b.Fatal(err)
		}
	}
}
