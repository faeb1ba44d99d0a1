package grpcapi

import (
	"errors"
	"math"
	"runtime"

	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/wire"
)

// read is one Range or read-only Txn between its arrival and its answer. The object owns a copy of the request's bytes,
// since the barrier may answer after they are gone, and is used again.
type read struct {
	services *Services
	call     *rpc.Call
	who      asker
	buf      []byte
	isTxn    bool
	large    bool // a worker answers
	scan     wire.RangeRequest
	txn      wire.TxnRequest
	found    wire.RangeResponse
	resume   func(error) // r.run, bound once
	late     func(error) // r.runLate, bound once
}

func newRead(v *Services) *read {
	r := &read{services: v}
	r.resume, r.late = r.run, r.runLate
	return r
}

// readBufferBytes is the largest request buffer that an idle read object keeps.
const readBufferBytes = 16 << 10

func (r *read) release() {
	v := r.services
	if cap(r.buf) > readBufferBytes {
		r.buf = nil
	}
	clear(r.found.KVs) // the records may be replaced while the object is idle
	if cap(r.found.KVs) > limits.RangeInlineRecords {
		r.found.KVs = nil
	}
	r.call, r.who, r.scan, r.txn = nil, asker{}, wire.RangeRequest{}, wire.TxnRequest{}
	v.reads.Put(r)
}

// fail answers with err and gives the object back.
func (r *read) fail(s *rpc.Status) {
	r.call.Fail(s)
	r.release()
}

func (v *Services) newRead(c *rpc.Call, who asker, msg []byte) *read {
	r := v.reads.Get().(*read)
	r.call, r.who = c, who
	r.buf = append(r.buf[:0], msg...)
	return r
}

func (v *Services) handleRange(c *rpc.Call, who asker, msg []byte) {
	r := v.newRead(c, who, msg)
	r.isTxn = false
	if err := r.scan.Unmarshal(r.buf); err != nil {
		r.fail(malformed(err))
		return
	}
	if err := checkRange(&r.scan); err != nil {
		r.fail(statusOf(err))
		return
	}
	r.begin(r.scan.Serializable, r.scan.Revision)
}

// readTxn answers a checked read-only transaction from a View.
func (v *Services) readTxn(c *rpc.Call, who asker, msg []byte, serializable bool) {
	r := v.newRead(c, who, msg)
	r.isTxn = true
	if err := r.txn.Unmarshal(r.buf); err != nil {
		r.fail(malformed(err))
		return
	}
	r.begin(serializable, newest(&r.txn))
}

// begin waits for the barrier where the request asks for it. A serializable read names the newest revision that it wants: if this
// member has not heard of it yet, another one that answered before has (client/v3/concurrency reads so), and the barrier is how to
// get there.
func (r *read) begin(serializable bool, revision int64) {
	switch {
	case !serializable:
		r.services.Node.Read(r.resume)
	case r.services.behind(revision):
		r.services.Node.Read(r.late)
	default:
		r.run(nil)
	}
}

// behind says whether this member has not heard of a revision.
func (v *Services) behind(revision int64) bool { return revision > int64(v.Store.View().Revision()) }

// runLate answers with what is there, also without a barrier: who asks for a serializable read is answered by a member that is cut off.
func (r *read) runLate(error) { r.run(nil) }

// run answers behind the barrier: at once when that is quick, else through the lane.
func (r *read) run(err error) {
	if err != nil {
		r.fail(statusOf(err))
		return
	}
	view := r.services.Store.View()
	if r.isTxn && quickTxn(view, &r.txn) || !r.isTxn && quick(view, &r.scan) {
		r.large = false
		r.answer()
		return
	}
	r.large = true
	if err := r.services.lane.add(r.answer); err != nil {
		r.fail(statusOf(err))
	}
}

func (r *read) answer() {
	err := r.services.fresh(func(view *state.View) error {
		if err := r.permitted(view); err != nil {
			return err
		}
		if r.isTxn {
			return r.answerTxn(view)
		}
		return r.answerRange(view)
	})
	if err != nil {
		r.fail(statusOf(err))
		return
	}
	r.release()
}

// permitted decides the read by the View that it reads.
func (r *read) permitted(view *state.View) error {
	if r.isTxn {
		return r.who.may(view, &auth.Request{Ops: []auth.Op{auth.OfTxn(&r.txn)}})
	}
	return r.who.may(view, &auth.Request{Ops: []auth.Op{auth.OfRange(&r.scan)}})
}

