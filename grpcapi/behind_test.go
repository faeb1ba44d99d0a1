package grpcapi_test

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"quorate.dev/quorate/fault"
)

// TestMemberIsBehind: a serializable read of a revision that another member has shown waits until this one is there; without a
// leader, or when nobody has got there, the revision is in the future.
func TestMemberIsBehind(t *testing.T) {
	st := newStore(t)
	s := serve(t, st, settings())
	s.put(t, "k", "old")
	seen := int64(st.View().Revision()) + 1
	ask := func(revision int64) map[string]func() (string, error) {
		req := &pb.RangeRequest{Key: []byte("k"), Serializable: true, Revision: revision}
		return map[string]func() (string, error){
			"Range": func() (string, error) {
				resp, err := s.kv.Range(t.Context(), req)
				return values(resp.GetKvs()), err
			},
			"Txn": func() (string, error) {
				op := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: req}}
				resp, err := s.kv.Txn(t.Context(), &pb.TxnRequest{Success: []*pb.RequestOp{op}})
				if err != nil {
					return "", err
				}
				return values(resp.Responses[0].GetResponseRange().Kvs), nil
			},
			"RangeStream": func() (string, error) {
				stream, err := s.kv.RangeStream(t.Context(), req)
				if err != nil {
					return "", err
				}
				resp, err := stream.Recv()
				return values(resp.GetRangeResponse().GetKvs()), err
			},
		}
	}
	before := st.barriers.Load()
	for name, call := range ask(seen - 1) {
		if got, err := call(); err != nil || got != "old" {
			t.Errorf("%s of what is there: %q, %v", name, got, err)
		}
	}
	if n := st.barriers.Load() - before; n != 0 {
		t.Errorf("what is there took %d barriers", n)
	}
	var none error = fault.NoLeader
	st.refusal.Store(&none)
	for name, call := range ask(seen) {
		_, err := call()
		t.Log(name)
		failsAs(t, err, fault.FutureRev)
	}
	st.refusal.Store(nil)
	st.hold = make(chan struct{})
	type answer struct {
		name, value string
		err         error
	}
	calls := ask(seen)
	answers := make(chan answer, len(calls))
	before = st.barriers.Load()
	for name, call := range calls {
		go func() {
			got, err := call()
			answers <- answer{name, got, err}
		}()
	}
	eventually(t, func() bool { return st.barriers.Load() == before+int64(len(calls)) }, "all wait")
	s.put(t, "k", "new")
	close(st.hold)
	for range calls {
		if a := <-answers; a.err != nil || a.value != "new" {
			t.Errorf("%s behind the barrier: %q, %v", a.name, a.value, a.err)
		}
	}
	for name, call := range ask(seen + 1) {
		_, err := call()
		t.Log(name)
		failsAs(t, err, fault.FutureRev)
	}
}

// values are those of an answer, one after the other.
func values(kvs []*mvccpb.KeyValue) (out string) {
	for _, kv := range kvs {
		out += string(kv.Value)
	}
	return out
}
