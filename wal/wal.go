// Package wal is the raft log on disk: entries and hard states go in as groups, each made durable before the call returns,
// and come back in order after a restart.
//
// It is not the state machine's storage (package storage) and it knows nothing of what entries mean; it does not lock its
// directory, which belongs to whoever locked the data directory.
//
// Data passes as values: Append takes what raft asks to persist, Open returns what was persisted. The caller batches; one
// Append is one group, one write and one sync.
//
// Invariants: a group is written only after the one before it was made durable; a sector of 512 bytes is never shared by
// two groups; what was never written is zero. From these three follows the rule for a damaged tail (DESIGN.md): it is cut
// off only where it provably was never acknowledged, and everything else is a CorruptError that names file and offset.
// After the first failed write or sync every Append fails; a sync is never repeated as if it had worked.
package wal

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/internal/disk"
)

// DefaultSegmentBytes is the size of a segment file where Options leaves a zero. etcd uses the same.
const DefaultSegmentBytes = 64_000_000

// firstSegmentBytes is the size of the first segment of a log. Each further one has twice the size of the one before, up to
// Options.SegmentBytes: a store that is hardly used does not take more of the disk than it needs.
const firstSegmentBytes = 2_000_000

// Options configures Create and Open. The zero value is usable.
type Options struct {
	// FS holds the files; nil means the operating system's.
	FS vfs.FS
	// SegmentBytes is the most that a new segment file has, rounded up to a multiple of 512; 0 means DefaultSegmentBytes.
	// Files have their full size from the start, so tests on a file system in memory want something like 64 KiB.
	SegmentBytes int64
	// Tail is the number of entries at or below from that Open returns besides those above it, if they are still there.
	Tail uint64
	// NoSync leaves out the sync after each group: a power loss or a crash of the machine may then lose acknowledged
	// entries. Groups written so are marked, and damage of the log that follows from it is cut off.
	NoSync bool
	// Observe, if not nil, is told of every group, on the goroutine that called Append.
	Observe func(Group)
}

// Group describes one group that was made durable.
type Group struct {
	Entries int           // entries in it
	Bytes   int           // bytes written
	Write   time.Duration // time to hand them to the operating system
	Sync    time.Duration // time until they were durable
}

// Metadata names the owner of the log. It is in every segment, and all must agree.
type Metadata struct {
	Member  ids.MemberID
	Cluster ids.ClusterID
}

// Replay is what Open found.
type Replay struct {
	Metadata  Metadata
	HardState *raftpb.HardState // never nil; the zero state if none was written
	// Entries are consecutive and end with the last entry of the log. They start at or below from+1, if there is an entry
	// above from.
	Entries []*raftpb.Entry
	Cut     *Cut // the unacknowledged tail that was removed; nil normally
}

// Cut describes a tail that was removed because a crash interrupted its writing.
type Cut struct {
	File   string
	Offset int64 // where it began, in bytes
	Bytes  int64 // from there to the last byte that was not zero
	Reason string
}

// String is a sentence for the log.
func (c *Cut) String() string {
	return fmt.Sprintf("removed %d bytes of an interrupted, unacknowledged write at offset %d of %s: %s", c.Bytes, c.Offset, c.File, c.Reason)
}

// CorruptError says that the log on disk is not what was written, where acknowledged entries may be affected.
type CorruptError struct {
	File   string
	Offset int64 // bytes
	Reason string
}

// Error names file and offset and says what to do.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("wal: %s is damaged at offset %d: %s. Acknowledged entries may be lost, so this member does not start. Keep the file; replace this member from the others, or restore a snapshot", e.File, e.Offset, e.Reason)
}

// Log is an open log. Append, Install and Close must be called by one goroutine at a time; Release and the accessors by any.
type Log struct {
	dir     string
	options Options
	meta    Metadata

	output
	tail   int64 // offset of the next group in it
	zeroed int64 // up to here the file's blocks have been written at least once
	chain  chain // of the last group
	state  hardState
	onDisk hardState // as of the last group; state may be ahead, see Append
	last   ids.Index

	memory struct{ body, out, zeros []byte } // reused

	mu       sync.Mutex // guards what follows
	segments []segment  // ascending; the last one is open in file
	err      error      // the first failure; final

	releasing sync.Mutex // held by Release
}

// output is the last segment, open.
type output struct {
	file   vfs.File
	direct *direct // the same file past the page cache; nil where that cannot be
}

