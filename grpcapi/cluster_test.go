package grpcapi_test

import (
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/wire"
)

// Change applies a change at once.
func (s *store) Change(c member.Change, w command.Waiter) {
	kind, context := c.Proposal()
	b, err := proto.Marshal(&raftpb.ConfChange{Type: kind.Enum(), NodeId: proto.Uint64(uint64(c.Member.ID)), Context: context})
	if err != nil {
		s.t.Error(err)
	}
	s.Propose(command.ConfChange, b, w)
}

// Promote is for tests of the one who asks: any learner is ready.
func (s *store) Promote(id ids.MemberID, done func(error)) {
	s.Change(member.Change{Kind: member.Promoted, Member: member.Member{ID: id}}, answered(func(r *command.Result) { done(r.Err) }))
}

// ActiveSince is what a test has set.
func (s *store) ActiveSince(id ids.MemberID) time.Time {
	at, _ := s.active.Load(id)
	t, _ := at.(time.Time)
	return t
}

// started makes a member that was added one that has published its name.
func (s *store) startMember(t testing.TB, id uint64) {
	s.must(t, command.MemberAttributes, &wire.ClusterMemberAttrSetRequest{MemberID: id, Name: fmt.Sprintf("m%d", id), ClientURLs: []string{"http://x:1"}})
}

func TestMembersChange(t *testing.T) {
	s := start(t)
	s.addMember(t)
	c := pb.NewClusterClient(s.conn)
	add := func(learner bool, urls ...string) (*pb.MemberAddResponse, error) {
		return c.MemberAdd(t.Context(), &pb.MemberAddRequest{PeerURLs: urls, IsLearner: learner})
	}
	for _, bad := range [][]string{nil, {"x"}, {"http://a"}, {"ftp://a:1"}, {"http://a:1/p"}, {"http://a:1", ":"}} {
		_, err := add(false, bad...)
		failsAs(t, err, fault.MemberBadURLs)
	}
	_, err := add(false, "http://localhost:2380")
	failsAs(t, err, fault.PeerURLExist)

	added, err := add(true, "http://b:2", " http://a:2")
	if err != nil {
		t.Fatal(err)
	}
	if header(t, added.Header) != 0 || !added.Member.IsLearner || added.Member.Name != "" || fmt.Sprint(added.Member.PeerURLs) != "[http://a:2 http://b:2]" || len(added.Members) != 2 {
		t.Fatalf("%v", added)
	}
	id := added.Member.ID
	_, err = add(true, "http://c:2")
	failsAs(t, err, fault.TooManyLearners)

	_, err = c.MemberPromote(t.Context(), &pb.MemberPromoteRequest{ID: 5})
	failsAs(t, err, fault.MemberNotFound)
	_, err = c.MemberPromote(t.Context(), &pb.MemberPromoteRequest{ID: uint64(memberID)})
	failsAs(t, err, fault.MemberNotLearner)
	promoted, err := c.MemberPromote(t.Context(), &pb.MemberPromoteRequest{ID: id})
	if err != nil || header(t, promoted.Header) != 0 || len(promoted.Members) != 2 || promoted.Members[0].IsLearner || promoted.Members[1].IsLearner {
		t.Fatalf("%v %v", promoted, err)
	}

	_, err = c.MemberUpdate(t.Context(), &pb.MemberUpdateRequest{ID: 5})
	failsAs(t, err, fault.MemberNotFound)
	_, err = c.MemberUpdate(t.Context(), &pb.MemberUpdateRequest{ID: id, PeerURLs: []string{"http://localhost:2380"}})
	failsAs(t, err, fault.PeerURLExist)
	_, err = c.MemberUpdate(t.Context(), &pb.MemberUpdateRequest{ID: id, PeerURLs: []string{"nowhere"}})
	failsAs(t, err, fault.MemberBadURLs)
	updated, err := c.MemberUpdate(t.Context(), &pb.MemberUpdateRequest{ID: id, PeerURLs: []string{"http://new:2"}})
	if err != nil || header(t, updated.Header) != 0 || fmt.Sprint(find(updated.Members, id).PeerURLs) != "[http://new:2]" {
		t.Fatalf("%v %v", updated, err)
	}

	_, err = c.MemberRemove(t.Context(), &pb.MemberRemoveRequest{ID: 5})
	failsAs(t, err, fault.MemberNotEnoughStarted) // of two members one has started
	removed, err := c.MemberRemove(t.Context(), &pb.MemberRemoveRequest{ID: id})
	if err != nil || header(t, removed.Header) != 0 || len(removed.Members) != 1 {
		t.Fatalf("%v %v", removed, err)
	}
	_, err = c.MemberRemove(t.Context(), &pb.MemberRemoveRequest{ID: id})
	failsAs(t, err, fault.MemberNotFound)
	_, err = c.MemberRemove(t.Context(), &pb.MemberRemoveRequest{ID: uint64(memberID)})
	failsAs(t, err, fault.MemberNotEnoughStarted)
}

