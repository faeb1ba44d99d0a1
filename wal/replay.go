package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/disk"
)

// Open reads the log in dir and opens it for appending. from is the index up to which the engine holds everything durably:
// the log must reach back to from+1 and must not end before from. An error that wraps fs.ErrNotExist means that there is no
// log; a *CorruptError means that it is damaged.
func Open(dir string, o Options, from ids.Index) (*Log, *Replay, error) {
	p, err := readAll(dir, o, from)
	if err != nil {
		return nil, nil, err
	}
	l := p.log
	if err := l.resume(p); err != nil {
		return nil, nil, fmt.Errorf("wal: prepare %s for appending: %w", l.lastSegment().path, err)
	}
	return l, p.result(), nil
}

// replay is the state of reading a log.
type replay struct {
	log       *Log
	from      ids.Index
	keepAbove ids.Index // entries at or below need not be returned
	window    window
	entries   []*raftpb.Entry
	start     ids.Index // lowest index from which on the log is complete
	last      ids.Index
	highest   ids.Index // highest index in the segment being read
	cut       *Cut
	rewrite   []byte // the last thing written to the log: a group, or the header of a segment without groups
}

// corrupt makes the error for the segment.
func corrupt(s *segment, offset int64, format string, args ...any) error {
	return &CorruptError{File: s.path, Offset: offset, Reason: fmt.Sprintf(format, args...)}
}

