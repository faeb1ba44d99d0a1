package lease

import (
	"cmp"
	"slices"
)

// A tree is an ordered map of which old versions stay readable. Whoever changes it names an epoch: nodes made in that epoch
// are changed in place, all others are copied first. A copy of the tree value taken before a new epoch began therefore never
// changes, and publishing costs nothing but that copy.
//
// The zero value is empty. Epochs start at 1 and never go down.
type tree[K cmp.Ordered, V any] struct {
	root  *node[K, V]
	count int
}

// node is a leaf (kids nil) or an inner node (vals nil).
//
// Invariants: keys ascend; in an inner node keys[i] is at most the least key below kids[i] and above every key below
// kids[i-1] (keys[0] is not looked at); no node but the root is empty; all leaves have the same depth.
type node[K cmp.Ordered, V any] struct {
	epoch uint64
	keys  []K
	vals  []V
	kids  []*node[K, V]
}

const nodeMax = 32

// descend returns the position of the kid below which k is or belongs.
func (n *node[K, V]) descend(k K) int {
	i, found := slices.BinarySearch(n.keys[1:], k)
	if found {
		return i + 1
	}
	return i
}

func (t *tree[K, V]) get(k K) (v V, ok bool) {
	n := t.root
	if n == nil {
		return v, false
	}
	for n.kids != nil {
		n = n.kids[n.descend(k)]
	}
	i, ok := slices.BinarySearch(n.keys, k)
	if ok {
		v = n.vals[i]
	}
	return v, ok
}

// own returns n if it was made in this epoch, else a copy that was.
func (n *node[K, V]) own(epoch uint64) *node[K, V] {
	if n.epoch == epoch {
		return n
	}
	c := &node[K, V]{epoch: epoch, keys: append(make([]K, 0, nodeMax+1), n.keys...)}
	if n.kids != nil {
		c.kids = append(make([]*node[K, V], 0, nodeMax+1), n.kids...)
	} else {
		c.vals = append(make([]V, 0, nodeMax+1), n.vals...)
	}
	return c
}

// set makes v the value of k.
func (t *tree[K, V]) set(epoch uint64, k K, v V) {
	if t.root == nil {
		t.root = &node[K, V]{epoch: epoch}
	}
	root, right, added := t.root.set(epoch, k, v)
	if right != nil {
		root = &node[K, V]{epoch: epoch, keys: []K{root.keys[0], right.keys[0]}, kids: []*node[K, V]{root, right}}
	}
	t.root = root
	if added {
		t.count++
	}
}

// set returns the node that replaces n and, when that overflowed, the node to its right.
func (n *node[K, V]) set(epoch uint64, k K, v V) (self, right *node[K, V], added bool) {
	n = n.own(epoch)
	if n.kids == nil {
		i, found := slices.BinarySearch(n.keys, k)
		if found {
			n.vals[i] = v
			return n, nil, false
		}
		n.keys, n.vals = slices.Insert(n.keys, i, k), slices.Insert(n.vals, i, v)
		return n, n.split(), true
	}
	i := n.descend(k)
	kid, next, added := n.kids[i].set(epoch, k, v)
	n.kids[i] = kid
	if next != nil {
		n.keys, n.kids = slices.Insert(n.keys, i+1, next.keys[0]), slices.Insert(n.kids, i+1, next)
	}
	return n, n.split(), added
}

// split moves the upper half of a node that is too large to a new node.
func (n *node[K, V]) split() *node[K, V] {
	if len(n.keys) <= nodeMax {
		return nil
	}
	cut := len(n.keys) / 2
	right := &node[K, V]{epoch: n.epoch, keys: slices.Clone(n.keys[cut:])}
	n.keys = slices.Delete(n.keys, cut, len(n.keys))
	if n.kids != nil {
		right.kids = slices.Clone(n.kids[cut:])
		n.kids = slices.Delete(n.kids, cut, len(n.kids))
	} else {
		right.vals = slices.Clone(n.vals[cut:])
		n.vals = slices.Delete(n.vals, cut, len(n.vals))
	}
	return right
}

// remove takes k out if it is there.
func (t *tree[K, V]) remove(epoch uint64, k K) {
	if _, ok := t.get(k); !ok {
		return
	}
	t.root = t.root.remove(epoch, k)
	t.count--
	for len(t.root.kids) == 1 {
		t.root = t.root.kids[0]
	}
	if t.count == 0 {
		t.root = nil
	}
}

// remove takes k, which is there, out of what is below n and returns the node that replaces n.
func (n *node[K, V]) remove(epoch uint64, k K) *node[K, V] {
	n = n.own(epoch)
	if n.kids == nil {
		i, _ := slices.BinarySearch(n.keys, k)
		n.keys, n.vals = slices.Delete(n.keys, i, i+1), slices.Delete(n.vals, i, i+1)
		return n
	}
	i := n.descend(k)
	n.kids[i] = n.kids[i].remove(epoch, k)
	switch {
	case len(n.kids[i].keys) == 0:
		n.keys, n.kids = slices.Delete(n.keys, i, i+1), slices.Delete(n.kids, i, i+1)
	case i+1 < len(n.kids):
		n.join(epoch, i)
	case i > 0:
		n.join(epoch, i-1)
	}
	return n
}

// join merges kids i and i+1 of n when both are small, so that removals do not leave a tree of nearly empty nodes. The
// limit is below nodeMax so that a set and a remove in turn do not split and join each time.
func (n *node[K, V]) join(epoch uint64, i int) {
	a, b := n.kids[i], n.kids[i+1]
	if len(a.keys)+len(b.keys) > nodeMax*3/4 {
		return
	}
	a = a.own(epoch)
	if a.kids != nil {
		a.keys = append(a.keys, n.keys[i+1]) // the separator bounds b; keys[0] of b may not
		a.keys = append(a.keys, b.keys[1:]...)
		a.kids = append(a.kids, b.kids...)
	} else {
		a.keys = append(a.keys, b.keys...)
		a.vals = append(a.vals, b.vals...)
	}
	n.kids[i] = a
	n.keys, n.kids = slices.Delete(n.keys, i+1, i+2), slices.Delete(n.kids, i+1, i+2)
}

// each calls f for every key in ascending order until f says no.
func (t *tree[K, V]) each(f func(K, V) bool) {
	if t.root != nil {
		t.root.each(f)
	}
}

func (n *node[K, V]) each(f func(K, V) bool) bool {
	for i, k := range n.keys {
		if n.kids != nil {
			if !n.kids[i].each(f) {
				return false
			}
		} else if !f(k, n.vals[i]) {
			return false
		}
	}
	return true
}
