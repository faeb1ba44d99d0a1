package cli

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
)

// progressEvery is the time between two drawings of a bar.
const progressEvery = 200 * time.Millisecond

// barWidth is in characters.
const barWidth = 30

// progress draws on a terminal how far something is, how fast and how long it still takes. A nil one draws nothing.
type progress struct {
	s          *Session
	what, unit string // unit "" is bytes
	total      int64  // 0 is unknown
	mu         sync.Mutex
	done       int64
	start      time.Time
	drawn      time.Time
}

func newProgress(s *Session, what, unit string, total int64) *progress {
	return &progress{s: s, what: what, unit: unit, total: total, start: s.Clock().Now()}
}

// to says how much is done.
func (p *progress) to(done int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = done
	if now := p.s.Clock().Now(); now.Sub(p.drawn) >= progressEvery {
		p.drawn = now
		fmt.Fprint(p.s.Process.Stderr, "\r\x1b[K", p.text(now.Sub(p.start)))
	}
}

// more adds to what is done.
func (p *progress) more(n int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	done := p.done + n
	p.mu.Unlock()
	p.to(done)
}

// resize says how much there is to do.
func (p *progress) resize(total int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	p.total = total
	p.mu.Unlock()
}

// end takes the bar away.
func (p *progress) end() {
	if p != nil {
		fmt.Fprint(p.s.Process.Stderr, "\r\x1b[K")
	}
}

func (p *progress) text(elapsed time.Duration) string {
	rate := 0.0
	if elapsed > 0 {
		rate = float64(p.done) / elapsed.Seconds()
	}
	text := fmt.Sprintf("%s %s, %s/s", p.what, p.amount(p.done), p.amount(int64(rate)))
	if p.total <= 0 {
		return text
	}
	part := min(1, float64(p.done)/float64(p.total))
	full := int(part * barWidth)
	text = fmt.Sprintf("%s [%s%s] %3.0f%%  %s of %s  %s/s", p.what, strings.Repeat("=", full), strings.Repeat(" ", barWidth-full), part*100,
		p.amount(p.done), p.amount(p.total), p.amount(int64(rate)))
	if rate > 0 && p.done < p.total {
		left := time.Duration(float64(p.total-p.done) / rate * float64(time.Second))
		text += "  " + left.Round(time.Second).String() + " left"
	}
	return text
}

func (p *progress) amount(n int64) string {
	if p.unit == "" {
		return humanize.Bytes(uint64(max(0, n)))
	}
	return humanize.Comma(n) + " " + p.unit
}
