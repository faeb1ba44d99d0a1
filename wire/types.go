package wire

// The messages below mirror etcdserverpb and mvccpb field by field (source: etcd v3.7 api/etcdserverpb/rpc.proto,
// api/mvccpb/kv.proto, api/etcdserverpb/raft_internal.proto). Byte fields of a decoded message alias the buffer it was
// decoded from: whoever keeps them longer than the buffer copies them.

// Header is etcdserverpb.ResponseHeader.
type Header struct {
	ClusterID uint64 // 1
	MemberID  uint64 // 2
	Revision  int64  // 3
	RaftTerm  uint64 // 4
}

// KeyValue is mvccpb.KeyValue.
type KeyValue struct {
	Key            []byte // 1
	CreateRevision int64  // 2
	ModRevision    int64  // 3
	Version        int64  // 4
	Value          []byte // 5
	Lease          int64  // 6
}

// SortOrder and SortTarget are the enums of RangeRequest. Unknown values are carried.
type (
	SortOrder  int32
	SortTarget int32
)

// Sort orders and targets of RangeRequest.
const (
	SortNone    SortOrder = 0
	SortAscend  SortOrder = 1
	SortDescend SortOrder = 2

	SortByKey     SortTarget = 0
	SortByVersion SortTarget = 1
	SortByCreate  SortTarget = 2
	SortByMod     SortTarget = 3
	SortByValue   SortTarget = 4
)

// RangeRequest is etcdserverpb.RangeRequest.
type RangeRequest struct {
	Key               []byte     // 1
	RangeEnd          []byte     // 2
	Limit             int64      // 3
	Revision          int64      // 4
	SortOrder         SortOrder  // 5
	SortTarget        SortTarget // 6
	Serializable      bool       // 7
	KeysOnly          bool       // 8
	CountOnly         bool       // 9
	MinModRevision    int64      // 10
	MaxModRevision    int64      // 11
	MinCreateRevision int64      // 12
	MaxCreateRevision int64      // 13
}

// RangeResponse is etcdserverpb.RangeResponse. KVs are KeyValue messages in wire form, spliced as they are.
type RangeResponse struct {
	Header Header   // 1
	KVs    [][]byte // 2
	More   bool     // 3
	Count  int64    // 4
}

// PutRequest is etcdserverpb.PutRequest.
type PutRequest struct {
	Key         []byte // 1
	Value       []byte // 2
	Lease       int64  // 3
	PrevKV      bool   // 4
	IgnoreValue bool   // 5
	IgnoreLease bool   // 6
}

// PutResponse is etcdserverpb.PutResponse. PrevKV is a KeyValue in wire form, nil when absent.
type PutResponse struct {
	Header Header // 1
	PrevKV []byte // 2
}

// DeleteRangeRequest is etcdserverpb.DeleteRangeRequest.
type DeleteRangeRequest struct {
	Key      []byte // 1
	RangeEnd []byte // 2
	PrevKV   bool   // 3
}

// DeleteRangeResponse is etcdserverpb.DeleteRangeResponse. PrevKVs are KeyValues in wire form.
type DeleteRangeResponse struct {
	Header  Header   // 1
	Deleted int64    // 2
	PrevKVs [][]byte // 3
}

// CompareResult and CompareTarget are the enums of Compare. Unknown values are carried.
type (
	CompareResult int32
	CompareTarget int32
)

// Operators and targets of Compare.
const (
	CompareEqual    CompareResult = 0
	CompareGreater  CompareResult = 1
	CompareLess     CompareResult = 2
	CompareNotEqual CompareResult = 3

	CompareVersion CompareTarget = 0
	CompareCreate  CompareTarget = 1
	CompareMod     CompareTarget = 2
	CompareValue   CompareTarget = 3
	CompareLease   CompareTarget = 4
)

// Compare is etcdserverpb.Compare. The oneof target_union is Number for version (4), create_revision (5), mod_revision
// (6) and lease (8), and Value for value (7); Union is the field number that was set, 0 when none.
type Compare struct {
	Result   CompareResult // 1
	Target   CompareTarget // 2
	Key      []byte        // 3
	Union    int32         // which of 4, 5, 6, 7, 8 was present
	Number   int64         // 4, 5, 6 or 8
	Value    []byte        // 7
	RangeEnd []byte        // 64
}

// RequestOp is etcdserverpb.RequestOp: exactly one pointer is set, or none when the client set none.
type RequestOp struct {
	Range       *RangeRequest       // 1
	Put         *PutRequest         // 2
	DeleteRange *DeleteRangeRequest // 3
	Txn         *TxnRequest         // 4
}

// TxnRequest is etcdserverpb.TxnRequest.
type TxnRequest struct {
	Compare []Compare   // 1
	Success []RequestOp // 2
	Failure []RequestOp // 3
}

