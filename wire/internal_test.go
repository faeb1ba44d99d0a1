package wire_test

import (
	"bytes"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"quorate.dev/quorate/wire"
)

// requestField is the field of an entry that holds its request, nil when none or several do.
func requestField(m *etcdserverpb.InternalRaftRequest) (fd protoreflect.FieldDescriptor, several bool) {
	m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if f.Number() != 1 && f.Number() != 100 {
			several = fd != nil || several
			fd = f
		}
		return true
	})
	return fd, several
}

// TestInternalAgainstJudge decodes entries of every request field, and compares header, field and body.
func TestInternalAgainstJudge(t *testing.T) {
	r := seeded(t)
	fields := new(etcdserverpb.InternalRaftRequest).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if fd.Number() == 1 || fd.Number() == 100 {
			continue
		}
		for range 50 {
			entry := &etcdserverpb.InternalRaftRequest{Header: new(etcdserverpb.RequestHeader)}
			fill(r, entry.Header.ProtoReflect(), 1)
			fill(r, entry.ProtoReflect().Mutable(fd).Message(), 4)
			body := canonical(t, entry.ProtoReflect().Get(fd).Message().Interface())
			var ours wire.Internal
			if err := ours.Unmarshal(canonical(t, entry)); err != nil {
				t.Fatalf("%s: %v", fd.Name(), err)
			}
			if ours.Field != int32(fd.Number()) || !bytes.Equal(ours.Body, body) {
				t.Fatalf("%s: field %d body %x, want %d %x", fd.Name(), ours.Field, ours.Body, fd.Number(), body)
			}
			if ours.ID != entry.Header.ID || ours.Username != entry.Header.Username || ours.AuthRevision != entry.Header.AuthRevision {
				t.Fatalf("%s: header %+v, want %v", fd.Name(), ours, entry.Header)
			}
			out := ours.Append(nil)
			if want := canonical(t, entry); !bytes.Equal(out, want) || ours.Size() != len(want) {
				t.Fatalf("%s: encoded %x (size %d), judge %x", fd.Name(), out, ours.Size(), want)
			}
		}
	}
}

func TestInternalTraps(t *testing.T) {
	encode := func(m *etcdserverpb.InternalRaftRequest) []byte { return canonical(t, m) }
	put := func(key string) *etcdserverpb.PutRequest { return &etcdserverpb.PutRequest{Key: []byte(key)} }
	t.Run("the legacy id names the waiter", func(t *testing.T) {
		var m wire.Internal
		data := encode(&etcdserverpb.InternalRaftRequest{ID: 7, Header: &etcdserverpb.RequestHeader{ID: 9}, Put: put("k")})
		if err := m.Unmarshal(data); err != nil || m.ID != 7 {
			t.Fatalf("id %d, error %v", m.ID, err)
		}
	})
	t.Run("one request in two pieces merges", func(t *testing.T) {
		a := encode(&etcdserverpb.InternalRaftRequest{Put: put("a")})
		b := encode(&etcdserverpb.InternalRaftRequest{Put: &etcdserverpb.PutRequest{Lease: 5}})
		var m wire.Internal
		var body etcdserverpb.PutRequest
		if err := m.Unmarshal(append(a, b...)); err != nil {
			t.Fatal(err)
		}
		if err := proto.Unmarshal(m.Body, &body); err != nil || string(body.Key) != "a" || body.Lease != 5 {
			t.Fatalf("body %v, error %v", &body, err)
		}
	})
	t.Run("two requests are refused", func(t *testing.T) {
		data := encode(&etcdserverpb.InternalRaftRequest{Put: put("a"), Txn: new(etcdserverpb.TxnRequest)})
		err := new(wire.Internal).Unmarshal(data)
		if err == nil || !strings.Contains(err.Error(), "more than one request") {
			t.Fatalf("error %v", err)
		}
	})
	t.Run("an entry without request is legal", func(t *testing.T) {
		var m wire.Internal
		if err := m.Unmarshal(encode(&etcdserverpb.InternalRaftRequest{Header: &etcdserverpb.RequestHeader{ID: 3}})); err != nil || m.Field != 0 || m.ID != 3 {
			t.Fatalf("%+v %v", m, err)
		}
	})
	t.Run("errors name message and offset", func(t *testing.T) {
		err := new(wire.PutRequest).Unmarshal([]byte{0x0a, 0x01, 'k', 0x12, 0x09, 'v'})
		if err == nil || err.Error() != "wire: PutRequest: field at byte 3: truncated" {
			t.Fatalf("error %v", err)
		}
	})
}

// FuzzInternal checks that what ours accepts with a well-formed body, the judge accepts with equal content, and that
// whatever the judge accepts (with at most one request) ours does too.
func FuzzInternal(f *testing.F) {
	f.Add(canonical(f, &etcdserverpb.InternalRaftRequest{Header: &etcdserverpb.RequestHeader{ID: 1, Username: "root", AuthRevision: 2}, Put: &etcdserverpb.PutRequest{Key: []byte("k")}}))
	f.Add(canonical(f, &etcdserverpb.InternalRaftRequest{ID: 4, AuthEnable: &etcdserverpb.AuthEnableRequest{}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		var judge etcdserverpb.InternalRaftRequest
		var ours wire.Internal
		err := ours.Unmarshal(data)
		if judgeErr := discard.Unmarshal(data, &judge); judgeErr != nil {
			return
		}
		fd, several := requestField(&judge)
		if holdsV2(data) { // the judge's release has forgotten that request, so the answer is known without it
			if several = several || fd != nil; !several && err == nil && ours.Field != wire.FieldV2 {
				t.Fatalf("%x: field %d in place of a request of the v2 API", data, ours.Field)
			}
		}
		if several != (err != nil) {
			t.Fatalf("%x: several requests %v, error %v", data, several, err)
		}
		if err != nil {
			return
		}
		if ours.Field == wire.FieldV2 {
			if !holdsV2(data) {
				t.Fatalf("%x: there is no request of the v2 API in it", data)
			}
		} else if fd == nil != (ours.Field == 0) || fd != nil && ours.Field != int32(fd.Number()) {
			t.Fatalf("%x: field %d, judge %v", data, ours.Field, fd)
		}
		id := judge.ID
		if id == 0 {
			id = judge.Header.GetID()
		}
		if ours.ID != id || ours.Username != judge.Header.GetUsername() || ours.AuthRevision != judge.Header.GetAuthRevision() {
			t.Fatalf("%x: header %+v, judge %v", data, ours, judge.Header)
		}
	})
}

// holdsV2 says whether a well-formed message has the field of a request of the v2 API.
func holdsV2(data []byte) bool {
	for len(data) > 0 {
		num, kind, n := protowire.ConsumeField(data)
		if n < 0 {
			return false
		}
		if num == protowire.Number(wire.FieldV2) && kind == protowire.BytesType {
			return true
		}
		data = data[n:]
	}
	return false
}
