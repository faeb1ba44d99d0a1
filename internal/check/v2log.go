package check

import (
	"sort"
	"strings"
)

// V2Truth is the tree as the log makes it, index by index.
type V2Truth struct {
	base   uint64          // the index before the first entry
	events []V2Event       // of the indices from base+1 on
	states []*v2state      // states[i] is that of index base+i
	was    []*tree[v2node] // of events: the nodes when it happened
	when   []int64         // when[i] is when the first member had index base+i
	by     []*V2Entry      // by[i] made index base+i
	log    []*V2Entry      // of requests
	last   *v2state        // after everything
}

// Last is the newest index.
func (t *V2Truth) Last() uint64 { return t.base + uint64(len(t.events)) }

// at is the tree at an index, nil if it never had that.
func (t *V2Truth) at(index uint64) *v2state {
	if len(t.states) == 0 || index < t.base || index > t.Last() {
		return nil
	}
	return t.states[index-t.base]
}

// event is the change of an index, nil if there is none.
func (t *V2Truth) event(index uint64) *V2Event {
	if index <= t.base || index > t.Last() {
		return nil
	}
	return &t.events[index-t.base-1]
}

// V2Log checks what members made of the log against a model of the v2 API that shares nothing with the store: every entry must
// be answered, or refused, as the tree is at its place in the log, and cause exactly the events that follow. events are those that
// members had after applying, ascending; in shared mode requests of the v2 API must do to v3 keys what they do to files, and what
// happens to v3 keys must happen to files. The tree must not have been used before the first entry. Rules: "v2 decision", "v2 event",
// "v2 keys".
func V2Log(entries []V2Entry, events []V2Event) (*V2Truth, Report) {
	l := &v2log{truth: &V2Truth{}, state: v2genesis(), rest: events}
	l.report.Operations = len(entries)
	for i := range entries {
		if l.take(&entries[i]); len(l.report.Violations) > 0 {
			return l.truth, l.report // what follows would be judged by a wrong tree
		}
	}
	if len(l.rest) > 0 {
		l.report.add("v2 event", "%v follows from no entry", l.rest[0])
	}
	l.truth.last = l.state
	return l.truth, l.report
}

type v2log struct {
	truth   *V2Truth
	report  Report
	state   *v2state
	rest    []V2Event // that no entry was found for yet
	started bool
}

func (l *v2log) take(e *V2Entry) {
	switch {
	case e.Request != nil:
		l.request(e)
	case e.Cluster > 0 && l.started:
		l.cluster(e)
	case len(e.Changes) > 0:
		w := l.state.write(0)
		for _, c := range e.Changes {
			w.follow(c)
		}
		l.expect(e, w)
	}
}

// start learns at which index the tree begins: it counts what happened to the cluster before.
func (l *v2log) start(e *V2Entry) {
	index := e.Index
	switch {
	case e.Refusal != nil:
		index = e.Refusal.Index
	case len(l.rest) > 0 && l.rest[0].Index <= index:
		index = l.rest[0].Index - 1
	}
	s := *l.state
	s.index = index
	l.state, l.started = &s, true
	l.truth.base = index
	l.truth.states, l.truth.when, l.truth.by = []*v2state{&s}, []int64{0}, []*V2Entry{e}
}

