package check

import (
	"fmt"
	"slices"
	"sort"
)

// LeaseAct says what a LeaseOp is.
type LeaseAct uint8

// What can be recorded of a lease. An attempt that was refused with "requested lease not found" (a put, a revocation) is
// recorded as LeaseGone; other refusals are not recorded, they say nothing about leases.
const (
	LeaseGrant  LeaseAct = iota + 1 // a grant
	LeaseRenew                      // a keep-alive
	LeaseRevoke                     // a revocation by a client
	LeaseAsk                        // a question for the time to live
	LeaseGone                       // somebody saw that there is no such lease: it took its keys with it, or a list lacks it
)

// LeaseOp is one thing that was done to a lease, or seen of it. Call and Return are instants of the clients' true time.
type LeaseOp struct {
	Act     LeaseAct
	Via     string // the client or the member, for texts
	Lease   int64
	Call    int64
	Return  int64 // Never when it was not answered. LeaseGone: the instant from which on it is known; Call is the same if nobody asked
	TTL     int64 // seconds. LeaseGrant: as answered, or as asked for without an answer; LeaseRenew: as answered, 0: no such lease; LeaseAsk: what remains, -1: no such lease
	Granted int64 // LeaseAsk: the TTL as granted, seconds
	Prompt  bool  // LeaseGone: whoever saw it had looked all the time, and sees a deletion within LeaseRules.Bound
}

// String names the operation so that it can be found in a history.
func (o *LeaseOp) String() string {
	name := [...]string{"?", "grant", "keep-alive", "revocation", "time to live", "end"}[o.Act]
	if o.Return == Never {
		return fmt.Sprintf("%s of lease %x via %s [called at %d, not answered]", name, o.Lease, o.Via, o.Call)
	}
	return fmt.Sprintf("%s of lease %x via %s [%d to %d] -> ttl %d", name, o.Lease, o.Via, o.Call, o.Return, o.TTL)
}

// Span is a stretch of time, From included, To not.
type Span struct{ From, To int64 }

// Leap is a jump ahead of the leader's clock.
type Leap struct {
	At int64
	By int64 // how far
}

// LeaseRules are what a cluster promises of its leases. All but MinTTL and Drift are in the unit of instants.
type LeaseRules struct {
	Second     int64  // how many instants a second has
	MinTTL     int64  // seconds: a shorter TTL is raised to it; needed for grants without an answer only
	Election   int64  // a new leader lets every lease live this much longer: its election timeout
	Bound      int64  // a lease whose time is over is gone this much later at the latest, while one leader leads
	Unanswered int64  // how long after its call a request without an answer may take effect
	Lag        int64  // how much later than the member that answered a grant the leader may apply it, and begin with its time
	Drift      int64  // how wrong the members' clocks run, parts per million
	Leaps      []Leap // a lease that had been renewed before one may end that much earlier
	Stable     []Span // in each of them one and the same leader led throughout, and had taken over its leases
	Doubtful   []Span // what was answered in them is not relied on: a member was held still and may have thought that it leads
}

// Leases checks what was recorded of leases. An id must be granted once only in a history.
//
// What a cluster promises (as etcd does): a renewal that was answered gives the lease its whole TTL from an instant between
// call and answer on, so the lease is there until call+TTL, whatever happens to leaders: a new leader gives every lease an
// election timeout and its TTL anew, or what remained at the last checkpoint after the last renewal, which never ends
// earlier. The leader alone measures time, on its own clock, so the TTL counts less the Drift. Nothing is promised of how
// long a lease lives on in spite of that while leaders change; but while one leads, a lease ends when max(the last possible
// renewal, the beginning of the Stable span+Election)+TTL is over, and is gone Bound later. A Bound must cover a
// round of the leader, the proposal and, for Prompt observers, the delivery; with a thousand leases and more also that
// a new leader spreads their ends.
//
// The rules, by name: "a lease that ended early", "a lease that lives too long", "a lease that came back", "a remaining
// time" (of a LeaseAsk: never more than TTL+Election, and in a Stable span neither more nor less, in whole seconds rounded
// down, than the renewals allow), "a lease's TTL" (answers that name different ones), and "one id for two leases".
//
// A leader renews after most members have confirmed that it leads, so its successor begins to count after that, and the
// Election that it adds covers what lies between the two. The one hole that is known: a leader that is held still for longer
// than that after the confirmation, deposed meanwhile, and renews before it notices, promises what its successor does not know.
// Such spans are named Doubtful; renewals answered in them promise nothing.
//
// A lease that nobody looks at again is in no violation: let the history end with a LeaseAsk of every lease.
func Leases(history []LeaseOp, rules LeaseRules) Report {
	var r Report
	r.Operations = len(history)
	for _, l := range livesOf(history, rules) {
		l.report = &r
		l.check()
	}
	return r
}

