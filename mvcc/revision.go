package mvcc

import (
	"encoding/binary"
	"fmt"
	"math"

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

// The engine key of a record is bucket 'k', the revision key, and a tail that tells everything but the value, so that the
// index is rebuilt from keys alone: one byte, then for a live version the uvarints create_revision, version, lease and length
// of the value, then the user's key. A key above tailKeyMax is left out (keyInValue), to keep engine keys small. A mark (noKey) has
// nothing else: it is a revision at which nothing happened, which a restore puts far ahead of what clients have seen, with no value
// (source: etcd v3.7 etcdutl/snapshot, --bump-revision). It lies at or below the compacted revision, so nobody reads or watches it,
// and no compaction removes it.
const (
	keyInTail  = 'k'
	keyInValue = 'l'
	noKey      = 'n'
	tailKeyMax = 1 << 10
)

// recordBound is a bound for iterating: at or below the records of main and above all before it.
func recordBound(dst []byte, main ids.Revision) []byte {
	return appendRevision(append(dst, storage.BucketKey), main, 0, false)
}

// recordKey appends the engine key of a version of key.
func recordKey(dst []byte, key string, v *version) []byte {
	dst = appendRevision(append(dst, storage.BucketKey), v.main, v.sub, v.tombstone())
	kind := byte(keyInTail)
	if len(key) > tailKeyMax {
		kind, key = keyInValue, ""
	}
	dst = append(dst, kind)
	if !v.tombstone() {
		dst = binary.AppendUvarint(dst, uint64(v.create))
		dst = binary.AppendUvarint(dst, uint64(v.number))
		dst = binary.AppendUvarint(dst, uint64(v.lease))
		dst = binary.AppendUvarint(dst, uint64(v.n))
	}
	return append(dst, key...)
}

// recordOf is what the engine key of a record says.
type recordOf struct {
	change
	create ids.Revision
	number int64
	lease  ids.LeaseID
	size   int    // of the value; 0 for a tombstone
	mark   bool   // of a revision alone: there is no key
	key    []byte // nil when only the value has it
}

// parseRecord reads an engine key without its bucket byte. r.key aliases b. An error means that the bytes were not written
// by this package.
func parseRecord(b []byte) (r recordOf, err error) {
	rest := storage.RevisionKey(b)
	if r.main, r.sub, r.tombstone, err = parseRevision(rest); err != nil {
		return r, err
	}
	rest = b[len(rest):]
	if len(rest) == 1 && rest[0] == noKey && !r.tombstone {
		r.mark = true
		return r, nil
	}
	if len(rest) == 0 || rest[0] != keyInTail && rest[0] != keyInValue {
		return r, damagedTail(r, b)
	}
	inTail := rest[0] == keyInTail
	rest = rest[1:]
	if !r.tombstone {
		var fields [4]uint64
		for i := range fields {
			x, n := binary.Uvarint(rest)
			if n <= 0 {
				return r, damagedTail(r, b)
			}
			fields[i], rest = x, rest[n:]
		}
		r.create, r.number, r.lease, r.size = ids.Revision(fields[0]), int64(fields[1]), ids.LeaseID(fields[2]), int(fields[3])
		if r.create <= 0 || r.create > r.main || r.number <= 0 || fields[3] > math.MaxInt32 {
			return r, damagedTail(r, b)
		}
	}
	if inTail != (len(rest) > 0) || len(rest) > tailKeyMax {
		return r, damagedTail(r, b)
	}
	if inTail {
		r.key = rest
	}
	return r, nil
}

func damagedTail(r recordOf, b []byte) error {
	return fmt.Errorf("mvcc: the record of revision %d_%d has a key that contradicts itself (%q): the store is damaged; restore it from a snapshot or another member", r.main, r.sub, b)
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
