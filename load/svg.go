package load

import (
	"fmt"
	"html"
	"io"
	"math"
	"strconv"
	"strings"
)

// Size of the SVG plot, pixels.
const (
	svgWidth    = 960
	svgHeight   = 578
	svgLeft     = 84
	svgRight    = 24
	svgTop      = 102 // of the latency panel
	svgLatency  = 260 // its height
	svgGap      = 56  // between the panels
	svgRate     = 110 // height of the rate panel
	svgColumns  = 600 // points at most
	svgPlot     = svgWidth - svgLeft - svgRight
	svgRateTop  = svgTop + svgLatency + svgGap
	colourP50   = "#1b6ca8"
	colourP99   = "#c8511b"
	colourRate  = "#5b7f6a"
	colourGrid  = "#e3e6ea"
	colourText  = "#22272e"
	colourFaint = "#6a737d"
)

// SVG writes a plot of p50 and p99 (logarithmic) and of the rate over time.
func (res *Result) SVG(w io.Writer) error {
	points := res.points(svgColumns)
	d := &drawing{points: points}
	if n := len(points); n > 0 {
		d.seconds = float64(points[n-1].end)
	}
	fmt.Fprintf(&d.b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="12" fill="%s">`+"\n",
		svgWidth, svgHeight, svgWidth, svgHeight, colourText)
	fmt.Fprintf(&d.b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", svgWidth, svgHeight)
	d.heading(res)
	if len(points) > 1 {
		d.latency()
		d.rate()
	} else {
		d.text(svgLeft, svgTop+40, "start", colourFaint, "A plot needs a run of two seconds at least.")
	}
	d.b.WriteString("</svg>\n")
	_, err := io.WriteString(w, d.b.String())
	return err
}

// drawing is an SVG under way.
type drawing struct {
	b       strings.Builder
	points  []point
	seconds float64 // at the right edge
}

func (d *drawing) text(x, y float64, anchor, colour, text string) {
	fmt.Fprintf(&d.b, `<text x="%s" y="%s" text-anchor="%s" fill="%s">%s</text>`+"\n", px(x), px(y), anchor, colour, html.EscapeString(text))
}

// heading says what was measured, with the figures that matter.
func (d *drawing) heading(res *Result) {
	loop := fmt.Sprintf("closed loop, %s clients", grouped(int64(res.Clients)))
	if res.TargetRate > 0 {
		loop = fmt.Sprintf("open loop, %s/s, latency from the intended start", grouped(int64(res.TargetRate)))
	}
	fmt.Fprintf(&d.b, `<text x="%d" y="30" font-size="18" font-weight="600">%s</text>`+"\n", svgLeft, html.EscapeString(res.Workload+" on "+strings.Join(res.Endpoints, ", ")))
	d.text(svgLeft, 50, "start", colourFaint, fmt.Sprintf("%s, %s connections", loop, grouped(int64(res.Connections))))
	d.text(svgLeft, 67, "start", colourFaint, fmt.Sprintf("%s operations in %s s, %s/s, %s errors, p50 %s ms, p99 %s ms", grouped(res.Operations),
		significant(res.Seconds), grouped(int64(res.Rate+0.5)), grouped(res.Errors), significant(res.Latency.P50), significant(res.Latency.P99)))
}

func (d *drawing) x(second float64) float64 { return svgLeft + second/d.seconds*svgPlot }

// panel draws the name of a panel, its frame and the grid of seconds.
func (d *drawing) panel(name string, top, height float64) {
	d.text(svgLeft, top-10, "start", colourText, name)
	step := secondsStep(d.seconds)
	for s := 0.0; s <= d.seconds+1e-9; s += step {
		d.line(d.x(s), top, d.x(s), top+height, colourGrid)
		d.text(d.x(s), top+height+16, "middle", colourFaint, strconv.FormatFloat(s, 'f', -1, 64)+" s")
	}
}

// secondsStep leaves at most a dozen labels.
func secondsStep(all float64) float64 {
	for _, s := range []float64{1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600} {
		if all/s <= 12 {
			return s
		}
	}
	return math.Ceil(all / 12)
}

func (d *drawing) line(x1, y1, x2, y2 float64, colour string) {
	fmt.Fprintf(&d.b, `<line x1="%s" y1="%s" x2="%s" y2="%s" stroke="%s"/>`+"\n", px(x1), px(y1), px(x2), px(y2), colour)
}

func (d *drawing) latency() {
	s := latencyScale(d.points)
	d.panel("latency, ms", svgTop, svgLatency)
	y := func(v float64) float64 { return svgTop + (1-s.at(v))*svgLatency }
	for _, v := range s.ticks() {
		d.line(svgLeft, y(v), svgLeft+svgPlot, y(v), colourGrid)
		d.text(svgLeft-8, y(v)+4, "end", colourFaint, strconv.FormatFloat(v, 'f', -1, 64))
	}
	d.curve(colourP99, func(p point) (float64, bool) { return y(p.p99), p.p99 > 0 })
	d.curve(colourP50, func(p point) (float64, bool) { return y(p.p50), p.p50 > 0 })
	for i, l := range []struct{ name, colour string }{{"p99", colourP99}, {"p50", colourP50}} {
		x := float64(svgLeft + svgPlot - 110 + 60*i)
		fmt.Fprintf(&d.b, `<line x1="%s" y1="%d" x2="%s" y2="%d" stroke="%s" stroke-width="2.5"/>`+"\n", px(x), svgTop-14, px(x+18), svgTop-14, l.colour)
		d.text(x+24, svgTop-10, "start", colourText, l.name)
	}
}

// curve joins the points that exist; a second without operations leaves a gap.
func (d *drawing) curve(colour string, y func(point) (float64, bool)) {
	var path strings.Builder
	pen := "M"
	for _, p := range d.points {
		v, ok := y(p)
		if !ok {
			pen = "M"
			continue
		}
		fmt.Fprintf(&path, "%s%s %s ", pen, px(d.x(p.second)), px(v))
		pen = "L"
	}
	fmt.Fprintf(&d.b, `<path d="%s" fill="none" stroke="%s" stroke-width="2" stroke-linejoin="round" stroke-linecap="round"/>`+"\n",
		strings.TrimSpace(path.String()), colour)
}

func (d *drawing) rate() {
	top := 1.0
	for _, p := range d.points {
		top = max(top, p.rate)
	}
	top = roundUp(top)
	d.panel("operations/s", svgRateTop, svgRate)
	y := func(v float64) float64 { return svgRateTop + (1-v/top)*svgRate }
	for _, v := range []float64{0, top / 2, top} {
		d.line(svgLeft, y(v), svgLeft+svgPlot, y(v), colourGrid)
		label := strconv.FormatFloat(v, 'f', -1, 64)
		if v >= 1000 {
			label = grouped(int64(v))
		}
		d.text(svgLeft-8, y(v)+4, "end", colourFaint, label)
	}
	var area strings.Builder
	fmt.Fprintf(&area, "M%s %s ", px(d.x(d.points[0].second)), px(y(0)))
	for _, p := range d.points {
		fmt.Fprintf(&area, "L%s %s ", px(d.x(p.second)), px(y(p.rate)))
	}
	fmt.Fprintf(&area, "L%s %s Z", px(d.x(d.points[len(d.points)-1].second)), px(y(0)))
	fmt.Fprintf(&d.b, `<path d="%s" fill="%s" fill-opacity="0.18"/>`+"\n", area.String(), colourRate)
	d.curve(colourRate, func(p point) (float64, bool) { return y(p.rate), true })
}

// px writes a coordinate with one digit.
func px(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }
