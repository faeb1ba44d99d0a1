package migrate

import (
	"fmt"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// TestCluster holds which changes of the cluster take indices, as on the servers: those that they refused take none.
func TestCluster(t *testing.T) {
	c, err := clusterOf(nil)
	if err != nil {
		t.Fatal(err)
	}
	const add, learner, remove, update = raftpb.ConfChangeAddNode, raftpb.ConfChangeAddLearnerNode, raftpb.ConfChangeRemoveNode, raftpb.ConfChangeUpdateNode
	for i, s := range []struct {
		kind    raftpb.ConfChangeType
		id      uint64
		context string
		want    string
	}{
		{add, 1, `{"id":1,"peerURLs":["http://a"]}`, "[1]"},
		{add, 1, `{"id":1,"peerURLs":["http://b"]}`, "[]"}, // it is there
		{add, 2, `{"id":2,"peerURLs":["http://a"]}`, "[]"}, // the URL is another's
		{learner, 2, `{"id":2,"peerURLs":["http://b"],"isLearner":true}`, "[1]"},
		{learner, 3, `{"id":3,"peerURLs":["http://c"],"isLearner":true}`, "[]"}, // one is enough
		{add, 1, `{"id":1,"isPromote":true}`, "[]"},                             // it is no learner
		{add, 2, `{"id":2,"isPromote":true}`, "[2]"},
		{update, 2, `{"id":2,"peerURLs":["http://a"]}`, "[]"},
		{update, 2, `{"id":2,"peerURLs":["http://d"]}`, "[2]"},
		{update, 9, `{"id":9,"peerURLs":["http://e"]}`, "[]"},
		{remove, 9, ``, "[]"},
		{remove, 2, ``, "[4]"},                             // MemberRemoved, which takes two indices
		{add, 2, `{"id":2,"peerURLs":["http://f"]}`, "[]"}, // it was removed
	} {
		got, err := c.change(&raftpb.ConfChange{Type: s.kind.Enum(), NodeId: proto.Uint64(s.id), Context: []byte(s.context)})
		if err != nil || fmt.Sprint(got) != s.want {
			t.Errorf("change %d: %v %v, want %s", i, err, got, s.want)
		}
	}
	for _, w := range []struct{ path, value, want string }{
		{"/0/members/1/attributes", "{}", "[3] true"},
		{"/0/members/2/attributes", "{}", "[] true"}, // it was removed
		{"/0/version", "3.4.0", "[5] true"},
		{"/0/other", "x", "[] false"},
		{"/1/version", "x", "[] false"},
	} {
		got, ok, err := c.write(w.path, w.value)
		if err != nil || fmt.Sprint(got, ok) != w.want {
			t.Errorf("%s: %v %v %v, want %s", w.path, got, ok, err, w.want)
		}
	}
}
