package grpcapi

import (
	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/wire"
)

const serviceKV = "etcdserverpb.KV"

func (v *Services) registerKV(s *rpc.Server) {
	v.unary(s, serviceKV, "Range", v.handleRange)
	v.unary(s, serviceKV, "Put", v.handlePut)
	v.unary(s, serviceKV, "DeleteRange", v.handleDeleteRange)
	v.unary(s, serviceKV, "Txn", v.handleTxn)
	v.unary(s, serviceKV, "Compact", v.handleCompact)
	v.stream(s, serviceKV, "RangeStream", v.handleRangeStream)
}

// write is one Put, DeleteRange or Txn between proposal and answer. Objects are used again: Complete is the last to touch
// one.
type write struct {
	services *Services
	call     *rpc.Call
	kind     command.Kind
	previous bool // the client wants the replaced or deleted records
	put      wire.PutResponse
	deleted  wire.DeleteRangeResponse
	txn      wire.TxnResponse
}

func (v *Services) proposeWrite(c *rpc.Call, who asker, kind command.Kind, body []byte, previous bool) {
	w := v.writes.Get().(*write)
	w.call, w.kind, w.previous = c, kind, previous
	who.propose(kind, body, w)
}

// Complete answers the call with what the command did.
func (w *write) Complete(r *command.Result) {
	switch {
	case r.Err == fault.TooManyRequests:
		w.call.Refuse(statusOf(r.Err))
	case r.Err != nil:
		w.call.Fail(statusOf(r.Err))
	case w.kind == command.Put:
		w.put = wire.PutResponse{Header: w.services.header(r.Revision)}
		if w.previous {
			w.put.PrevKV = r.PrevKV
		}
		w.call.Reply(&w.put)
	case w.kind == command.DeleteRange:
		w.deleted = wire.DeleteRangeResponse{Header: w.services.header(r.Revision), Deleted: r.Deleted}
		if w.previous {
			w.deleted.PrevKVs = r.PrevKVs
		}
		w.call.Reply(&w.deleted)
	default:
		w.txn = *r.Txn
		w.txn.Header = w.services.header(ids.Revision(r.Txn.Header.Revision))
		w.call.Reply(&w.txn)
	}
	v := w.services
	*w = write{services: v}
	v.writes.Put(w)
}

func (v *Services) handlePut(c *rpc.Call, who asker, msg []byte) {
	var req wire.PutRequest
	if err := req.Unmarshal(msg); err != nil {
		c.Fail(malformed(err))
		return
	}
	if !v.admit(c, putCost(&req)) {
		return
	}
	if err := checkPut(&req); err != nil {
		c.Fail(statusOf(err))
		return
	}
	if who.admitted(c, msg, &auth.Request{Ops: []auth.Op{auth.OfPut(&req)}}) {
		v.proposeWrite(c, who, command.Put, msg, req.PrevKV)
	}
}

func (v *Services) handleDeleteRange(c *rpc.Call, who asker, msg []byte) {
	var req wire.DeleteRangeRequest
	if err := req.Unmarshal(msg); err != nil {
		c.Fail(malformed(err))
		return
	}
	if err := checkDelete(&req); err != nil {
		c.Fail(statusOf(err))
		return
	}
	if who.admitted(c, msg, &auth.Request{Ops: []auth.Op{auth.OfDelete(&req)}}) {
		v.proposeWrite(c, who, command.DeleteRange, msg, req.PrevKV)
	}
}

func (v *Services) handleTxn(c *rpc.Call, who asker, msg []byte) {
	if most := v.Settings.MaxTxnOps * limits.TxnElementsPerOp; wire.CountElements(msg, most) > most {
		c.Fail(statusOf(fault.TooManyOps))
		return
	}
	var req wire.TxnRequest
	if err := req.Unmarshal(msg); err != nil {
		c.Fail(malformed(err))
		return
	}
	if !v.admit(c, txnCost(&req)) {
		return
	}
	if err := checkTxn(&req, v.Settings.MaxTxnOps); err != nil {
		c.Fail(statusOf(err))
		return
	}
	if readOnly(&req) {
		v.readTxn(c, who, msg, serializable(&req))
		return
	}
	if who.admitted(c, msg, &auth.Request{Ops: []auth.Op{auth.OfTxn(&req)}}) {
		v.proposeWrite(c, who, command.Txn, msg, false)
	}
}

func (v *Services) handleCompact(c *rpc.Call, who asker, msg []byte) {
	var req wire.CompactionRequest
	if err := req.Unmarshal(msg); err != nil {
		c.Fail(malformed(err))
		return
	}
	who.propose(command.Compaction, msg, &compaction{v, c, req})
}

// compaction answers a Compact: when the compaction is logged and applied, or with physical set when the records are gone.
type compaction struct {
	services *Services
	call     *rpc.Call
	req      wire.CompactionRequest
}

func (w *compaction) Complete(r *command.Result) {
	if r.Err != nil {
		w.call.Fail(statusOf(r.Err))
		return
	}
	reply := &headerReply{w.services.header(r.Revision)}
	if !w.req.Physical {
		w.call.Reply(reply)
		return
	}
	w.services.Compactions.Scrubbed(ids.Revision(w.req.Revision), func() { w.call.Reply(reply) })
}

// headerReply is a response that has nothing but a header: those of Compact, LeaseRevoke, Unlock and others.
type headerReply struct{ wire.Header }

// Size is the length of what Append writes, in bytes.
func (m *headerReply) Size() int { return (&wire.PutResponse{Header: m.Header}).Size() }

// Append appends the encoded message to dst.
func (m *headerReply) Append(dst []byte) []byte {
	return (&wire.PutResponse{Header: m.Header}).Append(dst)
}
