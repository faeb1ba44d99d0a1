package grpcapi

import (
	"cmp"
	"errors"
	"io"
	"math"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/wire"
)

func (v *Services) registerLease(s *rpc.Server) {
	const service = "etcdserverpb.Lease"
	v.unary(s, service, "LeaseGrant", v.handleLeaseGrant)
	v.unary(s, service, "LeaseRevoke", v.handleLeaseRevoke)
	v.unary(s, service, "LeaseTimeToLive", cold(v.handleTimeToLive))
	v.unary(s, service, "LeaseLeases", cold(v.handleLeases))
	v.stream(s, service, "LeaseKeepAlive", v.handleKeepAlive)
}

// grantReply is etcdserverpb.LeaseGrantResponse, whose first three fields are those of LeaseKeepAliveResponse; the fourth,
// error, is never set.
type grantReply = wire.LeaseKeepAliveResponse

func (v *Services) handleLeaseGrant(c *rpc.Call, msg []byte) {
	var req wire.LeaseGrantRequest
	if err := req.Unmarshal(msg); err != nil {
		c.Fail(malformed(err))
		return
	}
	if !v.admit(c, limits.QuotaCostLease) {
		return
	}
	if req.TTL > limits.LeaseTTLSecondsMax {
		c.Fail(statusOf(fault.LeaseTTLTooLarge))
		return
	}
	v.grant(req, &answer{c, func(r *command.Result) {
		c.Reply(&grantReply{Header: v.header(r.Revision), ID: int64(r.Lease), TTL: r.TTL})
	}})
}

// grant proposes a lease. What the members must not decide each for itself is decided here: the id, and the raised TTL.
func (v *Services) grant(req wire.LeaseGrantRequest, w command.Waiter) {
	for req.ID == 0 {
		req.ID = int64(v.Random() & math.MaxInt64)
	}
	req.TTL = max(req.TTL, v.Settings.LeaseTTLSeconds)
	v.Node.Propose(command.LeaseGrant, req.Append(nil), w)
}

func (v *Services) handleLeaseRevoke(c *rpc.Call, msg []byte) {
	var req wire.LeaseRevokeRequest
	if err := req.Unmarshal(msg); err != nil {
		c.Fail(malformed(err))
		return
	}
	v.Node.Propose(command.LeaseRevoke, msg, &answer{c, func(r *command.Result) {
		c.Reply(&headerReply{v.header(r.Revision)})
	}})
}

// handleKeepAlive answers one renewal after the other. The header is made before the renewal, so that its revision is
// never one at which the lease was already gone.
func (v *Services) handleKeepAlive(st *rpc.Stream) *rpc.Status {
	type renewed struct {
		ttl int64
		err error
	}
	done := make(chan renewed, 1)
	for {
		msg, err := st.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return statusOf(err)
		}
		var req wire.LeaseKeepAliveRequest
		if err := req.Unmarshal(msg); err != nil {
			return malformed(err)
		}
		resp := wire.LeaseKeepAliveResponse{Header: v.header(v.Store.View().Revision()), ID: req.ID}
		v.Leases.RenewAsync(ids.LeaseID(req.ID), func(ttl int64, err error) { done <- renewed{ttl, err} })
		var r renewed
		select {
		case r = <-done:
		case <-st.Context().Done():
			return statusOf(st.Context().Err())
		}
		switch {
		case errors.Is(r.err, fault.LeaseNotFound):
			// No error, but a TTL of 0.
		case r.err != nil:
			return statusOf(r.err)
		default:
			resp.TTL = r.ttl
		}
		if err := st.Send(&resp); err != nil {
			return statusOf(err)
		}
	}
}

func (v *Services) handleTimeToLive(c *rpc.Call, req *etcdserverpb.LeaseTimeToLiveRequest) {
	v.Node.Read(func(err error) {
		if err != nil {
			c.Fail(statusOf(err))
			return
		}
		view := v.Store.View()
		id := ids.LeaseID(req.ID)
		resp := &etcdserverpb.LeaseTimeToLiveResponse{Header: v.headerProto(view.Revision()), ID: req.ID, TTL: -1}
		left, granted, ok, leading := v.Leases.Remaining(id)
		switch {
		case !leading:
			v.askTimeToLive(c, req, resp)
			return
		case ok:
			resp.TTL, resp.GrantedTTL = int64(left/time.Second), granted
			if req.Keys {
				resp.Keys = view.Leases.Keys(id)
			}
		}
		replyProto(c, resp)
	})
}

// askTimeToLive answers with what the leader says. resp says that there is no such lease.
func (v *Services) askTimeToLive(c *rpc.Call, req *etcdserverpb.LeaseTimeToLiveRequest, resp *etcdserverpb.LeaseTimeToLiveResponse) {
	v.Leases.TimeToLive(req, func(told *etcdserverpb.LeaseTimeToLiveResponse, err error) {
		switch {
		case err == nil:
			told.Header = resp.Header
			resp = told
		case !errors.Is(err, fault.LeaseNotFound):
			c.Fail(statusOf(err))
			return
		}
		replyProto(c, resp)
	})
}

// handleLeases lists the leases that this member knows, the next to expire first.
func (v *Services) handleLeases(c *rpc.Call, _ *etcdserverpb.LeaseLeasesRequest) {
	view := v.Store.View()
	type left struct {
		id   ids.LeaseID
		time time.Duration
	}
	var all []left
	for _, l := range view.Leases.All() {
		t, _, ok, _ := v.Leases.Remaining(l.ID)
		if !ok {
			t = math.MaxInt64
		}
		all = append(all, left{l.ID, t})
	}
	slices.SortStableFunc(all, func(a, b left) int { return cmp.Compare(a.time, b.time) })
	resp := &etcdserverpb.LeaseLeasesResponse{Header: v.headerProto(view.Revision())}
	for _, l := range all {
		resp.Leases = append(resp.Leases, &etcdserverpb.LeaseStatus{ID: int64(l.id)})
	}
	replyProto(c, resp)
}
