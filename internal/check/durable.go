package check

import (
	"fmt"
	"sort"
)

// Content is everything that one member holds at one revision.
type Content struct {
	Member   string
	Revision int64
	KVs      []KV
}

// Durable checks that nothing acknowledged is lost and nothing is there that nobody asked for. history are all operations,
// truth all events from an empty store on, as far as any operation was acknowledged, and final what members hold after
// everything has come to rest.
//
// It costs little more than one look at each operation and event, if most were answered, and so is for long runs; what Linearizable decides besides
// (whether conditions held, whether reads are right, the order in time) it leaves alone. Operations without an answer are matched
// with the events by their content, so values should be written once only. The rules, by name:
//
//   - "an acknowledged write is lost": the events of the revision in its answer are not what it asked for;
//   - "one revision for two writes";
//   - "an invented revision": its events are what no recorded request asks for, each request being good for one revision,
//     nor the end of a lease (whether its time was over is for Leases to say);
//   - "a final state": it is not what the events make of an empty store at its revision, or is older than a write that was
//     acknowledged.
func Durable(history []Operation, truth *Truth, final []Content) Report {
	d := &durable{truth: truth, claimed: map[int64]*Operation{}, revoked: map[int64]bool{}, cause: map[*Operation]int64{}}
	d.report.Operations = len(history)
	for i := range history {
		d.take(&history[i])
	}
	for _, rev := range truth.revisions {
		if d.claimed[rev] == nil && !d.ended(rev) && !d.explain(rev, map[*Operation]bool{}) {
			d.report.add("an invented revision", "revision %d is what no recorded request asks for: %v", rev, truth.at(rev))
		}
	}
	d.report.Writes, d.report.Happened = truth.last(), len(d.cause)
	d.finals(final)
	return d.report
}

type durable struct {
	report  Report
	truth   *Truth
	claimed map[int64]*Operation
	unknown []*Operation         // not answered
	cause   map[*Operation]int64 // the revision that each of them is taken for
	revoked map[int64]bool       // leases that somebody asked to revoke
	newest  *Operation           // the acknowledged write of the highest revision
}

// take looks at one operation.
func (d *durable) take(o *Operation) {
	kind := o.Request.Kind
	switch {
	case kind == Range || kind == Grant || kind == Compact || o.Answer.Refusal != "":
	case kind == Revoke:
		d.revoked[o.Request.Lease] = true
	case !o.Known():
		d.unknown = append(d.unknown, o)
	case writes(o.Request, o.Answer):
		rev := o.Answer.Revision
		if d.newest == nil || rev > d.newest.Answer.Revision {
			d.newest = o
		}
		if other := d.claimed[rev]; other != nil {
			d.report.add("one revision for two writes", "revision %d was given to %v and to %v", rev, other, o)
			return
		}
		d.claimed[rev] = o
		if len(d.truth.at(rev)) == 0 {
			d.report.add("an acknowledged write is lost", "%v: nothing happened at revision %d, and the last event is of revision %d", o, rev, d.truth.last())
		} else if why := effects(&o.Request, &o.Answer, d.truth.at(rev)); why != "" {
			d.report.add("an acknowledged write is lost", "%v: %s", o, why)
		}
	}
}

// effects says why events are not what r does, and is empty if they are. Of a request without an answer (a is nil) it is
// left open which branch was taken and how much a deletion found.
func effects(r *Request, a *Answer, events []Event) string {
	if a != nil {
		requests, answers := leaves(r, a)
		return consume(requests, answers, events)
	}
	why := ""
	for _, way := range ways([]Request{*r}) {
		if why = consume(way, make([]*Answer, len(way)), events); why == "" {
			return ""
		}
	}
	return why
}

