package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/internal/disk"
)

// Fetch asks the member that has a snapshot for a file from an offset on, and returns what Serve writes there.
type Fetch func(ctx context.Context, name, file string, from int64) (io.ReadCloser, error)

// ErrBusy says that another snapshot is being received.
var ErrBusy = errors.New("snapshot: another snapshot is being received")

// Receive takes in the snapshot that the manifest describes and returns when it is whole and durable. Files that have arrived
// before are not asked for again, and those that have arrived in part from there on. Errors: ErrBusy; the manifest is damaged,
// somebody cannot send, a file is not what the manifest says, or the disk failed. What has arrived stays.
func (d *Depot) Receive(ctx context.Context, manifest []byte, fetch Fetch) error {
	if !d.taking.TryLock() {
		return ErrBusy
	}
	defer d.taking.Unlock()
	m, err := decodeManifest(manifest)
	if err != nil {
		return err
	}
	if err := d.clear(func(name string) bool { return name == m.Name || d.awaited(name) }); err != nil {
		return err
	}
	if canary.On(canary.SnapshotGone) {
		d.announced = append(d.announced, m.Name)
	}
	if err := d.receive(ctx, m, manifest, fetch); err != nil {
		return err
	}
	d.whole = append(slices.DeleteFunc(d.whole, func(name string) bool { return name == m.Name }), m.Name)
	d.whole = d.whole[max(0, len(d.whole)-wholeMost):]
	return nil
}

// awaited reports whether a snapshot was received whole since the start, and lately: raft may know of it, and want it installed.
// Another leader may announce its own before that has happened. Parts of older ones are of no use.
func (d *Depot) awaited(name string) bool {
	return slices.Contains(d.whole, name)
}

func (d *Depot) receive(ctx context.Context, m *Manifest, manifest []byte, fetch Fetch) error {
	dir := d.path(incomingDir, m.Name)
	if _, err := d.o.FS.Stat(d.o.FS.PathJoin(dir, manifestTo)); err == nil {
		return nil // whole since an earlier time
	}
	if err := disk.MakeDir(d.o.FS, d.o.FS.PathJoin(dir, filesDir)); err != nil {
		return fmt.Errorf("snapshot: make %s: %w", dir, err)
	}
	if err := d.strip(dir, m); err != nil {
		return err
	}
	for i := range m.Files {
		if err := d.receiveFile(ctx, m, &m.Files[i], fetch); err != nil {
			return err
		}
	}
	if err := disk.SyncDir(d.o.FS, d.o.FS.PathJoin(dir, filesDir)); err != nil {
		return fmt.Errorf("snapshot: sync %s: %w", dir, err)
	}
	return d.writeManifest(dir, manifest)
}

// clear removes what was received, but for what is to stay.
func (d *Depot) clear(stays func(name string) bool) error {
	names, err := d.o.FS.List(d.path(incomingDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, name := range names {
		if !stays(name) {
			err = errors.Join(err, d.o.FS.RemoveAll(d.path(incomingDir, name)))
		}
	}
	if err != nil {
		return fmt.Errorf("snapshot: remove what was received before: %w", err)
	}
	return nil
}

// strip removes files that the snapshot does not have: an earlier try may have been at another member, whose checkpoint of the same entry
// has the same name and other files, and the engine takes for its own what lies in its directory.
func (d *Depot) strip(dir string, m *Manifest) error {
	names, err := d.o.FS.List(d.o.FS.PathJoin(dir, filesDir))
	for _, name := range names {
		if !slices.ContainsFunc(m.Files, func(f File) bool { return f.Name == name }) {
			err = errors.Join(err, d.o.FS.Remove(d.o.FS.PathJoin(dir, filesDir, name)))
		}
	}
	if err != nil {
		return fmt.Errorf("snapshot: remove what another member's snapshot left in %s: %w", dir, err)
	}
	return nil
}

// receiveFile makes a file whole and durable.
func (d *Depot) receiveFile(ctx context.Context, m *Manifest, want *File, fetch Fetch) error {
	path := d.path(incomingDir, m.Name, filesDir, want.Name)
	have, err := d.here(path, want)
	if err != nil || have < 0 {
		return err
	}
	if err := d.fetchFile(ctx, m, want, path, have, fetch); err != nil {
		return err
	}
	size, sum, err := d.sum(path)
	switch {
	case err != nil:
		return fmt.Errorf("snapshot: read back %s: %w", path, err)
	case size != want.Size || sum != want.Sum:
		_ = d.o.FS.Remove(path) // it would never become right
		return fmt.Errorf("snapshot: file %s arrived with %d bytes and checksum %08x where the manifest has %d and %08x", want.Name, size, sum, want.Size, want.Sum)
	}
	return nil
}

// here says how many bytes of a file have arrived: -1 when it is whole.
func (d *Depot) here(path string, want *File) (int64, error) {
	info, err := d.o.FS.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("snapshot: %w", err)
	case info.Size() < want.Size:
		return info.Size(), nil
	}
	if size, sum, err := d.sum(path); err == nil && size == want.Size && sum == want.Sum {
		return -1, d.settle(path)
	}
	if err := d.o.FS.Remove(path); err != nil {
		return 0, fmt.Errorf("snapshot: remove a damaged file: %w", err)
	}
	return 0, nil
}

// settle makes a file durable that is whole since an earlier time: the process that wrote it may have been killed before it had synced
// it, and then it is only in the memory of the kernel.
func (d *Depot) settle(path string) error {
	f, err := d.o.FS.OpenReadWrite(path, writes)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("snapshot: sync %s: %w", path, err)
	}
	return nil
}

