package wal_test

import (
	"fmt"
	"path"
	"strings"
	"testing"

	"quorate.dev/quorate/ids"
	. "quorate.dev/quorate/wal"
)

// FuzzRecords gives arbitrary bytes as a segment: Open must return, with memory in proportion to the file.
func FuzzRecords(f *testing.F) {
	mem, _, _ := threeSegments(f)
	names, err := mem.List("wal")
	must(f, err)
	for _, name := range names {
		data, err := mem.UnsafeGetFileDataBuffer(path.Join("wal", name))
		must(f, err)
		f.Add(name, data, uint64(0))
	}
	f.Fuzz(func(t *testing.T, name string, data []byte, from uint64) {
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || len(data) > 1<<20 { // no file name, or too slow
			return
		}
		l, r, err := Open("wal", small(with(t, path.Join("wal", name), data)), ids.Index(from))
		if err != nil {
			return
		}
		total := 0
		for _, e := range r.Entries {
			total += len(e.Data)
		}
		if total > len(data) {
			t.Errorf("%d bytes of entries out of a file of %d", total, len(data))
		}
		must(t, l.Close())
	})
}

func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l, err := Create(b.TempDir()+"/wal", Options{}, owner)
			must(b, err)
			defer l.Close()
			group := entries(1, uint64(n), 1, 300)
			hs := state(1, 1, 0)
			b.ReportAllocs()
			for b.Loop() {
				must(b, l.Append(hs, group, true))
				*hs.Commit = group[0].GetIndex() - 1
				for _, e := range group {
					*e.Index += uint64(n)
				}
				must(b, l.Release(ids.Index(*hs.Commit)))
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/entry")
		})
	}
}
