package storage_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"quorate.dev/quorate/internal/clock"
	. "quorate.dev/quorate/storage"
)

// restClock counts the rests.
type restClock struct {
	*clock.Manual
	rests   atomic.Int64
	longest atomic.Int64
}

func (c *restClock) NewTimer(d time.Duration) *clock.Timer {
	t := c.Manual.NewTimer(d)
	c.rests.Add(1)
	c.longest.Store(max(c.longest.Load(), int64(d)))
	return t
}

// layers flushes n files that overlap each other.
func layers(t *testing.T, e *Engine, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		b := e.NewBatch()
		for j := range 50 {
			b.Set(fmt.Appendf(nil, "a%03d", j), make([]byte, 1000))
		}
		if err := e.Commit(b, mark(i+1)); err != nil {
			t.Fatal(err)
		}
		if err := e.Flush(); err != nil {
			t.Fatal(err)
		}
	}
}

func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !f(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in time", what)
		}
	}
}

// TestCompactionsRest checks that a compaction waits between blocks, a bounded time each, and that flushes do not.
func TestCompactionsRest(t *testing.T) {
	c := &restClock{Manual: clock.NewManual(time.Unix(1e9, 0))}
	e, err := Open("store", Options{FS: vfs.NewMem(), Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	layers(t, e, 0, 9)
	await(t, "a rest", func() bool { return c.rests.Load() > 0 })
	if n := e.Stats().Compactions; n != 0 {
		t.Errorf("%d compactions ended while the first rests", n)
	}
	if d := time.Duration(c.longest.Load()); d > 10*time.Millisecond {
		t.Errorf("a rest of %v", d)
	}
	await(t, "a compaction as time passes", func() bool {
		c.Advance(10 * time.Millisecond)
		return e.Stats().Compactions > 0
	})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCompactionsHurry checks that compactions do not rest while there is much to compact.
func TestCompactionsHurry(t *testing.T) {
	c := &restClock{Manual: clock.NewManual(time.Unix(1e9, 0))}
	e, err := Open("store", Options{FS: vfs.NewMem(), Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	layers(t, e, 0, 40)
	await(t, "a rest", func() bool { return c.rests.Load() > 0 })
	c.Advance(time.Second) // and nothing after it: the next look finds the debt
	await(t, "a compaction in no time", func() bool { return e.Stats().Compactions > 0 })
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCloseEndsRests checks that a resting compaction does not hold up the end.
func TestCloseEndsRests(t *testing.T) {
	c := &restClock{Manual: clock.NewManual(time.Unix(1e9, 0))}
	e, err := Open("store", Options{FS: vfs.NewMem(), Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	layers(t, e, 0, 9)
	await(t, "a rest", func() bool { return c.rests.Load() > 0 })
	done := make(chan error, 1)
	go func() { done <- e.Close() }()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("Close waits for a compaction that rests")
	}
}

// TestReadersDoNotRest checks that who reads all of a file does not wait as a compaction does.
func TestReadersDoNotRest(t *testing.T) {
	c := &restClock{Manual: clock.NewManual(time.Unix(1e9, 0))}
	dir := t.TempDir()
	e, err := Open(dir, Options{Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	b, r := e.NewBatch(), rand.New(rand.NewPCG(1, 2))
	for i := range 4000 {
		value := make([]byte, 1000)
		for j := range value {
			value[j] = byte(r.Uint32())
		}
		b.Set(fmt.Appendf(nil, "a%05d", i), value)
	}
	if err := e.Commit(b, mark(1)); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if e, err = Open(dir, Options{Clock: c}); err != nil {
		t.Fatal(err)
	}
	before := c.rests.Load()
	if n := len(dump(t, e)); n < 4000 {
		t.Errorf("%d records", n)
	}
	if n := c.rests.Load() - before; n != 0 {
		t.Errorf("a reader rested %d times", n)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}