// readSegment reads segment i from its header to the end of its last group, where it leaves l.tail.
func (p *replay) readSegment(i int) error {
	l := p.log
	s := &l.segments[i]
	if i > 0 && s.seq != l.segments[i-1].seq+1 {
		return corrupt(s, 0, "segment %d follows segment %d: a file is missing or does not belong here", s.seq, l.segments[i-1].seq)
	}
	f, err := l.options.FS.Open(s.path)
	if err != nil {
		return fmt.Errorf("wal: open %s: %w", s.path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("wal: stat %s: %w", s.path, err)
	}
	p.window.reset(f, info.Size())
	p.highest = 0
	if err := p.readHeader(i); err != nil {
		return err
	}
	for more := true; more; {
		if more, err = p.readGroup(s, i == len(l.segments)-1); err != nil {
			return err
		}
	}
	s.highest = p.highest
	return nil
}

// readHeader reads the header of segment i and checks that it continues what was read so far.
func (p *replay) readHeader(i int) error {
	l := p.log
	s := &l.segments[i]
	b, err := p.window.at(0, min(headerSize, p.window.size))
	if err != nil {
		return fmt.Errorf("wal: read %s: %w", s.path, err)
	}
	h, sum, wrong := decodeHeader(b)
	switch {
	case wrong != "":
		return corrupt(s, 0, "%s", wrong)
	case h.seq != s.seq || h.last+1 != s.first || h.capacity < headerSize || h.capacity%sectorSize != 0:
		return corrupt(s, 0, "the header is that of segment %d after entry %d, which does not fit the file's name", h.seq, h.last)
	case p.window.size < h.capacity:
		return corrupt(s, p.window.size, "the file has %d bytes and was made with %d: it was truncated", p.window.size, h.capacity)
	case i == 0:
		l.meta, p.last, p.start = h.meta, h.last, h.last+1
	case h.chain != l.chain || h.last != p.last:
		return corrupt(&l.segments[i-1], l.tail, "its last group found is %d (entry %d), and segment %d continues group %d (entry %d): groups are missing, or a file does not belong here",
			l.chain.number, p.last, s.seq, h.chain.number, h.last)
	case h.meta != l.meta:
		return corrupt(s, 0, "it belongs to member %s of cluster %s, the segment before it to member %s of cluster %s", h.meta.Member, h.meta.Cluster, l.meta.Member, l.meta.Cluster)
	}
	s.capacity = h.capacity
	l.chain, l.tail, l.state = chain{h.chain.number, sum}, headerSize, h.state
	p.rewrite = append(p.rewrite[:0], b...)
	return nil
}

// readGroup reads the group at l.tail and says whether there was one. final says that s is the last segment, the only one
// that may end in an interrupted write.
func (p *replay) readGroup(s *segment, final bool) (bool, error) {
	l := p.log
	at := l.tail
	if at == s.capacity {
		return false, nil
	}
	b, err := p.window.at(at, sectorSize)
	if err != nil {
		return false, fmt.Errorf("wal: read %s: %w", s.path, err)
	}
	f, ok := decodeFrame(b)
	switch {
	case bytes.Equal(b, zeroSector[:]):
		return false, p.end(s, final, at+sectorSize, "its first sector was not written")
	case !ok:
		return false, corrupt(s, at, "the frame of the group after group %d does not match its checksum: bytes have changed since they were written", l.chain.number)
	case f.offset != at || f.number != l.chain.number+1 || f.before != l.chain.sum || f.size() > s.capacity-at:
		return false, corrupt(s, at, "there is group %d, written for offset %d with %d bytes, where the group after %d belongs: it was written to the wrong place, or one before it was", f.number, f.offset, f.size(), l.chain.number)
	}
	if b, err = p.window.at(at, f.size()); err != nil {
		return false, fmt.Errorf("wal: read %s: %w", s.path, err)
	}
	body, ok := f.body(b)
	if !ok {
		missing, changed := sectorsOf(b)
		if changed >= 0 || missing == 0 {
			return false, corrupt(s, at+max(changed, 0), "group %d does not match its checksum, and %d of its %d sectors were not written: bytes have changed since they were written", f.number, missing, len(b)/sectorSize)
		}
		return false, p.end(s, final, at+f.size(), fmt.Sprintf("%d of %d sectors of group %d were not written", missing, len(b)/sectorSize, f.number))
	}
	if err := p.apply(body); err != nil {
		return false, corrupt(s, at, "group %d: %v", f.number, err)
	}
	l.chain = chain{f.number, f.bodySum}
	l.tail += f.size()
	if final {
		p.rewrite = append(p.rewrite[:0], b...)
	}
	return true, nil
}

// sectorsOf counts the sectors of a group that were never written, and returns the offset of the first that was written and
// then changed so that its tag is lost, or -1.
func sectorsOf(b []byte) (missing int, changed int64) {
	changed = -1
	for at := sectorSize; at < len(b); at += sectorSize {
		switch {
		case bytes.Equal(b[at:at+sectorSize], zeroSector[:]):
			missing++
		case b[at] != tagMore && changed < 0:
			changed = int64(at)
		}
	}
	return missing, changed
}

// end is called where no further group can be read: at l.tail there is nothing, or a group of which sectors were never
// written. It looks at everything from scan on. A later group proves that the one at l.tail was durable when the later one
// was written. Without that proof the group at l.tail was never acknowledged, for then all its sectors would be there, and
// neither was anything after it; so it is cut.
func (p *replay) end(s *segment, final bool, scan int64, reason string) error {
	l := p.log
	stop := int64(0) // end of the last sector that is not zero
	if scan > l.tail+sectorSize {
		stop = scan
	}
	for at := scan; at < s.capacity; at += sectorSize {
		b, err := p.window.at(at, sectorSize)
		if err != nil {
			return fmt.Errorf("wal: read %s: %w", s.path, err)
		}
		if bytes.Equal(b, zeroSector[:]) {
			continue
		}
		stop = at + sectorSize
		f, ok := decodeFrame(b)
		if ok && b[0] == tagFirst && f.offset == at && f.number > l.chain.number+1 && f.flags&flagLoose == 0 {
			return corrupt(s, l.tail, "group %d is damaged (%s), and group %d at offset %d was written after it was durable", l.chain.number+1, reason, f.number, at)
		}
	}
	if stop == 0 {
		return nil
	}
	if !final {
		return corrupt(s, l.tail, "group %d is damaged (%s), and a later segment was made after it was durable", l.chain.number+1, reason)
	}
	p.cut = &Cut{File: s.path, Offset: l.tail, Bytes: stop - l.tail, Reason: reason}
	return nil
}

// apply takes the records of a group.
func (p *replay) apply(body []byte) error {
	for len(body) > 0 {
		r, rest, err := nextRecord(body)
		if err != nil {
			return err
		}
		body = rest
		switch r.kind {
		case recordState:
			p.log.state = r.state
		case recordReset:
			p.entries, p.last, p.start = nil, r.index, r.index+1
		case recordEntry:
			if r.index > p.last+1 {
				return fmt.Errorf("entry %d follows entry %d", r.index, p.last)
			}
			p.take(&r)
		}
		p.highest = max(p.highest, r.index)
	}
	return nil
}

// take adds an entry, which replaces those from its index on.
func (p *replay) take(r *record) {
	if n := len(p.entries); n > 0 {
		if first := ids.Index(p.entries[0].GetIndex()); r.index <= first {
			p.entries = p.entries[:0]
		} else if keep := int(r.index - first); keep < n {
			p.entries = p.entries[:keep]
		}
	}
	p.start = min(p.start, r.index)
	p.last = r.index
	if r.index > p.keepAbove {
		p.entries = append(p.entries, r.message())
	}
}

// checkReach checks the log against what the engine holds.
func (p *replay) checkReach() error {
	segments := p.log.segments
	if p.start > p.from+1 {
		return corrupt(&segments[0], 0, "the log starts with entry %d and the store holds entries only up to %d: what lies between is missing", p.start, p.from)
	}
	if p.last < p.from {
		return corrupt(&segments[len(segments)-1], p.log.tail, "the log ends with entry %d and the store holds entries up to %d: the end of the log is missing", p.last, p.from)
	}
	if commit := ids.Index(p.log.state.commit); p.last < commit {
		return corrupt(&segments[len(segments)-1], p.log.tail, "the log ends with entry %d and its hard state says that entry %d is committed: the end of the log is missing", p.last, commit)
	}
	return nil
}

// resume opens the last segment for appending. It erases what was cut, and it writes the last group once more before it
// syncs: if the process ended after a failed sync, the kernel may show that group and yet never write it, unless it is
// written anew. Groups before it were durable before it was written.
func (l *Log) resume(p *replay) (err error) {
	if err := removeUnfinished(l.options.FS, l.dir); err != nil {
		return err
	}
	if l.file, err = l.options.FS.OpenReadWrite(l.lastSegment().path, writeCategory); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.closeFile())
		}
	}()
	if p.cut != nil {
		if err := l.writeZeros(p.cut.Offset, p.cut.Offset+p.cut.Bytes); err != nil {
			return err
		}
	}
	if _, err := l.file.WriteAt(p.rewrite, l.tail-int64(len(p.rewrite))); err != nil {
		return err
	}
	if err := l.file.SyncData(); err != nil {
		return err
	}
	l.openDirect(l.lastSegment().path)
	l.last, l.onDisk, l.zeroed = p.last, l.state, l.tail
	return disk.SyncDir(l.options.FS, l.dir)
}

// removeUnfinished removes segments that never got their name.
func removeUnfinished(files vfs.FS, dir string) error {
	names, err := files.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, newSuffix) {
			if err := files.Remove(files.PathJoin(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// window reads a file in large pieces.
type window struct {
	file  vfs.File
	size  int64
	start int64
	buf   []byte
}

const windowBytes = 1 << 20

func (w *window) reset(f vfs.File, size int64) {
	*w = window{file: f, size: size, buf: w.buf[:0]}
}

// at returns n bytes at the offset, which must lie within the file. They are valid until the next call.
func (w *window) at(offset, n int64) ([]byte, error) {
	if offset < w.start || offset+n > w.start+int64(len(w.buf)) {
		want := min(max(n, windowBytes), w.size-offset)
		if int64(cap(w.buf)) < want {
			w.buf = make([]byte, want)
		}
		w.buf, w.start = w.buf[:want], offset
		if read, err := w.file.ReadAt(w.buf, offset); int64(read) < want {
			w.buf = w.buf[:0]
			return nil, errors.Join(err, io.ErrUnexpectedEOF)
		}
	}
	return w.buf[offset-w.start:][:n], nil
}
