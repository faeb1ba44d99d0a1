package wire_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"quorate.dev/quorate/wire"
)

type message interface {
	Unmarshal(b []byte) error
	Size() int
	Append(dst []byte) []byte
}

// kind is one message type: ours and the generated one that judges it.
type kind struct {
	name  string
	fresh func() message
	judge func() proto.Message
	// raw kinds splice records as they came, so their encoding is canonical only when the records were.
	raw bool
}

var kinds = []kind{
	{"Header", func() message { return new(wire.Header) }, func() proto.Message { return new(etcdserverpb.ResponseHeader) }, false},
	{"KeyValue", func() message { return new(wire.KeyValue) }, func() proto.Message { return new(mvccpb.KeyValue) }, false},
	{"Event", func() message { return new(wire.Event) }, func() proto.Message { return new(mvccpb.Event) }, true},
	{"RangeRequest", func() message { return new(wire.RangeRequest) }, func() proto.Message { return new(etcdserverpb.RangeRequest) }, false},
	{"RangeResponse", func() message { return new(wire.RangeResponse) }, func() proto.Message { return new(etcdserverpb.RangeResponse) }, true},
	{"PutRequest", func() message { return new(wire.PutRequest) }, func() proto.Message { return new(etcdserverpb.PutRequest) }, false},
	{"PutResponse", func() message { return new(wire.PutResponse) }, func() proto.Message { return new(etcdserverpb.PutResponse) }, true},
	{"DeleteRangeRequest", func() message { return new(wire.DeleteRangeRequest) }, func() proto.Message { return new(etcdserverpb.DeleteRangeRequest) }, false},
	{"DeleteRangeResponse", func() message { return new(wire.DeleteRangeResponse) }, func() proto.Message { return new(etcdserverpb.DeleteRangeResponse) }, true},
	{"Compare", func() message { return new(wire.Compare) }, func() proto.Message { return new(etcdserverpb.Compare) }, false},
	{"RequestOp", func() message { return new(wire.RequestOp) }, func() proto.Message { return new(etcdserverpb.RequestOp) }, false},
	{"TxnRequest", func() message { return new(wire.TxnRequest) }, func() proto.Message { return new(etcdserverpb.TxnRequest) }, false},
	{"ResponseOp", func() message { return new(wire.ResponseOp) }, func() proto.Message { return new(etcdserverpb.ResponseOp) }, true},
	{"TxnResponse", func() message { return new(wire.TxnResponse) }, func() proto.Message { return new(etcdserverpb.TxnResponse) }, true},
	{"CompactionRequest", func() message { return new(wire.CompactionRequest) }, func() proto.Message { return new(etcdserverpb.CompactionRequest) }, false},
	{"LeaseGrantRequest", func() message { return new(wire.LeaseGrantRequest) }, func() proto.Message { return new(etcdserverpb.LeaseGrantRequest) }, false},
	{"LeaseRevokeRequest", func() message { return new(wire.LeaseRevokeRequest) }, func() proto.Message { return new(etcdserverpb.LeaseRevokeRequest) }, false},
	{"LeaseCheckpoint", func() message { return new(wire.LeaseCheckpoint) }, func() proto.Message { return new(etcdserverpb.LeaseCheckpoint) }, false},
	{"LeaseCheckpointRequest", func() message { return new(wire.LeaseCheckpointRequest) }, func() proto.Message { return new(etcdserverpb.LeaseCheckpointRequest) }, false},
	{"LeaseKeepAliveRequest", func() message { return new(wire.LeaseKeepAliveRequest) }, func() proto.Message { return new(etcdserverpb.LeaseKeepAliveRequest) }, false},
	{"LeaseKeepAliveResponse", func() message { return new(wire.LeaseKeepAliveResponse) }, func() proto.Message { return new(etcdserverpb.LeaseKeepAliveResponse) }, false},
	{"AlarmRequest", func() message { return new(wire.AlarmRequest) }, func() proto.Message { return new(etcdserverpb.AlarmRequest) }, false},
	{"AlarmMember", func() message { return new(wire.AlarmMember) }, func() proto.Message { return new(etcdserverpb.AlarmMember) }, false},
	{"ClusterVersionSetRequest", func() message { return new(wire.ClusterVersionSetRequest) }, func() proto.Message { return new(membershippb.ClusterVersionSetRequest) }, false},
	{"ClusterMemberAttrSetRequest", func() message { return new(wire.ClusterMemberAttrSetRequest) }, func() proto.Message { return new(membershippb.ClusterMemberAttrSetRequest) }, false},
	{"DowngradeInfoSetRequest", func() message { return new(wire.DowngradeInfoSetRequest) }, func() proto.Message { return new(membershippb.DowngradeInfoSetRequest) }, false},
	{"AuthNames", func() message { return new(wire.AuthNames) }, func() proto.Message { return new(etcdserverpb.InternalAuthenticateRequest) }, false},
	{"AuthUserAddRequest", func() message { return new(wire.AuthUserAddRequest) }, func() proto.Message { return new(etcdserverpb.AuthUserAddRequest) }, false},
	{"AuthRoleGrantPermissionRequest", func() message { return new(wire.AuthRoleGrantPermissionRequest) }, func() proto.Message { return new(etcdserverpb.AuthRoleGrantPermissionRequest) }, false},
	{"AuthRoleRevokePermissionRequest", func() message { return new(wire.AuthRoleRevokePermissionRequest) }, func() proto.Message { return new(etcdserverpb.AuthRoleRevokePermissionRequest) }, false},
	{"AuthUser", func() message { return new(wire.AuthUser) }, func() proto.Message { return new(authpb.User) }, false},
	{"AuthRole", func() message { return new(wire.AuthRole) }, func() proto.Message { return new(authpb.Role) }, false},
	{"WatchCreateRequest", func() message { return new(wire.WatchCreateRequest) }, func() proto.Message { return new(etcdserverpb.WatchCreateRequest) }, false},
	{"WatchRequest", func() message { return new(wire.WatchRequest) }, func() proto.Message { return new(etcdserverpb.WatchRequest) }, false},
	{"WatchResponse", func() message { return new(wire.WatchResponse) }, func() proto.Message { return new(etcdserverpb.WatchResponse) }, true},
}

