package compat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/test/compat/diff"
)

// walker performs one random walk on a pair of servers.
type walker struct {
	*generator
	t       *testing.T
	p       *pair
	streams []*watchPair
	// physical says that the last compaction was done when it was acknowledged: only then is the hash at the compacted
	// revision the one that etcd keeps from compaction time, on both servers.
	physical bool
	step     int
	slack    int64    // seconds that the deadlines of leases may be apart
	recent   []string // the last operations
	log      io.Writer
}

// TestRandomWalk performs COMPAT_OPS (20,000) random operations from COMPAT_SEED on both servers, one after the other, and
// compares every answer, every event and the hashes of the history.
func TestRandomWalk(t *testing.T) {
	randomWalk(t, 20_000, startPair(t, opponent(), "--unsafe-no-fsync"))
}

func randomWalk(t *testing.T, ops int, p *pair) {
	seed := time.Now().UnixNano()
	if testing.Short() {
		ops = 3_000
	}
	if s := os.Getenv("COMPAT_OPS"); s != "" {
		ops, _ = strconv.Atoi(s)
	}
	if s := os.Getenv("COMPAT_SEED"); s != "" {
		seed, _ = strconv.ParseInt(s, 10, 64)
	}
	t.Logf("seed %d, %d operations; to replay: COMPAT_SEED=%d COMPAT_OPS=%d go test -run '^%s$'", seed, ops, seed, ops, t.Name())
	w := &walker{
		generator: &generator{Rand: rand.New(rand.NewPCG(uint64(seed), 0)), revision: 1, compacted: 1, nextLease: 1000},
		t:         t, p: p, log: io.Discard, slack: 1,
	}
	if name := os.Getenv("COMPAT_LOG"); name != "" {
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		w.log = f
	}
	start := time.Now()
	for ; w.step < ops; w.step++ {
		w.perform()
		// Not at a share of ops: fewer operations must replay the same walk.
		if w.step%8000 == 7999 {
			w.restart()
		}
	}
	w.closeStreams()
	w.finish()
	t.Logf("%d operations in %v, last revision %d, compacted %d", ops, time.Since(start).Round(time.Millisecond), w.revision, w.compacted)
}

// fail reports the difference with what led to it.
func (w *walker) fail(what string, lines []string) {
	w.t.Helper()
	w.t.Fatalf("operation %d, %s:\n    %s\nthe operations before it:\n  %s\nto replay: COMPAT_OPS=%d with the seed above",
		w.step, what, strings.Join(lines, "\n    "), strings.Join(w.recent, "\n  "), w.step+1)
}

// perform does the next operation.
func (w *walker) perform() {
	switch n := w.IntN(1000); {
	case n < 330:
		w.call("Put", w.put())
	case n < 530:
		w.call("Range", w.readRange())
	case n < 560:
		w.call("RangeStream", w.streamRange())
	case n < 640:
		w.call("DeleteRange", w.deleteRange())
	case n < 840:
		w.call("Txn", w.txn(2))
	case n < 865:
		w.grantLease()
	case n < 880:
		w.revokeLease()
	case n < 905:
		w.call("LeaseTimeToLive", &pb.LeaseTimeToLiveRequest{ID: w.lease(), Keys: w.chance(70)})
	case n < 920:
		w.call("LeaseKeepAlive", &pb.LeaseKeepAliveRequest{ID: w.lease()})
	case n < 925:
		w.call("LeaseLeases", &pb.LeaseLeasesRequest{})
	case n < 929:
		w.compact()
	case n < 940:
		w.hash()
	case n < 942:
		w.call("MemberList", &pb.MemberListRequest{Linearizable: w.chance(50)})
	case n < 944:
		w.call("Status", &pb.StatusRequest{})
	case n < 946:
		w.call("Alarm", &pb.AlarmRequest{})
	case n < 980:
		w.watch()
	default:
		w.cancelWatch()
	}
}

