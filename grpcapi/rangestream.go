package grpcapi

import (
	"context"
	"errors"
	"io"
	"math"

	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/wire"
)

// firstChunkKeys is how many keys the first message of a RangeStream has at most (as etcd's).
const firstChunkKeys = 10

// rangeChunk is etcdserverpb.RangeStreamResponse: field 1 is the RangeResponse.
type rangeChunk struct{ wire.RangeResponse }

// Size is the length of what Append writes, in bytes.
func (m *rangeChunk) Size() int {
	return (&wire.ResponseOp{Range: &m.RangeResponse}).Size()
}

// Append appends the encoded message to dst.
func (m *rangeChunk) Append(dst []byte) []byte {
	return (&wire.ResponseOp{Range: &m.RangeResponse}).Append(dst)
}

// one receives the only message of a server stream.
func one(st *rpc.Stream) ([]byte, *rpc.Status) {
	msg, err := st.Recv()
	switch {
	case err == nil:
		witnessOf(st).ask(msg)
		return msg, nil
	case errors.Is(err, io.EOF):
		return nil, malformed(errors.New("the stream ended before its request"))
	}
	return nil, statusOf(err)
}

// await blocks until everything acknowledged before is readable, or ctx ends.
func (v *Services) await(ctx context.Context) error {
	done := make(chan error, 1)
	v.Node.Read(func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (v *Services) handleRangeStream(st *rpc.Stream, d *door) *rpc.Status {
	msg, status := one(st)
	if status != nil {
		return status
	}
	var req wire.RangeRequest
	if err := req.Unmarshal(msg); err != nil {
		return malformed(err)
	}
	if err := checkRangeStream(&req); err != nil {
		return statusOf(err)
	}
	if !req.Serializable || v.behind(req.Revision) {
		if err := v.await(st.Context()); err != nil && !req.Serializable {
			return statusOf(err)
		}
	}
	if err := v.streamRange(st, d, &req); err != nil {
		return statusOf(err)
	}
	return nil
}

// streamRange sends a range in chunks, all from one View, which pins their revision. Only the last message carries header,
// count and more. A compaction that overtakes the scan ends it with fault.Compacted.
func (v *Services) streamRange(st *rpc.Stream, d *door, req *wire.RangeRequest) error {
	var scan *mvcc.Scan
	if err := v.fresh(func(view *state.View) (err error) {
		who := d.proveStream(st)
		if err := who.may(view, &auth.Request{Ops: []auth.Op{auth.OfRange(req)}}); err != nil {
			return err
		}
		scan, err = view.Scan(req)
		return err
	}); err != nil {
		return err
	}
	out := new(rangeChunk)
	sent := int64(0)
	for limit := firstChunkKeys; ; {
		kvs, done, err := scan.Page(out.KVs[:0], limit, math.MaxInt)
		out.KVs = kvs
		if sent += int64(len(kvs)); err == nil && done {
			err = v.finishChunk(out, scan, sent)
		}
		if errors.Is(err, mvcc.Stale) {
			err = fault.Compacted
		}
		if err != nil {
			return err
		}
		size := out.Size()
		if err := st.Send(out); err != nil || done {
			return err
		}
		limit = nextChunk(limit, size, v.Settings.MaxRequestBytes)
	}
}

// finishChunk fills in what only the last message carries.
func (v *Services) finishChunk(out *rangeChunk, scan *mvcc.Scan, sent int64) (err error) {
	out.Header = v.header(ids.Revision(scan.Revision()))
	out.Count, out.More = sent, scan.More()
	if out.More || sent == 0 {
		out.Count, err = scan.Count()
	}
	return err
}

// nextChunk aims at chunks of about target bytes without reacting to every record's size (as etcd's).
func nextChunk(limit, size, target int) int {
	switch {
	case size < target/2:
		limit *= 2
	case size > target*2:
		limit /= 2
	}
	return max(limit, 1)
}
