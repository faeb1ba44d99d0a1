package main

import (
	"fmt"
	"strings"
)

// result is one job on one server in one round: figures by their names in the table figures.
type result struct {
	Job     string             `json:"job"`
	Server  string             `json:"server"`
	Round   int                `json:"round"` // from 1
	Figures map[string]float64 `json:"figures"`
}

func newResult() *result { return &result{Figures: map[string]float64{}} }

func (r *result) set(figure string, v float64) *result {
	r.Figures[figure] = v
	return r
}

// figure is a kind of measurement: how it is called, shown and scaled.
type figure struct {
	name   string
	unit   string
	format string
	per    float64 // shown value = value / per
}

// figures are all of them, in the order in which a job's are shown. Memory and disk are in bytes, shown in MB of 10^6 bytes.
var figures = []figure{
	{"operations", "", "%.0f", 1},
	{"rate", "/s", "%.0f", 1},
	{"p50", "ms", "%.2f", 1},
	{"p99", "ms", "%.2f", 1},
	{"p99.9", "ms", "%.2f", 1},
	{"CPU per op", "us", "%.2f", 1},
	{"seconds", "s", "%.2f", 1},
	{"nodes", "", "%.0f", 1},
	{"pods", "", "%.0f", 1},
	{"fill", "s", "%.1f", 1},
	{"slowest p99", "ms", "%.2f", 1},
	{"delivery p99", "ms", "%.2f", 1},
	{"progress p99", "ms", "%.2f", 1},
	{"progress p99.9", "ms", "%.2f", 1},
	{"progress p99.99", "ms", "%.2f", 1},
	{"errors", "", "%.0f", 1},
	{"late", "%", "%.2f", 0.01},
	{"relist", "s", "%.2f", 1},
	{"client CPU", "% of a core", "%.1f", 0.01},
	{"CPU", "s", "%.2f", 1},
	{"first byte", "ms", "%.2f", 1},
	{"events/s", "/s", "%.0f", 1},
	{"CPU per event", "us", "%.3f", 1},
	{"events/s on 2 cores", "/s", "%.0f", 1},
	{"store CPU per event", "us", "%.3f", 1},
	{"client CPU per event", "us", "%.3f", 1},
	{"conflicts", "", "%.0f", 1},
	{"quiet p99", "ms", "%.2f", 1},
	{"loaded p99", "ms", "%.2f", 1},
	{"loaded / quiet", "x", "%.2f", 1},
	{"guesses", "/s", "%.0f", 1},
	{"compaction", "s", "%.2f", 1},
	{"sustainable", "/s", "%.0f", 1},
	{"offered", "/s", "%.0f", 1},
	{"answered", "/s", "%.0f", 1},
	{"refused", "%", "%.1f", 0.01},
	{"failed", "%", "%.1f", 0.01},
	{"refusal p50", "ms", "%.2f", 1},
	{"refusal p99", "ms", "%.2f", 1},
	{"before p99", "ms", "%.2f", 1},
	{"after rate", "/s", "%.0f", 1},
	{"after p50", "ms", "%.2f", 1},
	{"after p99", "ms", "%.2f", 1},
	{"after failed", "%", "%.1f", 0.01},
	{"CPU share", "% of a core", "%.2f", 0.01},
	{"resident", "MB", "%.1f", 1e6},
	{"anonymous", "MB", "%.1f", 1e6},
	{"peak resident", "MB", "%.1f", 1e6},
	{"above resting", "MB", "%.1f", 1e6},
	{"resident / live data", "x", "%.2f", 1},
	{"disk", "MB", "%.1f", 1e6},
	{"lists at once", "", "%.0f", 1},
	{"throughput", "MB/s", "%.0f", 1e6},
}

// show is a value with the figure's unit.
func (f *figure) show(v float64) string {
	return strings.TrimSpace(fmt.Sprintf(f.format, v/f.per) + " " + f.unit)
}

func figureNamed(name string) *figure {
	for i := range figures {
		if figures[i].name == name {
			return &figures[i]
		}
	}
	panic("no figure " + name) // the names are literals of this program, tested
}

// line is the result for the one who waits.
func (r *result) line() string {
	var parts []string
	for i := range figures {
		if v, ok := r.Figures[figures[i].name]; ok {
			parts = append(parts, figures[i].name+" "+figures[i].show(v))
		}
	}
	return strings.Join(parts, ", ")
}
