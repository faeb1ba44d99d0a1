package storage

import (
	"math"
	"runtime"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
)

// comparer orders keys by their bytes. It calls all keys of BucketKey versions of one thing, because the engine keeps the
// values of older versions apart from the keys, in blocks that are read only for a value that is asked for: so a start, which
// reads every key of that bucket, reads no values.
var comparer = func() *pebble.Comparer {
	c := *pebble.DefaultComparer
	c.Name = "quorate.1"
	c.Split = func(key []byte) int {
		if len(key) > 0 && key[0] == BucketKey {
			return 1
		}
		return len(key)
	}
	return &c
}()

// spanEnd divides the keys into those before BucketKey, those of BucketKey, and those after it; a file never holds keys of two
// of these. So the mark, which every flush writes, does not make the files of BucketKey overlap each other, and they are moved
// down the levels without being read or written.
func spanEnd(start []byte) []byte {
	switch {
	case len(start) == 0 || start[0] < BucketKey:
		return []byte{BucketKey}
	case start[0] == BucketKey:
		return []byte{BucketKey + 1}
	}
	return nil
}

// pebbleOptions maps our options to the engine's. Numbers that are not our options are chosen for this load: keys that
// arrive almost in order, values that are mostly served from memory above, one writer.
func pebbleOptions(o Options, h *health, pace *pacer) *pebble.Options {
	p := &pebble.Options{
		Comparer:   comparer,
		FS:         &fence{FS: o.FS, health: h, pacer: pace},
		DisableWAL: true,
		ReadOnly:   o.ReadOnly,
		// The engine takes memtables out of the cache's budget; give them back.
		CacheSize:    o.CacheBytes + o.MemTableBytes,
		MemTableSize: uint64(o.MemTableBytes),
		// Commit has its own limit, which unlike these ends when the disk fails.
		MemTableStopWritesThreshold: math.MaxInt32,
		L0StopWritesThreshold:       math.MaxInt32,
		L0CompactionThreshold:       8,
		LBaseMaxBytes:               512 << 20,
		// A fixed version: a newer library must not change files on its own.
		FormatMajorVersion:         pebble.FormatValueSeparation,
		CompactionConcurrencyRange: func() (int, int) { return 1, max(1, runtime.GOMAXPROCS(0)/2) },
		EventListener:              h.listener(),
		Logger:                     h,
	}
	p.Experimental.SpanPolicyFunc = func(start []byte) (pebble.SpanPolicy, []byte, error) {
		return pebble.SpanPolicy{}, spanEnd(start), nil
	}
	p.Experimental.EnableColumnarBlocks = func() bool { return true }
	// Only compactions open a file for reading it through; the fence knows them by that.
	p.Local.ReadaheadConfig = new(pebble.ReadaheadConfig)
	p.Local.ReadaheadConfig.Set(objstorageprovider.FadviseSequential, objstorageprovider.SysReadahead)
	// Two shards are enough for one writer and readers that seldom come here; each costs a goroutine.
	p.Experimental.FileCacheShards = 2
	p.TargetFileSizes[0] = 8 << 20 // each level down doubles it
	p.Levels[0].BlockSize = 16 << 10
	p.Levels[0].IndexBlockSize = 64 << 10
	// Snappy while data moves, zstd level 1 at the bottom where it stays.
	p.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionBalanced })
	return p
}
