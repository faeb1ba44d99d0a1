package k8s

import (
	"fmt"
	"io"
	"strings"
)

// Table writes the report for people.
func (r *Report) Table(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "k8s on %s\n", strings.Join(r.Endpoints, ", "))
	if r.Run != nil {
		r.Run.table(&b, r.APIServers)
	}
	if r.Relist != nil {
		b.WriteString("\nand while an API server lists everything again: ")
		r.Relist.table(&b, r.APIServers)
	}
	if v := r.Verified; v != nil {
		fmt.Fprintf(&b, "\nin the store afterwards: %d pods, %d nodes, %d leases, %d events; %d faults\n", v.Pods, v.Nodes, v.Leases, v.Events, len(v.Faults))
	}
	if f := r.Flood; f != nil {
		fmt.Fprintf(&b, "\nflood of one watcher: %.0f events/s, %d events, %.1f ms behind the writes at the end\n", f.Rate, f.Events, f.Behind)
	}
	if l := r.Limit; l != nil {
		b.WriteString("\nsearch of the limit\n")
		for i := range l.Probes {
			fmt.Fprintf(&b, "  %s\n", l.Probes[i].line())
		}
		more := ""
		if l.Capped {
			more = " or more: the search went no further"
		}
		fmt.Fprintf(&b, "  the service levels hold with %d nodes%s\n", l.Nodes, more)
	}
	if r.OK {
		b.WriteString("\nverdict: every service level was kept\n")
	} else {
		b.WriteString("\nverdict: broken\n")
		for _, why := range r.Broken {
			fmt.Fprintf(&b, "  %s\n", why)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *RunReport) table(b *strings.Builder, servers int) {
	fmt.Fprintf(b, "%d nodes, %d pods, %d API servers, %.0f s\n\n", r.Nodes, r.Pods, servers, r.Seconds)
	fmt.Fprintf(b, "  %-12s %-16s %9s %9s %7s %6s %10s %10s %10s %10s\n", "verb", "resource", "calls", "/s", "errors", "lost", "p50 ms", "p99 ms", "p99.9 ms", "max ms")
	line := func(x *Row) {
		fmt.Fprintf(b, "  %-12s %-16s %9d %9.1f %7d %6d %10.2f %10.2f %10.2f %10.2f\n", x.Verb, x.Resource, x.Count, x.Rate, x.Errors, x.Lost, x.P50, x.P99, x.P999, x.Max)
	}
	for i := range r.Calls {
		line(&r.Calls[i])
	}
	all := r.All
	all.Verb = "all"
	line(&all)
	for i := range r.Delivery {
		x := r.Delivery[i]
		x.Verb = "event"
		line(&x)
	}
	p := r.Progress
	p.Verb = "progress"
	line(&p)
	fmt.Fprintf(b, "\n  %.0f events/s to one API server; %d events missing; %d late starts, %d not sent, %d conflicts, %d connections dialled again\n",
		r.EventRate, r.Missing, r.Late, r.Unsent, r.Conflicts, r.Redials)
	fmt.Fprintf(b, "  the load generator used %.0f%% of a core\n", 100*r.CPU)
	if r.Relisted > 0 {
		fmt.Fprintf(b, "  an API server that had lost its watches watched again after %.0f ms\n", r.Relisted)
	}
	for _, t := range r.ErrorTexts {
		fmt.Fprintf(b, "  %s\n", t)
	}
	if from, to, any := r.bad(); any {
		fmt.Fprintf(b, "  seconds with errors, or more than 1%% too slow: from %.0f to %.0f\n", from, to)
	}
}

// bad is from when to when seconds broke a service level, in seconds since the begin of measuring.
func (r *RunReport) bad() (from, to float64, any bool) {
	for _, s := range r.Timeline {
		if s.Errors == 0 && s.Lost == 0 && s.Over*100 <= s.Calls && s.EventsOver*100 <= s.Events {
			continue
		}
		if !any {
			from, any = s.At, true
		}
		to = s.At + 1
	}
	return from, to, any
}
