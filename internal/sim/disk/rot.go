package disk

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
)

// FlipBit changes one bit of one file below dir ("" for everywhere), on the medium and in memory, as a medium that rots does. It
// is for a disk at rest: between Crash or Kill and the next start. It returns what it changed, as path, offset and bit, or ""
// where there is no file with a byte in it. Files are equally likely; within a file, sectors with something in them are.
func (d *Disk) FlipBit(rng *rand.Rand, dir string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	found := map[string]*node{}
	if n := d.at(dir); n != nil {
		collect(found, clean(dir), n)
	}
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(found)), func(name string) bool { return len(found[name].seen) == 0 })
	if len(names) == 0 {
		return ""
	}
	name := names[rng.IntN(len(names))]
	n := found[name]
	offset, bit := place(n.seen, rng), rng.IntN(8)
	n.seen[offset] ^= 1 << bit
	if offset < len(n.medium) {
		n.medium[offset] ^= 1 << bit
	}
	for _, w := range n.written {
		if at := offset - w.at; at >= 0 && at < len(w.data) {
			w.data[at] ^= 1 << bit
		}
	}
	return fmt.Sprintf("%s offset %d bit %d", name, offset, bit)
}

func collect(found map[string]*node, name string, n *node) {
	if !n.dir {
		found[name] = n
		return
	}
	for base, child := range n.entries {
		collect(found, path.Join(name, base), child)
	}
}

// place picks an offset: mostly in a sector that is not all zero.
func place(b []byte, rng *rand.Rand) int {
	var used []int
	for from := 0; from < len(b); from += SectorBytes {
		if len(bytes.Trim(b[from:min(from+SectorBytes, len(b))], "\x00")) > 0 {
			used = append(used, from)
		}
	}
	if len(used) == 0 || rng.IntN(8) == 0 {
		return rng.IntN(len(b))
	}
	from := used[rng.IntN(len(used))]
	return from + rng.IntN(min(SectorBytes, len(b)-from))
}
