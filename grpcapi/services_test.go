package grpcapi_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/grpcapi"
	"quorate.dev/quorate/wire"
)

// rawCodec sends and receives bytes as they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (rawCodec) Unmarshal(b []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(b)
	return nil
}
func (rawCodec) Name() string { return "proto" }

func forceCodec(c encoding.Codec) grpc.CallOption { return grpc.ForceCodec(c) }

func TestLease(t *testing.T) {
	s := start(t)
	client := pb.NewLeaseClient(s.conn)
	grant, err := client.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{TTL: 0})
	if err != nil || header(t, grant.Header) != 1 || grant.ID != 0x7e57 || grant.TTL != 2 || grant.Error != "" {
		t.Fatalf("chosen id and raised TTL: %v %v", grant, err)
	}
	grant, err = client.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{TTL: 60, ID: 5})
	if err != nil || grant.ID != 5 || grant.TTL != 60 {
		t.Fatalf("%v %v", grant, err)
	}
	_, err = client.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{TTL: 60, ID: 5})
	failsAs(t, err, fault.LeaseExist)
	_, err = client.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{TTL: 9_000_000_001, ID: 5})
	failsAs(t, err, fault.LeaseTTLTooLarge)
	for _, key := range []string{"b", "a"} {
		if _, err := s.kv.Put(t.Context(), &pb.PutRequest{Key: []byte(key), Lease: 5}); err != nil {
			t.Fatal(err)
		}
	}
	live, err := client.LeaseTimeToLive(t.Context(), &pb.LeaseTimeToLiveRequest{ID: 5, Keys: true})
	if err != nil || header(t, live.Header) != 3 || live.ID != 5 || live.TTL != 59 || live.GrantedTTL != 60 || string(bytes.Join(live.Keys, nil)) != "ab" {
		t.Fatalf("%v %v", live, err)
	}
	live, err = client.LeaseTimeToLive(t.Context(), &pb.LeaseTimeToLiveRequest{ID: 6})
	if err != nil || live.ID != 6 || live.TTL != -1 || live.GrantedTTL != 0 {
		t.Fatalf("missing lease: %v %v", live, err)
	}
	list, err := client.LeaseLeases(t.Context(), &pb.LeaseLeasesRequest{})
	if err != nil || len(list.Leases) != 2 || list.Leases[0].ID != 0x7e57 || list.Leases[1].ID != 5 {
		t.Fatalf("by remaining time: %v %v", list, err)
	}
	alive, err := client.LeaseKeepAlive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for id, ttl := range map[int64]int64{5: 60, 6: 0} {
		if err := alive.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
			t.Fatal(err)
		}
		if resp, err := alive.Recv(); err != nil || header(t, resp.Header) != 3 || resp.ID != id || resp.TTL != ttl {
			t.Fatalf("keep-alive of %d: %v %v", id, resp, err)
		}
	}
	if err := alive.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := alive.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("the stream ends with its requests: %v", err)
	}
	revoke, err := client.LeaseRevoke(t.Context(), &pb.LeaseRevokeRequest{ID: 5})
	if err != nil || header(t, revoke.Header) != 4 {
		t.Fatalf("%v %v", revoke, err)
	}
	_, err = client.LeaseRevoke(t.Context(), &pb.LeaseRevokeRequest{ID: 5})
	failsAs(t, err, fault.LeaseNotFound)
	if got, err := s.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("c")}); err != nil || got.Count != 0 {
		t.Fatalf("keys of a revoked lease: %v %v", got, err)
	}
}