// Exists says whether dir holds a log.
func Exists(fs vfs.FS, dir string) bool {
	segments, err := list(fs, dir)
	return err == nil && len(segments) > 0
}

// Create makes an empty log in dir, which is created if needed and must not hold a log.
func Create(dir string, o Options, m Metadata) (*Log, error) {
	l := newLog(dir, o)
	if Exists(l.options.FS, dir) {
		return nil, fmt.Errorf("wal: %s already holds a log", dir)
	}
	l.meta = m
	if err := disk.MakeDir(l.options.FS, dir); err != nil {
		return nil, fmt.Errorf("wal: create directory %s: %w", dir, err)
	}
	if err := l.addSegment(0); err != nil {
		return nil, errors.Join(err, l.closeFile())
	}
	return l, nil
}

func newLog(dir string, o Options) *Log {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = DefaultSegmentBytes
	}
	return &Log{dir: dir, options: o}
}

// Append makes a hard state (nil or unchanged: none) and entries durable and returns then. Entries must be consecutive and
// start at most one above the last; where they start lower, they replace the end of the log, as raft asks. Together they
// must be below 2 GiB. The commit index of the hard state must not be above the last entry.
//
// sync false is a permission: a hard state without entries may be kept in memory until the next group or Close. Raft grants
// it when only the commit index changed.
//
// Any error is final: what is on disk is then unknown until the log is opened again.
func (l *Log) Append(hs *raftpb.HardState, entries []*raftpb.Entry, sync bool) error {
	if err := l.Err(); err != nil {
		return err
	}
	if hs != nil {
		l.state = stateOf(hs)
	}
	if len(entries) == 0 && (l.state == l.onDisk || !sync) {
		return nil
	}
	l.checkEntries(entries)
	l.memory.body = l.memory.body[:0]
	if l.state != l.onDisk {
		l.memory.body = appendState(l.memory.body, l.state)
	}
	highest := ids.Index(0)
	for _, e := range entries {
		l.memory.body = appendEntry(l.memory.body, e)
		highest = ids.Index(e.GetIndex())
	}
	if err := l.writeGroup(len(entries), highest); err != nil {
		return err
	}
	if highest > 0 {
		l.last = highest
	}
	return nil
}

// Install makes the log continue after a snapshot that covers everything up to index: entries before are forgotten, and the
// next entry is index+1. It is durable on return. The engine must hold the snapshot before.
func (l *Log) Install(hs *raftpb.HardState, index ids.Index, term ids.Term) error {
	if err := l.Err(); err != nil {
		return err
	}
	if hs != nil {
		l.state = stateOf(hs)
	}
	l.memory.body = appendState(l.memory.body[:0], l.state)
	l.memory.body = appendReset(l.memory.body, index, term)
	if err := l.writeGroup(0, index); err != nil {
		return err
	}
	l.last = index
	return nil
}

func (l *Log) checkEntries(entries []*raftpb.Entry) {
	for i, e := range entries {
		at := ids.Index(e.GetIndex())
		if at == 0 || (i == 0 && at > l.last+1) || (i > 0 && at != ids.Index(entries[i-1].GetIndex())+1) {
			panic(fmt.Sprintf("BUG: wal: entry %d (number %d of the group) appended to a log that ends at %d", at, i, l.last))
		}
	}
}

// writeGroup writes l.memory.body as the next group and makes it durable. highest is the highest index it mentions.
func (l *Log) writeGroup(entries int, highest ids.Index) error {
	if len(l.memory.body) > maxBody {
		panic(fmt.Sprintf("BUG: wal: a group of %d bytes", len(l.memory.body)))
	}
	size := groupSize(len(l.memory.body))
	segment := l.lastSegment()
	if l.tail+size > segment.capacity {
		if err := l.rotate(size); err != nil {
			return l.fail(err)
		}
		segment = l.lastSegment()
	}
	if int64(cap(l.memory.out)) < size {
		l.memory.out = aligned(size + size/2)
	}
	l.memory.out, l.chain = appendGroup(l.memory.out[:0], l.memory.body, l.chain, l.tail, l.options.NoSync)
	start := time.Now()
	written, err := l.writeOut(size, segment.capacity)
	if err != nil {
		return l.fail(fmt.Errorf("write %s at offset %d: %w", segment.path, l.tail, err))
	}
	l.tail += size
	l.onDisk = l.state
	l.mu.Lock()
	s := &l.segments[len(l.segments)-1]
	s.highest = max(s.highest, highest)
	l.mu.Unlock()
	if l.options.Observe != nil {
		l.options.Observe(Group{Entries: entries, Bytes: len(l.memory.out), Write: written.Sub(start), Sync: time.Since(written)})
	}
	return nil
}

