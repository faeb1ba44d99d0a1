package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// report collects the results of a run.
type report struct {
	Time    string                       `json:"time"`
	Took    string                       `json:"took"`
	Command string                       `json:"command"`
	Machine string                       `json:"machine"`
	Sources string                       `json:"sources"` // the commit that was measured
	Servers map[string]string            `json:"servers"` // version by name
	Members int                          `json:"members"`
	Rounds  int                          `json:"rounds"`
	Quick   bool                         `json:"quick,omitempty"`
	Failure string                       `json:"failure,omitempty"`  // why the run ended early
	LeftOut map[string]map[string]string `json:"left_out,omitempty"` // why, by job and server
	Results []*result                    `json:"results"`

	start time.Time
	lean  *lean
}

func newReport(o *options, contenders []*contender) (*report, error) {
	r := &report{start: time.Now(), Members: o.members, Rounds: o.rounds, Quick: o.quick, Servers: map[string]string{},
		LeftOut: map[string]map[string]string{}, Command: command(), Sources: sources()}
	r.Time = r.start.UTC().Format(time.RFC3339)
	for _, c := range contenders {
		r.Servers[c.name] = c.version
		if c.name == "quorate" {
			r.lean = findLean(c.bin)
		}
	}
	var err error
	r.Machine, err = machine(o.dir)
	return r, err
}

// command is the command line as it was given; of paths only the last element, which is all that a reader can use.
func command() string {
	words := []string{"go run ."}
	flag.Visit(func(f *flag.Flag) {
		v := f.Value.String()
		if strings.Contains(v, "/") {
			v = filepath.Base(v)
		}
		words = append(words, fmt.Sprintf("-%s=%s", f.Name, v))
	})
	return strings.Join(words, " ")
}

// sources names the commit of the tree this runs in, and says when the tree differs from it.
func sources() string {
	commit, err := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "unknown commit"
	}
	name := "commit " + strings.TrimSpace(string(commit))
	if changed, err := exec.Command("git", "status", "--porcelain", "--untracked-files=no", ":/").Output(); err != nil || len(changed) > 0 {
		name += " with changes"
	}
	return name
}

func (r *report) leaveOut(job, server, why string) {
	if r.LeftOut[job] == nil {
		r.LeftOut[job] = map[string]string{}
	}
	r.LeftOut[job][server] = why
}

// over is a figure of a job on a server over the rounds.
func (r *report) over(job, server, figure string) spread {
	var values []float64
	for _, x := range r.Results {
		if v, ok := x.Figures[figure]; ok && x.Job == job && x.Server == server {
			values = append(values, v)
		}
	}
	return spreadOf(values)
}

func (r *report) markdown() string {
	var b strings.Builder
	if r.Failure != "" {
		fmt.Fprintf(&b, "**INCOMPLETE: the run ended early. The numbers below are those until then.** Why:\n\n```\n%s\n```\n\n", r.Failure)
	}
	if r.Quick {
		b.WriteString("**QUICK: small sizes, which check the harness. The numbers mean nothing.**\n\n")
	}
	fmt.Fprintf(&b, "# Quorate beside etcd, %s\n\n", r.Time)
	fmt.Fprintf(&b, "- Command: `%s` in `bench/`; it took %s.\n- Machine: %s\n- Quorate: %s, %s. etcd: %s. Members of each: %d.\n", r.Command, r.Took,
		r.Machine, r.Servers["quorate"], r.Sources, r.Servers["etcd"], r.Members)
	fmt.Fprintf(&b, "- %d rounds; in each, every suite of jobs ran on one server and then on the other, in changing order, on fresh data directories on one disk, with fsync.\n", r.Rounds)
	b.WriteString("- Figures are medians over the rounds. The client is grpc-go with hand-made messages, the same for both; \"lean\" is `quorate bench`, the same for both.\n")
	b.WriteString("- Values are half random, half text. MB are 10^6 bytes. Percentiles of schedules count from when a request was due.\n\n")
	r.goals(&b)
	r.leftOut(&b)
	r.details(&b)
	return b.String()
}

func (r *report) goals(b *strings.Builder) {
	b.WriteString("## Goals\n\n| row | etcd | quorate | ratio | goal | reached |\n|---|---|---|---|---|---|\n")
	reached, counted := 0, 0
	goals := goalsOf(r.Members)
	for i := range goals {
		g := &goals[i]
		v := g.judge(r.over(g.job, "quorate", g.figure), r.over(g.job, "etcd", g.figure))
		switch {
		case v.reached == "-" || v.reached == unknown:
		case r.Quick:
			v.reached = "quick run"
		case r.Failure != "":
			v.reached += " (incomplete run)"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", g.row, v.etcd, v.ours, v.ratio, v.goal, v.reached)
		if g.bound != noGoal {
			counted++
		}
		if v.reached == "yes" {
			reached++
		}
	}
	if r.Quick || r.Failure != "" {
		b.WriteString("\n")
		return
	}
	fmt.Fprintf(b, "\n%d of %d goals reached.\n\n", reached, counted)
}

func (r *report) leftOut(b *strings.Builder) {
	first := true
	for _, s := range suites {
		for _, j := range s.jobs {
			for _, server := range []string{"quorate", "etcd"} {
				if why, ok := r.LeftOut[j.name][server]; ok {
					if first {
						b.WriteString("## Not measured\n\n")
						first = false
					}
					fmt.Fprintf(b, "- %s on %s: %s.\n", j.name, server, why)
				}
			}
		}
	}
	if !first {
		b.WriteString("\n")
	}
}

// details is every figure of every job.
func (r *report) details(b *strings.Builder) {
	b.WriteString("## All figures\n\nMedian (least to most) and n, the number of rounds that measured it. Jobs that take a server very long run in the first round only.\n\n")
	b.WriteString("| job | figure | etcd | n | quorate | n | ratio |\n|---|---|---|---|---|---|---|\n")
	for _, s := range suites {
		for _, j := range s.jobs {
			for i := range figures {
				f := &figures[i]
				ours, etcd := r.over(j.name, "quorate", f.name), r.over(j.name, "etcd", f.name)
				if ours.n+etcd.n == 0 {
					continue
				}
				ratio := "-"
				if ours.n > 0 && etcd.n > 0 && etcd.median != 0 {
					ratio = fmt.Sprintf("%.2f", ours.median/etcd.median)
				}
				fmt.Fprintf(b, "| %s | %s | %s | %d | %s | %d | %s |\n", j.name, f.name, f.between(etcd), etcd.n, f.between(ours), ours.n, ratio)
			}
		}
	}
	b.WriteString("\n## Jobs\n\n")
	for _, s := range suites {
		for _, j := range s.jobs {
			fmt.Fprintf(b, "- **%s**: %s.\n", j.name, j.what)
		}
	}
}

// between is a spread in the figure's unit.
func (f *figure) between(s spread) string {
	if s.n == 0 {
		return "-"
	}
	if s.n == 1 {
		return f.show(s.median)
	}
	return fmt.Sprintf("%s ("+f.format+" to "+f.format+")", f.show(s.median), s.min/f.per, s.max/f.per)
}

// write prints the report and, when out is not empty, saves it there as text and JSON.
func (r *report) write(out string) error {
	text := r.markdown()
	fmt.Println("\n" + text)
	if out == "" {
		return nil
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	name := filepath.Join(out, strings.NewReplacer(":", "", "-", "").Replace(r.Time))
	if r.Failure != "" {
		name += "-incomplete"
	}
	if err := os.WriteFile(name+".md", []byte(text), 0o644); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(name+".json", append(raw, '\n'), 0o644)
}
