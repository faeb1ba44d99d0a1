// Package storage is the ordered engine under the state machine: byte keys to byte values on disk, written in batches
// that carry the raft entry they cover.
//
// It is not a database with transactions and not a log: nothing that is committed here is durable by itself. The raft log
// is the log; the engine's own write-ahead log is off, and after a crash the engine holds a prefix of its commits. Because
// every commit writes its Mark in the same batch as its data, that prefix says of itself which entries it covers, and the
// raft log supplies the rest.
//
// Data passes one way: one goroutine fills a Batch and hands it to Commit with a Mark; any goroutine reads through Engine
// (newest state) or Frozen (a point in time). Failures of the disk, also those of background work, are reported once, by
// Failed and Err; from then on nothing is written and every Commit is refused.
//
// Invariants: a Mark never decreases; what a crash leaves is exactly the effect of all commits up to some commit, with
// that commit's Mark; after the first failure no byte is written to the directory.
//
// Only this package (and, for the file interface alone, wal and internal/etcddb) knows that the engine is Pebble.
package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/internal/disk"
)

// Mark names the raft entry up to which the data is complete. The zero Mark covers nothing.
type Mark struct {
	Index ids.Index
	Term  ids.Term
}

// String prints a mark as index@term.
func (m Mark) String() string { return fmt.Sprintf("%d@%d", m.Index, m.Term) }

// Sizes used where Options leaves a zero.
const (
	DefaultCacheBytes    = 8 << 20
	DefaultMemTableBytes = 16 << 20
)

// unflushedTables is how many full memtables' worth of committed bytes may wait for the disk before Commit waits.
const unflushedTables = 3

// Options configures Open. The zero value is usable.
type Options struct {
	// FS holds the files; nil means the operating system's.
	FS vfs.FS
	// CacheBytes bounds the cache of uncompressed blocks read from disk; 0 means DefaultCacheBytes.
	CacheBytes int64
	// MemTableBytes bounds one memtable, 1 MiB to 1 GiB; 0 means DefaultMemTableBytes. Memtables start at 256 KiB and
	// double up to this size. At most four of them exist at a time.
	MemTableBytes int64
	// ReadOnly opens an existing store without changing it. Commit, Flush and Checkpoint are refused.
	ReadOnly bool
	// Clock makes compactions rest between blocks, so that they take a part of a processor only; nil lets them run.
	Clock clock.Clock
	// Log receives rare messages of the engine that are not failures; nil drops them. It must not block.
	Log func(msg string, kv ...any)
	// Pinned is for simulations: the engine does nothing by itself and keeps no time, so that the same calls from one
	// goroutine cause the same file operations, on an FS that lists names in order. It flushes when asked to (Flush,
	// AsyncFlush, Checkpoint, Close) and in a Commit before which MemTableBytes are not yet flushed, and compacts in Settle
	// alone; all of that, and the removal of files, is complete when the call returns. Batches must be below 16 times
	// MemTableBytes. Two things in the manifest are not pinned, though its length is: times of creation, in seconds, and
	// the order of the files that one compaction replaced.
	Pinned bool
}

// Engine is an open store. Commit must be called by one goroutine at a time; everything else is safe for concurrent use.
type Engine struct {
	db       *pebble.DB
	dir      string
	lock     *pebble.Lock
	health   *health
	pacer    *pacer
	readOnly bool
	pinned   bool
	fence    *fence // the files as Pebble sees them

	// mu makes Applied and Freeze agree with the data: it is held while a batch becomes visible and its mark is recorded.
	mu      sync.Mutex
	applied Mark
	written uint64 // bytes committed in the life of the store; stored beside the mark

	unflushedLimit uint64
	durable        uint64 // Commit's own: written of the newest durable mark it has seen, a lower bound
	readers        atomic.Int64
}

