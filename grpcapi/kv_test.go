package grpcapi_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/fault"
)

func opPut(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte("v")}}}
}

func opGet(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key)}}}
}

func opDelete(key, end string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)}}}
}

func opTxn(success, failure []*pb.RequestOp) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: success, Failure: failure}}}
}

func many(n int, op func(i int) *pb.RequestOp) []*pb.RequestOp {
	ops := make([]*pb.RequestOp, n)
	for i := range ops {
		ops[i] = op(i)
	}
	return ops
}

// TestRefusals holds each rule of validation to etcd's error.
func TestRefusals(t *testing.T) {
	s := start(t)
	for i := range 5 {
		s.put(t, "k", fmt.Sprint(i))
	}
	if _, err := s.kv.Compact(t.Context(), &pb.CompactionRequest{Revision: 4}); err != nil {
		t.Fatal(err)
	}
	k := []byte("k")
	txn := func(ops ...*pb.RequestOp) *pb.TxnRequest { return &pb.TxnRequest{Success: ops} }
	puts := func(n int) []*pb.RequestOp {
		return many(n, func(i int) *pb.RequestOp { return opPut(fmt.Sprint("t", i)) })
	}
	for _, c := range []struct {
		name   string
		method string
		req    proto.Message
		want   *fault.Error
	}{
		{"range without key", "Range", &pb.RangeRequest{}, fault.EmptyKey},
		{"range with unknown order", "Range", &pb.RangeRequest{Key: k, SortOrder: 3}, fault.InvalidSortOption},
		{"range with unknown target", "Range", &pb.RangeRequest{Key: k, SortTarget: 5}, fault.InvalidSortOption},
		{"range with negative target", "Range", &pb.RangeRequest{Key: k, SortTarget: -1}, fault.InvalidSortOption},
		{"key before order", "Range", &pb.RangeRequest{SortOrder: 3}, fault.EmptyKey},
		{"range below the compacted revision", "Range", &pb.RangeRequest{Key: k, Revision: 3}, fault.Compacted},
		{"range of the future", "Range", &pb.RangeRequest{Key: k, Revision: 100}, fault.FutureRev},
		{"put without key", "Put", &pb.PutRequest{Value: k}, fault.EmptyKey},
		{"put with value and ignore_value", "Put", &pb.PutRequest{Key: k, Value: k, IgnoreValue: true}, fault.ValueProvided},
		{"put with lease and ignore_lease", "Put", &pb.PutRequest{Key: k, Lease: 1, IgnoreLease: true}, fault.LeaseProvided},
		{"value before lease", "Put", &pb.PutRequest{Key: k, Value: k, Lease: 1, IgnoreValue: true, IgnoreLease: true}, fault.ValueProvided},
		{"put with unknown lease", "Put", &pb.PutRequest{Key: k, Lease: 99}, fault.LeaseNotFound},
		{"put keeping the value of no key", "Put", &pb.PutRequest{Key: []byte("none"), IgnoreValue: true}, fault.KeyNotFound},
		{"put keeping the lease of no key", "Put", &pb.PutRequest{Key: []byte("none"), IgnoreLease: true}, fault.KeyNotFound},
		{"delete without key", "DeleteRange", &pb.DeleteRangeRequest{RangeEnd: k}, fault.EmptyKey},
		{"compaction below the last", "Compact", &pb.CompactionRequest{Revision: 4}, fault.Compacted},
		{"compaction of the future", "Compact", &pb.CompactionRequest{Revision: 100}, fault.FutureRev},
		{"129 puts", "Txn", txn(puts(129)...), fault.TooManyOps},
		{"129 compares", "Txn", &pb.TxnRequest{Compare: make([]*pb.Compare, 129)}, fault.TooManyOps},
		{"129 in the other branch", "Txn", &pb.TxnRequest{Failure: puts(129)}, fault.TooManyOps},
		{"nested beyond what the parent left", "Txn", txn(append(puts(100), opTxn(many(28, func(int) *pb.RequestOp { return opGet("k") }), nil))...), fault.TooManyOps},
		{"compare without key", "Txn", &pb.TxnRequest{Compare: []*pb.Compare{{}}}, fault.EmptyKey},
		{"op without request", "Txn", txn(&pb.RequestOp{}), fault.KeyNotFound},
		{"put op without key", "Txn", txn(opPut("")), fault.EmptyKey},
		{"get op without key", "Txn", txn(opGet("")), fault.EmptyKey},
		{"delete op without key", "Txn", txn(opDelete("", "")), fault.EmptyKey},
		{"the branch not taken counts", "Txn", &pb.TxnRequest{Failure: []*pb.RequestOp{opPut("")}}, fault.EmptyKey},
		{"one key put twice", "Txn", txn(opPut("a"), opPut("b"), opPut("a")), fault.DuplicateKey},
		{"put then delete", "Txn", txn(opPut("a"), opDelete("a", "")), fault.DuplicateKey},
		{"delete then put", "Txn", txn(opDelete("a", "c"), opPut("b")), fault.DuplicateKey},
		{"nested put beside a put", "Txn", txn(opTxn([]*pb.RequestOp{opPut("a")}, nil), opPut("a")), fault.DuplicateKey},
		{"nested put beside a delete", "Txn", txn(opTxn([]*pb.RequestOp{opPut("a")}, nil), opDelete("a", "b")), fault.DuplicateKey},
		{"nested delete beside a put", "Txn", txn(opTxn(nil, []*pb.RequestOp{opDelete("a", "b")}), opPut("a")), fault.DuplicateKey},
		{"two nested ones put the same", "Txn", txn(opTxn([]*pb.RequestOp{opPut("a")}, nil), opTxn(nil, []*pb.RequestOp{opPut("a")})), fault.DuplicateKey},
		{"range op of the future", "Txn", txn(opPut("z"), &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: k, Revision: 100}}}), fault.FutureRev},
		{"range op of the past, read-only", "Txn", txn(&pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: k, Revision: 2}}}), fault.Compacted},
	} {
		t.Run(c.name, func(t *testing.T) {
			if r, ok := c.req.(*pb.TxnRequest); ok {
				for i := range r.Compare {
					if r.Compare[i] == nil {
						r.Compare[i] = &pb.Compare{Key: k}
					}
				}
			}
			before := s.View().Revision()
			err := s.conn.Invoke(t.Context(), "/etcdserverpb.KV/"+c.method, c.req, new(pb.TxnResponse))
			failsAs(t, err, c.want)
			if after := s.View().Revision(); after != before {
				t.Fatalf("the refused request made revision %d of %d", after, before)
			}
		})
	}
}

