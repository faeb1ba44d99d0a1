package mvcc

import (
	"encoding/binary"
	"fmt"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/storage"
)

// Lengths of revision keys as etcd keeps them (source: etcd v3.7 server/storage/mvcc/revision.go): 8 bytes big-endian main,
// '_', 8 bytes big-endian sub, and a trailing 't' for a tombstone.
const (
	revisionBytes  = 17
	tombstoneBytes = 18
	tombstoneMark  = 't'
	separator      = '_'
)

// appendRevision appends a revision key.
func appendRevision(dst []byte, main ids.Revision, sub uint32, tombstone bool) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(main))
	dst = append(dst, separator)
	dst = binary.BigEndian.AppendUint64(dst, uint64(sub))
	if tombstone {
		dst = append(dst, tombstoneMark)
	}
	return dst
}

// recordKey is the engine key of a record: bucket 'k' and the revision key.
func recordKey(dst []byte, main ids.Revision, sub uint32, tombstone bool) []byte {
	return appendRevision(append(dst, storage.BucketKey), main, sub, tombstone)
}

// parseRevision reads a revision key. An error means that the bytes were not written by this package or by etcd.
func parseRevision(b []byte) (main ids.Revision, sub uint32, tombstone bool, err error) {
	tombstone = len(b) == tombstoneBytes && b[tombstoneBytes-1] == tombstoneMark
	if (len(b) != revisionBytes && !tombstone) || b[8] != separator {
		return 0, 0, false, fmt.Errorf("mvcc: %q is not a revision key: the store is damaged; restore it from a snapshot or another member", b)
	}
	m, s := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[9:])
	if m > 1<<63-1 || s > 1<<32-1 {
		return 0, 0, false, fmt.Errorf("mvcc: revision key %q holds %d_%d, which is out of range: the store is damaged; restore it from a snapshot or another member", b, m, s)
	}
	return ids.Revision(m), uint32(s), tombstone, nil
}

// Names in the meta bucket. Their values are revision keys with sub 0.
var (
	scheduledKey = storage.BucketKeyOf(storage.BucketMeta, []byte("scheduledCompactRev"))
	finishedKey  = storage.BucketKeyOf(storage.BucketMeta, []byte("finishedCompactRev"))
)

// never is the compacted revision of a store that was never compacted.
const never ids.Revision = -1

// compactions reads the revisions of the last scheduled and the last finished compaction, never when there is none.
func compactions(r storage.Reader) (scheduled, finished ids.Revision, err error) {
	if scheduled, err = metaRevision(r, scheduledKey); err != nil {
		return 0, 0, err
	}
	finished, err = metaRevision(r, finishedKey)
	return scheduled, finished, err
}

func metaRevision(r storage.Reader, key []byte) (ids.Revision, error) {
	v, ok, err := r.Get(key)
	if err != nil || !ok {
		return never, err
	}
	main, _, _, err := parseRevision(v)
	if err != nil {
		return never, fmt.Errorf("meta key %q: %w", key[1:], err)
	}
	return main, nil
}
