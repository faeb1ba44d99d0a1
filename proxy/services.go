package proxy

import (
	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

// The methods that are not just passed on.
const (
	methodRange      = "/etcdserverpb.KV/Range"
	methodWatch      = "/etcdserverpb.Watch/Watch"
	methodKeepAlive  = "/etcdserverpb.Lease/LeaseKeepAlive"
	methodMemberList = "/etcdserverpb.Cluster/MemberList"
)

// The types of methods, as metrics show them.
const (
	unary        = "unary"
	serverStream = "server_stream"
	bidiStream   = "bidi_stream"
)

// method is one that the store serves.
type method struct {
	name string // "/service/method"
	kind string
}

// others are methods of services that etcd's API module does not describe.
var others = []method{
	{"/v3lockpb.Lock/Lock", unary}, {"/v3lockpb.Lock/Unlock", unary},
	{"/v3electionpb.Election/Campaign", unary}, {"/v3electionpb.Election/Proclaim", unary},
	{"/v3electionpb.Election/Leader", unary}, {"/v3electionpb.Election/Observe", serverStream},
	{"/v3electionpb.Election/Resign", unary},
	{"/grpc.health.v1.Health/Check", unary}, {"/grpc.health.v1.Health/Watch", serverStream},
	{"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", bidiStream},
	{"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", bidiStream},
}

// methods lists everything that is served.
func methods() []method {
	var list []method
	services := etcdserverpb.File_rpc_proto.Services()
	for i := range services.Len() {
		s := services.Get(i)
		for k := range s.Methods().Len() {
			m := s.Methods().Get(k)
			kind := unary
			switch {
			case m.IsStreamingClient():
				kind = bidiStream
			case m.IsStreamingServer():
				kind = serverStream
			}
			list = append(list, method{"/" + string(s.FullName()) + "/" + string(m.Name()), kind})
		}
	}
	return append(list, others...)
}
