package check

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// world makes histories that are true: it executes each operation at an instant between its call and its return.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	now     int64
	state   *state
	history []Operation
	watch   Watch
	free    []int64 // when each client is free again
}

func newWorld(t *testing.T, seed uint64, clients int) *world {
	return &world{t: t, rng: rand.New(rand.NewPCG(seed, 1)), state: genesis(), free: make([]int64, clients),
		watch: Watch{Name: "all", Key: "\x00", End: "\x00", Sessions: []Session{{Via: "m1", From: 1, Created: 1}}}}
}

// do lets a client that is free ask r, and returns the recorded operation.
func (w *world) do(r Request) *Operation {
	client := w.rng.IntN(len(w.free))
	for i := range w.free {
		if w.free[client] < w.now {
			break
		}
		client = (client + i) % len(w.free)
	}
	w.now = max(w.now, w.free[client]) + 1 + int64(w.rng.IntN(10))
	call := max(w.free[client]+1, w.now-int64(w.rng.IntN(100)))
	o := Operation{Client: client, Call: call, Return: w.now + int64(w.rng.IntN(100)), Request: r}
	w.free[client] = o.Return
	w.run(&o)
	w.history = append(w.history, o)
	return &w.history[len(w.history)-1]
}

func (w *world) run(o *Operation) {
	lease := int64(0)
	if o.Request.Kind == Grant {
		lease = int64(1000 + len(w.history))
	}
	next, answer, events := w.state.execute(o.Request, lease)
	o.Answer = answer
	w.state = next
	if len(events) > 0 {
		s := &w.watch.Sessions[0]
		s.Batches = append(s.Batches, Batch{Revision: next.rev, Events: events})
	}
}

// lose makes the outcome of an operation unknown.
func lose(o *Operation) { o.Return, o.Answer = Never, Answer{} }

func (w *world) random(n int) {
	var leases []int64
	for i := range n {
		key := func() string { return fmt.Sprintf("k%02d", w.rng.IntN(20)) }
		put := Request{Kind: Put, Key: key(), Value: fmt.Sprintf("v%d", i)}
		switch kind := w.rng.IntN(20); {
		case kind < 7:
			w.do(put)
		case kind < 8:
			w.do(Request{Kind: Delete, Key: key()})
		case kind < 12:
			w.do(Request{Kind: Range, Key: key()})
		case kind < 13:
			w.do(Request{Kind: Range, Key: "k", End: "l", Limit: 5})
		case kind < 14:
			w.do(Request{Kind: Range, Key: "k", End: "l", Stale: true})
		case kind < 15:
			leases = append(leases, w.do(Request{Kind: Grant}).Answer.Lease)
		case kind < 16 && len(leases) > 0:
			put.Lease = leases[w.rng.IntN(len(leases))]
			w.do(put)
		case kind < 17 && len(leases) > 0:
			o := w.do(Request{Kind: Revoke, Lease: leases[w.rng.IntN(len(leases))]})
			if w.rng.IntN(3) == 0 {
				lose(o)
			}
		case kind < 18 && w.state.rev > 10:
			w.do(Request{Kind: Range, Key: key(), Revision: w.state.rev - int64(w.rng.IntN(10))})
		default:
			old, _ := w.state.keys.get(put.Key)
			mod := old.Mod
			if w.rng.IntN(3) == 0 {
				mod++
			}
			o := w.do(Request{Kind: Txn, If: []Compare{{Key: put.Key, Target: ByMod, Relation: '=', Number: mod}},
				Then: []Request{put, {Kind: Delete, Key: key() + "x"}}, Else: []Request{{Kind: Range, Key: put.Key}}})
			if w.rng.IntN(5) == 0 {
				lose(o)
			}
		}
		if w.rng.IntN(50) == 0 {
			lose(w.do(Request{Kind: Put, Key: key(), Value: fmt.Sprintf("lost%d", i)}))
			// And one that never happened.
			w.history = append(w.history, Operation{Client: 99, Call: w.now, Return: Never, Request: Request{Kind: Put, Key: key(), Value: fmt.Sprintf("never%d", i)}})
		}
	}
}

func (w *world) check() Report {
	w.t.Helper()
	truth, report := TruthOf([]Watch{w.watch}, 0)
	for _, v := range report.Violations {
		w.t.Errorf("the truth: %v", v)
	}
	return Linearizable(w.history, truth, time.Minute)
}

