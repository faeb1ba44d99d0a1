package grpcapi

import (
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/rpc"
)

const serviceHealth = "grpc.health.v1.Health"

// errUnknownService is the answer of the health protocol for a service without a status
// (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).
var errUnknownService = &fault.Error{Name: "UnknownService", Code: fault.CodeNotFound, Text: "unknown service"}

// registerHealth adds gRPC's health protocol. Like etcd's, it knows only the server as a whole, by the empty name.
func (v *Services) registerHealth(s *rpc.Server) {
	v.unary(s, serviceHealth, "Check", cold(func(c *rpc.Call, req *grpc_health_v1.HealthCheckRequest) {
		if req.Service != "" {
			c.Fail(statusOf(errUnknownService))
			return
		}
		replyProto(c, &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING})
	}))
	v.unary(s, serviceHealth, "List", cold(func(c *rpc.Call, _ *grpc_health_v1.HealthListRequest) {
		replyProto(c, &grpc_health_v1.HealthListResponse{Statuses: map[string]*grpc_health_v1.HealthCheckResponse{
			"": {Status: grpc_health_v1.HealthCheckResponse_SERVING},
		}})
	}))
	v.stream(s, serviceHealth, "Watch", v.handleHealthWatch)
}

// handleHealthWatch sends the status once; it does not change while the server serves.
func (v *Services) handleHealthWatch(st *rpc.Stream) *rpc.Status {
	msg, status := one(st)
	if status != nil {
		return status
	}
	var req grpc_health_v1.HealthCheckRequest
	if err := proto.Unmarshal(msg, &req); err != nil {
		return malformed(err)
	}
	resp := &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}
	if req.Service != "" {
		resp.Status = grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN
	}
	b, err := proto.Marshal(resp)
	if err == nil {
		err = st.Send(rpc.RawMessage(b))
	}
	if err != nil {
		return statusOf(err)
	}
	<-st.Context().Done()
	return statusOf(st.Context().Err())
}
