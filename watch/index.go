package watch

import (
	"bytes"
	"hash/maphash"
)

// span is an interval of keys: exactly key when single, all keys >= key when open, else [key, end).
type span struct {
	key, end     string
	single, open bool
}

func (s span) contains(key []byte) bool {
	switch {
	case s.single:
		return string(key) == s.key
	case string(key) < s.key:
		return false
	}
	return s.open || string(key) < s.end
}

// group holds the live watchers of one interval.
type group struct {
	span     span
	watchers []*watcher // each knows its place
	hits     []hit      // what the round under way has for them

	priority    uint64
	left, right *group
	maxEnd      string // the largest end in this subtree
	maxOpen     bool   // whether an interval of this subtree is open
}

// index finds the watchers whose interval contains a key: a map for single keys and an interval treap for ranges, in
// which watchers of the same interval share one node.
type index struct {
	singles map[string]*group
	ranges  map[span]*group
	root    *group
	seed    maphash.Seed
}

func newIndex() *index {
	return &index{singles: map[string]*group{}, ranges: map[span]*group{}, seed: maphash.MakeSeed()}
}

func (x *index) add(w *watcher) {
	g := x.find(w.span)
	if g == nil {
		g = &group{span: w.span}
		if w.span.single {
			x.singles[w.span.key] = g
		} else {
			g.priority = maphash.String(x.seed, w.span.key+"\x00"+w.span.end)
			g.update()
			x.ranges[w.span] = g
			x.root = insert(x.root, g)
		}
	}
	w.place = len(g.watchers)
	g.watchers = append(g.watchers, w)
}

func (x *index) find(s span) *group {
	if s.single {
		return x.singles[s.key]
	}
	return x.ranges[s]
}

func (x *index) remove(w *watcher) {
	g := x.find(w.span)
	if g == nil {
		return
	}
	last := g.watchers[len(g.watchers)-1]
	g.watchers[w.place], last.place = last, w.place
	g.watchers[len(g.watchers)-1] = nil
	g.watchers = g.watchers[:len(g.watchers)-1]
	if len(g.watchers) > 0 {
		return
	}
	if w.span.single {
		delete(x.singles, w.span.key)
		return
	}
	delete(x.ranges, w.span)
	x.root = remove(x.root, g)
}

// visit calls f for the watchers of every interval that contains key.
func (x *index) visit(key []byte, f func(*group)) {
	if g := x.singles[string(key)]; g != nil {
		f(g)
	}
	x.root.visit(key, f)
}

func (g *group) visit(key []byte, f func(*group)) {
	for g != nil {
		if !g.maxOpen && bytes.Compare(key, []byte(g.maxEnd)) >= 0 {
			return // every interval below ends at or before key
		}
		g.left.visit(key, f)
		if string(key) < g.span.key {
			return // this interval and all to the right start after key
		}
		if g.span.contains(key) {
			f(g)
		}
		g = g.right
	}
}

// before is the order of the treap: by start, then end, open last.
func (g *group) before(o *group) bool {
	if g.span.key != o.span.key {
		return g.span.key < o.span.key
	}
	if g.span.open != o.span.open {
		return o.span.open
	}
	return g.span.end < o.span.end
}

func (g *group) update() {
	g.maxEnd, g.maxOpen = g.span.end, g.span.open
	for _, c := range [2]*group{g.left, g.right} {
		if c == nil {
			continue
		}
		g.maxOpen = g.maxOpen || c.maxOpen
		g.maxEnd = max(g.maxEnd, c.maxEnd)
	}
}

func insert(root, g *group) *group {
	switch {
	case root == nil:
		return g
	case g.priority > root.priority:
		g.left, g.right = split(root, g)
		g.update()
		return g
	case g.before(root):
		root.left = insert(root.left, g)
	default:
		root.right = insert(root.right, g)
	}
	root.update()
	return root
}

// split divides a treap into the nodes before g and the others.
func split(root, g *group) (left, right *group) {
	if root == nil {
		return nil, nil
	}
	if root.before(g) {
		root.right, right = split(root.right, g)
		root.update()
		return root, right
	}
	left, root.left = split(root.left, g)
	root.update()
	return left, root
}

func remove(root, g *group) *group {
	switch {
	case root == nil:
		return nil
	case root == g:
		return merge(root.left, root.right)
	case g.before(root):
		root.left = remove(root.left, g)
	default:
		root.right = remove(root.right, g)
	}
	root.update()
	return root
}

func merge(a, b *group) *group {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.priority > b.priority:
		a.right = merge(a.right, b)
		a.update()
		return a
	}
	b.left = merge(a, b.left)
	b.update()
	return b
}
