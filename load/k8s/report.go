package k8s

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"sort"
	"time"

	"quorate.dev/quorate/load"
)

// Report is everything that was measured. Its JSON is an interface: scripts read it.
type Report struct {
	Workload    string     `json:"workload"`
	Endpoints   []string   `json:"endpoints"`
	APIServers  int        `json:"api_servers"`
	FillSeconds float64    `json:"fill_seconds"`
	FillPods    int64      `json:"fill_pods"`
	Run         *RunReport `json:"run"`
	Relist      *RunReport `json:"relist,omitempty"` // a run in which an API server lists everything again
	Verified    *Verified  `json:"verified,omitempty"`
	Flood       *Flood     `json:"flood,omitempty"`
	Limit       *Limit     `json:"limit,omitempty"`
	OK          bool       `json:"ok"`     // every service level was kept, and nothing was lost
	Broken      []string   `json:"broken"` // why not
}

// RunReport is one run.
type RunReport struct {
	Start      time.Time `json:"start"` // of measuring
	Seconds    float64   `json:"seconds"`
	Nodes      int       `json:"nodes"`
	Pods       int64     `json:"pods"` // in the store at the end
	All        Row       `json:"all"`
	Calls      []Row     `json:"calls"`
	Delivery   []Row     `json:"delivery"` // of events, by resource
	Progress   Row       `json:"progress"`
	Faulty               // what a store must not do
	Client               // how the load generator did
	ErrorTexts []string  `json:"error_texts"`
	Timeline   []Second  `json:"timeline"`
	Slots      []Second  `json:"slots,omitempty"` // the finest series
	OK         bool      `json:"ok"`
	Broken     []string  `json:"broken"`
}

// Faulty counts what a store must not do.
type Faulty struct {
	Missing int64    `json:"missing_events"` // of acknowledged writes
	Surplus int64    `json:"surplus_events"` // of writes that nobody made
	Faults  []string `json:"faults"`
}

// Client says how the load generator did.
type Client struct {
	EventRate float64 `json:"events_per_second"` // to one API server
	Late      int64   `json:"late"`              // calls started 10 ms after they were due
	Unsent    int64   `json:"unsent"`
	Conflicts int64   `json:"conflicts"`
	Redials   int64   `json:"redials"`
	CPU       float64 `json:"client_cpu_share"` // of one core
	Relisted  float64 `json:"relist_ms"`        // until an API server watched again that had lost its watches
}

// Row is calls of a verb on a resource, or events of one. Latencies are in milliseconds, from the instant the call was due.
type Row struct {
	Verb     string  `json:"verb,omitempty"`
	Resource string  `json:"resource,omitempty"`
	Count    int64   `json:"count"`
	Rate     float64 `json:"per_second"`
	Errors   int64   `json:"errors"`
	Lost     int64   `json:"lost"` // failed with the connection to their member
	Over     int64   `json:"over"` // slower than the service level
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	P999     float64 `json:"p99.9_ms"`
	P9999    float64 `json:"p99.99_ms"`
	Max      float64 `json:"max_ms"`
	limit    time.Duration
}

// Second is what was due in a second of the run, or in a shorter slot of it.
type Second struct {
	At         float64 `json:"at"` // since the begin of measuring, seconds
	Calls      int64   `json:"calls"`
	Errors     int64   `json:"errors"`
	Lost       int64   `json:"lost"`
	Over       int64   `json:"over"`
	Max        float64 `json:"max_ms"`
	Events     int64   `json:"events"`
	EventsOver int64   `json:"events_over"`
	EventsMax  float64 `json:"events_max_ms"`
}

func newReport(o *Options) *Report {
	return &Report{Workload: "k8s", Endpoints: o.Target.Endpoints, APIServers: o.Size.APIServers, Broken: []string{}}
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func round(v float64, digits int) float64 {
	p := math.Pow(10, float64(digits))
	return math.Round(v*p) / p
}

// row makes a row of a histogram, which may be nil.
func row(h *load.Histogram, c counts, took time.Duration) Row {
	r := Row{Count: c.calls, Errors: c.errors, Lost: c.lost, Over: c.over}
	if took > 0 {
		r.Rate = round(float64(c.calls)/took.Seconds(), 1)
	}
	if h != nil {
		at := func(q float64) float64 { return round(millis(h.Quantile(q)), 3) }
		r.P50, r.P99, r.P999, r.P9999, r.Max = at(0.5), at(0.99), at(0.999), at(0.9999), at(1)
	}
	return r
}

// report makes the report of a run of so long.
func (d *driver) report(rec *recorder, took time.Duration, m meters) *RunReport {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	r := &RunReport{Seconds: round(took.Seconds(), 2), Calls: []Row{}, Delivery: []Row{}, ErrorTexts: []string{}, Broken: []string{}}
	r.Faults = []string{}
	r.Late, r.Unsent, r.Conflicts, r.Redials = rec.late, rec.unsent, m.conflicts, m.redials
	r.Relisted = round(millis(d.relisted), 1)
	if took > 0 {
		r.CPU = round(m.cpu.Seconds()/(took+max(d.o.Times.Warmup, 0)).Seconds(), 3)
	}
	var all counts
	for c := range classes {
		n := rec.counts[c]
		if n.calls+n.errors+n.lost == 0 {
			continue
		}
		all.add(n)
		x := row(rec.hist[c], n, took)
		x.Verb, x.Resource, x.limit = kinds[c].verb, kinds[c].resource, rec.slo.limit(c)
		r.Calls = append(r.Calls, x)
	}
	r.All = row(&rec.all, all, took)
	arrived := int64(0)
	for kind := range active {
		if h := rec.delivery[kind]; h != nil {
			x := row(h, counts{calls: h.Count()}, took)
			x.Resource, x.limit = resourceNames[kind], rec.slo.Delivery
			r.Delivery = append(r.Delivery, x)
			arrived += h.Count()
		}
	}
	if took > 0 {
		r.EventRate = round(float64(arrived)/took.Seconds()/float64(len(d.links)), 1)
	}
	r.Progress = row(&rec.progress, rec.waits, took)
	r.Progress.limit = rec.slo.Progress
	for text, n := range rec.texts {
		r.ErrorTexts = append(r.ErrorTexts, fmt.Sprintf("%d x %s", n, text))
	}
	sort.Strings(r.ErrorTexts)
	r.Timeline = timeline(rec.slots, time.Second)
	if d.o.Store.Slots {
		r.Slots = timeline(rec.slots, SlotWidth)
	}
	return r
}

// timeline adds slots up to rows of a width.
func timeline(slots []slot, width time.Duration) []Second {
	per := int(width / SlotWidth)
	rows := []Second{}
	for from := 0; from < len(slots); from += per {
		var calls, events counts
		for _, s := range slots[from:min(from+per, len(slots))] {
			calls.add(s.calls)
			events.add(s.events)
		}
		rows = append(rows, Second{At: round((time.Duration(from) * SlotWidth).Seconds(), 3), Calls: calls.calls, Errors: calls.errors, Lost: calls.lost,
			Over: calls.over, Max: round(millis(calls.max), 3), Events: events.calls, EventsOver: events.over, EventsMax: round(millis(events.max), 3)})
	}
	return rows
}

// JSON writes the report as one object on one line.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(r)
}