// Open opens the store in dir, which is created if it is not there (unless o.ReadOnly). Errors: another process has it
// open, a newer release wrote it, it is damaged, or the file system failed; the text says which.
func Open(dir string, o Options) (*Engine, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.CacheBytes == 0 && o.Pinned {
		o.CacheBytes = pinnedCacheBytes
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = DefaultCacheBytes
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = DefaultMemTableBytes
	}
	if o.CacheBytes < 0 || o.MemTableBytes < 1<<20 || o.MemTableBytes > 1<<30 {
		return nil, fmt.Errorf("storage: cache of %d and memtable of %d bytes: the cache must not be negative and the memtable must be within 1 MiB and 1 GiB", o.CacheBytes, o.MemTableBytes)
	}
	if err := checkPinned(o); err != nil {
		return nil, err
	}
	if canary.On(canary.StoreBack) {
		_ = o.FS.RemoveAll(dir + ".defragmented") // of an earlier process
	}
	if !o.ReadOnly {
		if err := disk.MakeDir(o.FS, dir); err != nil {
			return nil, fmt.Errorf("storage: create directory %s: %w", dir, err)
		}
	}
	lock, err := pebble.LockDirectory(dir, o.FS)
	if err != nil {
		return nil, fmt.Errorf("storage: cannot lock %s: another process has this store open, or the directory is not writable; stop that process or choose another data directory: %w", dir, err)
	}
	e := &Engine{dir: dir, lock: lock, readOnly: o.ReadOnly, health: newHealth(dir, o.Log), pacer: newPacer(o.Clock)}
	e.unflushedLimit = unflushedTables * uint64(o.MemTableBytes)
	if o.Pinned {
		e.unflushedLimit, e.pinned, e.pacer, e.health.pinned = uint64(o.MemTableBytes), true, nil, true
	}
	err = e.open(o)
	if err == nil {
		return e, nil
	}
	return nil, errors.Join(err, lock.Close())
}

func (e *Engine) open(o Options) error {
	opts := pebbleOptions(o, e.health, e.pacer)
	opts.Lock = e.lock
	e.fence = opts.FS.(*fence)
	if o.Pinned {
		e.fence.obsolete = &obsolete{}
		pin(opts)
	}
	gate := newGate()
	opts.Experimental.CompactionScheduler = gate
	if err := e.openPebble(opts); err != nil {
		return fmt.Errorf("storage: open %s: %w", e.dir, err)
	}
	gate.open()
	if e.pacer != nil {
		e.pacer.db.Store(e.db)
	}
	if err := e.load(); err != nil {
		return errors.Join(err, e.closePebble())
	}
	e.tidy()
	return nil
}

// errEnded stands for the result of a call that ended its goroutine.
var errEnded = errors.New("the engine gave up")

// openPebble opens the engine on a goroutine of its own, because a fatal error during Open ends the goroutine or stops it
// (see health.Fatalf and fence), and because what the engine finds on disk may make it panic.
func (e *Engine) openPebble(opts *pebble.Options) error {
	done := make(chan error, 1)
	go func() {
		err := errEnded
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("the files are damaged, the engine stopped with: %v", r)
			}
			done <- err
		}()
		e.db, err = pebble.Open(e.dir, opts)
	}()
	select {
	case err := <-done:
		if err == errEnded {
			<-e.health.failed
			return e.health.Err()
		}
		return e.worse(err)
	case <-e.health.failed:
		return e.health.Err()
	}
}

// load reads or, in an empty store, writes the format version, and reads the mark.
func (e *Engine) load() error {
	format, ok, err := e.Get(formatKey)
	if err != nil {
		return err
	}
	if !ok {
		return e.create()
	}
	if err := checkFormat(e.dir, format); err != nil {
		return err
	}
	v, ok, err := e.Get(markKey)
	if err != nil || !ok {
		return err
	}
	e.applied, e.written, err = decodeMark(v)
	if err != nil {
		return fmt.Errorf("storage: %s: %w", e.dir, err)
	}
	e.durable = e.written
	return nil
}

// create writes the format version into a store that holds nothing. It is the first write of every store, so a store that
// holds anything after a crash also holds its format version.
func (e *Engine) create() error {
	it, err := e.db.NewIter(nil)
	if err != nil {
		return err
	}
	stray := it.First()
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return fmt.Errorf("storage: read %s: %w", e.dir, err)
	}
	if stray {
		return fmt.Errorf("storage: %s holds data but no format version: this is not a Quorate store, or it is damaged; move it away or restore it from a snapshot", e.dir)
	}
	if e.readOnly {
		return nil
	}
	return e.db.Set(formatKey, []byte(formatVersion), pebble.NoSync)
}

