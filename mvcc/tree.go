package mvcc

import "unsafe"

// A tree is an ordered set of entries with the number of entries below each node. It is persistent: a root never changes
// once it is published. The writer owns the nodes it made since the last publication (node.epoch equals tree.epoch) and
// changes them in place; any other node is copied first. So a batch of changes costs one copy per node it touches.
//
// Nodes are wide, because a search costs about one cache line per comparison and a copy is one memmove, and because a
// pointer per entry is then nearly all that an entry costs.

const (
	leafMax  = 64
	innerMax = 32
)

// node is a leaf (kids nil) or an inner node (leaf nil).
//
// Invariants: entries and kids ascend by key; no node but an empty root is empty; kids[i].least is the smallest key below
// kids[i].node; all leaves have the same depth.
type node struct {
	epoch uint64
	leaf  []*entry
	kids  []kid
}

type kid struct {
	least string
	node  *node
	count int // entries below node
}

type tree struct {
	root   *node
	count  int
	epoch  uint64
	copied int // bytes of nodes made in this epoch
}

func newTree() tree { return tree{root: &node{}} }

// seal ends the writer's ownership: the root as it is now never changes again.
func (t *tree) seal() {
	t.epoch++
	t.copied = 0
}

func (t *tree) newLeaf(from []*entry) *node {
	t.copied += int(unsafe.Sizeof(node{})) + leafMax*int(unsafe.Sizeof(from[0]))
	return &node{epoch: t.epoch, leaf: append(make([]*entry, 0, leafMax), from...)}
}

func (t *tree) newInner(from []kid) *node {
	t.copied += int(unsafe.Sizeof(node{})) + innerMax*int(unsafe.Sizeof(from[0]))
	return &node{epoch: t.epoch, kids: append(make([]kid, 0, innerMax), from...)}
}

// own returns n if the writer may change it, else a copy that it may.
func (t *tree) own(n *node) *node {
	switch {
	case n.epoch == t.epoch && (cap(n.leaf) == leafMax || n.kids != nil):
		return n
	case n.kids != nil:
		return t.newInner(n.kids)
	}
	return t.newLeaf(n.leaf)
}

