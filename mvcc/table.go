package mvcc

import (
	"hash/maphash"
	"sync/atomic"
)

// table finds the entry of a key in one or two memory accesses. One writer changes it while any number of readers look
// up: slots and arrays are replaced by atomic stores, so that a reader sees an entry or does not, and never less of it.
//
// The seed differs from process to process and decides only where an entry lies; nothing walks over the table.
//
// Invariant: every entry of the live and of the dead tree is in the table.
type table struct {
	seed   maphash.Seed
	shards [tableShards]shard
}

// tableShards is a power of two, large so that growing one shard is a short pause.
const (
	tableShards = 1024
	shardSlots  = 8 // of a new shard
)

type shard struct {
	slots atomic.Pointer[[]atomic.Pointer[entry]] // length a power of two; open addressing, linear probing
	used  int                                     // slots that are not nil, the writer's
	live  int                                     // slots that hold an entry, the writer's
}

// vacated marks a slot whose entry was removed: a search goes on behind it.
var vacated = new(entry)

func newTable() *table { return &table{seed: maphash.MakeSeed()} }

func (t *table) hash(key string) (*shard, uint64) {
	h := maphash.String(t.seed, key)
	return &t.shards[h%tableShards], h / tableShards
}

// find returns the entry of key or nil.
func (t *table) find(key string) *entry {
	s, h := t.hash(key)
	p := s.slots.Load()
	if p == nil {
		return nil
	}
	slots := *p
	for i := h; ; i++ {
		e := slots[i&uint64(len(slots)-1)].Load()
		if e == nil || (e != vacated && e.key == key) {
			return e
		}
	}
}

// insert adds an entry whose key is not in the table.
func (t *table) insert(e *entry) {
	s, h := t.hash(e.key)
	if p := s.slots.Load(); p == nil || (s.used+1)*4 > len(*p)*3 {
		t.grow(s)
	}
	if place(*s.slots.Load(), e, h) {
		s.used++
	}
	s.live++
}

// place puts e into the first free slot and says whether that slot was never used.
func place(slots []atomic.Pointer[entry], e *entry, h uint64) bool {
	for i := h; ; i++ {
		slot := &slots[i&uint64(len(slots)-1)]
		if old := slot.Load(); old == nil || old == vacated {
			slot.Store(e)
			return old == nil
		}
	}
}

// grow replaces the slots of s by new ones, at most half full. Readers that hold the old ones find there what was in the
// table when they began.
func (t *table) grow(s *shard) {
	n := shardSlots
	for n < 2*(s.live+1) {
		n *= 2
	}
	next := make([]atomic.Pointer[entry], n)
	if p := s.slots.Load(); p != nil {
		for i := range *p {
			if e := (*p)[i].Load(); e != nil && e != vacated {
				_, h := t.hash(e.key)
				place(next, e, h)
			}
		}
	}
	s.used = s.live
	s.slots.Store(&next)
}

// remove takes e out of the table.
func (t *table) remove(e *entry) {
	s, h := t.hash(e.key)
	slots := *s.slots.Load()
	for i := h; ; i++ {
		slot := &slots[i&uint64(len(slots)-1)]
		if slot.Load() == e {
			slot.Store(vacated)
			s.live--
			return
		}
	}
}
