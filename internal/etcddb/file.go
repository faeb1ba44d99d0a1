package etcddb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// File is an open db file. It is never changed. Its methods may be called one after the other, any number of times.
type File struct {
	file  *os.File
	path  string
	size  int64
	pages int64 // bytes of the pages that belong to it

	walked int64 // bytes of the pages that the last walk has read
}

// Visitor is told what a walk finds. Its errors end the walk, which returns them.
type Visitor struct {
	// Bucket, if not nil, is called for every bucket, also an empty one, before its pairs; false passes over these.
	Bucket func(name string) (pairs bool, err error)
	// Pair is called for every pair. key and value are valid until it returns.
	Pair func(bucket string, key, value []byte) error
}

// Open opens a file and looks at its first pages. An unsound file, a truncated one among them, gives a *DamageError.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("etcddb: %w", err)
	}
	file, err := open(f, path)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return file, nil
}

func open(f *os.File, path string) (*File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("etcddb: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, &DamageError{File: path, Reason: "it is no regular file, so it is not a db file of etcd"}
	}
	file := &File{file: f, path: path, size: info.Size()}
	r := file.reader()
	if _, err := r.readMeta(); err != nil {
		return nil, err
	}
	file.pages = int64(r.pages) * r.pageSize
	return file, nil
}

func (f *File) reader() *reader {
	f.walked = 0
	return &reader{path: f.path, file: f.file, size: f.size, walked: &f.walked}
}

// Path is the name that the file was opened by.
func (f *File) Path() string { return f.path }

// Size is the length of the file in bytes.
func (f *File) Size() int64 { return f.size }

// PagesSize is the length in bytes of the pages that belong to it, without what follows them.
func (f *File) PagesSize() int64 { return f.pages }

// Walked is how far the walk is that runs or ran last: bytes of pages that it has read, at most PagesSize. Free pages are never
// read.
func (f *File) Walked() int64 { return f.walked }

// Handle is the file itself, for locks and checksums. It belongs to File.
func (f *File) Handle() *os.File { return f.file }

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }

// Walk visits buckets and their pairs in byte order. An unsound file gives a *DamageError, possibly after some pairs were
// visited.
func (f *File) Walk(v Visitor) error {
	r := f.reader()
	root, err := r.readMeta()
	if err != nil {
		return err
	}
	return r.tree(root, 0, func(e element) error { return r.bucket(e, v) })
}

// bucket walks over one bucket, which is an element of the root's tree.
func (r *reader) bucket(e element, v Visitor) error {
	if e.flags&elementIsBucket == 0 || len(e.value) < bucketHeaderSize {
		return r.damaged(e.page, "top level key %q is not a bucket", e.key)
	}
	name := string(e.key)
	if v.Bucket != nil {
		if pairs, err := v.Bucket(name); err != nil || !pairs {
			return err
		}
	}
	pair := func(e element) error {
		if e.flags&elementIsBucket != 0 {
			return r.damaged(e.page, "bucket %q holds bucket %q, and etcd has no nested buckets", name, e.key)
		}
		return v.Pair(name, e.key, e.value)
	}
	outer := r.last
	r.last = nil
	defer func() { r.last = outer }()
	if top := binary.LittleEndian.Uint64(e.value); top != 0 {
		return r.tree(top, 0, pair)
	}
	return r.page(e.page, bytes.Clone(e.value[bucketHeaderSize:]), 0, pair) // a small bucket is inside the value
}
