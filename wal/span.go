package wal

import (
	"fmt"
	"io/fs"
	"math"

	"quorate.dev/quorate/ids"
)

// Span says how far back the log in dir reaches: a store that holds everything up to the result, or up to any later entry of
// the log, can be continued with it. It changes nothing. Errors as of Open.
func Span(dir string, o Options) (from ids.Index, err error) {
	l := newLog(dir, o)
	if l.segments, err = list(l.options.FS, dir); err != nil {
		return 0, fmt.Errorf("wal: list %s: %w", dir, err)
	}
	if len(l.segments) == 0 {
		return 0, fmt.Errorf("wal: there is no log in %s: %w", dir, fs.ErrNotExist)
	}
	p := &replay{log: l, keepAbove: math.MaxUint64}
	for i := range l.segments {
		if err := p.readSegment(i); err != nil {
			return 0, err
		}
	}
	return p.start - 1, nil
}

// OpenWhole opens the log from its first entry on, whatever the store holds. It is for who is about to replace the store.
// Errors as for Span and Open.
func OpenWhole(dir string, o Options) (*Log, *Replay, error) {
	from, err := Span(dir, o)
	if err != nil {
		return nil, nil, err
	}
	return Open(dir, o, from)
}