func TestGoodHistories(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(t, seed, 10)
		w.random(400)
		r := w.check()
		if len(r.Violations) > 0 || r.Verdict != "Ok" {
			t.Fatalf("seed %d: %+v", seed, r)
		}
		if r.Happened == 0 {
			t.Errorf("seed %d: no operation of unknown outcome was found to have happened", seed)
		}
	}
}

// TestLongHistory is the size that a run of a minute has.
func TestLongHistory(t *testing.T) {
	w := newWorld(t, 7, 30)
	n := 20000
	if testing.Short() {
		n = 4000
	}
	w.random(n)
	r := w.check()
	if len(r.Violations) > 0 || r.Verdict != "Ok" {
		t.Fatalf("%+v", r)
	}
	t.Logf("%d operations, %d revisions, %d of unknown outcome happened: %s", r.Operations, r.Writes, r.Happened, r.Verdict)
}

// script is a history written by hand: each operation at its own instant, one after another.
func script(t *testing.T) *world {
	w := newWorld(t, 1, 1)
	w.do(Request{Kind: Put, Key: "a", Value: "1"})                                                  // 0: revision 2
	w.do(Request{Kind: Put, Key: "b", Value: "2"})                                                  // 1: revision 3
	w.do(Request{Kind: Range, Key: "a"})                                                            // 2
	w.do(Request{Kind: Put, Key: "a", Value: "3", Prev: true})                                      // 3: revision 4
	w.do(Request{Kind: Range, Key: "a", End: "c"})                                                  // 4
	w.do(Request{Kind: Grant})                                                                      // 5
	w.do(Request{Kind: Put, Key: "l", Value: "4", Lease: 1005})                                     // 6: revision 5
	w.do(Request{Kind: Revoke, Lease: 1005})                                                        // 7: revision 6
	w.do(Request{Kind: Put, Key: "l", Value: "5", Lease: 1005})                                     // 8: refused
	w.do(Request{Kind: Delete, Key: "a", End: "c"})                                                 // 9: revision 7
	w.do(Request{Kind: Txn, If: []Compare{{Key: "z", Target: ByVersion, Relation: '=', Number: 0}}, // 10: revision 8
		Then: []Request{{Kind: Put, Key: "x", Value: "6"}, {Kind: Put, Key: "y", Value: "7"}}})
	w.do(Request{Kind: Range, Key: "a", End: "z", Limit: 1})    // 11
	w.do(Request{Kind: Compact, Revision: 5})                   // 12
	w.do(Request{Kind: Range, Key: "a", Revision: 3})           // 13: refused
	w.do(Request{Kind: Range, Key: "a", End: "z", Revision: 5}) // 14
	w.do(Request{Kind: Range, Key: "x", Stale: true})           // 15
	return w
}

