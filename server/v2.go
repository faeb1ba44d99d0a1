package server

import (
	"context"
	"errors"
	"math"
	"net/http"
	"sync/atomic"
	"time"

	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/authn"
	"quorate.dev/quorate/command"
	"quorate.dev/quorate/config"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/grpcapi"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/leader"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/v2http"
	"quorate.dev/quorate/v2hub"
	"quorate.dev/quorate/v2store"
	"quorate.dev/quorate/wire"
)

// v2Parts is what the v2 API stands on besides the member.
type v2Parts struct {
	hub      *v2hub.Hub
	services atomic.Pointer[grpcapi.Services] // nil until clients are served
}

// openV2 makes the hub of v2's watchers. The state must be open.
func (s *Server) openV2() {
	s.v2.hub = v2hub.New(s.core.machine.View().V2)
	s.onStop("v2 watches", func(context.Context) error { s.v2.hub.Close(); return nil })
}

// v2Feed brings what happens in the tree to the hub. It is the applying goroutine's.
type v2Feed struct {
	hub  *v2hub.Hub
	last *v2store.View
}

func (f *v2Feed) publish(v *v2store.View, events []*v2store.Event) {
	if v != f.last {
		f.last = v
		f.hub.Publish(v, events)
	}
}

// v2Duties are the leader's duties about the tree. Only members that serve the v2 API change its mode.
func (s *Server) v2Duties() leader.V2 {
	d := leader.V2{State: func() (int64, string) {
		v := s.core.machine.View().V2
		return v.NextExpiry(), v.Mode().String()
	}}
	if s.cfg.HTTP.V2 && s.cfg.HTTP.V2Mode != config.V2Keep {
		d.Mode = s.cfg.HTTP.V2Mode
	}
	return d
}

// newV2 is the handler of /v2/.
func (s *Server) newV2() http.Handler {
	return v2http.New(v2http.Config{
		Backend:   v2http.Backend{Store: v2Tree{s}, Watches: v2Watches{s.v2.hub}, Cluster: v2Cluster{s}, Changes: v2Changes{s, s.membership()}, Users: v2Users{s}},
		Passwords: s.core.clients.verifier, Certificates: s.cfg.TLS.Client.Auth, Timeout: s.cfg.RequestTimeout(),
		RequestBytes: int(min(s.cfg.Store.MaxRequestBytes, math.MaxInt32)), Logger: s.logger.Named("v2"),
	})
}

// v2Tree is the replicated tree as v2http sees it.
type v2Tree struct{ s *Server }

// View implements v2http.Store.
func (t v2Tree) View() (*v2store.View, v2http.May) {
	view := t.s.core.clients.view.Load()
	return view.V2, func(who authn.Identity, path string, recursive bool) error {
		return view.MayReadV2(auth.Identity{User: who.User, Revision: who.Revision}, v2store.Keys+path, recursive)
	}
}

// Propose implements v2http.Store.
func (t v2Tree) Propose(ctx context.Context, r *wire.V2Request, as authn.Identity) (*v2store.Event, error) {
	if r.Method == "PUT" || r.Method == "POST" {
		services := t.s.v2.services.Load()
		if services == nil {
			return nil, fault.Stopped // clients are not served yet
		}
		if err := services.CheckQuota(ctx, limits.QuotaCostPut+int64(len(r.Path)+len(r.Val))); err != nil {
			return nil, err
		}
	}
	own := *r
	if own.Time == 0 {
		own.Time = time.Now().UnixNano()
	}
	done := make(v2Answer, 1)
	t.s.core.host.ProposeMessageAs(command.V2, &own, as.User, as.Revision, done)
	select {
	case o := <-done:
		return o.event, o.err
	case <-ctx.Done():
		return nil, fault.Timeout
	}
}

// v2Answer waits for the result of one request.
type v2Answer chan v2Outcome

type v2Outcome struct {
	event *v2store.Event
	err   error
}

// Complete implements command.Waiter.
func (a v2Answer) Complete(r *command.Result) { a <- v2Outcome{r.V2, r.Err} }

// Raft implements v2http.Store.
func (t v2Tree) Raft() (ids.Index, ids.Term) {
	st := t.s.core.host.Status()
	return st.Committed, st.Term
}

// v2Watches is the hub as v2http sees it.
type v2Watches struct{ *v2hub.Hub }

