package transfer

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/command"
)

func entryOf(data []byte) *raftpb.Entry {
	return &raftpb.Entry{Index: proto.Uint64(7), Term: proto.Uint64(2), Type: raftpb.EntryNormal.Enum(), Data: data}
}

// bare is a request of the v2 API as etcd up to 3.5 writes it.
func bare(method, path, value string) []byte {
	b := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 42)
	for i, text := range []string{method, path, value} {
		b = protowire.AppendString(protowire.AppendTag(b, protowire.Number(i+2), protowire.BytesType), text)
	}
	return b
}

func TestTranslate(t *testing.T) {
	put, err := proto.Marshal(&pb.InternalRaftRequest{Header: &pb.RequestHeader{ID: 9}, Put: &pb.PutRequest{Key: []byte("k")}})
	require.NoError(t, err)
	newer := protowire.AppendBytes(protowire.AppendTag(nil, 1305, protowire.BytesType), nil)
	for _, c := range []struct {
		name string
		data []byte
		keep bool
		kind command.Kind
		v2   int
	}{
		{"a put stays as it is", put, false, command.Put, 0},
		{"an empty entry too", nil, false, command.Empty, 0},
		{"a member's name", bare("PUT", "/0/members/a1b2/attributes", `{"name":"m1","clientURLs":["http://x:1"]}`), false, command.MemberAttributes, 0},
		{"the version", bare("PUT", "/0/version", "3.4.0"), false, command.ClusterVersion, 0},
		{"a key of the v2 API, taken", bare("PUT", "/1/a", "x"), true, command.V2, 1},
		{"a key of the v2 API, left", bare("PUT", "/1/a", "x"), false, command.Empty, 1},
		{"what expires", bare("SYNC", "", ""), true, command.V2, 0},
		{"a read", bare("QGET", "/1/a", ""), true, command.Empty, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := translator{keepV2: c.keep}
			e, err := tr.entry(entryOf(c.data))
			require.NoError(t, err)
			require.Equal(t, []uint64{7, 2}, []uint64{e.GetIndex(), e.GetTerm()})
			got, err := command.Decode(e.GetData())
			require.NoError(t, err)
			require.Equal(t, c.kind, got.Kind)
			require.Equal(t, c.v2, tr.v2)
		})
	}
	for name, data := range map[string][]byte{"a newer etcd's": newer, "no request": []byte("\xff\xff"), "no attributes": bare("PUT", "/0/members/a1/attributes", "{")} {
		_, err := (&translator{}).entry(entryOf(data))
		require.ErrorContains(t, err, "entry 7", name)
	}
}

func TestPlainPassword(t *testing.T) {
	for _, c := range []struct {
		r  *pb.InternalRaftRequest
		ok bool
	}{
		{&pb.InternalRaftRequest{AuthUserAdd: &pb.AuthUserAddRequest{Name: "ann", Password: "x"}}, false},
		{&pb.InternalRaftRequest{AuthUserAdd: &pb.AuthUserAddRequest{Name: "ann", HashedPassword: "x"}}, true},
		{&pb.InternalRaftRequest{AuthUserAdd: &pb.AuthUserAddRequest{Name: "ann"}}, true},
		{&pb.InternalRaftRequest{AuthUserChangePassword: &pb.AuthUserChangePasswordRequest{Name: "ann", Password: "x"}}, false},
		{&pb.InternalRaftRequest{AuthUserChangePassword: &pb.AuthUserChangePasswordRequest{Name: "ann", HashedPassword: "x"}}, true},
	} {
		data, err := proto.Marshal(c.r)
		require.NoError(t, err)
		err = plainPassword(entryOf(data))
		require.Equal(t, c.ok, err == nil, "%v: %v", c.r, err)
	}
}
