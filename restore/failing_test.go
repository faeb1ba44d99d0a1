package restore_test

import (
	"errors"
	"os"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// failing is a file system whose disk is full after some writes. What is removed makes no room.
type failing struct {
	vfs.FS
	left int64
}

var errFull = errors.New("the disk is full")

func (f *failing) take() error {
	if atomic.AddInt64(&f.left, -1) < 0 {
		return errFull
	}
	return nil
}

func (f *failing) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.take(); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name, c)
	return f.file(file), err
}

func (f *failing) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.OpenReadWrite(name, c, opts...)
	return f.file(file), err
}

func (f *failing) MkdirAll(dir string, perm os.FileMode) error {
	return errors.Join(f.take(), f.FS.MkdirAll(dir, perm))
}

func (f *failing) file(file vfs.File) vfs.File {
	if file == nil {
		return nil
	}
	return &failingFile{File: file, fs: f}
}

type failingFile struct {
	vfs.File
	fs *failing
}

func (f *failingFile) Write(b []byte) (int, error) {
	if err := f.fs.take(); err != nil {
		return 0, err
	}
	return f.File.Write(b)
}

func (f *failingFile) WriteAt(b []byte, at int64) (int, error) {
	if err := f.fs.take(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, at)
}

func (f *failingFile) Sync() error { return errors.Join(f.fs.take(), f.File.Sync()) }
