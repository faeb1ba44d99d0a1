package command

import (
	"bytes"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/wire"
)

func TestTableHasOneRowPerKind(t *testing.T) {
	fields := map[int32]Kind{}
	for i, r := range Table() {
		if r.Kind != Kind(i) || r.Name == "" {
			t.Errorf("row %d is %v %q", i, r.Kind, r.Name)
		}
		if other, dup := fields[r.Field]; dup && r.Field != 0 {
			t.Errorf("%v and %v share field %d", r.Kind, other, r.Field)
		}
		fields[r.Field] = r.Kind
	}
	if got := Kind(200).String(); got != "Unknown" {
		t.Errorf("Kind(200) is %q", got)
	}
}

// TestEntriesAreEtcds reads what we write with etcd's generated type, and the other way round.
func TestEntriesAreEtcds(t *testing.T) {
	put := &pb.PutRequest{Key: []byte("k"), Value: []byte("v"), Lease: 7}
	body, err := proto.Marshal(put)
	if err != nil {
		t.Fatal(err)
	}
	var theirs pb.InternalRaftRequest
	if err := proto.Unmarshal(AppendEntry(nil, 42, Put, body), &theirs); err != nil {
		t.Fatal(err)
	}
	if theirs.Header.GetID() != 42 || theirs.Header.GetUsername() != "" || !proto.Equal(theirs.Put, put) {
		t.Fatalf("etcd reads our entry as %v", &theirs)
	}
	theirs.Reset()
	if err := proto.Unmarshal(AppendEntryAs(nil, 43, "ann", 7, Put, body), &theirs); err != nil {
		t.Fatal(err)
	}
	if h := theirs.Header; h.GetID() != 43 || h.GetUsername() != "ann" || h.GetAuthRevision() != 7 || !proto.Equal(theirs.Put, put) {
		t.Fatalf("etcd reads our entry of a user as %v", &theirs)
	}
	for kind, m := range map[Kind]*pb.InternalRaftRequest{
		Put:         {Header: &pb.RequestHeader{ID: 1}, Put: put},
		LeaseRevoke: {Header: &pb.RequestHeader{ID: 2, Username: "u", AuthRevision: 3}, LeaseRevoke: &pb.LeaseRevokeRequest{ID: 9}},
		Compaction:  {Header: &pb.RequestHeader{ID: 3}, Compaction: &pb.CompactionRequest{Revision: 5}},
		AuthEnable:  {Header: &pb.RequestHeader{ID: 4}, AuthEnable: &pb.AuthEnableRequest{}},
		Unknown:     {Header: &pb.RequestHeader{ID: 5}, DowngradeVersionTest: &pb.DowngradeVersionTestRequest{}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Decode(b)
		if err != nil || c.Kind != kind || c.ID != m.Header.ID || c.Username != m.Header.Username || c.AuthRevision != m.Header.AuthRevision {
			t.Errorf("%v decodes as %+v, %v", m, c, err)
		}
		if row := kind.Row(); row.Field != 0 {
			if again := AppendEntry(nil, 0, c.Kind, c.Body); len(again) == 0 {
				t.Errorf("%v: no entry", kind)
			}
		}
	}
}

func TestDecodeOddities(t *testing.T) {
	if c, err := Decode(nil); err != nil || c.Kind != Empty {
		t.Errorf("an empty entry is %+v, %v", c, err)
	}
	if c, err := Decode([]byte{0xff, 0xff}); err == nil || c.Kind != Unknown {
		t.Errorf("garbage is %+v, %v", c, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(AppendEntry(nil, 1, Put, []byte{10, 1, 'k'}))
	f.Add(AppendEntry(nil, 1, Txn, nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Decode(data)
		if err != nil || c.Kind == Unknown || c.Kind == Empty {
			return
		}
		again, err := Decode(AppendEntry(nil, c.ID, c.Kind, c.Body))
		if err != nil || again.Kind != c.Kind || again.ID != c.ID || !bytes.Equal(again.Body, c.Body) {
			t.Fatalf("%+v comes back as %+v, %v", c, again, err)
		}
	})
}

func TestAppendEntryAllocates(t *testing.T) {
	body := (&wire.PutRequest{Key: []byte("k"), Value: make([]byte, 256)}).Append(nil)
	buf := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() { buf = AppendEntry(buf[:0], 1, Put, body) }); n > 0 {
		t.Errorf("%v allocations an entry, want none", n)
	}
	if n := testing.AllocsPerRun(100, func() { buf = AppendEntryAs(buf[:0], 1, "ann", 7, Put, body) }); n > 0 {
		t.Errorf("%v allocations an entry of a user, want none", n)
	}
	read := func(likely string) {
		if c, err := DecodeAfter(buf, likely); err != nil || c.Username != "ann" || c.AuthRevision != 7 {
			t.Errorf("decodes as %+v, %v", c, err)
		}
	}
	if n := testing.AllocsPerRun(100, func() { read("ann") }); n > 0 {
		t.Errorf("%v allocations to decode an entry of the same user, want none", n)
	}
	for _, likely := range []string{"", "an", "anna", "bob"} {
		read(likely)
	}
}