// call makes the request on both servers and compares the answers. It returns the judge's.
func (w *walker) call(method string, req proto.Message) (proto.Message, error) {
	w.note(method + " " + prototext.MarshalOptions{}.Format(req))
	var msgs [2]proto.Message
	var errs [2]error
	var facts [2][]diff.Fact
	do := func(i int, conn *grpc.ClientConn) {
		msgs[i], errs[i] = invoke(conn, method, req)
		if errs[i] != nil {
			facts[i] = diff.Error(errs[i])
			return
		}
		settleTies(req, msgs[i])
		facts[i] = diff.Message(msgs[i])
	}
	begin := time.Now()
	both(func() { do(0, w.p.judge.Conn()) }, func() { do(1, w.p.other.Conn()) })
	// A lease may be granted, and looked at, that much later by one server than by the other.
	w.slack = max(w.slack, 1+int64(2*time.Since(begin)/time.Second))
	for i := range facts {
		for j := range facts[i] {
			facts[i][j].Slack *= w.slack
		}
	}
	if lines := diff.Compare(facts[0], facts[1]); len(lines) > 0 {
		lines = append(lines, "etcd:\n"+diff.Print(facts[0]), "other:\n"+diff.Print(facts[1]))
		w.fail(method, lines)
	}
	if h, ok := msgs[0].(interface{ GetHeader() *pb.ResponseHeader }); errs[0] == nil && ok && h.GetHeader() != nil {
		w.revision = max(w.revision, h.GetHeader().Revision)
	}
	return msgs[0], errs[0]
}

// note remembers what is about to be done. COMPAT_LOG names a file that gets all of it, with the revision before.
func (w *walker) note(text string) {
	fmt.Fprintf(w.log, "%d at revision %d: %s\n", w.step, w.revision, text)
	w.recent = append(w.recent, fmt.Sprintf("%d: %s", w.step, text))
	if len(w.recent) > 20 {
		w.recent = slices.Delete(w.recent, 0, 1)
	}
}

// invoke makes one call with the generated clients.
func invoke(conn *grpc.ClientConn, method string, req proto.Message) (proto.Message, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	switch r := req.(type) {
	case *pb.PutRequest:
		return pb.NewKVClient(conn).Put(ctx, r)
	case *pb.RangeRequest:
		if method == "RangeStream" {
			return mergeStream(pb.NewKVClient(conn).RangeStream(ctx, r))
		}
		return pb.NewKVClient(conn).Range(ctx, r)
	case *pb.DeleteRangeRequest:
		return pb.NewKVClient(conn).DeleteRange(ctx, r)
	case *pb.TxnRequest:
		return pb.NewKVClient(conn).Txn(ctx, r)
	case *pb.CompactionRequest:
		return pb.NewKVClient(conn).Compact(ctx, r)
	case *pb.LeaseGrantRequest:
		return pb.NewLeaseClient(conn).LeaseGrant(ctx, r)
	case *pb.LeaseRevokeRequest:
		return pb.NewLeaseClient(conn).LeaseRevoke(ctx, r)
	case *pb.LeaseTimeToLiveRequest:
		return pb.NewLeaseClient(conn).LeaseTimeToLive(ctx, r)
	case *pb.LeaseLeasesRequest:
		return pb.NewLeaseClient(conn).LeaseLeases(ctx, r)
	case *pb.LeaseKeepAliveRequest:
		st, err := pb.NewLeaseClient(conn).LeaseKeepAlive(ctx)
		if err == nil {
			err = st.Send(r)
		}
		if err != nil {
			return nil, err
		}
		return st.Recv()
	case *pb.HashKVRequest:
		return pb.NewMaintenanceClient(conn).HashKV(ctx, r)
	case *pb.StatusRequest:
		return pb.NewMaintenanceClient(conn).Status(ctx, r)
	case *pb.AlarmRequest:
		return pb.NewMaintenanceClient(conn).Alarm(ctx, r)
	case *pb.MemberListRequest:
		return pb.NewClusterClient(conn).MemberList(ctx, r)
	}
	return nil, fmt.Errorf("no call for %T", req)
}

func mergeStream(st pb.KV_RangeStreamClient, err error) (proto.Message, error) {
	if err != nil {
		return nil, err
	}
	merged := &pb.RangeResponse{}
	for {
		m, err := st.Recv()
		if errors.Is(err, io.EOF) {
			return merged, nil
		}
		if err != nil {
			return nil, err
		}
		p := m.RangeResponse
		merged.Header, merged.Count, merged.More = p.GetHeader(), p.GetCount(), p.GetMore()
		merged.Kvs = append(merged.Kvs, p.GetKvs()...)
	}
}

