package v2store_test

import (
	"slices"
	"strings"
	"testing"

	"quorate.dev/quorate/v2store"
	"quorate.dev/quorate/wire"
)

func walked(s *v2store.Store) []*v2store.Node {
	var all []*v2store.Node
	s.Publish().Walk("/", 0, func(n *v2store.Node) bool { all = append(all, n); return true })
	return all
}

// TestRecover holds that a store that was recovered from another's nodes goes on like that one.
func TestRecover(t *testing.T) {
	s := v2store.New()
	for _, p := range []string{"/1/a/x", "/1/a-b", "/1/a/_hidden/y", "/1/b", "/2/enabled"} {
		if _, err := s.Apply(nil, &wire.V2Request{Method: "PUT", Path: p, Val: p, Expiration: 2e18}); err != nil {
			t.Fatal(err)
		}
	}
	var order []string
	for _, n := range walked(s) {
		order = append(order, n.Key)
	}
	if want := "/ /0 /1 /1/a /1/a/_hidden /1/a/_hidden/y /1/a/x /1/a-b /1/b /2 /2/enabled"; strings.Join(order, " ") != want {
		t.Fatalf("the walk went over %v, want %s", order, want)
	}
	r, err := v2store.Recover(s.Index(), slices.Values(walked(s)))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []*v2store.Store{s, r} {
		x.Tick(nil, v2store.MemberRemoved)
		if _, err := x.Apply(nil, &wire.V2Request{Method: "POST", Path: "/1/q", Val: "1"}); err != nil {
			t.Fatal(err)
		}
		if _, err := x.Apply(nil, &wire.V2Request{Method: "DELETE", Path: "/1/a", Recursive: true}); err != nil {
			t.Fatal(err)
		}
	}
	one, err := s.Publish().Get("/", true, true, 0)
	if err != nil {
		t.Fatal(err)
	}
	other, err := r.Publish().Get("/", true, true, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := one.MarshalJSON()
	b, _ := other.MarshalJSON()
	if string(a) != string(b) || s.Index() != r.Index() {
		t.Errorf("index %d: %s\nindex %d: %s", s.Index(), a, r.Index(), b)
	}
}

// TestRecoverRefuses holds what no store can have held.
func TestRecoverRefuses(t *testing.T) {
	v := ""
	for reason, n := range map[string]*v2store.Node{
		"clean path":      {Key: "/1//a", Value: &v},
		"no clean":        {Key: "", Value: &v},
		"no directory":    {Key: "/1/a/b", Value: &v},
		"store's index":   {Key: "/1/a", Value: &v, Modified: 8},
		"are allowed":     {Key: "/1/" + strings.Repeat("a", 1<<20), Value: &v},
		"be a directory":  {Key: "/1", Value: &v},
		"at most":         {Key: "/1" + strings.Repeat("/a", 5000), Value: &v},
		"created at inde": {Key: "/1/a", Dir: true, Created: 8},
	} {
		if _, err := v2store.Recover(7, slices.Values([]*v2store.Node{n})); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("want an error that says %q, got %v", reason, err)
		}
	}
}
