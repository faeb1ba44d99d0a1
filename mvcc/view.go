package mvcc

import (
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/wire"
)

// View is the store at one revision. It is immutable; any number of goroutines use it without locks. It stays readable
// until a compaction passes it, and then says so with Stale or fault.Compacted.
type View struct {
	sight
	stats Stats
}

// Revision is the current revision of the view.
func (v *View) Revision() ids.Revision { return v.rev }

// Compacted is the revision of the last compaction when the view was made, -1 when there was none.
func (v *View) Compacted() ids.Revision { return v.compacted }

// Stats tells what the store held when the view was made.
func (v *View) Stats() Stats { return v.stats }

// Range answers a Range request. The caller has checked that the key is not empty and that order and target are known. The
// header holds the view's revision only. Key-values are shared and immutable. Errors: fault.Compacted, fault.FutureRev,
// Stale, and failures of the disk.
func (v *View) Range(req *wire.RangeRequest) (*wire.RangeResponse, error) {
	resp := new(wire.RangeResponse)
	if err := v.fill(req, resp); err != nil {
		return nil, err
	}
	return resp, nil
}

// RangeInto is Range into a response whose list's memory is used again. After an error the response holds no keys.
func (v *View) RangeInto(req *wire.RangeRequest, resp *wire.RangeResponse) error {
	return v.fill(req, resp)
}

// Get returns the wire KeyValue of a key at the view's revision. The bytes are shared and immutable. Errors: Stale, and
// failures of the disk.
func (v *View) Get(key []byte) (kv []byte, ok bool, err error) {
	defer v.era.KeepAlive()
	e, found := v.get(key, v.rev)
	if found == nil {
		return nil, false, v.confirm(v.rev, false, nil)
	}
	if kv, err = v.value(e, found); err != nil {
		return nil, false, v.confirm(v.rev, false, err)
	}
	return kv, true, nil
}

// Count returns the number of keys in an interval at a revision, 0 meaning the view's own: O(log n) for that and for
// revisions of recent views, else every key of the interval is looked at. Errors as Range.
func (v *View) Count(key, end []byte, rev ids.Revision) (int64, error) {
	resp := wire.RangeResponse{}
	req := wire.RangeRequest{Key: key, RangeEnd: end, Revision: int64(rev), CountOnly: true}
	err := v.fill(&req, &resp)
	return resp.Count, err
}
