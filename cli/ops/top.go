package ops

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"quorate.dev/quorate/cli"
	"quorate.dev/quorate/insight"
	"quorate.dev/quorate/limits"
)

// topFlags are the flags of top.
type topFlags struct {
	interval time.Duration
	depth    int
	once     bool
	rows     int
}

func topVerb() cli.Verb {
	var t topFlags
	return cli.Verb{
		Use: "top", Short: "Show live what clients ask for: by method, client, prefix and key, and watches that lag", Group: cli.GroupInsight,
		Long: `Show live what clients ask for, from all members together: requests by method, client, prefix and key, and watches that lag.

Members count only while somebody looks. They record at most 20,000 requests a second, chosen by chance, and rows then are
estimates. On a terminal the screen is refreshed until Ctrl-C; with --once, in a pipe and with -w json there is one look. It
needs our servers, and the role root while authentication is on.`,
		Example: "  quorate top\n  quorate top --once --interval 10s --depth 3\n  quorate top -w json | jq .keys",
		Flags: func(f *pflag.FlagSet) {
			f.DurationVar(&t.interval, "interval", 2*time.Second, fmt.Sprintf("the time of one look, at most %d s", limits.TopSeconds))
			f.IntVar(&t.depth, "depth", 2, "how many parts of a key, divided by /, make its prefix")
			f.BoolVar(&t.once, "once", false, "look once and end")
			f.IntVar(&t.rows, "rows", 8, "how many rows of each kind")
		},
		Interrupts: true,
		Run: func(s *cli.Session, args []string) error {
			if err := noArguments("top", args); err != nil {
				return err
			}
			if t.interval <= 0 || t.interval > limits.TopSeconds*time.Second {
				return cli.Failf(cli.ExitBadArgs, "--interval %s: it is above 0 and at most %d s", t.interval, limits.TopSeconds)
			}
			if t.depth < 1 || t.depth > limits.TopDepth {
				return cli.Failf(cli.ExitBadArgs, "--depth %d: it is 1 to %d", t.depth, limits.TopDepth)
			}
			return t.run(s)
		},
	}
}

func (t *topFlags) run(s *cli.Session) error {
	g, _, err := newGatherer(s)
	if err != nil {
		return err
	}
	defer g.close()
	inJSON, err := asJSON(s)
	if err != nil {
		return err
	}
	ctx := s.Process.Context
	c := &Cluster{}
	if err := g.members(ctx, c); err != nil && len(c.Members) == 0 {
		return err
	}
	endpoints := make([][]string, 0, len(c.Members))
	for _, m := range c.Members {
		endpoints = append(endpoints, m.Endpoints)
	}
	live := !t.once && !inJSON && cli.OnTerminal(s.Process.Stdout)
	if live {
		fmt.Fprint(s.Process.Stdout, "\x1b[?1049h\x1b[H\x1b[2J") // another screen, so that the first comes back unharmed
		defer fmt.Fprint(s.Process.Stdout, "\x1b[?1049l")
	}
	for {
		look := t.look(ctx, g, endpoints)
		switch {
		case ctx.Err() != nil:
			return nil
		case len(look.members) == 0:
			return errors.New(strings.Join(look.errors, "\n"))
		case inJSON:
			return writeJSON(s, look.merged)
		}
		sc := newScreen(s)
		sc.top(look, t.rows)
		if !live {
			return sc.flush(s.Process.Stdout)
		}
		if err := sc.fit(s.Process.Stdout); err != nil {
			return err
		}
	}
}

// look is what the members saw in one window.
type look struct {
	members []*insight.Top
	merged  insight.Top
	errors  []string // of members that did not tell
}

func (t *topFlags) look(ctx context.Context, g *gatherer, endpoints [][]string) *look {
	l := &look{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, list := range endpoints {
		all.Go(func() {
			top, err := t.ask(ctx, g, list)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				l.errors = append(l.errors, err.Error())
				return
			}
			l.members = append(l.members, top)
		})
	}
	all.Wait()
	slices.Sort(l.errors)
	slices.SortFunc(l.members, func(a, b *insight.Top) int { return strings.Compare(a.Member, b.Member) })
	l.merge()
	return l
}