// search returns the position of the first entry of a leaf at or above key.
func (n *node) search(key string) int {
	lo, hi := 0, len(n.leaf)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if n.leaf[mid].key < key {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// descend returns the position of the kid below which key is or belongs.
func (n *node) descend(key string) int {
	lo, hi := 1, len(n.kids)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if n.kids[mid].least <= key {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo - 1
}

func (n *node) least() string {
	if n.kids != nil {
		return n.kids[0].least
	}
	return n.leaf[0].key
}

func (n *node) size() int {
	if n.kids == nil {
		return len(n.leaf)
	}
	c := 0
	for i := range n.kids {
		c += n.kids[i].count
	}
	return c
}

// insert adds e, whose key is not in the tree.
func (t *tree) insert(e *entry) {
	root, right := t.add(t.root, e)
	if right != nil {
		root = t.newInner([]kid{kidOf(root), kidOf(right)})
	}
	t.root = root
	t.count++
}

func kidOf(n *node) kid { return kid{n.least(), n, n.size()} }

// add inserts e below n. It returns the node that replaces n and, when that overflowed, the node to its right.
func (t *tree) add(n *node, e *entry) (self, right *node) {
	n = t.own(n)
	if n.kids == nil {
		return t.addToLeaf(n, e)
	}
	i := n.descend(e.key)
	k, r := t.add(n.kids[i].node, e)
	n.kids[i] = kidOf(k)
	if r == nil {
		return n, nil
	}
	if len(n.kids) < innerMax {
		n.kids = insertAt(n.kids, i+1, kidOf(r))
		return n, nil
	}
	cut := cutAt(len(n.kids), i+1)
	right = t.newInner(n.kids[cut:])
	clear(n.kids[cut:])
	n.kids = n.kids[:cut]
	if i+1 > cut || (i+1 == cut && cut == innerMax) {
		right.kids = insertAt(right.kids, i+1-cut, kidOf(r))
	} else {
		n.kids = insertAt(n.kids, i+1, kidOf(r))
	}
	return n, right
}

func (t *tree) addToLeaf(n *node, e *entry) (self, right *node) {
	i := n.search(e.key)
	if len(n.leaf) < leafMax {
		n.leaf = insertAt(n.leaf, i, e)
		return n, nil
	}
	cut := cutAt(len(n.leaf), i)
	if cut == len(n.leaf) {
		return n, t.newLeaf([]*entry{e})
	}
	right = t.newLeaf(n.leaf[cut:])
	clear(n.leaf[cut:])
	n.leaf = n.leaf[:cut]
	if i > cut {
		right.leaf = insertAt(right.leaf, i-cut, e)
	} else {
		n.leaf = insertAt(n.leaf, i, e)
	}
	return n, right
}

// cutAt says where a full node of n parts is divided when a part is to come in at position i. Keys that arrive in order
// leave full nodes behind instead of half full ones.
func cutAt(n, i int) int {
	if i == n {
		return n
	}
	return n / 2
}

func insertAt[T any](s []T, i int, x T) []T {
	s = append(s, x)
	copy(s[i+1:], s[i:])
	s[i] = x
	return s
}

func removeAt[T any](s []T, i int) []T {
	var zero T
	copy(s[i:], s[i+1:])
	s[len(s)-1] = zero
	return s[:len(s)-1]
}

// remove takes e out of the tree, which holds it.
func (t *tree) remove(e *entry) {
	t.root = t.drop(t.root, e)
	for len(t.root.kids) == 1 {
		t.root = t.root.kids[0].node
	}
	t.count--
}

// drop removes e below n and returns the node that replaces n. Kids that became small are joined with a neighbour when
// both fit into three quarters of a node; that bounds the number of nodes without moving entries back and forth.
func (t *tree) drop(n *node, e *entry) *node {
	n = t.own(n)
	if n.kids == nil {
		n.leaf = removeAt(n.leaf, n.search(e.key))
		return n
	}
	i := n.descend(e.key)
	k := t.drop(n.kids[i].node, e)
	if len(k.leaf)+len(k.kids) == 0 {
		n.kids = removeAt(n.kids, i)
		if len(n.kids) == 0 {
			n.kids = nil // the last entry of the tree is gone; n is the root or goes too
		}
		return n
	}
	n.kids[i] = kidOf(k)
	if i > 0 && t.join(n, i-1) || i+1 < len(n.kids) && t.join(n, i) {
		return n
	}
	return n
}

// join merges kids i and i+1 of n, which the writer owns, if they are small enough.
func (t *tree) join(n *node, i int) bool {
	a, b := n.kids[i].node, n.kids[i+1].node
	if len(a.leaf)+len(b.leaf) > leafMax*3/4 || len(a.kids)+len(b.kids) > innerMax*3/4 {
		return false
	}
	a = t.own(a)
	a.leaf = append(a.leaf, b.leaf...)
	if a.kids != nil {
		a.kids = append(a.kids, b.kids...)
	}
	n.kids[i] = kidOf(a)
	n.kids = removeAt(n.kids, i+1)
	return true
}

// build makes the tree of entries, which ascend by key.
func (t *tree) build(entries []*entry) {
	t.count = len(entries)
	t.root = &node{}
	var level []kid
	for from := 0; from < len(entries); from += leafMax {
		level = append(level, kidOf(t.newLeaf(entries[from:min(from+leafMax, len(entries))])))
	}
	for len(level) > 1 {
		var up []kid
		for from := 0; from < len(level); from += innerMax {
			up = append(up, kidOf(t.newInner(level[from:min(from+innerMax, len(level))])))
		}
		level = up
	}
	if len(level) == 1 {
		t.root = level[0].node
	}
}

// rank returns the number of entries below key.
func (n *node) rank(key string) int {
	r := 0
	for n.kids != nil {
		i := n.descend(key)
		for j := range i {
			r += n.kids[j].count
		}
		n = n.kids[i].node
	}
	return r + n.search(key)
}

// cursor walks over the entries of a root in order.
type cursor struct {
	path  [cursorDepth]step
	depth int // steps in use; the last one is a leaf
}

// cursorDepth is more than any tree can have: neighbours fill more than three quarters of one node together, so a level has
// at most a tenth of the nodes of the level below.
const cursorDepth = 12

type step struct {
	n *node
	i int
}

// seek moves before the first entry at or above key.
func (c *cursor) seek(root *node, key string) {
	c.depth = 0
	for n := root; ; {
		if n.kids == nil {
			c.path[c.depth] = step{n, n.search(key)}
			c.depth++
			return
		}
		i := n.descend(key)
		c.path[c.depth] = step{n, i}
		c.depth++
		n = n.kids[i].node
	}
}

// next returns the entry and moves behind it; nil at the end.
func (c *cursor) next() *entry {
	s := &c.path[c.depth-1]
	if s.i == len(s.n.leaf) {
		if !c.nextLeaf() {
			return nil
		}
		s = &c.path[c.depth-1]
	}
	s.i++
	return s.n.leaf[s.i-1]
}

// nextLeaf moves to the start of the next leaf.
func (c *cursor) nextLeaf() bool {
	d := c.depth - 2
	for d >= 0 && c.path[d].i+1 == len(c.path[d].n.kids) {
		d--
	}
	if d < 0 {
		return false
	}
	c.path[d].i++
	for n := c.path[d].n.kids[c.path[d].i].node; ; n = n.kids[0].node {
		d++
		c.path[d] = step{n, 0}
		if n.kids == nil {
			return true
		}
	}
}