func TestPlantedViolations(t *testing.T) {
	if r := script(t).check(); len(r.Violations) > 0 || r.Verdict != "Ok" {
		t.Fatalf("without a fault: %+v", r)
	}
	for _, c := range []struct {
		name  string
		plant func(h []Operation, w *world)
		text  string // of the operation at fault
		why   string
	}{
		{"an old value read", func(h []Operation, _ *world) { h[4].Answer.KVs[0] = h[2].Answer.KVs[0] }, `get ["a", "c")`, "which must be"},
		{"a read from the past", func(h []Operation, _ *world) {
			h[4].Answer = Answer{Revision: 3, KVs: []KV{h[2].Answer.KVs[0], h[4].Answer.KVs[1]}, Count: 2}
		}, `get ["a", "c")`, "is from the past"},
		{"a write from the past", func(h []Operation, _ *world) {
			h[1].Call, h[1].Return, h[0].Call, h[0].Return = h[0].Call, h[0].Return, h[1].Call, h[1].Return
		}, `put "b"="2"`, "is from the past"},
		{"a value nobody wrote", func(h []Operation, _ *world) { h[2].Answer.KVs[0].Value = "9" }, `get "a"`, "which must be"},
		{"a key missing", func(h []Operation, _ *world) { h[4].Answer.KVs = h[4].Answer.KVs[:1] }, `get ["a", "c")`, "lacks"},
		{"a key too many", func(h []Operation, _ *world) {
			h[2].Answer.KVs = append(h[2].Answer.KVs, KV{Key: "q"})
		}, `get "a"`, "which is not there"},
		{"a wrong version", func(h []Operation, _ *world) { h[4].Answer.KVs[0].Version = 1 }, `get ["a", "c")`, "version 2"},
		{"a wrong creation", func(h []Operation, _ *world) { h[4].Answer.KVs[0].Create = 4 }, `get ["a", "c")`, "create 2"},
		{"a wrong modification", func(h []Operation, _ *world) { h[4].Answer.KVs[1].Mod = 4 }, `get ["a", "c")`, "mod 3"},
		{"a wrong count", func(h []Operation, _ *world) { h[4].Answer.Count = 5 }, `get ["a", "c")`, "counts 5"},
		{"more forgotten", func(h []Operation, _ *world) { h[11].Answer.More = false }, "limit 1", "more=false"},
		{"previous value wrong", func(h []Operation, _ *world) { h[3].Answer.KVs[0].Value = "2" }, `put "a"="3"`, "which must be"},
		{"one revision twice", func(h []Operation, _ *world) { h[1].Answer.Revision = 2 }, `put "b"="2"`, "revision 2 was given to"},
		{"an acknowledged write lost", func(h []Operation, w *world) {
			w.watch.Sessions[0].Batches[1].Events = nil
		}, `put "b"="2"`, "no watch saw"},
		{"a write with another effect", func(h []Operation, w *world) {
			w.watch.Sessions[0].Batches[1].Events[0].KV.Value = "9"
		}, `put "b"="2"`, "watches saw"},
		{"an effect without a cause", func(h []Operation, w *world) {
			w.watch.Sessions[0].Batches = append(w.watch.Sessions[0].Batches, Batch{Revision: 9, Events: []Event{
				{Revision: 9, KV: KV{Key: "b", Value: "2", Create: 9, Mod: 9, Version: 1}}}})
		}, `"b"="2"`, "no recorded operation"},
		{"a hole", func(h []Operation, w *world) {
			w.watch.Sessions[0].Batches = w.watch.Sessions[0].Batches[:4]
			lose(&h[10])
		}, "revision", "is in no answer and in no watch"},
		{"a wrong delete count", func(h []Operation, _ *world) { h[9].Answer.Count = 1 }, `delete ["a", "c")`, "counts 1"},
		{"the wrong branch", func(h []Operation, _ *world) { h[10].Answer.Succeeded = false; h[10].Answer.Revision = 7 }, `txn if`, "conditions"},
		{"a revoked lease accepted", func(h []Operation, w *world) {
			h[8].Answer = Answer{Revision: 7}
		}, `put "l"="5" lease`, LeaseNotFound},
		{"a lease lost that holds keys", func(h []Operation, w *world) {
			kv := KV{Key: "l", Value: "4", Create: 5, Mod: 5, Version: 1, Lease: 1005}
			w.history = append(h[:7:7],
				Operation{Client: 1, Call: h[7].Call, Return: h[7].Return, Request: Request{Kind: Put, Key: "q", Lease: 1005}, Answer: Answer{Refusal: LeaseNotFound}},
				Operation{Client: 1, Call: h[8].Call, Return: h[8].Return, Request: Request{Kind: Range, Key: "l"}, Answer: Answer{Revision: 5, Count: 1, KVs: []KV{kv}}})
			w.watch.Sessions[0].Batches = w.watch.Sessions[0].Batches[:4]
		}, `put "q"=""`, "holds keys"},
		{"a compacted revision read", func(h []Operation, _ *world) {
			h[13].Answer = Answer{Revision: 8, KVs: []KV{{Key: "a", Value: "1", Create: 2, Mod: 2, Version: 1}}, Count: 1}
		}, `get "a" at revision 3`, Compacted},
		{"a read refused for nothing", func(h []Operation, _ *world) { h[14].Answer = Answer{Refusal: Compacted} }, `at revision 5`, "nothing forbids it"},
		{"a serializable read of what never was", func(h []Operation, _ *world) { h[15].Answer.KVs[0].Value = "8" }, `get "x" serializable`, "which must be"},
		{"a serializable read of the future", func(h []Operation, _ *world) { h[15].Return = 1; h[15].Call = 0 }, `get "x" serializable`, "made later"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := script(t)
			c.plant(w.history, w)
			truth, _ := TruthOf([]Watch{w.watch}, 0)
			r := Linearizable(w.history, truth, time.Minute)
			for _, v := range r.Violations {
				if strings.Contains(v.Text, c.text) && strings.Contains(v.Text, c.why) {
					return
				}
			}
			t.Fatalf("no violation names %q and says %q: %v", c.text, c.why, r.Violations)
		})
	}
}

