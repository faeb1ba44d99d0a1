package grpcapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"quorate.dev/quorate/fault"
)

// reflected asks the server for the file of a symbol and builds descriptors from the answer alone.
func reflected(t *testing.T, s *server, symbol string) *protoregistry.Files {
	t.Helper()
	st, err := reflectionpb.NewServerReflectionClient(s.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = st.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol}})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := st.Recv()
	if err != nil {
		t.Fatal(err)
	}
	set := new(descriptorpb.FileDescriptorSet)
	for _, b := range resp.GetFileDescriptorResponse().GetFileDescriptorProto() {
		f := new(descriptorpb.FileDescriptorProto)
		if err := proto.Unmarshal(b, f); err != nil {
			t.Fatal(err)
		}
		set.File = append(set.File, f)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		t.Fatalf("%s: %v (%v)", symbol, err, resp.GetErrorResponse())
	}
	return files
}

// service calls methods of Lock and Election with messages built from what reflection says.
type service struct {
	t    *testing.T
	s    *server
	desc protoreflect.ServiceDescriptor
}

func newService(t *testing.T, s *server, name string) *service {
	d, err := reflected(t, s, name).FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		t.Fatal(err)
	}
	return &service{t, s, d.(protoreflect.ServiceDescriptor)}
}

type fields map[string]any

func build(d protoreflect.MessageDescriptor, f fields) *dynamicpb.Message {
	m := dynamicpb.NewMessage(d)
	for name, v := range f {
		fd := d.Fields().ByName(protoreflect.Name(name))
		switch v := v.(type) {
		case string:
			m.Set(fd, protoreflect.ValueOfBytes([]byte(v)))
		case int64:
			m.Set(fd, protoreflect.ValueOfInt64(v))
		case protoreflect.Message:
			m.Set(fd, protoreflect.ValueOfMessage(v))
		}
	}
	return m
}

func (c *service) call(ctx context.Context, method string, f fields) (*reply, error) {
	m := c.desc.Methods().ByName(protoreflect.Name(method))
	out := dynamicpb.NewMessage(m.Output())
	err := c.s.conn.Invoke(ctx, "/"+string(c.desc.FullName())+"/"+method, build(m.Input(), f), out)
	return &reply{out}, err
}

type reply struct{ *dynamicpb.Message }

func (r *reply) get(name string) protoreflect.Value {
	return r.Get(r.Descriptor().Fields().ByName(protoreflect.Name(name)))
}

func (r *reply) bytes(name string) string { return string(r.get(name).Bytes()) }

func (r *reply) sub(name string) *reply {
	return &reply{r.get(name).Message().Interface().(*dynamicpb.Message)}
}

func (r *reply) header(t *testing.T) int64 {
	t.Helper()
	b, err := proto.Marshal(r.sub("header").Message)
	if err != nil {
		t.Fatal(err)
	}
	h := new(pb.ResponseHeader)
	if err := proto.Unmarshal(b, h); err != nil {
		t.Fatal(err)
	}
	return header(t, h)
}

func (s *server) lease(t *testing.T) int64 {
	t.Helper()
	s.nextLease++
	r, err := pb.NewLeaseClient(s.conn).LeaseGrant(t.Context(), &pb.LeaseGrantRequest{TTL: 60, ID: 0xabc0 + s.nextLease})
	if err != nil {
		t.Fatal(err)
	}
	return r.ID
}

func (s *server) keys(prefix string) int {
	resp, err := s.View().Count([]byte(prefix), []byte(prefix+"\xff"), 0)
	if err != nil {
		s.t.Error(err)
	}
	return int(resp)
}

