// Package verdict says what the numbers of a load test mean to a person: what was at its limit, what kind of Kubernetes cluster
// could stand on what was measured, and what to do.
//
// It measures nothing and knows no servers: whoever measured hands over a Measured.
//
// How data passes: Of goes through the possible limits from the most certain to the least and takes the first whose numbers say
// so; Text makes lines of it.
//
// Invariants: only what was measured counts; what is not known is said to be unknown. The same numbers give the same verdict.
package verdict

import (
	"fmt"
	"strconv"
	"strings"
)

// Unknown is a number that was not measured.
const Unknown = -1.0

// Measured is what a run measured.
type Measured struct {
	Writes  bool // operations are writes
	Rate    float64
	Asked   float64 // operations a second in an open loop; 0 is a closed loop
	Clients int     // operations under way at most

	Mean, P99  float64 // of the latency, seconds
	ErrorPart  float64 // of all operations, 0 to 1
	ClientBusy float64 // of the processors that the load's process may use, 0 to 1, or Unknown
	Servers    []Server
}

// Server is what one member did meanwhile.
type Server struct {
	Name      string
	Busy      float64 // of the processors that it may use, 0 to 1, or Unknown
	Syncing   float64 // part of the time in which its log was being made durable, or Unknown
	Sync      float64 // mean time of making the log durable, seconds, or Unknown
	SyncP99   float64 // upper bound, seconds, or Unknown
	RoundTrip float64 // median to other members, seconds, or Unknown
}

// What can be at its limit.
const (
	Errors  = "errors"
	Nothing = "nothing"
	Client  = "client"
	CPU     = "cpu"
	Disk    = "disk"
	Network = "network"
	Waiting = "clients" // there were too few of them
)

// Verdict is what the numbers mean.
type Verdict struct {
	Limit      string `json:"limit"` // one of the constants
	Why        string `json:"why"`   // with the numbers
	Kubernetes string `json:"kubernetes,omitempty"`
	Do         string `json:"do,omitempty"`
}

// From which part on something counts as the limit.
const (
	busy      = 0.8  // of processors
	syncing   = 0.7  // of the time
	share     = 0.5  // of the mean latency
	keptUp    = 0.95 // of the rate that was asked for
	tooMany   = 0.01 // of operations that failed
	syncWell  = 0.010
	slowTails = 1.0 // seconds
)

// Of judges a run.
func Of(m Measured) Verdict {
	v := limit(&m)
	if m.Writes {
		v.Kubernetes = kubernetes(&m)
	}
	return v
}

func limit(m *Measured) Verdict {
	switch {
	case m.ErrorPart > tooMany:
		return Verdict{Limit: Errors, Why: fmt.Sprintf("%.1f%% of the operations failed: the other numbers mean little", 100*m.ErrorPart), Do: "see the errors above, and quorate status"}
	case m.Asked > 0 && m.Rate >= keptUp*m.Asked:
		return Verdict{Limit: Nothing, Why: fmt.Sprintf("all of the %s/s that were asked for were served", rate(m.Asked)), Do: "ask for more (--rate), or leave --rate away, to find the limit"}
	case m.ClientBusy >= busy:
		return Verdict{Limit: Client, Why: fmt.Sprintf("this program used %.0f%% of its processors: the servers may be able to do more", 100*m.ClientBusy), Do: "put the load on from another machine, or from several"}
	}
	for _, s := range m.Servers {
		if s.Busy >= busy {
			return Verdict{Limit: CPU, Why: fmt.Sprintf("%s used %.0f%% of its processors", s.Name, 100*s.Busy), Do: "give the members more or faster processors, and look whether something else uses them"}
		}
	}
	if m.Writes {
		if v, ok := disk(m); ok {
			return v
		}
	}
	for _, s := range m.Servers {
		if s.RoundTrip > 0 && s.RoundTrip >= share*m.Mean {
			return Verdict{Limit: Network, Why: fmt.Sprintf("a round trip from %s to another member takes %s, of %s for an operation", s.Name, duration(s.RoundTrip), duration(m.Mean)), Do: "bring the members nearer to each other, or accept the distance; more clients at once raise the rate"}
		}
	}
	if m.Asked > 0 {
		return Verdict{Limit: Waiting, Why: fmt.Sprintf("%s/s of %s/s were served, and nothing that was measured was at its limit", rate(m.Rate), rate(m.Asked)), Do: "raise --in-flight and --connections"}
	}
	return Verdict{Limit: Waiting, Why: fmt.Sprintf("%d operations at once, each of %s, make %s/s; nothing that was measured was at its limit", m.Clients, duration(m.Mean), rate(m.Rate)),
		Do: fmt.Sprintf("raise --clients (%d) to find the limit", max(10, 4*m.Clients))}
}

