package lossyfs

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// entry is one name that a change of directories sets; without a node it is removed.
type entry struct {
	dir  *node
	name string
	node *node
	was  *node // what had the name before
}

// relink is one change of directories: one entry, or the two of a renaming, which happen together.
type relink struct {
	seq     uint64
	entries []entry
}

// names are the entries of a directory: what a process sees, and what is durable.
type names struct {
	live    map[string]*node
	durable map[string]*node
	pending []*relink
}

func newNames() *names { return &names{live: map[string]*node{}, durable: map[string]*node{}} }

// node is a file or a directory.
type node struct {
	id      uint64
	mode    uint32
	changed int64 // time of the last change, nanoseconds
	lookups uint64
	links   int // names in the live state
	opens   int
	file    *contents // one of both
	dir     *names
}

// relink changes entries and notes it.
func (d *Disk) relink(entries ...entry) {
	r := &relink{seq: d.next(), entries: entries}
	for i := range r.entries {
		e := &r.entries[i]
		e.was = e.dir.dir.live[e.name]
		if e.was != nil {
			e.was.links--
			defer d.reclaim(e.was)
		}
		if e.node != nil {
			e.dir.dir.live[e.name] = e.node
			e.node.links++
		} else {
			delete(e.dir.dir.live, e.name)
		}
		if n := len(e.dir.dir.pending); n == 0 || e.dir.dir.pending[n-1] != r {
			e.dir.dir.pending = append(e.dir.dir.pending, r)
		}
		d.dirty[e.dir] = true
	}
}

// syncDir makes the entries of a directory durable as of seq, and with a renaming the other directory that it concerns.
func (d *Disk) syncDir(n *node, seq uint64) {
	dirs := []*node{n}
	for i := 0; i < len(dirs); i++ {
		for _, r := range dirs[i].dir.pending {
			for _, e := range r.entries {
				if r.seq <= seq && !slices.Contains(dirs, e.dir) {
					dirs = append(dirs, e.dir)
				}
			}
		}
	}
	for _, r := range pendingOf(dirs) {
		if r.seq <= seq {
			r.apply()
		}
	}
	for _, dir := range dirs {
		dir.dir.pending = slices.DeleteFunc(dir.dir.pending, func(r *relink) bool { return r.seq <= seq })
		if len(dir.dir.pending) == 0 {
			delete(d.dirty, dir)
		}
	}
}

// pendingOf are the changes of directories in their order.
func pendingOf(dirs []*node) []*relink {
	seen := map[*relink]bool{}
	for _, n := range dirs {
		for _, r := range n.dir.pending {
			seen[r] = true
		}
	}
	return slices.SortedFunc(maps.Keys(seen), func(a, b *relink) int { return int(a.seq) - int(b.seq) })
}

func (r *relink) apply() {
	for _, e := range r.entries {
		if e.node != nil {
			e.dir.dir.durable[e.name] = e.node
		} else {
			delete(e.dir.dir.durable, e.name)
		}
	}
}

// cutDirs drops changes of directories, but for what luck keeps. One that follows a dropped one of the same name or file is
// dropped too.
func (d *Disk) cutDirs(rng *rand.Rand, luck float64, loss *Loss) {
	var dirs []*node
	for n := range d.dirty {
		if n.dir != nil {
			dirs = append(dirs, n)
		}
	}
	type place struct {
		dir  *node
		name string
	}
	names, nodes := map[place]bool{}, map[*node]bool{} // of what was dropped
	for _, r := range pendingOf(dirs) {
		drop := rng.Float64() >= luck
		for _, e := range r.entries {
			drop = drop || names[place{e.dir, e.name}] || nodes[e.node] || nodes[e.was]
		}
		if !drop {
			r.apply()
			loss.Kept++
			continue
		}
		loss.Names++
		for _, e := range r.entries {
			names[place{e.dir, e.name}] = true
			for _, n := range []*node{e.node, e.was} {
				if n != nil {
					nodes[n] = true
				}
			}
		}
	}
	for _, n := range dirs {
		n.dir.pending = nil
	}
}

// restart makes the durable state of everything below n the live one.
func (d *Disk) restart(n *node, seen map[*node]bool) {
	if seen[n] {
		n.links++
		return
	}
	n.links, n.opens, seen[n] = 1, 0, true
	if n.file != nil {
		n.file.restart()
		d.used += n.file.space()
		return
	}
	n.dir.live = maps.Clone(n.dir.durable)
	for _, child := range n.dir.live {
		d.restart(child, seen)
	}
}
