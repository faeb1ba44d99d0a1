package check

import (
	"strings"
	"testing"
)

// TestTransactionsOfThePast gives transactions that read at revisions, in both branches and nested ones.
func TestTransactionsOfThePast(t *testing.T) {
	past := func(rev int64) Request { return Request{Kind: Range, Key: "a", Revision: rev} }
	exists := []Compare{{Key: "a", Target: ByVersion, Relation: '>'}}
	put := Request{Kind: Put, Key: "b", Value: "n"}
	inner := func(rev int64) Request { return Request{Kind: Txn, If: exists, Then: []Request{put, past(rev)}} }
	for _, c := range []struct {
		name    string
		request Request
		refused string
	}{
		{"readable", Request{Kind: Txn, If: exists, Then: []Request{put, past(3)}}, ""},
		{"compacted", Request{Kind: Txn, If: exists, Then: []Request{put, past(2)}}, Compacted},
		{"future, although the put makes it", Request{Kind: Txn, If: exists, Then: []Request{put, past(5)}}, FutureRev},
		{"in the branch that is not taken", Request{Kind: Txn, If: exists, Then: []Request{put}, Else: []Request{past(1)}}, ""},
		{"nested", Request{Kind: Txn, Then: []Request{inner(4)}}, ""},
		{"nested, compacted", Request{Kind: Txn, Then: []Request{{Kind: Put, Key: "c", Value: "c"}, inner(1)}}, Compacted},
	} {
		w := newWorld(t, 1, 1)
		for _, v := range []string{"1", "2", "3"} { // revisions 2 to 4
			w.do(Request{Kind: Put, Key: "a", Value: v})
		}
		w.do(Request{Kind: Compact, Revision: 3})
		o := w.do(c.request)
		if o.Answer.Refusal != c.refused {
			t.Errorf("%s: %v, want %q", c.name, o, c.refused)
		}
		if r := w.check(); len(r.Violations) > 0 {
			t.Errorf("%s: %v", c.name, r.Violations)
		}
		// The other outcome must be found.
		if c.refused != "" {
			o.Answer = Answer{Revision: w.state.rev, Succeeded: true, Parts: make([]Answer, len(c.request.Then))}
		} else {
			o.Answer = Answer{Refusal: Compacted}
		}
		if r := w.check(); len(r.Violations) == 0 {
			t.Errorf("%s: a wrong outcome was not found", c.name)
		}
	}
}

// TestNestedUnknown has an unanswered transaction explain what its inner one did.
func TestNestedUnknown(t *testing.T) {
	w := newWorld(t, 2, 1)
	o := w.do(Request{Kind: Txn, Then: []Request{
		{Kind: Put, Key: "a", Value: "1"}, {Kind: Txn, Then: []Request{{Kind: Put, Key: "b", Value: "2"}}, Else: []Request{{Kind: Put, Key: "c", Value: "3"}}}}})
	lose(o)
	if r := w.check(); len(r.Violations) > 0 {
		t.Errorf("%v", r.Violations)
	}
	truth, _ := TruthOf([]Watch{w.watch}, 0)
	if r := Durable(w.history, truth, nil); len(r.Violations) > 0 {
		t.Errorf("%v", r.Violations)
	}
	o.Request.Then[1].Then[0].Value = "4"
	if r := Durable(w.history, truth, nil); len(r.Violations) == 0 || !strings.Contains(r.Violations[0].Rule, "invented") {
		t.Errorf("an invented revision was not found: %v", r.Violations)
	}
}
