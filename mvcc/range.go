package mvcc

import (
	"math"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/wire"
)

// fill answers a Range request into resp, whose KVs memory is used again. The rules are etcd's, down to the odd ones
// (source: etcd v3.7 server/etcdserver/txn/range.go):
//   - With a custom order or a revision filter, all keys are fetched, filtered, sorted, then cut to the limit.
//   - Order NONE with a target other than KEY sorts the result ascending after it was cut to limit+1 keys.
//   - count ignores limit and filters.
//   - keys_only answers from the index, without leases, unless the target is VALUE.
func (s *sight) fill(req *wire.RangeRequest, resp *wire.RangeResponse) error {
	*resp = wire.RangeResponse{Header: wire.Header{Revision: int64(s.rev)}, KVs: resp.KVs[:0]}
	sc, err := s.resolve(req.Revision)
	if err != nil {
		return err
	}
	in := intervalOf(req.Key, req.RangeEnd)
	switch {
	case in.single:
		err = s.fillOne(req, resp, &sc)
	case req.CountOnly:
		resp.Count, err = s.count(&sc, in)
	case plain(req):
		err = s.fillPlain(req, resp, &sc, in)
	default:
		err = s.fillSorted(req, resp, &sc, in)
	}
	s.era.KeepAlive()
	if err != nil {
		resp.KVs = resp.KVs[:0]
	}
	return err
}

// plain says that a request needs neither filter nor sorting.
func plain(req *wire.RangeRequest) bool {
	return defaultOrder(req) && !filtered(req) && (req.SortOrder != wire.SortNone || req.SortTarget == wire.SortByKey)
}

// defaultOrder says that keys are fetched in key order up to the limit.
func defaultOrder(req *wire.RangeRequest) bool {
	return req.SortOrder == wire.SortNone || (req.SortTarget == wire.SortByKey && req.SortOrder == wire.SortAscend)
}

func filtered(req *wire.RangeRequest) bool {
	return req.MinModRevision|req.MaxModRevision|req.MinCreateRevision|req.MaxCreateRevision != 0
}

// count counts the keys of a scope in an interval that is not single. An exact set needs no look at any key.
func (s *sight) count(sc *scope, in interval) (n int64, err error) {
	if sc.exact {
		return int64(in.count(s.data, sc.live)), nil
	}
	var w walk
	w.start(s.data, sc, in)
	for e, _ := w.next(); e != nil; e, _ = w.next() {
		n++
	}
	return n, s.confirm(sc.rev, w.lost, nil)
}

// form is the wire form of a version that a request wants.
func (s *sight) form(req *wire.RangeRequest, e *entry, v *version) ([]byte, error) {
	if !req.KeysOnly {
		return s.value(e, v)
	}
	if req.SortTarget != wire.SortByValue {
		return s.data.stripped(e, v), nil
	}
	b, err := s.value(e, v)
	if err != nil {
		return nil, err
	}
	return withoutValue(b), nil
}

// withoutValue copies a KeyValue and leaves out the value only.
func withoutValue(b []byte) []byte {
	kv := wire.KeyValue{Key: wire.KeyOf(b), CreateRevision: wire.CreateRevisionOf(b), ModRevision: wire.ModRevisionOf(b),
		Version: wire.VersionOf(b), Lease: wire.LeaseOf(b)}
	return wire.AppendKeyValue(make([]byte, 0, kv.Size()), &kv)
}

// fillOne answers a request for one key. A version that is found is the right one, whatever a compaction removed behind it,
// so only its absence is to be confirmed.
func (s *sight) fillOne(req *wire.RangeRequest, resp *wire.RangeResponse, sc *scope) error {
	e, v := s.get(req.Key, sc.rev)
	if v == nil {
		return s.confirm(sc.rev, false, nil)
	}
	resp.Count = 1
	if req.CountOnly || (filtered(req) && !passes(req, v)) {
		return nil
	}
	kv, err := s.form(req, e, v)
	if err != nil {
		return s.confirm(sc.rev, false, err)
	}
	resp.KVs = append(resp.KVs, kv)
	return nil
}

