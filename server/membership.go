package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/node"
	"quorate.dev/quorate/peer"
)

// Facts of etcd about changes of members (source: server/etcdserver/server.go and api/etcdhttp/peer.go).
const (
	pathPromote  = "/members/promote/"
	learnerReady = 0.9 // share of the leader's log that a learner must have to become a voter
	// partingTime is how long others still talk to a member that was removed, so that it hears of it.
	partingTime = time.Second
	// partingLimit is how long a member that was removed goes on when none of the others tells it to go. It may have heard of its
	// removal from a leader that has died since, before that knew durably that it is committed, and of two voters the one that stays
	// needs the vote of the other one then.
	partingLimit = time.Minute

	promoteCalls = 16                    // promotions that this member asks the leader for at the same time
	promoteRetry = 50 * time.Millisecond // between two attempts to ask the leader
	promoteBytes = 1 << 20               // of its answer
)

// Texts of refused promotions between members; etcd compares them.
const (
	textNotFound   = "membership: ID not found"
	textNotLearner = "membership: can only promote a learner member"
)

// membership is how grpcapi changes the members.
type membership struct {
	s     *Server
	slots chan struct{}
}

func (s *Server) membership() *membership {
	return &membership{s: s, slots: make(chan struct{}, promoteCalls)}
}

// Change implements grpcapi.Membership.
func (m *membership) Change(c member.Change, w command.Waiter) {
	kind, context := c.Proposal()
	m.s.core.host.ProposeChange(kind, c.Member.ID, context, &changeLog{w, m.s.logger, c})
}

// changeLog logs what became of a change.
type changeLog struct {
	command.Waiter
	logger *zap.Logger
	change member.Change
}

// Complete implements command.Waiter.
func (w *changeLog) Complete(r *command.Result) {
	fields := []zap.Field{zap.Stringer("change", w.change.Kind), zap.Stringer("member-id", w.change.Member.ID), zap.Strings("peer-urls", w.change.Member.PeerURLs)}
	if r.Err != nil {
		w.logger.Warn("a change of members was refused", append(fields, zap.Error(r.Err))...)
	} else {
		w.logger.Info("applied a configuration change through raft", fields...)
	}
	w.Waiter.Complete(r)
}

// ActiveSince implements grpcapi.Membership.
func (m *membership) ActiveSince(id ids.MemberID) time.Time { return m.s.core.peers.ActiveSince(id) }

// Promote implements grpcapi.Membership: only the leader knows how far a learner is.
func (m *membership) Promote(id ids.MemberID, done func(error)) {
	m.promoteHere(id, func(err error) {
		if !errors.Is(err, fault.NotLeader) {
			done(err)
			return
		}
		select {
		case m.slots <- struct{}{}:
		default:
			done(fault.TooManyRequests)
			return
		}
		go func() {
			defer func() { <-m.slots }()
			done(m.promoteThere(id))
		}()
	})
}

// promoteHere promotes a learner if this member leads and the learner is ready, as etcd checks it.
func (m *membership) promoteHere(id ids.MemberID, done func(error)) {
	s := m.s
	done = s.core.counts.promotions.counting(done)
	s.core.host.Progress(id, func(p node.Progress, err error) {
		switch {
		case err != nil:
		case float64(p.Match) < learnerReady*float64(p.Leader):
			s.logger.Warn("rejecting promote learner: learner is not ready", zap.Stringer("member-id", id), zap.Uint64("match", uint64(p.Match)), zap.Uint64("leader-match", uint64(p.Leader)))
			err = fault.LearnerNotReady
		case s.cfg.Cluster.StrictReconfig:
			err = s.core.machine.View().Members.CheckReadyToPromote()
		}
		if err != nil {
			done(err)
			return
		}
		m.Change(member.Change{Kind: member.Promoted, Member: member.Member{ID: id}}, completed(done))
	})
}

// completed is a waiter that only wants to know of an error.
type completed func(error)

// Complete implements command.Waiter.
func (f completed) Complete(r *command.Result) { f(r.Err) }

