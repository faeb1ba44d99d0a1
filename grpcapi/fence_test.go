package grpcapi_test

import (
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/health/grpc_health_v1"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/member"
)

// alarm raises or clears CORRUPT for a member.
func (s *server) alarm(t *testing.T, action pb.AlarmRequest_AlarmAction, id uint64) {
	t.Helper()
	_, err := pb.NewMaintenanceClient(s.conn).Alarm(t.Context(), &pb.AlarmRequest{Action: action, MemberID: id, Alarm: pb.AlarmType_CORRUPT})
	if err != nil {
		t.Fatal(err)
	}
}

// TestFencedMemberServesNoData has a CORRUPT alarm that names one of three: another one goes on, the named one serves only what
// is not about data, and says so to those who ask for its health.
func TestFencedMemberServesNoData(t *testing.T) {
	s := start(t)
	s.addMember(t)
	for id := ids.MemberID(2); id <= 3; id++ {
		done := make(chan error, 1)
		s.Change(member.Change{Kind: member.Added, Member: member.Member{ID: id, PeerURLs: []string{fmt.Sprintf("http://m%d:2380", id)}}},
			answered(func(r *command.Result) { done <- r.Err }))
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	s.put(t, "a", "1")
	s.alarm(t, pb.AlarmRequest_ACTIVATE, 2)
	s.put(t, "a", "2")
	h := grpc_health_v1.NewHealthClient(s.conn)
	watch, err := h.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	status := func(want grpc_health_v1.HealthCheckResponse_ServingStatus) {
		t.Helper()
		if r, err := watch.Recv(); err != nil || r.Status != want {
			t.Fatalf("%v %v", r, err)
		}
		if r, err := h.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil || r.Status != want {
			t.Fatalf("%v %v", r, err)
		}
	}
	status(grpc_health_v1.HealthCheckResponse_SERVING)
	s.alarm(t, pb.AlarmRequest_DEACTIVATE, 2)
	s.alarm(t, pb.AlarmRequest_ACTIVATE, uint64(memberID))
	status(grpc_health_v1.HealthCheckResponse_NOT_SERVING)

	_, err = s.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("a"), Serializable: true})
	failsAs(t, err, fault.Corrupt)
	_, err = s.kv.Put(t.Context(), &pb.PutRequest{Key: []byte("a")})
	failsAs(t, err, fault.Corrupt)
	_, err = pb.NewLeaseClient(s.conn).LeaseGrant(t.Context(), &pb.LeaseGrantRequest{TTL: 10})
	failsAs(t, err, fault.Corrupt)
	w, err := pb.NewWatchClient(s.conn).Watch(t.Context())
	if err == nil {
		_, err = w.Recv()
	}
	failsAs(t, err, fault.Corrupt)
	snap, err := pb.NewMaintenanceClient(s.conn).Snapshot(t.Context(), &pb.SnapshotRequest{})
	if err == nil {
		_, err = snap.Recv()
	}
	failsAs(t, err, fault.Corrupt)
	if r, err := pb.NewMaintenanceClient(s.conn).Status(t.Context(), &pb.StatusRequest{}); err != nil || len(r.Errors) != 1 {
		t.Fatalf("%v %v", r, err)
	}
	if _, err := pb.NewClusterClient(s.conn).MemberList(t.Context(), &pb.MemberListRequest{}); err != nil {
		t.Fatal(err)
	}

	s.alarm(t, pb.AlarmRequest_DEACTIVATE, uint64(memberID))
	status(grpc_health_v1.HealthCheckResponse_SERVING)
	s.put(t, "a", "3")
}

// TestHealthWithoutLeader tells a watcher of the health when the leader has been gone for long, and when there is one again.
func TestHealthWithoutLeader(t *testing.T) {
	s := start(t)
	w, err := grpc_health_v1.NewHealthClient(s.conn).Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []grpc_health_v1.HealthCheckResponse_ServingStatus{
		grpc_health_v1.HealthCheckResponse_SERVING, grpc_health_v1.HealthCheckResponse_NOT_SERVING, grpc_health_v1.HealthCheckResponse_SERVING,
	} {
		if r, err := w.Recv(); err != nil || r.Status != want {
			t.Fatalf("answer %d: %v %v", i, r, err)
		}
		s.leader.Store([]uint64{0, uint64(memberID), 0}[i])
	}
}
