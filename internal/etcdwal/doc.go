// Package etcdwal reads and writes the raft log of etcd: the segment files of its directory "wal", and the .snap files beside
// its db.
//
// It is not the log of this store (package wal), it does not interpret what entries hold, and it repairs nothing: the files of
// a directory that is read are never changed. Formats: etcd's server/storage/wal and server/etcdserver/api/snap, since 2.0.
//
// Data passes as values, one entry at a time. Open lists the segments; Survey reads all of them once and remembers what spans
// the log (who it belongs to, the last hard state, terms, which entries were overwritten later); Entries reads them again and
// hands out those that count. Memory is that of one record, besides a few numbers for every change of term.
//
// Invariants: no number in a file is trusted before it was compared with the file's size; every record of the log is compared with
// the checksum that rolls on from the record before, across segments; what is not a sound log is a *DamageError that names file
// and offset. Only the last segment may end in a torn record, and only in one that has a sector of zeros, which nothing but an
// interrupted write leaves: that one is left out, and Survey says so.
package etcdwal

import (
	"errors"
	"fmt"
)

// DamageError says that a file is not what etcd wrote.
type DamageError struct {
	File   string
	Offset int64 // bytes
	Reason string
}

// Error names file and offset.
func (e *DamageError) Error() string {
	return fmt.Sprintf("etcdwal: %s is damaged at offset %d: %s", e.File, e.Offset, e.Reason)
}

// ErrLocked is wrapped by the errors about files that a running etcd holds.
var ErrLocked = errors.New("the file is locked by a running process")
