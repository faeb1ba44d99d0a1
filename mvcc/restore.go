package mvcc

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// Open rebuilds the store from its records, reading the key bucket once in revision order, and publishes the first View. A
// compaction that was scheduled and not finished goes on with the next Scrub. It fails when the disk does, or with a
// message that names the record when the records contradict each other.
func Open(r storage.Reader) (*Store, error) {
	s := &Store{disk: r, rev: 1, floor: new(atomic.Int64), table: newTable(), pins: new(pins), live: newTree(), dead: newTree()}
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
	s.rev = max(s.rev, s.compacted)
	s.work.root = s.live.root
	// The key set is exact from the last change that is still known, which is at most the current revision.
	s.work.last = s.rev
	s.Publish()
	return s, nil
}

// load reads every record. The index is changed as if the records were written now, but for the two trees, which are built
// at once when all keys are known.
func (s *Store) load(r storage.Reader) error {
	it, err := r.Iter(storage.BucketBounds(storage.BucketKey))
	if err != nil {
		return err
	}
	l := loader{s: s}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		err = l.add(it.Key()[1:], it.Value())
	}
	if failed := it.Err(); failed != nil {
		err = failed
	}
	if closing := it.Close(); err == nil {
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
	entries []*entry
}

func (l *loader) add(key, value []byte) error {
	main, sub, tombstone, err := parseRevision(key)
	if err != nil {
		return err
	}
	var kv wire.KeyValue
	if err := kv.Unmarshal(value); err != nil || len(kv.Key) == 0 {
		return fmt.Errorf("mvcc: the record of revision %d_%d is no key-value (%v): the store is damaged; restore it from a snapshot or another member", main, sub, err)
	}
	if !tombstone && (kv.ModRevision != int64(main) || kv.Version <= 0) {
		return fmt.Errorf("mvcc: the record of revision %d_%d says mod_revision %d and version %d: the store is damaged; restore it from a snapshot or another member", main, sub, kv.ModRevision, kv.Version)
	}
	v := &version{sub: sub, main: main, create: ids.Revision(kv.CreateRevision), number: kv.Version}
	v.kv.n = uint32(len(value))
	if tombstone {
		v.create, v.number = 0, 0
	} else {
		v.kv.set(append(make([]byte, 0, len(value)), value...))
	}
	l.index(&kv, v)
	return nil
}

// index is Store.index without the trees.
func (l *loader) index(kv *wire.KeyValue, v *version) {
	s := l.s
	s.rev = v.main
	s.stats.Revisions++
	s.stats.RetainedBytes += v.size()
	e := s.table.find(textOf(kv.Key))
	if e == nil {
		e = &entry{key: string(kv.Key)}
		e.push(v)
		s.table.insert(e)
		l.entries = append(l.entries, e)
	} else {
		old := e.head.Load()
		e.push(v)
		if old.live() {
			old.kv.drop()
			s.garbage.versions.push(v)
		}
	}
	if v.tombstone() {
		s.garbage.tombstones.push(grave{e, v})
	}
}

func (l *loader) finish() {
	slices.SortFunc(l.entries, func(a, b *entry) int { return strings.Compare(a.key, b.key) })
	var live, dead []*entry
	for _, e := range l.entries {
		if v := e.head.Load(); v.live() {
			live = append(live, e)
			l.s.stats.LiveBytes += v.size()
		} else {
			dead = append(dead, e)
		}
	}
	l.s.stats.Keys = int64(len(live))
	l.s.live.build(live)
	l.s.dead.build(dead)
}

// Leases calls f for every key that has a lease, in key order, so that a lease table can be filled after Open. The key is
// valid until the store is gone.
func (s *Store) Leases(f func(id ids.LeaseID, key []byte)) {
	var c cursor
	c.seek(s.live.root, "")
	for e := c.next(); e != nil; e = c.next() {
		if id := wire.LeaseOf(e.head.Load().kv.get()); id != 0 {
			f(ids.LeaseID(id), bytesOf(e.key))
		}
	}
}