// Promised says for every lease when it was there by the promise of the cluster (see Leases), whatever was seen of it: the
// spans ascend and do not touch. A revocation ends the promise when it is called.
func Promised(history []LeaseOp, rules LeaseRules) map[int64][]Span {
	out := map[int64][]Span{}
	for _, l := range livesOf(history, rules) {
		out[l.id] = l.promised()
	}
	return out
}

// life is everything known of one lease.
type life struct {
	report  *Report
	rules   *LeaseRules
	id      int64
	ops     []*LeaseOp // by Call
	ttl     int64      // as granted, in instants; 0: not known
	known   *LeaseOp   // what says so
	revoked int64      // the call of the first revocation, Never without one
	latest  []int64    // latest[i]: when the renewals among ops[:i] had taken effect for certain, or never will; -1: none
}

func livesOf(history []LeaseOp, rules LeaseRules) []*life {
	byID := map[int64]*life{}
	var out []*life
	for i := range history {
		o := &history[i]
		l := byID[o.Lease]
		if l == nil {
			l = &life{rules: &rules, id: o.Lease, revoked: Never, report: &Report{}}
			byID[o.Lease] = l
			out = append(out, l)
		}
		l.ops = append(l.ops, o)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].id < out[j].id })
	for _, l := range out {
		l.prepare()
	}
	return out
}

func (l *life) prepare() {
	sort.SliceStable(l.ops, func(i, j int) bool { return l.ops[i].Call < l.ops[j].Call })
	l.latest = []int64{-1}
	var asked *LeaseOp
	for _, o := range l.ops {
		if o.Act == LeaseRevoke {
			l.revoked = min(l.revoked, o.Call)
		}
		if o.Act == LeaseGrant && !o.answered() {
			asked = o
		}
		if l.known == nil && o.granted() > 0 {
			l.known, l.ttl = o, l.rules.seconds(o.granted())
		}
		l.latest = append(l.latest, max(l.latest[len(l.latest)-1], l.effect(o)))
	}
	if l.known == nil && asked != nil {
		l.known, l.ttl = asked, l.rules.seconds(max(asked.TTL, l.rules.MinTTL))
	}
}

// seconds are n seconds in instants; a TTL of centuries is as good as half of forever.
func (r *LeaseRules) seconds(n int64) int64 {
	return min(n, Never/2/r.Second) * r.Second
}

func (o *LeaseOp) answered() bool { return o.Return != Never }

// renews reports whether o is known to have started the lease's time.
func (o *LeaseOp) renews() bool {
	return o.answered() && (o.Act == LeaseGrant || o.Act == LeaseRenew) && o.TTL > 0
}

// alive reports whether o shows that there was such a lease at its Call or later.
func (o *LeaseOp) alive() bool {
	return o.renews() || o.Act == LeaseAsk && o.answered() && o.TTL >= 0
}

// gone reports whether o shows that there was no such lease any more at its Return.
func (o *LeaseOp) gone() bool {
	switch o.Act {
	case LeaseGone:
		return true
	case LeaseRenew:
		return o.answered() && o.TTL == 0
	case LeaseAsk:
		return o.answered() && o.TTL < 0
	}
	return false
}

// granted is the TTL of the lease in seconds as o tells it, 0 when it does not.
func (o *LeaseOp) granted() int64 {
	switch {
	case o.renews():
		return o.TTL
	case o.Act == LeaseAsk && o.alive():
		return o.Granted
	}
	return 0
}

// effect is the instant by which o has renewed the lease if it ever does, -1 if it is nothing that renews.
func (l *life) effect(o *LeaseOp) int64 {
	switch {
	case o.renews() && o.Act == LeaseGrant:
		return o.Return + l.rules.Lag
	case o.renews():
		return o.Return
	case (o.Act == LeaseGrant || o.Act == LeaseRenew) && !o.answered():
		return o.Call + l.rules.Unanswered
	}
	return -1
}

// most is what the TTL may be at most on the clients' clock.
func (l *life) most() int64 { return l.ttl + l.drift() }

// least is the instant until which the renewal o promises the lease at least, as far as the clocks are known to have been right until end.
func (l *life) least(o *LeaseOp, end int64) int64 {
	until := o.Call + l.ttl - l.drift()
	for _, j := range l.rules.Leaps {
		if j.At >= o.Call && j.At <= end {
			until -= j.By
		}
	}
	return until
}

func (l *life) drift() int64 {
	const million = 1_000_000
	return l.ttl/million*l.rules.Drift + l.ttl%million*l.rules.Drift/million
}

