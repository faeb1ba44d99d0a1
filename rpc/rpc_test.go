package rpc_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"quorate.dev/quorate/rpc"
)

// rawCodec passes byte slices through, so that tests need no message types.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (rawCodec) Name() string { return "raw" }

// testServer is a server on a loopback port with the methods of service "t.T".
type testServer struct {
	*rpc.Server
	addr string
}

// echo answers with what it got.
func echo(c *rpc.Call, msg []byte) { c.Reply(rpc.RawMessage(msg)) }

func echoStream(s *rpc.Stream) *rpc.Status {
	for {
		msg, err := s.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return asStatus(err)
		}
		if err := s.Send(rpc.RawMessage(msg)); err != nil {
			return asStatus(err)
		}
	}
}

func asStatus(err error) *rpc.Status {
	if st, ok := err.(*rpc.Status); ok {
		return st
	}
	return &rpc.Status{Code: rpc.Unknown, Message: err.Error()}
}

// start serves cfg on a loopback port until the test ends.
func start(t testing.TB, cfg rpc.Config, register func(*rpc.Server)) *testServer {
	t.Helper()
	if cfg.HandshakeTimeout == 0 {
		cfg.HandshakeTimeout = time.Minute // a client that the machine gives no time is no attacker
	}
	s, err := rpc.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Unary("/t.T/Echo", echo)
	s.Stream("/t.T/Stream", echoStream)
	if register != nil {
		register(s)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return &testServer{s, l.Addr().String()}
}

// dial connects grpc-go's client.
func (s *testServer) dial(t testing.TB, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	opts = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{}), grpc.MaxCallRecvMsgSize(64<<20))}, opts...)
	cc, err := grpc.NewClient(s.addr, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

// call makes a unary call.
func call(ctx context.Context, cc *grpc.ClientConn, method string, msg []byte, opts ...grpc.CallOption) ([]byte, error) {
	var out []byte
	err := cc.Invoke(ctx, method, &msg, &out, opts...)
	return out, err
}

// within is the context of a test: no test of this package needs two minutes.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestUnaryEcho(t *testing.T) {
	cc := start(t, rpc.Config{}, nil).dial(t)
	for _, n := range []int{0, 1, 300, 16379, 16380, 100_000, 4 << 20} {
		msg := pattern(n)
		got, err := call(within(t), cc, "/t.T/Echo", msg)
		if err != nil || string(got) != string(msg) {
			t.Fatalf("%d bytes: %v, %d bytes back", n, err, len(got))
		}
	}
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7)
	}
	return b
}

func TestStreamEcho(t *testing.T) {
	cc := start(t, rpc.Config{}, nil).dial(t)
	st, err := cc.NewStream(within(t), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/t.T/Stream")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		msg := []byte(fmt.Sprintf("%d%s", i, pattern(i*500)))
		if err := st.SendMsg(&msg); err != nil {
			t.Fatal(err)
		}
		var got []byte
		if err := st.RecvMsg(&got); err != nil || string(got) != string(msg) {
			t.Fatalf("message %d: %v, %d bytes back", i, err, len(got))
		}
	}
	if err := st.CloseSend(); err != nil {
		t.Fatal(err)
	}
	var got []byte
	if err := st.RecvMsg(&got); err != io.EOF {
		t.Fatalf("after half-close: %v, want EOF", err)
	}
}