// fetchFile appends what is missing of a file, and makes it durable.
func (d *Depot) fetchFile(ctx context.Context, m *Manifest, want *File, path string, have int64, fetch Fetch) (err error) {
	body, err := fetch(ctx, m.Name, want.Name, have)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	f, err := d.o.FS.OpenReadWrite(path, writes)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	at := have
	err = readChunks(body, func(chunk []byte) error {
		if at+int64(len(chunk)) > want.Size {
			return fmt.Errorf("snapshot: file %s has more than the %d bytes that the manifest says", want.Name, want.Size)
		}
		n, err := f.WriteAt(chunk, at)
		if at += int64(n); err != nil {
			return fmt.Errorf("snapshot: write %s: %w", path, err)
		}
		return nil
	})
	// What has arrived is kept, also when the rest has not; but not when it cannot be synced: a later sync may succeed without
	// writing what this one has lost.
	if syncing := f.Sync(); syncing != nil {
		_ = d.o.FS.Remove(path)
		err = errors.Join(err, fmt.Errorf("snapshot: sync %s: %w", path, syncing))
	}
	return err
}

// writeManifest says that everything in dir is whole.
func (d *Depot) writeManifest(dir string, manifest []byte) error {
	to := d.o.FS.PathJoin(dir, manifestTo)
	f, err := d.o.FS.Create(to+".new", writes)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	_, err = f.Write(bytes.Clone(manifest)) // a file may change what it is given; the caller's bytes are its own
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = errors.Join(d.o.FS.Rename(to+".new", to), disk.SyncDir(d.o.FS, dir))
	}
	if err != nil {
		return fmt.Errorf("snapshot: write %s: %w", to, err)
	}
	return nil
}

// Install makes it durable that the received snapshot at this position takes the place of the store at the next start.
func (d *Depot) Install(meta *raftpb.SnapshotMetadata) error {
	name := nameOf(ids.Index(meta.GetIndex()), ids.Term(meta.GetTerm()))
	from := d.path(incomingDir, name)
	if canary.On(canary.SnapshotGone) && len(d.announced) > 0 {
		// Whoever makes the newest durable removes the files of those announced before. There, one that waits for its installation is
		// hit when another follows; here raft's answers wait for the installation, so that none does, but for the same one again.
		for _, older := range d.announced[:len(d.announced)-1] {
			_ = d.o.FS.RemoveAll(d.path(incomingDir, older))
		}
	}
	if _, err := d.o.FS.Stat(d.o.FS.PathJoin(from, manifestTo)); err != nil {
		return fmt.Errorf("snapshot: %s is to be installed and was not received: %w", name, err)
	}
	err := d.o.FS.RemoveAll(d.path(installDir))
	if err == nil {
		err = d.o.FS.Rename(from, d.path(installDir))
	}
	// The new place first: a crash between the two must not leave it in neither.
	if err = errors.Join(err, disk.SyncDir(d.o.FS, d.o.Dir), disk.SyncDir(d.o.FS, d.path(incomingDir))); err != nil {
		return fmt.Errorf("snapshot: install %s: %w", name, err)
	}
	return nil
}

// Pending returns the manifest of the snapshot that is to take the place of the store in dir, nil when there is none.
func Pending(files vfs.FS, dir string) (*Manifest, error) {
	f, err := files.Open(files.PathJoin(dir, installDir, manifestTo))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, manifestBytes+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("snapshot: read the manifest to install: %w", err)
	}
	return decodeManifest(b)
}

// Swap puts the files of the pending snapshot in the place of the store. The log must already continue after the snapshot. It
// may be interrupted anywhere and repeated.
func Swap(files vfs.FS, dir, store string) error {
	install := files.PathJoin(dir, installDir)
	fresh, old := files.PathJoin(install, filesDir), store+".old"
	if _, err := files.Stat(fresh); err == nil { // else an earlier try came further
		if _, err := files.Stat(store); err == nil {
			if err := errors.Join(files.RemoveAll(old), files.Rename(store, old)); err != nil {
				return fmt.Errorf("snapshot: put the old store away: %w", err)
			}
		}
		if err := errors.Join(files.Rename(fresh, store), disk.SyncDir(files, files.PathDir(store)), disk.SyncDir(files, install)); err != nil {
			return fmt.Errorf("snapshot: put the new store in place: %w", err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("snapshot: %w", err)
	}
	if canary.On(canary.StoreBack) {
		// As if the defragmentation of the process that took the snapshot in had ended after it.
		if _, err := files.Stat(store + ".defragmented"); err == nil {
			_ = errors.Join(files.RemoveAll(store), files.Rename(store+".defragmented", store))
		}
	}
	// The manifest goes last: as long as it is there, all of this is repeated.
	if err := errors.Join(files.RemoveAll(old), files.Remove(files.PathJoin(install, manifestTo)), disk.SyncDir(files, install)); err != nil {
		return fmt.Errorf("snapshot: remove the old store: %w", err)
	}
	if err := errors.Join(files.RemoveAll(install), disk.SyncDir(files, dir)); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}