func TestLock(t *testing.T) {
	s := start(t)
	locks := newService(t, s, "v3lockpb.Lock")
	a, b, c := s.lease(t), s.lease(t), s.lease(t)
	first, err := locks.call(t.Context(), "Lock", fields{"name": "job", "lease": a})
	if err != nil || first.bytes("key") != fmt.Sprintf("job/%x", a) || first.header(t) != 2 {
		t.Fatalf("%v %v", first, err)
	}
	again, err := locks.call(t.Context(), "Lock", fields{"name": "job", "lease": a})
	if err != nil || again.bytes("key") != first.bytes("key") {
		t.Fatalf("the holder again: %v %v", again, err)
	}

	ctx, giveUp := context.WithCancel(t.Context())
	abandoned := make(chan error, 1)
	go func() {
		_, err := locks.call(ctx, "Lock", fields{"name": "job", "lease": b})
		abandoned <- err
	}()
	eventually(t, func() bool { return s.keys("job/") == 2 }, "the second waits")
	got := make(chan *reply, 1)
	go func() {
		r, err := locks.call(t.Context(), "Lock", fields{"name": "job", "lease": c})
		if err != nil {
			t.Error(err)
		}
		got <- r
	}()
	eventually(t, func() bool { return s.keys("job/") == 3 }, "the third waits")
	giveUp()
	if err := <-abandoned; err == nil {
		t.Fatal("a cancelled call got the lock")
	}
	eventually(t, func() bool { return s.keys("job/") == 2 }, "the key of who gave up goes")
	if len(got) != 0 {
		t.Fatal("the third got the lock while the first holds it")
	}
	if r, err := locks.call(t.Context(), "Unlock", fields{"key": first.bytes("key")}); err != nil || r.header(t) == 0 {
		t.Fatalf("%v %v", r, err)
	}
	if r := <-got; r.bytes("key") != fmt.Sprintf("job/%x", c) {
		t.Fatalf("%v", r)
	}
	eventually(t, func() bool { return s.hub.Stats().Streams == 0 }, "no watcher is left behind")

	fresh, err := locks.call(t.Context(), "Lock", fields{"name": "other"})
	if err != nil || fresh.bytes("key") != fmt.Sprintf("other/%x", 0x7e57) {
		t.Fatalf("a lease is made for who brings none: %v %v", fresh, err)
	}
	_, err = locks.call(t.Context(), "Lock", fields{"name": "x", "lease": int64(99)})
	fails(t, err, codes.Unknown, fault.LeaseNotFound.Text)
	_, err = locks.call(t.Context(), "Unlock", nil)
	fails(t, err, codes.Unknown, fault.EmptyKey.Text)
}

// TestLockSharedWithClients locks through the service and through etcd's client package at the same time.
func TestLockSharedWithClients(t *testing.T) {
	s := start(t)
	locks := newService(t, s, "v3lockpb.Lock")
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{s.addr}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	mine, theirs := s.lease(t), s.lease(t)
	session, err := concurrency.NewSession(client, concurrency.WithLease(clientv3.LeaseID(theirs)))
	if err != nil {
		t.Fatal(err)
	}
	mutex := concurrency.NewMutex(session, "job")
	if err := mutex.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	go func() {
		r, err := locks.call(t.Context(), "Lock", fields{"name": "job", "lease": mine})
		if err != nil {
			t.Error(err)
		}
		got <- r.bytes("key")
	}()
	eventually(t, func() bool { return s.keys("job/") == 2 }, "the service's caller waits")
	if len(got) != 0 {
		t.Fatal("two hold the lock")
	}
	if err := mutex.Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
	key := <-got
	if err := mutex.TryLock(t.Context()); !errors.Is(err, concurrency.ErrLocked) {
		t.Fatalf("the client beside the service's caller: %v", err)
	}
	if _, err := locks.call(t.Context(), "Unlock", fields{"key": key}); err != nil {
		t.Fatal(err)
	}
	if err := mutex.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestSessionExpired takes the waiter's lease away while it waits.
func TestSessionExpired(t *testing.T) {
	s := start(t)
	locks := newService(t, s, "v3lockpb.Lock")
	a, b := s.lease(t), s.lease(t)
	first, err := locks.call(t.Context(), "Lock", fields{"name": "job", "lease": a})
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		_, err := locks.call(t.Context(), "Lock", fields{"name": "job", "lease": b})
		failed <- err
	}()
	eventually(t, func() bool { return s.keys("job/") == 2 }, "the second waits")
	if _, err := pb.NewLeaseClient(s.conn).LeaseRevoke(t.Context(), &pb.LeaseRevokeRequest{ID: b}); err != nil {
		t.Fatal(err)
	}
	if _, err := locks.call(t.Context(), "Unlock", fields{"key": first.bytes("key")}); err != nil {
		t.Fatal(err)
	}
	fails(t, <-failed, codes.Unknown, "mutex: session is expired")
}

