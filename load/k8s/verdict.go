package k8s

import "fmt"

// judge says whether the run kept the service levels: 99% of calls by verb and resource, of events and of progress requests within
// their limit, no errors, no event missing. Calls that were lost with their member's connection are reported but break nothing by
// themselves: what they delay counts.
func (r *RunReport) judge(slo *SLO) {
	broken := func(format string, args ...any) { r.Broken = append(r.Broken, fmt.Sprintf(format, args...)) }
	slow := func(what string, x *Row) {
		if x.Count > 0 && x.Over*100 > x.Count {
			broken("%s: p99 %.1f ms is over %v", what, x.P99, x.limit)
		}
	}
	for i := range r.Calls {
		x := &r.Calls[i]
		name := x.Verb + " " + x.Resource
		slow(name, x)
		if x.Errors > 0 {
			broken("%s: %d errors", name, x.Errors)
		}
	}
	for i := range r.Delivery {
		x := &r.Delivery[i]
		if x.P99 > millis(slo.Delivery) {
			broken("delivery of %s: p99 %.1f ms is over %v", x.Resource, x.P99, slo.Delivery)
		}
	}
	slow("progress requests", &r.Progress)
	if r.Progress.Errors > 0 {
		broken("%d progress requests were not answered", r.Progress.Errors)
	}
	if r.Missing > 0 {
		broken("%d events of acknowledged writes did not come", r.Missing)
	}
	if r.Surplus > 0 {
		broken("%d events came that nobody caused", r.Surplus)
	}
	for _, f := range r.Faults {
		broken("%s", f)
	}
	if r.All.Count == 0 {
		broken("no call succeeded")
	}
	r.OK = len(r.Broken) == 0
}

// judge says whether everything was in order. What a search found out about larger clusters is not judged.
func (r *Report) judge() {
	if r.Run != nil {
		r.Broken = append(r.Broken, r.Run.Broken...)
	}
	if r.Relist != nil {
		for _, why := range r.Relist.Broken {
			r.Broken = append(r.Broken, "while relisting: "+why)
		}
	}
	if r.Verified != nil {
		r.Broken = append(r.Broken, r.Verified.Faults...)
	}
	r.OK = r.Run != nil && len(r.Broken) == 0
}
