package wire_test

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"quorate.dev/quorate/wire"
)

// etcdV2 encodes a request as etcd's own encoder does: every field that cannot be absent is written, zero or not, and so are the
// four that are passed over here.
func etcdV2(m *wire.V2Request) []byte {
	var b []byte
	number := func(num protowire.Number, v uint64) {
		b = protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
	}
	text := func(num protowire.Number, v string) {
		b = protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), v)
	}
	given := func(num protowire.Number, v *bool) {
		if v != nil {
			number(num, protowire.EncodeBool(*v))
		}
	}
	number(1, m.ID)
	text(2, m.Method)
	text(3, m.Path)
	text(4, m.Val)
	number(5, protowire.EncodeBool(m.Dir))
	text(6, m.PrevValue)
	number(7, m.PrevIndex)
	given(8, m.PrevExist)
	number(9, uint64(m.Expiration))
	number(10, 1)
	number(11, 77)
	number(12, protowire.EncodeBool(m.Recursive))
	number(13, protowire.EncodeBool(m.Sorted))
	number(14, 1)
	number(15, uint64(m.Time))
	number(16, 1)
	given(17, m.Refresh)
	return b
}

func randomV2(r *rand.Rand) *wire.V2Request {
	text := func() string {
		return strings.Repeat(string(rune('a'+r.IntN(26))), r.IntN(200)) + []string{"", "\xff", "ü"}[r.IntN(3)]
	}
	flag := func() *bool {
		v := r.IntN(2) == 0
		return []*bool{nil, &v}[r.IntN(2)]
	}
	m := &wire.V2Request{Method: text(), Path: text(), Val: text(), PrevValue: text(), PrevExist: flag(), Refresh: flag()}
	m.Dir, m.Recursive, m.Sorted = r.IntN(2) == 0, r.IntN(2) == 0, r.IntN(2) == 0
	if r.IntN(3) > 0 {
		m.ID, m.PrevIndex, m.Expiration, m.Time = r.Uint64(), r.Uint64(), r.Int64()-r.Int64(), r.Int64()
	}
	return m
}

func TestV2RequestAsEtcdWritesIt(t *testing.T) {
	r := seeded(t)
	for range 2000 {
		want := randomV2(r)
		for _, data := range [][]byte{want.Append(nil), etcdV2(want)} {
			var got wire.V2Request
			if err := got.Unmarshal(data); err != nil || !reflect.DeepEqual(&got, want) {
				t.Fatalf("%x is %+v, %v, want %+v", data, got, err, want)
			}
		}
		if n := len(want.Append(nil)); n != want.Size() {
			t.Fatalf("%d bytes and size %d", n, want.Size())
		}
	}
}

func TestV2RequestInAnEntry(t *testing.T) {
	m := wire.Internal{ID: 9, Username: "u", AuthRevision: 3, Field: wire.FieldV2, Body: (&wire.V2Request{Method: "SYNC", Time: 5}).Append(nil)}
	var got wire.Internal
	if err := got.Unmarshal(m.Append(nil)); err != nil || !reflect.DeepEqual(got, m) {
		t.Fatalf("%+v, %v, want %+v", got, err, m)
	}
}

func FuzzV2Request(f *testing.F) {
	f.Add(etcdV2(&wire.V2Request{Method: "PUT", Path: "/1/a", Val: "v"}))
	f.Add([]byte{8})
	f.Fuzz(func(t *testing.T, data []byte) {
		var m, again wire.V2Request
		if m.Unmarshal(data) != nil {
			return
		}
		if err := again.Unmarshal(m.Append(nil)); err != nil || !reflect.DeepEqual(m, again) {
			t.Fatalf("%+v, written and read: %+v, %v", m, again, err)
		}
	})
}