// Commit makes the batch visible, together with m, which becomes the new applied mark. An empty batch only moves the mark.
// m must not be below the mark before; an equal mark is allowed, for housekeeping between entries. It returns the engine's
// failure if there was one, and then nothing was written. It may wait for the disk when too many bytes are not yet flushed.
// The batch must be Reset before it is used again.
func (e *Engine) Commit(b *Batch, m Mark) error {
	if e.readOnly {
		return fmt.Errorf("storage: commit to %s, which is open for reading only", e.dir)
	}
	if err := e.awaitRoom(); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if m.Index < e.applied.Index || m.Term < e.applied.Term || (m.Index == e.applied.Index && m.Term != e.applied.Term) {
		panic(fmt.Sprintf("BUG: storage: commit with mark %v after mark %v", m, e.applied))
	}
	written := e.written + uint64(b.Bytes())
	b.setMark(m, written)
	if err := e.db.Apply(b.b, pebble.NoSync); err != nil {
		e.health.fail(fmt.Errorf("commit of mark %v: %w", m, err))
		return e.health.Err()
	}
	e.applied, e.written = m, written
	return nil
}

// awaitRoom waits while too many committed bytes are not yet on disk; a pinned engine brings them there. The engine's own
// stall cannot be used: it does not end when the disk has failed.
func (e *Engine) awaitRoom() error {
	for {
		if err := e.health.Err(); err != nil {
			return err
		}
		if e.written-e.durable <= e.unflushedLimit {
			return nil
		}
		_, durable, err := e.durableMark()
		if err != nil {
			return err
		}
		if e.durable = durable; e.written-e.durable <= e.unflushedLimit {
			return nil
		}
		if e.pinned {
			if err := e.Flush(); err != nil {
				return err
			}
			continue
		}
		select {
		case <-e.health.flushed:
		case <-e.health.failed:
		}
	}
}

// Applied returns the mark of the last commit.
func (e *Engine) Applied() Mark {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.applied
}

// Durable returns the mark that a power loss at this moment would leave.
func (e *Engine) Durable() (Mark, error) {
	m, _, err := e.durableMark()
	return m, err
}

func (e *Engine) durableMark() (Mark, uint64, error) {
	it, err := e.db.NewIter(&pebble.IterOptions{
		LowerBound: markKey, UpperBound: markKeyEnd, OnlyReadGuaranteedDurable: true,
	})
	if err != nil {
		return Mark{}, 0, fmt.Errorf("storage: read durable mark of %s: %w", e.dir, err)
	}
	defer it.Close()
	if !it.First() {
		if err := it.Error(); err != nil {
			return Mark{}, 0, fmt.Errorf("storage: read durable mark of %s: %w", e.dir, err)
		}
		return Mark{}, 0, nil
	}
	v, err := it.ValueAndErr()
	if err != nil {
		return Mark{}, 0, fmt.Errorf("storage: read durable mark of %s: %w", e.dir, err)
	}
	return decodeMark(v)
}

// Flush makes everything that is committed durable: after it, Durable is at least what Applied was when it was called.
func (e *Engine) Flush() error {
	done, err := e.AsyncFlush()
	if err != nil {
		return err
	}
	return e.awaitFlush(done)
}

func (e *Engine) awaitFlush(done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-e.health.failed:
		return e.health.Err()
	}
}

// AsyncFlush starts a Flush and returns a channel that is closed when it is complete. It is never closed when the engine
// fails meanwhile, so wait for Failed as well. In a pinned engine it is complete on return.
func (e *Engine) AsyncFlush() (<-chan struct{}, error) {
	if err := e.health.Err(); err != nil {
		return nil, err
	}
	done, err := e.db.AsyncFlush()
	if err != nil {
		return nil, fmt.Errorf("storage: flush %s: %w", e.dir, err)
	}
	if e.pinned {
		if err := e.awaitFlush(done); err != nil {
			return nil, err
		}
		e.tidy()
	}
	return done, nil
}

// Failed is closed when the engine has failed: the disk did not take a write, or what it returned is damaged. The member
// must then stop acknowledging; Err says why.
func (e *Engine) Failed() <-chan struct{} { return e.health.failed }

// Err returns the engine's failure, nil while it works.
func (e *Engine) Err() error { return e.health.Err() }

// Checkpoint makes dir, which must not exist, a store that holds everything committed before the call, by hard links where
// the file system has them. It shares disk blocks with this store until either is compacted; so what has rotten in this store would
// be in the copy too, and with it at another member. Therefore all of it is read and compared with its checksums, and damage
// makes the engine fail. It takes about as long as reading the store's files.
func (e *Engine) Checkpoint(dir string) error {
	if err := e.Flush(); err != nil {
		return err
	}
	defer e.tidy()
	if err := e.await("checkpoint to "+dir+" of", func() error { return e.db.Checkpoint(dir) }); err != nil {
		return err
	}
	return e.await("verify the files of", func() error {
		if canary.On(canary.RotOffered) {
			return nil
		}
		err := verifyTables(e.fence.FS, dir)
		if pebble.IsCorruptionError(err) {
			e.health.fail(fmt.Errorf("restore the store from a snapshot or another member: %w", err))
		}
		return err
	})
}