// ask looks at one member, at the first of its endpoints that answers.
func (t *topFlags) ask(ctx context.Context, g *gatherer, endpoints []string) (*insight.Top, error) {
	if len(endpoints) == 0 {
		return nil, errors.New("a member has not started yet")
	}
	ctx, cancel := context.WithTimeout(ctx, t.interval+2*g.patience)
	defer cancel()
	var first error
	for _, ep := range endpoints {
		page, resp, err := g.get(ctx, fmt.Sprintf("%s%s?seconds=%g&depth=%d", baseURL(ep, g.secure()), insight.PathTop, t.interval.Seconds(), t.depth), true)
		top := new(insight.Top)
		if err == nil {
			err = json.Unmarshal(page, top)
		}
		if err == nil {
			return top, nil
		}
		if resp != nil && resp.StatusCode == http.StatusNotFound {
			return nil, fmt.Errorf("%s: this server does not count what clients ask for (no %s): top needs our server, and etcd is none", ep, insight.PathTop)
		}
		if first == nil {
			first = fmt.Errorf("%s: %s", ep, plain(err))
		}
	}
	return nil, first
}

func (l *look) merge() {
	m := &l.merged
	kinds := func(t *insight.Top) [4]*[]insight.Row {
		return [4]*[]insight.Row{&t.Methods, &t.Clients, &t.Prefixes, &t.Keys}
	}
	for _, t := range l.members {
		m.Time, m.Seconds, m.Depth = max(m.Time, t.Time), max(m.Seconds, t.Seconds), t.Depth
		m.Calls, m.Sampled = m.Calls+t.Calls, m.Sampled+t.Sampled
		for i, rows := range kinds(t) {
			into := kinds(m)[i]
			*into = append(*into, *rows...)
		}
		w := t.Watch
		m.Watch.Streams, m.Watch.Watchers, m.Watch.Slow, m.Watch.Events = m.Watch.Streams+w.Streams, m.Watch.Watchers+w.Watchers, m.Watch.Slow+w.Slow, m.Watch.Events+w.Events
		m.Watch.Behind, m.Watch.Largest = append(m.Watch.Behind, w.Behind...), append(m.Watch.Largest, w.Largest...)
	}
	for _, rows := range kinds(m) {
		*rows = mergeRows(*rows)
	}
	slices.SortFunc(m.Watch.Behind, func(a, b insight.Watcher) int { return cmp.Compare(b.Lag, a.Lag) })
	slices.SortFunc(m.Watch.Largest, insight.ByWatchers)
	m.Watch.Behind, m.Watch.Largest = append([]insight.Watcher{}, m.Watch.Behind...), append([]insight.Streams{}, m.Watch.Largest...)
}

// mergeRows adds the rows that are about the same.
func mergeRows(rows []insight.Row) []insight.Row {
	byName := map[string]int{}
	out := []insight.Row{}
	for _, r := range rows {
		name := strings.Join([]string{r.Method, r.Client, r.User, string(r.Key)}, "\x00")
		at, seen := byName[name]
		if !seen {
			byName[name] = len(out)
			out = append(out, r)
			continue
		}
		o := &out[at]
		if calls := o.Calls + r.Calls; calls > 0 {
			o.Mean = (o.Mean*float64(o.Calls) + r.Mean*float64(r.Calls)) / float64(calls)
		}
		o.Calls, o.Over, o.Failed, o.In, o.Out = o.Calls+r.Calls, o.Over+r.Over, o.Failed+r.Failed, o.In+r.In, o.Out+r.Out
		o.P99, o.Max = max(o.P99, r.P99), max(o.Max, r.Max)
	}
	slices.SortStableFunc(out, func(a, b insight.Row) int { return cmp.Compare(b.Calls, a.Calls) })
	return out
}

