package grpcapi

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"quorate.dev/quorate/audit"
	"quorate.dev/quorate/authn"
	"quorate.dev/quorate/command"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/insight"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/watch"
	"quorate.dev/quorate/wire"
)

// Status is what a member knows of its group at one moment.
type Status struct {
	Leader    ids.MemberID // 0: none known
	Term      ids.Term
	Committed ids.Index
	Applied   ids.Index
}

// Node is the member's place in its raft group.
type Node interface {
	// ProposeAs asks the group to commit one command in the name of a user, who was known at that revision of the
	// authentication state; "" and 0 for nobody. It never blocks, copies body, and calls w.Complete exactly once.
	ProposeAs(kind command.Kind, body []byte, user string, revision uint64, w command.Waiter)
	// Read calls f once, when everything acknowledged before the call is in the newest View; at once where possible.
	Read(f func(error))
	Status() Status
	// TransferLeadership returns when to leads, or with fault.TimeoutLeaderTransfer.
	TransferLeadership(ctx context.Context, to ids.MemberID) error
}

// Store is the state machine as readers see it.
type Store interface {
	View() *state.View
	// Image freezes the engine at a batch boundary; the caller closes it.
	Image() *state.Image
	// DiskBytes is what the engine's files take, in bytes.
	DiskBytes() int64
}

// Leases is the leader's knowledge of time; *leader.Duty is one.
type Leases interface {
	// RenewAsync starts the lease's time anew and calls done exactly once with its TTL in seconds, or with
	// fault.LeaseNotFound. For a lease that has expired but still exists, that is when it is gone.
	RenewAsync(id ids.LeaseID, done func(ttl int64, err error))
	// Remaining is the time that the lease still lives, and the TTL it was granted, seconds. ok is false when there is no
	// such lease, leading when this member does not know, since it does not lead.
	Remaining(id ids.LeaseID) (left time.Duration, granted int64, ok, leading bool)
	// TimeToLive asks the leader, which is another member, and calls done exactly once with its answer, which has no header,
	// or with fault.LeaseNotFound.
	TimeToLive(req *etcdserverpb.LeaseTimeToLiveRequest, done func(*etcdserverpb.LeaseTimeToLiveResponse, error))
}

// Membership changes who is in the cluster.
type Membership interface {
	// Change asks the group for a change, whose member is complete. It never blocks, and calls w.Complete exactly once, when
	// the newest View shows the change or the group has refused it.
	Change(c member.Change, w command.Waiter)
	// Promote has the leader make a learner a voter once it is ready, and calls done exactly once, on another goroutine.
	Promote(id ids.MemberID, done func(error))
	// ActiveSince is since when another member has been connected to this one without a break, the zero time when it is not.
	ActiveSince(id ids.MemberID) time.Time
}

// Compactions knows what became of past compactions.
type Compactions interface {
	// Scrubbed calls done once, when the records that the compaction at a revision made unreachable are gone from the
	// engine; at once when they already are.
	Scrubbed(at ids.Revision, done func())
	// Hash is the hash of the store taken when it was compacted at a revision, one of the last limits.CompactionHashes.
	Hash(at ids.Revision) (mvcc.Hash, bool)
}

// Settings are the numbers and names that the operator or the build decides.
type Settings struct {
	QuotaBytes      int64         // --quota-backend-bytes as resolved; at or below 0 nothing is refused
	MaxRequestBytes int           // --max-request-bytes; 0 takes limits.RequestBytes
	MaxTxnOps       int           // --max-txn-ops; 0 takes limits.TxnOps
	LeaseTTLSeconds int64         // the shortest TTL granted, seconds
	Election        time.Duration // the election timeout; streams that require a leader end after three without one
	StrictReconfig  bool          // --strict-reconfig-check
	EtcdVersion     string        // the etcd version clients are told, such as "3.7.3"
	StorageVersion  string        // such as "3.7.0"
	Version         string        // this program's own, a response header of Status; "" sends none
	TempDir         string        // where a snapshot is laid out before it is sent; "" is the system's
}

// Backend is everything the services stand on. All fields but Audit, Desk, Request and Random are required.
type Backend struct {
	Keeper      *authn.Keeper   // who sends a request
	Verifier    *authn.Verifier // passwords
	Member      ids.MemberID
	Cluster     ids.ClusterID
	Node        Node
	Store       Store
	Leases      Leases
	Hub         *watch.Hub
	Compactions Compactions
	Members     Membership
	Settings    Settings
	Audit       *audit.Log    // who asks for what is told there; nil tells nobody
	Desk        *insight.Desk // counts calls while somebody looks; nil never does
	// Request counts a call or stream and the API version that its client sent; nil counts nothing.
	Request func(stream bool, version string)
	// Random gives the ids of leases that the client did not choose; nil takes the system's source.
	Random func() uint64
}

// Services are the registered services of one server.
type Services struct {
	Backend
	writes   sync.Pool // *write
	reads    sync.Pool // *read
	lane     *lane     // for what may take long but does not wait
	quota    quotaGuard
	standing atomic.Pointer[standing]
	watch    leaderWatch
	names    []string // the services, in order of registration
}

// Register adds every service to s. The caller closes the result after s has shut down.
func Register(s *rpc.Server, b Backend) *Services {
	b.Settings.complete()
	if b.Random == nil {
		b.Random = systemRandom
	}
	v := &Services{Backend: b, lane: newLane(limits.RangeWorkers, limits.RangeQueue)}
	v.writes.New = func() any { return &write{services: v} }
	v.reads.New = func() any { return newRead(v) }
	v.watch.init(b.Node, b.Settings.Election)
	v.registerKV(s)
	v.registerWatch(s)
	v.registerLease(s)
	v.registerMaintenance(s)
	v.registerCluster(s)
	v.registerAuth(s)
	v.registerLock(s)
	v.registerElection(s)
	v.registerHealth(s)
	v.registerReflection(s)
	return v
}

// Close ends the workers. Calls that still wait for one are refused.
func (v *Services) Close() {
	v.lane.close()
	v.watch.close()
}

func (s *Settings) complete() {
	if s.MaxRequestBytes == 0 {
		s.MaxRequestBytes = limits.RequestBytes
	}
	if s.MaxTxnOps == 0 {
		s.MaxTxnOps = limits.TxnOps
	}
	if s.Election == 0 {
		s.Election = time.Second
	}
}

func systemRandom() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, by its documentation
	return binary.LittleEndian.Uint64(b[:])
}

// header is the response header at a revision.
func (v *Services) header(rev ids.Revision) wire.Header {
	return wire.Header{
		ClusterID: uint64(v.Cluster),
		MemberID:  uint64(v.Member),
		Revision:  int64(rev),
		RaftTerm:  uint64(v.Node.Status().Term),
	}
}

// headerProto is header for the generated messages.
func (v *Services) headerProto(rev ids.Revision) *etcdserverpb.ResponseHeader {
	h := v.header(rev)
	return &etcdserverpb.ResponseHeader{ClusterId: h.ClusterID, MemberId: h.MemberID, Revision: h.Revision, RaftTerm: h.RaftTerm}
}
