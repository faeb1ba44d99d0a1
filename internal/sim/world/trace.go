package world

import (
	"fmt"
	"hash/fnv"
	"io"
	"time"
)

// trace is what happened, one line each: seconds of simulated time, who, what.
type trace struct {
	w   *World
	out io.Writer // nil: nobody reads it
	sum uint64    // of all lines
}

// note writes a line.
func (t *trace) note(who, format string, args ...any) {
	h := fnv.New64a()
	line := fmt.Sprintf("%12.6f %-4s %s\n", t.w.now.Seconds(), who, fmt.Sprintf(format, args...))
	_, _ = fmt.Fprintf(h, "%016x", t.sum)
	_, _ = io.WriteString(h, line)
	t.sum = h.Sum64()
	if t.out != nil {
		_, _ = io.WriteString(t.out, line)
	}
}

var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
