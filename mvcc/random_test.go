package mvcc_test

import (
	"errors"
	"fmt"
	"math/rand"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// rig is a store on an engine in memory, driven as the state machine drives it.
type rig struct {
	memTable int64
	t        testing.TB
	fs       vfs.FS
	e        *storage.Engine
	s        *mvcc.Store
	b        *storage.Batch
	index    ids.Index
}

func newRig(t testing.TB) *rig { return newRigWith(t, 0) }

// newRigWith is newRig on an engine with memtables of a given size, 0 for the default.
func newRigWith(t testing.TB, memTable int64) *rig {
	r := &rig{t: t, fs: vfs.NewMem(), memTable: memTable}
	r.open()
	t.Cleanup(func() { require.NoError(t, r.e.Close()) })
	return r
}

func (r *rig) open() {
	var err error
	r.e, err = storage.Open("store", storage.Options{FS: r.fs, MemTableBytes: r.memTable})
	require.NoError(r.t, err)
	r.s, err = mvcc.Open(r.e)
	require.NoError(r.t, err)
	r.b = r.e.NewBatch()
	r.index = r.e.Applied().Index
}

func (r *rig) reopen() {
	require.NoError(r.t, r.e.Close())
	r.open()
}

func (r *rig) publish() *mvcc.View {
	r.index++
	require.NoError(r.t, r.e.Commit(r.b, storage.Mark{Index: r.index, Term: 1}))
	r.b.Reset()
	return r.s.Publish()
}

func (r *rig) put(key, value string) *mvcc.EventBatch {
	tx := r.s.Begin(r.b)
	tx.Put(&wire.PutRequest{Key: []byte(key), Value: []byte(value)})
	return tx.End()
}

func (r *rig) remove(key, end string) *mvcc.EventBatch {
	tx := r.s.Begin(r.b)
	tx.DeleteRange([]byte(key), []byte(end))
	return tx.End()
}

func (r *rig) scrubAll() {
	for r.s.Scrub(r.b, 100) {
	}
}

// lease says which leases exist in these tests.
func granted(id int64) bool { return id < 5 }

func grantedID(id ids.LeaseID) bool { return granted(int64(id)) }

// walker makes random requests over few keys and short values, so that everything happens often.
type walker struct {
	*rand.Rand
	rev int64 // current
}

func (w *walker) key() []byte {
	return []byte(fmt.Sprintf("%c%s", 'a'+rune(w.Intn(6)), strings.Repeat("/", w.Intn(3))))
}

// interval gives a key and an end of any kind.
func (w *walker) interval() (key, end []byte) {
	key = w.key()
	switch w.Intn(6) {
	case 0, 1:
		return key, nil
	case 2:
		return key, []byte{0}
	case 3:
		return []byte{0}, []byte{0}
	}
	return key, w.key()
}

func (w *walker) revision() int64 {
	switch w.Intn(8) {
	case 0, 1, 2:
		return 0
	case 3:
		return w.rev - int64(w.Intn(4))
	case 4:
		return -int64(w.Intn(3))
	case 5:
		return w.rev + int64(w.Intn(3))
	}
	return 1 + w.Int63n(w.rev)
}

func (w *walker) rangeRequest() *wire.RangeRequest {
	req := &wire.RangeRequest{Revision: w.revision()}
	req.Key, req.RangeEnd = w.interval()
	if w.Intn(2) == 0 {
		req.Limit = int64(w.Intn(6)) - 1
	}
	if w.Intn(2) == 0 {
		req.SortOrder, req.SortTarget = wire.SortOrder(w.Intn(3)), wire.SortTarget(w.Intn(5))
	}
	req.KeysOnly = w.Intn(4) == 0
	req.CountOnly = w.Intn(6) == 0
	if w.Intn(4) == 0 {
		for _, f := range []*int64{&req.MinModRevision, &req.MaxModRevision, &req.MinCreateRevision, &req.MaxCreateRevision} {
			if w.Intn(3) == 0 {
				*f = 1 + w.Int63n(w.rev)
			}
		}
	}
	return req
}

func (w *walker) putRequest() *wire.PutRequest {
	req := &wire.PutRequest{Key: w.key(), Value: []byte(fmt.Sprint(w.Intn(5)))}
	req.Lease = int64(w.Intn(6))
	req.PrevKV = w.Intn(2) == 0
	if w.Intn(5) == 0 {
		req.IgnoreValue, req.Value = true, nil
	}
	if w.Intn(5) == 0 {
		req.IgnoreLease, req.Lease = true, 0
	}
	return req
}

func (w *walker) compare() wire.Compare {
	c := wire.Compare{Result: wire.CompareResult(w.Intn(4)), Target: wire.CompareTarget(w.Intn(5))}
	c.Key, c.RangeEnd = w.interval()
	c.Union = []int32{4, 5, 6, 7, 8}[c.Target]
	if w.Intn(10) == 0 {
		c.Union = 0
	}
	switch c.Union {
	case 4, 8:
		c.Number = int64(w.Intn(4))
	case 5, 6:
		c.Number = w.rev - int64(w.Intn(20))
	case 7:
		c.Value = []byte(fmt.Sprint(w.Intn(5)))
	}
	return c
}

// txn makes a transaction in which no key is put twice nor put and deleted, as the checks before it demand; puts holds the
// keys that may still be put.
func (w *walker) txn(depth int, puts map[string]bool, readonly bool) *wire.TxnRequest {
	req := &wire.TxnRequest{}
	for range w.Intn(3) {
		req.Compare = append(req.Compare, w.compare())
	}
	for _, list := range []*[]wire.RequestOp{&req.Success, &req.Failure} {
		for range w.Intn(4) {
			*list = append(*list, w.op(depth, puts, readonly))
		}
	}
	return req
}

func (w *walker) op(depth int, puts map[string]bool, readonly bool) wire.RequestOp {
	switch k := w.Intn(6); {
	case readonly || k < 2:
		return wire.RequestOp{Range: w.rangeRequest()}
	case k < 4:
		if put := w.putRequest(); puts[string(put.Key)] {
			delete(puts, string(put.Key))
			return wire.RequestOp{Put: put}
		}
	case k == 4:
		// The upper half of the keys is for deletes.
		return wire.RequestOp{DeleteRange: &wire.DeleteRangeRequest{Key: []byte("d"), RangeEnd: w.key(), PrevKV: w.Intn(2) == 0}}
	case depth > 0:
		return wire.RequestOp{Txn: w.txn(depth-1, puts, false)}
	}
	return wire.RequestOp{}
}

// lowerKeys are the keys that transactions may put beside deletes of the others.
func lowerKeys() map[string]bool {
	keys := map[string]bool{}
	for _, c := range "abc" {
		for n := range 3 {
			keys[string(c)+strings.Repeat("/", n)] = true
		}
	}
	return keys
}

// duel is a store and a model that are given the same requests.
type duel struct {
	*rig
	*walker
	m      *model
	views  []*mvcc.View
	floor  int64 // the highest compaction that was scrubbed at all
	clean  bool  // the last compaction is scrubbed completely
	events []string
}

func wireOf(m interface{ Append([]byte) []byte }) string { return fmt.Sprintf("%q", m.Append(nil)) }

// expect compares a store's answer with the model's for a reader at revision cur that reads at rev.
func (d *duel) expect(cur int64, rev int64, got func() (string, error), want string, wantErr error) {
	d.t.Helper()
	text, err := got()
	if rev <= 0 {
		rev = cur
	}
	switch {
	case errors.Is(err, mvcc.Stale):
		require.Less(d.t, cur, d.floor, "stale without a compaction above the view")
		require.Equal(d.t, cur, rev)
	case errors.Is(err, fault.Compacted) && wantErr == nil:
		require.Less(d.t, rev, d.floor, "compacted without a compaction above the revision")
	case wantErr != nil:
		require.ErrorIs(d.t, err, wantErr)
	default:
		require.NoError(d.t, err)
		require.Equal(d.t, want, text)
	}
}

func (d *duel) readView(v *mvcc.View) {
	cur, compacted := int64(v.Revision()), int64(v.Compacted())
	d.walker.rev = cur
	req := d.rangeRequest()
	resp, wantErr := d.m.rangeAt(req, cur, compacted)
	want := ""
	if wantErr == nil {
		want = wireOf(resp)
	}
	d.expect(cur, req.Revision, func() (string, error) {
		got, err := v.Range(req)
		if err != nil {
			return "", err
		}
		return wireOf(got), nil
	}, want, wantErr)
	d.scanView(v, req)
	d.getView(v, req.Key)
	if d.Intn(3) == 0 {
		d.txnView(v)
	}
}

// getView reads one key at the view's own revision.
func (d *duel) getView(v *mvcc.View, key []byte) {
	want := ""
	if kvs := d.m.find(key, nil, int64(v.Revision())); len(kvs) > 0 {
		want = string(wire.AppendKeyValue(nil, &kvs[0].KeyValue))
	}
	d.expect(int64(v.Revision()), 0, func() (string, error) {
		kv, ok, err := v.Get(key)
		require.Equal(d.t, ok, kv != nil && err == nil)
		return string(kv), err
	}, want, nil)
}

// scanView reads the same range in pages.
func (d *duel) scanView(v *mvcc.View, from *wire.RangeRequest) {
	req := *from
	req.SortOrder, req.SortTarget, req.CountOnly = 0, 0, false
	req.MinModRevision, req.MaxModRevision, req.MinCreateRevision, req.MaxCreateRevision = 0, 0, 0, 0
	cur := int64(v.Revision())
	resp, wantErr := d.m.rangeAt(&req, cur, int64(v.Compacted()))
	want := ""
	if wantErr == nil {
		want = wireOf(resp)
	}
	keys, bytes := 1+d.Intn(4), 1+d.Intn(100)
	d.expect(cur, req.Revision, func() (string, error) {
		s, err := v.Scan(&req)
		if err != nil {
			return "", err
		}
		out := wire.RangeResponse{Header: wire.Header{Revision: s.Revision()}}
		for done := false; !done; {
			before := len(out.KVs)
			if out.KVs, done, err = s.Page(out.KVs, keys, bytes); err != nil {
				return "", err
			}
			require.LessOrEqual(d.t, len(out.KVs)-before, keys)
		}
		out.More = s.More()
		out.Count, err = s.Count()
		return wireOf(&out), err
	}, want, wantErr)
}

func (d *duel) txnView(v *mvcc.View) {
	cur := int64(v.Revision())
	req := d.txn(0, nil, true)
	past := *d.m
	past.rev, past.compacted = cur, int64(v.Compacted())
	resp, wantErr := past.tx().txn(req, granted)
	want := ""
	if wantErr == nil {
		want = wireOf(resp)
	}
	got, err := v.Txn(req)
	if (errors.Is(err, mvcc.Stale) || errors.Is(err, fault.Compacted)) && d.floor > past.compacted {
		return // some range of it was overtaken; which one does not show
	}
	if wantErr != nil {
		require.ErrorIs(d.t, err, wantErr)
		return
	}
	require.NoError(d.t, err)
	require.Equal(d.t, want, wireOf(got))
}

// write gives both the same change.
func (d *duel) write() {
	d.walker.rev = d.m.rev
	tx, mt := d.s.Begin(d.b), d.m.tx()
	switch d.Intn(5) {
	case 0, 1:
		req := d.putRequest()
		err := tx.CheckPut(req, grantedID)
		switch {
		case req.Lease >= 5:
			require.ErrorIs(d.t, err, fault.LeaseNotFound)
		case (req.IgnoreLease || req.IgnoreValue) && len(d.m.find(req.Key, nil, d.m.rev)) == 0:
			require.ErrorIs(d.t, err, fault.KeyNotFound)
		default:
			require.NoError(d.t, err)
			require.Equal(d.t, mt.put(req), tx.Put(req))
		}
	case 2:
		key, end := d.interval()
		want := mt.remove(key, end)
		n, prev := tx.DeleteRange(key, end)
		require.Equal(d.t, want, prev)
		require.Equal(d.t, int64(len(want)), n)
	default:
		req := d.txn(2, lowerKeys(), false)
		want, wantErr := mt.txn(req, granted)
		got, err := tx.Txn(req, grantedID)
		if wantErr != nil {
			require.ErrorIs(d.t, err, wantErr)
			require.False(d.t, tx.Changed())
		} else {
			require.NoError(d.t, err)
			require.Equal(d.t, wireOf(want), wireOf(got))
		}
	}
	d.endWrite(tx, mt)
}

// endWrite closes both transactions and compares events and lease changes.
func (d *duel) endWrite(tx *mvcc.Tx, mt *mtx) {
	changes := append([]mvcc.Change(nil), tx.Changes()...)
	batch := tx.End()
	mt.end()
	require.Equal(d.t, ids.Revision(d.m.rev), d.s.Revision())
	if batch == nil {
		require.Equal(d.t, mt.begin, d.m.rev)
		return
	}
	keep := d.m.compacted
	d.m.compacted = -1 // events of the moment have their previous value however far compaction has come
	want := d.m.events(d.m.rev, d.m.rev, "")
	d.m.compacted = keep
	var got []string
	for i, e := range batch.Events {
		got = append(got, string(e.Append(nil, true)))
		require.Equal(d.t, len(got[i]), e.Size(true))
		require.Equal(d.t, changes[i].Key, e.Key)
		require.Equal(d.t, ids.LeaseID(wire.LeaseOf(e.PrevKV)), changes[i].OldLease)
		require.Equal(d.t, ids.LeaseID(wire.LeaseOf(e.KV)), changes[i].NewLease)
	}
	require.Equal(d.t, ids.Revision(d.m.rev), batch.Revision)
	require.Equal(d.t, want, got)
}

func (d *duel) compact() {
	rev := d.m.rev - d.Int63n(20)
	if d.clean && rev > d.m.compacted {
		d.publish()
		f := d.e.Freeze()
		got, err := mvcc.HashOf(f, d.s.Compacted(), ids.Revision(rev))
		require.NoError(d.t, err)
		require.NoError(d.t, f.Close())
		require.Equal(d.t, d.m.hash(d.m.retained(), d.m.compacted, rev, d.m.keep(rev, true)), got.Hash)
	}
	err := d.s.Compact(d.b, ids.Revision(rev))
	switch {
	case rev <= d.m.compacted:
		require.ErrorIs(d.t, err, fault.Compacted)
	default:
		require.NoError(d.t, err)
		d.m.compacted = rev
		d.clean = false
	}
	require.ErrorIs(d.t, d.s.Compact(d.b, ids.Revision(d.m.rev+1)), fault.FutureRev)
}

func (d *duel) scrub() {
	if d.s.Scrubbing() {
		d.floor = d.m.compacted
	}
	d.clean = !d.s.Scrub(d.b, 1+d.Intn(20))
}

// readEvents compares a catch-up read with the model's log.
func (d *duel) readEvents(v *mvcc.View) {
	cur := int64(v.Revision())
	from := 1 + d.Int63n(cur)
	prefix := []string{"", "", "a", "d/"}[d.Intn(4)]
	var got []string
	for next := ids.Revision(from); next <= v.Revision(); {
		batches, to, err := v.Events(next, v.Revision(), 1+d.Intn(300), func(key []byte) bool {
			return strings.HasPrefix(string(key), prefix)
		})
		if errors.Is(err, fault.Compacted) {
			require.Less(d.t, int64(next), max(int64(v.Compacted()), d.floor))
			return
		}
		require.NoError(d.t, err)
		require.Greater(d.t, to, next)
		for _, b := range batches {
			require.GreaterOrEqual(d.t, b.Revision, next)
			require.Less(d.t, b.Revision, to)
			for _, e := range b.Events {
				got = append(got, string(e.Append(nil, true)))
			}
		}
		next = to
	}
	past := *d.m
	if past.compacted = int64(v.Compacted()); d.floor > past.compacted {
		return // values before the changes may be gone, one by one
	}
	require.Equal(d.t, past.events(from, cur, prefix), got)
}

// checkHash compares HashKV and, when nothing waits to be removed, the statistics.
func (d *duel) checkHash(v *mvcc.View) {
	f := d.e.Freeze()
	defer func() { require.NoError(d.t, f.Close()) }()
	compacted := int64(v.Compacted())
	upper := max(compacted, 0)
	if cur := int64(v.Revision()); d.Intn(2) == 0 {
		upper = cur
	} else if cur > upper {
		upper += d.Int63n(cur - upper + 1)
	}
	if upper > 0 {
		got, err := mvcc.HashKV(f, ids.Revision(upper))
		require.NoError(d.t, err)
		want := d.m.hash(d.m.retained(), compacted, upper, d.m.keep(upper, false))
		require.Equal(d.t, mvcc.Hash{Hash: want, Compacted: ids.Revision(compacted), Revision: ids.Revision(upper)}, got)
	}
	_, err := mvcc.HashKV(f, v.Revision()+1)
	require.ErrorIs(d.t, err, fault.FutureRev)
	if compacted > 1 {
		_, err := mvcc.HashKV(f, v.Compacted()-1)
		require.ErrorIs(d.t, err, fault.Compacted)
	}
	if d.clean {
		d.checkStats(v)
	}
}

func (d *duel) checkStats(v *mvcc.View) {
	var want mvcc.Stats
	for _, c := range d.m.retained() {
		k, val := c.record()
		want.Revisions++
		want.RetainedBytes += int64(len(k) + len(val))
	}
	for _, c := range d.m.at(d.m.rev) {
		k, val := c.record()
		want.Keys++
		want.LiveBytes += int64(len(k) + len(val))
	}
	require.Equal(d.t, want, v.Stats())
}

func (d *duel) step() {
	switch k := d.Intn(40); {
	case k < 24:
		d.write()
	case k < 25:
		d.compact()
	case k < 29:
		d.scrub()
	case k < 34:
		d.views = append(d.views, d.publish())
		if len(d.views) > 30 {
			d.views = append(d.views[:d.Intn(10)], d.views[12:]...)
		}
	case k < 35 && d.Intn(8) == 0:
		d.publish()
		d.reopen()
		d.floor = max(d.floor, d.m.compacted)
		d.views = []*mvcc.View{d.s.View()}
	case k < 36 && d.Intn(3) == 0:
		d.views = append(d.views, d.publish())
		d.checkHash(d.s.View())
	case k < 37:
		d.readEvents(d.views[d.Intn(len(d.views))])
	default:
		for range 3 {
			d.readView(d.views[d.Intn(len(d.views))])
		}
		d.readView(d.s.View())
	}
}

// TestRandom drives a store and the model with the same random requests and compares every answer.
func TestRandom(t *testing.T) {
	for seed := range int64(6) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			d := &duel{rig: newRig(t), walker: &walker{Rand: rand.New(rand.NewSource(seed))}, m: newModel(), floor: -1, clean: true}
			d.views = []*mvcc.View{d.s.View()}
			for range 3000 {
				d.step()
			}
			require.Greater(t, d.m.rev, int64(500))
		})
	}
}
