package mvcc_test

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"sort"
	"strings"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/wire"
)

// model is the store written down in the plainest way: the list of all changes ever made. Every question is answered by
// walking over all of it.
type model struct {
	log       []mchange
	rev       int64
	compacted int64
}

type mchange struct {
	wire.KeyValue
	sub  int
	tomb bool
}

func newModel() *model { return &model{rev: 1, compacted: -1} }

// at is what a reader at rev sees, by key.
func (m *model) at(rev int64) []mchange {
	newest := map[string]mchange{}
	for _, c := range m.log {
		if c.ModRevision <= rev {
			newest[string(c.Key)] = c
		}
	}
	var out []mchange
	for _, c := range newest {
		if !c.tomb {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b mchange) int { return bytes.Compare(a.Key, b.Key) })
	return out
}

func within(key, from, end []byte) bool {
	switch {
	case len(end) == 0:
		return bytes.Equal(key, from)
	case string(end) == "\x00":
		return bytes.Compare(key, from) >= 0
	}
	return bytes.Compare(key, from) >= 0 && bytes.Compare(key, end) < 0
}

func (m *model) find(key, end []byte, rev int64) []mchange {
	return slices.DeleteFunc(m.at(rev), func(c mchange) bool { return !within(c.Key, key, end) })
}

// rangeAt answers req for a reader whose current revision is cur.
func (m *model) rangeAt(req *wire.RangeRequest, cur, compacted int64) (*wire.RangeResponse, error) {
	rev := req.Revision
	if rev > cur {
		return nil, fault.FutureRev
	}
	if rev <= 0 {
		rev = cur
	}
	if rev < compacted {
		return nil, fault.Compacted
	}
	kvs := m.find(req.Key, req.RangeEnd, rev)
	resp := &wire.RangeResponse{Header: wire.Header{Revision: cur}, Count: int64(len(kvs))}
	if req.CountOnly {
		return resp, nil
	}
	filters := req.MinModRevision != 0 || req.MaxModRevision != 0 || req.MinCreateRevision != 0 || req.MaxCreateRevision != 0
	plain := req.SortOrder == wire.SortNone || (req.SortTarget == wire.SortByKey && req.SortOrder == wire.SortAscend)
	if plain && !filters && req.Limit > 0 && int64(len(kvs)) > req.Limit+1 {
		kvs = kvs[:req.Limit+1]
	}
	outside := func(x, least, most int64) bool { return (least != 0 && x < least) || (most != 0 && x > most) }
	kvs = slices.DeleteFunc(kvs, func(c mchange) bool {
		return outside(c.ModRevision, req.MinModRevision, req.MaxModRevision) ||
			outside(c.CreateRevision, req.MinCreateRevision, req.MaxCreateRevision)
	})
	msort(kvs, req.SortTarget, req.SortOrder)
	if req.Limit > 0 && int64(len(kvs)) > req.Limit {
		kvs, resp.More = kvs[:req.Limit], true
	}
	for _, c := range kvs {
		kv := c.KeyValue
		if req.KeysOnly {
			kv.Value = nil
			if req.SortTarget != wire.SortByValue {
				kv.Lease = 0
			}
		}
		resp.KVs = append(resp.KVs, wire.AppendKeyValue(nil, &kv))
	}
	return resp, nil
}

func msort(kvs []mchange, target wire.SortTarget, order wire.SortOrder) {
	if target == wire.SortByKey && order != wire.SortDescend {
		return
	}
	less := map[wire.SortTarget]func(a, b mchange) int{
		wire.SortByKey:     func(a, b mchange) int { return bytes.Compare(a.Key, b.Key) },
		wire.SortByVersion: func(a, b mchange) int { return cmp.Compare(a.Version, b.Version) },
		wire.SortByCreate:  func(a, b mchange) int { return cmp.Compare(a.CreateRevision, b.CreateRevision) },
		wire.SortByMod:     func(a, b mchange) int { return cmp.Compare(a.ModRevision, b.ModRevision) },
		wire.SortByValue:   func(a, b mchange) int { return bytes.Compare(a.Value, b.Value) },
	}[target]
	s := msorter{kvs, less}
	if order == wire.SortDescend {
		sort.Sort(sort.Reverse(s))
	} else {
		sort.Sort(s)
	}
}

type msorter struct {
	kvs []mchange
	cmp func(a, b mchange) int
}

