package ops

import (
	"fmt"
	"io"
	"strings"
	"time"

	"quorate.dev/quorate/cli"
)

// progress is a line on a terminal that shows how far something is; elsewhere it is silent.
type progress struct {
	s     *cli.Session
	w     io.Writer // nil for nobody
	began time.Time
	last  time.Time
}

// progressEvery is the time between two changes of the line.
const progressEvery = 200 * time.Millisecond

func newProgress(s *cli.Session) *progress {
	p := &progress{s: s, began: s.Clock().Now()}
	if cli.OnTerminal(s.Process.Stderr) {
		p.w = s.Process.Stderr
	}
	return p
}

// step shows that done of all things are done.
func (p *progress) step(done, all int64, what string) {
	now := p.s.Clock().Now()
	if p.w == nil || now.Sub(p.last) < progressEvery {
		return
	}
	p.last = now
	took := now.Sub(p.began).Seconds()
	rate := float64(done) / max(took, 0.001)
	left := ""
	if all > done && rate > 0 {
		left = ", " + span(time.Duration(float64(all-done)/rate*float64(time.Second))) + " left"
	}
	const width = 30
	full := int(width * min(1, float64(done)/float64(max(all, 1))))
	fmt.Fprintf(p.w, "\r[%s%s] %s of %s %s, %s/s%s\x1b[K", strings.Repeat("=", full), strings.Repeat(" ", width-full), grouped(done), grouped(all), what, grouped(int64(rate)), left)
}

// end takes the line away.
func (p *progress) end() {
	if p.w != nil && !p.last.IsZero() {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
