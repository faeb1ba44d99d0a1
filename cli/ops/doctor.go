package ops

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"quorate.dev/quorate/cli"
)

// doctorFlags are the flags of doctor.
type doctorFlags struct {
	window  time.Duration
	dataDir string
	all     bool
	strict  bool
}

func doctorVerb() cli.Verb {
	var d doctorFlags
	return cli.Verb{
		Use: "doctor", Short: "Check a cluster for what hurts, or soon will, and say what to do", Group: cli.GroupInsight,
		Long: `Check a cluster for what hurts, or soon will: disks, clocks, settings, quota, certificates, retained history, the network
between members, alarms, versions, learners, open files. Each check passes, warns or fails with its reason and what to do.

Latencies and failures are those of the last seconds (--window), where there were enough, else since the member's start. With
--data-dir, on a member's machine, its disk is measured directly with a small file that is removed again. The exit code is 1
when a check fails, 0 otherwise; with --strict warnings count as failures.`,
		Example: "  quorate doctor\n  quorate doctor --data-dir /var/lib/etcd --all",
		Flags: func(f *pflag.FlagSet) {
			f.DurationVar(&d.window, "window", 2*time.Second, "how long to look at what happens, 0 for not at all")
			f.StringVar(&d.dataDir, "data-dir", "", "measure the disk of this directory on this machine")
			f.BoolVar(&d.all, "all", false, "show checks that pass for each member, not only their number")
			f.BoolVar(&d.strict, "strict", false, "exit with 1 for warnings, too")
		},
		Run: func(s *cli.Session, args []string) error {
			if err := noArguments("doctor", args); err != nil {
				return err
			}
			return d.run(s)
		},
	}
}

// Diagnosis is the answer of "quorate doctor -w json".
type Diagnosis struct {
	Healthy  bool      `json:"healthy"`
	Findings []Finding `json:"findings"` // the worst first
	Cluster  *Cluster  `json:"cluster"`
}

func (d *doctorFlags) run(s *cli.Session) error {
	g, problem, err := newGatherer(s)
	if err != nil {
		return err
	}
	defer g.close()
	inJSON, err := asJSON(s)
	if err != nil {
		return err
	}
	var disk []Finding
	if d.dataDir != "" {
		disk = probeDisk(s.Context, d.dataDir, s.Clock())
	}
	c := g.gather(s.Context)
	c.note(problem)
	recent := d.watch(s.Context, g, c)
	if s.Context.Err() != nil {
		return errInterrupted
	}
	b := &book{c: c, now: s.Clock().Now(), all: append(examine(c, s.Clock().Now()), disk...)}
	b.deep(recent)
	all := b.sorted()
	level := worst(all)
	if inJSON {
		err = writeJSON(s, Diagnosis{level != Fail, all, c})
	} else {
		sc := newScreen(s)
		sc.diagnosis(all, d.all)
		err = sc.flush(s.Process.Stdout)
	}
	if err != nil {
		return err
	}
	return outcome(level, d.strict)
}

// watch is what the members' counters did in the window, by id.
func (d *doctorFlags) watch(ctx context.Context, g *gatherer, c *Cluster) map[string]metrics {
	out := map[string]metrics{}
	if d.window <= 0 {
		return out
	}
	timer := g.clock.NewTimer(d.window)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return out
	}
	type page struct {
		id string
		m  metrics
	}
	pages := make(chan page, len(c.Members))
	for _, m := range c.Members {
		go func() {
			p := page{id: m.ID}
			if m.Web != nil && m.Web.metrics != nil {
				ctx, cancel := context.WithTimeout(ctx, g.patience)
				defer cancel()
				if text, _, err := g.get(ctx, baseURL(m.Endpoint, g.secure())+"/metrics", false); err == nil {
					p.m = parseMetrics(string(text)).minus(m.Web.metrics)
				}
			}
			pages <- p
		}()
	}
	for range c.Members {
		if p := <-pages; p.m != nil {
			out[p.id] = p.m
		}
	}
	return out
}

// diagnosis writes what is wrong in full, and of what is right the reasons once for each check, unless all is wanted.
func (sc *screen) diagnosis(all []Finding, every bool) {
	var wrong, right []Finding
	for _, f := range all {
		if f.Level == Pass {
			right = append(right, f)
		} else {
			wrong = append(wrong, f)
		}
	}
	sc.findings(wrong)
	if every {
		sc.findings(right)
	} else {
		sc.passed(right)
	}
	fails := 0
	for _, f := range wrong {
		if f.Level == Fail {
			fails++
		}
	}
	color := green
	if fails > 0 {
		color = red
	} else if len(wrong) > 0 {
		color = yellow
	}
	sc.printf("%s\n", sc.paint(color, plural(len(right), "check")+" passed, "+plural(len(wrong)-fails, "warning")+", "+plural(fails, "failure")+"."))
}

// passed writes one line for each check that passed.
func (sc *screen) passed(right []Finding) {
	var order []string
	of := map[string][]Finding{}
	for _, f := range right {
		if of[f.Check] == nil {
			order = append(order, f.Check)
		}
		of[f.Check] = append(of[f.Check], f)
	}
	for _, check := range order {
		list := of[check]
		text := check + ": " + list[0].What
		if list[0].Member != "" {
			text = check + " " + list[0].Member + ": " + list[0].What
		}
		if n := len(list) - 1; n > 0 {
			text += " (and " + fmt.Sprint(n, " more") + ")"
		}
		sc.printf("%s  %s\n", sc.paint(green, string(Pass)), wrap(text, 110, "      "))
	}
	if len(order) > 0 {
		sc.printf("\n")
	}
}