// disk says whether a disk was the limit: it was at it nearly all the time, or most of what an operation takes.
func disk(m *Measured) (Verdict, bool) {
	do := "give the log a disk that is faster to sync, or one of its own (--wal-dir); quorate doctor --data-dir measures it"
	for _, s := range m.Servers {
		tail := ""
		if s.SyncP99 > 0 {
			tail = fmt.Sprintf(", up to %s at p99", duration(s.SyncP99))
		}
		switch {
		case s.Sync > 0 && s.Sync >= share*m.Mean:
			return Verdict{Limit: Disk, Why: fmt.Sprintf("making the log durable takes %s on %s%s, of %s for an operation", duration(s.Sync), s.Name, tail, duration(m.Mean)), Do: do + ". More clients at once share a sync and raise the rate"}, true
		case s.Syncing >= syncing:
			return Verdict{Limit: Disk, Why: fmt.Sprintf("the log of %s was being made durable %.0f%% of the time, %s each%s", s.Name, 100*s.Syncing, duration(s.Sync), tail), Do: do}, true
		}
	}
	return Verdict{}, false
}

// sizes are those of etcd's advice for hardware: requests a second, and the nodes of a Kubernetes cluster that make them.
var sizes = []struct {
	name        string
	rate, nodes int
}{{"small", 200, 50}, {"medium", 1000, 250}, {"large", 10_000, 1000}}

// kubernetes says what the measured rate of writes is good for.
func kubernetes(m *Measured) string {
	text := fmt.Sprintf("less than the %d/s of a small cluster (%d nodes) in etcd's advice for hardware", sizes[0].rate, sizes[0].nodes)
	for i, s := range sizes {
		if m.Rate < float64(s.rate) {
			break
		}
		text = fmt.Sprintf("enough for a %s cluster (%s/s, %d nodes) in etcd's advice for hardware", s.name, rate(float64(s.rate)), s.nodes)
		if i+1 < len(sizes) {
			text += fmt.Sprintf("; a %s one asks for %s/s", sizes[i+1].name, rate(float64(sizes[i+1].rate)))
		}
	}
	text = fmt.Sprintf("%s writes/s: %s", rate(m.Rate), text)
	if m.P99 > slowTails {
		text += fmt.Sprintf("; but p99 is %s, and the API server's calls are to be answered within a second", duration(m.P99))
	}
	for _, s := range m.Servers {
		if s.SyncP99 > syncWell*1.001 {
			text += fmt.Sprintf("; and the disk of %s needs up to %s at p99 where at most 10 ms are advised", s.Name, duration(s.SyncP99))
			break
		}
	}
	return text
}

// Text is the verdict in lines for people.
func (v Verdict) Text() string {
	var b strings.Builder
	b.WriteString("  verdict\n")
	for _, line := range []struct{ name, text string }{{"limit", v.Limit + ": " + v.Why}, {"Kubernetes", v.Kubernetes}, {"do", v.Do}} {
		if line.text != "" {
			fmt.Fprintf(&b, "    %-10s  %s\n", line.name, wrapped(line.text, "\n                "))
		}
	}
	return b.String()
}

// width is of the lines of a text, without their indent.
const width = 100

// wrapped is text in lines of at most width, with next between them.
func wrapped(text, next string) string {
	var b strings.Builder
	column := 0
	for _, word := range strings.Fields(text) {
		switch {
		case column > 0 && column+1+len(word) > width:
			b.WriteString(next)
			column = 0
		case column > 0:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}

// rate writes a rate with commas.
func rate(v float64) string {
	s := strconv.FormatInt(int64(v+0.5), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func duration(seconds float64) string {
	if seconds < 1 {
		return strconv.FormatFloat(seconds*1e3, 'g', 3, 64) + " ms"
	}
	return strconv.FormatFloat(seconds, 'f', 1, 64) + " s"
}
