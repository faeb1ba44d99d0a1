package mvcc

import (
	"hash/maphash"
	"sync/atomic"
)

// table finds the entry of a key in one or two memory accesses besides the entry's own. One writer changes it while any
// number of readers look up: slots and arrays are replaced by atomic stores, so that a reader sees an entry or does not, and
// never less of it.
//
// The seed differs from process to process and decides only where an entry lies; nothing walks over the table.
//
// Invariant: every entry of the live and of the dead tree is in the table.
type table struct {
	data   *data
	seed   maphash.Seed
	shards [tableShards]shard
}

// tableShards is a power of two, large so that growing one shard is a short pause.
const (
	tableShards = 1024
	shardSlots  = 8 // of a new shard
)

// shard is open addressing with linear probing. A slot holds the upper half of the hash above a keyID: the hash saves looking
// at keys that are others, also when the shard grows.
type shard struct {
	slots atomic.Pointer[[]atomic.Uint64] // length a power of two
	used  int                             // slots that are not 0, the writer's
	live  int                             // slots that hold an entry, the writer's
}

// vacated marks a slot whose entry was removed: a search goes on behind it. No entry's slot has it, as its id is 0.
const vacated = 1 << 32

const idMask = 1<<32 - 1

func newTable(d *data) *table { return &table{data: d, seed: maphash.MakeSeed()} }

func (t *table) hash(key string) uint64 { return maphash.String(t.seed, key) }

func (t *table) shard(h uint64) *shard { return &t.shards[h%tableShards] }

// find returns the entry of key or 0.
func (t *table) find(key string) keyID { return t.lookup(key, t.hash(key)) }

func (t *table) lookup(key string, h uint64) keyID {
	p := t.shard(h).slots.Load()
	if p == nil {
		return 0
	}
	slots := *p
	for i := h >> 32; ; i++ {
		x := slots[i&uint64(len(slots)-1)].Load()
		if x == 0 {
			return 0
		}
		if x>>32 == h>>32 && x != vacated {
			if id := keyID(x & idMask); t.data.key(t.data.entry(id)) == key {
				return id
			}
		}
	}
}

// insert adds the entry of a key that is not in the table. h is the key's hash.
func (t *table) insert(id keyID, h uint64) {
	s := t.shard(h)
	if p := s.slots.Load(); p == nil || (s.used+1)*4 > len(*p)*3 {
		s.grow()
	}
	if place(*s.slots.Load(), h&^idMask|uint64(id)) {
		s.used++
	}
	s.live++
}

// place puts x into the first free slot and says whether that slot was never used.
func place(slots []atomic.Uint64, x uint64) bool {
	for i := x >> 32; ; i++ {
		slot := &slots[i&uint64(len(slots)-1)]
		if old := slot.Load(); old == 0 || old == vacated {
			slot.Store(x)
			return old == 0
		}
	}
}

// grow replaces the slots of s by new ones, at most half full. Readers that hold the old ones find there what was in the
// table when they began.
func (s *shard) grow() {
	n := shardSlots
	for n < 2*(s.live+1) {
		n *= 2
	}
	next := make([]atomic.Uint64, n)
	if p := s.slots.Load(); p != nil {
		for i := range *p {
			if x := (*p)[i].Load(); x != 0 && x != vacated {
				place(next, x)
			}
		}
	}
	s.used = s.live
	s.slots.Store(&next)
}

// remove takes the entry of key out of the table.
func (t *table) remove(id keyID) {
	h := t.hash(t.data.key(t.data.entry(id)))
	s := t.shard(h)
	slots := *s.slots.Load()
	for i := h >> 32; ; i++ {
		slot := &slots[i&uint64(len(slots)-1)]
		if slot.Load() == h&^idMask|uint64(id) {
			slot.Store(vacated)
			s.live--
			return
		}
	}
}
