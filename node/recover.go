package node

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/storage"
)

// Peer is a founding member of a group.
type Peer struct {
	ID      ids.MemberID
	Context []byte // the member as JSON, which every member stores when it applies the entry
}

// Bootstrap writes the beginning of a new group's log: one entry per founder that adds it, in the order given, all of
// term 1, and a hard state that commits them (source: the log that etcd starts a cluster with). It returns what the log
// then holds, for Config. All founders must write the same bytes, so the peers must be sorted by id.
func Bootstrap(log Log, peers []Peer) (*raftpb.HardState, []*raftpb.Entry, error) {
	if len(peers) == 0 {
		return nil, nil, fmt.Errorf("node: a group needs at least one member")
	}
	entries := make([]*raftpb.Entry, len(peers))
	for i, p := range peers {
		if i > 0 && peers[i-1].ID >= p.ID {
			return nil, nil, fmt.Errorf("node: founding members must be sorted by id and differ: %s stands before %s", peers[i-1].ID, p.ID)
		}
		change := &raftpb.ConfChange{
			Type: raftpb.ConfChangeAddNode.Enum(), NodeId: proto.Uint64(uint64(p.ID)), Context: p.Context,
		}
		data, err := proto.Marshal(change)
		if err != nil {
			return nil, nil, fmt.Errorf("node: encode member %s: %w", p.ID, err)
		}
		entries[i] = &raftpb.Entry{
			Type: raftpb.EntryConfChange.Enum(), Term: proto.Uint64(1), Index: proto.Uint64(uint64(i + 1)), Data: data,
		}
	}
	hs := &raftpb.HardState{Term: proto.Uint64(1), Vote: proto.Uint64(0), Commit: proto.Uint64(uint64(len(peers)))}
	if err := log.Append(hs, entries, true); err != nil {
		return nil, nil, fmt.Errorf("node: write the first entries of the log: %w", err)
	}
	return hs, entries, nil
}

// recovered is the raft state that a start begins with.
type recovered struct {
	store *store
	mark  storage.Mark // what the machine has applied
}

// recoverLog joins what the log holds with what the machine has applied, and checks that they fit.
//
// The machine may be ahead of the hard state's commit index, because a commit index need not be durable; it is raised then.
// The machine is never ahead of the log itself: an entry is durable before it is committed, and committed before it is
// applied. If it is, the log has lost its end, and the entries it lost may have been acknowledged to clients or promised to
// other members.
func recoverLog(hs *raftpb.HardState, entries []*raftpb.Entry, cs *raftpb.ConfState, mark storage.Mark) (*recovered, error) {
	for i := 1; i < len(entries); i++ {
		if entries[i].GetIndex() != entries[i-1].GetIndex()+1 || entries[i].GetTerm() < entries[i-1].GetTerm() {
			return nil, fmt.Errorf("node: the log is damaged: entry %d of term %d follows entry %d of term %d",
				entries[i].GetIndex(), entries[i].GetTerm(), entries[i-1].GetIndex(), entries[i-1].GetTerm())
		}
	}
	if n := len(entries); n > 0 && entries[n-1].GetIndex() < uint64(mark.Index) {
		return nil, fmt.Errorf("node: the log ends at entry %d but the store has applied entry %d: the log has lost its end or belongs to another store", entries[n-1].GetIndex(), mark.Index)
	}
	for len(entries) > 0 && entries[0].GetIndex() <= uint64(mark.Index) {
		if e := entries[0]; e.GetIndex() == uint64(mark.Index) && e.GetTerm() != uint64(mark.Term) {
			return nil, fmt.Errorf("node: entry %d has term %d in the log but the store applied it with term %d: they do not belong together", mark.Index, e.GetTerm(), mark.Term)
		}
		entries = entries[1:]
	}
	if len(entries) > 0 && entries[0].GetIndex() != uint64(mark.Index)+1 {
		return nil, fmt.Errorf("node: the log begins at entry %d but the store has only applied up to entry %d: the entries between are missing", entries[0].GetIndex(), mark.Index)
	}
	last, lastTerm := uint64(mark.Index), uint64(mark.Term)
	if n := len(entries); n > 0 {
		last, lastTerm = entries[n-1].GetIndex(), entries[n-1].GetTerm()
	}
	switch {
	case hs.GetTerm() < lastTerm:
		return nil, fmt.Errorf("node: the log's hard state has term %d but its last entry %d has term %d: the log is damaged", hs.GetTerm(), last, lastTerm)
	case hs.GetCommit() > last:
		return nil, fmt.Errorf("node: the log is committed up to entry %d but ends at entry %d: committed entries are missing", hs.GetCommit(), last)
	}
	commit := max(hs.GetCommit(), uint64(mark.Index))
	state := &raftpb.HardState{Term: proto.Uint64(hs.GetTerm()), Vote: proto.Uint64(hs.GetVote()), Commit: proto.Uint64(commit)}
	if cs == nil {
		cs = &raftpb.ConfState{}
	}
	return &recovered{store: newStore(mark, state, cs, entries), mark: mark}, nil
}
