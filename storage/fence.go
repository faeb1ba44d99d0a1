package storage

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// fence passes file operations through until the engine has failed; then it refuses those that change anything. It is also
// where a failed write or sync of a file of the store is first seen, and it makes that a failure of the engine. Reading
// goes on.
//
// A failed write of the manifest or sync of the store's directory does not return at all. Pebble regards both as fatal and
// ends the process or panics; it holds the manifest's lock then, and not the engine's. To stop there keeps every other
// background job from touching the manifest, while readers go on and the member can say what happened.
//
// It also orders what Pebble leaves to the file system (v2.1.7, atomicfs.Marker.Move): the manifest is in the directory for
// good before the marker that names it appears, and the new marker before the old one goes.
type fence struct {
	vfs.FS
	health   *health
	pacer    *pacer
	obsolete *obsolete // of a pinned engine, else nil
}

func (f *fence) file(name string, file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	own := f.PathDir(name) == f.health.dir || name == f.health.dir // a checkpoint elsewhere may fail alone
	return &fencedFile{
		File: file, health: f.health, own: own,
		fatal: name == f.health.dir || own && strings.HasPrefix(f.PathBase(name), "MANIFEST-"),
	}, nil
}

// Create implements vfs.FS.
func (f *fence) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.health.Err(); err != nil {
		return nil, err
	}
	if err := f.settle(name); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name, c)
	if file, err = f.file(name, file, err); err == nil && c == compactionCategory {
		file.(*fencedFile).pacer = f.pacer
	}
	return file, err
}

// compactionCategory is what the engine calls writes of compactions (v2.1.7, getDiskWriteCategoryForCompaction).
const compactionCategory = "pebble-compaction"

// settle syncs the directory of a marker, so that what happened in it before comes before what now happens to the marker.
func (f *fence) settle(name string) error {
	if !strings.HasPrefix(f.PathBase(name), "marker.") {
		return nil
	}
	dir, err := f.OpenDir(f.PathDir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// OpenReadWrite implements vfs.FS.
func (f *fence) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	if err := f.health.Err(); err != nil {
		return nil, err
	}
	file, err := f.FS.OpenReadWrite(name, c, o...)
	return f.file(name, file, err)
}

// ReuseForWrite implements vfs.FS.
func (f *fence) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.health.Err(); err != nil {
		return nil, err
	}
	file, err := f.FS.ReuseForWrite(from, to, c)
	return f.file(to, file, err)
}

// OpenDir implements vfs.FS.
func (f *fence) OpenDir(name string) (vfs.File, error) {
	file, err := f.FS.OpenDir(name)
	return f.file(name, file, err)
}

// Link implements vfs.FS.
func (f *fence) Link(from, to string) error {
	if err := f.health.Err(); err != nil {
		return err
	}
	return f.FS.Link(from, to)
}

// Rename implements vfs.FS.
func (f *fence) Rename(from, to string) error {
	if err := f.health.Err(); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

// Remove implements vfs.FS.
func (f *fence) Remove(name string) error {
	if err := f.health.Err(); err != nil {
		return err
	}
	if f.obsolete.takes(f.FS, name) {
		return nil
	}
	if err := f.settle(name); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

// RemoveAll implements vfs.FS.
func (f *fence) RemoveAll(name string) error {
	if err := f.health.Err(); err != nil {
		return err
	}
	return f.FS.RemoveAll(name)
}

// MkdirAll implements vfs.FS.
func (f *fence) MkdirAll(dir string, perm os.FileMode) error {
	if err := f.health.Err(); err != nil {
		return err
	}
	return f.FS.MkdirAll(dir, perm)
}

// Unwrap implements vfs.FS.
func (f *fence) Unwrap() vfs.FS { return f.FS }

// fencedFile is a file behind the fence.
type fencedFile struct {
	vfs.File
	health *health
	pacer  *pacer // of a compaction's output
	own    bool   // in the store's directory
	fatal  bool   // the engine does not survive an error
}

// change runs a changing operation unless the engine has failed, and makes its error the engine's failure.
func (f *fencedFile) change(op func() error) error {
	err := f.health.Err()
	if err == nil {
		if err = op(); err != nil && f.own {
			f.health.fail(err)
		}
	}
	if err != nil && f.fatal {
		f.health.halt() // see fence
	}
	return err
}

// Write implements vfs.File.
func (f *fencedFile) Write(p []byte) (n int, err error) {
	err = f.change(func() error { n, err = f.File.Write(p); return err })
	giveWay()
	f.pacer.rest()
	return n, err
}

// giveWay lets goroutines run that wait for a processor. Flushes and compactions compute for long between two blocks' reading
// or writing; on few processors whoever answers a client would otherwise wait for the end of their time slices, 10 ms each.
func giveWay() { runtime.Gosched() }

// polite is a file whose reader gives way at every block.
type polite struct {
	vfs.File
	pacer *pacer // of a compaction's input
}

// ReadAt implements vfs.File.
func (f polite) ReadAt(p []byte, off int64) (int, error) {
	giveWay()
	f.pacer.rest()
	return f.File.ReadAt(p, off)
}

// Open implements vfs.FS.
func (f *fence) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.Open(name, o...)
	if err != nil || !strings.HasSuffix(name, ".sst") {
		return file, err
	}
	p := polite{File: file}
	if slices.Contains(o, vfs.SequentialReadsOption) { // only compactions ask for that
		p.pacer = f.pacer
	}
	return p, nil
}

// WriteAt implements vfs.File.
func (f *fencedFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.change(func() error { n, err = f.File.WriteAt(p, off); return err })
	return n, err
}

// Sync implements vfs.File.
func (f *fencedFile) Sync() error { return f.change(f.File.Sync) }

// SyncData implements vfs.File.
func (f *fencedFile) SyncData() error { return f.change(f.File.SyncData) }

// SyncTo implements vfs.File.
func (f *fencedFile) SyncTo(length int64) (full bool, err error) {
	err = f.change(func() error { full, err = f.File.SyncTo(length); return err })
	return full, err
}
