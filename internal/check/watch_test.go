package check

import (
	"strings"
	"testing"
)

// watched are a few revisions, and two watches that saw them: everything, and the keys of [a, c) from revision 3 on.
func watched(t *testing.T) []Watch {
	w := newWorld(t, 1, 1)
	w.do(Request{Kind: Put, Key: "a", Value: "1"}) // 2
	w.do(Request{Kind: Put, Key: "b", Value: "2"}) // 3
	w.do(Request{Kind: Put, Key: "x", Value: "3"}) // 4
	w.do(Request{Kind: Txn, Then: []Request{       // 5
		{Kind: Put, Key: "a", Value: "4"}, {Kind: Put, Key: "b", Value: "5"}, {Kind: Put, Key: "x", Value: "5"}}})
	w.do(Request{Kind: Delete, Key: "a"})          // 6
	w.do(Request{Kind: Put, Key: "b", Value: "6"}) // 7
	var batches []Batch
	for _, b := range w.watch.Sessions[0].Batches {
		some := Batch{Revision: b.Revision}
		for _, e := range b.Events {
			if e.KV.Key < "c" && e.Revision >= 3 {
				some.Events = append(some.Events, e)
			}
		}
		if len(some.Events) > 0 {
			batches = append(batches, some)
		}
	}
	// 3, 5, then a notification, then, in a second session, 6 and 7.
	ab := Watch{Name: "ab", Key: "a", End: "c", Prev: true, Through: 7, Sessions: []Session{
		{Via: "m1", From: 3, Created: 4, Batches: []Batch{batches[0], batches[1], {Revision: 5, Progress: true}}},
		{Via: "m2", From: 6, Created: 7, Batches: batches[2:]},
	}}
	w.watch.Prev = true
	return []Watch{w.watch, ab}
}

func TestGoodWatches(t *testing.T) {
	ws := watched(t)
	truth, r := TruthOf(ws, 0)
	if len(r.Violations) > 0 {
		t.Fatal(r.Violations)
	}
	if r := Watches(ws, truth); len(r.Violations) > 0 {
		t.Fatal(r.Violations)
	}
	if truth.Last() != 7 {
		t.Fatalf("the truth ends at %d", truth.Last())
	}
}

// deep copies what a test changes.
func deep(ws []Watch) *Watch {
	w := &ws[1]
	for i := range w.Sessions {
		s := &w.Sessions[i]
		for j := range s.Batches {
			b := &s.Batches[j]
			b.Events = append([]Event(nil), b.Events...)
			for k := range b.Events {
				if p := b.Events[k].Prev; p != nil {
					prev := *p
					b.Events[k].Prev = &prev
				}
			}
		}
	}
	return w
}

// TestProgressBeforeTheStart: who asked for what is to come must not be told that it has what was before.
func TestProgressBeforeTheStart(t *testing.T) {
	w := Watch{Name: "w", Key: "a", Sessions: []Session{{Via: "m1", From: 10, Created: 5, Batches: []Batch{{Revision: 5, Progress: true}}}}}
	if r := Watches([]Watch{w}, &Truth{}); len(r.Violations) != 1 || r.Violations[0].Rule != "bookmarkable" {
		t.Fatalf("%+v", r)
	}
	w.Sessions[0].Batches[0].Revision = 9
	if r := Watches([]Watch{w}, &Truth{}); len(r.Violations) != 0 {
		t.Fatalf("%+v", r)
	}
}

