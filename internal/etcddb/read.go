package etcddb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// The layout of a bbolt file (go.etcd.io/bbolt, internal/common: page.go, meta.go, bucket.go). Numbers have the byte order
// of the machine that wrote the file; all machines in question are little-endian.
//
// The file is read here and not with bbolt, because bbolt maps the file and trusts it: a damaged page number makes it read
// outside the mapping, which ends the process.
const (
	pageHeaderSize = 16 // id 8, flags 2, count 2, overflow 4
	elementSize    = 16
	metaSize       = 64
	metaMagic      = 0xED0CDAED
	metaVersion    = 2

	pageBranch = 1
	pageLeaf   = 2

	elementIsBucket  = 1
	bucketHeaderSize = 16 // root page 8, sequence 8

	maxKeySize = 32768 // bbolt's MaxKeySize

	// maxDepth bounds the height of a tree: with two keys to a page, one of that height has more pages than a file can.
	maxDepth = 64
)

// DamageError says that a file is not a sound bbolt file.
type DamageError struct {
	File   string
	Offset int64 // of the page, in bytes
	Reason string
}

// Error names file and offset.
func (e *DamageError) Error() string {
	return fmt.Sprintf("etcddb: %s is damaged at offset %d: %s", e.File, e.Offset, e.Reason)
}

// Read calls visit for every pair of every bucket of the db file at path, buckets and keys in byte order. key and value are
// valid until visit returns; its error ends the walk and is returned. What follows the pages, like the checksum of a saved
// snapshot, is ignored. An unsound file gives a *DamageError, possibly after some pairs were visited.
func Read(path string, visit func(bucket string, key, value []byte) error) error {
	f, err := Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Walk(Visitor{Pair: visit})
}

// reader walks over the pages of a file.
type reader struct {
	path     string
	file     io.ReaderAt
	size     int64
	pageSize int64
	pages    uint64   // number of pages in use
	seen     []uint64 // bits of pages walked over: each belongs to one place
	last     []byte   // key visited before, in the current bucket
	walked   *int64   // bytes of the pages read
	spare    [][]byte // pages to be used again
}

// element is one entry of a leaf page.
type element struct {
	page       uint64
	flags      uint32
	key, value []byte
}

func (r *reader) damaged(page uint64, format string, args ...any) error {
	return &DamageError{File: r.path, Offset: int64(min(page, r.pages)) * r.pageSize, Reason: fmt.Sprintf(format, args...)}
}

// readMeta finds the newer of the two valid meta pages and returns the root page.
func (r *reader) readMeta() (root uint64, err error) {
	best, found := uint64(0), false
	try := func(offset int64, pageSize int64) {
		var b [metaSize]byte
		if _, err := r.file.ReadAt(b[:], offset+pageHeaderSize); err != nil {
			return
		}
		sum := fnv.New64a()
		sum.Write(b[:56])
		size := int64(binary.LittleEndian.Uint32(b[8:]))
		switch {
		case binary.LittleEndian.Uint32(b[:]) != metaMagic, binary.LittleEndian.Uint32(b[4:]) != metaVersion,
			binary.LittleEndian.Uint64(b[56:]) != sum.Sum64(), pageSize != 0 && size != pageSize, size < 1024 || size > 1<<20:
			return
		}
		if txid := binary.LittleEndian.Uint64(b[48:]); !found || txid > best {
			best, found = txid, true
			r.pageSize = size
			r.pages = binary.LittleEndian.Uint64(b[40:])
			root = binary.LittleEndian.Uint64(b[16:])
		}
	}
	try(0, 0)
	if found {
		try(r.pageSize, r.pageSize)
	} else {
		for size := int64(1024); size <= 64<<10 && !found; size *= 2 {
			try(size, size)
		}
	}
	switch {
	case !found:
		return 0, r.damaged(0, "it has no valid meta page: it is not a db file of etcd, or its start is lost")
	case r.pages > uint64(r.size/r.pageSize):
		have := uint64(r.size / r.pageSize)
		r.pages, have = have, r.pages
		return 0, r.damaged(r.pages, "it has %d pages and %d belong to it: it was truncated", r.pages, have)
	}
	r.seen = make([]uint64, r.pages/64+1)
	return root, nil
}

