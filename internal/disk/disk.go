// Package disk makes changes of directories durable: a file that was created, renamed or removed is so for certain only after its
// directory was synced.
//
// It is not a file system; it works on any that package vfs knows, so that tests can take the power at every operation.
package disk

import (
	"errors"
	"io/fs"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// SyncDir makes the entries of a directory durable.
func SyncDir(files vfs.FS, dir string) error {
	d, err := files.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// MakeDir creates dir and its missing parents, readable by this user alone, and syncs every directory that got a new entry. One
// that is there may be so only until the power fails: a process may have been killed between making it and syncing its parent.
// So the parent is synced all the same, where that is possible: it may be somebody else's.
func MakeDir(files vfs.FS, dir string) error {
	parent := files.PathDir(dir)
	if info, err := files.Stat(dir); err == nil && info.IsDir() {
		if err := SyncDir(files, parent); err != nil && !foreign(err) {
			return err
		}
		return nil
	}
	if parent != dir && parent != "." {
		if err := MakeDir(files, parent); err != nil {
			return err
		}
	}
	if err := files.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return SyncDir(files, parent)
}

// foreign reports whether a directory cannot be synced because of whose it is or what it is on.
func foreign(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EROFS)
}
