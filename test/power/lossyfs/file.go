package lossyfs

import (
	"math/rand/v2"
	"slices"
	"syscall"
)

// sectorSize is what a disk writes wholly or not at all, in bytes.
const sectorSize = 512

// blockSize is the unit in which space is used, in bytes.
const blockSize = 4096

// change is one write to a file, or one change of its size when there are no data.
type change struct {
	seq  uint64
	at   int64
	data []byte
	size int64
}

func (c *change) resizes() bool { return c.data == nil }

// contents are the bytes of a file: what a process sees, and what is durable.
type contents struct {
	live     []byte
	durable  []byte
	pending  []change
	written  map[int64]uint64 // sectors that are durable by a synchronous write, with its seq: older changes do not touch them
	reserved int64            // bytes, by fallocate
}

// space is how much of the disk the file uses, in bytes.
func (c *contents) space() int64 { return blocks(max(int64(len(c.live)), c.reserved)) }

func blocks(n int64) int64 { return (n + blockSize - 1) / blockSize * blockSize }

// resized is b with n bytes; what is new is zero.
func resized(b []byte, n int64) []byte {
	if old := int64(len(b)); n > old {
		b = slices.Grow(b, int(n-old))[:n]
		clear(b[old:])
		return b
	}
	clear(b[n:])
	return b[:n]
}

// write changes the live bytes and notes it.
func (c *contents) write(seq uint64, at int64, data []byte) {
	if end := at + int64(len(data)); end > int64(len(c.live)) {
		c.live = resized(c.live, end)
	}
	copy(c.live[at:], data)
	c.pending = append(c.pending, change{seq: seq, at: at, data: slices.Clone(data)})
}

func (c *contents) resize(seq uint64, size int64) {
	c.live = resized(c.live, size)
	c.pending = append(c.pending, change{seq: seq, size: size})
}

// sync makes everything up to seq durable.
func (c *contents) sync(seq uint64) {
	n := 0
	for ; n < len(c.pending) && c.pending[n].seq <= seq; n++ {
		c.apply(&c.pending[n], nil)
	}
	if c.pending = slices.Delete(c.pending, 0, n); len(c.pending) == 0 {
		c.pending, c.written = nil, nil
	}
}

// widen makes the write seq one of whole sectors, as a disk makes it. It is for synchronous writes, right after write.
func (c *contents) widen(seq uint64) {
	w := &c.pending[len(c.pending)-1]
	end := min((w.at+int64(len(w.data))+sectorSize-1)/sectorSize*sectorSize, int64(len(c.live)))
	w.at = w.at / sectorSize * sectorSize
	w.data = slices.Clone(c.live[w.at:end])
}

// syncOne makes the write seq durable and nothing else, unless the size of the file is open.
func (c *contents) syncOne(seq uint64) {
	if slices.ContainsFunc(c.pending, func(p change) bool { return p.resizes() && p.seq < seq }) {
		c.sync(seq)
		return
	}
	i := slices.IndexFunc(c.pending, func(p change) bool { return p.seq == seq })
	if i < 0 {
		return // a sync was quicker
	}
	w := c.pending[i]
	c.apply(&w, nil)
	if c.pending = slices.Delete(c.pending, i, i+1); len(c.pending) == 0 {
		c.pending, c.written = nil, nil
		return
	}
	if c.written == nil {
		c.written = map[int64]uint64{}
	}
	for s := w.at / sectorSize; s*sectorSize < w.at+int64(len(w.data)); s++ {
		c.written[s] = max(c.written[s], seq)
	}
}

// apply makes a change durable, or those of its sectors that keep says; nil is all.
func (c *contents) apply(w *change, keep func(sector int64) bool) {
	if w.resizes() {
		c.durable = resized(c.durable, w.size)
		return
	}
	for at, end := w.at, w.at+int64(len(w.data)); at < end; {
		s := at / sectorSize
		next := min((s+1)*sectorSize, end)
		if c.written[s] <= w.seq && (keep == nil || keep(s)) {
			if next > int64(len(c.durable)) {
				c.durable = resized(c.durable, next)
			}
			copy(c.durable[at:next], w.data[at-w.at:next-w.at])
		}
		at = next
	}
}

// cut drops what is not durable, but for what luck keeps of it.
func (c *contents) cut(rng *rand.Rand, luck float64, loss *Loss) {
	for i := range c.pending {
		w := &c.pending[i]
		switch kept := rng.Float64() < luck; {
		case !kept:
			loss.Writes++
		case w.resizes() || rng.IntN(3) == 0:
			c.apply(w, nil)
			loss.Kept++
		case rng.IntN(2) == 0: // the first sectors
			end := w.at + rng.Int64N(int64(len(w.data))+1)
			c.apply(w, func(s int64) bool { return (s+1)*sectorSize <= end })
			loss.Torn++
		default: // any sectors
			c.apply(w, func(int64) bool { return rng.IntN(2) == 0 })
			loss.Torn++
		}
	}
	c.pending, c.written = nil, nil
}

// restart makes the durable bytes the live ones.
func (c *contents) restart() {
	c.live = slices.Clone(c.durable)
	c.reserved = 0
}

// reserve notes that the file is to use that much space.
func (c *contents) reserve(seq uint64, size int64, keepSize bool) {
	c.reserved = max(c.reserved, size)
	if !keepSize && size > int64(len(c.live)) {
		c.resize(seq, size)
	}
}

// read copies what is there at an offset.
func (c *contents) read(buf []byte, at int64) int {
	if at >= int64(len(c.live)) {
		return 0
	}
	return copy(buf, c.live[at:])
}

// synchronous reports whether flags of open ask that each write is durable when it returns.
func synchronous(flags uint32) bool { return flags&syscall.O_DSYNC != 0 } // O_SYNC contains it