// TestHugeTxn sends a transaction that is small on the wire and would be large in memory.
func TestHugeTxn(t *testing.T) {
	s := start(t)
	var out []byte
	for name, msg := range map[string][]byte{
		"compares":                        bytes.Repeat([]byte{0x0a, 0x00}, 700_000),
		"operations":                      bytes.Repeat([]byte{0x12, 0x00}, 700_000),
		"more than a list may, no wonder": bytes.Repeat([]byte{0x1a, 0x00}, 129),
	} {
		err := s.conn.Invoke(t.Context(), "/etcdserverpb.KV/Txn", msg, &out, forceCodec(rawCodec{}))
		if s, _ := status.FromError(err); s.Message() != fault.TooManyOps.Text {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAllowedOverlaps are transactions that look like duplicates and are none.
func TestAllowedOverlaps(t *testing.T) {
	s := start(t)
	for name, ops := range map[string][]*pb.RequestOp{
		"both branches of a nested one":    {opTxn([]*pb.RequestOp{opPut("a")}, []*pb.RequestOp{opPut("a")})},
		"two deletes":                      {opDelete("a", "c"), opDelete("b", "d")},
		"a get beside a put":               {opGet("a"), opPut("a"), opGet("a")},
		"a put beside another key's range": {opPut("c"), opDelete("a", "c")},
		"128 puts":                         many(128, func(i int) *pb.RequestOp { return opPut(fmt.Sprint(i)) }),
		"nothing":                          nil,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := s.kv.Txn(t.Context(), &pb.TxnRequest{Success: ops}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestPutAndRange(t *testing.T) {
	s := start(t)
	resp, err := s.kv.Put(t.Context(), &pb.PutRequest{Key: []byte("a"), Value: []byte("1"), PrevKv: true})
	if err != nil || header(t, resp.Header) != 2 || resp.PrevKv != nil {
		t.Fatalf("first put: %v %v", resp, err)
	}
	resp, err = s.kv.Put(t.Context(), &pb.PutRequest{Key: []byte("a"), Value: []byte("2"), PrevKv: true})
	if err != nil || header(t, resp.Header) != 3 || string(resp.PrevKv.GetValue()) != "1" {
		t.Fatalf("second put: %v %v", resp, err)
	}
	for range 2 {
		if resp, err = s.kv.Put(t.Context(), &pb.PutRequest{Key: []byte("b")}); err != nil || resp.PrevKv != nil {
			t.Fatalf("put without prev_kv: %v %v", resp, err)
		}
	}
	got, err := s.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte{0}, Revision: 2})
	if err != nil || header(t, got.Header) != 5 || got.Count != 1 || string(got.Kvs[0].Value) != "1" {
		t.Fatalf("range at 2: %v %v", got, err)
	}
	if s.barriers.Load() != 1 {
		t.Fatalf("%d barriers for one linearizable range", s.barriers.Load())
	}
	if _, err = s.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("a"), Serializable: true}); err != nil || s.barriers.Load() != 1 {
		t.Fatalf("serializable range: %v, %d barriers", err, s.barriers.Load())
	}
	del, err := s.kv.DeleteRange(t.Context(), &pb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte{0}, PrevKv: true})
	if err != nil || header(t, del.Header) != 6 || del.Deleted != 2 || len(del.PrevKvs) != 2 {
		t.Fatalf("delete: %v %v", del, err)
	}
	del, err = s.kv.DeleteRange(t.Context(), &pb.DeleteRangeRequest{Key: []byte("a")})
	if err != nil || del.Header.Revision != 6 || del.Deleted != 0 {
		t.Fatalf("delete of nothing: %v %v", del, err)
	}
	s.put(t, "a", "3")
	del, err = s.kv.DeleteRange(t.Context(), &pb.DeleteRangeRequest{Key: []byte("a")})
	if err != nil || del.Deleted != 1 || len(del.PrevKvs) != 0 {
		t.Fatalf("delete without prev_kv: %v %v", del, err)
	}
}

// TestBarrierLater answers ranges whose barrier completes after the handler returned, when the request's bytes are gone.
func TestBarrierLater(t *testing.T) {
	st := newStore(t)
	st.hold = make(chan struct{})
	s := serve(t, st, settings())
	const calls = 50
	for i := range calls {
		s.put(t, fmt.Sprintf("key%02d", i), fmt.Sprint(i))
	}
	got := make(chan error, 2*calls)
	for i := range calls {
		key := fmt.Sprintf("key%02d", i)
		go func() {
			resp, err := s.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte(key)})
			if err == nil && (len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != fmt.Sprint(i)) {
				err = fmt.Errorf("%s: %v", key, resp)
			}
			got <- err
		}()
		go func() {
			resp, err := s.kv.Txn(t.Context(), &pb.TxnRequest{Success: []*pb.RequestOp{opGet(key)}})
			if err == nil && string(resp.Responses[0].GetResponseRange().Kvs[0].Value) != fmt.Sprint(i) {
				err = fmt.Errorf("%s: %v", key, resp)
			}
			got <- err
		}()
	}
	eventually(t, func() bool { return s.barriers.Load() == 2*calls }, "all calls arrive")
	close(st.hold)
	for range 2 * calls {
		if err := <-got; err != nil {
			t.Fatal(err)
		}
	}
}

