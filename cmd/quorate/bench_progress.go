package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"quorate.dev/quorate/load"
)

// progressEvery is how often a line is written where there is no terminal.
const progressEvery = 5 // seconds

// progress shows how a run is getting on: a bar that redraws itself on a terminal, a line now and then elsewhere.
type progress struct {
	w        io.Writer
	terminal bool
	drawn    bool
	ticks    int
}

func newProgress(f *os.File) *progress {
	info, err := f.Stat()
	return &progress{w: f, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

// show is called every second.
func (p *progress) show(t load.Tick) {
	p.ticks++
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[K%s%s", bar(t), progressText(t))
		p.drawn = true
		return
	}
	if p.ticks%progressEvery == 0 {
		fmt.Fprintln(p.w, progressText(t))
	}
}

// end takes the bar away.
func (p *progress) end() {
	if p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

func progressText(t load.Tick) string {
	if t.Elapsed < 0 {
		return fmt.Sprintf("warming up, %d s to go", int((-t.Elapsed + time.Second - 1).Seconds()))
	}
	text := fmt.Sprintf("%4d s  %d done  %d/s  p50 %.2f ms  p99 %.2f ms", int(t.Elapsed.Seconds()+0.5), t.Done, t.Last.Operations, t.Last.P50, t.Last.P99)
	if t.Errors > 0 {
		text += fmt.Sprintf("  %d errors", t.Errors)
	}
	return text
}

// barWidth is in characters.
const barWidth = 24

// bar shows how much of the run is done; nothing when that cannot be known.
func bar(t load.Tick) string {
	if t.Elapsed < 0 || t.Duration == 0 && t.Total >= load.Endless {
		return ""
	}
	done := 0.0
	if t.Duration > 0 {
		done = t.Elapsed.Seconds() / t.Duration.Seconds()
	}
	if t.Total > 0 {
		done = max(done, float64(t.Done)/float64(t.Total))
	}
	full := int(max(0, min(done, 1)) * barWidth)
	return "[" + strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full) + "] "
}
