package lossyfs

import (
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// wire is what the kernel talks to. It asks no more to be told about names and attributes than the moment of the question,
// and every file is open with FOPEN_DIRECT_IO, so nothing is kept in the kernel. Requests are not interrupted: a disk is not.
type wire struct {
	fuse.RawFileSystem
	*Disk
}

// handle is an open file or directory.
type handle struct {
	node *node
	sync bool
	list []string // names, of a directory
}

// String is the name of the file system.
func (w *wire) String() string { return "lossyfs" }

// node is what the kernel means; the power may have taken it.
func (w *wire) node(id uint64) (*node, fuse.Status) {
	if n := w.nodes[id]; n != nil {
		return n, fuse.OK
	}
	return nil, fuse.Status(syscall.ESTALE)
}

// enter begins an operation on a node; the disk is locked if and only if it returns OK.
func (w *wire) enter(kind Kind, id uint64) (*node, fuse.Status) {
	if st := w.begin(kind); st != fuse.OK {
		return nil, st
	}
	n, st := w.node(id)
	if st != fuse.OK {
		w.mu.Unlock()
	}
	return n, st
}

func (n *node) attr(a *fuse.Attr) {
	*a = fuse.Attr{Ino: n.id, Mode: n.mode, Nlink: uint32(max(n.links, 0)), Blksize: blockSize}
	a.Mtime, a.Mtimensec = uint64(n.changed/1e9), uint32(n.changed%1e9)
	a.Ctime, a.Ctimensec = a.Mtime, a.Mtimensec
	if n.file != nil {
		a.Size, a.Blocks = uint64(len(n.file.live)), uint64(n.file.space()/512)
	}
}

// answer tells the kernel of a node.
func (w *wire) answer(n *node, out *fuse.EntryOut) fuse.Status {
	n.lookups++
	w.nodes[n.id] = n
	out.NodeId, out.Generation = n.id, 1
	n.attr(&out.Attr)
	return fuse.OK
}

// Lookup finds a name.
func (w *wire) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	dir, st := w.enter(Reads, h.NodeId)
	if st != fuse.OK {
		return st
	}
	defer w.mu.Unlock()
	if n := dir.dir.live[name]; n != nil {
		return w.answer(n, out)
	}
	return fuse.ENOENT
}

// Forget says that the kernel knows a node no more.
func (w *wire) Forget(id, lookups uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := w.nodes[id]; n != nil && n != w.root {
		if n.lookups -= min(lookups, n.lookups); n.lookups == 0 {
			delete(w.nodes, id)
		}
	}
}

// GetAttr tells of a node.
func (w *wire) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n, st := w.enter(Reads, in.NodeId)
	if st != fuse.OK {
		return st
	}
	defer w.mu.Unlock()
	n.attr(&out.Attr)
	return fuse.OK
}

// SetAttr changes the size, or the mode: that is durable at once, because nobody here depends on it.
func (w *wire) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	n, st := w.enter(Writes, in.NodeId)
	if st != fuse.OK {
		return st
	}
	defer w.mu.Unlock()
	if mode, ok := in.GetMode(); ok {
		n.mode = n.mode&syscall.S_IFMT | mode&^syscall.S_IFMT
	}
	if size, ok := in.GetSize(); ok {
		if n.file == nil {
			return fuse.Status(syscall.EISDIR)
		}
		if st := w.truncate(n, int64(size)); st != fuse.OK {
			return st
		}
	}
	n.attr(&out.Attr)
	return fuse.OK
}

func (w *wire) truncate(n *node, size int64) fuse.Status {
	if !w.room(n, size) {
		return fuse.Status(syscall.ENOSPC)
	}
	before := n.file.space()
	if size < int64(len(n.file.live)) {
		n.file.reserved = min(n.file.reserved, size)
	}
	n.file.resize(w.next(), size)
	w.used -= max(before-n.file.space(), 0)
	w.touch(n)
	return fuse.OK
}

func (w *wire) touch(n *node) {
	n.changed = time.Now().UnixNano()
	w.dirty[n] = true
}

// add makes a node with a name.
func (w *wire) add(parent uint64, name string, n *node) fuse.Status {
	dir, st := w.enter(Names, parent)
	if st != fuse.OK {
		return st
	}
	if dir.dir.live[name] != nil {
		w.mu.Unlock()
		return fuse.Status(syscall.EEXIST)
	}
	w.lastID++
	n.id, n.changed = w.lastID, time.Now().UnixNano()
	w.relink(entry{dir: dir, name: name, node: n})
	return fuse.OK
}