var discard = proto.UnmarshalOptions{DiscardUnknown: true}

func canonical(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatalf("judge cannot marshal: %v", err)
	}
	return b
}

// normalize takes away the differences that the package comment names.
func normalize(m proto.Message) {
	if a, ok := m.(*membershippb.ClusterMemberAttrSetRequest); ok && a.MemberAttributes == nil {
		a.MemberAttributes = new(membershippb.Attributes)
	}
	dropEmptyHeaders(m.ProtoReflect())
	addNestedHeaders(m.ProtoReflect())
}

// addNestedHeaders gives every nested transaction response the header that ours always writes.
func addNestedHeaders(r protoreflect.Message) {
	if op, ok := r.Interface().(*etcdserverpb.ResponseOp); ok {
		if txn := op.GetResponseTxn(); txn != nil && txn.Header == nil {
			txn.Header = new(etcdserverpb.ResponseHeader)
		}
	}
	r.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsList() && fd.Message() != nil:
			for i := range v.List().Len() {
				addNestedHeaders(v.List().Get(i).Message())
			}
		case fd.Message() != nil && !fd.IsMap():
			addNestedHeaders(v.Message())
		}
		return true
	})
}

func dropEmptyHeaders(r protoreflect.Message) {
	r.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsList() && fd.Message() != nil:
			for i := range v.List().Len() {
				dropEmptyHeaders(v.List().Get(i).Message())
			}
		case fd.Message() != nil && fd.Message().Name() == "ResponseHeader":
			if proto.Size(v.Message().Interface()) == 0 {
				r.Clear(fd)
			}
		case fd.Message() != nil:
			dropEmptyHeaders(v.Message())
		}
		return true
	})
}

