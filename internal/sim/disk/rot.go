package disk

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
)

// Flip is one bit that has changed on a medium.
type Flip struct {
	Path   string // at the time
	node   *node
	offset int
	bit    int
	seen   byte // what is there since
	held   bool // it was on the medium as well
	medium byte
}

// String says where the bit is.
func (f *Flip) String() string { return fmt.Sprintf("%s offset %d bit %d", f.Path, f.offset, f.bit) }

// Undo gives the bit back, if nothing has been written there since. It must be called before the next Crash.
func (f *Flip) Undo() {
	if f.offset < len(f.node.seen) && f.node.seen[f.offset] == f.seen {
		f.node.seen[f.offset] ^= 1 << f.bit
	}
	if f.held && f.offset < len(f.node.medium) && f.node.medium[f.offset] == f.medium {
		f.node.medium[f.offset] ^= 1 << f.bit
	}
	for _, w := range f.node.written {
		if at := f.offset - w.at; at >= 0 && at < len(w.data) && w.data[at] == f.seen {
			w.data[at] ^= 1 << f.bit
		}
	}
}

// FlipBit changes one bit of one file below dir ("" for everywhere), on the medium and in memory, as a medium that rots does: files
// that skip, if it is not nil, names are left alone. It returns what it changed, nil where there is no file with a byte in it. Files
// are equally likely; within a file, sectors with something in them are.
func (d *Disk) FlipBit(rng *rand.Rand, dir string, skip func(path string) bool) *Flip {
	d.mu.Lock()
	defer d.mu.Unlock()
	found := map[string]*node{}
	if n := d.at(dir); n != nil {
		collect(found, clean(dir), n)
	}
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(found)), func(name string) bool {
		return len(found[name].seen) == 0 || skip != nil && skip(name)
	})
	if len(names) == 0 {
		return nil
	}
	f := &Flip{Path: names[rng.IntN(len(names))]}
	f.node = found[f.Path]
	n := f.node
	f.offset, f.bit = place(n.seen, rng), rng.IntN(8)
	n.seen[f.offset] ^= 1 << f.bit
	f.seen = n.seen[f.offset]
	if f.held = f.offset < len(n.medium); f.held {
		n.medium[f.offset] ^= 1 << f.bit
		f.medium = n.medium[f.offset]
	}
	for _, w := range n.written {
		if at := f.offset - w.at; at >= 0 && at < len(w.data) {
			w.data[at] ^= 1 << f.bit
		}
	}
	return f
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