func (l *v2log) request(e *V2Entry) {
	if e.Refusal != nil && e.Refusal.Code == 0 {
		return
	}
	if !l.started {
		l.start(e)
	}
	l.truth.log = append(l.truth.log, e)
	w, answer, no := l.state.execute(e.Request)
	switch {
	case no == nil && e.Refusal != nil:
		l.report.add("v2 decision", "entry %d, %v, was refused with %v; nothing forbids it at index %d", e.Entry, e.Request, e.Refusal, l.state.index)
	case no != nil && e.Refusal == nil:
		l.report.add("v2 decision", "entry %d, %v, was taken at index %d, and must be refused with %v", e.Entry, e.Request, e.Index, no)
	case no != nil && (no.Code != e.Refusal.Code || no.Index != e.Refusal.Index || no.Cause != e.Refusal.Cause && no.Cause != "*"):
		l.report.add("v2 decision", "entry %d, %v, was refused with %v, and must be with %v", e.Entry, e.Request, e.Refusal, no)
	case no == nil && answer != nil && answer.Index != e.Index:
		l.report.add("v2 decision", "entry %d, %v, was answered with index %d, and has %d", e.Entry, e.Request, e.Index, answer.Index)
	case no == nil && answer == nil && w.index != e.Index:
		l.report.add("v2 decision", "entry %d, %v, leads to index %d, and must to %d", e.Entry, e.Request, e.Index, w.index)
	}
	if len(l.report.Violations) > 0 {
		return
	}
	l.expect(e, w)
	for i := range max(len(w.changes), len(e.Changes)) {
		switch {
		case i >= len(w.changes):
			l.report.add("v2 keys", "entry %d, %v, changes the v3 keys %+v, of which it must not change %+v", e.Entry, e.Request, e.Changes, e.Changes[i])
		case i >= len(e.Changes):
			l.report.add("v2 keys", "entry %d, %v, changes the v3 keys %+v, and must also %+v", e.Entry, e.Request, e.Changes, w.changes[i])
		case w.changes[i] != e.Changes[i]:
			l.report.add("v2 keys", "entry %d, %v, does %+v to the v3 keys, and must do %+v", e.Entry, e.Request, e.Changes[i], w.changes[i])
		default:
			continue
		}
		return
	}
}

// expect compares what an entry causes with what members had.
func (l *v2log) expect(e *V2Entry, w *v2writer) {
	what := "a change of v3 keys"
	if e.Request != nil {
		what = e.Request.String()
	}
	for i := range w.events {
		want := w.events[i].String()
		switch {
		case len(l.rest) == 0:
			l.report.add("v2 event", "entry %d, %s, has no event where %s must be", e.Entry, what, want)
			return
		case l.rest[0].String() != want:
			l.report.add("v2 event", "entry %d, %s, has the event %v, which must be %s", e.Entry, what, l.rest[0], want)
			return
		}
		l.note(e, w, w.was[i])
	}
	l.state = &w.v2state
	if n := len(l.truth.states); n > 0 {
		l.truth.states[n-1] = l.state // what has no index changes nothing that can be read
	}
}

// note takes an event for one of an entry.
func (l *v2log) note(e *V2Entry, w *v2writer, was *tree[v2node]) {
	t := l.truth
	t.events, t.was = append(t.events, l.rest[0]), append(t.was, was)
	l.rest = l.rest[1:]
	t.states, t.when, t.by = append(t.states, &w.v2state), append(t.when, e.At), append(t.by, e)
}

// cluster takes the events of an entry about members or the version.
func (l *v2log) cluster(e *V2Entry) {
	for range e.Cluster {
		if len(l.rest) == 0 || !strings.HasPrefix(l.rest[0].Node.Key, "/0/") || l.rest[0].Index != l.state.index+1 {
			l.report.add("v2 event", "entry %d changes the cluster, which takes %d indices after %d; what comes is %v", e.Entry, e.Cluster, l.state.index, l.rest[:min(1, len(l.rest))])
			return
		}
		w := l.state.write(0)
		w.index++
		l.note(e, w, w.nodes)
		l.state = &w.v2state
	}
}

// V2Linearizable checks that the operations of a history can have happened one after another, each between its call and its return,
// with exactly these answers. No search is needed: every change has an index of its own and every answer names the index that it saw,
// so there is one order that can be right, and it is checked. What has no answer happened if it is in the log. Rules: "v2 linearizability",
// "v2 real time", "one v2 index for two writes", "an acknowledged v2 write is lost", "a v2 effect without a cause".
func V2Linearizable(history []V2Op, truth *V2Truth) Report {
	l := &v2linear{truth: truth, claimed: map[uint64]*V2Op{}}
	l.report.Operations = len(history)
	var order []*V2Op
	for i := range history {
		o := &history[i]
		if o.Return == Never || o.index() == 0 {
			continue
		}
		l.check(o)
		if !o.Local {
			order = append(order, o)
		}
	}
	l.causes(history)
	sort.SliceStable(order, func(i, j int) bool {
		a, b := order[i], order[j]
		if a.index() != b.index() {
			return a.index() < b.index()
		}
		if wa, wb := a.writes(), b.writes(); wa != wb {
			return wa
		}
		return a.Call < b.Call
	})
	var latest *V2Op
	for _, o := range order {
		if latest != nil && o.Return < latest.Call {
			l.report.add("v2 real time", "%v was answered before %v was called, and yet comes after it: the latter is from the past", o, latest)
		}
		if latest == nil || o.Call > latest.Call {
			latest = o
		}
	}
	return l.report
}

