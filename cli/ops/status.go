package ops

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"quorate.dev/quorate/cli"
)

// Verbs are the verbs of this package.
func Verbs() []cli.Verb {
	return []cli.Verb{statusVerb(), doctorVerb(), topVerb(), duVerb(), historyVerb()}
}

// formats of output.
const (
	formatJSON   = "json"
	formatSimple = "simple"
	formatTable  = "table"
)

// asJSON says whether JSON was asked for. Errors: a format that these verbs do not have.
func asJSON(s *cli.Session) (bool, error) {
	switch s.Globals.Output {
	case formatJSON:
		return true, nil
	case formatSimple, formatTable:
		return false, nil
	}
	return false, cli.Failf(cli.ExitBadFeature, "output format %q: this verb has simple (for people) and json", s.Globals.Output)
}

// writeJSON writes one object on one line.
func writeJSON(s *cli.Session, v any) error {
	e := json.NewEncoder(s.Process.Stdout)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// noArguments refuses arguments.
func noArguments(verb string, args []string) error {
	if len(args) > 0 {
		return cli.Failf(cli.ExitBadArgs, "%s takes no arguments, and got %q", verb, args)
	}
	return nil
}

func statusVerb() cli.Verb {
	strict := false
	return cli.Verb{
		Use: "status", Short: "Show a cluster on one screen: what is wrong first", Group: cli.GroupInsight,
		Long: `Show a cluster on one screen: what is wrong first with the next step to take, then every member.

One endpoint of the cluster is enough: the others are found by its list of members. Members that do not answer within
--dial-timeout are shown as such. It works on etcd's clusters, too. The exit code is 1 when something is wrong, 0 otherwise;
with --strict warnings count as wrong. "quorate doctor" looks deeper.`,
		Example: "  quorate status\n  quorate status --endpoints=https://10.0.0.1:2379 --cacert=ca.crt -w json",
		Flags:   func(f *pflag.FlagSet) { f.BoolVar(&strict, "strict", false, "exit with 1 for warnings, too") },
		Run: func(s *cli.Session, args []string) error {
			if err := noArguments("status", args); err != nil {
				return err
			}
			return status(s, strict)
		},
	}
}

// Status is the answer of "quorate status -w json".
type Status struct {
	Healthy  bool      `json:"healthy"`
	Findings []Finding `json:"findings"` // warnings and failures
	*Cluster
}

func status(s *cli.Session, strict bool) error {
	g, problem, err := newGatherer(s)
	if err != nil {
		return err
	}
	defer g.close()
	inJSON, err := asJSON(s)
	if err != nil {
		return err
	}
	c := g.gather(s.Context)
	c.note(problem)
	var wrong []Finding
	for _, f := range examine(c, s.Clock().Now()) {
		if f.Level != Pass {
			wrong = append(wrong, f)
		}
	}
	level := worst(wrong)
	if inJSON {
		err = writeJSON(s, Status{Healthy: level != Fail, Findings: append([]Finding{}, wrong...), Cluster: c})
	} else {
		sc := newScreen(s)
		sc.status(c, wrong, s.Clock().Now())
		err = sc.flush(s.Process.Stdout)
	}
	if err != nil {
		return err
	}
	return outcome(level, strict)
}

// outcome is how a verb ends that found the worst to be level.
func outcome(level Level, strict bool) error {
	if level == Fail || strict && level == Warn {
		return cli.Fail(cli.ExitError, nil)
	}
	return nil
}

// note adds a problem that concerns the whole cluster.
func (c *Cluster) note(problem string) {
	if problem != "" {
		c.Problem = strings.Trim(problem+"; "+c.Problem, "; ")
	}
}

func (sc *screen) status(c *Cluster, wrong []Finding, now time.Time) {
	up := 0
	for _, m := range c.Members {
		if m.State != nil {
			up++
		}
	}
	id, leader := c.ID, c.Leader
	if id == "" {
		id = "(unknown)"
	}
	if leader == "" {
		leader = "nobody"
	}
	sc.printf("%s %s   %d of %s answer   %s leads in term %d   revision %s\n\n", sc.paint(bold, "cluster"), id, up, plural(len(c.Members), "member"), leader, c.Term, grouped(c.Revision))
	if c.Problem != "" && c.ID != "" {
		sc.printf("%s\n\n", wrap(c.Problem, 110, ""))
	}
	if len(wrong) == 0 {
		sc.printf("%s\n\n", sc.paint(green, "Nothing is wrong."))
	}
	sc.findings(wrong)
	sc.members(c, now)
}

// findings writes each with what to do about it. What is the same for several members is written once.
func (sc *screen) findings(all []Finding) {
	said := map[Finding]bool{}
	for _, f := range all {
		same := f
		if same.Member = ""; said[same] {
			continue
		}
		said[same] = true
		color := map[Level]string{Pass: green, Warn: yellow, Fail: red}[f.Level]
		who := f.Check
		if names := about(same, all); len(names) > 0 {
			who += " " + strings.Join(names, ", ")
		}
		sc.printf("%s  %s\n", sc.paint(color, string(f.Level)), wrap(who+": "+f.What, 110, "      "))
		if f.Do != "" {
			sc.printf("      %s %s\n", sc.paint(faint, "do:"), wrap(f.Do, 106, "          "))
		}
	}
	if len(all) > 0 {
		sc.printf("\n")
	}
}

// about are the members that a finding is about.
func about(what Finding, all []Finding) (names []string) {
	for _, f := range all {
		name := f.Member
		if f.Member = ""; f == what && name != "" {
			names = append(names, name)
		}
	}
	return names
}

func (sc *screen) members(c *Cluster, now time.Time) {
	rows := [][]cell{{left("NAME"), left("ROLE"), left("ENDPOINT"), left("VERSION"), number("REVISION"), number("LAG"), number("DATA"), number("DISK"), number("QUOTA USED"), number("FSYNC P99"), number("CERT"), number("UP"), left("")}}
	for _, m := range c.Members {
		role := "voter"
		switch {
		case m.Learner:
			role = "learner"
		case m.State != nil && m.State.Leader == m.ID && m.ID != "":
			role = "leader"
		}
		if m.State == nil {
			at := strings.Join(m.Endpoints, ",")
			rows = append(rows, []cell{left(m.title()), left(role), left(at), {text: "does not answer", color: red}})
			continue
		}
		s := m.State
		version, quota, fsync, cert, up := s.Version, "-", "-", "-", "-"
		used, limited := m.used()
		if limited {
			quota = percent(float64(used), float64(s.Quota))
		}
		if w := m.Web; w != nil {
			if w.Own != "" {
				version = w.Own + " (" + version + ")"
			}
			if h := w.metrics.histogram("etcd_disk_wal_fsync_duration_seconds", ""); h.count > 0 {
				fsync = "<" + seconds(h.quantile(0.99))
			}
			if end := m.firstEnd(); end != 0 {
				cert = span(time.Unix(end, 0).Sub(now))
			}
			if started, ok := w.started(); ok {
				up = span(now.Sub(started))
			}
		}
		color := ""
		if role == "leader" {
			color = bold
		}
		rows = append(rows, []cell{{text: m.title(), color: color}, left(role), left(m.Endpoint), left(version), number(grouped(s.Revision)), number(grouped(int64(c.behind(m)))),
			number(size(float64(s.InUse))), number(size(float64(s.Size))), number(quota), number(fsync), number(cert), number(up), left(webNote(m.Web))})
	}
	sc.table(rows)
}

// started is when the member's process started.
func (w *Web) started() (time.Time, bool) {
	if w.report != nil {
		return time.Unix(0, w.report.Started), true
	}
	at := w.metrics.value("process_start_time_seconds")
	return time.Unix(int64(at), 0), at > 0
}

// webNote is what is missing of a member's pages.
func webNote(w *Web) string {
	if w != nil && w.Error != "" {
		return fmt.Sprintf("no pages: %s", w.Error)
	}
	return ""
}

// firstEnd is when the first of a member's certificates ends, seconds since 1970; 0 when it has none.
func (m *Member) firstEnd() (end int64) {
	first := func(at int64) {
		if end == 0 || at < end {
			end = at
		}
	}
	if c := m.Web.Certificate; c != nil {
		first(c.NotAfter)
	}
	m.Web.metrics.labelled("quorate_tls_certificate_not_after_seconds", func(_ func(string) string, v float64) { first(int64(v)) })
	return end
}