// settleTies brings what no server promises into one order: equal keys of a sort, and leases that expire together.
func settleTies(req, resp proto.Message) {
	switch r := req.(type) {
	case *pb.RangeRequest:
		settleRange(r, resp.(*pb.RangeResponse))
	case *pb.TxnRequest:
		settleTxn(r, resp.(*pb.TxnResponse))
	case *pb.LeaseLeasesRequest:
		ls := resp.(*pb.LeaseLeasesResponse).Leases
		sort.Slice(ls, func(i, j int) bool { return ls[i].ID < ls[j].ID })
	}
}

func settleTxn(req *pb.TxnRequest, resp *pb.TxnResponse) {
	ops := req.Failure
	if resp.Succeeded {
		ops = req.Success
	}
	for i, op := range ops {
		if r := op.GetRequestRange(); r != nil {
			settleRange(r, resp.Responses[i].GetResponseRange())
		}
		if r := op.GetRequestTxn(); r != nil {
			settleTxn(r, resp.Responses[i].GetResponseTxn())
		}
	}
}

// settleRange orders runs of equal sort fields by key. Where the limit cuts such a run, which of its keys are shown is
// open, and only how many.
func settleRange(req *pb.RangeRequest, resp *pb.RangeResponse) {
	if req.SortTarget == pb.RangeRequest_KEY || len(resp.Kvs) == 0 {
		return
	}
	filtered := req.MinModRevision != 0 || req.MaxModRevision != 0 || req.MinCreateRevision != 0 || req.MaxCreateRevision != 0
	cut := resp.More && (req.SortOrder != pb.RangeRequest_NONE || filtered)
	kvs := resp.Kvs
	for start := 0; start < len(kvs); {
		end := start + 1
		for end < len(kvs) && tied(req, kvs[start], kvs[end]) {
			end++
		}
		run := kvs[start:end]
		sort.Slice(run, func(i, j int) bool { return bytes.Compare(run[i].Key, run[j].Key) < 0 })
		if end == len(kvs) && cut {
			for i := range run {
				run[i] = &mvccpb.KeyValue{}
			}
		}
		start = end
	}
}

func tied(req *pb.RangeRequest, a, b *mvccpb.KeyValue) bool {
	switch req.SortTarget {
	case pb.RangeRequest_VERSION:
		return a.Version == b.Version
	case pb.RangeRequest_CREATE:
		return a.CreateRevision == b.CreateRevision
	case pb.RangeRequest_MOD:
		return a.ModRevision == b.ModRevision
	}
	return req.KeysOnly || bytes.Equal(a.Value, b.Value)
}

func (w *walker) grantLease() {
	if len(w.leases) >= 30 {
		w.revokeLease()
	}
	req := w.grant()
	if _, err := w.call("LeaseGrant", req); err == nil {
		w.leases = append(w.leases, req.ID)
	}
}

func (w *walker) revokeLease() {
	id := w.lease()
	w.call("LeaseRevoke", &pb.LeaseRevokeRequest{ID: id})
	w.leases = slices.DeleteFunc(w.leases, func(l int64) bool { return l == id })
}

// settle lets the stream's watches deliver everything up to now.
func (w *walker) settle(s *watchPair) {
	if s.newest >= w.revision {
		w.call("Put", &pb.PutRequest{Key: []byte("~")})
	}
	if err := s.settle(w.revision); err != nil {
		w.fail("while waiting for the watches "+s.describe(), []string{err.Error()})
	}
}

// compact lets all watchers catch up first: whether one that is behind is cancelled or served is a matter of timing.
func (w *walker) compact() {
	for _, s := range w.streams {
		w.settle(s)
	}
	req := &pb.CompactionRequest{Revision: w.readable() + w.Int64N(2), Physical: w.chance(70)}
	if w.chance(10) {
		req.Revision = w.revision + 1
	}
	if _, err := w.call("Compact", req); err == nil {
		w.compacted, w.physical = req.Revision, req.Physical
	}
}

func (w *walker) hash() {
	rev := w.anyRevision()
	if rev == w.compacted && !w.physical {
		rev = 0
	}
	if w.revision == w.compacted && !w.physical {
		return
	}
	w.call("HashKV", &pb.HashKVRequest{Revision: rev})
}

