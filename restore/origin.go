package restore

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wal"
)

// Origin says where in a cluster's history a file was taken, for a directory that goes on there: as the same member, in the
// same cluster, with the log that the file does not hold. Members then are those at Mark, and may be none when Mark is zero.
type Origin struct {
	Cluster ids.ClusterID
	Self    ids.MemberID
	Mark    storage.Mark               // the entry that the file covers
	Hard    *raftpb.HardState          // after the last entry; its commit index must not be below Mark
	Removed []ids.MemberID             // members that may not come back
	Extra   func(*storage.Batch) error // adds what the file does not hold; nil adds nothing. Called once, before the mark is written
	// Entries calls write with the entries after Mark, in order and consecutive, in parts that fit in memory; nil: there are none.
	Entries func(write func([]*raftpb.Entry) error) error
	// Check, if not nil, is given the store before it gets its name. Its error ends the restore.
	Check func(storage.Reader) error
}

// fill writes the log.
func (o *Origin) fill(log *wal.Log) error {
	if o.Mark.Index > 0 {
		begin := &raftpb.HardState{Term: proto.Uint64(o.Hard.GetTerm()), Vote: proto.Uint64(o.Hard.GetVote()), Commit: proto.Uint64(uint64(o.Mark.Index))}
		if err := log.Install(begin, o.Mark.Index, o.Mark.Term); err != nil {
			return err
		}
	}
	last := uint64(o.Mark.Index)
	if o.Entries != nil {
		err := o.Entries(func(entries []*raftpb.Entry) error {
			for _, e := range entries {
				if e.GetIndex() != last+1 {
					return fmt.Errorf("restore: entry %d follows entry %d", e.GetIndex(), last)
				}
				last++
			}
			return log.Append(nil, entries, true)
		})
		if err != nil {
			return err
		}
	}
	if commit := o.Hard.GetCommit(); commit > last || commit < uint64(o.Mark.Index) {
		return fmt.Errorf("restore: the commit index %d is not between entry %d, which the store covers, and entry %d, with which the log ends", commit, o.Mark.Index, last)
	}
	return log.Append(o.Hard, nil, true)
}
