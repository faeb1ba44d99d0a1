package check

import (
	"fmt"
	"sort"
)

// Event is one change of one key. Revision is the revision of the change; Prev is what was there before, if it was asked
// for or is known. The KV of a deletion holds the key and Mod only.
type Event struct {
	Revision int64
	Delete   bool
	KV       KV
	Prev     *KV
}

// String is the event in one line.
func (e Event) String() string {
	if e.Delete {
		return fmt.Sprintf("[%d delete %q]", e.Revision, e.KV.Key)
	}
	return fmt.Sprintf("[%d put %v]", e.Revision, e.KV)
}

// same compares two events but for Prev, which only some ask for.
func (e Event) same(o Event) bool {
	return e.Revision == o.Revision && e.Delete == o.Delete && e.KV == o.KV
}

// sameEvents compares what a write causes with what watches saw of it, and is empty when it is the same.
func sameEvents(want, seen []Event) string {
	for i := range max(len(want), len(seen)) {
		switch {
		case i >= len(seen):
			return fmt.Sprintf("no watch saw %v", want[i])
		case i >= len(want):
			return fmt.Sprintf("watches saw %v, which it does not cause", seen[i])
		case !want[i].same(seen[i]):
			return fmt.Sprintf("it causes %v, watches saw %v", want[i], seen[i])
		}
	}
	return ""
}

// Truth is the set of all events, revision by revision.
type Truth struct {
	// Compacted is the highest revision that a compaction was asked for. Events up to it may come without their Prev.
	Compacted int64

	events    map[int64][]Event
	revisions []int64 // sorted
	report    Report
}

// TruthOf merges what all watches saw. Where two saw different things, the first is believed, and the report says so. A
// watch whose Key and End span everything is looked at first.
func TruthOf(watches []Watch, compacted int64) (*Truth, Report) {
	t := &Truth{Compacted: compacted, events: map[int64][]Event{}}
	source := map[int64]string{}
	order := make([]*Watch, 0, len(watches))
	for i := range watches {
		if watches[i].everything() {
			order = append(order, &watches[i])
		}
	}
	whole := len(order)
	for i := range watches {
		if !watches[i].everything() {
			order = append(order, &watches[i])
		}
	}
	for i, w := range order {
		for rev, events := range w.byRevision() {
			t.merge(rev, events, w, source, i < whole)
		}
	}
	for rev := range t.events {
		t.revisions = append(t.revisions, rev)
	}
	sort.Slice(t.revisions, func(i, j int) bool { return t.revisions[i] < t.revisions[j] })
	sort.Slice(t.report.Violations, func(i, j int) bool { return t.report.Violations[i].Text < t.report.Violations[j].Text })
	t.replay()
	return t, t.report
}

// merge adds the events that w saw of one revision. whole says that w would have seen all of them.
func (t *Truth) merge(rev int64, events []Event, w *Watch, source map[int64]string, whole bool) {
	known := t.events[rev]
	if known == nil {
		t.events[rev], source[rev] = append([]Event(nil), events...), w.Name
		return
	}
	for _, e := range events {
		found := false
		for _, k := range known {
			if k.KV.Key != e.KV.Key {
				continue
			}
			found = true
			if !k.same(e) {
				t.report.add("agreement", "revision %d: watch %s saw %v, watch %s saw %v", rev, source[rev], k, w.Name, e)
			}
		}
		if !found && whole {
			t.report.add("agreement", "revision %d: watch %s saw %v, watch %s did not", rev, w.Name, e, source[rev])
		}
		if !found && !whole {
			t.events[rev] = append(t.events[rev], e)
		}
	}
}

// replay checks that the events follow from each other and gives each its Prev.
func (t *Truth) replay() {
	keys := map[string]KV{}
	from := int64(0)
	for _, rev := range t.revisions {
		if from != 0 && rev != from+1 {
			t.report.add("a hole", "watches saw revisions %d and %d and nothing between them", from, rev)
		}
		from = rev
		for i := range t.events[rev] {
			e := &t.events[rev][i]
			old, had := keys[e.KV.Key]
			e.Prev = nil
			if had {
				prev := old
				e.Prev = &prev
			}
			switch {
			case e.Delete && !had:
				t.report.add("agreement", "%v deletes a key that is not there", *e)
			case e.Delete:
				delete(keys, e.KV.Key)
			default:
				want := KV{Create: rev, Mod: rev, Version: 1}
				if had {
					want.Create, want.Version = old.Create, old.Version+1
				}
				if e.KV.Create != want.Create || e.KV.Mod != rev || e.KV.Version != want.Version {
					t.report.add("agreement", "%v: it must be create %d mod %d version %d", *e, want.Create, rev, want.Version)
				}
				keys[e.KV.Key] = e.KV
			}
		}
	}
}

func (t *Truth) at(rev int64) []Event {
	if t == nil {
		return nil
	}
	return t.events[rev]
}

func (t *Truth) last() int64 {
	if t == nil || len(t.revisions) == 0 {
		return 0
	}
	return t.revisions[len(t.revisions)-1]
}

// covers reports whether the truth reaches as far as rev.
func (t *Truth) covers(rev int64) bool { return rev <= t.last() }

// Last is the newest revision that any watch saw, 0 if none saw any.
func (t *Truth) Last() int64 { return t.last() }
