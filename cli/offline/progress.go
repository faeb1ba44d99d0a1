package offline

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"quorate.dev/quorate/cli"
	"quorate.dev/quorate/internal/clock"
)

// How often progress is shown.
const (
	drawEvery = 100 * time.Millisecond // a bar on a terminal
	lineEvery = 5 * time.Second        // a line elsewhere
)

// barWidth is in characters.
const barWidth = 24

// progress shows how far some bytes are: a bar with rate and remaining time that redraws itself on a terminal, a line now and
// then elsewhere. A nil one shows nothing.
type progress struct {
	w        io.Writer
	clock    clock.Clock
	terminal bool
	drawn    bool
	stage    string
	began    time.Time // of the stage
	shown    time.Time
}

func (t *tool) newProgress() *progress {
	return &progress{w: t.process.Stderr, clock: t.clock, terminal: cli.OnTerminal(t.process.Stderr)}
}

// show is told that done of total bytes of a stage are done; total 0 is unknown.
func (p *progress) show(stage string, done, total int64) {
	if p == nil {
		return
	}
	now := p.clock.Now()
	if stage != p.stage {
		p.stage, p.began, p.shown = stage, now, now
	} else if every := p.every(); now.Sub(p.shown) < every && (!p.terminal || done < total) {
		return
	}
	p.shown = now
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[K%s%s", bar(done, total), text(stage, done, total, now.Sub(p.began)))
		p.drawn = true
		return
	}
	if done > 0 {
		fmt.Fprintln(p.w, text(stage, done, total, now.Sub(p.began)))
	}
}

func (p *progress) every() time.Duration {
	if p.terminal {
		return drawEvery
	}
	return lineEvery
}

// end takes the bar away.
func (p *progress) end() {
	if p != nil && p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// bar draws how much is done; nothing where that is not known.
func bar(done, total int64) string {
	if total <= 0 {
		return ""
	}
	full := int(barWidth * min(done, total) / total)
	return "[" + strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full) + "] "
}

// text says it in words and numbers: part, rate, and how long it will still take at that rate.
func text(stage string, done, total int64, took time.Duration) string {
	out := stage
	if total > 0 {
		out += fmt.Sprintf("  %3d%%  %s of %s", 100*min(done, total)/total, humanize.Bytes(uint64(done)), humanize.Bytes(uint64(total)))
	}
	if seconds := took.Seconds(); seconds > 0 && done > 0 {
		rate := float64(done) / seconds
		out += fmt.Sprintf("  %s/s", humanize.Bytes(uint64(rate)))
		if total > done {
			out += fmt.Sprintf("  %s left", time.Duration(float64(total-done)/rate*float64(time.Second)).Round(time.Second))
		}
	}
	return out
}
