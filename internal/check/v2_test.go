package check_test

import (
	"strings"
	"testing"

	"quorate.dev/quorate/internal/check"
)

// v2run is what a correct store does with a small history: a log, the events of it, and clients and watchers that saw it.
type v2run struct {
	entries  []check.V2Entry
	events   []check.V2Event
	ops      []check.V2Op
	sessions []check.V2Session
}

const second = 1_000_000_000

func file(key, value string, expires, ttl int64, modified, created uint64) check.V2Node {
	return check.V2Node{Key: key, Value: value, Shown: true, Expiration: expires, TTL: ttl, Modified: modified, Created: created}
}

func folder(key string, modified, created uint64) check.V2Node {
	return check.V2Node{Key: key, Dir: true, Modified: modified, Created: created}
}

func before(n check.V2Node) *check.V2Node { return &n }

// did adds an entry with its events, and a client's operation that asked for it if the request is one of a client.
func (r *v2run) did(at int64, q check.V2Request, refusal *check.V2Refusal, events ...check.V2Event) {
	q.Time = at * second
	e := check.V2Entry{Entry: uint64(10 + len(r.entries)), At: at, Request: &q, Refusal: refusal}
	o := check.V2Op{Client: 1, Via: "m1#1", Call: at - 1, Return: at + 1, Request: q, Refusal: refusal}
	if len(events) > 0 {
		e.Index = events[0].Index
		o.Event = &events[0]
	}
	if q.Method != "SYNC" {
		r.ops = append(r.ops, o)
	}
	r.entries, r.events = append(r.entries, e), append(r.events, events...)
}

// rightRun is a history without mistakes. Times are in seconds; the tree begins at index 4.
func rightRun() *v2run {
	r := &v2run{}
	r.did(10, check.V2Request{Method: "PUT", Path: "/1/d/a", Value: "x"}, nil,
		check.V2Event{Index: 5, Action: "set", Node: file("/1/d/a", "x", 0, 0, 5, 5)})
	r.did(20, check.V2Request{Method: "PUT", Path: "/1/d/a", Value: "y", PrevIndex: 5, TTL: 5, Expiration: 25 * second}, nil,
		check.V2Event{Index: 6, Action: "compareAndSwap", Node: file("/1/d/a", "y", 25*second, 5, 6, 5), Prev: before(file("/1/d/a", "x", 0, 0, 5, 5))})
	r.did(22, check.V2Request{Method: "PUT", Path: "/1/d/a", Value: "z", PrevValue: "x"}, &check.V2Refusal{Code: 101, Cause: "[x != y]", Index: 6})
	r.did(30, check.V2Request{Method: "SYNC"}, nil,
		check.V2Event{Index: 7, Action: "expire", Node: check.V2Node{Key: "/1/d/a", Modified: 7, Created: 5}, Prev: before(file("/1/d/a", "y", 25*second, -5, 6, 5))})
	r.did(40, check.V2Request{Method: "DELETE", Path: "/1/d", Recursive: true}, nil,
		check.V2Event{Index: 8, Action: "delete", Node: folder("/1/d", 8, 5), Prev: before(folder("/1/d", 5, 5))})
	r.sessions = []check.V2Session{
		{Name: "f1", Via: "m1#1", Path: "/1/d/a", Since: 5, Start: 4, Events: r.events[:1]},
		{Name: "f1", Via: "m2#1", Path: "/1/d/a", Since: 6, Start: 8, Events: r.events[1:2]},
		{Name: "f2", Via: "m2#1", Path: "/1/d", Recursive: true, Stream: true, Since: 5, Start: 4, Events: r.events, Complete: true},
		{Name: "f3", Via: "m2#1", Path: "/1/other", Since: 5, Start: 4, Complete: true},
	}
	return r
}

func (r *v2run) rules() check.V2Rules { return check.V2Rules{Second: 1, Error: 1, Bound: 3} }

// judge gives the rules that were broken.
func (r *v2run) judge() string {
	truth, report := check.V2Log(r.entries, r.events)
	all := report.Violations
	if len(all) == 0 {
		all = append(all, check.V2Linearizable(r.ops, truth).Violations...)
		all = append(all, check.V2Watches(r.sessions, truth, 1000).Violations...)
		all = append(all, check.V2Expiries(r.ops, truth, r.rules()).Violations...)
	}
	var rules []string
	for _, v := range all {
		rules = append(rules, v.Rule)
	}
	return strings.Join(rules, "; ")
}

func TestV2Right(t *testing.T) {
	if broken := rightRun().judge(); broken != "" {
		t.Errorf("a history without mistakes breaks %s", broken)
	}
}

