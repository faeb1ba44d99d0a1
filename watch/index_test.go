package watch

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestIndex compares the index with asking every watcher.
func TestIndex(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	x := newIndex()
	all := map[*watcher]bool{}
	name := func() string { return fmt.Sprintf("%02d", r.IntN(40)) }
	for step := range 20000 {
		if len(all) < 100 && r.IntN(2) == 0 {
			w := &watcher{span: span{key: name()}}
			switch r.IntN(3) {
			case 0:
				w.span.single = true
			case 1:
				w.span.open = true
			default:
				w.span.end = name()
			}
			x.add(w)
			all[w] = true
		} else {
			for w := range all {
				x.remove(w)
				delete(all, w)
				break
			}
		}
		key := []byte(name())
		got := map[*watcher]int{}
		x.visit(key, func(g *group) {
			for _, w := range g.watchers {
				got[w]++
			}
		})
		for w := range all {
			if want := w.span.contains(key); want != (got[w] == 1) {
				t.Fatalf("step %d: key %s and %+v: visited %d times, want %v", step, key, w.span, got[w], want)
			}
			delete(got, w)
		}
		if len(got) != 0 {
			t.Fatalf("step %d: visited a watcher that was removed", step)
		}
	}
}

func BenchmarkVisit(b *testing.B) {
	x := newIndex()
	for i := range 10000 {
		x.add(&watcher{span: span{key: fmt.Sprintf("/registry/%05d/", i), end: fmt.Sprintf("/registry/%05d0", i)}})
	}
	key := []byte("/registry/04999/pod")
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		x.visit(key, func(g *group) { n += len(g.watchers) })
		if n != 1 {
			b.Fatal(n)
		}
	}
}