func TestWatch(t *testing.T) {
	s := start(t)
	s.put(t, "k", "1")
	ctx, cancel := context.WithCancel(t.Context())
	w, err := pb.NewWatchClient(s.conn).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	create := func(r *pb.WatchCreateRequest) *pb.WatchResponse {
		t.Helper()
		if err := w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}}); err != nil {
			t.Fatal(err)
		}
		return recv(t, w)
	}
	if r := create(&pb.WatchCreateRequest{Key: []byte("k"), StartRevision: 1, PrevKv: true}); !r.Created || r.WatchId != 0 || header(t, r.Header) != 2 {
		t.Fatalf("%v", r)
	}
	if r := recv(t, w); len(r.Events) != 1 || string(r.Events[0].Kv.Value) != "1" {
		t.Fatalf("%v", r)
	}
	if r := create(&pb.WatchCreateRequest{Key: []byte("k"), StartRevision: -1}); !r.Created || !r.Canceled || r.WatchId != -1 || r.CancelReason != fault.Compacted.Text {
		t.Fatalf("negative revision: %v", r)
	}
	s.put(t, "k", "2")
	if r := recv(t, w); len(r.Events) != 1 || string(r.Events[0].Kv.Value) != "2" || string(r.Events[0].PrevKv.GetValue()) != "1" {
		t.Fatalf("%v", r)
	}
	for _, r := range []*pb.WatchRequest{{}, {RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: 77}}},
		{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}} {
		if err := w.Send(r); err != nil {
			t.Fatal(err)
		}
	}
	if r := recv(t, w); r.WatchId != -1 || r.Header.Revision != 3 || len(r.Events) != 0 {
		t.Fatalf("progress: %v", r)
	}
	// A stream whose client has nothing more to ask goes on.
	if err := w.CloseSend(); err != nil {
		t.Fatal(err)
	}
	s.put(t, "k", "3")
	if r := recv(t, w); len(r.Events) != 1 {
		t.Fatalf("after half-close: %v", r)
	}
	if got := s.hub.Stats(); got.Streams != 1 || got.Watchers != 1 {
		t.Fatalf("%+v", got)
	}
	cancel()
	eventually(t, func() bool { return s.hub.Stats().Streams == 0 }, "the hub forgets a cancelled stream")
}

func recv(t *testing.T, w pb.Watch_WatchClient) *pb.WatchResponse {
	t.Helper()
	r, err := w.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t *testing.T, ok func() bool, what string) {
	t.Helper()
	for !ok() {
		select {
		case <-t.Context().Done():
			t.Fatal(what)
		default:
			runtime.Gosched()
		}
	}
}

func TestMaintenance(t *testing.T) {
	s := start(t)
	m := pb.NewMaintenanceClient(s.conn)
	s.put(t, "a", "1")
	var head metadata.MD
	st, err := m.Status(t.Context(), &pb.StatusRequest{}, grpc.Header(&head))
	if err != nil || header(t, st.Header) != 2 || fmt.Sprint(head["quorate-version"]) != "[v0.1.0]" {
		t.Fatalf("%v %v %v", st, err, head)
	}
	if st.Version != "3.7.3" || st.StorageVersion != "3.7.0" || st.DbSize != 4096 || st.DbSizeInUse != s.View().RetainedBytes() ||
		st.DbSizeQuota != 2<<30 || st.Leader != uint64(memberID) || st.RaftIndex != 7 || st.RaftAppliedIndex != 6 || st.RaftTerm != uint64(term) ||
		st.DowngradeInfo == nil || st.DowngradeInfo.Enabled || st.IsLearner || len(st.Errors) != 0 {
		t.Fatalf("%v", st)
	}
	alarm := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: 10, Alarm: pb.AlarmType_NOSPACE}
	up, err := m.Alarm(t.Context(), alarm)
	if err != nil || header(t, up.Header) != 2 || len(up.Alarms) != 1 || up.Alarms[0].MemberID != 10 {
		t.Fatalf("%v %v", up, err)
	}
	s.leader.Store(0)
	st, err = m.Status(t.Context(), &pb.StatusRequest{})
	if err != nil || !slices.Equal(st.Errors, []string{"etcdserver: no leader", "memberID:10 alarm:NOSPACE"}) {
		t.Fatalf("%q %v", st.GetErrors(), err)
	}
	if text := grpcapi.AlarmText(wire.AlarmMember{Alarm: wire.AlarmNoSpace}); text != "alarm:NOSPACE" { // a member that is not named
		t.Fatal(text)
	}
	_, err = m.MoveLeader(t.Context(), &pb.MoveLeaderRequest{TargetID: uint64(memberID)})
	failsAs(t, err, fault.NotLeader)
	s.leader.Store(uint64(memberID))
	_, err = m.MoveLeader(t.Context(), &pb.MoveLeaderRequest{TargetID: 99})
	failsAs(t, err, fault.BadLeaderTransferee)
	if d, err := m.Defragment(t.Context(), &pb.DefragmentRequest{}); err != nil || d.Header != nil {
		t.Fatalf("%v %v", d, err)
	}
}