// agree fails the test unless ours and the judge take the same from data. It says whether the input was accepted.
func agree(t testing.TB, k kind, data []byte) bool {
	t.Helper()
	ours, judge := k.fresh(), k.judge()
	err, judgeErr := ours.Unmarshal(data), discard.Unmarshal(data, judge)
	if (err == nil) != (judgeErr == nil) {
		t.Fatalf("%s %x: ours says %v, judge says %v", k.name, data, err, judgeErr)
	}
	if err != nil {
		return false
	}
	wasCanonical := bytes.Equal(canonical(t, judge), data)
	normalize(judge)
	sameScalars(t, k.name, reflect.ValueOf(ours).Elem(), reflect.ValueOf(judge).Elem())
	out := ours.Append(nil)
	if len(out) != ours.Size() {
		t.Fatalf("%s %x: Size %d, Append wrote %d", k.name, data, ours.Size(), len(out))
	}
	again := k.judge()
	if err := discard.Unmarshal(out, again); err != nil {
		t.Fatalf("%s %x: judge refuses our encoding %x: %v", k.name, data, out, err)
	}
	if !proto.Equal(judge, again) {
		t.Fatalf("%s %x: judge reads\n%v\nfrom our encoding\n%v", k.name, data, judge, again)
	}
	if want := canonical(t, judge); (!k.raw || wasCanonical) && !bytes.Equal(want, out) {
		t.Fatalf("%s %x: encoded as %x, judge as %x", k.name, data, out, want)
	}
	return true
}

// sameScalars compares fields of equal name directly, so that a field read into the wrong place and written from there
// does not pass.
func sameScalars(t testing.TB, path string, ours, judge reflect.Value) {
	t.Helper()
	for i := range ours.NumField() {
		name := ours.Type().Field(i).Name
		of := ours.Field(i)
		jf := judge.FieldByNameFunc(func(s string) bool {
			return strings.EqualFold(strings.ReplaceAll(s, "_", ""), name)
		})
		if !jf.IsValid() {
			continue
		}
		same := true
		switch {
		case of.CanInt() && jf.CanInt():
			same = of.Int() == jf.Int()
		case of.CanUint() && jf.CanUint():
			same = of.Uint() == jf.Uint()
		case of.Kind() == reflect.Bool || of.Kind() == reflect.String:
			same = of.Interface() == jf.Interface()
		case of.Type() == reflect.TypeFor[[]byte]() && jf.Type() == of.Type():
			same = bytes.Equal(of.Bytes(), jf.Bytes())
		case of.Kind() == reflect.Slice && jf.Kind() == reflect.Slice:
			same = of.Len() == jf.Len()
			for n := 0; same && n < of.Len(); n++ {
				if of.Index(n).Kind() == reflect.Struct && jf.Index(n).Kind() == reflect.Pointer {
					sameScalars(t, fmt.Sprintf("%s.%s[%d]", path, name, n), of.Index(n), jf.Index(n).Elem())
				}
			}
		case of.Kind() == reflect.Struct && jf.Kind() == reflect.Pointer && !jf.IsNil():
			sameScalars(t, path+"."+name, of, jf.Elem())
		}
		if !same {
			t.Fatalf("%s.%s: ours %v, judge %v", path, name, of, jf)
		}
	}
}

// fill gives m random content; depth bounds nesting.
func fill(r *rand.Rand, m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if r.IntN(3) == 0 {
			continue
		}
		switch {
		case fd.IsList():
			list := m.Mutable(fd).List()
			for range r.IntN(4) {
				if fd.Message() == nil {
					list.Append(scalar(r, fd))
				} else if depth > 0 {
					fill(r, list.AppendMutable().Message(), depth-1)
				}
			}
		case fd.Message() == nil:
			m.Set(fd, scalar(r, fd))
		case depth > 0:
			fill(r, m.Mutable(fd).Message(), depth-1)
		}
	}
}

