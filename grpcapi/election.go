package grpcapi

import (
	"bytes"
	"context"

	"google.golang.org/protobuf/encoding/protowire"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/wire"
)

const (
	serviceElection   = "v3electionpb.Election"
	electionProtoFile = "v3election.proto"
)

func (v *Services) registerElection(s *rpc.Server) {
	v.unary(s, serviceElection, "Campaign", v.candidacy((*electionRequest).campaignFields, v.campaign))
	v.unary(s, serviceElection, "Leader", v.candidacy((*electionRequest).campaignFields, v.electionLeader))
	v.unary(s, serviceElection, "Proclaim", v.candidacy((*electionRequest).leaderFields, v.proclaim))
	v.unary(s, serviceElection, "Resign", v.candidacy((*electionRequest).leaderFields, v.resign))
	v.stream(s, serviceElection, "Observe", v.handleObserve)
}

// electionRequest holds any of the service's requests: CampaignRequest{name 1, lease 2, value 3}, LeaderRequest{name 1},
// ProclaimRequest{leader 1, value 2}, ResignRequest{leader 1}.
type electionRequest struct {
	name   []byte
	lease  int64
	value  []byte
	leader *leaderKey
}

// leaderKey is v3electionpb.LeaderKey.
type leaderKey struct {
	name, key []byte // 1, 2
	rev       int64  // 3
	lease     int64  // 4
}

func (r *electionRequest) campaignFields(num protowire.Number, typ protowire.Type, n uint64, data []byte) error {
	switch {
	case num == 1 && typ == protowire.BytesType:
		r.name = bytes.Clone(data)
	case num == 2 && typ == protowire.VarintType:
		r.lease = int64(n)
	case num == 3 && typ == protowire.BytesType:
		r.value = bytes.Clone(data)
	}
	return nil
}

func (r *electionRequest) leaderFields(num protowire.Number, typ protowire.Type, _ uint64, data []byte) error {
	switch {
	case num == 1 && typ == protowire.BytesType:
		if r.leader == nil {
			r.leader = new(leaderKey)
		}
		return eachField(data, r.leader.field)
	case num == 2 && typ == protowire.BytesType:
		r.value = bytes.Clone(data)
	}
	return nil
}

func (k *leaderKey) field(num protowire.Number, typ protowire.Type, n uint64, data []byte) error {
	switch {
	case num == 1 && typ == protowire.BytesType:
		k.name = bytes.Clone(data)
	case num == 2 && typ == protowire.BytesType:
		k.key = bytes.Clone(data)
	case num == 3 && typ == protowire.VarintType:
		k.rev = int64(n)
	case num == 4 && typ == protowire.VarintType:
		k.lease = int64(n)
	}
	return nil
}

func (k *leaderKey) encode() []byte {
	b := protowire.AppendTag(nil, 1, protowire.BytesType)
	b = protowire.AppendBytes(b, k.name)
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	b = protowire.AppendBytes(b, k.key)
	b = protowire.AppendTag(b, 3, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(k.rev))
	b = protowire.AppendTag(b, 4, protowire.VarintType)
	return protowire.AppendVarint(b, uint64(k.lease))
}

// candidacy decodes a request and runs h in a goroutine of its own, since it waits.
func (v *Services) candidacy(
	fields func(*electionRequest, protowire.Number, protowire.Type, uint64, []byte) error,
	h func(ctx context.Context, who asker, r *electionRequest) (rpc.Message, error),
) unaryHandler {
	return func(c *rpc.Call, who asker, msg []byte) {
		req := new(electionRequest)
		err := eachField(msg, func(num protowire.Number, typ protowire.Type, n uint64, data []byte) error {
			return fields(req, num, typ, n, data)
		})
		if err != nil {
			c.Fail(malformed(err))
			return
		}
		go func() {
			resp, err := h(c.Context(), who, req)
			if err != nil {
				c.Fail(opaque(err))
				return
			}
			c.Reply(resp)
		}()
	}
}

// campaign queues the candidate's key and returns when it is the oldest. When the caller gives up, the key goes.
func (v *Services) campaign(ctx context.Context, who asker, r *electionRequest) (rpc.Message, error) {
	lease, err := v.session(ctx, who, r.lease)
	if err != nil {
		return nil, err
	}
	k := &leaderKey{name: r.name, key: sessionKey(r.name, lease), lease: lease}
	o, err := v.commit(ctx, who, &wire.TxnRequest{
		Compare: created(k.key, 0),
		Success: []wire.RequestOp{{Put: &wire.PutRequest{Key: k.key, Value: r.value, Lease: lease}}},
		Failure: []wire.RequestOp{{Range: &wire.RangeRequest{Key: k.key}}},
	})
	if err != nil {
		return nil, err
	}
	k.rev = int64(o.rev)
	if !o.txn.Succeeded {
		kv := o.txn.Responses[0].Range.KVs[0]
		k.rev = wire.CreateRevisionOf(kv)
		if !bytes.Equal(wire.ValueOf(kv), r.value) {
			if _, err := v.announce(ctx, who, k, r.value); err != nil {
				_, _ = v.withdraw(context.Background(), who, k)
				return nil, err
			}
		}
	}
	if err := v.turn(ctx, who, r.name, k.rev); err != nil {
		if ctx.Err() != nil {
			_, _ = v.withdraw(context.Background(), who, k)
		}
		return nil, err
	}
	// CampaignResponse has the header as field 1 and a message as field 2, as PutResponse has; so has LeaderResponse.
	return &wire.PutResponse{Header: v.header(o.rev), PrevKV: k.encode()}, nil
}

