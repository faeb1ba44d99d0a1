package node_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/node"
	"quorate.dev/quorate/storage"
)

func hardState(term, commit uint64) *raftpb.HardState {
	return &raftpb.HardState{Term: proto.Uint64(term), Vote: proto.Uint64(uint64(self)), Commit: proto.Uint64(commit)}
}

// logOf makes entries of the given terms, the first at index first.
func logOf(first uint64, terms ...uint64) (out []*raftpb.Entry) {
	for i, term := range terms {
		at := first + uint64(i)
		data := command.AppendEntry(nil, at, command.Put, fmt.Append(nil, at))
		out = append(out, &raftpb.Entry{Index: proto.Uint64(at), Term: proto.Uint64(term), Data: data})
	}
	return out
}

// A restart applies what is after the machine's mark, once, whatever the hard state knew to be committed, and leads in the
// next term.
func TestRestart(t *testing.T) {
	for _, c := range []struct {
		name         string
		mark         storage.Mark
		first        uint64
		terms        []uint64
		term, commit uint64
		want         []ids.Index
	}{
		{"all applied", storage.Mark{Index: 4, Term: 2}, 1, []uint64{1, 2, 2, 2}, 2, 4, []ids.Index{5}},
		{"commit behind the mark", storage.Mark{Index: 4, Term: 2}, 1, []uint64{1, 2, 2, 2}, 2, 2, []ids.Index{5}},
		{"tail committed", storage.Mark{Index: 2, Term: 2}, 1, []uint64{1, 2, 2, 2}, 2, 4, []ids.Index{3, 4, 5}},
		{"tail not known to be committed", storage.Mark{Index: 2, Term: 2}, 1, []uint64{1, 2, 2, 2}, 2, 0, []ids.Index{3, 4, 5}},
		{"log begins at the mark", storage.Mark{Index: 7, Term: 3}, 7, []uint64{3, 3}, 3, 8, []ids.Index{8, 9}},
		{"log begins after the mark", storage.Mark{Index: 7, Term: 3}, 8, []uint64{4}, 4, 8, []ids.Index{8, 9}},
		{"nothing left in the log", storage.Mark{Index: 7, Term: 3}, 0, nil, 3, 7, []ids.Index{8}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMember(t)
			m.machine.mark = c.mark
			m.start(func(n *node.Config) {
				n.HardState, n.Entries, n.ConfState = hardState(c.term, c.commit), logOf(c.first, c.terms...), voters(self)
			}).lead()
			require.Equal(t, ids.Term(c.term+1), m.host.Status().Term)
			var got []ids.Index
			for _, a := range m.machine.commands() {
				got = append(got, a.Index)
			}
			require.Equal(t, c.want, got)
		})
	}
}

// Entries of an earlier run are applied and find nobody who waits, even when ids repeat because the clock went back.
func TestOldEntriesAnswerNobody(t *testing.T) {
	m := newMember(t)
	m.machine.gate = newGate(0)
	old := logOf(2, 1)
	id := uint64(uint16(self&0xffff))<<48 | uint64(epoch.UnixMilli())<<8&(1<<48-1) + 1 // the first id of this run
	old[0].Data = command.AppendEntry(nil, id, command.Put, []byte("old"))
	m.start(func(n *node.Config) { n.HardState, n.Entries = hardState(1, 2), append(n.Entries, old...) })
	a := m.put("new")
	m.machine.gate.open()
	r := a.get()
	require.NoError(t, r.Err)
	require.Equal(t, ids.Revision(4), r.Revision, "the answer of an old entry")
	cmds := m.machine.commands()
	require.Equal(t, "new", string(cmds[3].Body))
	require.Zero(t, cmds[1].ID)
	require.Equal(t, id, cmds[3].ID, "this test has lost its point: ids do not repeat")
}

// What does not fit together is refused, and the text says what.
func TestRestartRefuses(t *testing.T) {
	for _, c := range []struct {
		text         string
		mark         storage.Mark
		entries      []*raftpb.Entry
		term, commit uint64
	}{
		{"ends at entry 3 but the store has applied entry 5", storage.Mark{Index: 5, Term: 1}, logOf(1, 1, 1, 1), 1, 3},
		{"begins at entry 8 but the store has only applied up to entry 5", storage.Mark{Index: 5, Term: 1}, logOf(8, 1), 1, 8},
		{"entry 2 has term 1 in the log but the store applied it with term 2", storage.Mark{Index: 2, Term: 2}, logOf(1, 1, 1, 2), 2, 3},
		{"committed up to entry 9 but ends at entry 2", storage.Mark{}, logOf(1, 1, 1), 1, 9},
		{"hard state has term 1 but its last entry 2 has term 3", storage.Mark{}, logOf(1, 1, 3), 1, 0},
		{"entry 3 of term 1 follows entry 1 of term 1", storage.Mark{}, append(logOf(1, 1), logOf(3, 1)...), 1, 0},
		{"entry 2 of term 1 follows entry 1 of term 2", storage.Mark{}, logOf(1, 2, 1), 2, 0},
	} {
		m := newMember(t)
		m.machine.mark = c.mark
		cfg := m.config()
		cfg.HardState, cfg.Entries, cfg.ConfState = hardState(c.term, c.commit), c.entries, voters(self)
		_, err := node.Start(cfg)
		require.ErrorContains(t, err, c.text)
	}
}
