package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"quorate.dev/quorate/config"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/node"
	"quorate.dev/quorate/peer"
	"quorate.dev/quorate/snapshot"
	"quorate.dev/quorate/storage"
)

// peers is how this member talks to the others.
type peers struct {
	*peer.Transport
	depot *snapshot.Depot
	host  atomic.Pointer[node.Host] // nil until it exists; what comes before is dropped
	s     *Server

	fencing sync.Mutex
	fenced  bool // this member serves no data; fencing guards it
}

// makePeers makes the ways to other members. It talks to nobody until members are added.
func (s *Server) makePeers() (err error) {
	p := &peers{s: s}
	if p.depot, err = snapshot.New(snapshot.Options{Dir: s.dir.path, Checkpoint: s.checkpoint, Applied: s.core.engine.Applied().Index}); err != nil {
		return err
	}
	p.Transport, err = peer.New(peer.Config{
		Member: s.core.identity.member, Cluster: s.core.identity.cluster, URLs: config.URLStrings(s.cfg.Cluster.AdvertisePeer),
		Version: config.EtcdVersion, MinVersion: config.MinClusterVersion, Receiver: p, Snapshots: p.depot, Observer: p,
		TLS: s.secure.peer.Client, Clock: clock.Real(), Logger: s.logger.Named("peer"),
	})
	if err != nil {
		return err
	}
	s.core.peers = p
	s.onStop("connections to other members", func(context.Context) error { p.Close(); return nil })
	return nil
}

// checkpoint makes dir a copy of the store and says what it covers.
func (s *Server) checkpoint(dir string) (*raftpb.SnapshotMetadata, error) {
	if err := s.core.engine.Checkpoint(dir); err != nil {
		return nil, err
	}
	copied, err := storage.Open(dir, storage.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	mark := copied.Applied()
	table, err := member.Open(copied, int(s.cfg.Cluster.MaxLearners))
	if err = errors.Join(err, copied.Close()); err != nil {
		return nil, fmt.Errorf("read the members of the checkpoint: %w", err)
	}
	index, term := uint64(mark.Index), uint64(mark.Term)
	return &raftpb.SnapshotMetadata{Index: &index, Term: &term, ConfState: table.View().ConfState()}, nil
}

// Receive implements peer.Receiver.
func (p *peers) Receive(m *raftpb.Message) {
	if h := p.host.Load(); h != nil {
		h.Receive(m)
	}
}

// Unreachable implements peer.Receiver.
func (p *peers) Unreachable(id ids.MemberID) {
	if h := p.host.Load(); h != nil {
		h.ReportUnreachable(id)
	}
}

// Removed implements peer.Receiver.
func (p *peers) Removed(id ids.MemberID) bool { return p.s.core.machine.View().Members.Removed(id) }

// Expelled implements peer.Receiver.
func (p *peers) Expelled(err error) { p.s.fail(err) }

// Send implements node.Snapshots.
func (p *snapshots) Send(m *raftpb.Message, done func(error)) { p.SendSnapshot(m, done) }

// Install implements node.Snapshots.
func (p *snapshots) Install(meta *raftpb.SnapshotMetadata) error { return p.depot.Install(meta) }

// snapshots is peers as node.Snapshots, which has a Send of its own.
type snapshots struct{ *peers }

// begin makes the host known and adds the members of the cluster as of the start. Those that join later are added by follow.
// A member that has just joined knows none of them yet but those it has asked.
func (p *peers) begin(h *node.Host, others []member.Member) {
	p.host.Store(h)
	p.fence(h, true)
	for _, m := range append(others, p.s.core.machine.View().Members.Members()...) {
		p.Add(m.ID, m.PeerURLs)
	}
}

// follow carries out a change of members.
func (p *peers) follow(c member.Change) {
	switch id := c.Member.ID; c.Kind {
	case member.Added:
		p.Add(id, c.Member.PeerURLs)
	case member.Updated:
		p.Update(id, c.Member.PeerURLs)
	case member.Removed:
		go p.part(id)
	}
}

// peerHandler serves the peer port.
func (s *Server) peerHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", s.front.Peer())
	between := s.core.peers.Handler()
	mux.Handle("/raft", between)
	mux.Handle("/raft/", between)
	mux.Handle("/quorate/", between)
	mux.HandleFunc("/members", s.serveMembers)
	mux.HandleFunc(pathPromote, s.servePromote)
	mux.HandleFunc(pathHashKV, s.serveHashKV)
	mux.HandleFunc(pathHeal, s.serveHeal)
	mux.HandleFunc("/leases", s.serveRenewal)
	mux.HandleFunc("/leases/internal", s.serveTimeToLive)
	return mux
}

// serveMembers lists the members for one that joins.
func (s *Server) serveMembers(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("X-Etcd-Cluster-ID", s.core.identity.cluster.String())
	if req.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	text := []byte{'['}
	for i, m := range s.core.machine.View().Members.Members() {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, m.JSON()...)
	}
	_, _ = w.Write(append(text, ']', '\n'))
}

// finishInstall puts a snapshot that was received before this start in the place of log and store.
func (s *Server) finishInstall(context.Context) error {
	m, err := pendingInstall(s.dir)
	if m == nil || err != nil {
		return err
	}
	s.logger.Info("installing a snapshot from another member", zap.Uint64("index", uint64(m.Index)), zap.Int64("bytes", m.Bytes()))
	return install(s.dir, m)
}

// stepDownAtStop has the leadership handed over before anything else stops, so that the others need not wait for an election.
func (s *Server) stepDownAtStop(context.Context) error {
	s.onStop("leadership", func(ctx context.Context) error {
		if err := s.stepDown(ctx); err != nil {
			s.logger.Warn("could not hand over the leadership before stopping; the others will elect", zap.Error(err))
		}
		return nil
	})
	return nil
}

// stepDown makes the voter the leader that has been connected for longest.
func (s *Server) stepDown(ctx context.Context) error {
	c := &s.core
	if !c.host.Status().Self || c.host.Err() != nil {
		return nil
	}
	var to ids.MemberID
	var since time.Time
	for _, m := range c.machine.View().Members.Members() {
		if at := c.peers.ActiveSince(m.ID); !m.IsLearner && !at.IsZero() && (to == 0 || at.Before(since)) {
			to, since = m.ID, at
		}
	}
	if to == 0 {
		return nil
	}
	s.logger.Info("leadership transfer starting", zap.Stringer("local-member-id", c.identity.member), zap.Stringer("transferee-member-id", to))
	ctx, cancel := context.WithTimeout(ctx, time.Duration(s.cfg.ElectionTicks())*s.cfg.Heartbeat())
	defer cancel()
	return nodeDoor{c.host}.TransferLeadership(ctx, to)
}
