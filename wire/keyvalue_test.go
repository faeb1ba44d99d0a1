package wire_test

import (
	"bytes"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"quorate.dev/quorate/wire"
)

// TestFieldsOfRecord reads single fields of random canonical records and compares them with a full decode.
func TestFieldsOfRecord(t *testing.T) {
	r := seeded(t)
	for range 2000 {
		var want mvccpb.KeyValue
		fill(r, want.ProtoReflect(), 1)
		kv := canonical(t, &want)
		if !bytes.Equal(wire.KeyOf(kv), want.Key) || !bytes.Equal(wire.ValueOf(kv), want.Value) ||
			wire.CreateRevisionOf(kv) != want.CreateRevision || wire.ModRevisionOf(kv) != want.ModRevision ||
			wire.VersionOf(kv) != want.Version || wire.LeaseOf(kv) != want.Lease {
			t.Fatalf("fields of %x differ from %v", kv, &want)
		}
		want.Value, want.Lease = nil, 0
		stripped := wire.StripValue([]byte("x"), kv)
		if string(stripped) != "x"+string(canonical(t, &want)) || wire.StrippedSize(kv) != len(stripped)-1 {
			t.Fatalf("%x stripped is %x", kv, stripped[1:])
		}
	}
}

// FuzzFieldsOfRecord checks that the helpers never read outside a record, whatever it holds.
func FuzzFieldsOfRecord(f *testing.F) {
	f.Add([]byte{0x0a, 0x01, 'k', 0x10, 0x02, 0x2a, 0x01, 'v'})
	f.Fuzz(func(t *testing.T, kv []byte) {
		var m wire.KeyValue
		wellFormed := m.Unmarshal(kv) == nil
		canonical := wellFormed && bytes.Equal(m.Append(nil), kv)
		key, mod := wire.KeyOf(kv), wire.ModRevisionOf(kv)
		stripped := wire.StripValue(nil, kv)
		if !bytes.HasPrefix(kv, stripped) {
			t.Fatalf("%x stripped is %x", kv, stripped)
		}
		if canonical && (!bytes.Equal(key, m.Key) || mod != m.ModRevision) {
			t.Fatalf("%x: key %q mod %d", kv, key, mod)
		}
	})
}

// TestEventField checks that a response written in two parts is the same message.
func TestEventField(t *testing.T) {
	r := seeded(t)
	for range 300 {
		var judge etcdserverpb.WatchResponse
		fill(r, judge.ProtoReflect(), 4)
		normalize(&judge)
		want := canonical(t, &judge)
		var whole wire.WatchResponse
		if err := whole.Unmarshal(want); err != nil {
			t.Fatal(err)
		}
		head := whole
		head.Events = nil
		out := head.Append(nil)
		for _, raw := range whole.Events {
			var ev wire.Event
			if err := ev.Unmarshal(raw); err != nil {
				t.Fatal(err)
			}
			before := len(out)
			out = wire.AppendEventField(out, &ev)
			if len(out)-before != wire.EventFieldSize(&ev) {
				t.Fatalf("event field of %d bytes, size said %d", len(out)-before, wire.EventFieldSize(&ev))
			}
		}
		if !bytes.Equal(out, want) {
			t.Fatalf("in parts %x, whole %x", out, want)
		}
	}
}

// TestAliasing checks that a caller who appends to a decoded field does not write into its neighbour.
func TestAliasing(t *testing.T) {
	data := canonical(t, &etcdserverpb.PutRequest{Key: []byte("key"), Value: []byte("value")})
	var m wire.PutRequest
	if err := m.Unmarshal(data); err != nil {
		t.Fatal(err)
	}
	_ = append(m.Key, "XXXX"...)
	if string(m.Value) != "value" {
		t.Fatalf("value became %q", m.Value)
	}
	if &m.Key[0] != &data[2] {
		t.Fatal("the key was copied")
	}
}

// TestAllocations holds the hot paths to their budget.
func TestAllocations(t *testing.T) {
	put := canonical(t, &etcdserverpb.PutRequest{Key: []byte("key"), Value: bytes.Repeat([]byte("v"), 256), Lease: 77})
	get := canonical(t, &etcdserverpb.RangeRequest{Key: []byte("key"), Limit: 500, Serializable: true})
	kv := wire.KeyValue{Key: []byte("key"), Value: make([]byte, 256), CreateRevision: 9, ModRevision: 300, Version: 4, Lease: 1 << 60}
	record := wire.AppendKeyValue(nil, &kv)
	response := wire.RangeResponse{Header: wire.Header{ClusterID: 1 << 63, MemberID: 1 << 62, Revision: 300, RaftTerm: 2}, KVs: [][]byte{record}, Count: 1}
	txn := canonical(t, &etcdserverpb.TxnRequest{
		Compare: []*etcdserverpb.Compare{{Key: []byte("k"), Target: etcdserverpb.Compare_MOD, TargetUnion: &etcdserverpb.Compare_ModRevision{ModRevision: 5}}},
		Success: []*etcdserverpb.RequestOp{{Request: &etcdserverpb.RequestOp_RequestPut{RequestPut: &etcdserverpb.PutRequest{Key: []byte("k")}}}},
		Failure: []*etcdserverpb.RequestOp{{Request: &etcdserverpb.RequestOp_RequestRange{RequestRange: &etcdserverpb.RangeRequest{Key: []byte("k")}}}},
	})
	buf := make([]byte, 0, 4096)
	var p wire.PutRequest
	var g wire.RangeRequest
	var x wire.TxnRequest
	for _, c := range []struct {
		name   string
		budget float64
		run    func()
	}{
		{"Put decode", 0, func() { must(t, p.Unmarshal(put)) }},
		{"Range decode", 0, func() { must(t, g.Unmarshal(get)) }},
		{"Txn decode into used memory", 2, func() { must(t, x.Unmarshal(txn)) }},
		{"KeyValue append", 0, func() { buf = wire.AppendKeyValue(buf[:0], &kv) }},
		{"KeyValue field", 0, func() { _ = wire.ModRevisionOf(record) }},
		{"RangeResponse append", 0, func() { buf = response.Append(buf[:0]) }},
	} {
		if got := testing.AllocsPerRun(100, c.run); got > c.budget {
			t.Errorf("%s: %v allocations, budget %v", c.name, got, c.budget)
		}
	}
}

func must(t *testing.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

func BenchmarkPutDecode(b *testing.B) {
	put := canonical(b, &etcdserverpb.PutRequest{Key: []byte("/registry/pods/default/x"), Value: bytes.Repeat([]byte("v"), 256)})
	var p wire.PutRequest
	for b.Loop() {
		_ = p.Unmarshal(put)
	}
}

func BenchmarkRangeResponseAppend(b *testing.B) {
	kv := wire.KeyValue{Key: []byte("/registry/pods/default/x"), Value: make([]byte, 256), CreateRevision: 9, ModRevision: 300, Version: 4}
	m := wire.RangeResponse{Header: wire.Header{ClusterID: 1 << 63, MemberID: 1 << 62, Revision: 300, RaftTerm: 2}, KVs: [][]byte{wire.AppendKeyValue(nil, &kv)}, Count: 1}
	buf := make([]byte, 0, 4096)
	for b.Loop() {
		buf = m.Append(buf[:0])
	}
}
