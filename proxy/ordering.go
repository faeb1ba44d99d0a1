package proxy

import (
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protowire"
)

// ordering sees to it, when it is on, that serializable reads through this proxy never show an older store than one that an
// earlier answer of this proxy showed, whichever member answers. It is etcd's --experimental-serializable-ordering.
type ordering struct {
	on   bool
	seen atomic.Int64 // the highest revision of an answer
}

// Fields of etcdserverpb.
const (
	fieldHeader       = 1 // of every response
	fieldRevision     = 3 // of ResponseHeader
	fieldSerializable = 7 // of RangeRequest
)

// linearizable, appended to a RangeRequest, takes serializable back: the last value of a field counts.
var linearizable = protowire.AppendVarint(protowire.AppendTag(nil, fieldSerializable, protowire.VarintType), 0)

// floor is the revision that an answer from now on must have at least, 0 when that does not matter.
func (o *ordering) floor() int64 {
	if !o.on {
		return 0
	}
	return o.seen.Load()
}

// violated reports whether an answer is older than floor.
func (o *ordering) violated(body []byte, floor int64) bool {
	rev := revisionOf(body)
	return rev > 0 && rev < floor
}

// note remembers the revision of an answer.
func (o *ordering) note(body []byte) {
	if !o.on {
		return
	}
	for rev := revisionOf(body); ; {
		seen := o.seen.Load()
		if rev <= seen || o.seen.CompareAndSwap(seen, rev) {
			return
		}
	}
}

// raise makes floor the least revision of the answer.
func (e *errand) raise(floor int64) {
	for {
		old := e.floor.Load()
		if floor <= old || e.floor.CompareAndSwap(old, floor) {
			return
		}
	}
}

// revisionOf is the revision in the header of a response, 0 when there is none.
func revisionOf(body []byte) int64 {
	var rev int64
	eachField(body, func(num protowire.Number, kind protowire.Type, value []byte) {
		if num == fieldHeader && kind == protowire.BytesType {
			header, _ := protowire.ConsumeBytes(value)
			eachField(header, func(num protowire.Number, kind protowire.Type, value []byte) {
				if num == fieldRevision && kind == protowire.VarintType {
					v, _ := protowire.ConsumeVarint(value)
					rev = int64(v) //nolint:gosec // as protobuf encodes it
				}
			})
		}
	})
	return rev
}

// isSerializable reads the flag of a RangeRequest.
func isSerializable(msg []byte) (serializable bool) {
	eachField(msg, func(num protowire.Number, kind protowire.Type, value []byte) {
		if num == fieldSerializable && kind == protowire.VarintType {
			v, _ := protowire.ConsumeVarint(value)
			serializable = v != 0
		}
	})
	return serializable
}

// eachField calls f with every field of a message, as far as it can be read. value begins with a length for BytesType.
func eachField(msg []byte, f func(num protowire.Number, kind protowire.Type, value []byte)) {
	for len(msg) > 0 {
		num, kind, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return
		}
		m := protowire.ConsumeFieldValue(num, kind, msg[n:])
		if m < 0 {
			return
		}
		f(num, kind, msg[n:n+m])
		msg = msg[n+m:]
	}
}
