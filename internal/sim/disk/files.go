package disk

import (
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// files is the vfs.FS of a disk.
type files struct{ d *Disk }

var _ vfs.FS = files{}

func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// at returns the node of that name, nil if there is none.
func (d *Disk) at(name string) *node {
	n := d.root
	if name = clean(name); name == "" {
		return n
	}
	for part := range strings.SplitSeq(name, "/") {
		if n == nil || !n.dir {
			return nil
		}
		n = n.entries[part]
	}
	return n
}

// parent returns the directory that name is or can be in, and the last part of name.
func (d *Disk) parent(op, name string) (*node, string, error) {
	dir, base := path.Split(clean(name))
	n := d.at(dir)
	if n == nil || !n.dir || base == "" {
		return nil, "", missing(op, name)
	}
	return n, base, nil
}

func missing(op, name string) error { return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist} }

// change makes a change of a directory, as one operation.
func (d *Disk) change(op operation, dir *node, c change) error {
	err := d.begin(op)
	if err == nil || d.inFlight(err) {
		dir.put(c)
	}
	return err
}

// Create implements vfs.FS.
func (f files) Create(name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.dead {
		return nil, ErrPowerLost
	}
	return f.d.create("create", name)
}

func (d *Disk) create(op, name string) (vfs.File, error) {
	dir, base, err := d.parent(op, name)
	if err != nil {
		return nil, err
	}
	if old := dir.entries[base]; old != nil && old.dir {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrExist}
	}
	n := &node{}
	if err := d.change(operation{name: op, path: clean(name), space: true}, dir, change{{base, n}}); err != nil {
		return nil, err
	}
	return &file{d: d, n: n, name: clean(name), writable: true}, nil
}

// Open implements vfs.FS.
func (f files) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.open("open", name, opts)
}

// OpenDir implements vfs.FS.
func (f files) OpenDir(name string) (vfs.File, error) { return f.open("open", name, nil) }

func (f files) open(op, name string, opts []vfs.OpenOption) (vfs.File, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.dead {
		return nil, ErrPowerLost
	}
	n := f.d.at(name)
	if n == nil {
		return nil, missing(op, name)
	}
	opened := &file{d: f.d, n: n, name: clean(name)}
	for _, o := range opts {
		o.Apply(opened)
	}
	return opened, nil
}

// OpenReadWrite implements vfs.FS.
func (f files) OpenReadWrite(name string, _ vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.dead {
		return nil, ErrPowerLost
	}
	if n := f.d.at(name); n != nil && !n.dir {
		return &file{d: f.d, n: n, name: clean(name), writable: true}, nil
	}
	return f.d.create("create", name)
}

// ReuseForWrite implements vfs.FS.
func (f files) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.Rename(from, to); err != nil {
		return nil, err
	}
	return f.OpenReadWrite(to, c)
}

// Link implements vfs.FS.
func (f files) Link(from, to string) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.dead {
		return ErrPowerLost
	}
	n := f.d.at(from)
	if n == nil || n.dir {
		return missing("link", from)
	}
	dir, base, err := f.d.parent("link", to)
	if err != nil {
		return err
	}
	if dir.entries[base] != nil {
		return &fs.PathError{Op: "link", Path: to, Err: fs.ErrExist}
	}
	return f.d.change(operation{name: "link", path: clean(to), space: true}, dir, change{{base, n}})
}

// Rename implements vfs.FS. Within a directory it happens or not; between two a crash may leave both names or none.
func (f files) Rename(from, to string) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.dead {
		return ErrPowerLost
	}
	n := f.d.at(from)
	if n == nil {
		return missing("rename", from)
	}
	fromDir, fromBase, err := f.d.parent("rename", from)
	if err != nil {
		return err
	}
	toDir, toBase, err := f.d.parent("rename", to)
	if err != nil {
		return err
	}
	op := operation{name: "rename", path: clean(to)}
	if fromDir == toDir {
		return f.d.change(op, toDir, change{{fromBase, nil}, {toBase, n}})
	}
	if err = f.d.change(op, toDir, change{{toBase, n}}); err == nil || f.d.inFlight(err) {
		fromDir.put(change{{fromBase, nil}})
	}
	return err
}

