package wal

import (
	"fmt"
	"io/fs"

	"quorate.dev/quorate/ids"
)

// Read is Open for a program that only looks: nothing is changed, and what an interrupted write left is passed over and told in
// Replay.Cut. No server may have the log open.
func Read(dir string, o Options, from ids.Index) (*Replay, error) {
	p, err := readAll(dir, o, from)
	if err != nil {
		return nil, err
	}
	return p.result(), nil
}

// readAll reads the log in dir.
func readAll(dir string, o Options, from ids.Index) (*replay, error) {
	l := newLog(dir, o)
	segments, err := list(l.options.FS, dir)
	if err != nil {
		return nil, fmt.Errorf("wal: list %s: %w", dir, err)
	}
	if len(segments) == 0 {
		return nil, fmt.Errorf("wal: there is no log in %s: %w", dir, fs.ErrNotExist)
	}
	l.segments = segments
	p := &replay{log: l, from: from, keepAbove: from - min(from, ids.Index(o.Tail))}
	for i := range segments {
		if err := p.readSegment(i); err != nil {
			return nil, err
		}
	}
	return p, p.checkReach()
}

func (p *replay) result() *Replay {
	return &Replay{Metadata: p.log.meta, HardState: p.log.state.message(), Entries: p.entries, Cut: p.cut}
}