// worse returns the engine's failure instead of what a call says that came to feel it, if there is one. So what is returned does
// not depend on which of the two is noticed first.
func (e *Engine) worse(err error) error {
	if failure := e.health.Err(); err != nil && failure != nil {
		return failure
	}
	return err
}

// await runs a call that needs the engine's background work to move on, and gives up on it when the engine fails.
func (e *Engine) await(what string, call func() error) error {
	done := make(chan error, 1)
	go func() {
		defer e.failByPanic()
		done <- call()
	}()
	select {
	case err := <-done:
		if err != nil {
			return e.worse(fmt.Errorf("storage: %s %s: %w", what, e.dir, err))
		}
		return nil
	case <-e.health.failed:
		return e.health.Err()
	}
}

// failByPanic makes Pebble's panic because of a directory that cannot be synced the failure of the engine that it is. Other panics,
// those of the runtime among them, stay panics.
func (e *Engine) failByPanic() {
	p := recover()
	if p == nil {
		return
	}
	err, ok := p.(error)
	var bug runtime.Error
	if !ok || errors.As(err, &bug) {
		panic(p)
	}
	e.health.fail(err)
}

// Close flushes, so that the next start replays little, and closes. All readers must be closed before. It returns the
// engine's failure if there was one; the files are then as the failure left them, and this process cannot open them again.
func (e *Engine) Close() error {
	var err error
	if !e.readOnly {
		err = e.Flush()
	}
	return errors.Join(err, e.closePebble(), e.lock.Close())
}

// CloseDirty closes without flushing: what was not durable is lost, as if the process had been killed. For tests of
// recovery, and for a store that is to be removed.
func (e *Engine) CloseDirty() error { return errors.Join(e.closePebble(), e.lock.Close()) }

// closePebble closes the engine. One that has failed is left as it is: its background goroutines may have ended in the
// middle of their work, and to wait for them would be to wait for ever. Its file handles and its lock go with the process.
func (e *Engine) closePebble() error {
	e.pacer.stop()
	if err := e.health.Err(); err != nil {
		return err
	}
	err := e.await("close", e.db.Close)
	if e.pinned {
		e.fence.tidy()
	}
	return err
}

// Stats is a reading of the engine's gauges and counters.
type Stats struct {
	DiskBytes      int64 // files of the store, also those waiting to be removed
	MemTableBytes  int64 // memory of memtables
	CacheBytes     int64 // memory of cached blocks
	UnflushedBytes int64 // committed and not yet durable
	Flushes        int64 // since Open
	Compactions    int64 // since Open
	DebtBytes      int64 // estimate of the bytes that compactions still have to rewrite
	Readers        int64 // open Iters and Frozens
}

// Stats returns current numbers. It takes tens of microseconds.
func (e *Engine) Stats() Stats {
	m := e.db.Metrics()
	e.mu.Lock()
	written := e.written
	e.mu.Unlock()
	s := Stats{
		DiskBytes:     int64(m.DiskSpaceUsage()),
		MemTableBytes: int64(m.MemTable.Size + m.MemTable.ZombieSize),
		CacheBytes:    m.BlockCache.Size,
		Flushes:       m.Flush.Count,
		Compactions:   m.Compact.Count,
		DebtBytes:     int64(m.Compact.EstimatedDebt),
		Readers:       e.readers.Load(),
	}
	if _, durable, err := e.durableMark(); err == nil {
		s.UnflushedBytes = int64(written - min(durable, written))
	}
	return s
}

const markBytes = 24

// decodeMark reads the value of markKey: index, term and bytes written, 8 bytes big-endian each.
func decodeMark(v []byte) (Mark, uint64, error) {
	if len(v) != markBytes {
		return Mark{}, 0, fmt.Errorf("the applied mark has %d bytes where %d belong: the store is damaged; restore it from a snapshot or another member", len(v), markBytes)
	}
	return Mark{
		Index: ids.Index(binary.BigEndian.Uint64(v)),
		Term:  ids.Term(binary.BigEndian.Uint64(v[8:])),
	}, binary.BigEndian.Uint64(v[16:]), nil
}
