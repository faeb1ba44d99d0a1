package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/wire"
)

// Only the leader knows how long a lease lives, so the other members ask it, by etcd's requests between members (source:
// lease/leasehttp).
const (
	pathRenew      = "/leases"
	pathTimeToLive = "/leases/internal"
	leaseBytes     = 64 << 10 // a request about a lease, bytes
	leaseRetry     = 50 * time.Millisecond
	leaseCalls     = 256 // requests under way to the leader
)

// leaseDoor is what grpcapi asks about the time of leases: the leader's duties, here or elsewhere.
type leaseDoor struct {
	s     *Server
	slots chan struct{}
}

// RenewAsync implements grpcapi.Leases.
func (d *leaseDoor) RenewAsync(id ids.LeaseID, done func(ttl int64, err error)) {
	c := &d.s.core
	if st := c.host.Status(); st.Self || len(c.machine.View().Members.Members()) < 2 {
		d.renewHere(id, done)
		return
	}
	go func() {
		var resp wire.LeaseKeepAliveResponse
		req := wire.LeaseKeepAliveRequest{ID: int64(id)}
		err := d.ask(pathRenew, req.Append(nil), resp.Unmarshal)
		if errors.Is(err, errLeadsHere) {
			d.renewHere(id, done)
			return
		}
		done(resp.TTL, err)
	}()
}

// renewHere renews a lease on this member, which leads. It reads first: a follower may have answered a grant that this member has not
// applied yet, and a member that was paused may have lost the leadership without knowing.
func (d *leaseDoor) renewHere(id ids.LeaseID, done func(ttl int64, err error)) {
	d.s.core.host.Read(func(err error) {
		if err != nil {
			done(0, err)
			return
		}
		d.s.core.duties.RenewAsync(id, done)
	})
}

// Remaining implements grpcapi.Leases.
func (d *leaseDoor) Remaining(id ids.LeaseID) (left time.Duration, granted int64, ok, leading bool) {
	return d.s.core.duties.Remaining(id)
}

// TimeToLive implements grpcapi.Leases: it asks the leader when this member is another one.
func (d *leaseDoor) TimeToLive(req *etcdserverpb.LeaseTimeToLiveRequest, done func(*etcdserverpb.LeaseTimeToLiveResponse, error)) {
	body, err := proto.Marshal(&etcdserverpb.LeaseTimeToLiveRequest{ID: req.ID, Keys: req.Keys})
	if err != nil {
		done(nil, err)
		return
	}
	go func() {
		var resp etcdserverpb.LeaseTimeToLiveResponse
		err := d.ask(pathTimeToLive, wrapField1(body), func(b []byte) error { return unwrapField1(b, &resp) })
		if errors.Is(err, errLeadsHere) {
			err = fault.LeaderChanged
		}
		done(&resp, err)
	}()
}

// errLeadsHere says that this member has become the leader itself.
var errLeadsHere = errors.New("server: this member leads")

// ask asks the leader, whichever that is, until it answers or the time of a request is over.
func (d *leaseDoor) ask(path string, body []byte, decode func([]byte) error) error {
	select {
	case d.slots <- struct{}{}:
	default:
		return fault.TooManyRequests
	}
	defer func() { <-d.slots }()
	ctx, cancel := context.WithTimeout(context.Background(), d.s.cfg.RequestTimeout())
	defer cancel()
	for {
		switch st := d.s.core.host.Status(); {
		case st.Self:
			return errLeadsHere
		case st.Leader != 0:
			answer, err := d.askOnce(ctx, st.Leader, path, body)
			if err == nil {
				return decode(answer)
			}
			if errors.Is(err, fault.LeaseNotFound) {
				return err
			}
		}
		t := clock.Real().NewTimer(leaseRetry)
		select {
		case <-t.C:
		case <-d.s.ending:
			return fault.Stopped
		case <-ctx.Done():
			return fault.Timeout
		}
	}
}

