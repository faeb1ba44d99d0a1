package grpcapi

import (
	"context"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/emptypb"

	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/rpc"
)

// TestForgottenMethod: a method that auth has no row for is refused, although its handler asks nobody.
func TestForgottenMethod(t *testing.T) {
	server, err := rpc.New(rpc.Config{})
	if err != nil {
		t.Fatal(err)
	}
	v := new(Services)
	v.unary(server, "t.T", "Forgotten", func(c *rpc.Call, _ asker, _ []byte) { c.Reply(rpc.RawMessage(nil)) })
	v.stream(server, "t.T", "ForgottenStream", func(*rpc.Stream, *door) *rpc.Status { return nil })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = conn.Invoke(t.Context(), "/t.T/Forgotten", &emptypb.Empty{}, &emptypb.Empty{})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("a call: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	st, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/t.T/ForgottenStream")
	if err != nil {
		t.Fatal(err)
	}
	if err := st.RecvMsg(&emptypb.Empty{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a stream: %v", err)
	}
}

// TestEveryMethodHasARow: what the services register and describe, auth has a row for.
func TestEveryMethodHasARow(t *testing.T) {
	server, err := rpc.New(rpc.Config{})
	if err != nil {
		t.Fatal(err)
	}
	v := new(Services)
	v.registerKV(server)
	v.registerWatch(server)
	v.registerLease(server)
	v.registerMaintenance(server)
	v.registerCluster(server)
	v.registerAuth(server)
	v.registerLock(server)
	v.registerElection(server)
	v.registerHealth(server)
	v.registerReflection(server)
	seen := 0
	for _, name := range v.names {
		d, err := descriptors().FindDescriptorByName(protoreflect.FullName(name))
		if strings.HasPrefix(name, "grpc.reflection.") { // its descriptor is not always linked in
			if _, ok := auth.MethodOf("/" + name + "/ServerReflectionInfo"); !ok {
				t.Errorf("%s has no row", name)
			}
			seen++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		methods := d.(protoreflect.ServiceDescriptor).Methods()
		for i := range methods.Len() {
			full := "/" + name + "/" + string(methods.Get(i).Name())
			if _, ok := auth.MethodOf(full); !ok {
				t.Errorf("%s has no row", full)
			}
			seen++
		}
	}
	if rows := len(auth.Methods()); seen != rows {
		t.Errorf("%d methods are registered, %d have a row", seen, rows)
	}
}

// TestDoorsAsk: methods that no handler asks about are asked about by the door, and those that nobody is asked for are the few that
// cannot have an identity.
func TestDoorsAsk(t *testing.T) {
	for _, m := range auth.Methods() {
		service, method, _ := strings.Cut(strings.TrimPrefix(m.String(), "/"), "/")
		d := new(Services).door(service, method)
		if d.method != m {
			t.Errorf("%s: door of %s", m, d.method)
		}
		if d.anonymous && !m.Open() {
			t.Errorf("%s needs an identity that its door does not look for", m)
		}
		if d.inLog && !d.asks {
			t.Errorf("%s: the door does not ask", m)
		}
	}
}
