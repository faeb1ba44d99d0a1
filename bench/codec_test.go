package main

import (
	"bytes"
	"compress/flate"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

func encode(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRequests holds the hand-made requests to the generated encoder.
func TestRequests(t *testing.T) {
	key, end, value := []byte("a/key"), []byte("a/kez"), bytes.Repeat([]byte("v"), 300)
	var scratch []byte
	q := query{key: key, end: end, limit: 500, rev: 77, serializable: true}
	one := query{key: key}
	for name, c := range map[string]struct {
		got  []byte
		want proto.Message
	}{
		"put":       {appendPut(nil, key, value), &pb.PutRequest{Key: key, Value: value}},
		"range":     {q.append(nil), &pb.RangeRequest{Key: key, RangeEnd: end, Limit: 500, Revision: 77, Serializable: true}},
		"get":       {one.append(nil), &pb.RangeRequest{Key: key}},
		"compact":   {compactRequest(300), &pb.CompactionRequest{Revision: 300, Physical: true}},
		"watch":     {appendWatch(nil, key, end), &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: key, RangeEnd: end}}}},
		"update":    {appendUpdate(nil, &scratch, key, value, 41), update(key, value, 41)},
		"update, 0": {appendUpdate(nil, &scratch, key, value, 0), update(key, value, 0)},
	} {
		if want := encode(t, c.want); !bytes.Equal(c.got, want) {
			t.Errorf("%s: got %x, want %x", name, c.got, want)
		}
	}
}

func update(key, value []byte, rev int64) *pb.TxnRequest {
	return &pb.TxnRequest{
		Compare: []*pb.Compare{{Target: pb.Compare_MOD, Key: key, TargetUnion: &pb.Compare_ModRevision{ModRevision: rev}}},
		Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Value: value}}}},
		Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: key}}}},
	}
}

func kvs(keys ...string) []*mvccpb.KeyValue {
	var out []*mvccpb.KeyValue
	for i, k := range keys {
		out = append(out, &mvccpb.KeyValue{Key: []byte(k), Value: make([]byte, 1000), ModRevision: int64(i) + 5})
	}
	return out
}

func TestPage(t *testing.T) {
	b := encode(t, &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: 9}, Kvs: kvs("a", "b"), More: true, Count: 40})
	p, err := decodePage(b)
	if err != nil || p.kvs != 2 || string(p.last) != "b" || !p.more || p.rev != 9 {
		t.Errorf("got %+v, %v", p, err)
	}
	if p, err = decodePage(encode(t, &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: 9}})); err != nil || p.kvs != 0 || p.last != nil || p.more {
		t.Errorf("an empty page: got %+v, %v", p, err)
	}
	if _, err = decodePage(b[:len(b)-1]); err == nil {
		t.Error("a cut page was accepted")
	}
}

func TestUpdated(t *testing.T) {
	put := &pb.TxnResponse{Header: &pb.ResponseHeader{Revision: 12}, Succeeded: true,
		Responses: []*pb.ResponseOp{{Response: &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{Header: &pb.ResponseHeader{}}}}}}
	if rev, done, err := updated(encode(t, put)); rev != 12 || !done || err != nil {
		t.Errorf("a put: got %d, %v, %v", rev, done, err)
	}
	got := &pb.TxnResponse{Header: &pb.ResponseHeader{Revision: 12},
		Responses: []*pb.ResponseOp{{Response: &pb.ResponseOp_ResponseRange{ResponseRange: &pb.RangeResponse{Kvs: kvs("a")}}}}}
	if rev, done, err := updated(encode(t, got)); rev != 5 || done || err != nil {
		t.Errorf("a get: got %d, %v, %v", rev, done, err)
	}
	got.Responses[0].Response = &pb.ResponseOp_ResponseRange{ResponseRange: &pb.RangeResponse{}}
	if _, _, err := updated(encode(t, got)); err == nil {
		t.Error("a key that is gone gave no error")
	}
}

// TestCounterOverPieces counts keys however the transport cut the answer.
func TestCounterOverPieces(t *testing.T) {
	list := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: 9}, Kvs: kvs("a", "b", "c"), Count: 3}
	for name, c := range map[string]struct {
		b []byte
		n counter
	}{
		"range":  {encode(t, list), counter{field: 2}},
		"stream": {encode(t, &pb.RangeStreamResponse{RangeResponse: list}), counter{field: 2, in: 1}},
	} {
		for size := 1; size < 1100; size += 97 {
			n := c.n
			if err := n.decode(pieces(c.b, size)); err != nil || n.n != 3 {
				t.Errorf("%s in pieces of %d: %d keys, %v", name, size, n.n, err)
			}
		}
		n := c.n
		if err := n.decode(pieces(c.b[:len(c.b)-500], 100)); err == nil {
			t.Errorf("%s: a cut answer was accepted", name)
		}
	}
}

func pieces(b []byte, size int) mem.BufferSlice {
	var out mem.BufferSlice
	for len(b) > 0 {
		n := min(size, len(b))
		out = append(out, mem.SliceBuffer(b[:n:n]))
		b = b[n:]
	}
	return out
}

func TestNotice(t *testing.T) {
	var events []*mvccpb.Event
	for _, kv := range kvs("a", "b") {
		events = append(events, &mvccpb.Event{Kv: kv})
	}
	values := 0
	n := notice{sent: func(v []byte) { values += len(v) }}
	if err := n.decode(pieces(encode(t, &pb.WatchResponse{Header: &pb.ResponseHeader{}, Events: events}), 64)); err != nil {
		t.Fatal(err)
	}
	if n.events != 2 || values != 2000 || n.created || n.canceled {
		t.Errorf("got %d events with %d bytes, created %v, canceled %v", n.events, values, n.created, n.canceled)
	}
	if err := n.decode(pieces(encode(t, &pb.WatchResponse{Created: true, Canceled: true}), 64)); err != nil || n.events != 0 || !n.created || !n.canceled {
		t.Errorf("a control message: %+v, %v", n, err)
	}
}

func TestHalfRandom(t *testing.T) {
	a, b := halfRandom(make([]byte, 1024), 1), halfRandom(make([]byte, 1024), 2)
	if bytes.Equal(a[:512], b[:512]) {
		t.Error("different seeds give the same bytes")
	}
	if !bytes.Equal(a[512:], b[512:]) {
		t.Error("the text half differs")
	}
	if !bytes.Equal(a, halfRandom(make([]byte, 1024), 1)) {
		t.Error("the same seed gives different bytes")
	}
	var all []byte
	for i := range 1000 {
		all = append(all, halfRandom(make([]byte, 1024), uint64(i))...)
	}
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(all); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if share := float64(packed.Len()) / float64(len(all)); share < 0.5 || share > 0.53 {
		t.Errorf("a thousand values are compressed to %.2f, want a half", share)
	}
}
