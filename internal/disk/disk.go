// Package disk makes changes of directories durable: a file that was created, renamed or removed is so for certain only after its
// directory was synced.
//
// It is not a file system; it works on any that package vfs knows, so that tests can take the power at every operation.
package disk

import (
	"errors"

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

// MakeDir creates dir and its missing parents, readable by this user alone, and syncs every directory that got a new entry.
func MakeDir(files vfs.FS, dir string) error {
	if _, err := files.Stat(dir); err == nil {
		return nil
	}
	parent := files.PathDir(dir)
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
