package fan

import "sort"

// eventLog is the latest events of a group, in the form they have in a WatchResponse, oldest first. Bytes that were appended
// never change, so that slices of them can be handed to any number of streams.
type eventLog struct {
	chunks []*chunk
	base   int   // number of chunks[0]
	bytes  int   // in all chunks
	limit  int   // aimed at for bytes
	first  int64 // the log has all events at or above this revision
	last   int64 // the newest revision that has events here; first-1 or less when there are none
}

// chunk is a piece of a log: revisions whose events lie one after the other.
type chunk struct {
	buf  []byte
	revs []mark // in order; those of the log's last chunk may grow

	events int
}

// mark says where the events of a revision begin.
type mark struct {
	rev    int64
	at     int // in buf
	events int // of the chunk's earlier revisions
}

// place is a position in a log: the rev-th revision of chunk number chunk. It may lie behind the chunk's last one.
type place struct{ chunk, rev int }

// piece is some revisions of one chunk.
type piece struct {
	first, last int64
	body        []byte
	events      int
	revs        []mark
}

// reset empties the log, which has everything from first on from now on.
func (l *eventLog) reset(first int64) {
	l.base += len(l.chunks)
	l.chunks, l.bytes, l.first, l.last = nil, 0, first, 0
}

// space returns the chunk that the next n bytes go to.
func (l *eventLog) space(n int) *chunk {
	if k := len(l.chunks); k > 0 {
		c := l.chunks[k-1]
		if len(c.buf)+n <= cap(c.buf) {
			return c
		}
		n = max(n, min(2*cap(c.buf), chunkBytesMax, l.limit/chunksLeast))
	}
	c := &chunk{buf: make([]byte, 0, max(n, chunkBytesMin))}
	l.chunks = append(l.chunks, c)
	return c
}

// append adds the events of a revision above all earlier ones, which are size bytes as fields of a response.
func (l *eventLog) append(rev int64, size int, events [][]byte) {
	c := l.space(size)
	c.revs = append(c.revs, mark{rev, len(c.buf), c.events})
	c.buf = appendEvents(c.buf, events...)
	c.events += len(events)
	l.bytes += size
	l.last = rev
}

// trim drops the oldest chunks as long as more than the limit is left, but none at or after keep.
func (l *eventLog) trim(keep place) {
	drop := 0
	for len(l.chunks)-drop > 1 && l.bytes > l.limit && l.base+drop < keep.chunk {
		c := l.chunks[drop]
		l.bytes -= len(c.buf)
		l.first = c.revs[len(c.revs)-1].rev + 1
		l.chunks[drop] = nil
		drop++
	}
	l.chunks = l.chunks[drop:]
	l.base += drop
}

// end is the position behind everything.
func (l *eventLog) end() place {
	if len(l.chunks) == 0 {
		return place{l.base, 0}
	}
	k := len(l.chunks) - 1
	return place{l.base + k, len(l.chunks[k].revs)}
}

// find is the position of the first revision at or above rev, which must not be below first.
func (l *eventLog) find(rev int64) place {
	if rev > l.last {
		return l.end()
	}
	k := sort.Search(len(l.chunks), func(i int) bool {
		c := l.chunks[i]
		return c.revs[len(c.revs)-1].rev >= rev
	})
	if k == len(l.chunks) {
		return l.end()
	}
	revs := l.chunks[k].revs
	return place{l.base + k, sort.Search(len(revs), func(i int) bool { return revs[i].rev >= rev })}
}

// next is what lies at p, up to the end of its chunk; false at the end of the log. p moves behind it.
func (l *eventLog) next(p *place) (piece, bool) {
	for k := p.chunk - l.base; k < len(l.chunks); k++ {
		c := l.chunks[k]
		if p.rev < len(c.revs) {
			revs := c.revs[p.rev:]
			*p = place{p.chunk, len(c.revs)}
			return piece{first: revs[0].rev, last: revs[len(revs)-1].rev, body: c.buf[revs[0].at:len(c.buf):len(c.buf)],
				events: c.events - revs[0].events, revs: revs}, true
		}
		if k+1 < len(l.chunks) {
			*p = place{p.chunk + 1, 0}
		}
	}
	return piece{}, false
}

// since is the part of a piece at or above rev, and how many events that is.
func (p *piece) since(rev int64) (body []byte, events int) {
	switch {
	case rev <= p.first:
		return p.body, p.events
	case rev > p.last:
		return nil, 0
	}
	i := sort.Search(len(p.revs), func(i int) bool { return p.revs[i].rev >= rev })
	return p.body[p.revs[i].at-p.revs[0].at:], p.events - (p.revs[i].events - p.revs[0].events)
}

// near reports whether all from rev on is in the younger part of the log.
func (l *eventLog) near(rev int64) bool {
	if rev < l.first {
		return false
	}
	if rev > l.last {
		return true
	}
	p := l.find(rev)
	behind := 0
	for k := p.chunk - l.base; k < len(l.chunks); k++ {
		behind += len(l.chunks[k].buf)
	}
	return len(l.chunks) == 1 || behind <= l.bytes/soloSharePart
}