func scalar(r *rand.Rand, fd protoreflect.FieldDescriptor) protoreflect.Value {
	number := r.Uint64() >> r.IntN(64)
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(r.IntN(2) == 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(r.IntN(9) - 1))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(number) * int64(1-2*r.IntN(2)))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(number)
	case protoreflect.BytesKind:
		b := make([]byte, r.IntN(5)*r.IntN(60))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return protoreflect.ValueOfBytes(b)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(strings.Repeat("é/", r.IntN(4)))
	}
	panic("BUG: no scalar for " + fd.Kind().String())
}

func seeded(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// TestRandomMessages holds every codec against the generated one: on well-formed messages, on two of them in a row (which
// merge), and on damaged ones.
func TestRandomMessages(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			r := seeded(t)
			accepted := 0
			for range 400 {
				m := k.judge()
				fill(r, m.ProtoReflect(), 5)
				data := canonical(t, m)
				if !agree(t, k, data) {
					t.Fatalf("canonical %x refused", data)
				}
				other := k.judge()
				fill(r, other.ProtoReflect(), 3)
				twice := append(data[:len(data):len(data)], canonical(t, other)...)
				if !agree(t, k, twice) {
					t.Fatalf("two messages in a row %x refused", twice)
				}
				for range 6 {
					if agree(t, k, damage(r, twice)) {
						accepted++
					}
				}
			}
			t.Logf("%d damaged messages were still well-formed", accepted)
		})
	}
}

// damage changes, removes or adds a few bytes.
func damage(r *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	for range 1 + r.IntN(3) {
		at := r.IntN(len(b) + 1)
		switch r.IntN(4) {
		case 0:
			b = b[:at]
		case 1:
			if at < len(b) {
				b[at] = byte(r.Uint32())
			}
		case 2:
			b = append(b[:at:at], append([]byte{byte(r.Uint32())}, b[at:]...)...)
		case 3:
			tail := [][]byte{{0x7b, 0x08, 0x01, 0x7c}, {0xfa, 0x07, 0x01, 0x41}, {0x0d, 1, 2, 3, 4}, {0x09, 1, 2, 3, 4, 5, 6, 7, 8}}
			b = append(b, tail[r.IntN(len(tail))]...)
		}
	}
	return b
}

