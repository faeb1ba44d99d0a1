package disk

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// file is an open file or directory.
type file struct {
	d        *Disk
	n        *node
	name     string
	at       int // of Read and Write
	writable bool
}

var _ vfs.File = (*file)(nil)

var errNotOpen = errors.New("disk: not open for this")

// Close implements vfs.File.
func (f *file) Close() error { return nil }

// Read implements vfs.File.
func (f *file) Read(p []byte) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	n, err := f.read(p, f.at)
	f.at += n
	if n > 0 {
		err = nil
	}
	return n, err
}

// ReadAt implements vfs.File.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return f.read(p, int(off))
}

func (f *file) read(p []byte, off int) (int, error) {
	if f.d.dead {
		return 0, ErrPowerLost
	}
	if f.n.dir {
		return 0, errNotOpen
	}
	if off >= len(f.n.seen) {
		return 0, io.EOF
	}
	n := copy(p, f.n.seen[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Write implements vfs.File.
func (f *file) Write(p []byte) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	n, err := f.write(p, f.at)
	f.at += n
	return n, err
}

// WriteAt implements vfs.File.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return f.write(p, int(off))
}

func (f *file) write(p []byte, off int) (int, error) {
	if f.n.dir || !f.writable {
		return 0, errNotOpen
	}
	err := f.d.begin(operation{name: "write", path: f.name, bytes: len(p), space: true, counts: true})
	switch {
	case err == nil:
		f.n.store(off, p)
		return len(p), nil
	case f.d.inFlight(err):
		f.n.store(off, p)
	case errors.Is(err, syscall.ENOSPC):
		n := max(0, (off+f.d.rng.IntN(len(p)+1))/SectorBytes*SectorBytes-off) // space is given out by blocks
		f.n.store(off, p[:n])
		return n, err
	}
	return 0, err
}

// Sync implements vfs.File.
func (f *file) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	err := f.d.begin(operation{name: "sync", path: f.name, counts: true})
	switch {
	case err == nil:
		f.n.sync()
	case errors.Is(err, syscall.EIO):
		f.n.syncBadly(f.d.rng)
	}
	return err
}

// SyncData implements vfs.File.
func (f *file) SyncData() error { return f.Sync() }

// SyncTo implements vfs.File. It promises nothing and does nothing.
func (f *file) SyncTo(int64) (fullSync bool, err error) { return false, nil }

// Preallocate implements vfs.File. It is no operation of its own: it changes no byte.
func (f *file) Preallocate(int64, int64) error {
	if f.d.Failing() == NoSpace {
		return &fs.PathError{Op: "allocate", Path: f.name, Err: syscall.ENOSPC}
	}
	return nil
}

// Prefetch implements vfs.File.
func (f *file) Prefetch(int64, int64) error { return nil }

// Stat implements vfs.File.
func (f *file) Stat() (vfs.FileInfo, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return info{name: path.Base(f.name), size: int64(len(f.n.seen)), dir: f.n.dir}, nil
}

// Fd implements vfs.File.
func (f *file) Fd() uintptr { return vfs.InvalidFd }