func find(members []*pb.Member, id uint64) *pb.Member {
	for _, m := range members {
		if m.ID == id {
			return m
		}
	}
	return nil
}

// TestStrictReconfiguration follows etcd's rules about members that have not started and members that are not connected.
func TestStrictReconfiguration(t *testing.T) {
	s := start(t)
	s.addMember(t)
	c := pb.NewClusterClient(s.conn)
	port := 0
	add := func(learner bool) (uint64, error) {
		port++
		resp, err := c.MemberAdd(t.Context(), &pb.MemberAddRequest{PeerURLs: []string{fmt.Sprintf("http://m:%d", port)}, IsLearner: learner})
		return resp.GetMember().GetID(), err
	}
	remove := func(id uint64) error {
		_, err := c.MemberRemove(t.Context(), &pb.MemberRemoveRequest{ID: id})
		return err
	}
	connect := func(id uint64, ago time.Duration) { s.active.Store(ids.MemberID(id), time.Now().Add(-ago)) }
	second, err := add(false) // a cluster of one may always grow
	if err != nil {
		t.Fatal(err)
	}
	_, err = add(false)
	failsAs(t, err, fault.MemberNotEnoughStarted)
	_, err = add(true)
	failsAs(t, err, fault.Unhealthy) // a learner, too, only when those who vote are connected
	s.startMember(t, second)
	_, err = add(false)
	failsAs(t, err, fault.Unhealthy)
	connect(second, time.Second)
	_, err = add(false)
	failsAs(t, err, fault.Unhealthy) // not for long enough
	connect(second, time.Minute)
	third, err := add(false)
	if err != nil {
		t.Fatal(err)
	}
	failsAs(t, remove(second), fault.MemberNotEnoughStarted)
	s.startMember(t, third)
	connect(third, time.Second)
	failsAs(t, remove(second), fault.Unhealthy) // the one that would remain has not been there for long
	s.active.Delete(ids.MemberID(third))
	if err := remove(third); err != nil { // one that is down may go
		t.Fatal(err)
	}
	learner, err := add(true)
	if err != nil {
		t.Fatal(err)
	}
	s.active.Delete(ids.MemberID(second))
	if err := remove(learner); err != nil { // and so may a learner
		t.Fatal(err)
	}

	loose := settings()
	loose.StrictReconfig = false
	free := pb.NewClusterClient(serve(t, s.store, loose).conn)
	if _, err := free.MemberAdd(t.Context(), &pb.MemberAddRequest{PeerURLs: []string{"http://free:1"}}); err != nil {
		t.Fatal(err)
	}
}

// TestLearnerRefuses has this member become a learner.
func TestLearnerRefuses(t *testing.T) {
	s := start(t)
	m := member.Member{ID: memberID, PeerURLs: []string{"http://localhost:2380"}, IsLearner: true}
	s.Change(member.Change{Kind: member.Added, Member: m}, answered(func(r *command.Result) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}))
	ctx := t.Context()
	_, err := s.kv.Put(ctx, &pb.PutRequest{Key: []byte("k")})
	failsAs(t, err, fault.NotSupportedForLearner)
	_, err = s.kv.Range(ctx, &pb.RangeRequest{Key: []byte("k")})
	failsAs(t, err, fault.NotSupportedForLearner)
	if _, err = s.kv.Range(ctx, &pb.RangeRequest{Key: []byte("k"), Serializable: true}); err != nil {
		t.Fatal(err)
	}
	_, err = pb.NewClusterClient(s.conn).MemberList(ctx, &pb.MemberListRequest{})
	failsAs(t, err, fault.NotSupportedForLearner)
	_, err = grpc_health_v1.NewHealthClient(s.conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	failsAs(t, err, fault.NotSupportedForLearner)
	status, err := pb.NewMaintenanceClient(s.conn).Status(ctx, &pb.StatusRequest{})
	if err != nil || !status.IsLearner {
		t.Fatalf("%v %v", status, err)
	}
	w, err := pb.NewWatchClient(s.conn).Watch(ctx)
	if err == nil {
		_, err = w.Recv()
	}
	failsAs(t, err, fault.NotSupportedForLearner)
	snap, err := pb.NewMaintenanceClient(s.conn).Snapshot(ctx, &pb.SnapshotRequest{})
	if err == nil {
		_, err = snap.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
}
