package offline

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/internal/clock"
)

// TestProgress checks a bar with rate and remaining time on a terminal, and few plain lines elsewhere.
func TestProgress(t *testing.T) {
	c := clock.NewManual(time.Unix(1, 0))
	var out bytes.Buffer
	p := &progress{w: &out, clock: c, terminal: true}
	p.show("writing", 0, 1000)
	c.Advance(2 * time.Second)
	p.show("writing", 500, 1000)
	p.show("writing", 501, 1000) // too soon
	p.end()
	require.Equal(t, "\r\x1b[K[                        ] writing    0%  0 B of 1.0 kB"+
		"\r\x1b[K[============            ] writing   50%  500 B of 1.0 kB  250 B/s  2s left\r\x1b[K", out.String())

	out.Reset()
	p = &progress{w: &out, clock: c}
	for range 12 {
		p.show("checking", 100, 1000)
		c.Advance(time.Second)
	}
	p.end()
	require.Equal(t, "checking   10%  100 B of 1.0 kB\nchecking   10%  100 B of 1.0 kB  20 B/s  45s left\nchecking   10%  100 B of 1.0 kB  10 B/s  1m30s left\n", out.String())
}
