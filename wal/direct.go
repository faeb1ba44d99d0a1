package wal

import (
	"io"
	"unsafe"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// direct writes a segment past the page cache: one system call makes a group durable, and its bytes are not copied. What
// it cannot do on a file system it refuses when it is opened; then the log uses the file of package vfs with the same bytes
// at the same places.
type direct struct {
	groups file // each write is durable when it returns
	zeros  file // writes are durable with the next of groups
}

// file is an open file that takes only memory, offsets and lengths that are multiples of what the device wants.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
}

// directAlign is the alignment of memory for direct; more than a sector, in case a device wants it.
const directAlign = 4096

// aligned returns memory of n bytes for direct.
func aligned(n int64) []byte {
	b := make([]byte, n+directAlign)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) % directAlign
	return b[skip:][:n:n]
}

// openDirect opens the last segment for direct writing, where that is possible and wanted.
func (l *Log) openDirect(path string) {
	if l.options.NoSync || l.options.FS != vfs.Default {
		return
	}
	groups, zeros, err := openDirect(path)
	if err != nil {
		return
	}
	// A sector is the smallest thing to be written. Whether the device takes it shows in reading one.
	if _, err := groups.ReadAt(aligned(sectorSize), headerSize-sectorSize); err != nil {
		groups.Close()
		zeros.Close()
		return
	}
	l.direct = &direct{groups: groups, zeros: zeros}
}