// promoteThere has the leader do it, whichever that is, and returns when this member knows of it.
func (m *membership) promoteThere(id ids.MemberID) error {
	ctx, cancel := context.WithTimeout(context.Background(), m.s.cfg.RequestTimeout())
	defer cancel()
	for {
		if leader := m.s.core.host.Status().Leader; leader != 0 && leader != m.s.core.identity.member {
			answered, err := m.askLeader(ctx, leader, id)
			if err == nil {
				return condition{m.s}.Read(ctx, false)
			}
			if answered {
				return err
			}
			m.s.logger.Warn("could not have the leader promote a member; trying again", zap.Stringer("leader", leader), zap.Stringer("member-id", id), zap.Error(err))
		}
		t := clock.Real().NewTimer(promoteRetry)
		select {
		case <-t.C:
		case <-m.s.ending:
			return fault.Stopped
		case <-ctx.Done():
			return fault.Timeout
		}
	}
}

// askLeader asks one member. answered says that the error is the leader's own, so that asking again is of no use.
func (m *membership) askLeader(ctx context.Context, leader, id ids.MemberID) (answered bool, err error) {
	resp, err := m.s.core.peers.Post(ctx, leader, pathPromote+strconv.FormatUint(uint64(id), 10), nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, promoteBytes))
	switch text := string(body); {
	case err != nil:
		return false, err
	case resp.StatusCode == http.StatusOK:
		return true, nil
	case resp.StatusCode == http.StatusNotFound:
		return true, fault.MemberNotFound
	case strings.Contains(text, fault.LearnerNotReady.Text):
		return true, fault.LearnerNotReady
	case strings.Contains(text, textNotLearner):
		return true, fault.MemberNotLearner
	case strings.Contains(text, fault.MemberNotEnoughStarted.Text):
		return true, fault.MemberNotEnoughStarted
	default:
		return false, fmt.Errorf("member %s answered %s: %s", leader, resp.Status, strings.TrimSpace(text))
	}
}

// servePromote promotes a learner for a member that is not the leader.
func (s *Server) servePromote(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("X-Etcd-Cluster-ID", s.core.identity.cluster.String())
	if req.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	text := strings.TrimPrefix(req.URL.Path, pathPromote)
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		http.Error(w, fmt.Sprintf("member %s not found in cluster", text), http.StatusNotFound)
		return
	}
	done := make(chan error, 1)
	s.membership().promoteHere(ids.MemberID(id), func(err error) { done <- err })
	select {
	case err = <-done:
	case <-req.Context().Done():
		return
	}
	switch {
	case err == nil:
		s.writeMembers(w)
	case errors.Is(err, fault.MemberNotFound):
		http.Error(w, textNotFound, http.StatusNotFound)
	case errors.Is(err, fault.MemberNotLearner):
		http.Error(w, textNotLearner, http.StatusPreconditionFailed)
	case errors.Is(err, fault.LearnerNotReady):
		http.Error(w, err.Error(), http.StatusPreconditionFailed)
	default:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// writeMembers answers with the list of members.
func (s *Server) writeMembers(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s.core.machine.View().Members.Members())
}

// part ends this member after it was removed, or what it has with one that was, when all have had time to hear of it. The clients
// of this member are sent away at once: those that are connected elsewhere need not wait for it.
func (p *peers) part(id ids.MemberID) {
	if calls := p.s.core.calls.Load(); calls != nil && id == p.s.core.identity.member {
		ctx, cancel := context.WithTimeout(context.Background(), partingTime)
		defer cancel()
		go func() { _ = calls.Shutdown(ctx) }()
	}
	own, patience := id == p.s.core.identity.member, partingTime
	if own {
		patience = partingLimit
	}
	t := clock.Real().NewTimer(patience)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.s.ending: // also when another member says that this one was removed
	}
	if own {
		p.s.fail(peer.ErrRemoved)
		return
	}
	p.Remove(id) // it waits for what is under way
}

// refuseRemoved ends the start of a member that knows that it was removed.
func (s *Server) refuseRemoved(context.Context) error {
	if s.core.machine.View().Members.Removed(s.core.identity.member) {
		return peer.ErrRemoved
	}
	return nil
}
