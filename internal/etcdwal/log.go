package etcdwal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Log is a directory of segments, open for reading. Its methods must be called one after the other.
type Log struct {
	dir      string
	segments []segment
	size     int64
	survey   *Survey
	locked   []*os.File
}

// segment is one file.
type segment struct {
	path       string
	seq, first uint64
}

// Torn is a record at the end of the log that an interrupted write left incomplete.
type Torn struct {
	File   string
	Offset int64
}

// Snapshot is a record that says: there is a snapshot of the state at an entry.
type Snapshot struct {
	Index, Term uint64
	ConfState   *raftpb.ConfState // nil: the record does not say, as before etcd 3.5
}

// Open lists the segments in dir. Without any, the error wraps fs.ErrNotExist; one that is missing in the middle gives a *DamageError.
func Open(dir string) (*Log, error) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("etcdwal: %w", err)
	}
	l := &Log{dir: dir}
	for _, entry := range names {
		s := segment{path: filepath.Join(dir, entry.Name())}
		if !parseName(entry.Name(), ".wal", &s.seq, &s.first) {
			continue // temporary files, and copies that a repair left
		}
		info, err := entry.Info()
		if err != nil {
			return nil, fmt.Errorf("etcdwal: %w", err)
		}
		if !info.Mode().IsRegular() {
			return nil, &DamageError{File: s.path, Reason: "it is no regular file"}
		}
		l.segments = append(l.segments, s)
		l.size += info.Size()
	}
	if len(l.segments) == 0 {
		return nil, fmt.Errorf("etcdwal: there is no segment of a log of etcd in %s: %w", dir, fs.ErrNotExist)
	}
	for i, s := range l.segments[1:] {
		if s.seq != l.segments[i].seq+1 {
			return nil, &DamageError{File: s.path, Reason: fmt.Sprintf("it is segment %d and the one before it is segment %d: a file is missing", s.seq, l.segments[i].seq)}
		}
	}
	return l, nil
}

// parseName reads the two numbers of a name like 0000000000000001-00000000000000a2.wal.
func parseName(name, ending string, a, b *uint64) bool {
	text, ok := strings.CutSuffix(name, ending)
	if !ok {
		return false
	}
	if n, err := fmt.Sscanf(text, "%016x-%016x", a, b); n != 2 || err != nil {
		return false
	}
	return text == fmt.Sprintf("%016x-%016x", *a, *b)
}

// Dir is the directory.
func (l *Log) Dir() string { return l.dir }

// Bytes is the size of all segments, unwritten parts included.
func (l *Log) Bytes() int64 { return l.size }

// Close releases the locks.
func (l *Log) Close() error {
	var failed error
	for _, f := range l.locked {
		failed = errors.Join(failed, f.Close())
	}
	l.locked = nil
	return failed
}

// place is where a record lies.
type place struct {
	segment int
	offset  int64
}

func (p place) before(q place) bool {
	return p.segment < q.segment || p.segment == q.segment && p.offset < q.offset
}

// walk calls visit for every record from segment number start on, and returns the record that an
// interrupted write left, and whether the last segment is short.
func (l *Log) walk(ctx context.Context, start int, visit func(place, *cursor, record) error) (torn *Torn, short bool, err error) {
	c := &cursor{}
	for i := start; i < len(l.segments); i++ {
		if err := l.walkSegment(ctx, c, i, i == start, visit); err != nil {
			return nil, false, err
		}
	}
	return c.torn, c.short, nil
}

func (l *Log) walkSegment(ctx context.Context, c *cursor, i int, first bool, visit func(place, *cursor, record) error) error {
	s := l.segments[i]
	f, err := os.Open(s.path)
	if err != nil {
		return fmt.Errorf("etcdwal: %w", err)
	}
	defer f.Close()
	if err := c.enter(f, s.path, i == len(l.segments)-1); err != nil {
		return err
	}
	for begun := false; ; begun = true {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		r, err := c.read()
		switch {
		case errors.Is(err, io.EOF) && !begun:
			return c.damaged("the segment is empty; each begins with a checksum")
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case !begun && r.kind != kindCRC:
			return c.damaged("the segment begins with a record of type %d instead of a checksum", r.kind)
		case r.kind == kindCRC && !(first && !begun) && c.crc != r.crc:
			return c.damaged("the segment goes on after checksum %08x, and the records before give %08x: records are missing", r.crc, c.crc)
		case r.kind == kindCRC && first && s.seq == 0 && !begun && r.crc != 0:
			return c.damaged("the first segment begins with checksum %08x instead of 0", r.crc)
		case r.kind == kindCRC:
			c.crc = r.crc
			continue
		}
		if err := visit(place{i, c.from}, c, r); err != nil {
			return err
		}
	}
}

// Segments returns the paths of the files, in order.
func (l *Log) Segments() []string {
	var out []string
	for _, s := range l.segments {
		out = append(out, s.path)
	}
	return out
}

// startFor is the number of the segment in which the entries above an index begin: the newest whose name says so.
func (l *Log) startFor(after uint64) int {
	for i, s := range slices.Backward(l.segments) {
		if s.first <= after+1 {
			return i
		}
	}
	return 0
}

func decodeEntry(c *cursor, r record) (*raftpb.Entry, error) {
	e := &raftpb.Entry{}
	if err := proto.Unmarshal(r.data, e); err != nil {
		return nil, c.damaged("an entry cannot be decoded: %v", err)
	}
	if e.GetIndex() == 0 || raftpb.EntryType_name[int32(e.GetType())] == "" {
		return nil, c.damaged("there is an entry of type %d with index %d", e.GetType(), e.GetIndex())
	}
	return e, nil
}

func decodeMetadata(c *cursor, r record) (member, cluster uint64, err error) {
	if err := eachField(r.data, func(n protowire.Number, v uint64, _ []byte) {
		switch n {
		case 1:
			member = v
		case 2:
			cluster = v
		}
	}); err != nil {
		return 0, 0, c.damaged("the metadata: %v", err)
	}
	return member, cluster, nil
}

func decodeSnapshot(c *cursor, r record) (s Snapshot, err error) {
	var conf []byte
	if err = eachField(r.data, func(n protowire.Number, v uint64, data []byte) {
		switch n {
		case 1:
			s.Index = v
		case 2:
			s.Term = v
		case 3:
			conf = data
		}
	}); err == nil && conf != nil {
		s.ConfState = &raftpb.ConfState{}
		err = proto.Unmarshal(conf, s.ConfState)
	}
	if err != nil {
		return s, c.damaged("a snapshot record: %v", err)
	}
	return s, nil
}
