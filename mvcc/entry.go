package mvcc

import (
	"sync/atomic"
	"unsafe"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/arena"
	"quorate.dev/quorate/wire"
)

// A keyID names an entry and a versionID a version in data; 0 names none. They are not pointers so that the garbage
// collector finds nothing to follow in a store of millions of keys.
type (
	keyID     uint32
	versionID uint32
)

// version is one change of one key. All but ref, prev and what the writer notes for itself is fixed before any reader can
// see it.
type version struct {
	// ref is where the wire form of the KeyValue is in data.values, 0 when it is on disk alone: a superseded version loses
	// its bytes for good; a current one whose bytes were left on disk at a restart gets them once (Store.Warm).
	ref    atomic.Uint64
	main   ids.Revision
	number int64 // KeyValue.version; 0 for a tombstone
	// prev is the next older version. The writer cuts it when nothing at or above the compacted revision can need what is
	// behind it.
	prev   atomic.Uint32
	n      uint32 // length of the wire form, bytes
	sub    uint32
	gone   fate // the writer's
	create ids.Revision
	lease  ids.LeaseID
}

// fate says what has become of a tombstone that is leaving: its slot is free when both have happened.
type fate uint32

const (
	erased fate = 1 << iota // its record was removed
	cutOff                  // no chain leads to it
)

func (v *version) tombstone() bool { return v.number == 0 }

// live says whether v, which may be nil, is a version with a value.
func (v *version) live() bool { return v != nil && v.number != 0 }

// size is what the record takes in the key bucket: revision key and value, in bytes.
func (v *version) size() int64 {
	if v.tombstone() {
		return tombstoneBytes + int64(v.n)
	}
	return revisionBytes + int64(v.n)
}

// entry is one key with its versions, newest first.
//
// Invariants: there is a newest version; main and sub decrease strictly along prev; two tombstones are never neighbours.
type entry struct {
	key  atomic.Uint64 // where the key is in data.keys
	n    uint32        // its length, bytes
	head atomic.Uint32 // the newest version
}

// data is the keys, values and versions at rest: everything that grows with the number of keys but the nodes of the trees
// and the slots of the hash table, which hold keyIDs.
//
// Readers use it as well. They may hold what they find until they let go of the era of their sight: see arena.Era.
type data struct {
	entries  *arena.Slots[entry]
	versions *arena.Slots[version]
	keys     *arena.Slabs // owned by entries
	values   *arena.Slabs // owned by versions
	eras     *arena.Eras
	events   *arena.Copies // values before a change: see Tx.before
	leasts   *arena.Copies // keys in the trees' inner nodes
}

// Bytes of copies that lie together. Events are let go in the order in which they were made; keys in inner nodes are not, so
// that one may keep few others in memory.
const (
	eventCopies = 64 << 10
	leastCopies = 4 << 10
)

func newData() *data {
	d := &data{eras: arena.NewEras(), events: arena.NewCopies(eventCopies), leasts: arena.NewCopies(leastCopies)}
	d.entries = arena.NewSlots[entry](d.eras)
	d.versions = arena.NewSlots[version](d.eras)
	d.keys = arena.NewSlabs(func(owner uint32, to arena.Ref) { d.entries.At(owner).key.Store(uint64(to)) })
	d.values = arena.NewSlabs(func(owner uint32, to arena.Ref) { d.versions.At(owner).ref.Store(uint64(to)) })
	return d
}

func (d *data) entry(id keyID) *entry { return d.entries.At(uint32(id)) }

// version returns the version of an id, nil for 0.
func (d *data) version(id versionID) *version {
	if id == 0 {
		return nil
	}
	return d.versions.At(uint32(id))
}

// head returns the newest version of e.
func (d *data) head(e *entry) *version { return d.versions.At(e.head.Load()) }

// key returns the key of e. It stays valid whatever becomes of e.
func (d *data) key(e *entry) string {
	for {
		// A slab that is gone was emptied, and then the key has moved: an entry has its key as long as anybody sees it.
		if b := d.keys.Get(arena.Ref(e.key.Load()), int(e.n)); b != nil {
			return textOf(b)
		}
	}
}

