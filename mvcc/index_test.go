package mvcc

import (
	"fmt"
	"math/rand"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// check walks a tree and fails where it breaks an invariant of node; it returns the keys.
func (t *tree) check(test testing.TB) []string {
	var keys []string
	depth := -1
	var walk func(n node, level int)
	walk = func(n node, level int) {
		if n.leaf != nil {
			if depth < 0 {
				depth = level
			}
			require.Equal(test, depth, level, "leaves of different depth")
			for _, id := range n.leaf.entries() {
				keys = append(keys, t.data.key(t.data.entry(id)))
			}
			require.True(test, n.leaf.n > 0 || level == 0)
			return
		}
		require.LessOrEqual(test, len(n.inner.kids), innerMax)
		for _, k := range n.inner.kids {
			if k.node.leaf != nil {
				require.Equal(test, t.data.key(t.data.entry(k.node.leaf.ids[0])), k.least)
			} else {
				require.Equal(test, k.node.inner.kids[0].least, k.least)
			}
			require.Equal(test, k.node.size(), k.count)
			walk(k.node, level+1)
		}
	}
	walk(t.root, 0)
	require.True(test, slices.IsSorted(keys))
	require.Equal(test, len(keys), t.count)
	return keys
}

// TestTree compares a tree with a sorted list, also roots that were sealed long ago.
func TestTree(t *testing.T) {
	const seed = 7
	r := rand.New(rand.NewSource(seed))
	t.Log("seed", seed)
	d := newData()
	tr := newTree(d)
	entries := map[string]keyID{}
	var want []string
	type sealed struct {
		root node
		keys []string
	}
	var old []sealed
	for i := range 60000 {
		// Grow, shrink to nothing, grow again in order.
		key := fmt.Sprintf("%05d", r.Intn(9000))
		if i > 40000 {
			key = fmt.Sprintf("%05d", i)
		}
		growing := i < 15000 || i > 40000
		if e := entries[key]; e == 0 && (growing || r.Intn(4) == 0) {
			entries[key] = d.newEntry([]byte(key), 0)
			tr.insert(entries[key])
			at, _ := slices.BinarySearch(want, key)
			want = slices.Insert(want, at, key)
		} else if e != 0 && (!growing || r.Intn(8) == 0) {
			tr.remove(e)
			delete(entries, key)
			at, _ := slices.BinarySearch(want, key)
			want = slices.Delete(want, at, at+1)
		}
		if i%1000 == 0 {
			require.Equal(t, want, append([]string{}, tr.check(t)...))
			old = append(old, sealed{tr.root, slices.Clone(want)})
			tr.seal()
		}
	}
	for _, s := range old {
		for range 20 {
			from := fmt.Sprintf("%05d", r.Intn(60000))
			at, _ := slices.BinarySearch(s.keys, from)
			require.Equal(t, at, s.root.rank(d, from))
			var c cursor
			c.seek(d, s.root, from)
			for _, k := range s.keys[at:min(len(s.keys), at+200)] {
				require.Equal(t, k, d.key(d.entry(c.next())))
			}
			if len(s.keys)-at <= 200 {
				require.Zero(t, c.next())
			}
		}
	}
	for _, k := range want {
		tr.remove(entries[k])
	}
	require.Empty(t, tr.check(t))
}

// TestTreeBuild checks that a tree built at once is a tree.
func TestTreeBuild(t *testing.T) {
	for _, n := range []int{0, 1, leafMax, leafMax + 1, leafMax * innerMax, leafMax*innerMax + 1, 100_000} {
		var entries []keyID
		d := newData()
		for i := range n {
			entries = append(entries, d.newEntry(fmt.Appendf(nil, "%07d", i), 0))
		}
		tr := newTree(d)
		tr.build(entries)
		require.Len(t, tr.check(t), n)
		tr.insert(d.newEntry([]byte("x"), 0))
		require.Len(t, tr.check(t), n+1)
	}
}

// TestTable compares a table with a map while entries come and go.
func TestTable(t *testing.T) {
	const seed = 3
	r := rand.New(rand.NewSource(seed))
	t.Log("seed", seed)
	d := newData()
	tab := newTable(d)
	want := map[string]keyID{}
	for range 300_000 {
		key := fmt.Sprint(r.Intn(40_000))
		e := want[key]
		require.Equal(t, e, tab.find(key))
		switch {
		case e == 0:
			want[key] = d.newEntry([]byte(key), 0)
			tab.insert(want[key], tab.hash(key))
		case r.Intn(2) == 0:
			delete(want, key)
			tab.remove(e)
			d.freeEntry(e)
		}
	}
	slots := 0
	for i := range tab.shards {
		if p := tab.shards[i].slots.Load(); p != nil {
			slots += len(*p)
		}
	}
	require.Less(t, slots, 8*len(want), "removed entries make the table grow")
}

// TestSort sorts keys of every kind: alike for long, ending early, with zero bytes at the end, and in order already.
func TestSort(t *testing.T) {
	const seed = 5
	r := rand.New(rand.NewSource(seed))
	t.Log("seed", seed)
	for _, alphabet := range []string{"ab", "a\x00", "abcdefghijklmnopqrstuvwxyz\xff"} {
		for _, common := range []string{"", "/registry/pods/namespace-"} {
			seen := map[string]bool{}
			var want []string
			d := newData()
			var ids []keyID
			for range 3000 {
				key := make([]byte, 1+r.Intn(24))
				for i := range key {
					key[i] = alphabet[r.Intn(len(alphabet))]
				}
				if r.Intn(20) > 0 {
					key = append([]byte(common), key...)
				}
				if !seen[string(key)] {
					seen[string(key)] = true
					want = append(want, string(key))
					ids = append(ids, d.newEntry(key, 0))
				}
			}
			slices.Sort(want)
			for range 2 {
				d.sort(ids)
				for i, id := range ids {
					require.Equal(t, want[i], d.key(d.entry(id)))
				}
			}
		}
	}
}

// TestQueue checks order over chunk borders.
func TestQueue(t *testing.T) {
	var q queue[int]
	in, out := 0, 0
	for round := range 50 {
		for range 37 * round % 1500 {
			q.push(in)
			in++
		}
		for range 31 * round % 1400 {
			x, ok := q.peek()
			require.Equal(t, out < in, ok)
			if !ok {
				break
			}
			require.Equal(t, out, x)
			q.pop()
			out++
		}
	}
	require.LessOrEqual(t, len(q.chunks), (in-out)/queueChunk+2)
}

// TestRingIsBounded checks that past key sets are let go, by number and by bytes, and that the chain ends where they do.
func TestRingIsBounded(t *testing.T) {
	for _, bytes := range []int{1, ringBytesMax / 10} {
		var r ring
		var newest *keySet
		for range 1000 {
			k := &keySet{bytes: bytes}
			k.older.Store(newest)
			r.push(k, ringBytesMax)
			newest = k
		}
		n, kept := 0, 0
		for k := newest; k != nil; k = k.older.Load() {
			n++
			kept += k.bytes
		}
		require.Equal(t, len(r.sets), n)
		require.LessOrEqual(t, n, 256)
		require.LessOrEqual(t, kept-bytes, ringBytesMax)
		require.Equal(t, kept-bytes, r.bytes)
		require.Greater(t, n, 5)
	}
}
