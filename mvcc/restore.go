package mvcc

import (
	"bytes"
	"fmt"
	"sync/atomic"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// Open rebuilds the store from the keys of its records, going over the key bucket once in revision order, and publishes the
// first View. Values stay on disk until they are asked for or Warm fetches them. A compaction that was scheduled and not
// finished goes on with the next Scrub. It fails when the disk does, or with a message that names the record when the records
// contradict each other.
func Open(r storage.Reader) (*Store, error) {
	d := newData()
	s := &Store{disk: disk{Reader: r}, rev: 1, floor: new(atomic.Int64), data: d, table: newTable(d), pins: new(pins), live: newTree(d), dead: newTree(d)}
	scheduled, finished, err := compactions(r)
	if err != nil {
		return nil, err
	}
	s.compacted = max(scheduled, finished)
	s.garbage.pending = scheduled > finished
	s.floor.Store(int64(s.compacted))
	if err := s.load(r); err != nil {
		return nil, err
	}
	if !canary.On(canary.RevisionBack) {
		s.rev = max(s.rev, s.compacted)
	}
	s.work.root = s.live.root
	// The key set is exact from the last change that is still known, which is at most the current revision.
	s.work.last = s.rev
	s.disk.cold = cold{end: s.rev, done: s.stats.Keys == 0}
	s.Publish()
	return s, nil
}

// load reads the key of every record. The index is changed as if the records were written now, but for the two trees, which are built
// at once when all keys are known.
func (s *Store) load(r storage.Reader) error {
	keys, err := r.Keys(storage.BucketBounds(storage.BucketKey))
	if err != nil {
		return err
	}
	l := loader{s: s}
	for err == nil && keys.Next() {
		err = l.add(keys.Key())
	}
	if closing := keys.Close(); err == nil {
		err = closing
	}
	if err == nil {
		l.finish()
	}
	return err
}

// loader takes records in revision order.
type loader struct {
	s       *Store
	entries []keyID
}

func (l *loader) add(engineKey []byte) error {
	rec, err := parseRecord(engineKey[1:])
	if err != nil {
		return err
	}
	key := rec.key
	switch {
	case rec.mark:
		return l.mark(&rec)
	case key == nil:
		value, _, err := l.s.disk.Get(engineKey)
		if err != nil {
			return err
		}
		if err := checkRecord(&rec, value); err != nil {
			return err
		}
		key, rec.size = wire.KeyOf(value), len(value)
	case rec.tombstone:
		only := wire.KeyValue{Key: key}
		rec.size = only.Size()
	}
	l.index(key, &rec)
	return nil
}

// mark takes a revision at which nothing happened.
func (l *loader) mark(rec *recordOf) error {
	if rec.main > l.s.compacted {
		return fmt.Errorf("mvcc: the mark of revision %d is above the compacted revision %d: the store is damaged; restore it from a snapshot or another member", rec.main, l.s.compacted)
	}
	l.s.rev = rec.main
	return nil
}

// checkRecord compares a record's value with what its engine key says.
func checkRecord(rec *recordOf, value []byte) error {
	var kv wire.KeyValue
	if err := kv.Unmarshal(value); err != nil || len(kv.Key) == 0 {
		return fmt.Errorf("mvcc: the record of revision %d_%d is no key-value (%v): the store is damaged; restore it from a snapshot or another member", rec.main, rec.sub, err)
	}
	if rec.key != nil && !bytes.Equal(kv.Key, rec.key) {
		return fmt.Errorf("mvcc: the record of revision %d_%d is of key %q and holds key %q: the store is damaged; restore it from a snapshot or another member", rec.main, rec.sub, rec.key, kv.Key)
	}
	if !rec.tombstone && (len(value) != rec.size || kv.ModRevision != int64(rec.main) || kv.CreateRevision != int64(rec.create) || kv.Version != rec.number || kv.Lease != int64(rec.lease)) {
		return fmt.Errorf("mvcc: the record of revision %d_%d says create_revision %d, mod_revision %d, version %d, lease %d in %d bytes, and its key create_revision %d, version %d, lease %d in %d bytes: the store is damaged; restore it from a snapshot or another member",
			rec.main, rec.sub, kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease, len(value), rec.create, rec.number, int64(rec.lease), rec.size)
	}
	return nil
}

// index is Store.index without the trees.
func (l *loader) index(key []byte, rec *recordOf) {
	s := l.s
	id := s.data.newBare(rec)
	v := s.data.version(id)
	s.rev = v.main
	s.stats.Revisions++
	s.stats.RetainedBytes += v.size()
	h := s.table.hash(textOf(key))
	e := s.table.lookup(textOf(key), h)
	first := e == 0
	if first {
		e = s.data.newEntry(key, id)
		s.table.insert(e, h)
		l.entries = append(l.entries, e)
	} else {
		at := s.data.entry(e)
		if s.data.head(at).live() {
			s.garbage.versions.push(grave{e, id})
		}
		s.data.push(at, id)
	}
	if canary.On(canary.GraveForgotten) && first && v.tombstone() && v.main == s.compacted {
		s.garbage.forgotten = v.main
	}
	if v.tombstone() {
		s.garbage.tombstones.push(grave{e, id})
	}
}

func (l *loader) finish() {
	l.s.data.sort(l.entries)
	var live, dead []keyID
	for _, id := range l.entries {
		if v := l.s.data.head(l.s.data.entry(id)); v.live() {
			live = append(live, id)
			l.s.stats.LiveBytes += v.size()
			if v.lease != 0 {
				l.s.disk.leased = append(l.s.disk.leased, id)
			}
		} else {
			dead = append(dead, id)
		}
	}
	l.s.stats.Keys = int64(len(live))
	l.s.live.build(live)
	l.s.dead.build(dead)
}

// Leases calls f once for every key that had a lease at Open, in key order, so that a lease table can be filled then. The key
// is valid until the store is gone. A second call finds none.
func (s *Store) Leases(f func(id ids.LeaseID, key []byte)) {
	for _, id := range s.disk.leased {
		e := s.data.entry(id)
		f(s.data.head(e).lease, bytesOf(s.data.key(e)))
	}
	s.disk.leased = nil
}

// cold says what Warm has still to look at: the records of revisions from next to end, which were on disk at Open.
type cold struct {
	next, end ids.Revision
	done      bool
}

// warmBytes bounds one step of Warm besides its number of records.
const warmBytes = 256 << 10

// Warming says whether Warm may have values to fetch.
func (s *Store) Warming() bool { return !s.disk.cold.done }

// Warm fetches the values of current versions that a restart left on disk, looking at no more than max records, and says
// whether there may be more. Readers need not wait for it: what is not in memory yet they read themselves. It writes nothing.
// No Tx may be open. Errors are failures of the disk, or name a damaged record.
func (s *Store) Warm(max int) (more bool, err error) {
	c := &s.disk.cold
	if c.done {
		return false, nil
	}
	var low, high [1 + tombstoneBytes]byte
	it, err := s.disk.Iter(recordBound(low[:0], c.next), recordBound(high[:0], c.end+1))
	if err != nil {
		return false, err
	}
	more, err = s.warm(it, max)
	if closing := it.Close(); err == nil {
		err = closing
	}
	c.done = !more
	return more && err == nil, err
}

func (s *Store) warm(it *storage.Iter, max int) (more bool, err error) {
	bytes := 0
	for ok := it.First(); ok; ok = it.Next() {
		rec, err := parseRecord(it.Key()[1:])
		if err != nil {
			return false, err
		}
		// Revisions are never divided, so that the next step knows where to begin.
		if rec.sub == 0 && (max <= 0 || bytes >= warmBytes) {
			s.disk.cold.next = rec.main
			return true, nil
		}
		max--
		if rec.tombstone || rec.mark {
			continue
		}
		v := s.awaiting(&rec, it)
		if v == 0 {
			continue
		}
		value := it.Value()
		if err := it.Err(); err != nil {
			return false, err
		}
		if err := checkRecord(&rec, value); err != nil {
			return false, err
		}
		s.data.hold(v, value)
		bytes += len(value)
	}
	return false, it.Err()
}

// awaiting returns the version that a record belongs to if it is current and its value is not in memory, else 0.
func (s *Store) awaiting(rec *recordOf, it *storage.Iter) versionID {
	e := s.table.find(textOf(rec.userKey(it)))
	if e == 0 {
		return 0
	}
	id := versionID(s.data.entry(e).head.Load())
	if v := s.data.version(id); v.main == rec.main && v.sub == rec.sub && v.ref.Load() == 0 {
		return id
	}
	return 0
}
