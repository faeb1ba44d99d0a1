//go:build unix

package storage_test

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	. "quorate.dev/quorate/storage"
)

// BenchmarkLoad writes records of 1 KB, half of which compresses away, in revision order and in batches of 50, to real files.
// Besides the time it reports the processor time of everything that the engine does, flushes and compactions included, and
// the disk space when it is closed.
func BenchmarkLoad(b *testing.B) {
	dir := b.TempDir() + "/store"
	e, err := Open(dir, Options{FS: vfs.Default})
	if err != nil {
		b.Fatal(err)
	}
	noise := make([]byte, 32<<20)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(noise)
	before := processorTime(b)
	batch := e.NewBatch()
	value, key := make([]byte, 1060), []byte(nil)
	b.ResetTimer()
	for i := range b.N {
		copy(value[:530], noise[rng.Uint64()%(31<<20):])
		key = append(key[:0], BucketKey)
		key = binary.BigEndian.AppendUint64(key, uint64(i))
		key = append(key, '_')
		key = binary.BigEndian.AppendUint64(key, 0)
		key = append(key, "k\x82\x34\x23\x01\x00\x84\x08/registry/pods/default/pod-"...)
		key = binary.BigEndian.AppendUint64(key, uint64(i)*7919)
		if batch.Set(key, value); i%50 == 49 || i == b.N-1 {
			if err := e.Commit(batch, mark(i/50+1)); err != nil {
				b.Fatal(err)
			}
			batch.Reset()
		}
	}
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(occupied(b, dir))/float64(b.N), "disk-B/op")
}

// processorTime is what this process has used, in nanoseconds.
func processorTime(b *testing.B) int64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return r.Utime.Nano() + r.Stime.Nano()
}

// occupied is the size of the files in dir, in bytes.
func occupied(b *testing.B, dir string) (sum int64) {
	files, err := os.ReadDir(dir)
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			b.Fatal(err)
		}
		sum += info.Size()
	}
	return sum
}
