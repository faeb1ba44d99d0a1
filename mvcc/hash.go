package mvcc

import (
	"hash/crc32"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// Hash is the answer of HashKV.
type Hash struct {
	Hash      uint32       // CRC-32C
	Compacted ids.Revision // the compaction that the hash knows of, -1 for none
	Revision  ids.Revision // the hash covers records up to this revision
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// bucketName is what etcd hashes before the first record.
const bucketName = "key"

// HashKV hashes the records up to upper, 0 meaning the current revision, as etcd does (source: etcd v3.7
// server/storage/mvcc/{hash,kvstore}.go): CRC-32C over the bucket name, then revision key and value of each record. Of the
// records up to the compacted revision it takes those that are current at upper; if no key has a value at upper, those that
// were current at the compacted revision. Tombstones at or below the compacted revision are left out. So the result does
// not depend on how far the removal of compacted records has come.
//
// r must not change meanwhile (storage.Frozen). Memory: some 100 bytes per key with a record up to upper, when the store
// was ever compacted. Errors: fault.Compacted, fault.FutureRev, failures and damage of the disk.
func HashKV(r storage.Reader, upper ids.Revision) (Hash, error) {
	scheduled, finished, err := compactions(r)
	if err != nil {
		return Hash{}, err
	}
	last, err := lastRevision(r)
	if err != nil {
		return Hash{}, err
	}
	return hashAt(stored{r}, max(scheduled, finished), last, upper)
}

// hashAt is HashKV of records whose last revision is known.
func hashAt(src records, compacted, last, upper ids.Revision) (Hash, error) {
	current := max(last, compacted)
	switch {
	case upper > 0 && upper < compacted:
		return Hash{}, fault.Compacted
	case upper > current:
		return Hash{}, fault.FutureRev
	case upper == 0:
		upper = current
	}
	return hashRecords(src, compacted, upper, false)
}

// HashOf hashes what a compaction at upper sees before it removes anything, prevCompacted being the compaction before it
// (-1 for none): the value that etcd keeps for later HashKV requests at that revision. r is the state before the first
// Scrub of this compaction and after the last of the previous one.
func HashOf(r storage.Reader, prevCompacted, upper ids.Revision) (Hash, error) {
	return hashRecords(stored{r}, prevCompacted, upper, true)
}

// lastRevision is the largest main revision of any record, 1 when there is none.
func lastRevision(r storage.Reader) (ids.Revision, error) {
	it, err := r.Iter(storage.BucketBounds(storage.BucketKey))
	if err != nil {
		return 0, err
	}
	last := ids.Revision(1)
	if it.Last() {
		last, _, _, err = parseRevision(storage.RevisionKey(it.Key()[1:]))
	}
	if closing := it.Close(); err == nil {
		err = closing
	}
	return last, err
}

// change is the newest change of a key within some bound.
type change struct {
	main      ids.Revision
	sub       uint32
	tombstone bool
}

// keep holds the newest change of every key up to a revision.
type keep struct {
	newest map[string]change
	values int // keys whose newest change is no tombstone
	graves int // keys whose newest change is a tombstone exactly at the revision
}

func newestUpTo(src records, upper ids.Revision) (keep, error) {
	k := keep{newest: map[string]change{}}
	err := src.each(upper, func(r record) {
		k.newest[string(r.userKey())] = r.what()
	})
	for _, c := range k.newest {
		switch {
		case !c.tombstone:
			k.values++
		case c.main == upper:
			k.graves++
		}
	}
	return k, err
}

func (k *keep) holds(key []byte, c change) bool { return k.newest[string(key)] == c }

// records are those of a key bucket, wherever it lies.
type records interface {
	// each calls f for every record up to a revision, in revision order. The argument is valid during the call.
	each(upper ids.Revision, f func(record)) error
}

// record is one of them. Values are read only when they are asked for.
type record interface {
	what() change
	revisionKey() []byte
	userKey() []byte
	value() []byte
}

// userKey is the key of the record that it is at.
func (r *recordOf) userKey(it *storage.Iter) []byte {
	if r.key != nil {
		return r.key
	}
	return wire.KeyOf(it.Value())
}

// hashRecords hashes the records up to upper for a compaction at compacted. A compaction's own hash counts a tombstone at
// upper as kept, a request's does not; that matters when nothing else is kept.
func hashRecords(src records, compacted, upper ids.Revision, compaction bool) (Hash, error) {
	var k keep
	var err error
	if compacted > never {
		if k, err = newestUpTo(src, upper); err == nil && k.values == 0 && (!compaction || k.graves == 0) {
			k, err = newestUpTo(src, min(compacted, upper))
		}
		if err != nil {
			return Hash{}, err
		}
	}
	sum := crc32.Checksum([]byte(bucketName), castagnoli)
	err = src.each(upper, func(r record) {
		if c := r.what(); c.main <= compacted && (c.tombstone || !k.holds(r.userKey(), c)) {
			return
		}
		sum = crc32.Update(sum, castagnoli, r.revisionKey())
		sum = crc32.Update(sum, castagnoli, r.value())
	})
	return Hash{Hash: sum, Compacted: compacted, Revision: upper}, err
}

// stored are the records of an engine.
type stored struct{ r storage.Reader }

// storedRecord is one of them, where an iterator is.
type storedRecord struct {
	it  *storage.Iter
	rec recordOf
}

func (r *storedRecord) what() change        { return r.rec.change }
func (r *storedRecord) revisionKey() []byte { return storage.RevisionKey(r.it.Key()[1:]) }
func (r *storedRecord) userKey() []byte     { return r.rec.userKey(r.it) }
func (r *storedRecord) value() []byte       { return r.it.Value() }

func (s stored) each(upper ids.Revision, f func(record)) error {
	it, err := s.r.Iter(storage.BucketBounds(storage.BucketKey))
	if err != nil {
		return err
	}
	at := &storedRecord{it: it}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		if at.rec, err = parseRecord(it.Key()[1:]); err != nil || at.rec.main > upper {
			break
		}
		f(at)
	}
	if failed := it.Err(); failed != nil {
		err = failed
	}
	if closing := it.Close(); err == nil {
		err = closing
	}
	return err
}
