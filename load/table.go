package load

import (
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
)

// Table writes the result for people.
func (res *Result) Table(w io.Writer) error {
	var b strings.Builder
	loop := fmt.Sprintf("closed loop, %s clients", grouped(int64(res.Clients)))
	if res.TargetRate > 0 {
		loop = fmt.Sprintf("open loop, %s/s, at most %s under way", grouped(int64(res.TargetRate)), grouped(int64(res.Clients)))
	}
	fmt.Fprintf(&b, "%s on %s\n%s on %s connections\n\n", res.Workload, strings.Join(res.Endpoints, ", "), loop, grouped(int64(res.Connections)))
	line := func(name, value, note string) { fmt.Fprintf(&b, "  %-22s %16s  %s\n", name, value, note) }
	line("operations", grouped(res.Operations), "")
	line("seconds", strconv.FormatFloat(res.Seconds, 'f', 2, 64), "")
	line("rate", grouped(int64(res.Rate+0.5)), "operations/s")
	if res.Bytes > 0 && res.Seconds > 0 {
		line("throughput", fmt.Sprintf("%.2f", float64(res.Bytes)/res.Seconds/1e6), "MB/s")
	}
	line("errors", grouped(res.Errors), "")
	b.WriteString("\n  latency\n")
	for _, row := range res.Latency.rows() {
		line("  "+row.name, significant(row.ms), "ms")
	}
	names := make([]string, 0, len(res.Extra))
	for name := range res.Extra {
		names = append(names, name)
	}
	sort.Strings(names)
	if len(names) > 0 {
		b.WriteString("\n  more\n")
	}
	for _, name := range names {
		label, unit := unitOf(name)
		value := significant(res.Extra[name])
		if v := res.Extra[name]; v == float64(int64(v)) && unit != "ms" {
			value = grouped(int64(v))
		}
		line("  "+label, value, unit)
	}
	if len(res.ErrorSamples) > 0 {
		b.WriteString("\n  errors by text\n")
		for _, text := range res.ErrorSamples {
			fmt.Fprintf(&b, "    %s\n", text)
		}
	}
	_, err := io.WriteString(w, strings.ReplaceAll(b.String(), "  \n", "\n"))
	return err
}

type percentile struct {
	name string
	ms   float64
}

func (l *Latency) rows() []percentile {
	return []percentile{{"min", l.Min}, {"mean", l.Mean}, {"p50", l.P50}, {"p90", l.P90}, {"p95", l.P95}, {"p99", l.P99}, {"p99.9", l.P999}, {"max", l.Max}}
}

// unitOf splits the unit off the name of an extra figure.
func unitOf(name string) (label, unit string) {
	for _, u := range []struct{ suffix, unit string }{{"_us_per_op", "us/operation"}, {"_per_second", "/s"}, {"_seconds", "s"}, {"_ms", "ms"}} {
		if rest, ok := strings.CutSuffix(name, u.suffix); ok {
			return strings.ReplaceAll(rest, "_", " "), u.unit
		}
	}
	return strings.ReplaceAll(name, "_", " "), ""
}

// grouped writes 1234567 as 1,234,567.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// significant writes a figure with as many digits as it deserves.
func significant(v float64) string {
	switch {
	case v >= 1000:
		return grouped(int64(v + 0.5))
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}