// Watch implements v2http.Watches.
func (h v2Watches) Watch(path string, recursive, stream bool, since uint64) (v2http.Watcher, error) {
	w, err := h.Hub.Watch(path, recursive, stream, since)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// v2Cluster is the cluster as v2http sees it.
type v2Cluster struct{ s *Server }

// ID implements v2http.Cluster.
func (c v2Cluster) ID() ids.ClusterID { return c.s.core.identity.cluster }

// Members implements v2http.Cluster.
func (c v2Cluster) Members() *member.View { return c.s.core.machine.View().Members }

// Leader implements v2http.Cluster.
func (c v2Cluster) Leader() ids.MemberID { return c.s.core.host.Status().Leader }

// Self implements v2http.Cluster. Messages between members are not counted one by one here, so their numbers are 0.
func (c v2Cluster) Self() v2http.SelfStats {
	st := c.s.core.host.Status()
	out := v2http.SelfStats{
		Name: c.s.cfg.Member.Name, ID: c.s.core.identity.member, State: "StateFollower", Start: c.s.core.insights.started,
		Leader: st.Leader, LeaderSince: st.LeaderSince,
	}
	if st.Self {
		out.State = "StateLeader"
	}
	return out
}

// Followers implements v2http.Cluster. How long single messages took is not kept; what failed is.
func (c v2Cluster) Followers() (map[ids.MemberID]v2http.FollowerStats, bool) {
	if !c.s.core.host.Status().Self {
		return nil, false
	}
	out := map[ids.MemberID]v2http.FollowerStats{}
	for _, p := range c.s.core.peers.Peers() {
		out[p.ID] = v2http.FollowerStats{Failed: p.SendFailed}
	}
	return out, true
}

// v2Changes changes the members for v2http.
type v2Changes struct {
	s *Server
	m *membership
}

// Change implements v2http.Changes.
func (c v2Changes) Change(ctx context.Context, change member.Change, as authn.Identity) error {
	if err := (v2Users{c.s}).Admin(as); err != nil {
		return err
	}
	services := c.s.v2.services.Load()
	if services == nil {
		return fault.Stopped
	}
	if err := services.CheckChange(change); err != nil {
		return err
	}
	done := make(answer, 1)
	c.m.Change(change, done)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fault.Timeout
	}
}

// v2Users are v3's users for v2http.
type v2Users struct{ s *Server }

// Enabled implements v2http.Users.
func (u v2Users) Enabled() bool { return u.s.core.clients.view.Load().Auth.Enabled() }

// Check implements v2http.Users. A member that may not have heard of a user yet asks again behind the barrier.
func (u v2Users) Check(ctx context.Context, name, password string) (authn.Identity, error) {
	before := u.s.core.clients.view.Load().Auth
	id, err := u.check(ctx, before, name, password)
	if !errors.Is(err, fault.AuthFailed) {
		return id, err
	}
	if err := u.s.caughtUp(ctx); err != nil {
		return authn.Identity{}, err
	}
	if now := u.s.core.clients.view.Load().Auth; now != before {
		return u.check(ctx, now, name, password)
	}
	return id, err
}

func (u v2Users) check(ctx context.Context, users *auth.View, name, password string) (authn.Identity, error) {
	account := authn.Account{Name: name}
	if known, ok := users.User(name); ok {
		account.Known, account.Hash, account.NoPassword = true, known.PasswordHash, known.NoPassword
	}
	done := make(chan error, 1)
	u.s.core.clients.verifier.Check(account, password, func(err error) { done <- err })
	select {
	case err := <-done:
		if err != nil {
			return authn.Identity{}, err
		}
		return authn.Identity{User: name, Revision: users.Revision()}, nil
	case <-ctx.Done():
		return authn.Identity{}, fault.Timeout
	}
}

// Certified implements v2http.Users.
func (u v2Users) Certified(r *http.Request) (authn.Identity, bool) {
	view := u.s.core.clients.view.Load()
	id, _, err := u.s.core.clients.keeper.Identity(view.Auth, webCaller{r})
	return id, err == nil && id.User != ""
}

// Admin implements v2http.Users.
func (u v2Users) Admin(who authn.Identity) error {
	view := u.s.core.clients.view.Load()
	return view.Auth.May(auth.Identity{User: who.User, Revision: who.Revision}, &auth.Request{Method: auth.MethodMemberAdd}, view.Leases)
}
