package server

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"quorate.dev/quorate/config"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/node"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wal"
)

// history is what the log held when it was opened.
type history struct {
	hard    *raftpb.HardState
	entries []*raftpb.Entry
	others  []member.Member // of the cluster that this member joins now
}

func (s *Server) openStore(context.Context) (err error) {
	s.startLine()
	logger := s.logger.Named("storage")
	s.core.engine, err = storage.Open(s.dir.store, storage.Options{Clock: clock.Real(), Log: func(msg string, kv ...any) { logger.Sugar().Warnw(msg, kv...) }})
	if err != nil {
		return err
	}
	s.onStop("store", s.closeStore)
	s.logger.Info("opened backend db", zap.String("path", s.dir.store), zap.Stringer("applied", s.core.engine.Applied()))
	return nil
}

// closeStore flushes only a store that can be trusted.
func (s *Server) closeStore(context.Context) error {
	if err := s.core.engine.Err(); err != nil || s.core.host != nil && s.core.host.Err() != nil {
		return s.core.engine.CloseDirty()
	}
	return s.core.engine.Close()
}

// openLog opens the log, or founds or joins a cluster when there is neither log nor data.
func (s *Server) openLog(ctx context.Context) error {
	applied := s.core.engine.Applied()
	options := wal.Options{NoSync: s.cfg.Store.UnsafeNoFsync, Observe: s.observeLog}
	if wal.Exists(vfs.Default, s.dir.log) {
		return s.reopenLog(ctx, options, applied)
	}
	if applied.Index != 0 {
		return fmt.Errorf("the store %s has applied the log up to entry %s, but there is no log in %s: give the --wal-dir of the earlier start, or restore both from a backup",
			s.dir.store, applied, s.dir.log)
	}
	if err := s.discover(ctx); err != nil {
		return err
	}
	if s.cfg.Cluster.State == config.StateExisting {
		return s.join(ctx, options)
	}
	if err := s.cfg.CheckFounding(); err != nil {
		return err
	}
	id, err := s.foundingIdentity()
	if err == nil {
		err = s.refuseReborn(ctx, id)
	}
	if err != nil {
		return err
	}
	s.identify(id)
	log, err := wal.Create(s.dir.log, options, wal.Metadata{Member: s.core.identity.member, Cluster: s.core.identity.cluster})
	if err != nil {
		return err
	}
	s.keepLog(log)
	return s.found()
}

func (s *Server) keepLog(log *wal.Log) {
	s.core.log = log
	s.onStop("log", func(context.Context) error { return log.Close() })
}

// reopenLog reads an existing log. Settings that found a cluster are ignored from here on, as etcd ignores them.
func (s *Server) reopenLog(ctx context.Context, options wal.Options, applied storage.Mark) error {
	log, replay, err := wal.Open(s.dir.log, options, applied.Index)
	if err != nil {
		return err
	}
	s.keepLog(log)
	s.identify(identity{member: replay.Metadata.Member, cluster: replay.Metadata.Cluster})
	if replay.Cut != nil {
		s.logger.Warn("cut an interrupted write off the end of the log", zap.Stringer("cut", replay.Cut))
	}
	if len(replay.Entries) == 0 && applied.Index == 0 && s.cfg.Cluster.State != config.StateExisting {
		if done, err := s.foundAgain(ctx); done || err != nil {
			return err
		}
	}
	s.logger.Info("server has already been initialized", zap.String("data-dir", s.dir.path), zap.Stringer("local-member-id", s.core.identity.member),
		zap.Stringer("cluster-id", s.core.identity.cluster), zap.Int("entries-to-replay", len(replay.Entries)))
	s.core.past = history{hard: replay.HardState, entries: replay.Entries}
	if s.cfg.Cluster.ForceNew {
		return s.forceNew()
	}
	return nil
}

// foundAgain finishes a start that was interrupted between making the log and its first entry. A member that has joined has an
// id that no founder has, and goes on to wait for the others: then it is not done.
func (s *Server) foundAgain(ctx context.Context) (done bool, err error) {
	if err := s.discover(ctx); err != nil {
		return false, err
	}
	if s.cfg.CheckFounding() != nil {
		return false, nil
	}
	if id, err := s.foundingIdentity(); err != nil || id != s.core.identity {
		return false, nil
	}
	return true, s.found()
}

// found writes the beginning of the log of a new cluster, the same at every founding member.
func (s *Server) found() error {
	id := s.core.identity
	s.logger.Info("Initialize and start etcd server", zap.String("data-dir", s.dir.path))
	s.logger.Info("bootstrapping cluster", zap.Stringer("local-member-id", id.member), zap.Stringer("cluster-id", id.cluster))
	s.logger.Info("bootstrapping storage", zap.String("log", s.dir.log), zap.String("store", s.dir.store))
	s.logger.Info("bootstrapping raft", zap.Stringer("local-member-id", id.member))
	founders, err := s.founders()
	if err != nil {
		return err
	}
	var founding []node.Peer
	for _, m := range founders {
		founding = append(founding, node.Peer{ID: m.ID, Context: m.JSON()})
	}
	hard, entries, err := node.Bootstrap(s.core.log, founding)
	if err != nil {
		return err
	}
	s.core.past = history{hard: hard, entries: entries}
	s.logger.Info("bootstrap successfully", zap.Stringer("local-member-id", id.member), zap.Stringer("cluster-id", id.cluster), zap.Int("members", len(founding)))
	return nil
}

// founders are the members of a new cluster, ascending by id.
func (s *Server) founders() ([]member.Member, error) {
	named, err := s.cfg.Founders()
	if err != nil {
		return nil, err
	}
	var out []member.Member
	for _, f := range named {
		if s.cfg.Finding.SRVDomain != "" {
			f.Name = "" // DNS tells nobody the names of others, and all must begin with the same: each announces its own
		}
		out = append(out, member.Member{ID: member.IDOf(f.PeerURLs, s.cfg.Cluster.Token), Name: f.Name, PeerURLs: f.PeerURLs})
	}
	slices.SortFunc(out, func(a, b member.Member) int { return cmp.Compare(a.ID, b.ID) })
	for i := 1; i < len(out); i++ {
		if out[i].ID == out[i-1].ID {
			return nil, fmt.Errorf("--initial-cluster: members %q and %q have the same peer URLs %q: each needs its own", out[i-1].Name, out[i].Name, out[i].PeerURLs)
		}
	}
	return out, nil
}

// identify settles who this member is, which its metrics say; from then on they count.
func (s *Server) identify(id identity) {
	s.core.identity = id
	s.core.metrics = s.newMetrics()
	s.core.counts = newCounts(s.core.metrics)
}

// foundingIdentity derives the ids of a new cluster, as etcd does.
func (s *Server) foundingIdentity() (identity, error) {
	founders, err := s.founders()
	if err != nil {
		return identity{}, err
	}
	var all []ids.MemberID
	id := identity{member: member.IDOf(config.URLStrings(s.cfg.Cluster.AdvertisePeer), s.cfg.Cluster.Token)}
	for _, m := range founders {
		all = append(all, m.ID)
	}
	id.cluster = member.ClusterIDOf(all)
	return id, nil
}
