package node

import (
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/invariant"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/storage"
)

// entryOverhead is what an entry takes beside its data, at most: two varints of up to 10 bytes and the fields' tags.
const entryOverhead = 32

// store is raft's view of the durable log: the entries after a base that are kept in memory. It implements raft.Storage.
//
// The loop goroutine owns it: raft reads it there, and entries arrive there with the news that they are durable. So it has
// no lock.
//
// Slices handed to raft may live on in messages and in the apply queue, so positions already written are never written
// again: a truncation or a trim makes a new array.
type store struct {
	hard    *raftpb.HardState // as of the start
	conf    *raftpb.ConfState // as of the start
	base    storage.Mark      // the entry before the first; its data is not kept
	entries []*raftpb.Entry
	bytes   int // data of entries
	keep    int // entries kept behind the applied one
	slack   int // entries beyond those before they are let go of
	// Followers that are brought a snapshot, from which they will go on with what is here, and until which tick at most.
	held map[uint64]int

	// snapshot describes the state as raft knows it; nil when nobody can send one.
	snapshot func() *raftpb.Snapshot
}

func newStore(base storage.Mark, hs *raftpb.HardState, cs *raftpb.ConfState, entries []*raftpb.Entry) *store {
	s := &store{hard: hs, conf: cs, base: base, keep: limits.LogRetainedEntries, slack: limits.LogRetainedEntries}
	s.append(entries)
	return s
}

// InitialState implements raft.Storage.
func (s *store) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return s.hard, s.conf, nil
}

// Entries implements raft.Storage.
func (s *store) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	first := uint64(s.base.Index) + 1
	switch {
	case lo < first:
		return nil, raft.ErrCompacted
	case hi > first+uint64(len(s.entries)):
		return nil, raft.ErrUnavailable
	}
	part := s.entries[lo-first : hi-first]
	var size uint64
	for i, e := range part {
		size += uint64(len(e.GetData())) + entryOverhead
		if size > maxSize && i > 0 {
			part = part[:i]
			break
		}
	}
	return part[:len(part):len(part)], nil
}

// Term implements raft.Storage.
func (s *store) Term(i uint64) (uint64, error) {
	base := uint64(s.base.Index)
	switch {
	case i < base:
		return 0, raft.ErrCompacted
	case i == base:
		return uint64(s.base.Term), nil
	case i > base+uint64(len(s.entries)):
		return 0, raft.ErrUnavailable
	}
	return s.entries[i-base-1].GetTerm(), nil
}

// LastIndex implements raft.Storage.
func (s *store) LastIndex() (uint64, error) {
	return uint64(s.base.Index) + uint64(len(s.entries)), nil
}

// FirstIndex implements raft.Storage.
func (s *store) FirstIndex() (uint64, error) { return uint64(s.base.Index) + 1, nil }

// Snapshot implements raft.Storage. Raft asks for one only to send it to a follower that is too far behind. It gets a
// description without data: whoever sends it makes a snapshot of that moment or a later one.
func (s *store) Snapshot() (*raftpb.Snapshot, error) {
	if s.snapshot == nil {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	return s.snapshot(), nil
}

// append adds entries that have become durable; they replace what is there from their first index on.
func (s *store) append(entries []*raftpb.Entry) {
	if len(entries) == 0 {
		return
	}
	first := uint64(s.base.Index) + 1
	at := entries[0].GetIndex()
	if at < first || at > first+uint64(len(s.entries)) {
		invariant.Failed("entry %d appended to a log that holds %d to %d", at, first, first+uint64(len(s.entries))-1)
	}
	if keep := at - first; keep < uint64(len(s.entries)) {
		s.bytes -= dataBytes(s.entries[keep:])
		s.entries = s.entries[:keep:keep]
	}
	s.entries = append(s.entries, entries...)
	s.bytes += dataBytes(entries)
}

// trim forgets old applied entries when there are enough more than followers are served from memory (by count or bytes).
// Entries above applied stay.
func (s *store) trim(applied uint64) {
	if len(s.entries) <= s.keep+s.slack && s.bytes <= 2*limits.LogRetainedBytes {
		return
	}
	if len(s.held) > 0 && len(s.entries) <= limits.LogHeldEntries && s.bytes <= limits.LogHeldBytes {
		return
	}
	drop, bytes := 0, s.bytes
	for drop < len(s.entries) && s.entries[drop].GetIndex() < applied &&
		(len(s.entries)-drop > s.keep || bytes > limits.LogRetainedBytes) {
		bytes -= len(s.entries[drop].GetData())
		drop++
	}
	if drop == 0 {
		return
	}
	s.base = markOf(s.entries[drop-1])
	s.entries = append(make([]*raftpb.Entry, 0, len(s.entries)-drop+s.slack), s.entries[drop:]...)
	s.bytes = bytes
}

// hold keeps what is here for a follower until it has gone on, and at most until a tick.
func (s *store) hold(to uint64, until int) {
	if s.held == nil {
		s.held = map[uint64]int{}
	}
	s.held[to] = until
}

func markOf(e *raftpb.Entry) storage.Mark {
	return storage.Mark{Index: ids.Index(e.GetIndex()), Term: ids.Term(e.GetTerm())}
}

func dataBytes(entries []*raftpb.Entry) int {
	n := 0
	for _, e := range entries {
		n += len(e.GetData())
	}
	return n
}