// tree walks over the tree below a page.
func (r *reader) tree(id uint64, depth int, visit func(element) error) error {
	if id < 2 || id >= r.pages {
		return r.damaged(id, "a tree refers to page %d of %d", id, r.pages)
	}
	if depth > maxDepth {
		return r.damaged(id, "a tree is higher than %d pages", maxDepth)
	}
	b := r.room()
	defer func(b []byte) { r.spare = append(r.spare, b) }(b)
	if err := r.read(b, id); err != nil {
		return err
	}
	if got := binary.LittleEndian.Uint64(b); got != id {
		return r.damaged(id, "page %d says that it is page %d", id, got)
	}
	more := uint64(binary.LittleEndian.Uint32(b[12:]))
	if more >= r.pages-id {
		return r.damaged(id, "page %d continues for %d pages and the file has %d", id, more, r.pages)
	}
	for covered := id; covered <= id+more; covered++ {
		if r.seen[covered/64]>>(covered%64)&1 == 1 {
			return r.damaged(id, "page %d is referred to twice", covered)
		}
		r.seen[covered/64] |= 1 << (covered % 64)
	}
	*r.walked += int64(more+1) * r.pageSize
	if more > 0 {
		b = make([]byte, int64(more+1)*r.pageSize)
		if err := r.read(b, id); err != nil {
			return err
		}
	}
	return r.page(id, b, depth, visit)
}

// room returns memory for a page.
func (r *reader) room() []byte {
	if n := len(r.spare); n > 0 {
		b := r.spare[n-1]
		r.spare = r.spare[:n-1]
		return b
	}
	return make([]byte, r.pageSize)
}

func (r *reader) read(b []byte, id uint64) error {
	if _, err := r.file.ReadAt(b, int64(id)*r.pageSize); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("etcddb: read %s: %w", r.path, err)
	}
	return nil
}

// page walks over the elements of a page, whose bytes are b.
func (r *reader) page(id uint64, b []byte, depth int, visit func(element) error) error {
	if len(b) < pageHeaderSize {
		return r.damaged(id, "a page has %d bytes", len(b))
	}
	flags := binary.LittleEndian.Uint16(b[8:])
	count := int(binary.LittleEndian.Uint16(b[10:]))
	if flags != pageBranch && flags != pageLeaf {
		return r.damaged(id, "page %d has flags %#x, neither branch nor leaf", id, flags)
	}
	if pageHeaderSize+count*elementSize > len(b) {
		return r.damaged(id, "page %d has %d elements in %d bytes", id, count, len(b))
	}
	room := uint64(len(b)) // what the elements hold must fit in the page together
	for i := range count {
		at := pageHeaderSize + i*elementSize
		e := b[at : at+elementSize]
		var err error
		if flags == pageBranch {
			err = r.tree(binary.LittleEndian.Uint64(e[8:]), depth+1, visit)
		} else {
			err = r.leaf(id, b[at:], &room, visit)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// leaf visits the leaf element at the start of b, whose key and value lie further on in b.
func (r *reader) leaf(id uint64, b []byte, room *uint64, visit func(element) error) error {
	pos := uint64(binary.LittleEndian.Uint32(b[4:]))
	keySize, valueSize := uint64(binary.LittleEndian.Uint32(b[8:])), uint64(binary.LittleEndian.Uint32(b[12:]))
	if pos < elementSize || pos+keySize+valueSize > uint64(len(b)) || keySize+valueSize > *room || keySize > maxKeySize {
		return r.damaged(id, "page %d has an element of %d and %d bytes that does not fit there", id, keySize, valueSize)
	}
	*room -= keySize + valueSize
	e := element{page: id, flags: binary.LittleEndian.Uint32(b)}
	e.key, e.value = b[pos:pos+keySize], b[pos+keySize:pos+keySize+valueSize]
	if r.last != nil && bytes.Compare(r.last, e.key) >= 0 {
		return r.damaged(id, "key %q follows key %q: they are not in order", e.key, r.last)
	}
	if err := visit(e); err != nil {
		return err
	}
	r.last = append(r.last[:0:0], e.key...)
	return nil
}