func TestV2Mistakes(t *testing.T) {
	for _, c := range []struct {
		name, rule string
		spoil      func(*v2run)
	}{
		{"a comparison that did not hold was taken", "v2 decision", func(r *v2run) { r.entries[1].Request.PrevIndex = 4 }},
		{"a comparison that held was refused", "v2 decision", func(r *v2run) { r.entries[2].Request.PrevValue = "y" }},
		{"the cause of a refusal is wrong", "v2 decision", func(r *v2run) { r.entries[2].Refusal = &check.V2Refusal{Code: 101, Cause: "[x != x]", Index: 6} }},
		{"a set keeps the index of creation", "v2 event", func(r *v2run) { r.events[0].Node.Created = 4 }},
		{"what has not expired is removed", "v2 decision", func(r *v2run) { r.entries[3].Request.Time = 24 * second }},
		{"an event that nothing causes", "v2 event", func(r *v2run) {
			r.events = append(r.events, check.V2Event{Index: 9, Action: "set", Node: file("/1/b", "", 0, 0, 9, 9)})
		}},
		{"an event is missing", "v2 event", func(r *v2run) { r.events = r.events[:3] }},
		{"a change of the cluster takes no index", "v2 event", func(r *v2run) {
			r.entries = append(r.entries, check.V2Entry{Entry: 20, Cluster: 1})
		}},
		{"keys of another mode", "v2 keys", func(r *v2run) { r.entries[0].Changes = []check.V2Change{{Key: "/d/a", Value: "x"}} }},
		{"an answer is not what happened", "v2 linearizability", func(r *v2run) {
			r.ops[0].Event = &check.V2Event{Index: 5, Action: "set", Node: file("/1/d/a", "q", 0, 0, 5, 5)}
		}},
		{"a write is lost", "an acknowledged v2 write is lost", func(r *v2run) {
			o := r.ops[0]
			o.Event = &check.V2Event{Index: 9, Action: "set", Node: file("/1/d/a", "x", 0, 0, 9, 9)}
			r.ops = append(r.ops, o)
		}},
		{"a write happens twice", "a v2 effect without a cause", func(r *v2run) { r.ops = r.ops[1:] }},
		{"two writes of one index", "one v2 index for two writes", func(r *v2run) { r.ops = append(r.ops, r.ops[0]) }},
		{"a reading of the past", "v2 real time", func(r *v2run) {
			e := check.V2Event{Index: 5, Action: "get", Node: file("/1/d/a", "x", 0, 0, 5, 5)}
			r.ops = append(r.ops, check.V2Op{Client: 2, Call: 35, Return: 36, Request: check.V2Request{Method: "GET", Path: "/1/d/a", Time: 35 * second}, Event: &e})
		}},
		{"a reading of what was not yet", "v2 linearizability", func(r *v2run) {
			e := check.V2Event{Index: 5, Action: "get", Node: file("/1/d/a", "x", 0, 0, 5, 5)}
			r.ops = append(r.ops, check.V2Op{Client: 2, Call: 1, Return: 2, Local: true, Request: check.V2Request{Method: "GET", Path: "/1/d/a"}, Event: &e})
		}},
		{"a reading with a value that is not there", "v2 linearizability", func(r *v2run) {
			e := check.V2Event{Index: 6, Action: "get", Node: file("/1/d/a", "x", 0, 0, 5, 5)}
			r.ops = append(r.ops, check.V2Op{Client: 2, Call: 25, Return: 26, Local: true, Request: check.V2Request{Method: "GET", Path: "/1/d/a"}, Event: &e})
		}},
		{"a watcher misses an event", "v2 watch, reliable", func(r *v2run) { r.sessions[1].Events = r.events[3:4] }},
		{"a watcher waits although there is one", "v2 watch, reliable", func(r *v2run) { r.sessions[3].Path = "/1/d" }},
		{"a stream misses the last event", "v2 watch, reliable", func(r *v2run) { r.sessions[2].Events = r.events[:3] }},
		{"a stream gets an event twice", "v2 watch, unique", func(r *v2run) {
			r.sessions[2].Events = append([]check.V2Event{r.events[0], r.events[0]}, r.events[1:]...)
		}},
		{"a watcher gets an event of another path", "v2 watch", func(r *v2run) { r.sessions[3].Events, r.sessions[3].Complete = r.events[:1], false }},
		{"a watcher is sent away without cause", "v2 watch, history", func(r *v2run) { r.sessions[3].Refusal = &check.V2Refusal{Code: 401, Index: 8} }},
		{"a watcher is served from a history that is gone", "v2 watch, history", func(r *v2run) { r.sessions[3].Start = 1005 }},
		{"something expires early", "v2 expiry that is early", func(r *v2run) {
			r.ops[1].Request.TTL = 50
		}},
	} {
		r := rightRun()
		c.spoil(r)
		if got := r.judge(); !strings.HasPrefix(got, c.rule) {
			t.Errorf("%s: rules broken: %q, want %q first", c.name, got, c.rule)
		}
	}
}