type v2linear struct {
	report  Report
	truth   *V2Truth
	claimed map[uint64]*V2Op
}

// writes reports whether the operation has changed something.
func (o *V2Op) writes() bool { return o.Event != nil && o.Event.Action != "get" }

// check looks at the answer of an operation alone.
func (l *v2linear) check(o *V2Op) {
	index := o.index()
	s := l.truth.at(index)
	switch {
	case o.Event != nil && index > l.truth.Last():
		l.report.add("an acknowledged v2 write is lost", "%v: the last index is %d", o, l.truth.Last())
	case s == nil && index < l.truth.base: // before the tree was used, its index is that of the cluster
	case s == nil:
		l.report.add("v2 linearizability", "%v: index %d never was", o, index)
	case o.writes():
		l.write(o)
	case l.truth.when[index-l.truth.base] > o.Return:
		l.report.add("v2 linearizability", "%v: index %d was made later, at %d", o, index, l.truth.when[index-l.truth.base])
	default:
		l.read(o, s)
	}
}

func (l *v2linear) write(o *V2Op) {
	index := o.index()
	if other := l.claimed[index]; other != nil {
		l.report.add("one v2 index for two writes", "index %d was given to %v and to %v", index, other, o)
		return
	}
	l.claimed[index] = o
	e := l.truth.event(index)
	if e == nil || e.String() != o.Event.String() {
		l.report.add("v2 linearizability", "%v: what happened at this index is %v", o, e)
		return
	}
	if by := l.truth.by[index-l.truth.base]; by.Request == nil || by.Request.String() != o.Request.String() || by.At < o.Call || by.At > o.Return {
		l.report.add("v2 linearizability", "%v: the index was made at %d by entry %d, %v", o, by.At, by.Entry, by.Request)
	}
}

// read looks at what was answered by what changed nothing.
func (l *v2linear) read(o *V2Op, s *v2state) {
	if o.Refusal != nil && o.Request.Method == "MODE" {
		l.refusedMode(o)
		return
	}
	_, e, no := s.execute(&o.Request)
	switch {
	case o.Refusal != nil && no == nil:
		l.report.add("v2 linearizability", "%v: nothing forbids it at index %d", o, s.index)
	case o.Refusal != nil && (no.Code != o.Refusal.Code || no.Cause != o.Refusal.Cause && no.Cause != "*"):
		l.report.add("v2 linearizability", "%v: it must be refused with %v", o, no)
	case o.Event != nil && (no != nil || e == nil || e.String() != o.Event.String()):
		l.report.add("v2 linearizability", "%v: it must be %v, refusal %v", o, e, no)
	}
}

// refusedMode looks at a refusal that depends on v3 keys besides. Those change without the index while the tree is separate, so
// it must be one that stands in the log, where it has been judged.
func (l *v2linear) refusedMode(o *V2Op) {
	for _, e := range l.truth.log {
		if e.Refusal != nil && e.Request.String() == o.Request.String() && *e.Refusal == *o.Refusal && e.At >= o.Call && e.At <= o.Return {
			return
		}
	}
	l.report.add("v2 linearizability", "%v: no such refusal is in the log", o)
}

// causes looks for who asked for what is in the log: every operation is there at most once.
func (l *v2linear) causes(history []V2Op) {
	asked := map[string][]*V2Op{}
	for i := range history {
		o := &history[i]
		asked[o.Request.String()] = append(asked[o.Request.String()], o)
	}
	for _, e := range l.truth.log {
		if e.Request.Method == "SYNC" || e.Request.Method == "MODE" { // these come from members too
			continue
		}
		name := e.Request.String()
		list := asked[name]
		if len(list) == 0 || list[0].Call > e.At {
			l.report.add("a v2 effect without a cause", "entry %d, %s, at %d: no client asked for it, or not so often", e.Entry, name, e.At)
			continue
		}
		asked[name] = list[1:]
	}
}
