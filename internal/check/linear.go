package check

import (
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/anishathalye/porcupine"
)

// Violation is one thing that cannot be true. Text names the operations or watches.
type Violation struct {
	Rule string
	Text string
}

// String is the violation in one line.
func (v Violation) String() string { return v.Rule + ": " + v.Text }

// Report is what a check found.
type Report struct {
	Violations []Violation
	Operations int    // looked at
	Writes     int64  // the newest revision that was placed
	Happened   int    // operations of unknown outcome that turned out to have happened
	Expired    int    // leases that ended by themselves while they held keys
	Verdict    string // what porcupine says: Ok, Illegal, Unknown (out of time), or "" when an earlier violation made it pointless
}

func (r *Report) add(rule, format string, args ...any) {
	const most = 20 // one wrong state makes everything after it wrong
	if len(r.Violations) < most {
		r.Violations = append(r.Violations, Violation{rule, fmt.Sprintf(format, args...)})
	}
}

// Linearizable checks that the operations of a history, all of it from an empty store, can have happened one after another,
// each between its call and its return, with exactly these answers. truth is the set of all events; it places operations of
// unknown outcome and is compared with what the operations cause. limit bounds porcupine's search (0: none).
//
// Operations are first placed by the revisions in their answers, which gives texts that name the operation at fault; what
// has no place of its own (refusals) is left to porcupine, which judges the whole history with the same model.
func Linearizable(history []Operation, truth *Truth, limit time.Duration) Report {
	l := &linear{truth: truth, claimed: map[int64]*Operation{}, state: genesis(), callOf: map[int64]int64{}}
	l.report.Operations = len(history)
	l.sort(history)
	l.claim()
	l.leases()
	for len(l.placed) > 0 {
		l.group()
	}
	l.fill(l.truth.last()) // what watches saw after the last answered operation
	for _, o := range l.stale {
		l.checkStale(o)
	}
	l.report.Writes = l.state.rev
	if len(l.report.Violations) == 0 {
		l.judge(limit)
	}
	return l.report
}

type linear struct {
	report   Report
	truth    *Truth
	sorted   []*Operation // known, with a revision, in the order of their revisions
	placed   []*Operation // the rest of sorted, which is not placed yet
	returned []int64      // for each of sorted, the earliest return of it and those behind it
	refused  []*Operation
	stale    []*Operation // serializable reads: they promise less
	suspects
	claimed map[int64]*Operation
	used    map[int64]int64 // the last revision at which each lease was there for certain
	state   *state
	order   []*Operation    // what porcupine judges
	latest  *Operation      // of those placed, the one that was called last
	callOf  map[int64]int64 // call of the write of each revision
	doubt   int64
}

// writes reports whether o, by its answer, has changed something. A revocation may have: only the model can tell.
func writes(r Request, a Answer) bool {
	switch r.Kind {
	case Put:
		return true
	case Delete:
		return a.Count > 0
	case Txn:
		for i, part := range r.branch(a.Succeeded) {
			if writes(part, *a.part(i)) {
				return true
			}
		}
	}
	return false
}

func (l *linear) sort(history []Operation) {
	for i := range history {
		o := &history[i]
		switch {
		case !o.Known():
			if o.Request.Kind == Compact {
				l.doubt = max(l.doubt, o.Request.Revision)
			} else if o.Request.Kind != Range && o.Request.Kind != Grant {
				l.unknown = append(l.unknown, o)
			}
		case o.Request.Stale:
			l.stale = append(l.stale, o)
		case o.Answer.Refusal != "":
			l.refused = append(l.refused, o)
		default:
			l.placed = append(l.placed, o)
		}
	}
	l.state.doubt = l.doubt
	sort.SliceStable(l.unknown, func(i, j int) bool { return l.unknown[i].Call < l.unknown[j].Call })
	sort.SliceStable(l.placed, func(i, j int) bool {
		a, b := l.placed[i], l.placed[j]
		if a.Answer.Revision != b.Answer.Revision {
			return a.Answer.Revision < b.Answer.Revision
		}
		if wa, wb := writes(a.Request, a.Answer), writes(b.Request, b.Answer); wa != wb {
			return wa
		}
		return a.Call < b.Call
	})
	l.sorted, l.returned = l.placed, make([]int64, len(l.placed))
	soonest := Never
	for i, o := range slices.Backward(l.sorted) {
		soonest = min(soonest, o.Return)
		l.returned[i] = soonest
	}
}

// claim finds revisions that two operations were given.
func (l *linear) claim() {
	for _, o := range l.placed {
		if !writes(o.Request, o.Answer) {
			continue
		}
		if other := l.claimed[o.Answer.Revision]; other != nil {
			l.report.add("one revision for two writes", "revision %d was given to %v and to %v", o.Answer.Revision, other, o)
			continue
		}
		l.claimed[o.Answer.Revision] = o
	}
}