// A removal may come twice to a stream on what is removed, as in etcd, and not three times.
func TestV2RemovalTwice(t *testing.T) {
	r := rightRun()
	s := &r.sessions[2]
	s.Events = append(s.Events[:4:4], r.events[3])
	if broken := r.judge(); broken != "" {
		t.Errorf("a removal that comes twice breaks %s", broken)
	}
	s.Events = append(s.Events, r.events[3])
	if broken := r.judge(); broken != "v2 watch, unique" {
		t.Errorf("a removal that comes three times breaks %q", broken)
	}
}

func TestV2ExpiryLate(t *testing.T) {
	r := rightRun()
	truth, _ := check.V2Log(r.entries, r.events)
	rules := r.rules()
	rules.Stable = []check.Span{{From: 0, To: 100}}
	rules.Overdue = []check.V2Due{{At: 1, Via: "m1", Clock: 10, Due: 5}, {At: 3, Via: "m1", Clock: 12, Due: 5}}
	if v := check.V2Expiries(r.ops, truth, rules).Violations; len(v) > 0 {
		t.Errorf("something that is overdue for 2 instants: %v", v)
	}
	rules.Overdue = append(rules.Overdue, check.V2Due{At: 4, Via: "m1", Clock: 13, Due: 5})
	if v := check.V2Expiries(r.ops, truth, rules).Violations; len(v) != 1 {
		t.Errorf("something that is overdue for 3 instants, which is the bound: %v", v)
	}
	rules.Stable = []check.Span{{From: 2, To: 100}}
	if v := check.V2Expiries(r.ops, truth, rules).Violations; len(v) > 0 {
		t.Errorf("another member led before: %v", v)
	}
}

func TestV2Shared(t *testing.T) {
	keys := map[string]string{"/a": "1", "/d": "2", "/a/b": "3", "/x//y": "4"}
	files := map[string]string{"/1/a": "1", "/1/d/c": "5"}
	keys["/d/c"] = "5"
	if v := check.V2Shared("m1", keys, files, []string{"/1/d"}).Violations; len(v) > 0 {
		t.Errorf("keys that are shown as far as they can be: %v", v)
	}
	if v := check.V2Shared("m1", keys, files, nil).Violations; len(v) != 1 {
		t.Errorf("/d is not shown and nothing is in its way: %v", v)
	}
	files["/1/a"] = "other"
	if v := check.V2Shared("m1", keys, files, []string{"/1/d"}).Violations; len(v) != 1 {
		t.Errorf("/a has another value as a file: %v", v)
	}
}

func TestV2SharedLog(t *testing.T) {
	r := &v2run{}
	r.entries = []check.V2Entry{
		{Entry: 9, At: 1, Changes: []check.V2Change{{Key: "/a", Value: "1"}}},
		{Entry: 10, At: 2, Request: &check.V2Request{Method: "MODE", Value: "shared"}, Index: 5},
		{Entry: 11, At: 3, Changes: []check.V2Change{{Key: "/a/b", Value: "2"}}}, // has no place
		{Entry: 12, At: 4, Request: &check.V2Request{Method: "DELETE", Path: "/1/a"}, Index: 6, Changes: []check.V2Change{{Key: "/a", Delete: true}}},
	}
	r.events = []check.V2Event{
		{Index: 5, Action: "set", Node: file("/1/a", "1", 0, 0, 5, 5)},
		{Index: 6, Action: "delete", Node: check.V2Node{Key: "/1/a", Modified: 6, Created: 5}, Prev: before(file("/1/a", "1", 0, 0, 5, 5))},
		{Index: 7, Action: "set", Node: file("/1/a/b", "2", 0, 0, 7, 7)}, // and now it has
	}
	if _, report := check.V2Log(r.entries, r.events); len(report.Violations) > 0 {
		t.Fatalf("a shared tree: %v", report.Violations)
	}
	if _, report := check.V2Log(r.entries, r.events[:2]); len(report.Violations) != 1 {
		t.Errorf("a key that is not shown when it has a place: %v", report.Violations)
	}
	r.entries[3].Changes = nil
	if _, report := check.V2Log(r.entries, r.events); len(report.Violations) != 1 || report.Violations[0].Rule != "v2 keys" {
		t.Errorf("a file that goes and leaves its key: %v", report.Violations)
	}
}