// fresh runs a read on the newest View, again if a compaction overtakes it.
func (v *Services) fresh(read func(*state.View) error) error {
	for {
		err := read(v.Store.View())
		if !errors.Is(err, mvcc.Stale) {
			return err
		}
		runtime.Gosched() // a newer View is about to be published
	}
}

func (r *read) answerTxn(view *state.View) error {
	resp, err := view.Txn(&r.txn)
	if err != nil {
		return err
	}
	resp.Header = r.services.header(ids.Revision(resp.Header.Revision))
	if size := resp.Size(); size > math.MaxInt32 {
		return answerTooLarge(size)
	}
	r.call.Reply(resp)
	return nil
}

// answerRange sends a range response: in pieces when it is large, so that its bytes are never in memory twice.
func (r *read) answerRange(view *state.View) error {
	if r.large && pageable(&r.scan) {
		return r.answerPages(view)
	}
	resp := &r.found
	*resp = wire.RangeResponse{KVs: resp.KVs[:0]}
	if err := view.RangeInto(&r.scan, resp); err != nil {
		return err
	}
	resp.Header = r.services.header(ids.Revision(resp.Header.Revision))
	return r.reply(resp)
}

// reply sends a response whose records are in memory.
func (r *read) reply(resp *wire.RangeResponse) error {
	r.found.KVs = resp.KVs
	size := resp.Size()
	switch {
	case size <= limits.RangeReplyBytes:
		r.call.Reply(resp)
	case size > math.MaxInt32:
		return answerTooLarge(size)
	default:
		p := newPieces(resp)
		r.found.KVs = nil // they belong to p now
		r.call.ReplyStream(size, p.next)
	}
	return nil
}

// pieces writes a RangeResponse a few records at a time. Header first, records, then the rest: the order of Append.
type pieces struct {
	head, tail wire.RangeResponse
	kvs        [][]byte
	begun      bool
	follow     bool // more records will follow those in kvs
}

func newPieces(resp *wire.RangeResponse) *pieces {
	return &pieces{
		head: wire.RangeResponse{Header: resp.Header},
		kvs:  resp.KVs,
		tail: wire.RangeResponse{More: resp.More, Count: resp.Count},
	}
}

func (p *pieces) next(dst []byte) ([]byte, bool) {
	if !p.begun {
		p.begun = true
		dst = p.head.Append(dst)
	}
	part := wire.RangeResponse{}
	n, bytes := 0, 0
	for n < len(p.kvs) && bytes < limits.RangePieceBytes {
		bytes += len(p.kvs[n])
		n++
	}
	part.KVs, p.kvs = p.kvs[:n], p.kvs[n:]
	dst = part.Append(dst)
	if len(p.kvs) > 0 || p.follow {
		return dst, true
	}
	return p.tail.Append(dst), false
}

// quick says whether a range is answered in about the time that a point read takes, by the number of records it touches:
// those it returns, or all in the range when they have to be filtered or sorted first.
func quick(view *state.View, r *wire.RangeRequest) bool {
	if len(r.RangeEnd) == 0 {
		return true
	}
	// At the current revision a count costs nothing and a limit bounds the work. At an older one both may need every key.
	current := r.Revision <= 0 || r.Revision == int64(view.Revision())
	if current && !filtered(r) && ordered(r) && (r.CountOnly || 0 < r.Limit && r.Limit <= limits.RangeInlineRecords) {
		return true
	}
	n, err := view.Count(r.Key, r.RangeEnd, 0) // stands for that of an older revision, too
	return err != nil || n <= limits.RangeInlineRecords
}

func quickTxn(view *state.View, r *wire.TxnRequest) bool {
	for _, branch := range [][]wire.RequestOp{r.Success, r.Failure} {
		for i := range branch {
			if op := branch[i].Range; op != nil && !quick(view, op) {
				return false
			}
		}
	}
	for i := range r.Compare {
		if len(r.Compare[i].RangeEnd) > 0 && !quick(view, &wire.RangeRequest{Key: r.Compare[i].Key, RangeEnd: r.Compare[i].RangeEnd}) {
			return false
		}
	}
	return true
}