func (s msorter) Len() int           { return len(s.kvs) }
func (s msorter) Swap(i, j int)      { s.kvs[i], s.kvs[j] = s.kvs[j], s.kvs[i] }
func (s msorter) Less(i, j int) bool { return s.cmp(s.kvs[i], s.kvs[j]) < 0 }

// mtx is one open transaction on a model.
type mtx struct {
	m     *model
	begin int64
	subs  int
}

func (m *model) tx() *mtx { return &mtx{m: m, begin: m.rev} }

func (t *mtx) rev() int64 {
	if t.subs > 0 {
		return t.begin + 1
	}
	return t.begin
}

func (t *mtx) end() { t.m.rev = t.rev() }

func (t *mtx) add(c mchange) {
	c.ModRevision, c.sub = t.begin+1, t.subs
	t.subs++
	t.m.log = append(t.m.log, c)
}

// put returns the KeyValue before, nil for none.
func (t *mtx) put(req *wire.PutRequest) []byte {
	c := mchange{KeyValue: wire.KeyValue{Key: bytes.Clone(req.Key), Value: bytes.Clone(req.Value), Lease: req.Lease,
		CreateRevision: t.begin + 1, Version: 1}}
	var prev []byte
	if old := t.m.find(req.Key, nil, t.begin+1); len(old) > 0 {
		prev = wire.AppendKeyValue(nil, &old[0].KeyValue)
		c.CreateRevision, c.Version = old[0].CreateRevision, old[0].Version+1
		if req.IgnoreValue {
			c.Value = old[0].Value
		}
		if req.IgnoreLease {
			c.Lease = old[0].Lease
		}
	}
	t.add(c)
	return prev
}

func (t *mtx) remove(key, end []byte) (prev [][]byte) {
	for _, c := range t.m.find(key, end, t.begin+1) {
		prev = append(prev, wire.AppendKeyValue(nil, &c.KeyValue))
		t.add(mchange{KeyValue: wire.KeyValue{Key: c.Key}, tomb: true})
	}
	return prev
}

func (t *mtx) holds(c *wire.Compare) bool {
	kvs := t.m.find(c.Key, c.RangeEnd, t.rev())
	if len(kvs) == 0 {
		if c.Target == wire.CompareValue {
			return false
		}
		kvs = []mchange{{}}
	}
	for _, kv := range kvs {
		var order int
		switch number := map[int32]int64{c.Union: c.Number}; c.Target {
		case wire.CompareVersion:
			order = cmp.Compare(kv.Version, number[4])
		case wire.CompareCreate:
			order = cmp.Compare(kv.CreateRevision, number[5])
		case wire.CompareMod:
			order = cmp.Compare(kv.ModRevision, number[6])
		case wire.CompareLease:
			order = cmp.Compare(kv.Lease, number[8])
		case wire.CompareValue:
			order = bytes.Compare(kv.Value, map[int32][]byte{c.Union: c.Value}[7])
		}
		ok := []bool{order == 0, order > 0, order < 0, order != 0}[c.Result]
		if !ok {
			return false
		}
	}
	return true
}

// txn answers a transaction; an error leaves the model as it was.
func (t *mtx) txn(req *wire.TxnRequest, granted func(int64) bool) (*wire.TxnResponse, error) {
	taken := map[*wire.TxnRequest]bool{}
	t.decide(req, taken)
	if err := t.check(req, taken, granted); err != nil {
		return nil, err
	}
	resp := t.run(req, taken)
	resp.Header.Revision = t.rev()
	return resp, nil
}

func chosen(req *wire.TxnRequest, taken map[*wire.TxnRequest]bool) []wire.RequestOp {
	if taken[req] {
		return req.Success
	}
	return req.Failure
}

func (t *mtx) decide(req *wire.TxnRequest, taken map[*wire.TxnRequest]bool) {
	taken[req] = true
	for i := range req.Compare {
		taken[req] = taken[req] && t.holds(&req.Compare[i])
	}
	for _, op := range chosen(req, taken) {
		if op.Txn != nil {
			t.decide(op.Txn, taken)
		}
	}
}

