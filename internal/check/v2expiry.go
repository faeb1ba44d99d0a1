package check

import "slices"

// V2Rules are what is promised of times to live in the v2 tree. All are in units of the clock of histories but for Second.
type V2Rules struct {
	Second  int64   // instants
	Error   int64   // by which the clocks of two members differed at most
	Bound   int64   // by which what has expired may be there longer, by the leader's clock, while one leads
	Overdue []V2Due // what was seen at leaders
	Stable  []Span  // in which one leader led
}

// V2Due is what a leader had that expires first, at an instant.
type V2Due struct {
	At    int64
	Via   string
	Clock int64 // of the leader
	Due   int64 // Unix nanoseconds, of the first to expire; 0: nothing expires
}

// V2Expiries checks times to live: nothing expires earlier after the request that set its time than that, less what clocks differ; and
// while one leader leads, nothing is there for longer than a bound after its time by the leader's clock. Rules: "v2 expiry that is early",
// "v2 expiry that is late".
func V2Expiries(history []V2Op, truth *V2Truth, rules V2Rules) Report {
	var r Report
	set := map[int64]*V2Op{} // by the expiration, which is in nanoseconds: two of the same are told apart by nothing, and are the same
	for i := range history {
		o := &history[i]
		if x := o.Request.Expiration; x != 0 && (set[x] == nil || set[x].Call > o.Call) {
			set[x] = o
		}
	}
	for i := range truth.events {
		e := &truth.events[i]
		if e.Action != "expire" || e.Prev == nil {
			continue
		}
		r.Expired++
		o, at := set[e.Prev.Expiration], truth.when[i+1]
		if o == nil {
			r.add("v2 expiry that is early", "%v at %d: no client asked for it", e, at)
			continue
		}
		if least := o.Call + o.Request.TTL*rules.Second - rules.Error; at < least {
			r.add("v2 expiry that is early", "%v at %d: %v promised it until %d at least", e, at, o, least)
		}
	}
	r.late(&rules)
	return r
}

// late looks for what was there at a leader for too long after its time.
func (r *Report) late(rules *V2Rules) {
	var first *V2Due // at which what is looked at was overdue
	for i := range rules.Overdue {
		d := &rules.Overdue[i]
		switch {
		case d.Due == 0 || d.Due > d.Clock:
			first = nil
		case first == nil || first.Due != d.Due || first.Via != d.Via:
			first = d
		case d.At >= first.At+rules.Bound && slices.ContainsFunc(rules.Stable, func(s Span) bool { return s.From <= first.At && d.At < s.To }):
			r.add("v2 expiry that is late", "%s, which led all the time, has at %d what expired at %d by its clock, and had it at %d, when that was over already", d.Via, d.At, d.Due, first.At)
			return
		}
	}
}