func TestHashes(t *testing.T) {
	s := start(t)
	m := pb.NewMaintenanceClient(s.conn)
	for i := range 20 {
		s.put(t, fmt.Sprint("k", i%3), fmt.Sprint(i))
	}
	hash := func() uint32 {
		h, err := m.Hash(t.Context(), &pb.HashRequest{})
		if err != nil || header(t, h.Header) == 0 {
			t.Fatalf("%v %v", h, err)
		}
		return h.Hash
	}
	before := hash()
	if before != hash() {
		t.Fatal("the hash of one state changes")
	}
	kv, err := m.HashKV(t.Context(), &pb.HashKVRequest{})
	if err != nil || header(t, kv.Header) != 21 || kv.CompactRevision != -1 || kv.HashRevision != 21 {
		t.Fatalf("%v %v", kv, err)
	}
	at10, err := m.HashKV(t.Context(), &pb.HashKVRequest{Revision: 10})
	if err != nil || at10.HashRevision != 10 || at10.Hash == kv.Hash {
		t.Fatalf("%v %v", at10, err)
	}
	if _, err := s.kv.Compact(t.Context(), &pb.CompactionRequest{Revision: 10, Physical: true}); err != nil {
		t.Fatal(err)
	}
	again, err := m.HashKV(t.Context(), &pb.HashKVRequest{Revision: 10})
	if err != nil || again.HashRevision != 10 || again.CompactRevision != -1 || again.Hash == 0 {
		t.Fatalf("the hash taken before the removal: %v %v", again, err)
	}
	_, err = m.HashKV(t.Context(), &pb.HashKVRequest{Revision: 9})
	failsAs(t, err, fault.Compacted)
	_, err = m.HashKV(t.Context(), &pb.HashKVRequest{Revision: 22})
	failsAs(t, err, fault.FutureRev)
	if hash() == before {
		t.Fatal("the hash ignores a change of the engine")
	}
}