func (l *life) check() {
	grants := 0
	gone := Never     // the earliest instant at which it is known to be gone
	var why *LeaseOp  // what says so
	var first LeaseOp // the end that was seen first
	for _, o := range l.ops {
		if o.Act == LeaseGrant && o.answered() {
			if grants++; grants > 1 {
				l.report.add("one id for two leases", "%v: %v is of the same id", o, l.known)
			}
		}
		if ttl := o.granted(); ttl > 0 && l.rules.seconds(ttl) != l.ttl {
			l.report.add("a lease's TTL", "%v: it was granted for %d s, by the %v", o, l.ttl/l.rules.Second, l.known)
		}
		if (o.gone() || o.Act == LeaseRevoke && o.answered()) && o.Return < gone {
			gone, why = o.Return, o
		}
		if o.gone() && (first.Act == 0 || o.Return < first.Return) {
			first = *o
		}
	}
	if first.Act != 0 && first.Return <= l.revoked && l.known != nil {
		l.report.Expired++
		l.early(&first)
	}
	for i, o := range l.ops {
		if o.alive() && o.Act != LeaseGrant && o.Call > gone {
			l.report.add("a lease that came back", "%v: it was gone by the %v", o, why)
		}
		if o.Act == LeaseAsk && o.alive() {
			l.remaining(i, o)
		}
		if o.alive() && o.Act != LeaseGrant || o.Act == LeaseGone && o.Prompt {
			l.late(i, o)
		}
	}
}

// early finds a renewal whose promise the end of the lease has broken. A revocation that was called excuses the end.
func (l *life) early(end *LeaseOp) {
	for _, o := range l.ops {
		if o.renews() && o.Call <= end.Return && l.least(o, end.Return) > end.Return && !l.doubtful(o) {
			l.report.add("a lease that ended early", "%v: the %v promised it until %d, and nobody revoked it before", end, o, l.least(o, end.Return))
			return
		}
	}
}

func (l *life) doubtful(o *LeaseOp) bool {
	return slices.ContainsFunc(l.rules.Doubtful, func(s Span) bool { return o.Call < s.To && o.Return >= s.From })
}

// renewed is the latest instant at which anything but the i-th operation can have renewed the lease until that one returned.
func (l *life) renewed(i int) int64 {
	last := l.latest[i]
	for _, o := range l.ops[i+1:] {
		if o.Call > l.ops[i].Return {
			break
		}
		last = max(last, l.effect(o))
	}
	return last
}

// late finds a lease that the i-th operation shows to be there although its time was over while one leader led.
func (l *life) late(i int, o *LeaseOp) {
	last := l.renewed(i)
	if last < 0 || l.ttl == 0 {
		return // nobody is known to have asked for it
	}
	for _, s := range l.rules.Stable {
		due := max(s.From+l.rules.Election, last) + l.most() + l.rules.Bound
		if due < o.Call && due <= s.To {
			l.report.add("a lease that lives too long", "%v: one leader led from %d to %d, nothing renewed it after %d, so it had to be gone at %d",
				o, s.From, s.To, last, due)
			return
		}
	}
}

// remaining checks the answer to the question for the time to live.
func (l *life) remaining(i int, o *LeaseOp) {
	const rule = "a remaining time"
	second := l.rules.Second
	if l.rules.seconds(o.TTL) > l.ttl+l.rules.Election {
		l.report.add(rule, "%v: more than the %d s of its grant and an election timeout of %d", o, l.ttl/second, l.rules.Election)
		return
	}
	if l.ttl == l.rules.seconds(Never) {
		return // as good as forever
	}
	for _, s := range l.rules.Stable {
		if o.Call < s.From || o.Return >= s.To {
			continue
		}
		most := max(s.From+l.rules.Election, l.renewed(i)) + l.most() - o.Call
		if o.TTL > 0 && l.rules.seconds(o.TTL) > most { // 0: it is over, and on its way out
			l.report.add(rule, "%v: nothing renewed it after %d, so %d instants are the most that remain", o, l.renewed(i), most)
		}
		for _, before := range l.ops[:i] {
			if least := l.least(before, o.Return) - o.Return; before.renews() && before.Return <= o.Call && !l.doubtful(before) && l.rules.seconds(o.TTL+1) <= least {
				l.report.add(rule, "%v: after the %v, %d instants are the least that remain", o, before, least)
				break
			}
		}
		return
	}
}

func (l *life) promised() []Span {
	var out []Span
	for _, o := range l.ops {
		if !o.renews() || l.doubtful(o) {
			continue
		}
		s := Span{o.Call, min(l.least(o, o.Call+l.ttl), l.revoked)}
		if n := len(out); n > 0 && s.From <= out[n-1].To {
			out[n-1].To = max(out[n-1].To, s.To)
		} else if s.From < s.To {
			out = append(out, s)
		}
	}
	return out
}