func TestElection(t *testing.T) {
	s := start(t)
	e := newService(t, s, "v3electionpb.Election")
	_, err := e.call(t.Context(), "Leader", fields{"name": "top"})
	failsAs(t, err, fault.ElectionNoLeader)
	for _, method := range []string{"Proclaim", "Resign"} {
		_, err = e.call(t.Context(), method, nil)
		failsAs(t, err, fault.ElectionMissingLeader)
	}

	// The observer begins before there is anybody to see.
	m := e.desc.Methods().ByName("Observe")
	observe, err := s.conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/v3electionpb.Election/Observe")
	if err == nil {
		err = errors.Join(observe.SendMsg(build(m.Input(), fields{"name": "top"})), observe.CloseSend())
	}
	if err != nil {
		t.Fatal(err)
	}
	see := func(value string) int64 {
		t.Helper()
		r := &reply{dynamicpb.NewMessage(m.Output())}
		if err := observe.RecvMsg(r.Message); err != nil {
			t.Fatal(err)
		}
		if got := r.sub("kv").bytes("value"); got != value {
			t.Fatalf("observed %q, want %q", got, value)
		}
		return r.header(t)
	}
	eventually(t, func() bool { return s.hub.Stats().Watchers == 1 }, "the observer waits")

	a, b := s.lease(t), s.lease(t)
	first, err := e.call(t.Context(), "Campaign", fields{"name": "top", "lease": a, "value": "A"})
	if err != nil || first.header(t) != 2 {
		t.Fatalf("%v %v", first, err)
	}
	leader := first.sub("leader")
	if leader.bytes("name") != "top" || leader.bytes("key") != fmt.Sprintf("top/%x", a) || leader.get("rev").Int() != 2 || leader.get("lease").Int() != a {
		t.Fatalf("%v", leader)
	}
	if see("A") != 2 {
		t.Fatal("the revision of the leader's key")
	}
	second := make(chan *reply, 1)
	go func() {
		r, err := e.call(t.Context(), "Campaign", fields{"name": "top", "lease": b, "value": "B"})
		if err != nil {
			t.Error(err)
		}
		second <- r
	}()
	eventually(t, func() bool { return s.keys("top/") == 2 }, "the second campaigns")
	if r, err := e.call(t.Context(), "Proclaim", fields{"leader": leader.Message.ProtoReflect(), "value": "A2"}); err != nil || r.header(t) != 4 {
		t.Fatalf("%v %v", r, err)
	}
	see("A2")
	r, err := e.call(t.Context(), "Leader", fields{"name": "top"})
	if err != nil || r.sub("kv").bytes("value") != "A2" || r.header(t) != 4 {
		t.Fatalf("%v %v", r, err)
	}
	// Campaigning again with another value announces it.
	if _, err := e.call(t.Context(), "Campaign", fields{"name": "top", "lease": a, "value": "A3"}); err != nil {
		t.Fatal(err)
	}
	see("A3")
	if len(second) != 0 {
		t.Fatal("the second leads beside the first")
	}
	if r, err := e.call(t.Context(), "Resign", fields{"leader": leader.Message.ProtoReflect()}); err != nil || r.header(t) != 6 {
		t.Fatalf("%v %v", r, err)
	}
	if r := <-second; r.sub("leader").bytes("key") != fmt.Sprintf("top/%x", b) {
		t.Fatalf("%v", r)
	}
	see("B")
	_, err = e.call(t.Context(), "Proclaim", fields{"leader": leader.Message.ProtoReflect(), "value": "late"})
	failsAs(t, err, fault.ElectionNotLeader)
	if _, err := e.call(t.Context(), "Resign", fields{"leader": leader.Message.ProtoReflect()}); err != nil {
		t.Fatalf("who does not lead resigns without harm: %v", err)
	}
}