func TestSnapshot(t *testing.T) {
	s := start(t)
	for i := range 100 {
		s.put(t, fmt.Sprint("k", i), strings.Repeat("v", 1000))
	}
	st, err := pb.NewMaintenanceClient(s.conn).Snapshot(t.Context(), &pb.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var blobs [][]byte
	var left []uint64
	for {
		m, err := st.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if m.Header != nil || m.Version != "3.7.0" {
			t.Fatalf("header %v version %q", m.Header, m.Version)
		}
		blobs, left = append(blobs, m.Blob), append(left, m.RemainingBytes)
	}
	last := len(blobs) - 1
	db := bytes.Join(blobs[:last], nil)
	if sum := sha256.Sum256(db); !bytes.Equal(sum[:], blobs[last]) {
		t.Fatal("the last message is not the SHA-256 of the others")
	}
	rest := uint64(len(db))
	for i, b := range blobs[:last] {
		rest -= uint64(len(b))
		if left[i] != rest || len(b) > 32<<10 {
			t.Fatalf("message %d of %d bytes says %d remain, want %d", i, len(b), left[i], rest)
		}
	}
	if left[last] != 0 || len(db) < 100_000 {
		t.Fatalf("%d bytes, %d remain", len(db), left[last])
	}
}

func TestDowngrade(t *testing.T) {
	s := start(t)
	m := pb.NewMaintenanceClient(s.conn)
	do := func(action pb.DowngradeRequest_DowngradeAction, version string) (*pb.DowngradeResponse, error) {
		return m.Downgrade(t.Context(), &pb.DowngradeRequest{Action: action, Version: version})
	}
	for _, v := range []string{"", "3", "x.y", "3.6.0.1", "3.6-rc", "3.6+x", "3.6.0-_", "3.-6.0"} {
		_, err := do(pb.DowngradeRequest_VALIDATE, v)
		failsAs(t, err, fault.WrongDowngradeVersionFormat)
	}
	_, err := do(pb.DowngradeRequest_VALIDATE, "3.6")
	failsAs(t, err, fault.ClusterVersionUnavailable)
	s.setVersion(t, "3.7.0")
	for _, v := range []string{"3.5", "3.7", "2.6", "3.8.1"} {
		_, err = do(pb.DowngradeRequest_ENABLE, v)
		failsAs(t, err, fault.InvalidDowngradeTargetVersion)
	}
	for _, v := range []string{"3.6", "3.6.0", "3.6.9-rc.1"} {
		if r, err := do(pb.DowngradeRequest_VALIDATE, v); err != nil || r.Version != "3.7" || header(t, r.Header) != 1 {
			t.Fatalf("%v %v", r, err)
		}
	}
	if r, err := do(pb.DowngradeRequest_CANCEL, ""); err != nil || r.Version != "3.7" {
		t.Fatalf("cancel never fails: %v %v", r, err)
	}
	_, err = do(pb.DowngradeRequest_ENABLE, "3.6")
	fails(t, err, codes.Unimplemented, "quorate: this version cannot downgrade a running cluster; take a snapshot and restore it with the older version")
	_, err = do(9, "")
	fails(t, err, codes.Unknown, "etcdserver: unknown method")
}

func TestCluster(t *testing.T) {
	s := start(t)
	s.addMember(t)
	c := pb.NewClusterClient(s.conn)
	for _, linearizable := range []bool{false, true} {
		list, err := c.MemberList(t.Context(), &pb.MemberListRequest{Linearizable: linearizable})
		if err != nil || header(t, list.Header) != 0 || len(list.Members) != 1 {
			t.Fatalf("%v %v", list, err)
		}
		m := list.Members[0]
		if m.ID != uint64(memberID) || m.Name != "one" || fmt.Sprint(m.PeerURLs, m.ClientURLs) != "[http://localhost:2380] [http://localhost:2379]" {
			t.Fatalf("%v", m)
		}
	}
	if s.barriers.Load() != 1 {
		t.Fatalf("%d barriers", s.barriers.Load())
	}
	if _, err := pb.NewMaintenanceClient(s.conn).MoveLeader(t.Context(), &pb.MoveLeaderRequest{TargetID: uint64(memberID)}); err != nil {
		t.Fatalf("the leader to itself: %v", err)
	}
}

func TestHealth(t *testing.T) {
	s := start(t)
	h := grpc_health_v1.NewHealthClient(s.conn)
	if r, err := h.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil || r.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Fatalf("%v %v", r, err)
	}
	_, err := h.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: "etcdserverpb.KV"})
	fails(t, err, codes.NotFound, "unknown service")
	if r, err := h.List(t.Context(), &grpc_health_v1.HealthListRequest{}); err != nil || len(r.Statuses) != 1 {
		t.Fatalf("%v %v", r, err)
	}
	for service, want := range map[string]grpc_health_v1.HealthCheckResponse_ServingStatus{
		"": grpc_health_v1.HealthCheckResponse_SERVING, "x": grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN,
	} {
		w, err := h.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: service})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := w.Recv(); err != nil || r.Status != want {
			t.Fatalf("%q: %v %v", service, r, err)
		}
	}
}

// TestClientVersionNotUTF8 sends what grpc-go does not send.
func TestClientVersionNotUTF8(t *testing.T) {
	s := start(t)
	tr := &http2.Transport{AllowHTTP: true, DialTLSContext: dialPlain}
	defer tr.CloseIdleConnections()
	body, _ := proto.Marshal(&pb.RangeRequest{Key: []byte("k")})
	framed := append([]byte{0, 0, 0, 0, byte(len(body))}, body...)
	for _, path := range []string{"KV/Range", "Watch/Watch"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.addr+"/etcdserverpb."+path, bytes.NewReader(framed))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "Client-Api-Version": {"3.\xff"}}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		get := func(k string) string { return resp.Header.Get(k) + resp.Trailer.Get(k) }
		if get("grpc-status") != "3" || get("grpc-message") != fault.InvalidClientAPIVersion.Text {
			t.Errorf("%s: status %q %q", path, get("grpc-status"), get("grpc-message"))
		}
	}
}

func TestRevisionLimits(t *testing.T) {
	s := start(t)
	s.put(t, "k", "v")
	for _, rev := range []int64{0, -1, math.MinInt64} {
		if r, err := s.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("k"), Revision: rev}); err != nil || r.Count != 1 {
			t.Fatalf("revision %d: %v %v", rev, r, err)
		}
	}
	_, err := s.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("k"), Revision: math.MaxInt64})
	failsAs(t, err, fault.FutureRev)
}

func dialPlain(ctx context.Context, network, addr string, _ *tls.Config) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, addr)
}