// kv returns the wire form of v, nil when it is not in memory. It stays valid whatever becomes of v.
func (d *data) kv(v *version) []byte {
	for {
		r := arena.Ref(v.ref.Load())
		if r == 0 {
			return nil
		}
		if b := d.values.Get(r, int(v.n)); b != nil {
			return b
		}
	}
}

// at returns the newest version of e at or below rev: what a reader at rev sees, nil if there is none.
func (d *data) at(e *entry, rev ids.Revision) *version {
	for id := e.head.Load(); id != 0; {
		v := d.versions.At(id)
		if v.main <= rev {
			return v
		}
		id = v.prev.Load()
	}
	return nil
}

// newEntry makes the entry of a key whose newest version is v. The key is copied.
func (d *data) newEntry(key []byte, v versionID) keyID {
	id, e := d.entries.New()
	ref, room := d.keys.Put(len(key), id)
	copy(room, key)
	e.key.Store(uint64(ref))
	e.n = uint32(len(key))
	e.head.Store(uint32(v))
	return keyID(id)
}

// newVersion makes the version of a KeyValue, whose wire form it returns as well and keeps.
func (d *data) newVersion(kv *wire.KeyValue, sub uint32) (versionID, []byte) {
	n := kv.Size()
	id, v := d.versions.New()
	*v = version{main: ids.Revision(kv.ModRevision), number: kv.Version, n: uint32(n), sub: sub,
		create: ids.Revision(kv.CreateRevision), lease: ids.LeaseID(kv.Lease)}
	ref, room := d.values.Put(n, id)
	wire.AppendKeyValue(room[:0], kv)
	v.ref.Store(uint64(ref))
	return versionID(id), room
}

// newBare makes a version that has no bytes in memory.
func (d *data) newBare(rec *recordOf) versionID {
	id, v := d.versions.New()
	*v = version{main: rec.main, number: rec.number, n: uint32(rec.size), sub: rec.sub, create: rec.create, lease: rec.lease}
	return versionID(id)
}

// push makes v the newest version of e.
func (d *data) push(e *entry, v versionID) {
	d.version(v).prev.Store(e.head.Load())
	e.head.Store(uint32(v))
}

// hold keeps the wire form of v in memory. It is copied.
func (d *data) hold(id versionID, kv []byte) {
	ref, room := d.values.Put(len(kv), uint32(id))
	copy(room, kv)
	d.version(id).ref.Store(uint64(ref))
}

// drop gives the memory of a version's bytes back; readers go to the engine from now on.
func (d *data) drop(id versionID) {
	v := d.version(id)
	if ref := v.ref.Load(); ref != 0 {
		v.ref.Store(0)
		d.values.Free(arena.Ref(ref), int(v.n))
	}
}

// free gives up a version that no chain leads to.
func (d *data) free(id versionID) {
	d.drop(id)
	d.versions.Free(uint32(id))
}

// freeEntry gives up an entry that is in no tree and not in the table. Readers of older trees still compare its key, so
// that stays as long as they do.
func (d *data) freeEntry(id keyID) { d.entries.Free(uint32(id)) }

// reclaimMost bounds how many slots one tidy makes usable again; more than a batch can free on average.
const reclaimMost = 2048

// tidy begins a new era for what is published next if there is reason to, and does a bounded piece of the work of getting
// memory back.
func (d *data) tidy() {
	d.eras.Turn()
	d.versions.Reclaim(reclaimMost, nil)
	d.entries.Reclaim(reclaimMost, func(_ uint32, e *entry) { d.keys.Free(arena.Ref(e.key.Load()), int(e.n)) })
	d.values.Tidy()
	d.keys.Tidy()
}

// stripped is the keys_only form of the version v of e: without value and lease.
func (d *data) stripped(e *entry, v *version) []byte {
	if kv := d.kv(v); kv != nil {
		n := wire.StrippedSize(kv)
		return kv[:n:n]
	}
	kv := wire.KeyValue{Key: bytesOf(d.key(e)), CreateRevision: int64(v.create), ModRevision: int64(v.main), Version: v.number}
	return wire.AppendKeyValue(make([]byte, 0, kv.Size()), &kv)
}

// textOf and bytesOf look at the same memory as the other type, without a copy. The result is for reading, and for as long
// as the argument does not change.
func textOf(b []byte) string  { return unsafe.String(unsafe.SliceData(b), len(b)) }
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
