package compat

import (
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/test/compat/proc"
	"quorate.dev/quorate/test/compat/script"
)

// sample touches every kind of statement the comparison has to see.
const sample = `
case sample
stream w
send w create_request:{key:"k" range_end:"l" prev_kv:true}
wait w created=1
Put key:"k1" value:"1"
Put key:"k1" value:"2"
DeleteRange key:"k1" prev_kv:true
wait w events=0:3
LeaseGrant ID:77 TTL:500
LeaseTimeToLive ID:77
Range key:"k" range_end:"l" revision:$rev-1
Range key:"k" revision:$rev+1
! OutOfRange etcdserver: mvcc: required revision is a future revision
LeaseRevoke ID:77
`

// lies are what a server may do to its answers, by the kind of field that the comparison has to look at.
var lies = map[string]func(method string, m proto.Message){
	"revision": func(method string, m proto.Message) {
		if method == "DeleteRange" {
			m.(*pb.DeleteRangeResponse).Header.Revision++
		}
	},
	"missing field": func(method string, m proto.Message) {
		if method == "DeleteRange" {
			m.(*pb.DeleteRangeResponse).PrevKvs = nil
		}
	},
	"lost event": func(method string, m proto.Message) {
		if w, ok := m.(*pb.WatchResponse); ok && len(w.Events) > 0 && string(w.Events[0].Kv.Value) == "2" {
			w.Events[0].Kv.Value = []byte("3")
		}
	},
	"ttl": func(method string, m proto.Message) {
		if method == "LeaseTimeToLive" {
			m.(*pb.LeaseTimeToLiveResponse).TTL -= 3
		}
	},
	"extra field": func(method string, m proto.Message) {
		if method == "LeaseRevoke" {
			m.ProtoReflect().SetUnknown([]byte{0x50, 0x01})
		}
	},
}

// TestHarness shows that the suite can be believed: two etcds differ in nothing, and a server that lies in any one
// answer, as well as a wrong expectation, is found out.
func TestHarness(t *testing.T) {
	p := startPair(t, proc.Etcd, "--unsafe-no-fsync")
	cases, err := script.Parse("sample", sample)
	if err != nil {
		t.Fatal(err)
	}
	judge, other := p.run(cases[0])
	if v := compare(judge, other, false, false); len(v.wrong) > 0 {
		t.Fatalf("two etcds differ:\n%s", strings.Join(v.wrong, "\n"))
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			var judge, other script.Trace
			both(func() { judge = script.Run(cases[0], target(&p.judge)) }, func() {
				liar := target(&p.other)
				liar.Mutate = lie
				other = script.Run(cases[0], liar)
			})
			if v := compare(judge, other, false, false); len(v.wrong) != 1 {
				t.Errorf("want exactly this lie to be found, got %q", v.wrong)
			}
		})
	}
	t.Run("wrong expectation", func(t *testing.T) {
		for _, text := range []string{"Put value:\"1\"\n! InvalidArgument etcdserver: key not found", "Put key:\"a\"\n! InvalidArgument",
			"Range key:\"a\"\n= count:5", "Put value:\"1\"\n= header:{}"} {
			wrong, err := script.Parse("wrong", "case wrong\n"+text)
			if err != nil {
				t.Fatal(err)
			}
			judge, other := p.run(wrong[0])
			if len(judge.Failed) != 1 || len(other.Failed) != 1 {
				t.Errorf("%q was not found wrong", text)
			}
		}
	})
	t.Run("stale difference", func(t *testing.T) {
		stale, err := script.Parse("stale", "case stale\nknown anything\nRange key:\"a\"")
		if err != nil {
			t.Fatal(err)
		}
		judge, other := p.run(stale[0])
		if v := compare(judge, other, true, false); len(v.wrong) != 1 {
			t.Errorf("an allowed difference that did not show was not reported: %q", v.wrong)
		}
	})
}
