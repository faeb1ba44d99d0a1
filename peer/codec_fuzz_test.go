package peer

import (
	"bufio"
	"bytes"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// FuzzRoundTrip gives bytes of a hostile or broken peer to the decoders of both streams: none of them may fail in any way but an
// error. What a member could have sent must survive being written and read again.
func FuzzRoundTrip(f *testing.F) {
	messages := []*raftpb.Message{
		{Type: raftpb.MsgApp.Enum(), From: proto.Uint64(1), To: proto.Uint64(2), Term: proto.Uint64(3), LogTerm: proto.Uint64(3), Index: proto.Uint64(7), Commit: proto.Uint64(6),
			Entries: []*raftpb.Entry{{Term: proto.Uint64(3), Index: proto.Uint64(8), Data: []byte("x")}}},
		{Type: raftpb.MsgApp.Enum(), From: proto.Uint64(1), To: proto.Uint64(2), Term: proto.Uint64(3), LogTerm: proto.Uint64(3), Index: proto.Uint64(8), Commit: proto.Uint64(8)},
		{Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(1), To: proto.Uint64(2), Term: proto.Uint64(3)},
	}
	for s := range streams {
		enc := s.encoder()
		b := enc.heartbeat(nil)
		for _, m := range messages {
			var err error
			if b, err = enc.message(b, m); err != nil {
				f.Fatal(err)
			}
		}
		f.Add(b)
	}
	f.Add([]byte{frameEntries, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0, 0, 0, 0x1f, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		for s := range streams {
			again := s.encoder()
			var frames []byte
			var want []*raftpb.Message
			for dec := decoderOf(s, b); ; {
				m, err := dec.next()
				if err != nil {
					break
				}
				if m == nil || s == appends && !sendable(m) {
					continue
				}
				if frames, err = again.message(frames, m); err != nil {
					t.Fatalf("%s: what was read cannot be written: %v", s, err)
				}
				want = append(want, m)
			}
			dec := decoderOf(s, frames)
			for i, m := range want {
				got, err := dec.next()
				if err != nil || !proto.Equal(got, m) {
					t.Fatalf("%s: message %d was %v and is read again as %v, %v", s, i, m, got, err)
				}
			}
		}
	})
}

// sendable reports whether raft would put the message on a stream of appends from member 1 to 2: with every field that an append
// has, and no other.
func sendable(m *raftpb.Message) bool {
	return proto.Equal(m, &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: proto.Uint64(1), To: proto.Uint64(2), Term: proto.Uint64(m.GetTerm()), LogTerm: proto.Uint64(m.GetLogTerm()),
		Index: proto.Uint64(m.GetIndex()), Commit: proto.Uint64(m.GetCommit()), Entries: m.GetEntries(),
	})
}

func decoderOf(s stream, b []byte) decoder {
	r := bufio.NewReader(bytes.NewReader(b))
	if s == appends {
		return &appendDecoder{r: r, from: 1, to: 2}
	}
	return &plainDecoder{r: r}
}
