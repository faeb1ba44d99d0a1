package offline

import (
	"quorate.dev/quorate/cli"
	"quorate.dev/quorate/internal/clock"
)

// Bar is the progress of verbs on files, for those of other packages: a bar with rate and remaining time on a terminal, a line
// now and then elsewhere.
type Bar struct{ p *progress }

// NewBar makes one that writes to the process's stderr.
func NewBar(p *cli.Process, c clock.Clock) *Bar {
	return &Bar{&progress{w: p.Stderr, clock: c, terminal: cli.OnTerminal(p.Stderr)}}
}

// Show says that done of total bytes of a stage are done; total 0 is unknown.
func (b *Bar) Show(stage string, done, total int64) { b.p.show(stage, done, total) }

// End takes the bar away.
func (b *Bar) End() { b.p.end() }
