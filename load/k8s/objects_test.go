package k8s

import (
	"bytes"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// TestObjects: every object is an envelope of Kubernetes' whose fields are whole after the marks were replaced, holds none of the
// marks any more, and gives its stamp back.
func TestObjects(t *testing.T) {
	s, err := loadObjects()
	if err != nil {
		t.Fatal(err)
	}
	all := []*object{s.node, s.lease, s.event}
	for _, set := range s.pods {
		all = append(all, set[:]...)
	}
	for _, o := range all {
		id := identity{pod: 1234567, node: 4321, space: 77, at: 98765 * time.Millisecond}
		value := o.appendTo(nil, id, s.noise)
		rest, ok := bytes.CutPrefix(value, []byte("k8s\x00"))
		if !ok || len(value) != len(o.value) || bytes.Contains(value, []byte("MARK")) {
			t.Fatalf("%d bytes: %q", len(value), value[:40])
		}
		for len(rest) > 0 {
			_, _, n := protowire.ConsumeField(rest)
			if n < 0 {
				t.Fatalf("object of %d bytes: %v", len(value), protowire.ParseError(n))
			}
			rest = rest[n:]
		}
		if at, ok := s.stampOf(value); !ok || at != id.at {
			t.Errorf("object of %d bytes: stamp %v, %v", len(value), at, ok)
		}
		other := o.appendTo(nil, identity{pod: 1234568, node: 4321, space: 77, at: id.at}, s.noise)
		if len(o.pods) > 0 && bytes.Equal(value, other) {
			t.Errorf("two pods have the same object of %d bytes", len(value))
		}
	}
	if n := len(s.pods[0][stageReady].value); n < 10_000 || n > 20_000 {
		t.Errorf("a large pod has %d bytes", n)
	}
	if _, ok := s.stampOf([]byte("somebody else's")); ok {
		t.Error("a value that nobody wrote has a stamp")
	}
}

func TestKeys(t *testing.T) {
	k := newKeyNames("/registry/")
	for _, c := range []struct {
		got  []byte
		want string
		n    int64
	}{
		{k.pod(nil, 3, 42), "/registry/pods/density-0003/shop-web-00-7d4b9c6f5d-0000000042", 42},
		{k.node(nil, 7), "/registry/minions/instance-00000007", 7},
		{k.lease(nil, 7), "/registry/leases/kube-node-lease/instance-00000007", 7},
		{k.event(nil, 3, 42, 0xabc), "/registry/events/density-0003/shop-web-00-7d4b9c6f5d-0000000042.0000000000000abc", -1},
		{k.space(nil, 3), "/registry/pods/density-0003/", -1},
	} {
		if string(c.got) != c.want || number(c.got) != c.n {
			t.Errorf("%s, number %d; want %s, %d", c.got, number(c.got), c.want, c.n)
		}
	}
	if string(k.ends[pods]) != "/registry/pods0" {
		t.Errorf("%s", k.ends[pods])
	}
}
