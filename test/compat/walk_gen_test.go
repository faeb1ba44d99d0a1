package compat

import (
	"fmt"
	"math/rand/v2"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// generator makes random requests. It knows as much of the store as it needs to be wrong only when it wants to be: the
// current and the compacted revision and the ids of live leases.
type generator struct {
	*rand.Rand
	revision, compacted int64
	leases              []int64
	nextLease           int64
	// inTxn forbids what makes etcd itself panic: deleting everything from a key on, in a transaction that also puts that
	// key with ignore_value or ignore_lease, which etcd's check for duplicates does not notice.
	inTxn bool
}

// chance is true with a probability of p in 100.
func (g *generator) chance(p int) bool { return g.IntN(100) < p }

// key is one of 40 keys, two of them at the ends of the key space; rarely none.
func (g *generator) key() []byte {
	switch n := g.IntN(1000); {
	case n < 5:
		return nil
	case n < 15:
		return []byte{0}
	case n < 25:
		return []byte{0xff, 0xfe}
	}
	return fmt.Appendf(nil, "k%02d", g.IntN(38))
}

// interval is a single key, a pair in the right order, everything from a key on, a prefix, or a pair in the wrong order.
func (g *generator) interval() (key, end []byte) {
	key = g.key()
	switch n := g.IntN(100); {
	case n < 45:
		return key, nil
	case n < 75:
		if end = g.key(); g.inTxn && len(end) == 1 {
			end = nil // a zero byte, which means no end
		}
		return key, end
	case n < 80 && !g.inTxn:
		return key, []byte{0}
	case n < 82 && !g.inTxn:
		return []byte{0}, []byte{0}
	case n < 92:
		return fmt.Appendf(nil, "k%d", g.IntN(4)), fmt.Appendf(nil, "k%d", 1+g.IntN(4))
	}
	return []byte("k"), []byte("l")
}

// anyRevision is mostly one that can be read, sometimes a compacted, future or negative one.
func (g *generator) anyRevision() int64 {
	switch n := g.IntN(100); {
	case n < 60:
		return 0
	case n < 93:
		return g.readable()
	case n < 96:
		return g.Int64N(max(g.compacted, 1)) + 1
	case n < 99:
		return g.revision + 1 + g.Int64N(3)
	}
	return -1 - g.Int64N(3)
}

// readable is a revision between the compacted and the current one.
func (g *generator) readable() int64 {
	low := max(g.compacted, 1)
	return low + g.Int64N(g.revision-low+1)
}

func (g *generator) value() []byte {
	switch n := g.IntN(100); {
	case n < 10:
		return nil
	case n < 80:
		return fmt.Appendf(nil, "v%d", g.IntN(20))
	}
	b := make([]byte, g.IntN(300))
	for i := range b {
		b[i] = byte(g.IntN(256))
	}
	return b
}

// lease is a live one, or rarely one that does not exist.
func (g *generator) lease() int64 {
	if len(g.leases) == 0 || g.chance(4) {
		return 99_000_000 + g.Int64N(5)
	}
	return g.leases[g.IntN(len(g.leases))]
}

func (g *generator) put() *pb.PutRequest {
	r := &pb.PutRequest{Key: g.key(), Value: g.value(), PrevKv: g.chance(25)}
	if g.chance(15) {
		r.Lease = g.lease()
	}
	if g.chance(6) {
		r.IgnoreLease = true
		if g.chance(90) {
			r.Lease = 0
		}
	}
	if g.chance(6) {
		r.IgnoreValue = true
		if g.chance(90) {
			r.Value = nil
		}
	}
	return r
}

func (g *generator) readRange() *pb.RangeRequest {
	r := &pb.RangeRequest{Revision: g.anyRevision(), Serializable: g.chance(30), KeysOnly: g.chance(20), CountOnly: g.chance(10)}
	r.Key, r.RangeEnd = g.interval()
	if g.chance(40) {
		r.Limit = int64(g.IntN(12)) - 1
	}
	if g.chance(35) {
		r.SortOrder = pb.RangeRequest_SortOrder(g.IntN(3))
		r.SortTarget = pb.RangeRequest_SortTarget(g.IntN(5))
	}
	if g.chance(1) {
		r.SortTarget = 7
	}
	for _, filter := range []*int64{&r.MinModRevision, &r.MaxModRevision, &r.MinCreateRevision, &r.MaxCreateRevision} {
		if g.chance(8) {
			*filter = g.Int64N(g.revision+2) - 1
		}
	}
	return r
}

// streamRange is a Range that RangeStream accepts, mostly.
func (g *generator) streamRange() *pb.RangeRequest {
	r := g.readRange()
	if r.SortOrder == pb.RangeRequest_NONE {
		// etcd sorts each piece of the stream by the target and goes on after the piece's last key: keys come twice.
		r.SortTarget = pb.RangeRequest_KEY
	}
	if g.chance(85) {
		r.SortOrder, r.SortTarget = 0, 0
		r.MinModRevision, r.MaxModRevision, r.MinCreateRevision, r.MaxCreateRevision = 0, 0, 0, 0
	}
	return r
}

func (g *generator) deleteRange() *pb.DeleteRangeRequest {
	r := &pb.DeleteRangeRequest{PrevKv: g.chance(30)}
	r.Key, r.RangeEnd = g.interval()
	if len(r.RangeEnd) > 0 && g.chance(60) {
		r.RangeEnd = nil // keep the store filled
	}
	return r
}

func (g *generator) compare() *pb.Compare {
	c := &pb.Compare{Result: pb.Compare_CompareResult(g.IntN(4)), Key: g.key()}
	if g.chance(20) {
		c.Key, c.RangeEnd = g.interval()
	}
	switch g.IntN(5) {
	case 0:
		c.Target, c.TargetUnion = pb.Compare_VERSION, &pb.Compare_Version{Version: g.Int64N(4)}
	case 1:
		c.Target, c.TargetUnion = pb.Compare_CREATE, &pb.Compare_CreateRevision{CreateRevision: g.Int64N(g.revision + 1)}
	case 2:
		c.Target, c.TargetUnion = pb.Compare_MOD, &pb.Compare_ModRevision{ModRevision: g.Int64N(g.revision + 1)}
	case 3:
		c.Target, c.TargetUnion = pb.Compare_VALUE, &pb.Compare_Value{Value: g.value()}
	case 4:
		c.Target, c.TargetUnion = pb.Compare_LEASE, &pb.Compare_Lease{Lease: g.lease()}
	}
	return c
}

// txn makes a transaction with at most depth levels below it.
func (g *generator) txn(depth int) *pb.TxnRequest {
	outer := g.inTxn
	g.inTxn = true
	defer func() { g.inTxn = outer }()
	r := &pb.TxnRequest{}
	for range g.IntN(3) {
		r.Compare = append(r.Compare, g.compare())
	}
	for range g.IntN(5) {
		r.Success = append(r.Success, g.op(depth))
	}
	for range g.IntN(4) {
		r.Failure = append(r.Failure, g.op(depth))
	}
	return r
}

func (g *generator) op(depth int) *pb.RequestOp {
	switch n := g.IntN(100); {
	case n < 42:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: g.put()}}
	case n < 70:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: g.readRange()}}
	case n < 86 || depth == 0:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: g.deleteRange()}}
	}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: g.txn(depth - 1)}}
}

// grant asks for a lease that outlives the walk.
func (g *generator) grant() *pb.LeaseGrantRequest {
	g.nextLease++
	id := g.nextLease
	if len(g.leases) > 0 && g.chance(5) {
		id = g.leases[0]
	}
	return &pb.LeaseGrantRequest{ID: id, TTL: 10_000 + g.Int64N(90_000)}
}

func (g *generator) watchCreate() *pb.WatchCreateRequest {
	r := &pb.WatchCreateRequest{PrevKv: g.chance(30), Fragment: g.chance(20)}
	r.Key, r.RangeEnd = g.interval()
	switch n := g.IntN(100); {
	case n < 35:
	case n < 80:
		r.StartRevision = g.readable()
	case n < 85:
		r.StartRevision = g.Int64N(max(g.compacted, 1)) + 1
	case n < 97:
		r.StartRevision = g.revision + 1 + g.Int64N(60)
	default:
		r.StartRevision = -1 - g.Int64N(3)
	}
	if g.chance(10) {
		r.Filters = append(r.Filters, pb.WatchCreateRequest_FilterType(g.IntN(2)))
	}
	if g.chance(15) {
		r.WatchId = 1 + g.Int64N(12)
	}
	return r
}
