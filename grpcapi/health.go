package grpcapi

import (
	"time"

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
	v.unary(s, serviceHealth, "Check", cold(func(c *rpc.Call, _ asker, req *grpc_health_v1.HealthCheckRequest) {
		if req.Service != "" {
			c.Fail(statusOf(errUnknownService))
			return
		}
		replyProto(c, &grpc_health_v1.HealthCheckResponse{Status: v.serving()})
	}))
	v.unary(s, serviceHealth, "List", cold(func(c *rpc.Call, _ asker, _ *grpc_health_v1.HealthListRequest) {
		replyProto(c, &grpc_health_v1.HealthListResponse{Statuses: map[string]*grpc_health_v1.HealthCheckResponse{
			"": {Status: v.serving()},
		}})
	}))
	v.stream(s, serviceHealth, "Watch", v.handleHealthWatch)
}

// serving is the status of the server as a whole: whether clients had better go to another member.
func (v *Services) serving() grpc_health_v1.HealthCheckResponse_ServingStatus {
	if v.fenced() || v.Node.Status().Leader == 0 {
		return grpc_health_v1.HealthCheckResponse_NOT_SERVING
	}
	return grpc_health_v1.HealthCheckResponse_SERVING
}

// handleHealthWatch sends the status, and again whenever it is another one. An election is no news unless it takes so long that
// streams that require a leader end, too.
func (v *Services) handleHealthWatch(st *rpc.Stream, _ *door) *rpc.Status {
	msg, status := one(st)
	if status != nil {
		return status
	}
	var req grpc_health_v1.HealthCheckRequest
	if err := proto.Unmarshal(msg, &req); err != nil {
		return malformed(err)
	}
	if req.Service != "" {
		if err := sendHealth(st, grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN); err != nil {
			return statusOf(err)
		}
		<-st.Context().Done()
		return statusOf(st.Context().Err())
	}
	tick := time.NewTicker(v.Settings.Election)
	defer tick.Stop()
	told, bad := v.serving(), 0
	for err := sendHealth(st, told); ; {
		if err != nil {
			return statusOf(err)
		}
		select {
		case <-st.Context().Done():
			return statusOf(st.Context().Err())
		case <-tick.C:
		}
		now := v.serving()
		if bad++; now == told || now == grpc_health_v1.HealthCheckResponse_SERVING {
			bad = 0
		}
		if now != told && (bad == 0 || bad >= leaderLostElections || v.fenced()) {
			told, bad = now, 0
			err = sendHealth(st, told)
		}
	}
}

func sendHealth(st *rpc.Stream, status grpc_health_v1.HealthCheckResponse_ServingStatus) error {
	b, err := proto.Marshal(&grpc_health_v1.HealthCheckResponse{Status: status})
	if err != nil {
		return err
	}
	return st.Send(rpc.RawMessage(b))
}
