package check

// tree is an immutable ordered map: with and without return a new tree that shares most of the old one, so that a state for
// every step of a search costs little. Its shape depends only on its keys (a treap whose priorities are hashes of the keys).
type tree[V any] struct {
	left, right *tree[V]
	key         string
	value       V
	prio        uint64
	own, sum    uint64 // hash of this entry, and the sum over all entries below and here
	size        int
}

func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix spreads the bits of a number (the finalizer of splitmix64).
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

func (t *tree[V]) digest() uint64 {
	if t == nil {
		return 0
	}
	return t.sum
}

func (t *tree[V]) count() int {
	if t == nil {
		return 0
	}
	return t.size
}

func (t *tree[V]) join(left, right *tree[V]) *tree[V] {
	return &tree[V]{left: left, right: right, key: t.key, value: t.value, prio: t.prio, own: t.own,
		sum: t.own + left.digest() + right.digest(), size: 1 + left.count() + right.count()}
}

// split parts a tree into the keys below key and the others.
func (t *tree[V]) split(key string) (below, above *tree[V]) {
	if t == nil {
		return nil, nil
	}
	if t.key < key {
		l, r := t.right.split(key)
		return t.join(t.left, l), r
	}
	l, r := t.left.split(key)
	return l, t.join(r, t.right)
}

// merge joins two trees, all keys of l being below those of r.
func merge[V any](l, r *tree[V]) *tree[V] {
	switch {
	case l == nil:
		return r
	case r == nil:
		return l
	case l.prio > r.prio:
		return l.join(l.left, merge(l.right, r))
	}
	return r.join(merge(l, r.left), r.right)
}

func (t *tree[V]) with(key string, value V, own uint64) *tree[V] {
	l, r := t.split(key)
	_, r = r.split(key + "\x00")
	entry := &tree[V]{key: key, value: value, prio: hash(key), own: own, sum: own, size: 1}
	return merge(merge(l, entry), r)
}

func (t *tree[V]) without(key string) *tree[V] {
	l, r := t.split(key)
	_, r = r.split(key + "\x00")
	return merge(l, r)
}

func (t *tree[V]) get(key string) (v V, ok bool) {
	for t != nil {
		switch {
		case key < t.key:
			t = t.left
		case key > t.key:
			t = t.right
		default:
			return t.value, true
		}
	}
	return v, false
}

// each visits the entries of [from, to) in order, all from from on when open.
func (t *tree[V]) each(from, to string, open bool, visit func(key string, v V)) {
	if t == nil {
		return
	}
	if from < t.key {
		t.left.each(from, to, open, visit)
	}
	if t.key >= from && (open || t.key < to) {
		visit(t.key, t.value)
	}
	if open || t.key < to {
		t.right.each(from, to, open, visit)
	}
}