// TestCampaignAbandoned takes the candidate's key away when its caller goes.
func TestCampaignAbandoned(t *testing.T) {
	s := start(t)
	e := newService(t, s, "v3electionpb.Election")
	if _, err := e.call(t.Context(), "Campaign", fields{"name": "top", "lease": s.lease(t), "value": "A"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	b := s.lease(t)
	done := make(chan error, 1)
	go func() {
		_, err := e.call(ctx, "Campaign", fields{"name": "top", "lease": b, "value": "B"})
		done <- err
	}()
	eventually(t, func() bool { return s.keys("top/") == 2 }, "the second campaigns")
	cancel()
	if err := <-done; err == nil {
		t.Fatal("a cancelled candidate leads")
	}
	eventually(t, func() bool { return s.keys("top/") == 1 }, "its key goes")
}

func TestReflection(t *testing.T) {
	s := start(t)
	for _, version := range []string{"v1", "v1alpha"} {
		st, err := s.conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/grpc.reflection."+version+".ServerReflection/ServerReflectionInfo")
		if err != nil {
			t.Fatal(err)
		}
		ask := func(q *reflectionpb.ServerReflectionRequest) *reflectionpb.ServerReflectionResponse {
			t.Helper()
			resp := new(reflectionpb.ServerReflectionResponse)
			if err := errors.Join(st.SendMsg(q), st.RecvMsg(resp)); err != nil {
				t.Fatal(err)
			}
			return resp
		}
		var names []string
		list := ask(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
		for _, svc := range list.GetListServicesResponse().Service {
			names = append(names, svc.Name)
		}
		want := "[etcdserverpb.KV etcdserverpb.Watch etcdserverpb.Lease etcdserverpb.Maintenance etcdserverpb.Cluster etcdserverpb.Auth" +
			" v3lockpb.Lock v3electionpb.Election grpc.health.v1.Health grpc.reflection.v1.ServerReflection grpc.reflection.v1alpha.ServerReflection]"
		if fmt.Sprint(names) != want {
			t.Fatalf("services %v", names)
		}
		missing := ask(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "no.such"}})
		if missing.GetErrorResponse().GetErrorCode() != int32(codes.NotFound) {
			t.Fatalf("%v", missing)
		}
		if err := st.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if err := st.RecvMsg(new(reflectionpb.ServerReflectionResponse)); !errors.Is(err, io.EOF) {
			t.Fatalf("%v", err)
		}
	}
	// Every method that is described is served, and the other way round.
	for _, name := range []string{"etcdserverpb.KV", "etcdserverpb.Watch", "etcdserverpb.Lease", "etcdserverpb.Maintenance",
		"etcdserverpb.Cluster", "etcdserverpb.Auth", "v3lockpb.Lock", "v3electionpb.Election", "grpc.health.v1.Health"} {
		svc := newService(t, s, name)
		for i := range svc.desc.Methods().Len() {
			m := svc.desc.Methods().Get(i)
			if m.IsStreamingClient() || m.IsStreamingServer() {
				continue
			}
			ctx, cancel := context.WithCancel(t.Context())
			_, err := svc.call(ctx, string(m.Name()), nil)
			cancel()
			if err != nil && (status.Code(err) == codes.Unimplemented && !strings.Contains(err.Error(), "quorate: ")) {
				t.Errorf("%s: %v", m.FullName(), err)
			}
		}
	}
}
