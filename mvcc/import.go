package mvcc

import (
	"bytes"
	"errors"
	"fmt"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// Importer turns the pairs of etcd's bucket "key" into records of this store. It is for one goroutine, and its memory does not
// depend on how many pairs there are.
type Importer struct {
	last    ids.Revision
	mark    ids.Revision // the last one
	records int64
	scratch []byte
}

// Last is the largest main revision so far, 0 when there is none.
func (m *Importer) Last() ids.Revision { return m.last }

// Records is how many pairs were added.
func (m *Importer) Records() int64 { return m.records }

// Add writes the record of one pair, given in revision order, to the batch. A pair that etcd does not write is refused with
// the reason: its bytes would have to change, and with them what HashKV answers.
func (m *Importer) Add(b *storage.Batch, key, value []byte) error {
	rec, err := importable(key, value)
	if err != nil {
		return err
	}
	user := rec.key
	var engineKey []byte
	if rec.mark {
		engineKey, m.mark = appendMark(m.scratch[:0], rec.main), rec.main
	} else {
		v := version{main: rec.main, sub: rec.sub, create: rec.create, number: rec.number, lease: rec.lease, n: uint32(len(value))}
		engineKey = recordKey(m.scratch[:0], string(user), &v)
	}
	m.scratch = engineKey
	b.Set(engineKey, value)
	m.last = max(m.last, rec.main)
	m.records++
	return nil
}

// Check compares what was added with the compacted revision, the larger of the two in etcd's bucket "meta", 0 for none.
func (m *Importer) Check(compacted ids.Revision) error {
	if m.mark > compacted {
		return fmt.Errorf("the record of revision %d_0 is empty, as one is that a restore with a bumped revision leaves, but the store was compacted at revision %d only", m.mark, compacted)
	}
	return nil
}

// AddMark writes a revision at which nothing happened, which becomes the newest, and makes everything before it compacted.
func (m *Importer) AddMark(b *storage.Batch, at ids.Revision) {
	b.Set(appendMark(nil, at), nil)
	b.Set(scheduledKey, appendRevision(nil, at, 0, false))
	m.last = at
}

// appendMark appends the engine key of a mark.
func appendMark(dst []byte, at ids.Revision) []byte {
	return append(appendRevision(append(dst, storage.BucketKey), at, 0, false), noKey)
}

// importable reads a pair of etcd's bucket "key" and checks that it is one.
func importable(key, value []byte) (rec recordOf, err error) {
	if rec.main, rec.sub, rec.tombstone, err = etcdRevision(key); err != nil {
		return rec, err
	}
	if len(value) == 0 && !rec.tombstone && rec.sub == 0 {
		rec.mark = true
		return rec, nil
	}
	var kv wire.KeyValue
	if err := kv.Unmarshal(value); err != nil {
		return rec, fmt.Errorf("the record of revision %d_%d is no key-value: %w", rec.main, rec.sub, err)
	}
	rec.key, rec.create, rec.number, rec.lease = kv.Key, ids.Revision(kv.CreateRevision), kv.Version, ids.LeaseID(kv.Lease)
	switch {
	case len(kv.Key) == 0:
		return rec, fmt.Errorf("the record of revision %d_%d has an empty key", rec.main, rec.sub)
	case !bytes.Equal(kv.Append(nil), value):
		return rec, fmt.Errorf("the record of revision %d_%d, key %q, is not encoded as etcd does", rec.main, rec.sub, kv.Key)
	case rec.tombstone && (kv.CreateRevision != 0 || kv.ModRevision != 0 || kv.Version != 0 || kv.Lease != 0 || len(kv.Value) != 0):
		return rec, fmt.Errorf("the deletion of key %q at revision %d_%d holds more than the key", kv.Key, rec.main, rec.sub)
	case !rec.tombstone && (kv.ModRevision != int64(rec.main) || kv.CreateRevision <= 0 || kv.CreateRevision > kv.ModRevision || kv.Version <= 0):
		return rec, fmt.Errorf("the record of revision %d_%d, key %q, says create_revision %d, mod_revision %d, version %d", rec.main, rec.sub, kv.Key, kv.CreateRevision, kv.ModRevision, kv.Version)
	}
	return rec, nil
}

func etcdRevision(key []byte) (main ids.Revision, sub uint32, tombstone bool, err error) {
	if len(key) != revisionBytes && len(key) != tombstoneBytes {
		return 0, 0, false, fmt.Errorf("%q is no revision", key)
	}
	if main, sub, tombstone, err = parseRevision(key); err != nil {
		return 0, 0, false, fmt.Errorf("%q is no revision", key)
	}
	return main, sub, tombstone, nil
}

// EtcdRevision reads a key of etcd's bucket "key".
func EtcdRevision(key []byte) (main ids.Revision, tombstone bool, err error) {
	main, _, tombstone, err = etcdRevision(key)
	return main, tombstone, err
}

// Pairs walks over the pairs of etcd's bucket "key", in revision order, until visit returns an error, which it returns. What
// visit gets is valid during the call.
type Pairs func(visit func(key, value []byte) error) error

// HashPairs is HashKV of a file of etcd. The other arguments are the values of scheduledCompactRev and finishedCompactRev in
// its bucket "meta", nil for none, and the revision. It goes over the pairs up to three times.
func HashPairs(pairs Pairs, scheduled, finished []byte, upper ids.Revision) (Hash, error) {
	compacted := never
	for _, b := range [][]byte{scheduled, finished} {
		if len(b) == 0 {
			continue
		}
		main, _, _, err := etcdRevision(b)
		if err != nil {
			return Hash{}, fmt.Errorf("the revision of a compaction: %w", err)
		}
		compacted = max(compacted, main)
	}
	last := ids.Revision(1)
	err := pairs(func(key, _ []byte) error {
		main, _, _, err := etcdRevision(key)
		last = max(last, main)
		return err
	})
	if err != nil {
		return Hash{}, err
	}
	return hashAt(filed{pairs}, compacted, last, upper)
}

// filed are the records of a file of etcd.
type filed struct{ pairs Pairs }

// filedRecord is one of them.
type filedRecord struct {
	change
	key, val, user []byte
}

func (r *filedRecord) what() change        { return r.change }
func (r *filedRecord) revisionKey() []byte { return r.key }
func (r *filedRecord) userKey() []byte     { return r.user }
func (r *filedRecord) value() []byte       { return r.val }

// errEnough ends a walk.
var errEnough = errors.New("mvcc: enough")

func (s filed) each(upper ids.Revision, f func(record)) error {
	var r filedRecord
	err := s.pairs(func(key, value []byte) (err error) {
		if r.main, r.sub, r.tombstone, err = etcdRevision(key); err != nil {
			return err
		}
		if r.main > upper {
			return errEnough
		}
		var kv wire.KeyValue // damage must not be read as a key
		if err := kv.Unmarshal(value); err != nil {
			return fmt.Errorf("the record of revision %d_%d is no key-value: %w", r.main, r.sub, err)
		}
		r.key, r.val, r.user = key, value, kv.Key
		f(&r)
		return nil
	})
	if err == errEnough {
		return nil
	}
	return err
}