// Mkdir makes a directory.
func (w *wire) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	n := &node{mode: syscall.S_IFDIR | in.Mode&^syscall.S_IFMT, dir: newNames()}
	if st := w.add(in.NodeId, name, n); st != fuse.OK {
		return st
	}
	defer w.mu.Unlock()
	return w.answer(n, out)
}

// Mknod makes a file.
func (w *wire) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	if kind := in.Mode & syscall.S_IFMT; kind != 0 && kind != syscall.S_IFREG {
		return fuse.Status(syscall.EPERM)
	}
	n := &node{mode: syscall.S_IFREG | in.Mode&^syscall.S_IFMT, file: &contents{}}
	if st := w.add(in.NodeId, name, n); st != fuse.OK {
		return st
	}
	defer w.mu.Unlock()
	return w.answer(n, out)
}

// Create makes a file and opens it.
func (w *wire) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	n := &node{mode: syscall.S_IFREG | in.Mode&^syscall.S_IFMT, file: &contents{}}
	if st := w.add(in.NodeId, name, n); st != fuse.OK {
		return st
	}
	defer w.mu.Unlock()
	w.open(n, in.Flags, &out.OpenOut)
	return w.answer(n, &out.EntryOut)
}

func (w *wire) open(n *node, flags uint32, out *fuse.OpenOut) *handle {
	w.lastID++
	h := &handle{node: n, sync: synchronous(flags)}
	w.handles[w.lastID] = h
	n.opens++
	out.Fh, out.OpenFlags = w.lastID, fuse.FOPEN_DIRECT_IO
	return h
}

// Open opens a file.
func (w *wire) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n, st := w.enter(Reads, in.NodeId)
	if st != fuse.OK {
		return st
	}
	defer w.mu.Unlock()
	if in.Flags&syscall.O_TRUNC != 0 {
		if st := w.truncate(n, 0); st != fuse.OK {
			return st
		}
	}
	w.open(n, in.Flags, out)
	return fuse.OK
}

// Read reads from a file.
func (w *wire) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	n, st := w.enter(Reads, in.NodeId)
	if st != fuse.OK {
		return nil, st
	}
	defer w.mu.Unlock()
	return fuse.ReadResultData(buf[:n.file.read(buf, int64(in.Offset))]), fuse.OK
}

// Write writes to a file.
func (w *wire) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	n, st := w.enter(Writes, in.NodeId)
	if st != fuse.OK {
		return 0, st
	}
	defer w.mu.Unlock()
	h := w.handles[in.Fh]
	switch {
	case h == nil:
		return 0, fuse.Status(syscall.ESTALE)
	case !w.room(n, int64(in.Offset)+int64(len(data))):
		return 0, fuse.Status(syscall.ENOSPC)
	}
	seq := w.next()
	n.file.write(seq, int64(in.Offset), data)
	w.touch(n)
	if h.sync {
		n.file.widen(seq)
		if st := w.spin(); st != fuse.OK {
			return 0, st
		}
		n.file.syncOne(seq)
		w.clean(n)
	}
	return uint32(len(data)), fuse.OK
}

func (w *wire) clean(n *node) {
	if len(n.file.pending) == 0 {
		delete(w.dirty, n)
	}
}

// Fallocate reserves space. Nothing here asks for holes.
func (w *wire) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	const keepSize = 1
	if in.Mode&^keepSize != 0 {
		return fuse.Status(syscall.EOPNOTSUPP)
	}
	n, st := w.enter(Writes, in.NodeId)
	if st != fuse.OK {
		return st
	}
	defer w.mu.Unlock()
	if !w.room(n, int64(in.Offset+in.Length)) {
		return fuse.Status(syscall.ENOSPC)
	}
	if n.file.reserve(w.next(), int64(in.Offset+in.Length), in.Mode == keepSize); in.Mode == 0 {
		w.touch(n)
	}
	return fuse.OK
}

// Fsync makes a file durable.
func (w *wire) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	n, st := w.enter(Syncs, in.NodeId)
	if st != fuse.OK {
		return st
	}
	defer w.mu.Unlock()
	seq := w.seq
	if st := w.spin(); st != fuse.OK {
		return st
	}
	n.file.sync(seq)
	w.clean(n)
	return fuse.OK
}

