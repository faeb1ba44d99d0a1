package mvcc

import (
	"sync/atomic"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/invariant"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// Store is the writer's side. Its methods are for the apply goroutine alone; View is for any.
type Store struct {
	disk      disk
	rev       ids.Revision
	compacted ids.Revision
	floor     *atomic.Int64 // see sight.floor; shared with every View

	data  *data
	table *table
	live  tree
	dead  tree
	work  keySet // of the unpublished changes; root follows live.root
	ring  ring
	pins  *pins

	garbage garbage

	stats Stats
	tx    Tx
	view  atomic.Pointer[View]
}

// disk is the engine as the writer uses it.
type disk struct {
	storage.Reader
	key    []byte // the engine key being written, kept for its memory
	cold   cold
	leased []keyID // keys that had a lease when the store was opened, until Leases
}

// Stats counts what a store holds.
type Stats struct {
	Keys          int64 // keys that have a value
	Revisions     int64 // records in the key bucket, tombstones included
	RetainedBytes int64 // their revision keys and values
	LiveBytes     int64 // revision keys and values of the current KeyValues
}

// ring holds the published key sets, oldest first, bounded by limits.IndexRoots and by ringBytes.
//
// A busy store of many keys replaces nodes by the megabyte with every set; with fewer sets more historical counts look at
// every key, with more sets the index would weigh more than the share of the data that ringShare allows.
type ring struct {
	sets  []*keySet
	bytes int // of nodes that the newest set does not use: what it and those between replaced
}

const (
	ringBytesMin = 1 << 20
	ringBytesMax = 32 << 20
	ringShare    = 32 // between these two, one part in so many of the live data
)

// ringBytes is how much memory may be in nodes that only past key sets need.
func ringBytes(live int64) int { return int(max(ringBytesMin, min(ringBytesMax, live/ringShare))) }

// push adds the newest set and cuts the chain behind the sets that are still to be kept within most bytes.
func (r *ring) push(k *keySet, most int) {
	if len(r.sets) > 0 {
		r.bytes += k.bytes
	}
	r.sets = append(r.sets, k)
	drop := 0
	for len(r.sets)-drop > limits.IndexRoots || (r.bytes > most && len(r.sets)-drop > 1) {
		r.sets[drop] = nil
		drop++
		r.bytes -= r.sets[drop].bytes
	}
	if drop > 0 {
		kept := copy(r.sets, r.sets[drop:])
		clear(r.sets[kept:])
		r.sets = r.sets[:kept]
		r.sets[0].older.Store(nil)
	}
}

// View returns the newest published view. Any goroutine may call it.
func (s *Store) View() *View { return s.view.Load() }

// Revision is the revision after the last Tx that was ended.
func (s *Store) Revision() ids.Revision { return s.rev }

// Compacted is the revision of the last compaction, -1 when there was none.
func (s *Store) Compacted() ids.Revision { return s.compacted }

// current returns the entry of key, 0 if there is none, and its newest version, nil if the key has no value.
func (s *Store) current(key []byte) (keyID, *version) {
	id := s.table.find(textOf(key))
	if id == 0 {
		return 0, nil
	}
	if v := s.data.head(s.data.entry(id)); v.live() {
		return id, v
	}
	return id, nil
}

// sight is the writer's own: all changes so far, at rev.
func (s *Store) sight(rev ids.Revision) sight {
	keys := &s.work
	if s.work.first == 0 {
		keys = s.work.older.Load()
	}
	return sight{data: s.data, era: s.data.eras.Now(), keys: keys, dead: s.dead.root, table: s.table, rev: rev, compacted: s.compacted,
		disk: s.disk.Reader, floor: s.floor}
}

// Publish makes a View of all changes so far and the one that View returns from now on. It must be called after the engine
// batch that holds them is committed and while no Tx is open.
func (s *Store) Publish() *View {
	invariant.Check(!s.tx.open, "view published while a Tx is open")
	for _, v := range s.garbage.superseded {
		s.data.drop(v)
	}
	s.garbage.superseded = emptied(s.garbage.superseded)
	if s.work.first != 0 || len(s.ring.sets) == 0 {
		s.publishKeys()
	}
	s.dead.seal()
	s.data.tidy()
	v := &View{sight: s.sight(s.rev), stats: s.stats}
	v.pins = s.pins
	s.view.Store(v)
	return v
}

// publishKeys makes the set of live keys immutable and adds it to the ring.
func (s *Store) publishKeys() {
	k := &keySet{root: s.live.root, first: s.work.first, last: s.work.last, bytes: s.live.copied}
	if n := len(s.ring.sets); n > 0 {
		k.older.Store(s.ring.sets[n-1])
		s.ring.sets[n-1].until.Store(int64(s.work.first))
	}
	s.live.seal()
	s.ring.push(k, ringBytes(s.stats.LiveBytes))
	s.work.first = 0
	s.work.older.Store(k)
}

// keysChanged notes that the set of live keys changes at revision main.
func (s *Store) keysChanged(main ids.Revision) {
	if s.work.first == 0 {
		s.work.first = main
	}
	s.work.last = main
	s.work.root = s.live.root
}

// write puts a version into the index and into the batch. e is the key's entry, 0 if it has none.
func (s *Store) write(b *storage.Batch, e keyID, id versionID, kv []byte) {
	v := s.data.version(id)
	key := wire.KeyOf(kv)
	s.disk.key = recordKey(s.disk.key[:0], textOf(key), v)
	b.Set(s.disk.key, kv)
	s.stats.Revisions++
	s.stats.RetainedBytes += v.size()
	s.index(e, id, v, key)
}

// index makes v the newest version of its key, moves the key between the sets, and notes what became garbage.
func (s *Store) index(e keyID, id versionID, v *version, key []byte) {
	var old *version
	if e == 0 {
		e = s.data.newEntry(key, id)
		s.table.insert(e, s.table.hash(textOf(key)))
	} else {
		at := s.data.entry(e)
		oldID := versionID(at.head.Load())
		old = s.data.version(oldID)
		s.data.push(at, id)
		if old.live() {
			s.stats.LiveBytes -= old.size()
			s.garbage.superseded = append(s.garbage.superseded, oldID)
			s.garbage.versions.push(grave{e, id})
		}
	}
	switch {
	case v.live() && !old.live():
		s.stats.Keys++
		if old != nil {
			s.dead.remove(e)
		}
		s.live.insert(e)
		s.keysChanged(v.main)
	case !v.live() && old.live():
		s.stats.Keys--
		s.live.remove(e)
		s.dead.insert(e)
		s.keysChanged(v.main)
	}
	if v.live() {
		s.stats.LiveBytes += v.size()
	} else {
		s.garbage.tombstones.push(grave{e, id})
	}
}
