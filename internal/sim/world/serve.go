package world

import (
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/check"
	"quorate.dev/quorate/wire"
)

// reply takes the answer to a request.
type reply func(check.Answer, error)

// waiter adapts a function to command.Waiter.
type waiter func(*command.Result)

// Complete implements command.Waiter.
func (f waiter) Complete(r *command.Result) { f(r) }

// serve does what the server does with a request: it proposes writes, and reads when that is linearizable.
func (m *Member) serve(who credential, q check.Request, ttl int64, answer reply) {
	switch q.Kind {
	case check.Range:
		m.serveRange(who, q, answer)
		return
	case check.Txn:
		if !writesAnything(q) {
			m.read(false, answer, func(floor ids.Index) {
				if err := m.readable(who, q, floor); err != nil {
					answer(check.Answer{}, err)
					return
				}
				answer(m.readTxn(q))
			})
			return
		}
	}
	kind, msg := proposal(q, ttl)
	body, err := proto.Marshal(msg)
	if err != nil {
		answer(check.Answer{}, err)
		return
	}
	done := waiter(func(r *command.Result) {
		if r.Err != nil {
			answer(check.Answer{}, r.Err)
			return
		}
		answer(m.answerOf(q, r))
	})
	m.admit(who, auth.Request{}, &q, func(err error) { answer(check.Answer{}, err) }, func(id auth.Identity) {
		m.drive.Host.ProposeAs(kind, body, id.User, id.Revision, done)
	})
}

// read calls then when what this member has applied is all that was acknowledged before; floor is an entry that is among it.
func (m *Member) read(stale bool, answer reply, then func(floor ids.Index)) {
	if stale {
		then(0)
		return
	}
	floor := m.w.applications.frontier()
	m.drive.Host.Read(func(err error) {
		if err != nil {
			answer(check.Answer{}, err)
			return
		}
		then(floor)
	})
}

func (m *Member) serveRange(who credential, q check.Request, answer reply) {
	m.read(q.Stale, answer, func(floor ids.Index) {
		if err := m.readable(who, q, floor); err != nil {
			answer(check.Answer{}, err)
			return
		}
		resp, err := m.state.View().Range(&wire.RangeRequest{Key: []byte(q.Key), RangeEnd: []byte(q.End), Revision: q.Revision, Limit: q.Limit})
		if err != nil {
			answer(check.Answer{}, err)
			return
		}
		resp.Header.Revision = int64(m.state.View().Revision())
		out := &etcdserverpb.RangeResponse{}
		if err := proto.Unmarshal(resp.Append(nil), out); err != nil {
			m.w.broken("a range's answer cannot be decoded: %v", err)
			return
		}
		answer(rangeAnswer(out), nil)
	})
}

func (m *Member) readTxn(q check.Request) (check.Answer, error) {
	body, err := proto.Marshal(txnOf(q))
	if err != nil {
		return check.Answer{}, err
	}
	req := &wire.TxnRequest{}
	if err := req.Unmarshal(body); err != nil {
		return check.Answer{}, err
	}
	resp, err := m.state.View().Txn(req)
	if err != nil {
		return check.Answer{}, err
	}
	return m.txnAnswer(resp)
}

func (m *Member) txnAnswer(resp *wire.TxnResponse) (check.Answer, error) {
	out := &etcdserverpb.TxnResponse{}
	if err := proto.Unmarshal(resp.Append(nil), out); err != nil {
		m.w.broken("a transaction's answer cannot be decoded: %v", err)
		return check.Answer{}, err
	}
	return txnAnswer(out), nil
}

func txnAnswer(out *etcdserverpb.TxnResponse) check.Answer {
	a := check.Answer{Revision: out.Header.GetRevision(), Succeeded: out.Succeeded}
	for _, part := range out.Responses {
		switch {
		case part.GetResponsePut() != nil:
			a.Parts = append(a.Parts, putAnswer(part.GetResponsePut()))
		case part.GetResponseDeleteRange() != nil:
			a.Parts = append(a.Parts, deleteAnswer(part.GetResponseDeleteRange()))
		case part.GetResponseTxn() != nil:
			a.Parts = append(a.Parts, txnAnswer(part.GetResponseTxn()))
		default:
			a.Parts = append(a.Parts, rangeAnswer(part.GetResponseRange()))
		}
	}
	return a
}

// answerOf is the answer to a write that took effect.
func (m *Member) answerOf(q check.Request, r *command.Result) (check.Answer, error) {
	a := check.Answer{Revision: int64(r.Revision)}
	switch q.Kind {
	case check.Put:
		if q.Prev && r.PrevKV != nil {
			a.KVs = m.w.kvs(r.PrevKV)
		}
	case check.Delete:
		a.Count = r.Deleted
		if q.Prev {
			a.KVs = m.w.kvs(r.PrevKVs...)
		}
	case check.Grant:
		a.Lease = int64(r.Lease)
	case check.Txn:
		return m.txnAnswer(r.Txn)
	}
	return a, nil
}

// renew keeps a lease alive, at the leader, as the server does it: it reads first.
func (m *Member) renew(id ids.LeaseID, done func(ttl int64, err error)) {
	if !m.drive.Host.Status().Self {
		done(0, fault.NotLeader)
		return
	}
	m.drive.Host.Read(func(err error) {
		if err != nil {
			done(0, err)
			return
		}
		m.duty.RenewAsync(id, done)
	})
}