// fillPlain answers a request in key order without filters.
func (s *sight) fillPlain(req *wire.RangeRequest, resp *wire.RangeResponse, sc *scope, in interval) error {
	want := int64(math.MaxInt64)
	if req.Limit > 0 {
		want = req.Limit
	}
	if sc.exact {
		resp.Count = int64(in.count(s.data, sc.live))
		if room := min(want, resp.Count); int64(cap(resp.KVs)) < room {
			resp.KVs = make([][]byte, 0, room)
		}
		// The count bounds the loop; comparing every key with the end would cost a memory access each.
		in.open = true
	}
	var w walk
	w.start(s.data, sc, in)
	got := int64(0)
	for ; !sc.exact || got < min(want, resp.Count); got++ {
		e, v := w.next()
		if e == nil {
			break
		}
		if got >= want {
			continue // only counted
		}
		kv, err := s.form(req, e, v)
		if err != nil {
			return s.confirm(sc.rev, w.lost, err)
		}
		resp.KVs = append(resp.KVs, kv)
	}
	if !sc.exact {
		resp.Count = got
	}
	if resp.More = resp.Count > want; resp.More && sc.set != nil {
		s.pins.keep(sc.set) // the next page asks at this revision
	}
	return s.confirm(sc.rev, w.lost, nil)
}

// Scan reads a range in pages at one revision, for streams and for ranges too large for one answer. It holds one page at a
// time. It is for one goroutine. It does no sorting and no revision filters.
type Scan struct {
	view  *View
	req   wire.RangeRequest
	scope scope
	next  []byte // where the next page starts
	left  int64  // keys until the limit
	more  bool
}

// Scan starts a scan. The keys of req are copied. Errors: fault.Compacted, fault.FutureRev, fault.StreamSort,
// fault.StreamFilters.
func (v *View) Scan(req *wire.RangeRequest) (*Scan, error) {
	switch {
	case !defaultOrder(req):
		return nil, fault.StreamSort
	case filtered(req):
		return nil, fault.StreamFilters
	}
	sc, err := v.sight.resolve(req.Revision)
	if err != nil {
		return nil, err
	}
	s := &Scan{view: v, req: *req, scope: sc, left: req.Limit}
	s.req.Key = append([]byte(nil), req.Key...)
	s.req.RangeEnd = append([]byte(nil), req.RangeEnd...)
	s.next = s.req.Key
	if s.left <= 0 {
		s.left = math.MaxInt64
	}
	return s, nil
}

// Page appends the next keys to dst: at least one, at most maxKeys, and no more once they have maxBytes bytes together.
// done says that the range or its limit is exhausted. Errors: Stale and fault.Compacted when a compaction overtook the
// scan, and failures of the disk.
func (s *Scan) Page(dst [][]byte, maxKeys, maxBytes int) (kvs [][]byte, done bool, err error) {
	if s.req.CountOnly || s.next == nil {
		return dst, true, nil
	}
	in := intervalOf(s.req.Key, s.req.RangeEnd)
	if in.single {
		return s.one(dst)
	}
	in.key = textOf(s.next)
	var w walk
	w.start(s.view.data, &s.scope, in)
	defer s.view.era.KeepAlive()
	kvs = dst
	for keys, bytes := 0, 0; ; keys++ {
		e, v := w.next()
		if e == nil || s.left == 0 {
			s.more = e != nil
			s.next = nil
			return kvs, true, s.view.confirm(s.scope.rev, w.lost, nil)
		}
		if keys > 0 && (keys >= maxKeys || bytes >= maxBytes) {
			s.next = []byte(s.view.data.key(e))
			return kvs, false, s.view.confirm(s.scope.rev, w.lost, nil)
		}
		kv, err := s.view.form(&s.req, e, v)
		if err != nil {
			return kvs, false, s.view.confirm(s.scope.rev, w.lost, err)
		}
		kvs = append(kvs, kv)
		bytes += len(kv)
		s.left--
	}
}

func (s *Scan) one(dst [][]byte) ([][]byte, bool, error) {
	resp := wire.RangeResponse{KVs: dst}
	s.next = nil
	defer s.view.era.KeepAlive()
	before := len(dst)
	err := s.view.fillOne(&s.req, &resp, &s.scope)
	if err != nil {
		return resp.KVs[:before], false, err
	}
	return resp.KVs, true, nil
}

// More says whether the limit left keys out. It is right once Page said done.
func (s *Scan) More() bool { return s.more }

// Count is the number of keys in the range at the scan's revision, whatever the limit. For a revision that is no recent
// view's own it looks at every key of the range. Errors as Page.
func (s *Scan) Count() (int64, error) {
	resp := wire.RangeResponse{}
	req := wire.RangeRequest{Key: s.req.Key, CountOnly: true}
	in := intervalOf(s.req.Key, s.req.RangeEnd)
	defer s.view.era.KeepAlive()
	if in.single {
		err := s.view.fillOne(&req, &resp, &s.scope)
		return resp.Count, err
	}
	return s.view.count(&s.scope, in)
}

// Revision is the current revision of the scan's view: the header's.
func (s *Scan) Revision() int64 { return int64(s.view.rev) }
