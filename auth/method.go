package auth

// Method is one RPC. The zero Method is none and is refused.
type Method uint16

// The RPCs, by service.
const (
	_ Method = iota
	MethodRange
	MethodRangeStream
	MethodPut
	MethodDeleteRange
	MethodTxn
	MethodCompact

	MethodWatch // asked once for every watch that is created

	MethodLeaseGrant
	MethodLeaseRevoke
	MethodLeaseKeepAlive // asked once for every lease that is renewed
	MethodLeaseTimeToLive
	MethodLeaseLeases

	MethodMemberAdd
	MethodMemberRemove
	MethodMemberUpdate
	MethodMemberList
	MethodMemberPromote

	MethodAlarm
	MethodStatus
	MethodDefragment
	MethodHash
	MethodHashKV
	MethodSnapshot
	MethodMoveLeader
	MethodDowngrade

	MethodAuthEnable
	MethodAuthDisable
	MethodAuthStatus
	MethodAuthenticate
	MethodUserAdd
	MethodUserGet
	MethodUserList
	MethodUserDelete
	MethodUserChangePassword
	MethodUserGrantRole
	MethodUserRevokeRole
	MethodRoleAdd
	MethodRoleGet
	MethodRoleList
	MethodRoleDelete
	MethodRoleGrantPermission
	MethodRoleRevokePermission

	MethodLock
	MethodUnlock
	MethodCampaign
	MethodProclaim
	MethodLeader
	MethodObserve
	MethodResign

	MethodHealthCheck
	MethodHealthList
	MethodHealthWatch
	MethodReflection
	MethodReflectionAlpha
	methodEnd
)

// rule says what a method needs while authentication is enabled.
type rule uint8

const (
	ruleNone       rule = iota // refused: the method has no row
	ruleOpen                   // nothing
	ruleUser                   // somebody
	ruleRoot                   // the role root
	ruleKeys                   // what Request.Ops do
	ruleLeaseWrite             // to write every key attached to Request.Lease
	ruleLeaseRead              // somebody; with Request.WithKeys to read every key attached to Request.Lease
	ruleLeasesRead             // to read every key attached to any lease
	ruleAlarm                  // somebody for a GET, else the role root
	ruleOwnUser                // to be Request.User, or the role root
	ruleOwnRole                // to have Request.Role, or the role root
)

// row is what the table says of one method.
type row struct {
	name string // as in the path of an HTTP/2 request
	rule rule
}

