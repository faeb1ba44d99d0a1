package etcdwal

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Writer writes a log that did not exist. It is of use only when Close returned nil: then everything is durable.
type Writer struct {
	dir      string
	metadata []byte
	state    []byte // the last one, encoded; nil: none
	seq      uint64
	last     uint64 // index
	crc      uint32
	file     *os.File
	out      *bufio.Writer
	offset   int64
	limit    int64 // at which a segment is closed
	scratch  []byte
	err      error // the first failure
}

// Create begins a log in a directory that exists and holds none. member and cluster are its owner's ids.
func Create(dir string, member, cluster uint64) (*Writer, error) {
	m := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), member)
	m = protowire.AppendVarint(protowire.AppendTag(m, 2, protowire.VarintType), cluster)
	w := &Writer{dir: dir, metadata: m, limit: segmentBytes}
	if err := w.begin(0); err != nil {
		return nil, errors.Join(err, w.abandon())
	}
	w.Snapshot(Snapshot{})
	return w, w.err
}

// begin makes a segment, whose name says which entry comes first.
func (w *Writer) begin(first uint64) error {
	path := filepath.Join(w.dir, fmt.Sprintf("%016x-%016x.wal", w.seq, first))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("etcdwal: %w", err)
	}
	w.file, w.offset = f, 0
	if w.out == nil {
		w.out = bufio.NewWriterSize(f, readAhead)
	} else {
		w.out.Reset(f)
	}
	if err := f.Truncate(segmentBytes); err != nil {
		return fmt.Errorf("etcdwal: make %s of %d bytes: %w", path, segmentBytes, err)
	}
	w.record(kindCRC, nil)
	w.record(kindMetadata, w.metadata)
	if w.state != nil {
		w.record(kindState, w.state)
	}
	return w.err
}

// record appends one record.
func (w *Writer) record(kind int64, data []byte) {
	if w.err != nil {
		return
	}
	w.crc = crc32.Update(w.crc, castagnoli, data)
	b := append(w.scratch[:0], 0, 0, 0, 0, 0, 0, 0, 0)
	b = protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.VarintType), uint64(kind))
	b = protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.VarintType), uint64(w.crc))
	if data != nil {
		b = protowire.AppendBytes(protowire.AppendTag(b, 3, protowire.BytesType), data)
	}
	length := uint64(len(b) - frameSize)
	if pad := (8 - length%8) % 8; pad > 0 {
		length |= (0x80 | pad) << 56
		b = append(b, make([]byte, pad)...)
	}
	binary.LittleEndian.PutUint64(b, length)
	w.scratch = b
	if _, err := w.out.Write(b); err != nil {
		w.err = fmt.Errorf("etcdwal: write %s: %w", w.file.Name(), err)
	}
	w.offset += int64(len(b))
}

func (w *Writer) encode(kind int64, m proto.Message) {
	b, err := proto.Marshal(m)
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("etcdwal: encode a record: %w", err)
	}
	w.record(kind, b)
}

// Snapshot says that the data beside the log cover an entry. Entries go on after it.
func (w *Writer) Snapshot(s Snapshot) {
	b := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), s.Index)
	b = protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.VarintType), s.Term)
	if s.ConfState != nil {
		conf, err := proto.Marshal(s.ConfState)
		if err != nil && w.err == nil {
			w.err = fmt.Errorf("etcdwal: encode a record: %w", err)
		}
		b = protowire.AppendBytes(protowire.AppendTag(b, 3, protowire.BytesType), conf)
	}
	w.record(kindSnapshot, b)
	w.last = max(w.last, s.Index)
}

// Entries appends entries, which must be consecutive.
func (w *Writer) Entries(entries []*raftpb.Entry) error {
	for _, e := range entries {
		if e.GetIndex() != w.last+1 {
			return fmt.Errorf("etcdwal: entry %d was to be written after entry %d", e.GetIndex(), w.last)
		}
		w.encode(kindEntry, e)
		w.last = e.GetIndex()
		if w.offset >= w.limit && w.err == nil {
			w.err = w.next()
		}
	}
	return w.err
}

// State appends a hard state.
func (w *Writer) State(s *raftpb.HardState) {
	b, err := proto.Marshal(s)
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("etcdwal: encode a record: %w", err)
	}
	w.state = b
	w.record(kindState, b)
}

// next closes a segment and begins the one after it.
func (w *Writer) next() error {
	if err := w.out.Flush(); err != nil {
		return fmt.Errorf("etcdwal: write %s: %w", w.file.Name(), err)
	}
	if err := errors.Join(w.file.Truncate(w.offset), w.file.Sync(), w.file.Close()); err != nil {
		return fmt.Errorf("etcdwal: close %s: %w", w.file.Name(), err)
	}
	w.file = nil
	w.seq++
	return w.begin(w.last + 1)
}

// Close makes the log durable. It returns the first failure.
func (w *Writer) Close() error {
	if w.err != nil {
		return errors.Join(w.err, w.abandon())
	}
	if err := w.out.Flush(); err != nil {
		return errors.Join(fmt.Errorf("etcdwal: write %s: %w", w.file.Name(), err), w.abandon())
	}
	if err := errors.Join(w.file.Sync(), w.abandon()); err != nil {
		return fmt.Errorf("etcdwal: close %s: %w", w.dir, err)
	}
	return syncDir(w.dir)
}

func (w *Writer) abandon() error {
	if w.file == nil {
		return nil
	}
	f := w.file
	w.file = nil
	return f.Close()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// WriteSnap writes a .snap file into a directory, durably.
func WriteSnap(dir string, snap *raftpb.Snapshot) error {
	data, err := proto.Marshal(snap)
	if err != nil {
		return fmt.Errorf("etcdwal: encode a snapshot: %w", err)
	}
	b := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(crc32.Checksum(data, castagnoli)))
	b = protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), data)
	m := snap.GetMetadata()
	path := filepath.Join(dir, fmt.Sprintf("%016x-%016x.snap", m.GetTerm(), m.GetIndex()))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("etcdwal: %w", err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("etcdwal: write %s: %w", path, err)
	}
	return syncDir(dir)
}

// Replace makes the next entry follow an index that was written already: what is above it counts no more.
func (w *Writer) Replace(after uint64) { w.last = min(w.last, after) }
