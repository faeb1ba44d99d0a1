package check

import "fmt"

// Batch is one answer of a watch stream.
type Batch struct {
	Revision int64 // of the header
	Events   []Event
	Progress bool // a progress notification: everything up to Revision has been delivered
	Fragment bool // more of the same answer follows
}

// Session is one stream of a watch. The first starts it, every further one resumes it.
type Session struct {
	Via     string // the member, for texts
	From    int64  // the revision that was asked for; 0: from now on
	Created int64  // the revision of the header that confirmed it; 0 if nothing came
	Batches []Batch
}

// Watch is one watch as a client sees it: sessions, each resumed where the last ended.
type Watch struct {
	Name     string
	Key, End string // as in Request
	Prev     bool   // asked for what was there before
	NoPut    bool
	NoDelete bool
	Sessions []Session
	Through  int64 // up to here the client has waited until everything had to be there; 0: it just stopped
}

func (w *Watch) everything() bool {
	return (w.Key == "" || w.Key == "\x00") && w.End == "\x00" && !w.NoPut && !w.NoDelete
}

// Wants reports whether the watch asks for the event: its key and its kind.
func (w *Watch) Wants(e Event) bool {
	if e.Delete && w.NoDelete || !e.Delete && w.NoPut {
		return false
	}
	switch w.End {
	case "":
		return e.KV.Key == w.Key
	case "\x00":
		return e.KV.Key >= w.Key || w.Key == "\x00"
	}
	return e.KV.Key >= w.Key && e.KV.Key < w.End
}

func (w *Watch) byRevision() map[int64][]Event {
	out := map[int64][]Event{}
	for _, s := range w.Sessions {
		fresh, more := map[int64]bool{}, false
		for _, b := range s.Batches {
			if !more {
				fresh = map[int64]bool{}
			}
			more = b.Fragment
			for _, e := range b.Events {
				if _, had := out[e.Revision]; had && !fresh[e.Revision] {
					continue // a repetition, which the validators find, or a fragment
				}
				fresh[e.Revision] = true
				out[e.Revision] = append(out[e.Revision], e)
			}
		}
	}
	return out
}

// Watches checks the guarantees of watches against the truth:
//
//   - ordered: revisions never go back;
//   - unique: no event comes twice;
//   - atomic: the events of a revision come in one answer (or in its fragments), all of them;
//   - reliable: no revision is left out between two that were delivered, or before what the client waited for;
//   - resumable: a resumed watch goes on where it ended, without a gap and without a repetition;
//   - bookmarkable: after a progress notification nothing comes that is not newer, and nothing older is missing;
//   - prev_kv: what was there before is what was there before.
//
// An event that is not in the truth, or that the watch did not ask for, is reported as "foreign".
func Watches(watches []Watch, truth *Truth) Report {
	var r Report
	for i := range watches {
		v := &validator{w: &watches[i], truth: truth, report: &r}
		v.run()
	}
	return r
}

// validator is the state of one watch while it is replayed.
type validator struct {
	w      *Watch
	truth  *Truth
	report *Report

	session *Session
	noted   int64  // the newest progress notification of this session
	covered int64  // everything up to here has been delivered, or was not asked for
	from    string // why covered is what it is, for texts
	rule    string // what a gap after covered violates
	partial int64  // the revision that the last fragment ended in, 0 for none
	got     []Event
}

func (v *validator) add(rule, format string, args ...any) {
	v.report.add(rule, "watch %s via %s: %s", v.w.Name, v.session.Via, fmt.Sprintf(format, args...))
}

func (v *validator) run() {
	for i := range v.w.Sessions {
		v.session, v.noted = &v.w.Sessions[i], 0
		v.begin(i == 0)
		for _, b := range v.session.Batches {
			v.batch(b)
		}
		v.endRevision()
		v.partial = 0
	}
	if v.session != nil && v.w.Through > 0 {
		v.rule = "reliable"
		v.missing(v.w.Through, "although the client waited for everything up to revision %d", v.w.Through)
	}
}

func (v *validator) begin(first bool) {
	s := v.session
	start := s.From - 1
	if s.From == 0 {
		start = s.Created
	}
	switch {
	case first:
		v.covered, v.rule, v.from = start, "reliable", fmt.Sprintf("it began after revision %d", start)
	case start > v.covered:
		v.add("resumable", "the client resumed it after revision %d although it had everything up to %d only", start, v.covered)
		v.covered = start
	default:
		// A stream may be resumed further back; what it repeats is then asked for.
		v.covered, v.rule, v.from = start, "resumable", fmt.Sprintf("it was resumed after revision %d", start)
	}
}