// FsyncDir makes the entries of a directory durable.
func (w *wire) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	n, st := w.enter(Syncs, in.NodeId)
	if st != fuse.OK {
		return st
	}
	defer w.mu.Unlock()
	seq := w.seq
	if st := w.spin(); st != fuse.OK {
		return st
	}
	w.syncDir(n, seq)
	return fuse.OK
}

// Flush is a close, which makes nothing durable.
func (w *wire) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

// Access is not asked: the kernel leaves it to the operations.
func (w *wire) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status { return fuse.OK }

// Release is the last close of an open file.
func (w *wire) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if h := w.handles[in.Fh]; h != nil {
		delete(w.handles, in.Fh)
		h.node.opens--
		w.reclaim(h.node)
	}
}

// ReleaseDir is the last close of an open directory.
func (w *wire) ReleaseDir(in *fuse.ReleaseIn) { w.Release(nil, in) }

// OpenDir opens a directory.
func (w *wire) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n, st := w.enter(Reads, in.NodeId)
	if st != fuse.OK {
		return st
	}
	defer w.mu.Unlock()
	h := w.open(n, in.Flags, out)
	h.list = slices.Sorted(maps.Keys(n.dir.live))
	out.OpenFlags = 0
	return fuse.OK
}

// ReadDir lists a directory as it was when it was opened.
func (w *wire) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	n, st := w.enter(Reads, in.NodeId)
	if st != fuse.OK {
		return st
	}
	defer w.mu.Unlock()
	h := w.handles[in.Fh]
	if h == nil {
		return fuse.Status(syscall.ESTALE)
	}
	for i := int(in.Offset); i < len(h.list); i++ {
		e := fuse.DirEntry{Name: h.list[i], Off: uint64(i + 1)}
		if child := n.dir.live[e.Name]; child != nil {
			e.Ino, e.Mode = child.id, child.mode
		}
		if !out.AddDirEntry(e) {
			break
		}
	}
	return fuse.OK
}

// Unlink removes the name of a file.
func (w *wire) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return w.remove(h.NodeId, name)
}

// Rmdir removes an empty directory.
func (w *wire) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return w.remove(h.NodeId, name)
}

func (w *wire) remove(parent uint64, name string) fuse.Status {
	dir, st := w.enter(Names, parent)
	if st != fuse.OK {
		return st
	}
	defer w.mu.Unlock()
	n := dir.dir.live[name]
	switch {
	case n == nil:
		return fuse.ENOENT
	case n.dir != nil && len(n.dir.live) > 0:
		return fuse.Status(syscall.ENOTEMPTY)
	}
	w.relink(entry{dir: dir, name: name})
	return fuse.OK
}

// Rename gives a node another name.
func (w *wire) Rename(_ <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	if in.Flags != 0 {
		return fuse.EINVAL
	}
	dir, st := w.enter(Names, in.NodeId)
	if st != fuse.OK {
		return st
	}
	defer w.mu.Unlock()
	other, st := w.node(in.Newdir)
	if st != fuse.OK {
		return st
	}
	n, old := dir.dir.live[from], other.dir.live[to]
	switch {
	case n == nil:
		return fuse.ENOENT
	case n == old:
		return fuse.OK
	case old != nil && old.dir != nil && len(old.dir.live) > 0:
		return fuse.Status(syscall.ENOTEMPTY)
	}
	w.relink(entry{dir: dir, name: from}, entry{dir: other, name: to, node: n})
	return fuse.OK
}

// Link gives a file one more name.
func (w *wire) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	dir, st := w.enter(Names, in.NodeId)
	if st != fuse.OK {
		return st
	}
	defer w.mu.Unlock()
	n, st := w.node(in.Oldnodeid)
	switch {
	case st != fuse.OK:
		return st
	case dir.dir.live[name] != nil:
		return fuse.Status(syscall.EEXIST)
	}
	w.relink(entry{dir: dir, name: name, node: n})
	return w.answer(n, out)
}

// StatFs tells how much room there is.
func (w *wire) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	if st := w.begin(Reads); st != fuse.OK {
		return st
	}
	defer w.mu.Unlock()
	total := w.limit
	if total == 0 {
		total = 1 << 40
	}
	*out = fuse.StatfsOut{Bsize: blockSize, Frsize: blockSize, NameLen: 255, Blocks: uint64(total / blockSize)}
	out.Bfree = uint64(max(total-w.used, 0) / blockSize)
	out.Bavail = out.Bfree
	return fuse.OK
}
