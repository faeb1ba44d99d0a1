package server

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/config"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/member"
)

// forceNew makes this member the only one of its cluster, for when the others are lost: it ends the log with the removal of
// all others, committed. Entries that were not known to be committed count as committed too, because some may have been
// acknowledged. When that has been done before, there is nothing to do.
func (s *Server) forceNew() error {
	id, past := s.core.identity.member, &s.core.past
	table, err := member.Open(s.core.engine, int(s.cfg.Cluster.MaxLearners))
	if err != nil {
		return err
	}
	// What the log still brings is tried out on a table whose batch is thrown away.
	scratch, applied := s.core.engine.NewBatch(), s.core.engine.Applied()
	last, term := uint64(applied.Index), max(uint64(applied.Term), past.hard.GetTerm())
	for _, e := range past.entries {
		if e.GetType() == raftpb.EntryConfChange && e.GetIndex() > uint64(applied.Index) {
			_, _ = table.ApplyConfChange(scratch, e.GetData()) // what it refuses is refused later, too
		}
		last, term = max(last, e.GetIndex()), max(term, e.GetTerm())
	}
	changes, err := s.aloneBy(table.View(), id)
	if err != nil {
		return err
	}
	var entries []*raftpb.Entry
	for _, c := range changes {
		kind, context := c.Proposal()
		data, err := proto.Marshal(&raftpb.ConfChange{Type: kind.Enum(), NodeId: proto.Uint64(uint64(c.Member.ID)), Context: context})
		if err != nil {
			return fmt.Errorf("encode the change of member %s: %w", c.Member.ID, err)
		}
		if _, err := table.ApplyConfChange(scratch, data); err != nil {
			return fmt.Errorf("--force-new-cluster: member %s cannot be %s: %w", c.Member.ID, c.Kind, err)
		}
		last++
		entries = append(entries, &raftpb.Entry{Type: raftpb.EntryConfChange.Enum(), Term: proto.Uint64(term), Index: proto.Uint64(last), Data: data})
	}
	hard := &raftpb.HardState{Term: proto.Uint64(term), Vote: proto.Uint64(past.hard.GetVote()), Commit: proto.Uint64(last)}
	if err := s.core.log.Append(hard, entries, true); err != nil {
		return fmt.Errorf("--force-new-cluster: write the log: %w", err)
	}
	past.hard, past.entries = hard, append(past.entries, entries...)
	s.logger.Warn("forcing a new cluster of this member alone", zap.Stringer("local-member-id", id), zap.Stringer("cluster-id", s.core.identity.cluster),
		zap.Int("changes", len(entries)), zap.Uint64("commit-index", last))
	return nil
}

// aloneBy are the changes that leave id as the only member, with a vote.
func (s *Server) aloneBy(v *member.View, id ids.MemberID) (changes []member.Change, err error) {
	own, ok := v.Get(id)
	switch {
	case v.Removed(id):
		return nil, fmt.Errorf("--force-new-cluster: member %s was removed from its cluster and cannot come back: use the data of another member", id)
	case !ok:
		own = member.Member{ID: id, PeerURLs: config.URLStrings(s.cfg.Cluster.AdvertisePeer)}
		changes = append(changes, member.Change{Kind: member.Added, Member: own})
	case own.IsLearner:
		changes = append(changes, member.Change{Kind: member.Promoted, Member: own})
	}
	for _, m := range v.Members() {
		if m.ID != id {
			changes = append(changes, member.Change{Kind: member.Removed, Member: m})
		}
	}
	return changes, nil
}
