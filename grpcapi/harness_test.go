package grpcapi_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/authn"
	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/grpcapi"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/watch"
	"quorate.dev/quorate/wire"
)

const (
	memberID  = ids.MemberID(0xa1)
	clusterID = ids.ClusterID(0xc1)
	term      = ids.Term(3)
)

// store is a real state machine on a file system in memory, applied at once on the proposer's goroutine: a group of one
// without a log.
type store struct {
	*grpcapi.CompactionLog
	t       testing.TB
	engine  *storage.Engine
	machine *state.Machine
	hub     *watch.Hub

	keeper   *authn.Keeper
	verifier *authn.Verifier

	mu        sync.Mutex
	index     ids.Index
	proposals atomic.Int64
	barriers  atomic.Int64
	alarms    atomic.Int64
	leader    atomic.Uint64
	refusal   atomic.Pointer[error] // when set, what proposals and barriers are answered
	hold      chan struct{}         // when set, barriers wait for it
	active    sync.Map              // ids.MemberID to time.Time: since when others are connected
}

func newStore(t testing.TB) *store { return openStore(t, vfs.NewMem()) }

// openStore is a store on a file system that may hold an earlier one's files.
func openStore(t testing.TB, fs vfs.FS) *store {
	engine, err := storage.Open("db", storage.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	machine, err := state.Open(engine, state.Config{Member: memberID, Cluster: clusterID})
	if err != nil {
		t.Fatal(err)
	}
	s := &store{CompactionLog: new(grpcapi.CompactionLog), t: t, engine: engine, machine: machine}
	s.openAuthn()
	s.leader.Store(uint64(memberID))
	s.index = machine.Applied().Index
	s.hub = watch.New(watch.Config{
		View: func() *mvcc.View { return machine.View().View },
		Header: func() wire.Header {
			return wire.Header{ClusterID: uint64(clusterID), MemberID: uint64(memberID), RaftTerm: uint64(term)}
		},
		FragmentBytes: 2 << 20,
	})
	t.Cleanup(func() {
		s.hub.Close()
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *store) Propose(kind command.Kind, body []byte, w command.Waiter) {
	s.ProposeAs(kind, body, "", 0, w)
}

func (s *store) ProposeAs(kind command.Kind, body []byte, user string, revision uint64, w command.Waiter) {
	s.proposals.Add(1)
	if kind == command.Alarm {
		s.alarms.Add(1)
	}
	if err := s.refusal.Load(); err != nil {
		w.Complete(&command.Result{Err: *err})
		return
	}
	s.mu.Lock()
	s.index++
	cmds := []command.Command{{Index: s.index, Term: term, Kind: kind, Body: bytes.Clone(body), Username: user, AuthRevision: revision}}
	results := make([]command.Result, 1)
	effects, err := s.machine.Apply(cmds, results)
	if err != nil {
		s.t.Errorf("apply: %v", err)
	}
	s.authChanged(effects.Auth)
	s.hub.Publish(effects.Events)
	if c := effects.Compacted; c != nil {
		s.Started(c.At)
		h, err := mvcc.HashOf(c.Frozen, c.Previous, c.At)
		if err == nil {
			err = c.Frozen.Close()
		}
		if err != nil {
			s.t.Errorf("hash: %v", err)
		}
		s.Hashed(c.At, &h)
		for more := true; more; {
			if more, err = s.machine.Background(10); err != nil {
				s.t.Errorf("scrub: %v", err)
			}
		}
		s.Finished(c.At)
	}
	s.mu.Unlock()
	w.Complete(&results[0])
}

func (s *store) Read(f func(error)) {
	s.barriers.Add(1)
	if err := s.refusal.Load(); err != nil {
		f(*err)
		return
	}
	if s.hold != nil {
		go func() { <-s.hold; f(nil) }()
		return
	}
	f(nil)
}

func (s *store) Status() grpcapi.Status {
	return grpcapi.Status{Leader: ids.MemberID(s.leader.Load()), Term: term, Committed: 7, Applied: 6}
}

func (s *store) TransferLeadership(context.Context, ids.MemberID) error {
	return errors.New("BUG: nobody to transfer to")
}

func (s *store) View() *state.View   { return s.machine.View() }
func (s *store) Image() *state.Image { return s.machine.Image() }
func (s *store) DiskBytes() int64    { return 4096 }

// RenewAsync and Remaining keep every lease at its full time.
func (s *store) RenewAsync(id ids.LeaseID, done func(int64, error)) {
	if l, ok := s.View().Leases.Get(id); ok {
		done(l.TTL, nil)
		return
	}
	done(0, fault.LeaseNotFound)
}

// TimeToLive is never asked: this member leads.
func (s *store) TimeToLive(_ *pb.LeaseTimeToLiveRequest, done func(*pb.LeaseTimeToLiveResponse, error)) {
	done(nil, fault.LeaderChanged)
}

func (s *store) Remaining(id ids.LeaseID) (left time.Duration, granted int64, ok, leading bool) {
	l, ok := s.View().Leases.Get(id)
	return time.Duration(l.TTL)*time.Second - time.Millisecond, l.TTL, ok, s.leader.Load() == uint64(memberID)
}

// setVersion decides the cluster version.
func (s *store) setVersion(t testing.TB, version string) {
	s.must(t, command.ClusterVersion, &wire.ClusterVersionSetRequest{Ver: version})
}

// addMember brings this member into the register, started.
func (s *store) addMember(t testing.TB) {
	m := member.Member{ID: memberID, PeerURLs: []string{"http://localhost:2380"}}
	change := raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: proto.Uint64(uint64(memberID)), Context: m.JSON()}
	b, err := proto.Marshal(&change)
	if err != nil {
		t.Fatal(err)
	}
	s.must(t, command.ConfChange, rpc.RawMessage(b))
	s.must(t, command.MemberAttributes, &wire.ClusterMemberAttrSetRequest{MemberID: uint64(memberID), Name: "one", ClientURLs: []string{"http://localhost:2379"}})
}

func (s *store) must(t testing.TB, kind command.Kind, m rpc.Message) {
	t.Helper()
	s.Propose(kind, m.Append(nil), answered(func(r *command.Result) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}))
}

type answered func(*command.Result)

func (f answered) Complete(r *command.Result) { f(r) }

// server is the services on a port, and a connection of grpc-go to it.
type server struct {
	*store
	addr      string
	conn      *grpc.ClientConn
	kv        pb.KVClient
	nextLease int64
}

func settings() grpcapi.Settings {
	return grpcapi.Settings{
		LeaseTTLSeconds: 2, StrictReconfig: true, EtcdVersion: "3.7.3", StorageVersion: "3.7.0", Version: "v0.1.0",
		QuotaBytes: 2 << 30, Election: 10 * time.Millisecond,
	}
}

func serve(t testing.TB, s *store, set grpcapi.Settings) *server {
	return connect(t, s, serveNode(t, s, s, set))
}

// serveNode serves a store through a node of the test's own and returns the address.
func serveNode(t testing.TB, s *store, node grpcapi.Node, set grpcapi.Settings) string {
	server, err := rpc.New(rpc.Config{MessageBytesMax: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	set.TempDir = t.TempDir()
	services := grpcapi.Register(server, grpcapi.Backend{
		Keeper: s.keeper, Verifier: s.verifier,
		Member: memberID, Cluster: clusterID, Node: node, Store: s, Leases: s, Hub: s.hub, Compactions: s, Members: s,
		Settings: set, Random: func() uint64 { return 1<<63 | 0x7e57 },
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
		services.Close()
	})
	return l.Addr().String()
}

func connect(t testing.TB, s *store, addr string) *server {
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &server{store: s, addr: addr, conn: conn, kv: pb.NewKVClient(conn)}
}

func start(t testing.TB) *server { return serve(t, newStore(t), settings()) }

func (s *server) put(t testing.TB, key, value string) int64 {
	t.Helper()
	resp, err := s.kv.Put(t.Context(), &pb.PutRequest{Key: []byte(key), Value: []byte(value)})
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

// fails checks code and text of an error.
func fails(t testing.TB, err error, code codes.Code, text string) {
	t.Helper()
	s, ok := status.FromError(err)
	if err == nil || !ok || s.Code() != code || s.Message() != text {
		t.Fatalf("error %v, want %s %q", err, code, text)
	}
}

// failsAs is fails for a row of the table of faults.
func failsAs(t testing.TB, err error, want *fault.Error) {
	t.Helper()
	fails(t, err, codes.Code(want.Code), want.Text)
}

// header checks that a response header is complete and gives its revision.
func header(t testing.TB, h *pb.ResponseHeader) int64 {
	t.Helper()
	if h.GetClusterId() != uint64(clusterID) || h.GetMemberId() != uint64(memberID) || h.GetRaftTerm() != uint64(term) {
		t.Fatalf("header %v", h)
	}
	return h.GetRevision()
}