func TestPlantedWatchViolations(t *testing.T) {
	for _, c := range []struct {
		name, rule, text string
		plant            func(w *Watch)
	}{
		{"swapped", "ordered", `[3 put {"b"`, func(w *Watch) {
			b := w.Sessions[0].Batches
			b[0], b[1] = b[1], b[0]
		}},
		{"another order in a revision", "ordered", "revision 5", func(w *Watch) {
			e := w.Sessions[0].Batches[1].Events
			e[0], e[1] = e[1], e[0]
		}},
		{"twice in a stream", "unique", `[5 put {"a"`, func(w *Watch) {
			s := &w.Sessions[0]
			s.Batches = append(s.Batches[:2:2], s.Batches[1])
		}},
		{"twice in a batch", "unique", `[3 put {"b"`, func(w *Watch) {
			b := &w.Sessions[0].Batches[0]
			b.Events = append(b.Events, b.Events[0])
		}},
		{"split", "atomic", "of revision 5", func(w *Watch) {
			s := &w.Sessions[0]
			b := s.Batches[1]
			s.Batches = []Batch{s.Batches[0], {Revision: 5, Events: b.Events[:1]}, {Revision: 5, Events: b.Events[1:]}}
		}},
		{"half a revision", "atomic", `[5 put {"b"`, func(w *Watch) {
			b := &w.Sessions[0].Batches[1]
			b.Events = b.Events[:1]
		}},
		{"a gap", "reliable", `[6 delete "a"]`, func(w *Watch) {
			w.Sessions[0].Batches = append(w.Sessions[0].Batches[:2:2], w.Sessions[1].Batches[1])
			w.Sessions = w.Sessions[:1]
		}},
		{"a late beginning", "reliable", `[3 put {"b"`, func(w *Watch) { w.Sessions[0].Batches = w.Sessions[0].Batches[1:] }},
		{"an end that never came", "reliable", `[7 put {"b"`, func(w *Watch) { w.Sessions[1].Batches = w.Sessions[1].Batches[:1] }},
		{"a gap after resuming", "resumable", `[6 delete "a"]`, func(w *Watch) { w.Sessions[1].Batches = w.Sessions[1].Batches[1:] }},
		{"resumed too far", "resumable", "had everything up to 5", func(w *Watch) { w.Sessions[1].From = 7 }},
		{"a repetition after resuming", "unique", `[5 put {"a"`, func(w *Watch) {
			s := &w.Sessions[1]
			s.Batches = append([]Batch{w.Sessions[0].Batches[1]}, s.Batches...)
			w.Sessions[0].Batches = w.Sessions[0].Batches[:2]
		}},
		{"half a revision after resuming", "atomic", `[5 put {"a"`, func(w *Watch) {
			s := &w.Sessions[1]
			s.Batches = append([]Batch{{Revision: 7, Events: w.Sessions[0].Batches[1].Events[:1]}}, s.Batches...)
			w.Sessions[0].Batches[1].Events = w.Sessions[0].Batches[1].Events[1:]
		}},
		{"a bookmark too early", "bookmarkable", `[5 put {"a"`, func(w *Watch) {
			b := w.Sessions[0].Batches
			b[1], b[2] = b[2], b[1]
		}},
		{"a bookmark that hides a gap", "bookmarkable", `[6 delete "a"]`, func(w *Watch) { w.Sessions[0].Batches[2].Revision = 6 }},
		{"no previous value", "prev_kv", `[5 put {"a"`, func(w *Watch) { w.Sessions[0].Batches[1].Events[0].Prev = nil }},
		{"a wrong previous value", "prev_kv", `which was {"a"="4"`, func(w *Watch) { w.Sessions[1].Batches[0].Events[0].Prev.Value = "1" }},
		{"a previous value of nothing", "prev_kv", "there was nothing", func(w *Watch) { w.Sessions[0].Batches[0].Events[0].Prev = &KV{Key: "b"} }},
		{"a value not asked for", "prev_kv", "not asked for", func(w *Watch) { w.Prev = false }},
		{"an event that never was", "foreign", `"b"="9"`, func(w *Watch) { w.Sessions[0].Batches[0].Events[0].KV.Value = "9" }},
		{"a key not asked for", "foreign", "was not asked for", func(w *Watch) { w.NoDelete = true }},
		{"a header from before", "ordered", "header says revision 4", func(w *Watch) { w.Sessions[0].Batches[1].Revision = 4 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			ws := watched(t)
			truth, _ := TruthOf(ws[:1], 0)
			c.plant(deep(ws))
			r := Watches(ws, truth)
			for _, v := range r.Violations {
				if v.Rule == c.rule && strings.Contains(v.Text, c.text) && strings.Contains(v.Text, "watch ab via m") {
					return
				}
			}
			t.Fatalf("no violation of %q says %q: %v", c.rule, c.text, r.Violations)
		})
	}
}

// TestMembersDisagree checks that two watches that saw different things are found without knowing who is right.
func TestMembersDisagree(t *testing.T) {
	for name, plant := range map[string]func(w *Watch){
		"watch ab saw [3 put": func(w *Watch) { w.Sessions[0].Batches[0].Events[0].KV.Value = "9" },
		"watch ab saw [6 put": func(w *Watch) {
			w.Sessions[1].Batches[0].Events[0] = Event{Revision: 6, KV: KV{Key: "b", Value: "x", Mod: 6, Create: 3, Version: 3}}
		},
	} {
		ws := watched(t)
		plant(deep(ws))
		_, r := TruthOf(ws, 0)
		found := false
		for _, v := range r.Violations {
			found = found || v.Rule == "agreement" && strings.Contains(v.Text, name)
		}
		if name == "watch ab saw [6 put" {
			found = len(r.Violations) > 0 || len(Watches(ws, mustTruth(ws)).Violations) > 0
		}
		if !found {
			t.Fatalf("no violation says %q: %v", name, r.Violations)
		}
	}
}

func mustTruth(ws []Watch) *Truth {
	truth, _ := TruthOf(ws, 0)
	return truth
}

// TestCompactedPrev checks that what was there before may be missing where a compaction has passed.
func TestCompactedPrev(t *testing.T) {
	ws := watched(t)
	deep(ws).Sessions[0].Batches[1].Events[0].Prev = nil
	truth, _ := TruthOf(ws, 5)
	if r := Watches(ws, truth); len(r.Violations) > 0 {
		t.Fatal(r.Violations)
	}
}
