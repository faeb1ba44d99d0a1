package lean

// Method is an RPC of etcd's API.
type Method uint8

// The methods that load uses.
const (
	Put Method = iota
	Range
	DeleteRange
	Txn
	Compact
	RangeStream
	Watch
	LeaseGrant
	LeaseRevoke
	LeaseKeepAlive
	Authenticate
	methods // how many there are
)

var paths = [methods]string{
	Put:            "/etcdserverpb.KV/Put",
	Range:          "/etcdserverpb.KV/Range",
	DeleteRange:    "/etcdserverpb.KV/DeleteRange",
	Txn:            "/etcdserverpb.KV/Txn",
	Compact:        "/etcdserverpb.KV/Compact",
	RangeStream:    "/etcdserverpb.KV/RangeStream",
	Watch:          "/etcdserverpb.Watch/Watch",
	LeaseGrant:     "/etcdserverpb.Lease/LeaseGrant",
	LeaseRevoke:    "/etcdserverpb.Lease/LeaseRevoke",
	LeaseKeepAlive: "/etcdserverpb.Lease/LeaseKeepAlive",
	Authenticate:   "/etcdserverpb.Auth/Authenticate",
}

// String is the method's path.
func (m Method) String() string {
	if m < methods {
		return paths[m]
	}
	return "unknown method"
}
