package load

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/wire"
)

var streamKinds = []Kind{{
	Name: "stream", Summary: "Read all keys in one request: RangeStream, or one big Range with --unary",
	Detail: "Each request reads the whole prefix. The answer is taken as it arrives and not kept, so its size does not matter to the\n" +
		"client. extra.first_byte_ms is the median time to the first byte, extra.keys the keys of the last answer.",
	Example: "quorate bench stream --total 5\nquorate bench stream --unary --total 5",
	make:    func(*run) workload { return new(streamWork) },
}}

type streamWork struct {
	plain
	mu    sync.Mutex
	first Histogram
	keys  int64
}

func (w *streamWork) job(r *run, _ int) (job, transport) {
	j := &streamJob{w: w, method: lean.RangeStream}
	if r.o.Work.Unary {
		j.method = lean.Range
	}
	j.req = wire.RangeRequest{Key: []byte(r.o.Data.Prefix), RangeEnd: r.o.Data.space().end(), Limit: r.o.Work.Limit,
		Serializable: r.o.Work.Serializable, KeysOnly: r.o.Work.KeysOnly}
	return j, download
}

func (w *streamWork) finish(_ context.Context, _ *run, res *Result) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	res.Extra["keys"] = float64(w.keys)
	if w.first.Count() > 0 {
		res.Extra["first_byte_ms"] = round(millis(w.first.Quantile(0.5)), 4)
		res.Extra["first_byte_max_ms"] = round(millis(w.first.Max()), 4)
	}
	return nil
}

type streamJob struct {
	w      *streamWork
	method lean.Method
	req    wire.RangeRequest

	bytes int
	scan  keyScanner
}

func (j *streamJob) next(int64, time.Duration) (lean.Method, lean.Message, bool) {
	j.bytes = 0
	j.scan = keyScanner{nested: j.method == lean.RangeStream}
	j.scan.begin()
	return j.method, &j.req, true
}

// piece implements pieceTaker.
func (j *streamJob) piece(p []byte, left int, since time.Duration) {
	if j.bytes == 0 {
		j.w.mu.Lock()
		j.w.first.Add(since)
		j.w.mu.Unlock()
	}
	j.bytes += len(p)
	j.scan.feed(p)
	if left == 0 {
		j.scan.begin()
	}
}

func (j *streamJob) done(_ []byte, err error) (int, error) {
	if err != nil {
		return 0, nil
	}
	if j.scan.bad || j.bytes == 0 {
		return 0, errScan
	}
	j.w.mu.Lock()
	j.w.keys = j.scan.keys
	j.w.mu.Unlock()
	return j.bytes, nil
}

var errScan = errors.New("the answer is not a RangeResponse")

// keyScanner counts the keys of a RangeResponse, or of RangeStreamResponses around them, that arrive in pieces.
type keyScanner struct {
	nested bool // RangeStreamResponse: field 1 holds a RangeResponse
	keys   int64
	bad    bool

	outer  bool   // the next field is one of a RangeStreamResponse
	tag    uint64 // of the field under way, 0 before it is known
	skip   uint64 // payload bytes to leave out
	number [binary.MaxVarintLen64]byte
	have   int // bytes of number
}

// begin is the beginning of a message.
func (k *keyScanner) begin() {
	k.bad = k.bad || k.skip > 0 || k.have > 0 || k.tag != 0
	k.outer, k.tag, k.skip, k.have = k.nested, 0, 0, 0
}

// Tags of RangeResponse and RangeStreamResponse, and protobuf's wire types.
const (
	tagInner   = 1<<3 | typeBytes
	tagKVs     = 2<<3 | typeBytes
	typeVarint = 0
	typeBytes  = 2
)

func (k *keyScanner) feed(p []byte) {
	for len(p) > 0 && !k.bad {
		if k.skip > 0 {
			n := min(k.skip, uint64(len(p)))
			k.skip -= n
			p = p[n:]
			continue
		}
		k.number[k.have] = p[0]
		k.have++
		last := p[0] < 0x80
		p = p[1:]
		switch {
		case last:
			v, _ := binary.Uvarint(k.number[:k.have])
			k.have = 0
			k.value(v)
		case k.have == len(k.number):
			k.bad = true
		}
	}
}

// value takes a varint: a tag, a length, or a field of its own.
func (k *keyScanner) value(v uint64) {
	switch {
	case k.tag == 0:
		k.tag = v
		k.bad = v>>3 == 0 || v&7 != typeVarint && v&7 != typeBytes
	case k.tag&7 == typeVarint:
		k.tag = 0
	case k.outer && k.tag == tagInner:
		k.outer, k.tag = false, 0
	default:
		if k.tag == tagKVs && !k.outer {
			k.keys++
		}
		k.skip, k.tag = v, 0
	}
}
