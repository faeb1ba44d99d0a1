package wal

import (
	"encoding/binary"
	"errors"

	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/ids"
)

// Kinds of records in the body of a group. Numbers are unsigned varints.
const (
	recordState byte = 1 // term, vote, commit
	recordEntry byte = 2 // type, term, index, length, data
	recordReset byte = 3 // index, term: the log continues after them
)

// hardState is raft's, as a comparable value.
type hardState struct {
	term, vote, commit uint64
}

func stateOf(hs *raftpb.HardState) hardState {
	return hardState{term: hs.GetTerm(), vote: hs.GetVote(), commit: hs.GetCommit()}
}

func (s hardState) message() *raftpb.HardState {
	return &raftpb.HardState{Term: &s.term, Vote: &s.vote, Commit: &s.commit}
}

func appendState(b []byte, s hardState) []byte {
	b = append(b, recordState)
	b = binary.AppendUvarint(b, s.term)
	b = binary.AppendUvarint(b, s.vote)
	return binary.AppendUvarint(b, s.commit)
}

func appendEntry(b []byte, e *raftpb.Entry) []byte {
	b = append(b, recordEntry)
	b = binary.AppendUvarint(b, uint64(e.GetType()))
	b = binary.AppendUvarint(b, e.GetTerm())
	b = binary.AppendUvarint(b, e.GetIndex())
	b = binary.AppendUvarint(b, uint64(len(e.GetData())))
	return append(b, e.GetData()...)
}

func appendReset(b []byte, index ids.Index, term ids.Term) []byte {
	b = append(b, recordReset)
	b = binary.AppendUvarint(b, uint64(index))
	return binary.AppendUvarint(b, uint64(term))
}

// record is one decoded record; data aliases the body it came from.
type record struct {
	kind  byte
	state hardState
	entry uint64 // type
	term  uint64
	index ids.Index
	data  []byte
}

// message is the entry as raft wants it, in one allocation.
func (r *record) message() *raftpb.Entry {
	m := &struct {
		entry       raftpb.Entry
		term, index uint64
		kind        raftpb.EntryType
	}{term: r.term, index: uint64(r.index), kind: raftpb.EntryType(r.entry)}
	m.entry.Term, m.entry.Index, m.entry.Type = &m.term, &m.index, &m.kind
	m.entry.Data = r.data
	return &m.entry
}

var errRecord = errors.New("a record cannot be read")

// nextRecord decodes the first record of body and returns the rest.
func nextRecord(body []byte) (r record, rest []byte, err error) {
	r.kind, rest = body[0], body[1:]
	number := func() uint64 {
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			err, rest = errRecord, nil
			return 0
		}
		rest = rest[n:]
		return v
	}
	switch r.kind {
	case recordState:
		r.state = hardState{term: number(), vote: number(), commit: number()}
	case recordEntry:
		r.entry, r.term, r.index = number(), number(), ids.Index(number())
		n := number()
		if n > uint64(len(rest)) || r.index == 0 {
			return r, nil, errRecord
		}
		if n > 0 {
			r.data = rest[:n:n]
		}
		rest = rest[n:]
	case recordReset:
		r.index, r.term = ids.Index(number()), number()
	default:
		return r, nil, errRecord
	}
	return r, rest, err
}