// TestV2ModeRefused: whether shared mode is refused depends on v3 keys, which change while the index stands still.
func TestV2ModeRefused(t *testing.T) {
	r := &v2run{}
	r.did(1, check.V2Request{Method: "PUT", Path: "/1/a", Value: "1"}, nil, check.V2Event{Index: 5, Action: "set", Node: file("/1/a", "1", 0, 0, 5, 5)})
	r.entries = append(r.entries, check.V2Entry{Entry: 20, At: 2, Changes: []check.V2Change{{Key: "/a", Value: "2"}}})
	const cause = `the v2 file and the v3 key "/a" have different values: make them equal or remove one`
	r.did(3, check.V2Request{Method: "MODE", Value: "shared"}, &check.V2Refusal{Code: 101, Cause: cause, Index: 5})
	r.entries = append(r.entries, check.V2Entry{Entry: 30, At: 4, Changes: []check.V2Change{{Key: "/a", Value: "1"}}})
	if got := r.judge(); got != "" {
		t.Errorf("a right refusal: %s", got)
	}
	r.ops[1].Call, r.ops[1].Return = 3+1, 9
	if got := r.judge(); got != "v2 linearizability" {
		t.Errorf("a refusal from before the request: %q", got)
	}
}

func TestV2Indices(t *testing.T) {
	right := []check.V2Sample{{Via: "m1#1", From: 1, To: 3, Index: 6}, {Via: "m1#1", From: 2, To: 4, Index: 5}, {Via: "m1#2", From: 5, To: 6, Index: 4}}
	if v := check.V2Indices(right).Violations; len(v) > 0 {
		t.Errorf("answers that overlap, and another life: %v", v)
	}
	if v := check.V2Indices(append(right, check.V2Sample{Via: "m1#1", From: 4, To: 5, Index: 5})).Violations; len(v) != 1 {
		t.Errorf("index 5 after index 6: %v", v)
	}
}

func TestV2Contents(t *testing.T) {
	r := rightRun()
	truth, _ := check.V2Log(r.entries, r.events)
	for _, c := range []struct {
		content check.V2Content
		wrong   bool
	}{
		{check.V2Content{Member: "m1", Index: 6, Files: map[string]string{"/1/d/a": "y"}}, false},
		{check.V2Content{Member: "m1", Index: 6, Files: map[string]string{"/1/d/a": "x"}}, true},
		{check.V2Content{Member: "m1", Index: 6}, true},
		{check.V2Content{Member: "m1", Index: 8, Files: map[string]string{"/1/d/a": "y"}}, true},
		{check.V2Content{Member: "m1", Index: 9}, true},
	} {
		if v := check.V2Contents([]check.V2Content{c.content}, truth).Violations; (len(v) > 0) != c.wrong {
			t.Errorf("%v: %v", c.content, v)
		}
	}
}

// Two things expire with one entry, and the second makes room for a v3 key: who watches the key does not get the second expiration.
func TestV2WatchAmongEvents(t *testing.T) {
	r := &v2run{}
	r.entries = []check.V2Entry{
		{Entry: 10, At: 1, Request: &check.V2Request{Method: "MODE", Value: "shared"}, Index: 4},
		{Entry: 11, At: 2, Request: &check.V2Request{Method: "PUT", Path: "/1/b", Value: "1", Expiration: 8 * second, Time: second}, Index: 5, Changes: []check.V2Change{{Key: "/b", Value: "1"}}},
		{Entry: 12, At: 3, Request: &check.V2Request{Method: "PUT", Path: "/1/a", Value: "2", Expiration: 9 * second, Time: second}, Index: 6, Changes: []check.V2Change{{Key: "/a", Value: "2"}}},
		{Entry: 13, At: 4, Changes: []check.V2Change{{Key: "/a/x", Value: "3"}}},
		{Entry: 14, At: 5, Request: &check.V2Request{Method: "SYNC", Time: 9 * second}, Index: 9, Changes: []check.V2Change{{Key: "/b", Delete: true}, {Key: "/a", Delete: true}}},
	}
	r.events = []check.V2Event{
		{Index: 5, Action: "set", Node: file("/1/b", "1", 8*second, 7, 5, 5)},
		{Index: 6, Action: "set", Node: file("/1/a", "2", 9*second, 8, 6, 6)},
		{Index: 7, Action: "expire", Node: check.V2Node{Key: "/1/b", Modified: 7, Created: 5}, Prev: before(file("/1/b", "1", 8*second, -1, 5, 5))},
		{Index: 8, Action: "expire", Node: check.V2Node{Key: "/1/a", Modified: 8, Created: 6}, Prev: before(file("/1/a", "2", 9*second, 0, 6, 6))},
		{Index: 9, Action: "set", Node: file("/1/a/x", "3", 0, 0, 9, 9)},
	}
	truth, report := check.V2Log(r.entries, r.events)
	if len(report.Violations) > 0 {
		t.Fatal(report.Violations)
	}
	watched := []check.V2Session{{Name: "f1", Via: "m1#1", Path: "/1/a/x", Since: 5, Start: 4, Events: r.events[4:]}}
	if v := check.V2Watches(watched, truth, 1000).Violations; len(v) > 0 {
		t.Error(v)
	}
}
