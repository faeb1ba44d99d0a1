package grpcapi

import (
	"context"

	"google.golang.org/protobuf/encoding/protowire"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/wire"
)

const (
	serviceLock   = "v3lockpb.Lock"
	lockProtoFile = "v3lock.proto"
)

func (v *Services) registerLock(s *rpc.Server) {
	v.unary(s, serviceLock, "Lock", func(c *rpc.Call, who asker, msg []byte) {
		var req lockRequest
		if err := req.unmarshal(msg); err != nil {
			c.Fail(malformed(err))
			return
		}
		go v.lock(c, who, &req)
	})
	v.unary(s, serviceLock, "Unlock", func(c *rpc.Call, who asker, msg []byte) {
		var req lockRequest // UnlockRequest is its first field: the key
		if err := req.unmarshal(msg); err != nil {
			c.Fail(malformed(err))
			return
		}
		go func() {
			o, err := v.remove(c.Context(), who, req.name)
			if err != nil {
				c.Fail(opaque(err))
				return
			}
			c.Reply(&headerReply{v.header(o.rev)})
		}()
	})
}

// lockRequest is v3lockpb.LockRequest.
type lockRequest struct {
	name  []byte // 1
	lease int64  // 2
}

func (r *lockRequest) unmarshal(b []byte) error {
	return eachField(b, func(num protowire.Number, typ protowire.Type, n uint64, data []byte) error {
		switch {
		case num == 1 && typ == protowire.BytesType:
			r.name = append([]byte(nil), data...)
		case num == 2 && typ == protowire.VarintType:
			r.lease = int64(n)
		}
		return nil
	})
}

// eachField calls f for each field of a message: n is a varint's value, data that of a length-delimited field and aliases b.
func eachField(b []byte, f func(num protowire.Number, typ protowire.Type, n uint64, data []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		var value uint64
		var data []byte
		switch typ {
		case protowire.VarintType:
			value, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			data, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if err := f(num, typ, value, data); err != nil {
			return err
		}
	}
	return nil
}

// lock queues the caller's key and answers when it is the oldest. When the caller gives up, the key goes.
func (v *Services) lock(c *rpc.Call, who asker, req *lockRequest) {
	ctx := c.Context()
	lease, err := v.session(ctx, who, req.lease)
	if err != nil {
		c.Fail(opaque(err))
		return
	}
	key := sessionKey(req.name, lease)
	rev, err := v.acquire(ctx, who, req.name, key, lease)
	if err != nil {
		c.Fail(opaque(err))
		return
	}
	// LockResponse has the header as field 1 and bytes as field 2, as PutResponse has.
	c.Reply(&wire.PutResponse{Header: v.header(rev), PrevKV: key})
}

// acquire takes the lock and returns the revision at which it was seen to be ours.
func (v *Services) acquire(ctx context.Context, who asker, name, key []byte, lease int64) (ids.Revision, error) {
	owner := wire.RequestOp{Range: first(name)}
	o, err := v.commit(ctx, who, &wire.TxnRequest{
		Compare: created(key, 0),
		Success: []wire.RequestOp{{Put: &wire.PutRequest{Key: key, Lease: lease}}, owner},
		Failure: []wire.RequestOp{{Range: &wire.RangeRequest{Key: key}}, owner},
	})
	if err != nil {
		return 0, err
	}
	mine := int64(o.rev)
	if !o.txn.Succeeded {
		mine = wire.CreateRevisionOf(o.txn.Responses[0].Range.KVs[0])
	}
	holder := o.txn.Responses[1].Range.KVs
	if len(holder) == 0 || wire.CreateRevisionOf(holder[0]) == mine {
		if ctx.Err() != nil && o.txn.Succeeded { // ours, but nobody is there to hear it
			v.giveUp(who, key)
		}
		return o.rev, ctx.Err()
	}
	if err := v.turn(ctx, who, name, mine); err != nil {
		v.giveUp(who, key)
		return 0, err
	}
	// The lease may have ended while we waited, and the key with it.
	resp, err := v.get(ctx, who, &wire.RangeRequest{Key: key})
	switch {
	case err != nil:
		v.giveUp(who, key)
		return 0, err
	case len(resp.KVs) == 0:
		return 0, errSessionExpired
	}
	return ids.Revision(resp.Header.Revision), nil
}

// giveUp removes a key that nobody waits with any more, for a caller who is gone.
func (v *Services) giveUp(who asker, key []byte) {
	_, _ = v.remove(context.Background(), who, key)
}