func TestTxn(t *testing.T) {
	s := start(t)
	s.put(t, "a", "1")
	proposed := s.proposals.Load()
	resp, err := s.kv.Txn(t.Context(), &pb.TxnRequest{
		Compare: []*pb.Compare{{Key: []byte("a"), Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: []byte("1")}}},
		Success: []*pb.RequestOp{opGet("a")},
	})
	if err != nil || !resp.Succeeded || header(t, resp.Header) != 2 || s.proposals.Load() != proposed || s.barriers.Load() != 1 {
		t.Fatalf("read-only: %v %v, %d proposals, %d barriers", resp, err, s.proposals.Load()-proposed, s.barriers.Load())
	}
	inner := resp.Responses[0].GetResponseRange()
	if inner.Header.Revision != 2 || inner.Header.ClusterId != 0 || inner.Header.MemberId != 0 || inner.Count != 1 {
		t.Fatalf("inner response %v", inner)
	}
	serial := opGet("a")
	serial.GetRequestRange().Serializable = true
	if _, err = s.kv.Txn(t.Context(), &pb.TxnRequest{Success: []*pb.RequestOp{serial}}); err != nil || s.barriers.Load() != 1 {
		t.Fatalf("serializable read-only: %v, %d barriers", err, s.barriers.Load())
	}
	if _, err = s.kv.Txn(t.Context(), &pb.TxnRequest{Success: []*pb.RequestOp{opTxn([]*pb.RequestOp{opGet("a")}, nil)}}); err != nil || s.proposals.Load() != proposed+1 {
		t.Fatalf("a nested read-only transaction goes through the log: %v, %d proposals", err, s.proposals.Load()-proposed)
	}
	resp, err = s.kv.Txn(t.Context(), &pb.TxnRequest{Success: []*pb.RequestOp{opGet("a"), opPut("b"), opGet("b")}})
	if err != nil || header(t, resp.Header) != 3 {
		t.Fatalf("write: %v %v", resp, err)
	}
	for i, want := range []int64{2, 3, 3} {
		r := resp.Responses[i]
		h := r.GetResponseRange().GetHeader()
		if i == 1 {
			h = r.GetResponsePut().GetHeader()
		}
		if h.Revision != want || h.ClusterId != 0 {
			t.Fatalf("op %d has header %v, want revision %d only", i, h, want)
		}
	}
}