// group places the operations that were answered with the lowest revision left: what made it comes first, then, as they were
// called, those that saw it.
func (l *linear) group() {
	at := l.placed[0].Answer.Revision
	n := 1
	for n < len(l.placed) && l.placed[n].Answer.Revision == at {
		n++
	}
	group := l.placed[:n]
	l.placed = l.placed[n:]
	for len(group) > 0 && writes(group[0].Request, group[0].Answer) {
		l.place(group[0], at-1)
		group = group[1:]
	}
	if l.state.rev < at {
		l.fill(at - 1)
		if i := l.revoker(group, at); i >= 0 {
			l.place(group[i], at-1)
			group = append(append([]*Operation(nil), group[:i]...), group[i+1:]...)
		}
	}
	loose := false // what has no place among its equals, and changes what they see, is porcupine's to place
	for _, o := range group {
		loose = loose || o.Request.Kind == Grant || o.Request.Kind == Revoke || o.Request.Kind == Compact
	}
	for _, o := range group {
		if l.fill(at); loose {
			if _, _, why := l.state.step(o); why != "" {
				l.refused = append(l.refused, o)
				continue
			}
		}
		l.place(o, at)
	}
}

// revoker is the revocation in group that made revision at: the answer does not tell, but its keys do. It is -1 without one.
func (l *linear) revoker(group []*Operation, at int64) int {
	for i, o := range group {
		if o.Request.Kind != Revoke || o.Call > l.soonest(at) { // what others had seen before it was called is not its doing
			continue
		}
		if next, events, why := l.state.step(o); why == "" && next.rev == at && (!l.truth.covers(at) || sameEvents(events, l.truth.at(at)) == "") {
			return i
		}
	}
	return -1
}

// place puts an operation after revision after.
func (l *linear) place(o *Operation, after int64) {
	l.fill(after)
	next, events, why := l.state.step(o)
	if why != "" {
		l.report.add("linearizability", "%v: %s", o, why)
		l.force(o.Answer.Revision)
		return
	}
	l.accept(o, next, events)
}

// accept takes the step of o and checks that nothing placed before it was called after it had returned.
func (l *linear) accept(o *Operation, next *state, events []Event) {
	if late := l.latest; late != nil && o.Return < late.Call {
		l.report.add("real time", "%v was answered before %v was called, and yet comes after it: the latter is from the past", o, late)
	}
	if l.latest == nil || o.Call > l.latest.Call {
		l.latest = o
	}
	if next.rev > l.state.rev {
		l.callOf[next.rev] = o.Call
		if why := sameEvents(events, l.truth.at(next.rev)); why != "" && l.truth.covers(next.rev) {
			l.report.add("watches and writes", "revision %d, %v: %s", next.rev, o, why)
		}
	}
	l.state = next
	l.order = append(l.order, o)
}

// fill explains the revisions up to and including rev that no answered operation claims.
func (l *linear) fill(rev int64) {
	for l.state.rev < rev {
		if !l.explain(l.state.rev + 1) {
			l.force(l.state.rev + 1)
		}
	}
}

// explain finds who made revision rev: an operation of unknown outcome, the earliest that fits, or the end of a lease.
func (l *linear) explain(rev int64) bool {
	seen := l.truth.at(rev)
	if len(seen) == 0 {
		l.report.add("a hole", "revision %d is in no answer and in no watch", rev)
		return false
	}
	// A lease that nobody is known to have used later may have ended here: nothing else needs this explanation, whereas
	// an operation of unknown outcome may have had its effect at a later revision.
	lease := l.leaseOf(seen)
	if lease != 0 && l.used[lease] < rev && l.expire(lease, rev, seen) {
		return true
	}
	if o := l.suspect(rev, l.soonest(rev), l.state, nil); o != nil {
		l.guess(rev, o)
		return true
	}
	if l.exchange(rev) {
		return true
	}
	l.report.add("an effect without a cause", "revision %d is the effect of no recorded operation: %v", rev, seen)
	return false
}

// expire has a lease end by itself, if that is what was seen of revision rev.
func (l *linear) expire(lease, rev int64, seen []Event) bool {
	o := &Operation{Client: -1, Return: Never, Request: Request{Kind: Expire, Lease: lease}}
	next, answer, events := l.state.execute(o.Request, 0)
	if next.rev != rev || sameEvents(events, seen) != "" {
		return false
	}
	o.Answer = answer
	l.report.Expired++
	l.accept(o, next, events)
	return true
}