// ResponseOp is etcdserverpb.ResponseOp: exactly one pointer is set.
type ResponseOp struct {
	Range       *RangeResponse       // 1
	Put         *PutResponse         // 2
	DeleteRange *DeleteRangeResponse // 3
	Txn         *TxnResponse         // 4
}

// TxnResponse is etcdserverpb.TxnResponse.
type TxnResponse struct {
	Header    Header       // 1
	Succeeded bool         // 2
	Responses []ResponseOp // 3
}

// CompactionRequest is etcdserverpb.CompactionRequest.
type CompactionRequest struct {
	Revision int64 // 1
	Physical bool  // 2
}

// LeaseGrantRequest is etcdserverpb.LeaseGrantRequest.
type LeaseGrantRequest struct {
	TTL int64 // 1, seconds
	ID  int64 // 2
}

// LeaseRevokeRequest is etcdserverpb.LeaseRevokeRequest.
type LeaseRevokeRequest struct {
	ID int64 // 1
}

// LeaseCheckpoint is etcdserverpb.LeaseCheckpoint.
type LeaseCheckpoint struct {
	ID           int64 // 1
	RemainingTTL int64 // 2, seconds
}

// LeaseCheckpointRequest is etcdserverpb.LeaseCheckpointRequest.
type LeaseCheckpointRequest struct {
	Checkpoints []LeaseCheckpoint // 1
}

// LeaseKeepAliveRequest is etcdserverpb.LeaseKeepAliveRequest.
type LeaseKeepAliveRequest struct {
	ID int64 // 1
}

// LeaseKeepAliveResponse is etcdserverpb.LeaseKeepAliveResponse.
type LeaseKeepAliveResponse struct {
	Header Header // 1
	ID     int64  // 2
	TTL    int64  // 3, seconds
}

// AlarmAction and AlarmType are the enums of AlarmRequest.
type (
	AlarmAction int32
	AlarmType   int32
)

// Actions and types of alarms.
const (
	AlarmGet        AlarmAction = 0
	AlarmActivate   AlarmAction = 1
	AlarmDeactivate AlarmAction = 2

	AlarmNone    AlarmType = 0
	AlarmNoSpace AlarmType = 1
	AlarmCorrupt AlarmType = 2
)

// AlarmRequest is etcdserverpb.AlarmRequest.
type AlarmRequest struct {
	Action   AlarmAction // 1
	MemberID uint64      // 2
	Alarm    AlarmType   // 3
}

// AlarmMember is etcdserverpb.AlarmMember.
type AlarmMember struct {
	MemberID uint64    // 1
	Alarm    AlarmType // 2
}

// ClusterVersionSetRequest is membershippb.ClusterVersionSetRequest.
type ClusterVersionSetRequest struct {
	Ver string // 1
}

// ClusterMemberAttrSetRequest is membershippb.ClusterMemberAttrSetRequest with its nested Attributes.
type ClusterMemberAttrSetRequest struct {
	MemberID   uint64   // 1
	Name       string   // 2.1
	ClientURLs []string // 2.2
}

// DowngradeInfoSetRequest is membershippb.DowngradeInfoSetRequest.
type DowngradeInfoSetRequest struct {
	Enabled bool   // 1
	Ver     string // 2
}

// EventType is the enum of mvccpb.Event.
type EventType int32

// Event types.
const (
	EventPut    EventType = 0
	EventDelete EventType = 1
)

// Event is mvccpb.Event. KV and PrevKV are KeyValues in wire form; PrevKV is nil when absent.
type Event struct {
	Type   EventType // 1
	KV     []byte    // 2
	PrevKV []byte    // 3
}

// FilterType is the enum WatchCreateRequest.FilterType.
type FilterType int32

// Filters of a watch.
const (
	FilterNoPut    FilterType = 0
	FilterNoDelete FilterType = 1
)

// WatchCreateRequest is etcdserverpb.WatchCreateRequest.
type WatchCreateRequest struct {
	Key            []byte       // 1
	RangeEnd       []byte       // 2
	StartRevision  int64        // 3
	ProgressNotify bool         // 4
	Filters        []FilterType // 5
	PrevKV         bool         // 6
	WatchID        int64        // 7
	Fragment       bool         // 8
}

// WatchRequest is etcdserverpb.WatchRequest: at most one of the three is set.
type WatchRequest struct {
	Create   *WatchCreateRequest // 1
	Cancel   *int64              // 2: WatchCancelRequest.watch_id
	Progress bool                // 3
}

// WatchResponse is etcdserverpb.WatchResponse. Events are mvccpb.Event messages in wire form.
type WatchResponse struct {
	Header          Header   // 1
	WatchID         int64    // 2
	Created         bool     // 3
	Canceled        bool     // 4
	CompactRevision int64    // 5
	CancelReason    string   // 6
	Fragment        bool     // 7
	Events          [][]byte // 11
}
