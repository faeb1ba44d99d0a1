package grpcapi

import (
	"cmp"
	"errors"
	"io"
	"math"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"quorate.dev/quorate/auth"
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

func (v *Services) handleLeaseGrant(c *rpc.Call, who asker, msg []byte) {
	var req wire.LeaseGrantRequest
	if err := req.Unmarshal(msg); err != nil {
		c.Fail(malformed(err))
		return
	}
	if !v.admit(c, limits.QuotaCostLease) {
		return
	}
	if err := who.may(v.Store.View(), &auth.Request{}); err != nil {
		c.Fail(statusOf(err))
		return
	}
	if req.TTL > limits.LeaseTTLSecondsMax {
		c.Fail(statusOf(fault.LeaseTTLTooLarge))
		return
	}
	v.grant(who, req, &answer{c, func(r *command.Result) {
		c.Reply(&grantReply{Header: v.header(r.Revision), ID: int64(r.Lease), TTL: r.TTL})
	}})
}

// grant proposes a lease. What the members must not decide each for itself is decided here: the id, and the raised TTL.
func (v *Services) grant(who asker, req wire.LeaseGrantRequest, w command.Waiter) {
	for req.ID == 0 {
		req.ID = int64(v.Random() & math.MaxInt64)
	}
	req.TTL = max(req.TTL, v.Settings.LeaseTTLSeconds)
	who.propose(command.LeaseGrant, req.Append(nil), w)
}

func (v *Services) handleLeaseRevoke(c *rpc.Call, who asker, msg []byte) {
	var req wire.LeaseRevokeRequest
	if err := req.Unmarshal(msg); err != nil {
		c.Fail(malformed(err))
		return
	}
	if !who.admitted(c, msg, &auth.Request{Lease: ids.LeaseID(req.ID)}) {
		return
	}
	who.propose(command.LeaseRevoke, msg, &answer{c, func(r *command.Result) {
		c.Reply(&headerReply{v.header(r.Revision)})
	}})
}

// handleKeepAlive answers one renewal after the other. The header is made before the renewal, so that its revision is
// never one at which the lease was already gone.
func (v *Services) handleKeepAlive(st *rpc.Stream, d *door) *rpc.Status {
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
		if err := d.mayRenew(st, ids.LeaseID(req.ID)); err != nil {
			return statusOf(err)
		}
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

// mayRenew decides one renewal. It does not go through the log, so it is decided here, whichever member leads; behind the
// barrier, since keys that this member has not heard of yet may be attached to the lease.
func (d *door) mayRenew(st *rpc.Stream, lease ids.LeaseID) error {
	v := d.services
	if !v.Store.View().Auth.Enabled() {
		return nil
	}
	if err := v.await(st.Context()); err != nil {
		return err
	}
	who := d.proveStream(st)
	return who.may(v.Store.View(), &auth.Request{Lease: lease})
}

func (v *Services) handleTimeToLive(c *rpc.Call, who asker, req *etcdserverpb.LeaseTimeToLiveRequest) {
	v.Node.Read(func(err error) {
		if err != nil {
			c.Fail(statusOf(err))
			return
		}
		view := v.Store.View()
		id := ids.LeaseID(req.ID)
		if err := who.may(view, &auth.Request{Lease: id, WithKeys: req.Keys}); err != nil {
			c.Fail(statusOf(err))
			return
		}
		resp := &etcdserverpb.LeaseTimeToLiveResponse{Header: v.headerProto(view.Revision()), ID: req.ID, TTL: -1}
		left, granted, ok, leading := v.Leases.Remaining(id)
		switch {
		case !leading:
			if req.Keys {
				resp.Keys = view.Leases.Keys(id)
			}
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

// askTimeToLive answers with what the leader says. resp says that there is no such lease; its keys are those that were decided
// about, which the leader may know more of by now.
func (v *Services) askTimeToLive(c *rpc.Call, req *etcdserverpb.LeaseTimeToLiveRequest, resp *etcdserverpb.LeaseTimeToLiveResponse) {
	keys := resp.Keys
	resp.Keys = nil
	lifetime := &etcdserverpb.LeaseTimeToLiveRequest{ID: req.ID}
	v.Leases.TimeToLive(lifetime, func(told *etcdserverpb.LeaseTimeToLiveResponse, err error) {
		switch {
		case err == nil:
			told.Header, told.Keys = resp.Header, keys
			resp = told
		case !errors.Is(err, fault.LeaseNotFound):
			c.Fail(statusOf(err))
			return
		}
		replyProto(c, resp)
	})
}

// handleLeases lists the leases that this member knows, the next to expire first.
func (v *Services) handleLeases(c *rpc.Call, who asker, _ *etcdserverpb.LeaseLeasesRequest) {
	view := v.Store.View()
	if err := who.may(view, &auth.Request{}); err != nil {
		c.Fail(statusOf(err))
		return
	}
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