func (sc *screen) top(l *look, rows int) {
	m := &l.merged
	rate := func(n uint64) string { return grouped(int64(float64(n)/max(m.Seconds, 0.001) + 0.5)) }
	sc.printf("%s %s   %s requests/s   watch: %s streams, %s watchers, %s behind, %s events/s   %s   window %.1f s\n", sc.paint(bold, "top"), plural(len(l.members), "member"),
		rate(m.Calls), grouped(int64(m.Watch.Streams)), grouped(int64(m.Watch.Watchers)), grouped(int64(m.Watch.Slow)), rate(m.Watch.Events), time.Unix(0, m.Time).Format(time.TimeOnly), m.Seconds)
	if m.Sampled < m.Calls {
		sc.printf("%s\n", sc.paint(faint, fmt.Sprintf("one of %d requests was recorded: the rows are estimates", m.Calls/max(1, m.Sampled))))
	}
	for _, text := range l.errors {
		sc.printf("%s %s\n", sc.paint(red, "not seen:"), text)
	}
	for _, kind := range []struct {
		title string
		rows  []insight.Row
		name  func(r *insight.Row) string
	}{
		{"METHOD", m.Methods, func(r *insight.Row) string { return r.Method }},
		{"CLIENT", m.Clients, func(r *insight.Row) string {
			if r.User == "" {
				return r.Client
			}
			return r.Client + " (" + safe([]byte(r.User), 30) + ")"
		}},
		{"METHOD AND PREFIX", m.Prefixes, func(r *insight.Row) string { return r.Method + " " + safe(r.Key, 60) }},
		{"KEY", m.Keys, func(r *insight.Row) string { return safe(r.Key, 70) }},
	} {
		table := [][]cell{{number("REQ/S"), number("FAILED"), number("IN/S"), number("OUT/S"), number("MEAN"), number("P99"), number("MAX"), left(kind.title)}}
		for i := range kind.rows[:min(len(kind.rows), rows)] {
			r := &kind.rows[i]
			failed := cell{text: rate(r.Failed), right: true}
			if r.Failed > 0 {
				failed = cell{text: fmt.Sprintf("%.1f", float64(r.Failed)/max(m.Seconds, 0.001)), color: red, right: true}
			}
			table = append(table, []cell{number(rate(r.Calls)), failed, number(size(float64(r.In) / m.Seconds)), number(size(float64(r.Out) / m.Seconds)),
				number(seconds(r.Mean)), number(seconds(r.P99)), number(seconds(r.Max)), left(kind.name(r))})
		}
		sc.printf("\n")
		sc.table(table)
		if len(kind.rows) == 0 {
			sc.printf("  %s\n", sc.paint(faint, "none"))
		}
	}
	sc.watchers(m, rows)
}

func (sc *screen) watchers(m *insight.Top, rows int) {
	sc.printf("\n")
	table := [][]cell{{number("BEHIND"), left("STATE"), left("CLIENT"), left("WATCHES THAT LAG")}}
	for _, w := range m.Watch.Behind[:min(len(m.Watch.Behind), rows)] {
		state := cell{text: "catching up"}
		if w.Full {
			state = cell{text: "does not read", color: yellow}
		}
		what := safe(w.Key, 50)
		if len(w.End) > 0 {
			what += " .. " + safe(w.End, 50)
		}
		table = append(table, []cell{number(grouped(w.Lag)), state, left(w.Client), left(what)})
	}
	sc.table(table)
	if len(m.Watch.Behind) == 0 {
		sc.printf("  %s\n", sc.paint(faint, "none"))
	}
}

// fit writes what a terminal has room for, in place of what it shows.
func (sc *screen) fit(w any) error {
	f, ok := w.(*os.File)
	if !ok {
		return errors.New("BUG: a live screen without a terminal")
	}
	lines := strings.Split(strings.TrimSuffix(sc.b.String(), "\n"), "\n")
	if _, height, err := term.GetSize(int(f.Fd())); err == nil && len(lines) > height && height > 0 {
		lines = lines[:height]
	}
	_, err := f.WriteString("\x1b[H\x1b[?7l" + strings.Join(lines, "\x1b[K\n") + "\x1b[K\x1b[J\x1b[?7h")
	return err
}