// consume takes the events of each request in turn.
func consume(requests []Request, answers []*Answer, events []Event) string {
	rest := events
	for i := range requests {
		r, a := &requests[i], answers[i]
		switch r.Kind {
		case Put:
			if len(rest) == 0 {
				return fmt.Sprintf("there is no event of %v in %v", r, events)
			}
			if e := rest[0]; e.Delete || e.KV.Key != r.Key || e.KV.Value != r.Value || e.KV.Lease != r.Lease {
				return fmt.Sprintf("the event of %v is %v", r, e)
			}
			rest = rest[1:]
		case Delete:
			n := 0
			for n < len(rest) && rest[n].Delete && r.covers(rest[n].KV.Key) {
				n++
			}
			if a != nil && a.Count > int64(n) {
				return fmt.Sprintf("there are %d events of %v, which deleted %d, in %v", n, r, a.Count, events)
			}
			if a != nil {
				n = int(a.Count)
			}
			rest = rest[n:]
		}
	}
	if len(rest) > 0 {
		return fmt.Sprintf("it does not ask for %v", rest[0])
	}
	return ""
}

// covers reports whether the request's interval holds key.
func (r *Request) covers(key string) bool {
	switch r.End {
	case "":
		return key == r.Key
	case "\x00":
		return key >= r.Key
	}
	return key >= r.Key && key < r.End
}

// ended reports whether revision rev can be the end of a lease, by time or by a revocation. What an unanswered deletion did may
// look the same; then it does not matter who did it.
func (d *durable) ended(rev int64) bool {
	lease := int64(0)
	for _, e := range d.truth.at(rev) {
		if !e.Delete || e.Prev == nil || e.Prev.Lease == 0 || lease != 0 && e.Prev.Lease != lease {
			return false
		}
		lease = e.Prev.Lease
	}
	if !d.revoked[lease] {
		d.report.Expired++
	}
	return true
}

// explain finds an unanswered request for revision rev, and moves others to other revisions if need be: it looks for a way
// to have as many revisions explained as can be. tried are requests that were asked already.
func (d *durable) explain(rev int64, tried map[*Operation]bool) bool {
	for _, o := range d.unknown {
		if tried[o] || effects(&o.Request, nil, d.truth.at(rev)) != "" {
			continue
		}
		tried[o] = true
		if other, taken := d.cause[o]; !taken || d.explain(other, tried) {
			d.cause[o] = rev
			return true
		}
	}
	return false
}

// finals replays the events up to the revision of each final state.
func (d *durable) finals(final []Content) {
	const rule = "a final state"
	sorted := append([]Content(nil), final...)
	sort.SliceStable(sorted, func(i, j int) bool { return sorted[i].Revision < sorted[j].Revision })
	keys, at := map[string]KV{}, 0
	for _, c := range sorted {
		if d.newest != nil && c.Revision < d.newest.Answer.Revision {
			d.report.add(rule, "member %s is at revision %d, and %v was acknowledged", c.Member, c.Revision, d.newest)
		}
		if c.Revision > max(d.truth.last(), 1) {
			d.report.add(rule, "member %s is at revision %d, and the last event is of revision %d", c.Member, c.Revision, d.truth.last())
		}
		for ; at < len(d.truth.revisions) && d.truth.revisions[at] <= c.Revision; at++ {
			for _, e := range d.truth.at(d.truth.revisions[at]) {
				if e.Delete {
					delete(keys, e.KV.Key)
				} else {
					keys[e.KV.Key] = e.KV
				}
			}
		}
		d.compare(c, keys)
	}
}

func (d *durable) compare(c Content, want map[string]KV) {
	const rule = "a final state"
	seen := map[string]bool{}
	for _, kv := range c.KVs {
		should, ok := want[kv.Key]
		switch {
		case seen[kv.Key]:
			d.report.add(rule, "member %s has %q twice", c.Member, kv.Key)
		case !ok:
			d.report.add(rule, "member %s at revision %d has %v, which is not there", c.Member, c.Revision, kv)
		case kv != should:
			d.report.add(rule, "member %s at revision %d has %v, which must be %v", c.Member, c.Revision, kv, should)
		}
		seen[kv.Key] = true
	}
	for _, key := range sortedKeys(want) {
		if !seen[key] {
			d.report.add(rule, "member %s at revision %d lacks %v", c.Member, c.Revision, want[key])
		}
	}
}
