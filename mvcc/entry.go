package mvcc

import (
	"sync/atomic"
	"unsafe"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/wire"
)

// record holds the wire form of a KeyValue in memory, or only its size once the memory was given back. It is the one place
// that knows where those bytes live.
//
// Invariant: get returns nil or all the bytes, never something between. A current version whose bytes were left on disk at
// a restart gets them once (Store.Warm); a superseded one loses them for good.
type record struct {
	p atomic.Pointer[byte]
	n uint32 // length in bytes, of the record on disk as well
}

func (r *record) set(kv []byte) {
	r.n = uint32(len(kv))
	r.p.Store(unsafe.SliceData(kv))
}

func (r *record) get() []byte {
	p := r.p.Load()
	if p == nil {
		return nil
	}
	return unsafe.Slice(p, r.n)
}

// drop gives the memory back; readers go to the engine from now on.
func (r *record) drop() { r.p.Store(nil) }

// version is one change of one key. All but the record's presence and prev is fixed before any reader can see it.
type version struct {
	kv     record
	sub    uint32
	main   ids.Revision
	create ids.Revision
	lease  ids.LeaseID
	number int64 // KeyValue.version; 0 for a tombstone
	// prev is the next older version. The writer cuts it when nothing at or above the compacted revision can need what is
	// behind it.
	prev atomic.Pointer[version]
}

func (v *version) tombstone() bool { return v.number == 0 }

// live says whether v, which may be nil, is a version with a value.
func (v *version) live() bool { return v != nil && v.number != 0 }

// size is what the record takes in the key bucket: revision key and value, in bytes.
func (v *version) size() int64 {
	if v.tombstone() {
		return tombstoneBytes + int64(v.kv.n)
	}
	return revisionBytes + int64(v.kv.n)
}

// entry is one key with its versions, newest first.
//
// Invariants: head is never nil; main and sub decrease strictly along prev; two tombstones are never neighbours.
type entry struct {
	key  string
	head atomic.Pointer[version]
}

// at returns the newest version at or below rev: what a reader at rev sees, nil if there is none.
func (e *entry) at(rev ids.Revision) *version {
	v := e.head.Load()
	for v != nil && v.main > rev {
		v = v.prev.Load()
	}
	return v
}

// push makes v the newest version. The caller has set all its fields but prev.
func (e *entry) push(v *version) {
	if old := e.head.Load(); old != nil {
		v.prev.Store(old)
	}
	e.head.Store(v)
}

// newVersion makes the version of a KeyValue, whose wire form it returns as well and keeps.
func newVersion(kv *wire.KeyValue, sub uint32) (*version, []byte) {
	b := wire.AppendKeyValue(make([]byte, 0, kv.Size()), kv)
	v := &version{sub: sub, main: ids.Revision(kv.ModRevision), create: ids.Revision(kv.CreateRevision), number: kv.Version, lease: ids.LeaseID(kv.Lease)}
	v.kv.set(b)
	return v, b
}

// stripped is the keys_only form of the version of e: without value and lease.
func (v *version) stripped(e *entry) []byte {
	if kv := v.kv.get(); kv != nil {
		n := wire.StrippedSize(kv)
		return kv[:n:n]
	}
	kv := wire.KeyValue{Key: bytesOf(e.key), CreateRevision: int64(v.create), ModRevision: int64(v.main), Version: v.number}
	return wire.AppendKeyValue(make([]byte, 0, kv.Size()), &kv)
}

// textOf and bytesOf look at the same memory as the other type, without a copy. The result is for reading, and for as long
// as the argument does not change.
func textOf(b []byte) string  { return unsafe.String(unsafe.SliceData(b), len(b)) }
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
