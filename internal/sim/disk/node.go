package disk

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// node is a file or a directory: what processes see of it, what is on the medium, and the changes between the two.
type node struct {
	dir bool

	// Of a file.
	seen    []byte
	medium  []byte
	written []write // since the last sync, in order

	// Of a directory.
	entries map[string]*node
	durable map[string]*node
	changes []change // since the last sync, in order
}

// write is a write to a file.
type write struct {
	at   int
	data []byte
}

// change is a change of a directory: names that get another node, nil for none. A rename is one change of two names.
type change []entry

type entry struct {
	name string
	node *node
}

func newDir() *node {
	return &node{dir: true, entries: map[string]*node{}, durable: map[string]*node{}}
}

// put changes entries of a directory.
func (n *node) put(c change) {
	apply(n.entries, c)
	n.changes = append(n.changes, c)
}

func apply(entries map[string]*node, c change) {
	for _, e := range c {
		if e.node == nil {
			delete(entries, e.name)
		} else {
			entries[e.name] = e.node
		}
	}
}

// store writes to a file. It keeps a copy of data.
func (n *node) store(at int, data []byte) {
	data = slices.Clone(data)
	n.seen = overlay(n.seen, at, data)
	n.written = append(n.written, write{at, data})
}

// overlay puts data into b at an offset and fills a gap before it with zeros.
func overlay(b []byte, at int, data []byte) []byte {
	if grow := at + len(data) - len(b); grow > 0 {
		b = append(b, make([]byte, grow)...)
	}
	copy(b[at:], data)
	return b
}

// sync makes everything durable.
func (n *node) sync() {
	if n.dir {
		for _, c := range n.changes {
			apply(n.durable, c)
		}
		n.changes = nil
		return
	}
	for _, w := range n.written {
		n.medium = overlay(n.medium, w.at, w.data)
	}
	n.written = nil
}

// syncBadly makes a random part durable. Of a file it forgets that the rest is not: that is gone with the power, and no sync brings
// it back. Changes of a directory stay to be synced: file systems that fail to record those stop altogether.
func (n *node) syncBadly(rng *rand.Rand) {
	if n.dir {
		return
	}
	n.medium = survivors(n.medium, n.written, rng, 25)
	n.written = nil
}

// survivors returns medium with what survives of the writes: percent of 100 of them whole, and of each other one the sectors at
// its beginning, some sectors, or nothing. With 0 percent nothing survives.
func survivors(medium []byte, writes []write, rng *rand.Rand, percent int) []byte {
	if percent == 0 {
		return medium
	}
	for _, w := range writes {
		if rng.IntN(100) < percent {
			medium = overlay(medium, w.at, w.data)
			continue
		}
		torn, odds := rng.IntN(3), rng.IntN(100)
		keep := rng.IntN(len(w.data) + 1)
		for from := 0; from < len(w.data); {
			to := min(len(w.data), from+SectorBytes-(w.at+from)%SectorBytes)
			if torn == 0 && to <= keep || torn == 1 && rng.IntN(100) < odds {
				medium = overlay(medium, w.at+from, w.data[from:to])
			}
			from = to
		}
	}
	return medium
}

// crash copies what a loss of power leaves.
type crash struct {
	rng     *rand.Rand
	ordered bool
	percent int             // chance of what was not synced
	done    map[*node]*node // files may have several names
}

func (c *crash) node(n *node) *node {
	if after, ok := c.done[n]; ok {
		return after
	}
	if !n.dir {
		left := survivors(slices.Clone(n.medium), n.written, c.rng, c.percent)
		after := &node{seen: left, medium: slices.Clone(left)}
		c.done[n] = after
		return after
	}
	after := newDir()
	c.done[n] = after
	left := maps.Clone(n.durable)
	for _, ch := range n.changes {
		if c.rng.IntN(100) < c.percent {
			apply(left, ch)
		} else if c.ordered {
			break
		}
	}
	for _, name := range slices.Sorted(maps.Keys(left)) { // in an order, because what is drawn depends on it
		after.entries[name] = c.node(left[name])
	}
	after.durable = maps.Clone(after.entries)
	return after
}
