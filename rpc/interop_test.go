package rpc_test

import (
	"context"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/interop"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/rpc"
)

// encoded is a protobuf message as an rpc.Message.
func encoded(t testing.TB, m proto.Message) rpc.RawMessage {
	b, err := proto.Marshal(m)
	if err != nil {
		t.Errorf("marshal %T: %v", m, err)
	}
	return b
}

func payload(n int32) *testpb.Payload {
	return &testpb.Payload{Type: testpb.PayloadType_COMPRESSABLE, Body: make([]byte, n)}
}

// echoMetadata does what the interop cases ask of servers: it sends two keys back.
func echoMetadata(in func(string) string, header, trailer func(k, v string)) {
	if v := in("x-grpc-test-echo-initial"); v != "" {
		header("x-grpc-test-echo-initial", v)
	}
	if v := in("x-grpc-test-echo-trailing-bin"); v != "" {
		trailer("x-grpc-test-echo-trailing-bin", v)
	}
}

func echoStatus(s *testpb.EchoStatus) *rpc.Status {
	if s.GetCode() == 0 {
		return nil
	}
	return &rpc.Status{Code: rpc.Code(s.GetCode()), Message: s.GetMessage()}
}

// registerInterop implements grpc.testing.TestService, the service of gRPC's published interop cases.
func registerInterop(t testing.TB) func(*rpc.Server) {
	const service = "/grpc.testing.TestService/"
	return func(s *rpc.Server) {
		s.Unary(service+"EmptyCall", func(c *rpc.Call, _ []byte) { c.Reply(rpc.RawMessage(nil)) })
		s.Unary(service+"UnaryCall", func(c *rpc.Call, msg []byte) {
			var req testpb.SimpleRequest
			if err := proto.Unmarshal(msg, &req); err != nil {
				c.Fail(&rpc.Status{Code: rpc.Internal, Message: err.Error()})
				return
			}
			echoMetadata(c.Metadata, c.SetHeader, c.SetTrailer)
			if st := echoStatus(req.GetResponseStatus()); st != nil {
				c.Fail(st)
				return
			}
			resp := &testpb.SimpleResponse{Payload: payload(req.GetResponseSize())}
			if req.GetFillServerId() {
				resp.ServerId = "the one"
			}
			c.Reply(encoded(t, resp))
		})
		s.Stream(service+"StreamingOutputCall", func(s *rpc.Stream) *rpc.Status { return outputs(t, s) })
		s.Stream(service+"FullDuplexCall", func(s *rpc.Stream) *rpc.Status { return outputs(t, s) })
		s.Stream(service+"StreamingInputCall", func(s *rpc.Stream) *rpc.Status {
			total := int32(0)
			for {
				msg, err := s.Recv()
				if err == io.EOF {
					break
				} else if err != nil {
					return asStatus(err)
				}
				var req testpb.StreamingInputCallRequest
				if err := proto.Unmarshal(msg, &req); err != nil {
					return asStatus(err)
				}
				total += int32(len(req.GetPayload().GetBody()))
			}
			if err := s.Send(encoded(t, &testpb.StreamingInputCallResponse{AggregatedPayloadSize: total})); err != nil {
				return asStatus(err)
			}
			return nil
		})
	}
}

// outputs answers every request of a stream with the responses it asks for.
func outputs(t testing.TB, s *rpc.Stream) *rpc.Status {
	echoMetadata(s.Metadata, s.SetHeader, s.SetTrailer)
	for {
		msg, err := s.Recv()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return asStatus(err)
		}
		var req testpb.StreamingOutputCallRequest
		if err := proto.Unmarshal(msg, &req); err != nil {
			return asStatus(err)
		}
		if st := echoStatus(req.GetResponseStatus()); st != nil {
			return st
		}
		for _, p := range req.GetResponseParameters() {
			select {
			case <-time.After(time.Duration(p.GetIntervalUs()) * time.Microsecond):
			case <-s.Context().Done():
				return &rpc.Status{Code: rpc.Canceled, Message: "context canceled"}
			}
			if err := s.Send(encoded(t, &testpb.StreamingOutputCallResponse{Payload: payload(p.GetSize())})); err != nil {
				return asStatus(err)
			}
		}
	}
}

// TestInterop runs gRPC's published interop cases as grpc-go's own interop client does; that client ends the process
// when a case fails. Not run: the cases that need credentials of Google's cloud (compute_engine_creds, jwt_token_creds,
// oauth2_auth_token, per_rpc_creds, google_default_credentials) and the ORCA load reports, which are features of other
// servers; and the server_compressed cases, since answers are never compressed.
func TestInterop(t *testing.T) {
	s := start(t, rpc.Config{}, registerInterop(t))
	cc, err := grpc.NewClient(s.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	tc := testpb.NewTestServiceClient(cc)
	ctx := within(t)
	plain := func(f func(context.Context, testpb.TestServiceClient, ...grpc.CallOption), opts ...grpc.CallOption) func() {
		return func() { f(ctx, tc, opts...) }
	}
	gz := grpc.UseCompressor(gzip.Name)
	for _, c := range []struct {
		name string
		run  func()
	}{
		{"empty_unary", plain(interop.DoEmptyUnaryCall)},
		{"large_unary", plain(interop.DoLargeUnaryCall)},
		{"client_compressed_unary", plain(interop.DoLargeUnaryCall, gz)},
		{"client_streaming", plain(interop.DoClientStreaming)},
		{"client_compressed_streaming", plain(interop.DoClientStreaming, gz)},
		{"server_streaming", plain(interop.DoServerStreaming)},
		{"ping_pong", plain(interop.DoPingPong)},
		{"empty_stream", plain(interop.DoEmptyStream)},
		{"timeout_on_sleeping_server", plain(interop.DoTimeoutOnSleepingServer)},
		{"cancel_after_begin", plain(interop.DoCancelAfterBegin)},
		{"cancel_after_first_response", plain(interop.DoCancelAfterFirstResponse)},
		{"status_code_and_message", plain(interop.DoStatusCodeAndMessage)},
		{"special_status_message", plain(interop.DoSpecialStatusMessage)},
		{"custom_metadata", plain(interop.DoCustomMetadata)},
		{"unimplemented_method", func() { interop.DoUnimplementedMethod(ctx, cc) }},
		{"unimplemented_service", func() { interop.DoUnimplementedService(ctx, testpb.NewUnimplementedServiceClient(cc)) }},
		{"pick_first_unary", func() { interop.DoPickFirstUnary(ctx, tc) }},
	} {
		t.Run(c.name, func(*testing.T) { c.run() })
	}
}
