package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/member"
)

// SnapshotOptions says what a snapshot file does not.
type SnapshotOptions struct {
	Name         string        // which of its members this will be; "" only where there is one
	Self         ids.MemberID  // the same by id; 0: by name
	Cluster      ids.ClusterID // 0: computed from the members, which is right when they are those that founded the cluster
	SkipChecksum bool          // the file has none, or a wrong one
	// Live, if not nil, asks the server that the snapshot is of for its HashKV at a revision, and for the compaction that it knows of.
	Live func(ids.Revision) (hash uint32, compacted ids.Revision, err error)
}

// OpenSnapshot opens a file in etcd's snapshot format. It holds no log, so what the cluster acknowledged after it is not there.
func OpenSnapshot(ctx context.Context, path string, o SnapshotOptions) (*Source, error) {
	s := &Source{Path: path, Cluster: o.Cluster, skip: o.SkipChecksum, live: o.Live}
	if err := s.openSnapshot(ctx, path, o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Source) openSnapshot(ctx context.Context, path string, o SnapshotOptions) (err error) {
	if s.file, err = openDB(ctx, path); err != nil {
		return err
	}
	if s.facts, err = readFacts(ctx, s.file); err != nil {
		return err
	}
	s.Release, s.Members = s.facts.release(), s.facts.members
	if len(s.Members) == 0 {
		return fmt.Errorf("transfer: %s does not say who the members of its cluster are: make a new cluster of it with \"quorate snapshot restore\"", path)
	}
	if s.Self, err = choose(s.Members, o); err != nil {
		return fmt.Errorf("transfer: %s: %w", path, err)
	}
	if s.Cluster == 0 {
		var all []ids.MemberID
		for _, m := range s.Members {
			all = append(all, m.ID)
		}
		s.Cluster = member.ClusterIDOf(all)
		s.note("the file does not say the id of its cluster; %s is computed from its members, as for a new cluster. Where members were added or replaced it was another: give it with --cluster-id", s.Cluster)
	}
	mark := &s.facts.mark
	if !s.facts.hasTerm {
		mark.Term = 1
		s.note("the file is of etcd before 3.5 and does not say the term of its last entry; the log begins anew with term 1")
	}
	mark.Index = max(mark.Index, ids.Index(len(s.Members)+1))
	if len(s.Members) > 1 {
		s.note("every member of this cluster has to be imported from this very file, none from another one or from its directory")
	}
	s.hard = &raftpb.HardState{Term: proto.Uint64(uint64(mark.Term)), Vote: proto.Uint64(0), Commit: proto.Uint64(uint64(mark.Index))}
	return s.checkSelf()
}

// choose finds out which member this will be.
func choose(members []member.Member, o SnapshotOptions) (ids.MemberID, error) {
	var names []string
	for _, m := range members {
		names = append(names, fmt.Sprintf("%q (%s)", m.Name, m.ID))
	}
	all := strings.Join(names, ", ")
	switch {
	case o.Name != "":
		at := slices.IndexFunc(members, func(m member.Member) bool { return m.Name == o.Name })
		if at < 0 {
			return 0, fmt.Errorf("no member has the name %q; there are %s", o.Name, all)
		}
		return members[at].ID, nil
	case o.Self != 0:
		if _, ok := find(members, o.Self); !ok {
			return 0, fmt.Errorf("no member has the id %s; there are %s", o.Self, all)
		}
		return o.Self, nil
	case len(members) == 1:
		return members[0].ID, nil
	}
	return 0, fmt.Errorf("it holds %d members; say with --name which of them this will be: %s", len(members), all)
}