// askOnce asks one member.
func (d *leaseDoor) askOnce(ctx context.Context, to ids.MemberID, path string, body []byte) ([]byte, error) {
	resp, err := d.s.core.peers.Post(ctx, to, path, body)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, leaseBytes<<4))
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusNotFound && strings.Contains(string(answer), "lease not found"):
		return nil, fault.LeaseNotFound
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("server: member %s answered %s to %s: %s", to, resp.Status, path, bytes.TrimSpace(answer))
	}
	return answer, nil
}

// serveRenewal renews a lease for another member.
func (s *Server) serveRenewal(w http.ResponseWriter, req *http.Request) {
	body, ok := leaseRequest(w, req)
	if !ok {
		return
	}
	var m wire.LeaseKeepAliveRequest
	if err := m.Unmarshal(body); err != nil {
		http.Error(w, "error unmarshalling request", http.StatusBadRequest)
		return
	}
	if !s.core.host.Status().Self { // who asks looks for the leader again
		refuseLease(w, fault.NotLeader)
		return
	}
	ctx, cancel := context.WithTimeout(req.Context(), s.cfg.RequestTimeout())
	defer cancel()
	err := s.caughtUp(ctx)
	var ttl int64
	if err == nil {
		ttl, err = s.core.duties.Renew(ctx, ids.LeaseID(m.ID))
	}
	if err != nil {
		refuseLease(w, err)
		return
	}
	resp := wire.LeaseKeepAliveResponse{ID: m.ID, TTL: ttl}
	w.Header().Set("Content-Type", "application/protobuf")
	_, _ = w.Write(resp.Append(nil))
}

// serveTimeToLive says for another member how long a lease lives.
func (s *Server) serveTimeToLive(w http.ResponseWriter, req *http.Request) {
	body, ok := leaseRequest(w, req)
	if !ok {
		return
	}
	var m etcdserverpb.LeaseTimeToLiveRequest
	if err := unwrapField1(body, &m); err != nil {
		http.Error(w, "error unmarshalling request", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(req.Context(), s.cfg.RequestTimeout())
	defer cancel()
	if err := s.caughtUp(ctx); err != nil {
		refuseLease(w, err)
		return
	}
	left, granted, found, leading := s.core.duties.Remaining(ids.LeaseID(m.ID))
	switch {
	case !leading:
		refuseLease(w, fault.NotLeader)
		return
	case !found:
		refuseLease(w, fault.LeaseNotFound)
		return
	}
	resp := &etcdserverpb.LeaseTimeToLiveResponse{ID: m.ID, TTL: int64(left / time.Second), GrantedTTL: granted}
	if m.Keys {
		resp.Keys = s.core.machine.View().Leases.Keys(ids.LeaseID(m.ID))
	}
	answer, err := proto.Marshal(resp)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/protobuf")
	_, _ = w.Write(wrapField1(answer))
}

// caughtUp waits until this member has applied all that was acknowledged anywhere: another member, which has applied a grant, may ask
// before this one has.
func (s *Server) caughtUp(ctx context.Context) error {
	done := make(chan error, 1)
	s.core.host.Read(func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fault.Timeout
	}
}

// leaseRequest reads a request about a lease.
func leaseRequest(w http.ResponseWriter, req *http.Request) ([]byte, bool) {
	if req.Method != http.MethodPost {
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return nil, false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, leaseBytes))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		http.Error(w, "http: request body too large", http.StatusRequestEntityTooLarge)
	case err != nil:
		http.Error(w, "error reading body", http.StatusBadRequest)
	}
	return body, err == nil
}

func refuseLease(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, fault.LeaseNotFound):
		http.Error(w, "lease not found", http.StatusNotFound)
	case errors.Is(err, fault.Timeout), errors.Is(err, context.DeadlineExceeded):
		http.Error(w, "waiting for node to catch up its applied index has timed out", http.StatusRequestTimeout)
	default:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}
