package wal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/disk"
)

// segment is one file of the log.
type segment struct {
	path     string
	seq      uint64
	first    ids.Index // one above the last index before the segment; part of the name
	capacity int64     // size of the file
	highest  ids.Index // highest index in it, 0 if none
}

const (
	segmentSuffix = ".wal"
	newSuffix     = ".wal.new" // a segment that is being made
	writeCategory = vfs.DiskWriteCategory("quorate-wal")
)

func segmentName(seq uint64, first ids.Index) string {
	return fmt.Sprintf("%016x-%016x%s", seq, uint64(first), segmentSuffix)
}

// list returns the segments in dir, in order. Other files are ignored.
func list(files vfs.FS, dir string) ([]segment, error) {
	names, err := files.List(dir)
	if err != nil {
		return nil, err
	}
	var segments []segment
	for _, name := range names {
		var seq, first uint64
		if n, _ := fmt.Sscanf(name, "%016x-%016x.wal", &seq, &first); n == 2 && name == segmentName(seq, ids.Index(first)) {
			segments = append(segments, segment{path: files.PathJoin(dir, name), seq: seq, first: ids.Index(first)})
		}
	}
	slices.SortFunc(segments, func(a, b segment) int {
		return cmp.Or(cmp.Compare(a.seq, b.seq), cmp.Compare(a.first, b.first))
	})
	return segments, nil
}

// rotate begins a new segment that has room for a group of size bytes.
func (l *Log) rotate(size int64) error {
	if l.options.NoSync {
		// Without this, an earlier segment could be torn, and only the last one is ever cut.
		if err := l.file.SyncData(); err != nil {
			return fmt.Errorf("sync %s: %w", l.lastSegment().path, err)
		}
	}
	if err := l.closeFile(); err != nil {
		return fmt.Errorf("close %s: %w", l.lastSegment().path, err)
	}
	return l.addSegment(size)
}

// addSegment makes the segment after the last one and opens it for writing. It gets its name when its header is durable,
// so a segment that has its name has a whole header. The header carries the hard state of the groups before it, not a newer
// one: a commit index must not get to the disk before the entries it speaks of.
func (l *Log) addSegment(size int64) error {
	h := header{chain: l.chain, last: l.last, meta: l.meta, state: l.onDisk}
	capacity := int64(firstSegmentBytes)
	l.mu.Lock()
	if n := len(l.segments); n > 0 {
		h.seq = l.segments[n-1].seq + 1
		capacity = 2 * l.segments[n-1].capacity
	}
	l.mu.Unlock()
	h.capacity = max(roundUp(min(capacity, l.options.SegmentBytes)), headerSize+size)
	s := segment{seq: h.seq, first: l.last + 1, capacity: h.capacity}
	s.path = l.options.FS.PathJoin(l.dir, segmentName(s.seq, s.first))
	making := strings.TrimSuffix(s.path, segmentSuffix) + newSuffix
	sector, sum := h.encode()
	if err := l.makeFile(making, sector, h.capacity); err != nil {
		return fmt.Errorf("wal: make segment %s: %w", making, err)
	}
	if err := l.options.FS.Rename(making, s.path); err != nil {
		return fmt.Errorf("wal: name segment %s: %w", s.path, err)
	}
	if err := disk.SyncDir(l.options.FS, l.dir); err != nil {
		return fmt.Errorf("wal: sync directory %s: %w", l.dir, err)
	}
	l.openDirect(s.path)
	l.tail, l.zeroed = headerSize, headerSize
	l.chain.sum = sum
	l.mu.Lock()
	l.segments = append(l.segments, s)
	l.mu.Unlock()
	return nil
}

// makeFile creates the file with its header and its full size, and leaves it open in l.file.
func (l *Log) makeFile(path string, sector []byte, capacity int64) error {
	if err := l.options.FS.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := l.options.FS.OpenReadWrite(path, writeCategory)
	if err != nil {
		return err
	}
	// Reserving space makes a full disk show here, and keeps the file in one piece. Not every file system can.
	if err := f.Preallocate(0, capacity); err != nil && vfs.IsNoSpaceError(err) {
		return errors.Join(err, f.Close())
	}
	if _, err := f.WriteAt(sector, 0); err != nil {
		return errors.Join(err, f.Close())
	}
	if capacity > headerSize {
		if _, err := f.WriteAt([]byte{0}, capacity-1); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	l.file = f
	return nil
}

// closeFile closes the open segment, if there is one.
func (l *Log) closeFile() error {
	f, d := l.file, l.direct
	l.file, l.direct = nil, nil
	var errs []error
	if d != nil {
		errs = append(errs, d.groups.Close(), d.zeros.Close())
	}
	if f != nil {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

func roundUp(n int64) int64 { return (n + sectorSize - 1) / sectorSize * sectorSize }