func (w *walker) watch() {
	req := w.watchCreate()
	if req.StartRevision > 0 && req.StartRevision < w.compacted {
		w.watchCompacted(req)
		return
	}
	// While a watch waits for the future, its stream cannot tell that those from the past have caught up: they never share.
	future := req.StartRevision > w.revision
	i := slices.IndexFunc(w.streams, func(s *watchPair) bool { return s.future == future })
	if j := w.IntN(8); j < len(w.streams) && w.streams[j].future == future {
		i = j
	}
	if i < 0 || len(w.streams) < 6 && w.chance(10) {
		s, err := openWatchPair(w.p.judge.Conn(), w.p.other.Conn())
		if err != nil {
			w.fail("opening a watch stream", []string{err.Error()})
		}
		s.future, i = future, len(w.streams)
		w.streams = append(w.streams, s)
	}
	w.note(fmt.Sprintf("Watch on stream %d: %s", i, prototext.MarshalOptions{}.Format(req)))
	if err := w.streams[i].create(req, w.compacted); err != nil {
		w.fail("creating a watch", []string{err.Error()})
	}
	if len(w.streams[i].live) > 40 || w.chance(2) {
		w.closeStream(i)
	}
}

// watchCompacted watches from a compacted revision, on a stream of its own: a watch cancelled by compaction keeps etcd from
// answering progress requests on its stream.
func (w *walker) watchCompacted(req *pb.WatchCreateRequest) {
	w.note("Watch on a new stream: " + prototext.MarshalOptions{}.Format(req))
	s, err := openWatchPair(w.p.judge.Conn(), w.p.other.Conn())
	if err == nil {
		err = s.create(req, w.compacted)
	}
	if err != nil {
		w.fail("watching from a compacted revision", []string{err.Error()})
	}
	if lines := s.close(); len(lines) > 0 {
		w.fail("watching from a compacted revision", lines)
	}
}

// cancelWatch ends one watch, after it has delivered what it has to.
func (w *walker) cancelWatch() {
	if len(w.streams) == 0 {
		return
	}
	i := w.IntN(len(w.streams))
	s := w.streams[i]
	var ids []int64
	for id := range s.live {
		if s.starts[id] <= w.revision {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return
	}
	slices.Sort(ids)
	id := ids[w.IntN(len(ids))]
	for other := range s.live {
		if s.starts[other] > w.revision {
			return // no progress answers on this stream now
		}
	}
	w.note(fmt.Sprintf("cancel watch %d on stream %d", id, i))
	w.settle(s)
	err := s.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}})
	if err == nil {
		err = s.awaitCancel(id)
	}
	if err != nil {
		w.fail("cancelling a watch", []string{err.Error()})
	}
}

func (w *walker) closeStream(i int) {
	s := w.streams[i]
	w.settle(s)
	if lines := s.close(); len(lines) > 0 {
		w.fail(fmt.Sprintf("events of stream %d", i), lines)
	}
	w.streams = slices.Delete(w.streams, i, i+1)
}

func (w *walker) closeStreams() {
	for len(w.streams) > 0 {
		w.closeStream(0)
	}
}

// restart stops and starts both servers. Renewed leases start again with their full time on both.
func (w *walker) restart() {
	w.closeStreams()
	var errs [2]error
	both(func() { _, errs[0] = target(&w.p.judge).Restart() }, func() { _, errs[1] = target(&w.p.other).Restart() })
	if err := errors.Join(errs[:]...); err != nil {
		w.t.Fatal(err)
	}
	w.note("restart")
	w.slack = max(w.slack, 20) // leases run anew from when each server is up again
	// A compaction that was not physical has been finished by now, its hash was not kept.
	w.physical = false
}

// finish compares all that can be compared of the end state and its history.
func (w *walker) finish() {
	all := []byte{0}
	w.call("Range", &pb.RangeRequest{Key: all, RangeEnd: all})
	for range 10 {
		rev := w.readable()
		w.call("Range", &pb.RangeRequest{Key: all, RangeEnd: all, Revision: rev})
		if rev != w.compacted {
			w.call("HashKV", &pb.HashKVRequest{Revision: rev})
		}
	}
	for _, id := range w.leases {
		w.call("LeaseTimeToLive", &pb.LeaseTimeToLiveRequest{ID: id, Keys: true})
	}
	w.call("Compact", &pb.CompactionRequest{Revision: w.revision, Physical: true})
	w.call("HashKV", &pb.HashKVRequest{})
}