// proposal is a request as the log has it.
func proposal(q check.Request, ttl int64) (command.Kind, proto.Message) {
	switch q.Kind {
	case check.Put:
		return command.Put, putOf(q)
	case check.Delete:
		return command.DeleteRange, deleteOf(q)
	case check.Grant:
		return command.LeaseGrant, &etcdserverpb.LeaseGrantRequest{ID: q.Lease, TTL: ttl}
	case check.Revoke:
		return command.LeaseRevoke, &etcdserverpb.LeaseRevokeRequest{ID: q.Lease}
	case check.Compact:
		return command.Compaction, &etcdserverpb.CompactionRequest{Revision: q.Revision}
	}
	return command.Txn, txnOf(q)
}

func putOf(q check.Request) *etcdserverpb.PutRequest {
	return &etcdserverpb.PutRequest{Key: []byte(q.Key), Value: []byte(q.Value), Lease: q.Lease, PrevKv: q.Prev}
}

func deleteOf(q check.Request) *etcdserverpb.DeleteRangeRequest {
	return &etcdserverpb.DeleteRangeRequest{Key: []byte(q.Key), RangeEnd: []byte(q.End), PrevKv: q.Prev}
}

func txnOf(q check.Request) *etcdserverpb.TxnRequest {
	t := &etcdserverpb.TxnRequest{Success: opsOf(q.Then), Failure: opsOf(q.Else)}
	for _, c := range q.If {
		t.Compare = append(t.Compare, compareOf(c))
	}
	return t
}

func opsOf(qs []check.Request) (out []*etcdserverpb.RequestOp) {
	for _, q := range qs {
		op := &etcdserverpb.RequestOp{}
		switch q.Kind {
		case check.Put:
			op.Request = &etcdserverpb.RequestOp_RequestPut{RequestPut: putOf(q)}
		case check.Delete:
			op.Request = &etcdserverpb.RequestOp_RequestDeleteRange{RequestDeleteRange: deleteOf(q)}
		case check.Txn:
			op.Request = &etcdserverpb.RequestOp_RequestTxn{RequestTxn: txnOf(q)}
		default:
			op.Request = &etcdserverpb.RequestOp_RequestRange{RequestRange: &etcdserverpb.RangeRequest{Key: []byte(q.Key), RangeEnd: []byte(q.End), Revision: q.Revision, Limit: q.Limit}}
		}
		out = append(out, op)
	}
	return out
}

func compareOf(c check.Compare) *etcdserverpb.Compare {
	out := &etcdserverpb.Compare{Key: []byte(c.Key)}
	switch c.Relation {
	case '=':
		out.Result = etcdserverpb.Compare_EQUAL
	case '!':
		out.Result = etcdserverpb.Compare_NOT_EQUAL
	case '<':
		out.Result = etcdserverpb.Compare_LESS
	default:
		out.Result = etcdserverpb.Compare_GREATER
	}
	switch c.Target {
	case check.ByVersion:
		out.Target, out.TargetUnion = etcdserverpb.Compare_VERSION, &etcdserverpb.Compare_Version{Version: c.Number}
	case check.ByCreate:
		out.Target, out.TargetUnion = etcdserverpb.Compare_CREATE, &etcdserverpb.Compare_CreateRevision{CreateRevision: c.Number}
	case check.ByMod:
		out.Target, out.TargetUnion = etcdserverpb.Compare_MOD, &etcdserverpb.Compare_ModRevision{ModRevision: c.Number}
	case check.ByLease:
		out.Target, out.TargetUnion = etcdserverpb.Compare_LEASE, &etcdserverpb.Compare_Lease{Lease: c.Number}
	default:
		out.Target, out.TargetUnion = etcdserverpb.Compare_VALUE, &etcdserverpb.Compare_Value{Value: []byte(c.Value)}
	}
	return out
}

func putAnswer(resp *etcdserverpb.PutResponse) check.Answer {
	a := check.Answer{Revision: resp.Header.GetRevision()}
	if resp.PrevKv != nil {
		a.KVs = []check.KV{kvOf(resp.PrevKv)}
	}
	return a
}

func deleteAnswer(resp *etcdserverpb.DeleteRangeResponse) check.Answer {
	return check.Answer{Revision: resp.Header.GetRevision(), Count: resp.Deleted, KVs: kvsOf(resp.PrevKvs)}
}

func rangeAnswer(resp *etcdserverpb.RangeResponse) check.Answer {
	return check.Answer{Revision: resp.Header.GetRevision(), Count: resp.Count, More: resp.More, KVs: kvsOf(resp.Kvs)}
}

func kvOf(kv *mvccpb.KeyValue) check.KV {
	return check.KV{Key: string(kv.Key), Value: string(kv.Value), Create: kv.CreateRevision, Mod: kv.ModRevision, Version: kv.Version, Lease: kv.Lease}
}

func kvsOf(kvs []*mvccpb.KeyValue) (out []check.KV) {
	for _, kv := range kvs {
		out = append(out, kvOf(kv))
	}
	return out
}

// kvs decodes keys and values in wire form.
func (w *World) kvs(encoded ...[]byte) (out []check.KV) {
	for _, b := range encoded {
		kv := &mvccpb.KeyValue{}
		if err := proto.Unmarshal(b, kv); err != nil {
			w.broken("a key and its value cannot be decoded: %v", err)
			return nil
		}
		out = append(out, kvOf(kv))
	}
	return out
}

func writesAnything(q check.Request) bool {
	for _, part := range append(append([]check.Request(nil), q.Then...), q.Else...) {
		if part.Kind != check.Range {
			return true
		}
	}
	return false
}

// certain reports whether an error says for certain that nothing happened.
func certain(err error) bool {
	if denied(err) {
		return true
	}
	for _, known := range []error{fault.LeaseNotFound, fault.LeaseExist, fault.Compacted, fault.FutureRev, fault.NoSpace, fault.TooManyRequests} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

const opTimeout = 3 * time.Second
