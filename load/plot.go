package load

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Size of the terminal plot, characters.
const (
	plotWidth  = 68
	plotHeight = 12
	rateHeight = 5
	axisWidth  = 9 // of the labels on the left
)

// Plot draws latency and rate over time for a terminal: p50 as o, p99 as * on a logarithmic scale, and bars for the rate.
func (res *Result) Plot(w io.Writer) error {
	points := res.points(plotWidth)
	if len(points) < 2 {
		_, err := fmt.Fprintln(w, "no plot: it needs two seconds at least")
		return err
	}
	// A short run is spread over the width.
	step := max(1, plotWidth/len(points))
	var b strings.Builder
	b.WriteString("\n  latency, ms        o p50   * p99\n")
	plotLatency(&b, points, step)
	plotAxis(&b, points, step)
	b.WriteString("\n  operations/s\n")
	plotRate(&b, points, step)
	plotAxis(&b, points, step)
	_, err := io.WriteString(w, b.String())
	return err
}

func plotLatency(b *strings.Builder, points []point, step int) {
	s := latencyScale(points)
	rows := make([][]byte, plotHeight)
	for i := range rows {
		rows[i] = []byte(strings.Repeat(" ", step*len(points)))
	}
	put := func(column int, v float64, mark byte) {
		if v > 0 {
			rows[plotHeight-1-int(math.Round(s.at(v)*(plotHeight-1)))][column] = mark
		}
	}
	for i, p := range points {
		put(i*step+step/2, p.p50, 'o')
		put(i*step+step/2, p.p99, '*')
	}
	labels := map[int]string{}
	for _, v := range s.ticks() {
		labels[plotHeight-1-int(math.Round(s.at(v)*(plotHeight-1)))] = strconv.FormatFloat(v, 'f', -1, 64)
	}
	for i, row := range rows {
		plotRow(b, labels[i], string(row))
	}
}

// eighths are bars of one to eight eighths of a character's height.
const eighths = " ▁▂▃▄▅▆▇█"

func plotRate(b *strings.Builder, points []point, step int) {
	top := 0.0
	for _, p := range points {
		top = max(top, p.rate)
	}
	if top = roundUp(max(top, 1)); top < 10 {
		top = 10
	}
	bars := []rune(eighths)
	for row := rateHeight - 1; row >= 0; row-- {
		var line strings.Builder
		for _, p := range points {
			full := p.rate/top*rateHeight*8 - float64(row*8)
			line.WriteString(strings.Repeat(string(bars[int(math.Round(max(0, min(full, 8))))]), step))
		}
		label := ""
		switch row {
		case rateHeight - 1:
			label = grouped(int64(top))
		case 0:
			label = "0"
		}
		plotRow(b, label, line.String())
	}
}

func plotRow(b *strings.Builder, label, row string) {
	fmt.Fprintf(b, "%*s |%s\n", axisWidth, label, strings.TrimRight(row, " "))
}

// plotAxis is the line below, with the seconds at both ends.
func plotAxis(b *strings.Builder, points []point, step int) {
	width := step * len(points)
	fmt.Fprintf(b, "%*s +%s\n", axisWidth, "", strings.Repeat("-", width))
	last := fmt.Sprintf("%d s", points[len(points)-1].end)
	fmt.Fprintf(b, "%*s  0 s%*s\n", axisWidth, "", width-len("0 s"), last)
}