func TestCompactPhysical(t *testing.T) {
	s := start(t)
	for i := range 30 {
		s.put(t, "k", fmt.Sprint(i))
	}
	resp, err := s.kv.Compact(t.Context(), &pb.CompactionRequest{Revision: 20, Physical: true})
	if err != nil || header(t, resp.Header) != 31 {
		t.Fatalf("%v %v", resp, err)
	}
	_, err = s.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("k"), Revision: 19})
	failsAs(t, err, fault.Compacted)
	got, err := s.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("k"), Revision: 20})
	if err != nil || string(got.Kvs[0].Value) != "18" {
		t.Fatalf("%v %v", got, err)
	}
}

const (
	largeKeys  = 1500
	largeValue = 2000 // bytes
)

// fillLarge writes more than one message's worth.
func fillLarge(t *testing.T, s *server) {
	for i := 0; i < largeKeys; i += 100 {
		ops := many(100, func(j int) *pb.RequestOp {
			op := opPut(fmt.Sprintf("k%05d", i+j))
			op.GetRequestPut().Value = []byte(strings.Repeat("v", largeValue))
			return op
		})
		if _, err := s.kv.Txn(t.Context(), &pb.TxnRequest{Success: ops}); err != nil {
			t.Fatal(err)
		}
	}
}

// checkLarge reads it in one response, by every way that leads through the workers.
func checkLarge(t *testing.T, s *server) {
	for name, req := range map[string]*pb.RangeRequest{
		"all":        {Key: []byte("k"), RangeEnd: []byte("l")},
		"descending": {Key: []byte("k"), RangeEnd: []byte("l"), SortOrder: pb.RangeRequest_DESCEND},
		"limited":    {Key: []byte("k"), RangeEnd: []byte("l"), Limit: 1200},
		"short":      {Key: []byte("k"), RangeEnd: []byte("k00450"), Revision: 2 + largeKeys/100 - 1},
		"keys only":  {Key: []byte("k"), RangeEnd: []byte("l"), KeysOnly: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := s.kv.Range(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			count := largeKeys
			if name == "short" {
				count = 450
			}
			want := count
			if req.Limit > 0 {
				want = int(req.Limit)
			}
			if header(t, got.Header) != 1+largeKeys/100 || got.Count != int64(count) || got.More != (want < count) || len(got.Kvs) != want {
				t.Fatalf("%d of %d keys, more %v", len(got.Kvs), got.Count, got.More)
			}
			value := strings.Repeat("v", largeValue)
			if req.KeysOnly {
				value = ""
			}
			for i, kv := range got.Kvs {
				n := i
				if req.SortOrder == pb.RangeRequest_DESCEND {
					n = largeKeys - 1 - i
				}
				if string(kv.Key) != fmt.Sprintf("k%05d", n) || string(kv.Value) != value {
					t.Fatalf("key %d is %q", i, kv.Key)
				}
			}
		})
	}
}

