package storage_test

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestKeys checks that keys read ahead are those of an iterator, whatever the number of blocks they fill, and that a walk can
// end anywhere.
func TestKeys(t *testing.T) {
	e := open(t, vfs.NewMem(), "store")
	defer e.Close()
	const all = 5000 // more than is ever read ahead
	b := e.NewBatch()
	for i := range all {
		b.Set(fmt.Appendf(nil, "k%06d", i), []byte("value"))
	}
	if err := e.Commit(b, mark(1)); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 511, 512, 513, 1024, all} {
		keys, err := e.Keys([]byte("k"), fmt.Appendf(nil, "k%06d", n))
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if !keys.Next() || string(keys.Key()) != fmt.Sprintf("k%06d", i) {
				t.Fatalf("key %d of %d is %q", i, n, keys.Key())
			}
		}
		if keys.Next() || keys.Next() {
			t.Errorf("there is a key after %d", n)
		}
		if err := keys.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, n := range []int{0, 1, 600, 4000} {
		keys, err := e.Keys(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range n {
			keys.Next()
		}
		if err := keys.Close(); err != nil {
			t.Errorf("ended after %d: %v", n, err)
		}
	}
}
