package storage

import (
	"fmt"
	"strconv"
)

// Buckets: the first byte of every key says what it is. They mirror the buckets of etcd's db file, and what follows the
// byte and the values are the bytes that etcd keeps there, so that writing such a file is a copy (see docs/format/store.md).
//
// Only BucketKey is large. Its keys are written in ascending order, so its files do not overlap and are moved down the
// levels without being rewritten, provided that what every flush writes besides (the mark) sorts after it.
const (
	BucketKey       byte = 'k' // revision key (17 or 18 bytes) and what the index needs -> mvccpb.KeyValue
	BucketMeta      byte = 'm' // name -> value, etcd's bucket "meta" except the applied mark
	BucketLease     byte = 'l' // 8 bytes big-endian lease id -> leasepb.Lease
	BucketAlarm     byte = 'a' // AlarmMember bytes -> empty
	BucketCluster   byte = 'c' // clusterVersion, downgrade
	BucketMembers   byte = 'M' // hexadecimal member id -> JSON
	BucketRemoved   byte = 'R' // hexadecimal member id -> "removed"
	BucketAuth      byte = 'A' // authEnabled, authRevision
	BucketAuthUsers byte = 'U' // user name -> authpb.User
	BucketAuthRoles byte = 'O' // role name -> authpb.Role
	BucketV2        byte = 'v' // the v2 tree: see package v2store; not in etcd's file

	// bucketEngine is the engine's own and sorts after all others. Readers do not see it.
	bucketEngine byte = 'z'
)

// Lengths of etcd's revision keys (source: etcd v3.7 server/storage/mvcc/revision.go): main, '_', sub, and a 't' for a
// deletion.
const (
	revisionKeyBytes  = 17
	tombstoneKeyBytes = 18
)

// RevisionKey returns the part of a key of BucketKey, without its bucket byte, that etcd has in its bucket "key". What
// follows it is for the index alone. A key that is too short is returned as it is.
func RevisionKey(key []byte) []byte {
	switch {
	case len(key) >= tombstoneKeyBytes && key[revisionKeyBytes] == 't':
		return key[:tombstoneKeyBytes]
	case len(key) > revisionKeyBytes:
		return key[:revisionKeyBytes]
	}
	return key
}

// formatVersion is what this release writes. Version 2: buckets and mark as above. Version 1 had revision keys alone in
// BucketKey; no release wrote it.
const formatVersion = "2"

var (
	formatKey  = []byte{bucketEngine, 'f'}
	markKey    = []byte{bucketEngine, 'm'}
	markKeyEnd = []byte{bucketEngine, 'm', 0}
	endOfUser  = []byte{bucketEngine}
)

// BucketKeyOf returns the engine key of key in the bucket, in new memory.
func BucketKeyOf(bucket byte, key []byte) []byte {
	k := make([]byte, 1+len(key))
	k[0] = bucket
	copy(k[1:], key)
	return k
}

// BucketBounds returns the bounds of all keys of the bucket, for Iter.
func BucketBounds(bucket byte) (lower, upper []byte) {
	return []byte{bucket}, []byte{bucket + 1}
}

func checkFormat(dir string, v []byte) error {
	n, err := strconv.Atoi(string(v))
	if err != nil || n < 1 {
		return fmt.Errorf("storage: %s has format version %q, which is no version: the store is damaged; restore it from a snapshot or another member", dir, v)
	}
	if n == 1 {
		return fmt.Errorf("storage: %s has format version 1, which only development builds before the first release wrote; this release reads version %s: start with an empty data directory, or restore a snapshot that the old build saved", dir, formatVersion)
	}
	if known, _ := strconv.Atoi(formatVersion); n > known {
		return fmt.Errorf("storage: %s has format version %d and this release reads versions up to %d: a newer release wrote it; start that release", dir, n, known)
	}
	return nil
}
