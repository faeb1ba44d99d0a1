package peer

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func goingOn(term, index, logTerm, commit uint64, terms ...uint64) *raftpb.Message {
	m := &raftpb.Message{Type: raftpb.MsgApp.Enum(), From: proto.Uint64(1), To: proto.Uint64(2), Term: &term, Index: &index, LogTerm: &logTerm, Commit: &commit}
	for i, t := range terms {
		m.Entries = append(m.Entries, &raftpb.Entry{Term: proto.Uint64(t), Index: proto.Uint64(index + uint64(i) + 1), Data: []byte{byte(index) + byte(i)}})
	}
	return m
}

func answerOf(term, index uint64, reject bool) *raftpb.Message {
	return &raftpb.Message{Type: raftpb.MsgAppResp.Enum(), From: proto.Uint64(1), To: proto.Uint64(2), Term: &term, Index: &index, Reject: &reject}
}

func proposalOf(kind raftpb.EntryType, data string) *raftpb.Message {
	return &raftpb.Message{Type: raftpb.MsgProp.Enum(), From: proto.Uint64(1), To: proto.Uint64(2), Entries: []*raftpb.Entry{{Type: kind.Enum(), Data: []byte(data)}}}
}

// stamped is a proposal to one leadership only.
func stamped(m *raftpb.Message, term byte) *raftpb.Message {
	m.Context = []byte{term}
	return m
}

// TestWaitingMessagesMerge: what waits is told in fewer messages, and never otherwise.
func TestWaitingMessagesMerge(t *testing.T) {
	normal, change := raftpb.EntryNormal, raftpb.EntryConfChange
	other := &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(1), To: proto.Uint64(2)}
	for _, c := range []struct {
		name      string
		put, want []*raftpb.Message
	}{
		{"appends that go on", []*raftpb.Message{goingOn(3, 10, 2, 9, 3, 3), goingOn(3, 12, 3, 10, 3)}, []*raftpb.Message{goingOn(3, 10, 2, 10, 3, 3, 3)}},
		{"the news of a commit", []*raftpb.Message{goingOn(3, 10, 2, 9, 3, 3), goingOn(3, 12, 3, 12)}, []*raftpb.Message{goingOn(3, 10, 2, 12, 3, 3)}},
		{"a gap", []*raftpb.Message{goingOn(3, 10, 2, 9, 3), goingOn(3, 12, 3, 10, 3)}, nil},
		{"the same again", []*raftpb.Message{goingOn(3, 10, 2, 9, 3), goingOn(3, 10, 2, 9, 3)}, nil},
		{"another term", []*raftpb.Message{goingOn(3, 10, 2, 9, 3), goingOn(4, 11, 3, 10, 4)}, nil},
		{"another history", []*raftpb.Message{goingOn(3, 10, 2, 9, 3), goingOn(3, 11, 2, 10, 3)}, nil},
		{"answers", []*raftpb.Message{answerOf(3, 10, false), other, answerOf(3, 12, false)}, []*raftpb.Message{answerOf(3, 12, false), other}},
		{"an older answer", []*raftpb.Message{answerOf(3, 12, false), answerOf(3, 10, false)}, nil},
		{"a rejection stays", []*raftpb.Message{answerOf(3, 10, true), answerOf(3, 12, false)}, nil},
		{"a rejection is told", []*raftpb.Message{answerOf(3, 10, false), answerOf(3, 12, true)}, nil},
		{"an answer behind a rejection", []*raftpb.Message{answerOf(3, 10, false), answerOf(3, 9, true), answerOf(3, 12, false)}, nil},
		{"proposals", []*raftpb.Message{proposalOf(normal, "a"), proposalOf(normal, "b")},
			[]*raftpb.Message{{Type: raftpb.MsgProp.Enum(), From: proto.Uint64(1), To: proto.Uint64(2), Entries: []*raftpb.Entry{{Type: normal.Enum(), Data: []byte("a")}, {Type: normal.Enum(), Data: []byte("b")}}}}},
		{"proposals to the same leadership", []*raftpb.Message{stamped(proposalOf(normal, "a"), 7), stamped(proposalOf(normal, "b"), 7)},
			[]*raftpb.Message{stamped(&raftpb.Message{Type: raftpb.MsgProp.Enum(), From: proto.Uint64(1), To: proto.Uint64(2), Entries: []*raftpb.Entry{{Type: normal.Enum(), Data: []byte("a")}, {Type: normal.Enum(), Data: []byte("b")}}}, 7)}},
		{"proposals to two leaderships", []*raftpb.Message{stamped(proposalOf(normal, "a"), 7), stamped(proposalOf(normal, "b"), 8), proposalOf(normal, "c")}, nil},
		{"a change of members", []*raftpb.Message{proposalOf(normal, "a"), proposalOf(change, "b"), proposalOf(normal, "c")}, nil},
	} {
		o := newOutbox()
		o.serve()
		var before []*raftpb.Message
		for _, m := range c.put {
			before = append(before, proto.Clone(m).(*raftpb.Message))
			require.True(t, o.put(m), c.name)
		}
		if c.want == nil {
			c.want = before
		}
		got := o.take()
		require.Len(t, got, len(c.want), c.name)
		for i := range got {
			require.True(t, proto.Equal(c.want[i], got[i]), "%s: message %d is %v, want %v", c.name, i, got[i], c.want[i])
		}
		for i, m := range c.put {
			require.True(t, proto.Equal(before[i], m), "%s: message %d was changed", c.name, i)
		}
	}
}

// TestMergedMessagesStaySmall: a message does not grow past what a receiver takes.
func TestMergedMessagesStaySmall(t *testing.T) {
	o := newOutbox()
	o.serve()
	big := make([]byte, mergeBytes/2+1)
	for i := range uint64(4) {
		m := goingOn(3, i, 3, 0, 3)
		m.Entries[0].Data = big
		require.True(t, o.put(m))
	}
	require.Len(t, o.take(), 4)
	for i := range uint64(2 * mergeEntries) {
		require.True(t, o.put(goingOn(3, i, 3, 0, 3)))
	}
	require.Len(t, o.take(), 2)
}