// TestConcurrentOrderIsFree checks that operations that overlap may have any order, and that what does not may not.
func TestConcurrentOrderIsFree(t *testing.T) {
	h := []Operation{
		{Client: 1, Call: 1, Return: 10, Request: Request{Kind: Put, Key: "a", Value: "1"}, Answer: Answer{Revision: 3}},
		{Client: 2, Call: 2, Return: 9, Request: Request{Kind: Put, Key: "a", Value: "2"}, Answer: Answer{Revision: 2}},
		{Client: 3, Call: 3, Return: 8, Request: Request{Kind: Range, Key: "a"}, Answer: Answer{Revision: 1}},
	}
	if r := Linearizable(h, nil, time.Minute); len(r.Violations) > 0 {
		t.Fatal(r.Violations)
	}
	h[1].Call = 11
	h[1].Return = 12
	if r := Linearizable(h, nil, time.Minute); len(r.Violations) == 0 {
		t.Fatal("a write that came later has the lower revision, and nothing was said")
	}
}

// TestLeaseExpires checks that a lease may end by itself, with its keys and without.
func TestLeaseExpires(t *testing.T) {
	w := newWorld(t, 3, 1)
	first := w.do(Request{Kind: Grant}).Answer.Lease
	second := w.do(Request{Kind: Grant}).Answer.Lease
	w.do(Request{Kind: Put, Key: "a", Value: "1", Lease: first})
	w.do(Request{Kind: Expire, Lease: first})
	w.do(Request{Kind: Expire, Lease: second})
	w.do(Request{Kind: Range, Key: "a"})
	w.do(Request{Kind: Put, Key: "b", Value: "2", Lease: second})
	w.do(Request{Kind: Put, Key: "b", Value: "3", Lease: first})
	w.history = append(w.history[:3], w.history[5:]...)
	if r := w.check(); len(r.Violations) > 0 || r.Expired != 1 || r.Verdict != "Ok" {
		t.Fatalf("%+v", r)
	}
}

// TestExpiryBeforeLaterDelete checks that what a lease's end did is not taken for a deletion of unknown outcome that was
// asked for later.
func TestExpiryBeforeLaterDelete(t *testing.T) {
	w := newWorld(t, 3, 1)
	lease := w.do(Request{Kind: Grant}).Answer.Lease
	w.do(Request{Kind: Put, Key: "a", Value: "1", Lease: lease})
	w.do(Request{Kind: Expire, Lease: lease})
	w.do(Request{Kind: Put, Key: "b", Value: "2"})
	w.do(Request{Kind: Put, Key: "a", Value: "3"})
	lose(w.do(Request{Kind: Delete, Key: "a"}))
	w.history = append(w.history[:2], w.history[3:]...)
	if r := w.check(); len(r.Violations) > 0 || r.Expired != 1 || r.Happened != 1 || r.Verdict != "Ok" {
		t.Fatalf("%+v", r)
	}
}

// TestRevokeAfterUnknownDelete checks that a revocation, whose answer does not tell whether it had an effect, is not taken for what
// others had seen before it was called.
func TestRevokeAfterUnknownDelete(t *testing.T) {
	w := newWorld(t, 3, 1)
	lease := w.do(Request{Kind: Grant}).Answer.Lease
	w.do(Request{Kind: Put, Key: "a", Value: "1", Lease: lease})
	lose(w.do(Request{Kind: Delete, Key: "a"}))
	w.do(Request{Kind: Range, Key: "a"})
	w.do(Request{Kind: Revoke, Lease: lease})
	if r := w.check(); len(r.Violations) > 0 || r.Happened != 1 || r.Verdict != "Ok" {
		t.Fatalf("%+v", r)
	}
}

// TestUnknownDeleteBeforeLateRevoke checks that the effect of a deletion of unknown outcome is not taken for that of a revocation of
// unknown outcome when the lease was there afterwards.
func TestUnknownDeleteBeforeLateRevoke(t *testing.T) {
	w := newWorld(t, 3, 1)
	lease := w.do(Request{Kind: Grant}).Answer.Lease
	w.do(Request{Kind: Put, Key: "a", Value: "1", Lease: lease})
	lose(w.do(Request{Kind: Delete, Key: "a"}))
	w.do(Request{Kind: Put, Key: "b", Value: "2", Lease: lease})
	late := w.do(Request{Kind: Revoke, Lease: lease})
	lose(late)
	late.Call = w.history[1].Call
	if r := w.check(); len(r.Violations) > 0 || r.Verdict != "Ok" {
		t.Fatalf("%+v", r)
	}
}