// writeOut writes l.memory.out, of size bytes, at the tail, makes it durable, and returns when it began to wait for that.
func (l *Log) writeOut(size, capacity int64) (written time.Time, err error) {
	if l.direct != nil {
		if err := l.zeroAhead(l.tail+size, size, capacity); err != nil {
			return written, err
		}
		written = time.Now()
		_, err := l.direct.groups.WriteAt(l.memory.out, l.tail)
		return written, err
	}
	if _, err := l.file.WriteAt(l.memory.out, l.tail); err != nil {
		return written, err
	}
	if err := l.zeroAhead(l.tail+size, size, capacity); err != nil {
		return written, err
	}
	written = time.Now()
	if l.options.NoSync || canary.On(canary.SkipSync) {
		return written, nil
	}
	if err := l.file.SyncData(); err != nil {
		return written, fmt.Errorf("sync: %w", err)
	}
	return written, nil
}

// zeroStep is how far ahead of the tail the file's blocks are written. A sync of a write into blocks that exist does not
// have to record new blocks in the file system's journal.
const zeroStep = 256 << 10

// bulkBytes is the size of a group from which on it is not worth it: past the page cache, its own new blocks in the journal
// cost less than zeros of the same length.
const bulkBytes = 96 << 10

// zeroAhead sees to it that the blocks after a group of size bytes that will end at end are written.
func (l *Log) zeroAhead(end, size, capacity int64) error {
	if end <= l.zeroed || l.zeroed >= capacity {
		return nil
	}
	if l.direct != nil && size >= bulkBytes {
		l.zeroed = end
		return nil
	}
	until := min(end+zeroStep, capacity)
	if err := l.writeZeros(end, until); err != nil {
		return err
	}
	l.zeroed = until
	return nil
}

func (l *Log) writeZeros(from, to int64) error {
	if l.memory.zeros == nil {
		l.memory.zeros = aligned(zeroStep)
	}
	out := io.WriterAt(l.file)
	if l.direct != nil {
		out = l.direct.zeros
	}
	for from < to {
		clear(l.memory.zeros) // a file may change the bytes it is given
		n := min(to-from, zeroStep)
		if _, err := out.WriteAt(l.memory.zeros[:n], from); err != nil {
			return err
		}
		from += n
	}
	return nil
}

// fail records the first failure and returns it.
func (l *Log) fail(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = fmt.Errorf("wal: the log has failed and takes no more entries; look at the disk, then start again: %w", err)
	}
	return l.err
}

// Err returns the failure that ended the log, nil while it works.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Release removes the oldest segments that hold nothing above upto; the last segment always stays. The engine must hold
// everything up to upto durably, or there must be a snapshot that does.
func (l *Log) Release(upto ids.Index) error {
	l.releasing.Lock()
	defer l.releasing.Unlock()
	for {
		l.mu.Lock()
		oldest, stay := l.segments[0], len(l.segments) == 1 || l.segments[0].highest > upto || l.err != nil
		l.mu.Unlock()
		if stay {
			return nil
		}
		if err := l.options.FS.Remove(oldest.path); err != nil {
			return fmt.Errorf("wal: remove released segment %s: %w", oldest.path, err)
		}
		// One at a time: a crash must not bring back a segment whose successor is gone.
		if err := disk.SyncDir(l.options.FS, l.dir); err != nil {
			return fmt.Errorf("wal: sync directory %s after removing %s: %w", l.dir, oldest.path, l.fail(err))
		}
		l.mu.Lock()
		l.segments = l.segments[1:]
		l.mu.Unlock()
	}
}

// Bytes returns the size of all segment files.
func (l *Log) Bytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := int64(0)
	for _, s := range l.segments {
		n += s.capacity
	}
	return n
}

// Segments returns the number of segment files, at least 1.
func (l *Log) Segments() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.segments)
}

// Close writes a hard state that Append kept back, and closes the file. It returns the log's failure if there was one.
func (l *Log) Close() error {
	err := l.Append(nil, nil, true)
	l.mu.Lock()
	if l.err == nil {
		l.err = errClosed
	}
	l.mu.Unlock()
	return errors.Join(err, l.closeFile())
}

var errClosed = errors.New("wal: the log is closed")

func (l *Log) lastSegment() segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.segments[len(l.segments)-1]
}
