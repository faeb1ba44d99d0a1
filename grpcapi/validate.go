package grpcapi

import (
	"bytes"
	"slices"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/wire"
)

// The checks below and their order are etcd's (source: etcd v3.7 server/etcdserver/api/v3rpc/key.go), because the first
// one that fails decides the error.

func checkRange(r *wire.RangeRequest) error {
	switch {
	case len(r.Key) == 0:
		return fault.EmptyKey
	case r.SortOrder < wire.SortNone || r.SortOrder > wire.SortDescend:
		return fault.InvalidSortOption
	case r.SortTarget < wire.SortByKey || r.SortTarget > wire.SortByValue:
		return fault.InvalidSortOption
	}
	return nil
}

func checkRangeStream(r *wire.RangeRequest) error {
	if err := checkRange(r); err != nil {
		return err
	}
	if !ordered(r) {
		return fault.StreamSort
	}
	if filtered(r) {
		return fault.StreamFilters
	}
	return nil
}

// ordered says whether the request wants keys in the order of the index.
func ordered(r *wire.RangeRequest) bool {
	return r.SortOrder == wire.SortNone || r.SortTarget == wire.SortByKey && r.SortOrder == wire.SortAscend
}

func filtered(r *wire.RangeRequest) bool {
	return r.MinModRevision != 0 || r.MaxModRevision != 0 || r.MinCreateRevision != 0 || r.MaxCreateRevision != 0
}

func checkPut(r *wire.PutRequest) error {
	switch {
	case len(r.Key) == 0:
		return fault.EmptyKey
	case r.IgnoreValue && len(r.Value) != 0:
		return fault.ValueProvided
	case r.IgnoreLease && r.Lease != 0:
		return fault.LeaseProvided
	}
	return nil
}

func checkDelete(r *wire.DeleteRangeRequest) error {
	if len(r.Key) == 0 {
		return fault.EmptyKey
	}
	return nil
}

// checkTxn checks a transaction of at most ops operations in any list, the nested ones within what their parent left.
func checkTxn(r *wire.TxnRequest, ops int) error {
	if err := checkOps(r, ops); err != nil {
		return err
	}
	// Overlaps come second: only a transaction of bounded size is searched for them.
	if _, err := checkOverlap(r.Success); err != nil {
		return err
	}
	_, err := checkOverlap(r.Failure)
	return err
}

func checkOps(r *wire.TxnRequest, ops int) error {
	most := max(len(r.Compare), len(r.Success), len(r.Failure))
	if most > ops {
		return fault.TooManyOps
	}
	for i := range r.Compare {
		if len(r.Compare[i].Key) == 0 {
			return fault.EmptyKey
		}
	}
	for _, branch := range [][]wire.RequestOp{r.Success, r.Failure} {
		for i := range branch {
			if err := checkOp(&branch[i], ops-most); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkOp(op *wire.RequestOp, ops int) error {
	switch {
	case op.Range != nil:
		return checkRange(op.Range)
	case op.Put != nil:
		return checkPut(op.Put)
	case op.DeleteRange != nil:
		return checkDelete(op.DeleteRange)
	case op.Txn != nil:
		return checkOps(op.Txn, ops)
	}
	return fault.KeyNotFound
}

// interval is the keys of one delete: [key, end), or key alone when end is empty. An end of "\x00", which deletes everything
// from key on, contains nothing here: etcd lets a transaction delete such a range and put a key in it.
type interval struct{ key, end []byte }

func (v interval) contains(key []byte) bool {
	if len(v.end) == 0 {
		return bytes.Equal(v.key, key)
	}
	return bytes.Compare(v.key, key) <= 0 && bytes.Compare(key, v.end) < 0
}

// touched is what a list of operations, with all that nests in it, puts and deletes.
type touched struct {
	puts map[string]struct{}
	dels []interval
}

func (t *touched) deletes(key string) bool {
	return slices.ContainsFunc(t.dels, func(v interval) bool { return v.contains([]byte(key)) })
}

// checkOverlap refuses a list that puts a key twice, or puts a key that it also deletes, in whatever order. The two
// branches of one nested transaction may put the same key, since only one of them happens. Like etcd's, the check sees a
// put beside an earlier nested delete, but not a nested put beside a later nested delete.
func checkOverlap(ops []wire.RequestOp) (touched, error) {
	var t touched
	if len(ops) == 1 && ops[0].Txn == nil { // the usual branch
		return single(&ops[0]), nil
	}
	t.puts = map[string]struct{}{}
	for i := range ops {
		if d := ops[i].DeleteRange; d != nil {
			t.dels = append(t.dels, interval{d.Key, d.RangeEnd})
		}
	}
	for i := range ops {
		if n := ops[i].Txn; n != nil {
			if err := t.nested(n); err != nil {
				return t, err
			}
		}
	}
	for i := range ops {
		if p := ops[i].Put; p != nil {
			if _, twice := t.puts[string(p.Key)]; twice || t.deletes(string(p.Key)) {
				return t, fault.DuplicateKey
			}
			t.puts[string(p.Key)] = struct{}{}
		}
	}
	return t, nil
}

func single(op *wire.RequestOp) (t touched) {
	switch {
	case op.Put != nil:
		t.puts = map[string]struct{}{string(op.Put.Key): {}}
	case op.DeleteRange != nil:
		t.dels = []interval{{op.DeleteRange.Key, op.DeleteRange.RangeEnd}}
	}
	return t
}

// nested adds what a nested transaction touches.
func (t *touched) nested(n *wire.TxnRequest) error {
	then, err := checkOverlap(n.Success)
	if err != nil {
		return err
	}
	otherwise, err := checkOverlap(n.Failure)
	if err != nil {
		return err
	}
	for key := range then.puts {
		if _, twice := t.puts[key]; twice || t.deletes(key) {
			return fault.DuplicateKey
		}
	}
	for key := range otherwise.puts {
		if _, twice := t.puts[key]; twice || t.deletes(key) {
			return fault.DuplicateKey
		}
	}
	for key := range then.puts {
		t.puts[key] = struct{}{}
	}
	for key := range otherwise.puts {
		t.puts[key] = struct{}{}
	}
	t.dels = append(append(t.dels, then.dels...), otherwise.dels...)
	return nil
}

// readOnly says whether a transaction can be answered from a View: nothing but ranges in both branches, none nested.
func readOnly(r *wire.TxnRequest) bool {
	for _, branch := range [][]wire.RequestOp{r.Success, r.Failure} {
		for i := range branch {
			if branch[i].Range == nil {
				return false
			}
		}
	}
	return true
}

// serializable says whether a read-only transaction asks for no barrier: all its ranges are serializable.
func serializable(r *wire.TxnRequest) bool {
	for _, branch := range [][]wire.RequestOp{r.Success, r.Failure} {
		for i := range branch {
			if op := branch[i].Range; op != nil && !op.Serializable {
				return false
			}
		}
	}
	return true
}

// newest is the newest revision that the ranges of a read-only transaction name; 0 when they name none.
func newest(r *wire.TxnRequest) (revision int64) {
	for _, branch := range [][]wire.RequestOp{r.Success, r.Failure} {
		for i := range branch {
			if op := branch[i].Range; op != nil {
				revision = max(revision, op.Revision)
			}
		}
	}
	return revision
}
