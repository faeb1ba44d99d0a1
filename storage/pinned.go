package storage

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"quorate.dev/quorate/internal/canary"
)

// A pinned engine does nothing of its own accord, so that a simulation of a member is the same each time it is run: it flushes
// and compacts within a call that asks for it, and it removes what became obsolete before that call returns. Pebble's
// goroutines still do the work, one at a time, while the caller waits for them.

// pinnedCacheBytes is the block cache of a pinned engine where Options leaves a zero: simulations open many.
const pinnedCacheBytes = 1 << 20

// pinnedMemTableBytes bounds Options.MemTableBytes of a pinned engine.
const pinnedMemTableBytes = 64 << 20

// pinnedSlack is how many times Options.MemTableBytes Pebble believes a memtable may have. It flushes by itself what is half
// of that, and an entry in memory takes several times as much as one of a few bytes in a batch; so it never does.
const pinnedSlack = 32

// obsolete collects the files that Pebble wants to remove. Its cleaning goroutine would remove them while others work, in an
// order that no seed decides.
type obsolete struct {
	mu    sync.Mutex
	paths []string
}

// takes says whether the file is to be removed later, and remembers it. Pebble never makes another file of the same name.
func (o *obsolete) takes(files vfs.FS, path string) bool {
	if o == nil {
		return false
	}
	name := files.PathBase(path)
	if !strings.HasSuffix(name, ".sst") && !strings.HasSuffix(name, ".log") && !strings.HasPrefix(name, "MANIFEST-") && !strings.HasPrefix(name, "OPTIONS-") {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.paths = append(o.paths, path)
	return true
}

// tidy removes what became obsolete, in a pinned engine. A file that cannot be removed stays, as with Pebble's own cleaning:
// the next start finds it.
func (f *fence) tidy() {
	f.obsolete.mu.Lock()
	defer f.obsolete.mu.Unlock()
	slices.Sort(f.obsolete.paths)
	for _, path := range f.obsolete.paths {
		if f.health.Err() == nil {
			_ = f.FS.Remove(path)
		}
	}
	f.obsolete.paths = f.obsolete.paths[:0]
}

// pin changes the options of an engine to those of a pinned one.
func pin(p *pebble.Options) {
	p.DisableAutomaticCompactions = true
	p.DisableTableStats = true                    // read on a goroutine, for automatic compactions alone
	p.Experimental.ReadSamplingMultiplier = -1    // random, for the same
	p.MemTableSize = pinnedSlack * p.MemTableSize // see pinnedSlack; memtables still start at 256 KiB
	p.CompactionConcurrencyRange = func() (int, int) { return 1, 1 }
	p.Experimental.FileCacheShards = 1
	// The other profiles compress a block in two ways now and then, at random, and take the better one from there on.
	p.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionFastest })
}

// checkPinned says what in the options a pinned engine cannot do.
func checkPinned(o Options) error {
	if o.Pinned && o.MemTableBytes > pinnedMemTableBytes {
		return fmt.Errorf("storage: memtable of %d bytes in a pinned engine: at most %d are possible", o.MemTableBytes, pinnedMemTableBytes)
	}
	return nil
}

// tidy removes what became obsolete, in a pinned engine.
func (e *Engine) tidy() {
	if e.pinned {
		e.db.TestOnlyWaitForCleaning()
		e.fence.tidy()
	}
}

// Settle makes everything committed durable and rewrites the whole store: it is as small and as quick to read as it can be.
// An engine that is not pinned does that by itself, bit by bit; the call is for simulations and tests. It takes as long as to
// read and write the store.
func (e *Engine) Settle() error {
	if err := e.Flush(); err != nil {
		return err
	}
	defer e.tidy()
	err := e.await("compact", func() error {
		return e.db.Compact(context.Background(), nil, []byte{math.MaxUint8}, false)
	})
	if err != nil {
		e.health.fail(err) // the goroutine of the compaction reports it too, a little later
		return e.health.Err()
	}
	if canary.On(canary.StoreBack) {
		copied := e.dir + ".defragmented"
		_ = e.fence.FS.RemoveAll(copied)
		return e.Checkpoint(copied) // snapshot.Swap finds it
	}
	return nil
}