// TestExpiryBeforeLateEffect checks that what a lease's end did is not taken for a deletion of unknown outcome that had been
// asked for, but had its effect later.
func TestExpiryBeforeLateEffect(t *testing.T) {
	w := newWorld(t, 3, 1)
	lease := w.do(Request{Kind: Grant}).Answer.Lease
	w.do(Request{Kind: Put, Key: "a", Value: "1", Lease: lease})
	w.do(Request{Kind: Expire, Lease: lease})
	w.do(Request{Kind: Put, Key: "a", Value: "3"})
	late := w.do(Request{Kind: Delete, Key: "a"})
	lose(late)
	late.Call = w.history[1].Call
	w.history = append(w.history[:2], w.history[3:]...)
	if r := w.check(); len(r.Violations) > 0 || r.Expired != 1 || r.Happened != 1 || r.Verdict != "Ok" {
		t.Fatalf("%+v", r)
	}
}

// TestUnknownCompaction checks that a compaction of unknown outcome excuses reads on both sides.
func TestUnknownCompaction(t *testing.T) {
	w := newWorld(t, 3, 1)
	for i := range 5 {
		w.do(Request{Kind: Put, Key: "a", Value: fmt.Sprint(i)})
	}
	lose(w.do(Request{Kind: Compact, Revision: 4}))
	w.do(Request{Kind: Range, Key: "a", Revision: 3})
	if w.history[6].Answer.Refusal != Compacted {
		t.Fatalf("%+v", w.history[6])
	}
	w.do(Request{Kind: Compact, Revision: 4})
	if r := w.check(); len(r.Violations) > 0 {
		t.Fatalf("%+v", r)
	}
	w.do(Request{Kind: Range, Key: "a", Revision: 5}).Answer = Answer{Refusal: Compacted}
	if r := w.check(); len(r.Violations) == 0 {
		t.Fatal("a read above every compaction was refused, and nothing was said")
	}
}

// TestGuessesAreExchanged has two deletions without an answer, of which the one that was asked first can have made both revisions, and the
// other only the first of them.
func TestGuessesAreExchanged(t *testing.T) {
	h := []Operation{
		{Client: 1, Call: 1, Return: Never, Request: Request{Kind: Delete, Key: "b", End: "c"}},
		{Client: 2, Call: 2, Return: Never, Request: Request{Kind: Delete, Key: "a", End: "c"}},
		{Client: 3, Call: 3, Return: 4, Request: Request{Kind: Put, Key: "b", Value: "1"}, Answer: Answer{Revision: 2}},
		{Client: 3, Call: 5, Return: 6, Request: Request{Kind: Put, Key: "a", Value: "1"}, Answer: Answer{Revision: 4}},
		{Client: 3, Call: 7, Return: 8, Request: Request{Kind: Put, Key: "b", Value: "2"}, Answer: Answer{Revision: 5}},
	}
	put := func(key, value string, rev int64) Event {
		return Event{Revision: rev, KV: KV{Key: key, Value: value, Create: rev, Mod: rev, Version: 1}}
	}
	gone := func(key string, rev int64) Event {
		return Event{Revision: rev, Delete: true, KV: KV{Key: key, Mod: rev}}
	}
	events := []Event{put("b", "1", 2), gone("b", 3), put("a", "1", 4), put("b", "2", 5), gone("b", 6)}
	s := Session{Via: "m1", From: 1, Created: 1}
	for _, e := range events {
		s.Batches = append(s.Batches, Batch{Revision: e.Revision, Events: []Event{e}})
	}
	truth, _ := TruthOf([]Watch{{Name: "all", Key: "\x00", End: "\x00", Sessions: []Session{s}}}, 0)
	if r := Linearizable(h, truth, time.Minute); len(r.Violations) > 0 {
		t.Fatal(r.Violations)
	}
	h[1].Request.Key = "a0" // neither can have made what is left
	if r := Linearizable(append(h[:1:1], h[2:]...), truth, time.Minute); len(r.Violations) == 0 {
		t.Fatal("one deletion made two revisions")
	}
}
