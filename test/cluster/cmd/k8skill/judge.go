package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// report is the part of the load generator's JSON that is used.
type report struct {
	Run struct {
		Start   time.Time `json:"start"`
		All     row       `json:"all"`
		Missing int64     `json:"missing_events"`
		Surplus int64     `json:"surplus_events"`
		Faults  []string  `json:"faults"`
		Texts   []string  `json:"error_texts"`
		Slots   []slot    `json:"slots"`
		Redials int64     `json:"redials"`
	} `json:"run"`
	Verified struct {
		Faults []string `json:"faults"`
	} `json:"verified"`
}

type row struct {
	Count  int64   `json:"count"`
	Errors int64   `json:"errors"`
	Lost   int64   `json:"lost"`
	P50    float64 `json:"p50_ms"`
	P99    float64 `json:"p99_ms"`
	Max    float64 `json:"max_ms"`
}

// slot is what was due in a short part of the run.
type slot struct {
	At         float64 `json:"at"` // seconds since the begin
	Calls      int64   `json:"calls"`
	Errors     int64   `json:"errors"`
	Lost       int64   `json:"lost"`
	Over       int64   `json:"over"`
	Max        float64 `json:"max_ms"`
	Events     int64   `json:"events"`
	EventsOver int64   `json:"events_over"`
}

// broken says whether a service level was broken by what was due in the slot.
func (s *slot) broken() bool {
	return s.Errors > 0 || s.Lost > 0 || s.Over*100 > s.Calls || s.EventsOver*100 > s.Events
}

// breach is the longest break of a service level after a kill, and what failed in all.
type breach struct {
	from, length         time.Duration // from the kill
	all                  time.Duration // of all breaks together
	errors, lost, events int64
	over                 int64
	slowest              time.Duration
}

const (
	slotWidth = 50 * time.Millisecond  // the generator's
	gap       = 250 * time.Millisecond // breaks that are closer to each other are one
)

// breachAfter looks at what was due from just before one instant, a kill, to just before another, both since the begin of the run. What
// was due just before a kill was under way then.
func breachAfter(slots []slot, from, to time.Duration) breach {
	var b breach
	first, last := time.Duration(-1), time.Duration(0)
	end := func() {
		if first < 0 {
			return
		}
		b.all += last - first
		if last-first > b.length {
			b.from, b.length = first-from, last-first
		}
	}
	for i := range slots {
		s := &slots[i]
		at := time.Duration(s.At * float64(time.Second))
		if at+2*slotWidth < from || at+2*slotWidth >= to {
			continue
		}
		b.slowest = max(b.slowest, time.Duration(s.Max*float64(time.Millisecond)))
		b.errors, b.lost, b.over, b.events = b.errors+s.Errors, b.lost+s.Lost, b.over+s.Over, b.events+s.EventsOver
		if !s.broken() {
			continue
		}
		if first >= 0 && at-last > gap {
			end()
			first = -1
		}
		if first < 0 {
			first = at
		}
		last = at + slotWidth
	}
	end()
	return b
}

// judge prints what each kill did, and says what must not be.
func judge(o *options, r *report, kills []kill) error {
	fmt.Printf("%s, three members, %d nodes: %d calls, p50 %.1f ms, p99 %.1f ms, max %.0f ms; %d errors, %d lost with a member's connection; %d connections dialled again\n",
		o.kind, o.nodes, r.Run.All.Count, r.Run.All.P50, r.Run.All.P99, r.Run.All.Max, r.Run.All.Errors, r.Run.All.Lost, r.Run.Redials)
	for _, t := range r.Run.Texts {
		fmt.Println("  " + t)
	}
	var failures []error
	for i, k := range kills {
		from, to := k.at.Sub(r.Run.Start), time.Duration(1<<62)
		if i+1 < len(kills) {
			to = kills[i+1].at.Sub(r.Run.Start)
		}
		b := breachAfter(r.Run.Slots, from, to)
		role := "follower"
		if k.leader {
			role = "leader"
		}
		fmt.Printf("%s %s killed: no leader for %d ms; a service level broken for %d ms from %d ms after the kill, %d ms in all: %d errors, %d lost, %d calls and %d events over; slowest call %d ms\n",
			role, k.name, k.leaderless.Milliseconds(), b.length.Milliseconds(), b.from.Milliseconds(), b.all.Milliseconds(), b.errors, b.lost, b.over, b.events, b.slowest.Milliseconds())
		if b.length > k.leaderless+o.slack {
			failures = append(failures, fmt.Errorf("%s %s: broken for %v, longer than %v without a leader and %v to reconnect", role, k.name, b.length, k.leaderless, o.slack))
		}
	}
	if r.Run.Missing > 0 || r.Run.Surplus > 0 {
		failures = append(failures, fmt.Errorf("%d events of acknowledged writes did not come, %d came that nobody caused", r.Run.Missing, r.Run.Surplus))
	}
	if all := append(r.Run.Faults, r.Verified.Faults...); len(all) > 0 {
		failures = append(failures, errors.New(strings.Join(all, "\n")))
	}
	return errors.Join(failures...)
}