// Remove implements vfs.FS.
func (f files) Remove(name string) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.dead {
		return ErrPowerLost
	}
	n := f.d.at(name)
	if n == nil {
		return missing("remove", name)
	}
	if len(n.entries) > 0 {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrExist}
	}
	return f.d.remove(name)
}

// RemoveAll implements vfs.FS. A crash leaves everything below name or nothing.
func (f files) RemoveAll(name string) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.dead {
		return ErrPowerLost
	}
	if f.d.at(name) == nil {
		return nil
	}
	return f.d.remove(name)
}

func (d *Disk) remove(name string) error {
	dir, base, err := d.parent("remove", name)
	if err != nil {
		return err
	}
	return d.change(operation{name: "remove", path: clean(name)}, dir, change{{base, nil}})
}

// MkdirAll implements vfs.FS.
func (f files) MkdirAll(name string, _ os.FileMode) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.dead {
		return ErrPowerLost
	}
	n, made := f.d.root, ""
	for part := range strings.SplitSeq(clean(name), "/") {
		made = path.Join(made, part)
		next := n.entries[part]
		if part == "" {
			return nil
		}
		if next != nil && !next.dir {
			return &fs.PathError{Op: "mkdir", Path: made, Err: fs.ErrExist}
		}
		if next == nil {
			next = newDir()
			if err := f.d.change(operation{name: "mkdir", path: made, space: true}, n, change{{part, next}}); err != nil {
				return err
			}
		}
		n = next
	}
	return nil
}

// Lock implements vfs.FS.
func (f files) Lock(name string) (io.Closer, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.dead {
		return nil, ErrPowerLost
	}
	if f.d.locks[clean(name)] {
		return nil, &fs.PathError{Op: "lock", Path: name, Err: fs.ErrExist}
	}
	if n := f.d.at(name); n == nil {
		if _, err := f.d.create("lock", name); err != nil {
			return nil, err
		}
	}
	f.d.locks[clean(name)] = true
	return lock{f.d, clean(name)}, nil
}

// lock lets go of a locked name.
type lock struct {
	d    *Disk
	name string
}

// Close implements io.Closer.
func (l lock) Close() error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	delete(l.d.locks, l.name)
	return nil
}

// List implements vfs.FS. The names are in order.
func (f files) List(name string) ([]string, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.dead {
		return nil, ErrPowerLost
	}
	n := f.d.at(name)
	if n == nil || !n.dir {
		return nil, missing("list", name)
	}
	return slices.Sorted(maps.Keys(n.entries)), nil
}

// Stat implements vfs.FS.
func (f files) Stat(name string) (vfs.FileInfo, error) {
	opened, err := f.open("stat", name, nil)
	if err != nil {
		return nil, err
	}
	return opened.Stat()
}

// PathBase implements vfs.FS.
func (files) PathBase(name string) string { return path.Base(name) }

// PathJoin implements vfs.FS.
func (files) PathJoin(parts ...string) string { return path.Join(parts...) }

// PathDir implements vfs.FS.
func (files) PathDir(name string) string { return path.Dir(name) }

// GetDiskUsage implements vfs.FS.
func (files) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{}, vfs.ErrUnsupported
}

// Unwrap implements vfs.FS.
func (files) Unwrap() vfs.FS { return nil }

// info describes a file.
type info struct {
	name string
	size int64
	dir  bool
}

func (i info) Name() string           { return i.name }
func (i info) Size() int64            { return i.size }
func (i info) ModTime() time.Time     { return time.Time{} }
func (i info) IsDir() bool            { return i.dir }
func (i info) Sys() any               { return nil }
func (i info) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }

// Mode implements fs.FileInfo.
func (i info) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o700
	}
	return 0o600
}