func (v *validator) batch(b Batch) {
	if b.Progress {
		v.endRevision()
		if len(b.Events) > 0 {
			v.add("bookmarkable", "a progress notification at revision %d has events", b.Revision)
		}
		if from := v.session.From; b.Revision < from-1 {
			v.add("bookmarkable", "revision %d was notified as delivered on a stream that starts at %d", b.Revision, from)
		}
		v.rule, v.noted = "bookmarkable", max(v.noted, b.Revision)
		v.missing(b.Revision, "although revision %d was notified as delivered", b.Revision)
		v.covered, v.rule, v.from = max(v.covered, b.Revision), "reliable", fmt.Sprintf("revision %d was notified as delivered", b.Revision)
		return
	}
	for _, e := range b.Events {
		v.event(e)
		if e.Revision > b.Revision && b.Revision > 0 {
			v.add("ordered", "%v came in an answer whose header says revision %d", e, b.Revision)
		}
	}
	if !b.Fragment {
		v.endRevision()
	}
}

func (v *validator) event(e Event) {
	if v.partial != 0 && e.Revision != v.partial {
		v.endRevision()
	}
	if e.Revision <= v.covered {
		v.old(e)
		return
	}
	if v.partial == 0 {
		v.missing(e.Revision-1, "before %v", e)
		v.partial, v.got = e.Revision, nil
	}
	if !v.w.Wants(e) {
		v.add("foreign", "%v was not asked for", e)
	}
	v.got = append(v.got, e)
	v.prev(e)
}

// old names what is wrong with an event that should have come earlier, or has.
func (v *validator) old(e Event) {
	seen, again, split := false, false, false
	for i := range v.w.Sessions {
		s := &v.w.Sessions[i]
		for _, b := range s.Batches {
			for _, other := range b.Events {
				if other.same(e) && seen {
					again = true
				}
				seen = seen || other.same(e)
				split = split || other.Revision == e.Revision && !other.same(e)
			}
		}
		if s == v.session {
			break
		}
	}
	switch {
	case v.noted > 0 && e.Revision <= v.noted:
		v.add("bookmarkable", "%v came although revision %d had been notified as delivered", e, v.noted)
	case again:
		v.add("unique", "%v came twice", e)
	case split:
		v.add("atomic", "%v came apart from the rest of revision %d", e, e.Revision)
	default:
		v.add("ordered", "%v came when everything up to revision %d was there or not asked for", e, v.covered)
	}
}

// endRevision checks that the revision that was being delivered is complete.
func (v *validator) endRevision() {
	if v.partial == 0 {
		return
	}
	rev, got := v.partial, v.got
	v.partial, v.got = 0, nil
	v.covered, v.rule, v.from = rev, "reliable", fmt.Sprintf("it had come as far as revision %d", rev)
	seen := map[string]int{}
	for _, e := range got {
		if seen[e.KV.Key]++; seen[e.KV.Key] > 1 {
			v.add("unique", "%v came twice", e)
		}
	}
	position := 0
	for _, want := range v.truth.at(rev) {
		if !v.w.Wants(want) {
			continue
		}
		switch {
		case seen[want.KV.Key] == 0:
			v.add("atomic", "%v is missing from what came of revision %d: %v", want, rev, got)
		case position < len(got) && got[position].KV.Key != want.KV.Key:
			v.add("ordered", "revision %d came in another order than its operations: %v", rev, got)
			return
		}
		if seen[want.KV.Key] > 0 {
			position++
		}
	}
	v.foreign(rev, got)
}

// foreign finds events that never were.
func (v *validator) foreign(rev int64, got []Event) {
	for _, e := range got {
		known := false
		for _, want := range v.truth.at(rev) {
			known = known || want.same(e)
		}
		if !known {
			v.add("foreign", "%v never was; revision %d is %v", e, rev, v.truth.at(rev))
		}
	}
}

// missing reports events after covered and up to rev that were to be delivered.
func (v *validator) missing(rev int64, format string, args ...any) {
	for at := v.covered + 1; at <= min(rev, v.truth.last()); at++ {
		for _, e := range v.truth.at(at) {
			if v.w.Wants(e) {
				v.add(v.rule, "%v did not come %s (%s)", e, fmt.Sprintf(format, args...), v.from)
				v.covered = rev
				return
			}
		}
	}
	v.covered = max(v.covered, rev)
}

// prev checks what an event says was there before.
func (v *validator) prev(e Event) {
	var want *KV
	known := false
	for _, t := range v.truth.at(e.Revision) {
		if t.KV.Key == e.KV.Key {
			want, known = t.Prev, true
		}
	}
	switch {
	case !known:
	case !v.w.Prev && e.Prev != nil:
		v.add("prev_kv", "%v came with what was there before, which was not asked for", e)
	case !v.w.Prev:
	case e.Prev == nil && want != nil && e.Revision > v.truth.Compacted:
		v.add("prev_kv", "%v came without what was there before, %v", e, *want)
	case e.Prev != nil && want == nil:
		v.add("prev_kv", "%v came with %v before it, and there was nothing", e, *e.Prev)
	case e.Prev != nil && *e.Prev != *want:
		v.add("prev_kv", "%v came with %v before it, which was %v", e, *e.Prev, *want)
	}
}
