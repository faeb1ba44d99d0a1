package etcdwal

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"google.golang.org/protobuf/encoding/protowire"
)

// The records of a segment.
const (
	kindMetadata = 1
	kindEntry    = 2
	kindState    = 3
	kindCRC      = 4
	kindSnapshot = 5
)

const (
	frameSize  = 8   // before each record: its length, and in the top byte that of the padding
	sectorSize = 512 // what a disk writes whole
	readAhead  = 1 << 20

	// segmentBytes is the size at which a segment is closed; a new one has it from the start, filled with zeros.
	segmentBytes = 64 * 1000 * 1000
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// cursor reads the records of one segment after the other.
type cursor struct {
	path  string
	size  int64
	from  int64 // offset of the record read last
	next  int64 // offset of the one after it
	final bool  // this is the last segment
	crc   uint32
	in    *bufio.Reader
	data  []byte // the record read last, reused
	torn  *Torn
	short bool // the segment ends with a record, before its full size
}

// record is one record. data is valid until the next is read.
type record struct {
	kind int64
	crc  uint32
	data []byte
}

// enter begins with another segment; the checksum rolls on.
func (c *cursor) enter(f *os.File, path string, final bool) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("etcdwal: stat %s: %w", path, err)
	}
	c.path, c.size, c.final = path, info.Size(), final
	c.from, c.next = 0, 0
	src := io.NewSectionReader(f, 0, c.size)
	if c.in == nil {
		c.in = bufio.NewReaderSize(src, readAhead)
	} else {
		c.in.Reset(src)
	}
	return nil
}

func (c *cursor) damaged(format string, args ...any) error {
	return &DamageError{File: c.path, Offset: c.from, Reason: fmt.Sprintf(format, args...)}
}

// read returns the next record of the segment, and io.EOF where there is none.
func (c *cursor) read() (r record, err error) {
	c.from = c.next
	length, pad, err := c.frame()
	if err != nil {
		return r, err
	}
	if room := c.size - c.from - frameSize; length+pad > room {
		return r, c.damaged("a record of %d bytes begins there and the file ends %d bytes later: it was truncated. If etcd itself broke off there, start it once on this directory, which repairs it, and stop it", length, room)
	}
	if int64(cap(c.data)) < length+pad {
		c.data = make([]byte, length+pad, length+pad+length/2)
	}
	b := c.data[:length+pad]
	if _, err := io.ReadFull(c.in, b); err != nil {
		return r, fmt.Errorf("etcdwal: read %s at offset %d: %w", c.path, c.from, err)
	}
	r, ok := decodeRecord(b[:length])
	if !ok {
		return r, c.unsound(b, "there is no record")
	}
	if r.kind != kindCRC {
		c.crc = crc32.Update(c.crc, castagnoli, r.data)
		if c.crc != r.crc {
			return r, c.unsound(b, fmt.Sprintf("the record's checksum is %08x and its data give %08x", r.crc, c.crc))
		}
	}
	c.next = c.from + frameSize + length + pad
	return r, nil
}

// frame reads the length of the next record and of its padding.
func (c *cursor) frame() (length, pad int64, err error) {
	if c.short = c.from == c.size && c.size < segmentBytes; c.from == c.size {
		return 0, 0, io.EOF
	}
	var b [frameSize]byte
	if _, err := io.ReadFull(c.in, b[:min(frameSize, c.size-c.from)]); err != nil {
		return 0, 0, fmt.Errorf("etcdwal: read %s at offset %d: %w", c.path, c.from, err)
	}
	field := binary.LittleEndian.Uint64(b[:])
	switch {
	case field == 0:
		return 0, 0, io.EOF // what follows was never written
	case c.size-c.from < frameSize:
		return 0, 0, c.damaged("the file ends in the middle of a record: it was truncated")
	}
	if field>>63 == 1 {
		pad = int64(field >> 56 & 7)
	}
	return int64(field & (1<<56 - 1)), pad, nil
}

// unsound is the error for a record that is not as it was written, or io.EOF when the writing was interrupted.
func (c *cursor) unsound(b []byte, reason string) error {
	if !c.final || !hasZeroSector(b, c.from+frameSize) {
		return c.damaged("%s", reason)
	}
	c.torn = &Torn{File: c.path, Offset: c.from}
	return io.EOF
}

// hasZeroSector says whether a sector of the file, as far as b fills it, has nothing but zeros. b begins at an offset.
func hasZeroSector(b []byte, offset int64) bool {
	for len(b) > 0 {
		n := min(sectorSize-offset%sectorSize, int64(len(b)))
		if zero(b[:n]) {
			return true
		}
		b, offset = b[n:], offset+n
	}
	return false
}

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// decodeRecord reads a walpb.Record.
func decodeRecord(b []byte) (r record, ok bool) {
	err := eachField(b, func(number protowire.Number, v uint64, data []byte) {
		switch number {
		case 1:
			r.kind = int64(v)
		case 2:
			r.crc = uint32(v)
		case 3:
			r.data = data
		}
	})
	return r, err == nil && r.kind != 0
}

var errWire = errors.New("it is no protocol buffer")

// eachField calls visit for every field of a message that is a number or bytes; others are an error, as in all messages read
// here there are none.
func eachField(b []byte, visit func(number protowire.Number, v uint64, data []byte)) error {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errWire
		}
		b = b[n:]
		var v uint64
		var data []byte
		switch kind {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			data, n = protowire.ConsumeBytes(b)
		default:
			return errWire
		}
		if n < 0 {
			return errWire
		}
		visit(number, v, data)
		b = b[n:]
	}
	return nil
}