// leases finds the last revision at which each lease was there for certain.
func (l *linear) leases() {
	l.used = map[int64]int64{}
	for _, o := range l.sorted {
		if o.Request.Kind == Revoke {
			l.used[o.Request.Lease] = o.Answer.Revision
		}
	}
	if l.truth == nil {
		return
	}
	for rev, events := range l.truth.events {
		for _, e := range events {
			if e.KV.Lease != 0 {
				l.used[e.KV.Lease] = max(l.used[e.KV.Lease], rev)
			}
		}
	}
}

// soonest is the earliest instant at which anything of revision rev or later was answered.
func (l *linear) soonest(rev int64) int64 {
	i := sort.Search(len(l.sorted), func(i int) bool { return l.sorted[i].Answer.Revision >= rev })
	if i == len(l.sorted) {
		return Never
	}
	return l.returned[i]
}

// leaseOf is the lease that all deleted keys were attached to, 0 if there is none.
func (l *linear) leaseOf(events []Event) (lease int64) {
	for _, e := range events {
		kv, ok := l.state.keys.get(e.KV.Key)
		if !e.Delete || !ok || lease != 0 && kv.Lease != lease {
			return 0
		}
		lease = kv.Lease
	}
	return lease
}

// force makes the state of revision rev what watches saw, after a violation, so that what follows is judged by itself.
func (l *linear) force(rev int64) {
	if rev != l.state.rev+1 {
		return
	}
	w := l.state.write()
	for _, e := range l.truth.at(rev) {
		if e.Delete {
			w.keys = w.keys.without(e.KV.Key)
		} else {
			w.keys = w.keys.with(e.KV.Key, e.KV, digestOf(e.KV))
		}
	}
	w.events = []Event{{}} // a revision of its own, even if nothing is known of it
	l.state = w.done()
}

// checkStale checks a serializable read: what it found must have been the whole truth at the revision it names, and that
// revision must have been asked for before the read returned.
func (l *linear) checkStale(o *Operation) {
	if o.Answer.Refusal != "" {
		return
	}
	rev := o.Answer.Revision
	keys, ok := l.state.past.get(number(rev))
	if !ok {
		l.report.add("serializable read", "%v: revision %d never was", o, rev)
		return
	}
	if l.callOf[rev] > o.Return {
		l.report.add("serializable read", "%v: revision %d was made later", o, rev)
	}
	then := *l.state
	then.keys, then.rev, then.compacted = keys, rev, 0
	_, want, _ := then.execute(o.Request, 0)
	if why := differ(o.Request, want, o.Answer); want.Refusal == "" && why != "" {
		l.report.add("serializable read", "%v: %s", o, why)
	}
}

// judge lets porcupine find an order of everything that is known to have happened.
func (l *linear) judge(limit time.Duration) {
	all := append(append([]*Operation(nil), l.order...), l.refused...)
	history := make([]porcupine.Operation, 0, len(all))
	for _, o := range all {
		history = append(history, porcupine.Operation{ClientId: o.Client, Input: o, Output: o, Call: o.Call, Return: o.Return})
	}
	model := porcupine.Model{
		Init: func() any {
			s := genesis()
			s.doubt = l.doubt
			return s
		},
		Step: func(s, in, _ any) (bool, any) {
			if !s.(*state).near(in.(*Operation)) {
				return false, s
			}
			next, _, why := s.(*state).step(in.(*Operation))
			if why != "" {
				return false, s
			}
			return true, next
		},
		Equal: func(a, b any) bool { return a.(*state).equal(b.(*state)) },
		Hash:  func(s any) uint64 { return s.(*state).digest() },
	}
	verdict := porcupine.CheckOperationsTimeout(model, history, limit)
	l.report.Verdict = string(verdict)
	if verdict == porcupine.Illegal {
		l.blame(model, history, limit)
	}
}

// blame names the operation that the longest order porcupine finds cannot take.
func (l *linear) blame(model porcupine.Model, history []porcupine.Operation, limit time.Duration) {
	_, info := porcupine.CheckOperationsVerbose(model, history, limit)
	longest, taken := 0, map[*Operation]bool{}
	last := genesis()
	for _, partition := range info.PartialLinearizationsOperations() {
		for _, order := range partition {
			if len(order) <= longest {
				continue
			}
			longest, taken, last = len(order), map[*Operation]bool{}, genesis()
			last.doubt = l.doubt
			for _, p := range order {
				taken[p.Input.(*Operation)] = true
				last, _, _ = last.step(p.Input.(*Operation))
			}
		}
	}
	var first *Operation
	for _, p := range history {
		if o := p.Input.(*Operation); !taken[o] && (first == nil || o.Return < first.Return) {
			first = o
		}
	}
	if first == nil {
		l.report.add("linearizability", "porcupine finds no order of %d operations", len(history))
		return
	}
	_, _, why := last.step(first)
	l.report.add("linearizability", "no order takes more than %d of %d operations; then comes %v: %s", longest, len(history), first, why)
}