// TestLargeRange reads more than one message's worth in one response: through the workers and in pieces.
func TestLargeRange(t *testing.T) {
	s := start(t)
	fillLarge(t, s)
	checkLarge(t, s)
}

// TestLargeRangeFromDisk is the same after a restart, when no value is in memory: pages are read as the client takes them.
func TestLargeRangeFromDisk(t *testing.T) {
	fs := vfs.NewMem()
	t.Run("before", func(t *testing.T) { fillLarge(t, serve(t, openStore(t, fs), settings())) })
	checkLarge(t, serve(t, openStore(t, fs), settings()))
}

// stream reads a RangeStream to its end and merges it, as clients do.
func stream(t *testing.T, s *server, req *pb.RangeRequest) (*pb.RangeResponse, []int, error) {
	t.Helper()
	st, err := s.kv.RangeStream(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	out := new(pb.RangeResponse)
	var chunks []int
	for {
		m, err := st.Recv()
		if errors.Is(err, io.EOF) {
			return out, chunks, nil
		}
		if err != nil {
			return out, chunks, err
		}
		if out.Header != nil {
			t.Fatal("a message after the one with the header")
		}
		chunks = append(chunks, len(m.RangeResponse.Kvs))
		proto.Merge(out, m.RangeResponse)
	}
}

func TestRangeStream(t *testing.T) {
	s := start(t)
	const keys = 400
	ops := 0
	for i := 0; i < keys; i += 100 {
		_, err := s.kv.Txn(t.Context(), &pb.TxnRequest{Success: many(100, func(j int) *pb.RequestOp { return opPut(fmt.Sprintf("k%05d", i+j)) })})
		if err != nil {
			t.Fatal(err)
		}
		ops++
	}
	rev := int64(1 + ops)
	for _, req := range []*pb.RangeRequest{
		{Key: []byte("k"), RangeEnd: []byte("l")},
		{Key: []byte("k"), RangeEnd: []byte("l"), Limit: 7},
		{Key: []byte("k"), RangeEnd: []byte("l"), Limit: 123, Serializable: true},
		{Key: []byte("k"), RangeEnd: []byte("l"), KeysOnly: true},
		{Key: []byte("k"), RangeEnd: []byte("l"), CountOnly: true},
		{Key: []byte("k"), RangeEnd: []byte("l"), Revision: 3, Limit: 150},
		{Key: []byte("k00007")},
		{Key: []byte("nothing")},
		{Key: []byte("k"), RangeEnd: []byte("a")},
	} {
		want, err := s.kv.Range(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		got, chunks, err := stream(t, s, req)
		if err != nil || header(t, got.Header) != rev || !proto.Equal(got, want) {
			t.Errorf("%v: stream gives %d keys of %d, more %v, in chunks %v, error %v; range %d of %d, more %v",
				req, len(got.Kvs), got.Count, got.More, chunks, err, len(want.Kvs), want.Count, want.More)
		}
		if len(chunks) > 0 && chunks[0] > 10 {
			t.Errorf("first chunk has %d keys", chunks[0])
		}
	}
	_, chunks, _ := stream(t, s, &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")})
	if fmt.Sprint(chunks) != "[10 20 40 80 160 90]" {
		t.Errorf("chunks %v", chunks)
	}
	for _, c := range []struct {
		req  *pb.RangeRequest
		want *fault.Error
	}{
		{&pb.RangeRequest{}, fault.EmptyKey},
		{&pb.RangeRequest{Key: []byte("k"), SortOrder: 9}, fault.InvalidSortOption},
		{&pb.RangeRequest{Key: []byte("k"), SortOrder: pb.RangeRequest_DESCEND}, fault.StreamSort},
		{&pb.RangeRequest{Key: []byte("k"), MaxModRevision: 1}, fault.StreamFilters},
		{&pb.RangeRequest{Key: []byte("k"), Revision: 1000}, fault.FutureRev},
	} {
		_, _, err := stream(t, s, c.req)
		failsAs(t, err, c.want)
	}
}

func TestMetadata(t *testing.T) {
	s := start(t)
	get := &pb.RangeRequest{Key: []byte("k")}
	version := metadata.AppendToOutgoingContext(t.Context(), "client-api-version", "3.7")
	if _, err := s.kv.Range(version, get); err != nil {
		t.Fatal(err)
	}
	leader := metadata.AppendToOutgoingContext(t.Context(), "hasleader", "true")
	if _, err := s.kv.Range(leader, get); err != nil {
		t.Fatal(err)
	}
	s.leader.Store(0)
	_, err := s.kv.Range(leader, get)
	failsAs(t, err, fault.NoLeader)
	if _, err := s.kv.Range(t.Context(), get); err != nil {
		t.Fatalf("without the metadata nothing is checked: %v", err)
	}
	w, err := pb.NewWatchClient(s.conn).Watch(leader)
	if err == nil {
		_, err = w.Recv()
	}
	failsAs(t, err, fault.NoLeader)
}

// TestLeaderLost ends a stream that requires a leader when there is none for too long, and no other.
func TestLeaderLost(t *testing.T) {
	s := start(t)
	client := pb.NewWatchClient(s.conn)
	needs, err := client.Watch(metadata.AppendToOutgoingContext(t.Context(), "hasleader", "true"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := client.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	create := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("k")}}}
	for _, st := range []pb.Watch_WatchClient{needs, other} {
		if err := st.Send(create); err != nil {
			t.Fatal(err)
		}
		if resp, err := st.Recv(); err != nil || !resp.Created {
			t.Fatalf("%v %v", resp, err)
		}
	}
	s.leader.Store(0)
	_, err = needs.Recv()
	failsAs(t, err, fault.NoLeader)
	s.put(t, "k", "v")
	if resp, err := other.Recv(); err != nil || len(resp.Events) != 1 {
		t.Fatalf("the stream that asked for nothing: %v %v", resp, err)
	}
}

// TestRefusedByNode passes on what the node says, whatever it is.
func TestRefusedByNode(t *testing.T) {
	s := start(t)
	for _, c := range []struct {
		err  error
		code codes.Code
		text string
	}{
		{fault.TooManyRequests, codes.Unknown, "etcdserver: too many requests"},
		{fault.Stopped, codes.Unavailable, "etcdserver: server stopped"},
		{fmt.Errorf("node: %w", fault.Timeout), codes.Unavailable, "etcdserver: request timed out"},
		{errors.New("disk on fire"), codes.Unknown, "disk on fire"},
	} {
		s.refusal.Store(&c.err)
		_, err := s.kv.Put(t.Context(), &pb.PutRequest{Key: []byte("k")})
		fails(t, err, c.code, c.text)
		_, err = s.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("k")})
		fails(t, err, c.code, c.text)
		_, _, err = stream(t, s, &pb.RangeRequest{Key: []byte("k")})
		fails(t, err, c.code, c.text)
	}
}

