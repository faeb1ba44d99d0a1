package mvcc

import "unsafe"

// A tree is an ordered set of entries with the number of entries below each node. It is persistent: a root never changes
// once it is published. The writer owns the nodes it made since the last publication (their epoch equals tree.epoch) and
// changes them in place; any other node is copied first. So a batch of changes costs one copy per node it touches.
//
// Nodes are wide, because a search costs about one cache line per comparison and a copy is one memmove, and because a
// number per entry is then nearly all that an entry costs. A leaf holds no pointer but to its entries' numbers, so that the
// garbage collector sees one object without pointers for a hundred keys.

const (
	leafMax  = 188 // a leaf takes 768 bytes
	innerMax = 32
)

// leaf is a node of entries.
type leaf struct {
	epoch uint64
	n     int
	ids   [leafMax]keyID
}

// inner is a node of nodes.
type inner struct {
	epoch uint64
	kids  []kid
}

// node is a leaf or an inner node, or neither: no tree.
//
// Invariants: entries and kids ascend by key; no node but an empty root is empty; kids[i].least is the smallest key below
// kids[i].node; all leaves have the same depth.
type node struct {
	leaf  *leaf
	inner *inner
}

type kid struct {
	least string // a copy, which keeps no slab in memory
	node  node
	count int // entries below node
}

type tree struct {
	data   *data
	root   node
	count  int
	epoch  uint64
	copied int // bytes of nodes made in this epoch
}

func newTree(d *data) tree { return tree{data: d, root: node{leaf: new(leaf)}} }

// seal ends the writer's ownership: the root as it is now never changes again.
func (t *tree) seal() {
	t.epoch++
	t.copied = 0
}

func (t *tree) newLeaf(from []keyID) *leaf {
	t.copied += int(unsafe.Sizeof(leaf{}))
	l := &leaf{epoch: t.epoch}
	l.n = copy(l.ids[:], from)
	return l
}

func (t *tree) newInner(from []kid) *inner {
	t.copied += int(unsafe.Sizeof(inner{})) + innerMax*int(unsafe.Sizeof(kid{}))
	return &inner{epoch: t.epoch, kids: append(make([]kid, 0, innerMax), from...)}
}

// ownLeaf returns l if the writer may change it, else a copy that it may.
func (t *tree) ownLeaf(l *leaf) *leaf {
	if l.epoch == t.epoch {
		return l
	}
	return t.newLeaf(l.entries())
}

// ownInner is ownLeaf for an inner node.
func (t *tree) ownInner(n *inner) *inner {
	if n.epoch == t.epoch {
		return n
	}
	return t.newInner(n.kids)
}

func (l *leaf) entries() []keyID { return l.ids[:l.n] }

func (l *leaf) insert(i int, id keyID) {
	copy(l.ids[i+1:l.n+1], l.ids[i:l.n])
	l.ids[i] = id
	l.n++
}

