package grpcapi

import (
	"testing"

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"quorate.dev/quorate/audit"
	"quorate.dev/quorate/auth"
)

func TestKeyOf(t *testing.T) {
	compare := &pb.TxnRequest{Compare: []*pb.Compare{{Key: []byte("c")}}, Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("p")}}}}}
	bare := &pb.TxnRequest{Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("r"), RangeEnd: []byte("s")}}}}}
	for _, c := range []struct {
		method auth.Method
		msg    proto.Message
		key    string
		single bool
	}{
		{auth.MethodRange, &pb.RangeRequest{Key: []byte("k")}, "k", true},
		{auth.MethodRange, &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}, "k", false},
		{auth.MethodPut, &pb.PutRequest{Key: []byte("k"), Value: []byte("v")}, "k", true},
		{auth.MethodTxn, compare, "c", true},
		{auth.MethodTxn, bare, "r", false},
		{auth.MethodLeaseGrant, &pb.LeaseGrantRequest{TTL: 5}, "", false},
	} {
		msg, err := proto.Marshal(c.msg)
		if err != nil {
			t.Fatal(err)
		}
		if key, single := keyOf(c.method, msg); string(key) != c.key || single != c.single {
			t.Errorf("%v: %q, %v; want %q, %v", c.msg, key, single, c.key, c.single)
		}
		keyOf(c.method, msg[:len(msg)/2]) // must not panic
	}
}

// TestEndedTwice: an end that is told again changes nothing.
func TestEndedTwice(t *testing.T) {
	w := &witness{log: new(audit.Log)}
	w.Ended(nil, 0)
}