// TestMalformed sends bytes that are no message.
func TestMalformed(t *testing.T) {
	s := start(t)
	raw := rawCodec{}
	for _, method := range []string{"Range", "Put", "DeleteRange", "Txn", "Compact"} {
		var out []byte
		err := s.conn.Invoke(t.Context(), "/etcdserverpb.KV/"+method, []byte{0x0a, 0x7f}, &out, forceCodec(raw))
		if err == nil || !strings.Contains(err.Error(), "code = Internal desc = grpc: error unmarshalling request: wire: ") {
			t.Errorf("%s: %v", method, err)
		}
	}
}

// TestQuotaCost asks for just too much in an empty store, in every way there is.
func TestQuotaCost(t *testing.T) {
	big := opPut("k")
	big.GetRequestPut().Value = make([]byte, 1000-256-2)
	half := func(key string) *pb.RequestOp {
		op := opPut(key)
		op.GetRequestPut().Value = make([]byte, 500-256-1)
		return op
	}
	for name, c := range map[string]struct {
		txn *pb.TxnRequest
		fit bool
	}{
		"then":             {&pb.TxnRequest{Success: []*pb.RequestOp{half("a"), half("b")}}, false},
		"else":             {&pb.TxnRequest{Failure: []*pb.RequestOp{half("a"), half("b")}}, false},
		"nested":           {&pb.TxnRequest{Success: []*pb.RequestOp{half("a"), opTxn(nil, []*pb.RequestOp{half("b")})}}, false},
		"either branch":    {&pb.TxnRequest{Success: []*pb.RequestOp{half("a")}, Failure: []*pb.RequestOp{half("b")}}, true},
		"just below":       {&pb.TxnRequest{Success: []*pb.RequestOp{big}}, true},
		"gets and deletes": {&pb.TxnRequest{Success: []*pb.RequestOp{opGet("a"), opDelete("b", "c")}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			set := settings()
			set.QuotaBytes = 1000
			s := serve(t, newStore(t), set)
			_, err := s.kv.Txn(t.Context(), c.txn)
			if c.fit {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			failsAs(t, err, fault.NoSpace)
			if s.alarms.Load() != 1 || len(s.View().Alarms) != 1 || s.View().Revision() != 1 {
				t.Fatalf("%d alarm requests, alarms %v, revision %d", s.alarms.Load(), s.View().Alarms, s.View().Revision())
			}
		})
	}
}

// TestQuota fills the store, and empties it.
func TestQuota(t *testing.T) {
	set := settings()
	set.QuotaBytes = 20_000
	s := serve(t, newStore(t), set)
	var err error
	value := bytes.Repeat([]byte("v"), 1000)
	for i := 0; err == nil; i++ {
		if i > 100 {
			t.Fatal("the quota does not count")
		}
		_, err = s.kv.Put(t.Context(), &pb.PutRequest{Key: fmt.Appendf(nil, "k%02d", i), Value: value})
	}
	failsAs(t, err, fault.NoSpace)
	if got := s.View().RetainedBytes(); got >= 20_000 {
		t.Fatalf("%d bytes retained", got)
	}
	if s.alarms.Load() != 1 {
		t.Fatalf("%d alarm requests", s.alarms.Load())
	}
	_, err = s.kv.Put(t.Context(), &pb.PutRequest{Value: value})
	failsAs(t, err, fault.NoSpace) // before the missing key
	_, err = s.kv.Txn(t.Context(), &pb.TxnRequest{Failure: []*pb.RequestOp{opTxn([]*pb.RequestOp{opPut(strings.Repeat("k", 2000))}, nil)}})
	failsAs(t, err, fault.NoSpace)
	_, err = pb.NewLeaseClient(s.conn).LeaseGrant(t.Context(), &pb.LeaseGrantRequest{TTL: 10})
	failsAs(t, err, fault.NoSpace)
	if s.alarms.Load() != 1 {
		t.Fatalf("%d alarm requests: it is up already", s.alarms.Load())
	}
	if _, err = s.kv.Txn(t.Context(), &pb.TxnRequest{Success: []*pb.RequestOp{opDelete("k00", "")}}); err != nil {
		t.Fatalf("a transaction without puts: %v", err)
	}
	del, err := s.kv.DeleteRange(t.Context(), &pb.DeleteRangeRequest{Key: []byte("k"), RangeEnd: []byte("l")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = s.kv.Compact(t.Context(), &pb.CompactionRequest{Revision: del.Header.Revision, Physical: true}); err != nil {
		t.Fatal(err)
	}
	_, err = s.kv.Put(t.Context(), &pb.PutRequest{Key: []byte("k")})
	failsAs(t, err, fault.NoSpace) // the alarm is still up
	alarm := &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: uint64(memberID), Alarm: pb.AlarmType_NOSPACE}
	if _, err = pb.NewMaintenanceClient(s.conn).Alarm(t.Context(), alarm); err != nil {
		t.Fatal(err)
	}
	s.put(t, "k", "v")
}