// methods is the whole of the policy (source: etcd v3.7 server/etcdserver/apply/auth.go, v3_server.go and api/v3rpc).
// Lock and Election do what they do with KV requests, so they need what those need.
var methods = [methodEnd]row{
	MethodRange:       {"/etcdserverpb.KV/Range", ruleKeys},
	MethodRangeStream: {"/etcdserverpb.KV/RangeStream", ruleKeys},
	MethodPut:         {"/etcdserverpb.KV/Put", ruleKeys},
	MethodDeleteRange: {"/etcdserverpb.KV/DeleteRange", ruleKeys},
	MethodTxn:         {"/etcdserverpb.KV/Txn", ruleKeys},
	MethodCompact:     {"/etcdserverpb.KV/Compact", ruleRoot},

	MethodWatch: {"/etcdserverpb.Watch/Watch", ruleKeys},

	MethodLeaseGrant:      {"/etcdserverpb.Lease/LeaseGrant", ruleUser},
	MethodLeaseRevoke:     {"/etcdserverpb.Lease/LeaseRevoke", ruleLeaseWrite},
	MethodLeaseKeepAlive:  {"/etcdserverpb.Lease/LeaseKeepAlive", ruleLeaseWrite},
	MethodLeaseTimeToLive: {"/etcdserverpb.Lease/LeaseTimeToLive", ruleLeaseRead},
	MethodLeaseLeases:     {"/etcdserverpb.Lease/LeaseLeases", ruleLeasesRead},

	MethodMemberAdd:     {"/etcdserverpb.Cluster/MemberAdd", ruleRoot},
	MethodMemberRemove:  {"/etcdserverpb.Cluster/MemberRemove", ruleRoot},
	MethodMemberUpdate:  {"/etcdserverpb.Cluster/MemberUpdate", ruleRoot},
	MethodMemberList:    {"/etcdserverpb.Cluster/MemberList", ruleUser},
	MethodMemberPromote: {"/etcdserverpb.Cluster/MemberPromote", ruleRoot},

	MethodAlarm:      {"/etcdserverpb.Maintenance/Alarm", ruleAlarm},
	MethodStatus:     {"/etcdserverpb.Maintenance/Status", ruleUser},
	MethodDefragment: {"/etcdserverpb.Maintenance/Defragment", ruleRoot},
	MethodHash:       {"/etcdserverpb.Maintenance/Hash", ruleRoot},
	MethodHashKV:     {"/etcdserverpb.Maintenance/HashKV", ruleRoot},
	MethodSnapshot:   {"/etcdserverpb.Maintenance/Snapshot", ruleRoot},
	MethodMoveLeader: {"/etcdserverpb.Maintenance/MoveLeader", ruleRoot},
	MethodDowngrade:  {"/etcdserverpb.Maintenance/Downgrade", ruleRoot},

	MethodAuthEnable:           {"/etcdserverpb.Auth/AuthEnable", ruleRoot},
	MethodAuthDisable:          {"/etcdserverpb.Auth/AuthDisable", ruleRoot},
	MethodAuthStatus:           {"/etcdserverpb.Auth/AuthStatus", ruleOpen},
	MethodAuthenticate:         {"/etcdserverpb.Auth/Authenticate", ruleOpen},
	MethodUserAdd:              {"/etcdserverpb.Auth/UserAdd", ruleRoot},
	MethodUserGet:              {"/etcdserverpb.Auth/UserGet", ruleOwnUser},
	MethodUserList:             {"/etcdserverpb.Auth/UserList", ruleRoot},
	MethodUserDelete:           {"/etcdserverpb.Auth/UserDelete", ruleRoot},
	MethodUserChangePassword:   {"/etcdserverpb.Auth/UserChangePassword", ruleRoot},
	MethodUserGrantRole:        {"/etcdserverpb.Auth/UserGrantRole", ruleRoot},
	MethodUserRevokeRole:       {"/etcdserverpb.Auth/UserRevokeRole", ruleRoot},
	MethodRoleAdd:              {"/etcdserverpb.Auth/RoleAdd", ruleRoot},
	MethodRoleGet:              {"/etcdserverpb.Auth/RoleGet", ruleOwnRole},
	MethodRoleList:             {"/etcdserverpb.Auth/RoleList", ruleRoot},
	MethodRoleDelete:           {"/etcdserverpb.Auth/RoleDelete", ruleRoot},
	MethodRoleGrantPermission:  {"/etcdserverpb.Auth/RoleGrantPermission", ruleRoot},
	MethodRoleRevokePermission: {"/etcdserverpb.Auth/RoleRevokePermission", ruleRoot},

	MethodLock:     {"/v3lockpb.Lock/Lock", ruleKeys},
	MethodUnlock:   {"/v3lockpb.Lock/Unlock", ruleKeys},
	MethodCampaign: {"/v3electionpb.Election/Campaign", ruleKeys},
	MethodProclaim: {"/v3electionpb.Election/Proclaim", ruleKeys},
	MethodLeader:   {"/v3electionpb.Election/Leader", ruleKeys},
	MethodObserve:  {"/v3electionpb.Election/Observe", ruleKeys},
	MethodResign:   {"/v3electionpb.Election/Resign", ruleKeys},

	MethodHealthCheck:     {"/grpc.health.v1.Health/Check", ruleOpen},
	MethodHealthList:      {"/grpc.health.v1.Health/List", ruleOpen},
	MethodHealthWatch:     {"/grpc.health.v1.Health/Watch", ruleOpen},
	MethodReflection:      {"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", ruleOpen},
	MethodReflectionAlpha: {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", ruleOpen},
}

var byName = func() map[string]Method {
	m := make(map[string]Method, len(methods))
	for i, r := range methods {
		if r.rule != ruleNone {
			m[r.name] = Method(i)
		}
	}
	return m
}()

// MethodOf finds a method by its full name, such as "/etcdserverpb.KV/Range". What is not found must be refused; May refuses
// the Method 0 that is returned then.
func MethodOf(fullName string) (Method, bool) {
	m, ok := byName[fullName]
	return m, ok
}

// Methods returns all methods that have a row.
func Methods() []Method {
	var out []Method
	for i, r := range methods {
		if r.rule != ruleNone {
			out = append(out, Method(i))
		}
	}
	return out
}

// String is the method's full name.
func (m Method) String() string {
	if m >= methodEnd || methods[m].rule == ruleNone {
		return "no method"
	}
	return methods[m].name
}

// Open says whether the method needs no identity at all, also while authentication is enabled.
func (m Method) Open() bool { return m < methodEnd && methods[m].rule == ruleOpen }
