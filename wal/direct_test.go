package wal_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"quorate.dev/quorate/ids"
	. "quorate.dev/quorate/wal"
)

// paged is the operating system's file system under another type, which the log does not write directly.
type paged struct{ vfs.FS }

// TestDirect writes the same groups past the page cache and through it, small ones and bulky ones, over several segments and
// an interruption: the files are the same, byte for byte, and what was written comes back.
func TestDirect(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dirs := [2]string{filepath.Join(t.TempDir(), "wal"), filepath.Join(t.TempDir(), "wal")}
	options := [2]Options{{SegmentBytes: 1 << 20}, {SegmentBytes: 1 << 20, FS: paged{vfs.Default}}}
	var want [2]string
	for k, dir := range dirs {
		r := rand.New(rand.NewPCG(seed, 0))
		l, err := Create(dir, options[k], owner)
		must(t, err)
		next := uint64(1)
		for range 3 {
			for i := range 40 {
				n := 1 + r.Uint64N(3)
				size := int(r.Uint64N(300))
				if i%4 == 0 { // 30 bulky groups of 150 KiB at the least: more than four segments, whatever the seed
					size = 150<<10 + int(r.Uint64N(100<<10))
				}
				must(t, l.Append(state(1, 1, next-1), entries(next, next+n-1, 1, size), true))
				next += n
			}
			must(t, l.Close())
			var found *Replay
			l, found, err = Open(dir, options[k], 0)
			must(t, err)
			if found.Cut != nil || len(found.Entries) != int(next-1) {
				t.Fatalf("%d entries of %d came back, cut %v", len(found.Entries), next-1, found.Cut)
			}
			want[k] = show(found.HardState, found.Entries)
		}
		must(t, l.Release(ids.Index(0)))
		must(t, l.Close())
	}
	if want[0] != want[1] {
		t.Error("the entries differ")
	}
	names, err := os.ReadDir(dirs[0])
	must(t, err)
	if len(names) < 4 {
		t.Errorf("only %d segments", len(names))
	}
	for _, name := range names {
		a, err := os.ReadFile(filepath.Join(dirs[0], name.Name()))
		must(t, err)
		b, err := os.ReadFile(filepath.Join(dirs[1], name.Name()))
		must(t, err)
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs", name.Name())
		}
	}
}

// TestSegmentsGrow: a log that is hardly used is small, and one that is used much does not consist of small files.
func TestSegmentsGrow(t *testing.T) {
	const full = 8 << 20
	o := Options{FS: vfs.NewMem(), SegmentBytes: full}
	l := create(t, o)
	if b := l.Bytes(); b > 2<<20 {
		t.Errorf("an empty log takes %d bytes", b)
	}
	sizes := []int64{l.Bytes()}
	for next := uint64(1); len(sizes) < 5; next += 100 {
		before, bytes := l.Segments(), l.Bytes()
		must(t, l.Append(nil, entries(next, next+99, 1, 1000), true))
		if l.Segments() > before {
			sizes = append(sizes, l.Bytes()-bytes)
		}
		if next == 30_001 { // the size survives a restart
			must(t, l.Close())
			l, _ = open(t, o, 0)
		}
	}
	for i, size := range sizes[1:] {
		if size != min(2*sizes[i], full) {
			t.Errorf("sizes are %v", sizes)
		}
	}
	must(t, l.Close())
}

// TestAppendAllocations: a group takes memory that is used again.
func TestAppendAllocations(t *testing.T) {
	l, err := Create(filepath.Join(t.TempDir(), "wal"), Options{}, owner)
	must(t, err)
	group := entries(1, 100, 1, 256)
	hs := state(1, 1, 0)
	allocs := testing.AllocsPerRun(20, func() {
		must(t, l.Append(hs, group, true))
		*hs.Commit = *group[99].Index
		for _, e := range group {
			*e.Index += 100
		}
	})
	if allocs > 0 {
		t.Errorf("%.1f allocations a group of 100", allocs)
	}
	must(t, l.Close())
}