// announce changes the value of a leader that still leads.
func (v *Services) announce(ctx context.Context, who asker, k *leaderKey, value []byte) (outcome, error) {
	o, err := v.commit(ctx, who, &wire.TxnRequest{
		Compare: created(k.key, k.rev),
		Success: []wire.RequestOp{{Put: &wire.PutRequest{Key: k.key, Value: value, Lease: k.lease}}},
	})
	if err == nil && !o.txn.Succeeded {
		err = fault.ElectionNotLeader
	}
	return o, err
}

// withdraw deletes the key of a candidate or leader, unless it is another one's by now.
func (v *Services) withdraw(ctx context.Context, who asker, k *leaderKey) (outcome, error) {
	return v.commit(ctx, who, &wire.TxnRequest{
		Compare: created(k.key, k.rev),
		Success: []wire.RequestOp{{DeleteRange: &wire.DeleteRangeRequest{Key: k.key}}},
	})
}

func (v *Services) proclaim(ctx context.Context, who asker, r *electionRequest) (rpc.Message, error) {
	if r.leader == nil {
		return nil, fault.ElectionMissingLeader
	}
	var err error
	if r.leader.lease, err = v.session(ctx, who, r.leader.lease); err != nil {
		return nil, err
	}
	o, err := v.announce(ctx, who, r.leader, r.value)
	if err != nil {
		return nil, err
	}
	return &headerReply{v.header(o.rev)}, nil
}

func (v *Services) resign(ctx context.Context, who asker, r *electionRequest) (rpc.Message, error) {
	if r.leader == nil {
		return nil, fault.ElectionMissingLeader
	}
	o, err := v.withdraw(ctx, who, r.leader)
	if err != nil {
		return nil, err
	}
	return &headerReply{v.header(o.rev)}, nil
}

func (v *Services) electionLeader(ctx context.Context, who asker, r *electionRequest) (rpc.Message, error) {
	resp, err := v.get(ctx, who, first(r.name))
	if err != nil {
		return nil, err
	}
	if len(resp.KVs) == 0 {
		return nil, fault.ElectionNoLeader
	}
	return &wire.PutResponse{Header: v.header(ids.Revision(resp.Header.Revision)), PrevKV: resp.KVs[0]}, nil
}

// handleObserve sends the present leader, its every change of value, and each leader after it.
func (v *Services) handleObserve(st *rpc.Stream, d *door) *rpc.Status {
	msg, status := one(st)
	if status != nil {
		return status
	}
	var req electionRequest
	if err := eachField(msg, req.campaignFields); err != nil {
		return malformed(err)
	}
	who := d.proveStream(st)
	for {
		if err := v.observe(st, who, req.name); err != nil {
			return opaque(err)
		}
	}
}

// observe sends what one leader says, from when there is one until its key is deleted.
func (v *Services) observe(st *rpc.Stream, who asker, name []byte) error {
	ctx := st.Context()
	send := func(rev ids.Revision, kv []byte) error {
		return st.Send(&wire.PutResponse{Header: v.header(rev), PrevKV: kv})
	}
	resp, err := v.get(ctx, who, first(name))
	if err != nil {
		return err
	}
	rev := resp.Header.Revision
	var kv []byte
	if len(resp.KVs) > 0 {
		kv = resp.KVs[0]
	} else {
		queue := queueOf(name)
		watch := &wire.WatchCreateRequest{Key: queue.Key, RangeEnd: queue.RangeEnd, StartRevision: rev + 1}
		err := v.follow(ctx, who, watch, func(_ *wire.WatchResponse, ev *wire.Event) (bool, error) {
			if ev.Type == wire.EventPut {
				kv, rev = ev.KV, wire.ModRevisionOf(ev.KV)
			}
			return kv == nil, nil
		})
		if err != nil {
			return err
		}
	}
	if err := send(ids.Revision(rev), kv); err != nil {
		return err
	}
	watch := &wire.WatchCreateRequest{Key: wire.KeyOf(kv), StartRevision: rev + 1}
	return v.follow(ctx, who, watch, func(r *wire.WatchResponse, ev *wire.Event) (bool, error) {
		if ev.Type == wire.EventDelete {
			return false, nil
		}
		return true, send(ids.Revision(r.Header.Revision), ev.KV)
	})
}
