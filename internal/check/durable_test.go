package check

import (
	"fmt"
	"testing"
)

// content is what the model holds now.
func (w *world) content(member string) Content {
	c := Content{Member: member, Revision: w.state.rev}
	w.state.keys.each("", "", true, func(_ string, kv KV) { c.KVs = append(c.KVs, kv) })
	return c
}

func (w *world) durable(final ...Content) Report {
	w.t.Helper()
	truth, r := TruthOf([]Watch{w.watch}, 0)
	if len(r.Violations) > 0 {
		w.t.Fatal(r.Violations)
	}
	return Durable(w.history, truth, final)
}

func TestDurableGoodHistories(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(t, seed, 10)
		w.random(300)
		r := w.durable(w.content("a"), w.content("b"))
		if len(r.Violations) > 0 || r.Happened == 0 || r.Writes != w.state.rev {
			t.Fatalf("seed %d: %+v", seed, r)
		}
	}
}

func TestDurable(t *testing.T) {
	event := func(w *world, rev int64) *[]Event {
		s := &w.watch.Sessions[0]
		for i := range s.Batches {
			if s.Batches[i].Revision == rev {
				return &s.Batches[i].Events
			}
		}
		panic(fmt.Sprint("no revision ", rev))
	}
	for _, c := range []struct {
		name, rule, text string
		plant            func(w *world, final *Content)
	}{
		{"as it should be", "", "", func(*world, *Content) {}},
		{"another value", "an acknowledged write is lost", `the event of put "a"="1" is`, func(w *world, f *Content) { (*event(w, 2))[0].KV.Value = "x" }},
		{"another key", "an acknowledged write is lost", `"a"="1"`, func(w *world, f *Content) { (*event(w, 2))[0].KV.Key = "x" }},
		{"half a transaction", "an acknowledged write is lost", `there is no event of put "d"="4"`, func(w *world, f *Content) { *event(w, 5) = (*event(w, 5))[:2] }},
		{"more than a transaction", "an acknowledged write is lost", "does not ask for", func(w *world, f *Content) {
			*event(w, 5) = append(*event(w, 5), Event{Revision: 5, KV: KV{Key: "z", Create: 5, Mod: 5, Version: 1}})
		}},
		{"a deletion that kept a key", "an acknowledged write is lost", "there are 1 events of delete", func(w *world, f *Content) { *event(w, 7) = (*event(w, 7))[:1] }},
		{"the end is lost", "an acknowledged write is lost", "the last event is of revision 8", func(w *world, f *Content) {
			s := &w.watch.Sessions[0]
			s.Batches = s.Batches[:len(s.Batches)-1]
		}},
		{"one revision twice", "one revision for two writes", "revision 2", func(w *world, f *Content) { w.history[3].Answer.Revision = 2 }},
		{"nobody asked", "an invented revision", `"lost"`, func(w *world, f *Content) { w.history[5].Request.Value = "other" }},
		{"asked once, done twice", "an invented revision", "revision 10", func(w *world, f *Content) {
			s := &w.watch.Sessions[0]
			s.Batches = append(s.Batches, Batch{Revision: 10, Events: []Event{{Revision: 10, KV: KV{Key: "l", Value: "lost", Create: 7, Mod: 10, Version: 2}}}})
		}},
		{"a key too many", "a final state", "which is not there", func(w *world, f *Content) { f.KVs = append(f.KVs, KV{Key: "z"}) }},
		{"a key missing", "a final state", `member m at revision 9 lacks {"e"`, func(w *world, f *Content) { f.KVs = f.KVs[1:] }},
		{"a key as it was", "a final state", "version 1", func(w *world, f *Content) { f.KVs[0].Version = 7 }},
		{"a key twice", "a final state", "twice", func(w *world, f *Content) { f.KVs = append(f.KVs, f.KVs[0]) }},
		{"behind", "a final state", "member m is at revision 8, and client", func(w *world, f *Content) { f.Revision = 8 }},
		{"ahead", "a final state", "member m is at revision 12, and the last event", func(w *world, f *Content) { f.Revision = 12 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1, 1)
			w.do(Request{Kind: Put, Key: "a", Value: "1"})                                                                                                                                                // 2
			lease := w.do(Request{Kind: Grant}).Answer.Lease                                                                                                                                              //
			w.do(Request{Kind: Put, Key: "b", Value: "2", Lease: lease})                                                                                                                                  // 3
			w.do(Request{Kind: Put, Key: "a", Value: "3"})                                                                                                                                                // 4
			w.do(Request{Kind: Txn, Then: []Request{{Kind: Delete, Key: "a"}, {Kind: Range, Key: "b"}, {Kind: Delete, Key: "no"}, {Kind: Put, Key: "c", Value: "4"}, {Kind: Put, Key: "d", Value: "4"}}}) // 5
			lose(w.do(Request{Kind: Put, Key: "l", Value: "lost"}))                                                                                                                                       // 6
			w.do(Request{Kind: Delete, Key: "c", End: "e"})                                                                                                                                               // 7
			w.run(&Operation{Request: Request{Kind: Expire, Lease: lease}})                                                                                                                               // 8
			w.do(Request{Kind: Put, Key: "e", Value: "5"})                                                                                                                                                // 9
			// A request that never had any effect, and looks for one.
			w.history = append(w.history, Operation{Client: 9, Return: Never, Request: Request{Kind: Delete, Key: "c", End: "z"}})
			final := w.content("m")
			c.plant(w, &final)
			truth, _ := TruthOf([]Watch{w.watch}, 0)
			wantViolation(t, Durable(w.history, truth, []Content{final}), c.rule, c.text)
		})
	}
}

// TestDurableMatching wants each unanswered request to be used where no other fits.
func TestDurableMatching(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.do(Request{Kind: Put, Key: "a", Value: "1"})
	w.do(Request{Kind: Put, Key: "b", Value: "2"})
	w.do(Request{Kind: Put, Key: "c", Value: "3"})
	// What deletes a is asked for last; the first that fits could do more.
	w.run(&Operation{Request: Request{Kind: Delete, Key: "a"}})
	w.run(&Operation{Request: Request{Kind: Delete, Key: "b", End: "z"}})
	w.history = append(w.history,
		Operation{Call: 1, Return: Never, Request: Request{Kind: Delete, Key: "a", End: "z"}},
		Operation{Call: 2, Return: Never, Request: Request{Kind: Delete, Key: "a"}})
	if r := w.durable(w.content("m")); len(r.Violations) > 0 || r.Happened != 2 {
		t.Fatalf("%+v", r)
	}
	w.history = w.history[:len(w.history)-1]
	wantViolation(t, w.durable(), "an invented revision", "revision 6")
}