func (t *mtx) check(req *wire.TxnRequest, taken map[*wire.TxnRequest]bool, granted func(int64) bool) error {
	for _, op := range chosen(req, taken) {
		switch {
		case op.Range != nil && op.Range.Revision > t.begin:
			return fault.FutureRev
		case op.Range != nil && op.Range.Revision != 0 && op.Range.Revision < t.m.compacted:
			return fault.Compacted
		case op.Put != nil && op.Put.Lease != 0 && !granted(op.Put.Lease):
			return fault.LeaseNotFound
		case op.Put != nil && (op.Put.IgnoreValue || op.Put.IgnoreLease) && len(t.m.find(op.Put.Key, nil, t.begin)) == 0:
			return fault.KeyNotFound
		case op.Txn != nil:
			if err := t.check(op.Txn, taken, granted); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *mtx) run(req *wire.TxnRequest, taken map[*wire.TxnRequest]bool) *wire.TxnResponse {
	resp := &wire.TxnResponse{Succeeded: taken[req]}
	for _, op := range chosen(req, taken) {
		var out wire.ResponseOp
		switch {
		case op.Range != nil:
			out.Range, _ = t.m.rangeAt(op.Range, t.rev(), t.m.compacted)
		case op.Put != nil:
			prev := t.put(op.Put)
			out.Put = &wire.PutResponse{Header: wire.Header{Revision: t.rev()}}
			if op.Put.PrevKV {
				out.Put.PrevKV = prev
			}
		case op.DeleteRange != nil:
			prev := t.remove(op.DeleteRange.Key, op.DeleteRange.RangeEnd)
			out.DeleteRange = &wire.DeleteRangeResponse{Header: wire.Header{Revision: t.rev()}, Deleted: int64(len(prev))}
			if op.DeleteRange.PrevKV {
				out.DeleteRange.PrevKVs = prev
			}
		case op.Txn != nil:
			out.Txn = t.run(op.Txn, taken)
		}
		resp.Responses = append(resp.Responses, out)
	}
	return resp
}

// retained lists what a finished compaction leaves of the log.
func (m *model) retained() []mchange {
	var out []mchange
	for i, c := range m.log {
		gone := c.tomb && c.ModRevision < m.compacted
		for _, next := range m.log[i+1:] {
			if !c.tomb && bytes.Equal(next.Key, c.Key) {
				gone = next.ModRevision <= m.compacted
				break
			}
		}
		if !gone {
			out = append(out, c)
		}
	}
	return out
}

func (c *mchange) record() (key, value []byte) {
	key = binary.BigEndian.AppendUint64(nil, uint64(c.ModRevision))
	key = binary.BigEndian.AppendUint64(append(key, '_'), uint64(c.sub))
	if c.tomb {
		return append(key, 't'), wire.AppendKeyValue(nil, &wire.KeyValue{Key: c.Key})
	}
	return key, wire.AppendKeyValue(nil, &c.KeyValue)
}

// hash computes HashKV over the given records, as etcd's hasher does record by record.
func (m *model) hash(records []mchange, compacted, upper int64, keep map[[2]int64]bool) uint32 {
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	h.Write([]byte("key"))
	for _, c := range records {
		if c.ModRevision > upper {
			continue
		}
		if c.ModRevision <= compacted && len(keep) > 0 && !keep[[2]int64{c.ModRevision, int64(c.sub)}] {
			continue
		}
		if c.ModRevision == compacted && c.tomb {
			continue
		}
		k, v := c.record()
		h.Write(k)
		h.Write(v)
	}
	return h.Sum32()
}

// keep is etcd's keep set at rev: the newest change of each key up to rev if that is a value; a compaction's own set has
// tombstones exactly at rev as well.
func (m *model) keep(rev int64, compaction bool) map[[2]int64]bool {
	newest := map[string]mchange{}
	for _, c := range m.log {
		if c.ModRevision <= rev {
			newest[string(c.Key)] = c
		}
	}
	out := map[[2]int64]bool{}
	for _, c := range newest {
		if !c.tomb || (compaction && c.ModRevision == rev) {
			out[[2]int64{c.ModRevision, int64(c.sub)}] = true
		}
	}
	return out
}

// events renders what happened at revisions from to to for keys with the prefix, one line an event.
func (m *model) events(from, to int64, prefix string) []string {
	var out []string
	for _, c := range m.log {
		if c.ModRevision < from || c.ModRevision > to || !strings.HasPrefix(string(c.Key), prefix) {
			continue
		}
		e := wire.Event{KV: wire.AppendKeyValue(nil, &c.KeyValue)}
		if c.tomb {
			e.Type = wire.EventDelete
			e.KV = wire.AppendKeyValue(nil, &wire.KeyValue{Key: c.Key, ModRevision: c.ModRevision})
		}
		if before := m.find(c.Key, nil, c.ModRevision-1); len(before) > 0 && c.ModRevision-1 >= m.compacted {
			e.PrevKV = wire.AppendKeyValue(nil, &before[0].KeyValue)
		}
		out = append(out, string(e.Append(nil)))
	}
	return out
}
