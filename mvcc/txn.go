package mvcc

import (
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/wire"
)

// A transaction runs in three steps: decide which branch every transaction on the way takes, check every operation that
// will run, run them. The first two look only at the state before the transaction; the last cannot be refused.
//
// A path holds the decisions in the order in which the operations are walked: a transaction's own, then those of its nested
// transactions in the chosen branch.

func branch(req *wire.TxnRequest, taken bool) []wire.RequestOp {
	if taken {
		return req.Success
	}
	return req.Failure
}

// decide appends the path of req.
func (s *sight) decide(path []bool, req *wire.TxnRequest) ([]bool, error) {
	ok, err := s.holds(req.Compare)
	if err != nil {
		return path, err
	}
	path = append(path, ok)
	ops := branch(req, ok)
	for i := range ops {
		if ops[i].Txn == nil {
			continue
		}
		if path, err = s.decide(path, ops[i].Txn); err != nil {
			return path, err
		}
	}
	return path, nil
}

// check validates the operations on a path and returns the rest of the path. put checks a put.
func (s *sight) check(req *wire.TxnRequest, path []bool, put func(*wire.PutRequest) error) (rest []bool, err error) {
	ops := branch(req, path[0])
	rest = path[1:]
	for i := range ops {
		switch op := &ops[i]; {
		case op.Range != nil:
			err = s.checkRevision(op.Range.Revision)
		case op.Put != nil:
			err = put(op.Put)
		case op.Txn != nil:
			rest, err = s.check(op.Txn, rest, put)
		}
		if err != nil {
			return nil, err
		}
	}
	return rest, nil
}

// checkRevision checks a range's revision before a transaction. Unlike a plain range, one here is refused when negative and
// below the compacted revision (-1 before the first compaction), as in etcd.
func (s *sight) checkRevision(asked int64) error {
	switch rev := ids.Revision(asked); {
	case rev == 0:
		return nil
	case rev > s.rev:
		return fault.FutureRev
	case rev < s.compacted:
		return fault.Compacted
	}
	return nil
}

// Txn runs a transaction. The caller has checked its form (contract: operations within bounds, keys given, no key put
// twice); granted says whether a lease exists. Errors leave the store as it was and are fault.LeaseNotFound,
// fault.KeyNotFound, fault.Compacted or fault.FutureRev; any other error is a failure of the disk or of the store after
// which the Tx must not be committed.
//
// The header has the revision after the transaction, headers of operations that of their moment, and the header of a nested
// transaction is empty, as in etcd.
func (t *Tx) Txn(req *wire.TxnRequest, granted func(ids.LeaseID) bool) (*wire.TxnResponse, error) {
	s := t.s.sight(t.begin)
	path, err := s.decide(t.path[:0], req)
	t.path = path
	if err != nil {
		return nil, err
	}
	put := func(p *wire.PutRequest) error { return t.CheckPut(p, granted) }
	if _, err := s.check(req, path, put); err != nil {
		return nil, err
	}
	resp := new(wire.TxnResponse)
	if _, err := t.run(req, path, resp); err != nil {
		return nil, err
	}
	resp.Header.Revision = int64(t.Revision())
	return resp, nil
}

// run executes the operations on a path and returns the rest of the path.
func (t *Tx) run(req *wire.TxnRequest, path []bool, resp *wire.TxnResponse) (rest []bool, err error) {
	resp.Succeeded = path[0]
	ops := branch(req, path[0])
	rest = path[1:]
	if len(ops) > 0 {
		resp.Responses = make([]wire.ResponseOp, len(ops))
	}
	for i := range ops {
		out := &resp.Responses[i]
		switch op := &ops[i]; {
		case op.Range != nil:
			out.Range, err = t.Range(op.Range)
		case op.Put != nil:
			out.Put = t.put(op.Put)
		case op.DeleteRange != nil:
			out.DeleteRange = t.deleteRange(op.DeleteRange)
		case op.Txn != nil:
			out.Txn = new(wire.TxnResponse)
			rest, err = t.run(op.Txn, rest, out.Txn)
		}
		if err != nil {
			return nil, err
		}
	}
	return rest, nil
}

func (t *Tx) put(req *wire.PutRequest) *wire.PutResponse {
	resp := new(wire.PutResponse)
	prev := t.Put(req)
	resp.Header.Revision = int64(t.Revision())
	if req.PrevKV {
		resp.PrevKV = prev
	}
	return resp
}

func (t *Tx) deleteRange(req *wire.DeleteRangeRequest) *wire.DeleteRangeResponse {
	resp := new(wire.DeleteRangeResponse)
	n, prev := t.DeleteRange(req.Key, req.RangeEnd)
	resp.Header.Revision = int64(t.Revision())
	resp.Deleted = n
	if req.PrevKV {
		resp.PrevKVs = prev
	}
	return resp
}

// Txn answers a transaction of ranges only (no nested transactions; the caller has checked that and its form). Compares and
// ranges see the view. Errors: fault.Compacted, fault.FutureRev, Stale, and failures of the disk.
func (v *View) Txn(req *wire.TxnRequest) (*wire.TxnResponse, error) {
	defer v.era.KeepAlive()
	taken, err := v.holds(req.Compare)
	if err != nil {
		return nil, err
	}
	ops := branch(req, taken)
	for i := range ops {
		if err := v.checkRevision(ops[i].Range.Revision); err != nil {
			return nil, err
		}
	}
	resp := &wire.TxnResponse{Header: wire.Header{Revision: int64(v.rev)}, Succeeded: taken}
	if len(ops) > 0 {
		resp.Responses = make([]wire.ResponseOp, len(ops))
	}
	for i := range ops {
		if resp.Responses[i].Range, err = v.Range(ops[i].Range); err != nil {
			return nil, err
		}
	}
	return resp, nil
}