// TestHandPickedInput covers the corners of the encoding that random damage seldom reaches.
func TestHandPickedInput(t *testing.T) {
	for name, data := range map[string][]byte{
		"field number 0":                 {0x00, 0x00},
		"end group alone":                {0x0c},
		"start group, other end":         {0x7b, 0x6c},
		"group":                          {0x7b, 0x0a, 0x01, 'x', 0x7c},
		"known number as group":          {0x0b, 0x10, 0x01, 0x0c},
		"known number as fixed32":        {0x0d, 1, 2, 3, 4},
		"known number, other type":       {0x0a, 0x01, 'x', 0x08, 0x05, 0x12, 0x00, 0x10, 0x01},
		"reserved wire type 6":           {0x0e},
		"reserved wire type 7":           {0x0f, 0x00},
		"long tag":                       {0x8a, 0x80, 0x00, 0x01, 'k'},
		"largest field number":           {0xf8, 0xff, 0xff, 0xff, 0x0f, 0x01},
		"field number too large":         {0x80, 0x80, 0x80, 0x80, 0x10, 0x01},
		"varint of ten bytes":            {0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"varint over 64 bits":            {0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02},
		"varint of eleven bytes":         {0x18, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00},
		"bool 2":                         {0x20, 0x02, 0x28, 0x80, 0x02},
		"enum over 32 bits":              {0x28, 0x81, 0x80, 0x80, 0x80, 0x80, 0x01},
		"length past the end":            {0x0a, 0x05, 'x'},
		"length of 2^63":                 {0x0a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01},
		"packed filters":                 {0x2a, 0x03, 0x00, 0x01, 0x05, 0x28, 0x01},
		"packed filters cut":             {0x2a, 0x02, 0x00, 0x81},
		"bad UTF-8 in field 1":           {0x0a, 0x02, 0xc3, 0x28},
		"bad UTF-8 in field 6":           {0x32, 0x01, 0xff},
		"bad UTF-8 in field 2 of 2":      {0x12, 0x03, 0x12, 0x01, 0xff},
		"oneof switches and merges":      {0x0a, 0x03, 0x0a, 0x01, 'a', 0x12, 0x02, 0x08, 0x01, 0x0a, 0x02, 0x18, 0x07, 0x0a, 0x02, 0x20, 0x01},
		"oneof of numbers, last wins":    {0x20, 0x05, 0x3a, 0x01, 'v', 0x28, 0x00},
		"empty sub-messages":             {0x0a, 0x00, 0x12, 0x00, 0x1a, 0x00, 0x22, 0x00},
		"sub-message with broken record": {0x12, 0x02, 0x0a, 0x05},
	} {
		t.Run(name, func(t *testing.T) {
			for _, k := range kinds {
				agree(t, k, data)
			}
		})
	}
}

// TestNesting finds the judge's bound on nesting and holds ours to it.
func TestNesting(t *testing.T) {
	txn := kinds[11]
	nest := func(levels int, inner []byte) []byte {
		sizes := make([]int, 0, levels)
		n := len(inner)
		for range levels {
			n = n + 1 + varintLen(n)
			sizes = append(sizes, n)
		}
		out := make([]byte, 0, n)
		for i := levels - 1; i >= 0; i-- {
			size := len(inner)
			if i > 0 {
				size = sizes[i-1]
			}
			tag := byte(0x22) // request_txn of an op
			if (levels-1-i)%2 == 0 {
				tag = 0x12 // success of a txn
			}
			out = appendVarint(append(out, tag), size)
		}
		return append(out, inner...)
	}
	for levels := 9990; levels < 10005; levels++ {
		for _, inner := range [][]byte{{}, {0x0a, 0x00}, {0x0a, 0x02, 0x0a, 0x00}, {0x12, 0x00}} {
			data := nest(levels, inner)
			ours, judge := txn.fresh(), txn.judge()
			err, judgeErr := ours.Unmarshal(data), discard.Unmarshal(data, judge)
			if (err == nil) != (judgeErr == nil) {
				t.Fatalf("%d levels around %x: ours %v, judge %v", levels, inner, err, judgeErr)
			}
		}
	}
}

// TestCountElements counts in random transactions what the judge has decoded.
func TestCountElements(t *testing.T) {
	var count func(m *etcdserverpb.TxnRequest) int
	count = func(m *etcdserverpb.TxnRequest) int {
		n := len(m.GetCompare())
		for _, branch := range [][]*etcdserverpb.RequestOp{m.GetSuccess(), m.GetFailure()} {
			n += len(branch)
			for _, op := range branch {
				n += count(op.GetRequestTxn())
			}
		}
		return n
	}
	r := seeded(t)
	for range 300 {
		m := new(etcdserverpb.TxnRequest)
		fill(r, m.ProtoReflect(), 6)
		data, want := canonical(t, m), count(m)
		if got := wire.CountElements(data, 1<<20); got != want {
			t.Fatalf("%x: counted %d, there are %d", data, got, want)
		}
		if limit := want / 2; want > 0 && wire.CountElements(data, limit) != limit+1 {
			t.Fatalf("%x: %d elements are counted as %d with a limit of %d", data, want, wire.CountElements(data, limit), limit)
		}
	}
	for _, b := range [][]byte{{0x0a}, {0x12, 0x03, 0x22, 0x05, 0x00}, {0x07}} {
		_ = wire.CountElements(b, 10) // ends
	}
}

func varintLen(n int) int { return len(appendVarint(nil, n)) }

func appendVarint(b []byte, n int) []byte {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

// FuzzDifferential lets the fuzzer choose the message type and its bytes.
func FuzzDifferential(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for i, k := range kinds {
		for range 3 {
			m := k.judge()
			fill(r, m.ProtoReflect(), 4)
			f.Add(uint8(i), canonical(f, m))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		agree(t, kinds[int(which)%len(kinds)], data)
	})
}