// search returns the position of the first entry of a leaf at or above key.
func (l *leaf) search(d *data, key string) int {
	lo, hi := 0, l.n
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if d.key(d.entry(l.ids[mid])) < key {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// descend returns the position of the kid below which key is or belongs.
func (n *inner) descend(key string) int {
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

func (n node) size() int {
	if n.leaf != nil {
		return n.leaf.n
	}
	c := 0
	for i := range n.inner.kids {
		c += n.inner.kids[i].count
	}
	return c
}

// empty says that there is nothing below n.
func (n node) empty() bool {
	return n.leaf != nil && n.leaf.n == 0 || n.inner != nil && len(n.inner.kids) == 0
}

// set makes k the kid of node n, whose content changed.
func (t *tree) set(k *kid, n node) {
	k.node, k.count = n, n.size()
	if n.inner != nil {
		k.least = n.inner.kids[0].least
		return
	}
	if least := t.data.key(t.data.entry(n.leaf.ids[0])); least != k.least {
		k.least = textOf(t.data.leasts.Of(bytesOf(least)))
	}
}

func (t *tree) kidOf(n node) (k kid) {
	t.set(&k, n)
	return k
}

// insert adds an entry whose key is not in the tree.
func (t *tree) insert(id keyID) {
	root, right := t.add(t.root, id, t.data.key(t.data.entry(id)))
	if right != (node{}) {
		root = node{inner: t.newInner([]kid{t.kidOf(root), t.kidOf(right)})}
	}
	t.root = root
	t.count++
}

// add inserts an entry below n. It returns the node that replaces n and, when that overflowed, the node to its right.
func (t *tree) add(n node, id keyID, key string) (self, right node) {
	if n.leaf != nil {
		return t.addToLeaf(t.ownLeaf(n.leaf), id, key)
	}
	in := t.ownInner(n.inner)
	self.inner = in
	i := in.descend(key)
	k, r := t.add(in.kids[i].node, id, key)
	t.set(&in.kids[i], k)
	if r == (node{}) {
		return self, right
	}
	if len(in.kids) < innerMax {
		in.kids = insertAt(in.kids, i+1, t.kidOf(r))
		return self, right
	}
	cut := cutAt(len(in.kids), i+1)
	right.inner = t.newInner(in.kids[cut:])
	clear(in.kids[cut:])
	in.kids = in.kids[:cut]
	if i+1 > cut || (i+1 == cut && cut == innerMax) {
		right.inner.kids = insertAt(right.inner.kids, i+1-cut, t.kidOf(r))
	} else {
		in.kids = insertAt(in.kids, i+1, t.kidOf(r))
	}
	return self, right
}

func (t *tree) addToLeaf(l *leaf, id keyID, key string) (self, right node) {
	self.leaf = l
	i := l.search(t.data, key)
	if l.n < leafMax {
		l.insert(i, id)
		return self, right
	}
	cut := cutAt(l.n, i)
	if cut == l.n {
		right.leaf = t.newLeaf([]keyID{id})
		return self, right
	}
	right.leaf = t.newLeaf(l.ids[cut:])
	l.n = cut
	if i > cut {
		right.leaf.insert(i-cut, id)
	} else {
		l.insert(i, id)
	}
	return self, right
}

// cutAt says where a full node of n parts is divided when a part is to come in at position i. Keys that arrive in order
// leave full nodes behind instead of half full ones.
func cutAt(n, i int) int {
	if i == n {
		return n
	}
	return n / 2
}

func insertAt(s []kid, i int, x kid) []kid {
	s = append(s, x)
	copy(s[i+1:], s[i:])
	s[i] = x
	return s
}

func removeAt(s []kid, i int) []kid {
	copy(s[i:], s[i+1:])
	s[len(s)-1] = kid{}
	return s[:len(s)-1]
}

// remove takes an entry out of the tree, which holds it.
func (t *tree) remove(id keyID) {
	t.root = t.drop(t.root, t.data.key(t.data.entry(id)))
	for t.root.inner != nil && len(t.root.inner.kids) == 1 {
		t.root = t.root.inner.kids[0].node
	}
	if t.root.empty() {
		t.root = node{leaf: &leaf{epoch: t.epoch}}
	}
	t.count--
}

// drop removes the entry of key below n and returns the node that replaces n. Kids that became small are joined with a
// neighbour when both fit into three quarters of a node; that bounds the number of nodes without moving entries back and forth.
func (t *tree) drop(n node, key string) node {
	if n.leaf != nil {
		l := t.ownLeaf(n.leaf)
		i := l.search(t.data, key)
		copy(l.ids[i:], l.ids[i+1:l.n])
		l.n--
		return node{leaf: l}
	}
	in := t.ownInner(n.inner)
	i := in.descend(key)
	k := t.drop(in.kids[i].node, key)
	if k.empty() {
		in.kids = removeAt(in.kids, i)
		return node{inner: in}
	}
	t.set(&in.kids[i], k)
	if !(i > 0 && t.join(in, i-1)) && i+1 < len(in.kids) {
		t.join(in, i)
	}
	return node{inner: in}
}

// join merges kids i and i+1 of n, which the writer owns, if they are small enough, and says whether they were.
func (t *tree) join(n *inner, i int) bool {
	a, b := n.kids[i].node, n.kids[i+1].node
	switch {
	case a.leaf != nil:
		if a.leaf.n+b.leaf.n > leafMax*3/4 {
			return false
		}
		a.leaf = t.ownLeaf(a.leaf)
		a.leaf.n += copy(a.leaf.ids[a.leaf.n:], b.leaf.entries())
	default:
		if len(a.inner.kids)+len(b.inner.kids) > innerMax*3/4 {
			return false
		}
		a.inner = t.ownInner(a.inner)
		a.inner.kids = append(a.inner.kids, b.inner.kids...)
	}
	t.set(&n.kids[i], a)
	n.kids = removeAt(n.kids, i+1)
	return true
}

// build makes the tree of entries, which ascend by key.
func (t *tree) build(entries []keyID) {
	t.count = len(entries)
	t.root = node{leaf: &leaf{epoch: t.epoch}}
	var level []kid
	for from := 0; from < len(entries); from += leafMax {
		level = append(level, t.kidOf(node{leaf: t.newLeaf(entries[from:min(from+leafMax, len(entries))])}))
	}
	for len(level) > 1 {
		var up []kid
		for from := 0; from < len(level); from += innerMax {
			up = append(up, t.kidOf(node{inner: t.newInner(level[from:min(from+innerMax, len(level))])}))
		}
		level = up
	}
	if len(level) == 1 {
		t.root = level[0].node
	}
}

// rank returns the number of entries below key.
func (n node) rank(d *data, key string) int {
	r := 0
	for n.inner != nil {
		i := n.inner.descend(key)
		for j := range i {
			r += n.inner.kids[j].count
		}
		n = n.inner.kids[i].node
	}
	return r + n.leaf.search(d, key)
}

// cursor walks over the entries of a root in order.
type cursor struct {
	leaf  *leaf
	at    int // position in leaf of what next returns
	path  [cursorDepth]step
	depth int // steps in use
}

// cursorDepth is more than any tree can have: neighbours fill more than three quarters of one node together, so a level has
// at most a tenth of the nodes of the level below.
const cursorDepth = 12

type step struct {
	n *inner
	i int
}

// seek moves before the first entry at or above key.
func (c *cursor) seek(d *data, root node, key string) {
	c.depth = 0
	n := root
	for n.inner != nil {
		i := n.inner.descend(key)
		c.path[c.depth] = step{n.inner, i}
		c.depth++
		n = n.inner.kids[i].node
	}
	c.leaf, c.at = n.leaf, n.leaf.search(d, key)
}

// next returns the entry and moves behind it; 0 at the end.
func (c *cursor) next() keyID {
	if c.at == c.leaf.n && !c.nextLeaf() {
		return 0
	}
	c.at++
	return c.leaf.ids[c.at-1]
}

// nextLeaf moves to the start of the next leaf.
func (c *cursor) nextLeaf() bool {
	d := c.depth - 1
	for d >= 0 && c.path[d].i+1 == len(c.path[d].n.kids) {
		d--
	}
	if d < 0 {
		return false
	}
	c.path[d].i++
	n := c.path[d].n.kids[c.path[d].i].node
	for n.inner != nil {
		d++
		c.path[d] = step{n.inner, 0}
		n = n.inner.kids[0].node
	}
	c.leaf, c.at = n.leaf, 0
	return true
}
