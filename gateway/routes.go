package gateway

import (
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// route says which call a path stands for.
type route struct {
	path   string // asked for with POST
	method string // "package.Service/Method"
}

const (
	kv          = "etcdserverpb.KV/"
	leases      = "etcdserverpb.Lease/"
	cluster     = "etcdserverpb.Cluster/"
	maintenance = "etcdserverpb.Maintenance/"
	auth        = "etcdserverpb.Auth/"
	lock        = "v3lockpb.Lock/"
	election    = "v3electionpb.Election/"
)

// routes are all paths (source: the HTTP rules in etcd v3.7's api/etcdserverpb/rpc.proto, v3lock.proto and v3election.proto).
// RangeStream has none there.
var routes = []route{
	{"/v3/kv/range", kv + "Range"},
	{"/v3/kv/put", kv + "Put"},
	{"/v3/kv/deleterange", kv + "DeleteRange"},
	{"/v3/kv/txn", kv + "Txn"},
	{"/v3/kv/compaction", kv + "Compact"},

	{"/v3/watch", "etcdserverpb.Watch/Watch"},

	{"/v3/lease/grant", leases + "LeaseGrant"},
	{"/v3/lease/revoke", leases + "LeaseRevoke"},
	{"/v3/kv/lease/revoke", leases + "LeaseRevoke"},
	{"/v3/lease/keepalive", leases + "LeaseKeepAlive"},
	{"/v3/lease/timetolive", leases + "LeaseTimeToLive"},
	{"/v3/kv/lease/timetolive", leases + "LeaseTimeToLive"},
	{"/v3/lease/leases", leases + "LeaseLeases"},
	{"/v3/kv/lease/leases", leases + "LeaseLeases"},

	{"/v3/cluster/member/add", cluster + "MemberAdd"},
	{"/v3/cluster/member/remove", cluster + "MemberRemove"},
	{"/v3/cluster/member/update", cluster + "MemberUpdate"},
	{"/v3/cluster/member/list", cluster + "MemberList"},
	{"/v3/cluster/member/promote", cluster + "MemberPromote"},

	{"/v3/maintenance/alarm", maintenance + "Alarm"},
	{"/v3/maintenance/status", maintenance + "Status"},
	{"/v3/maintenance/defragment", maintenance + "Defragment"},
	{"/v3/maintenance/hash", maintenance + "Hash"},
	{"/v3/maintenance/hashkv", maintenance + "HashKV"},
	{"/v3/maintenance/snapshot", maintenance + "Snapshot"},
	{"/v3/maintenance/transfer-leadership", maintenance + "MoveLeader"},
	{"/v3/maintenance/downgrade", maintenance + "Downgrade"},

	{"/v3/auth/enable", auth + "AuthEnable"},
	{"/v3/auth/disable", auth + "AuthDisable"},
	{"/v3/auth/status", auth + "AuthStatus"},
	{"/v3/auth/authenticate", auth + "Authenticate"},
	{"/v3/auth/user/add", auth + "UserAdd"},
	{"/v3/auth/user/get", auth + "UserGet"},
	{"/v3/auth/user/list", auth + "UserList"},
	{"/v3/auth/user/delete", auth + "UserDelete"},
	{"/v3/auth/user/changepw", auth + "UserChangePassword"},
	{"/v3/auth/user/grant", auth + "UserGrantRole"},
	{"/v3/auth/user/revoke", auth + "UserRevokeRole"},
	{"/v3/auth/role/add", auth + "RoleAdd"},
	{"/v3/auth/role/get", auth + "RoleGet"},
	{"/v3/auth/role/list", auth + "RoleList"},
	{"/v3/auth/role/delete", auth + "RoleDelete"},
	{"/v3/auth/role/grant", auth + "RoleGrantPermission"},
	{"/v3/auth/role/revoke", auth + "RoleRevokePermission"},

	{"/v3/lock/lock", lock + "Lock"},
	{"/v3/lock/unlock", lock + "Unlock"},
	{"/v3/election/campaign", election + "Campaign"},
	{"/v3/election/proclaim", election + "Proclaim"},
	{"/v3/election/leader", election + "Leader"},
	{"/v3/election/observe", election + "Observe"},
	{"/v3/election/resign", election + "Resign"},
}

// call is a route with all that is needed to take it.
type call struct {
	route
	full         string // the method as gRPC names it
	in, out      protoreflect.MessageType
	clientStream bool
}

// add makes the handler of a route.
func (g *Gateway) add(files Files, r route) error {
	d, err := files.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(r.method, "/", ".")))
	if err != nil {
		return err
	}
	m, ok := d.(protoreflect.MethodDescriptor)
	if !ok {
		return fmt.Errorf("%s is no method", r.method)
	}
	c := &call{route: r, full: "/" + r.method, in: typeOf(m.Input()), out: typeOf(m.Output()), clientStream: m.IsStreamingClient()}
	handle := g.unary
	if m.IsStreamingServer() {
		handle = g.stream
	}
	return g.mux.HandlePath(http.MethodPost, r.path, func(w http.ResponseWriter, r *http.Request, _ map[string]string) { handle(c, w, r) })
}

// typeOf is the generated type of a message, when the program has one.
func typeOf(d protoreflect.MessageDescriptor) protoreflect.MessageType {
	if t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName()); err == nil {
		return t
	}
	return dynamicpb.NewMessageType(d)
}
