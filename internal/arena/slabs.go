package arena

import (
	"encoding/binary"
	"sync/atomic"

	"quorate.dev/quorate/internal/invariant"
)

// Ref names a byte string in Slabs; 0 names none. It holds the offset in the slab (18 bits, in units of 4 bytes), the slab's
// place in the directory (20 bits) and the generation of that place (26 bits), so that a Ref of a slab that is gone is
// recognized when another slab has taken the place.
type Ref uint64

const (
	offsetBits = 18
	placeBits  = 20
	genMask    = 1<<(64-offsetBits-placeBits) - 1
	places     = 1 << placeBits
	unit       = 4 // alignment of strings, bytes
)

func refOf(s *slab, offset int) Ref {
	return Ref(offset/unit) | Ref(s.place)<<offsetBits | Ref(s.gen)<<(offsetBits+placeBits)
}

func (r Ref) offset() int { return int(r&(1<<offsetBits-1)) * unit }
func (r Ref) place() int  { return int(r >> offsetBits & (places - 1)) }
func (r Ref) gen() uint32 { return uint32(r >> (offsetBits + placeBits)) }

const (
	slabMin     = 64 << 10 // bytes of the slabs of a small set
	slabMax     = 1 << 20  // bytes of those of a large one; what an offset reaches
	largeShare  = 16       // a string above this share of a slab has a slab of its own, so that no slab's end is wasted
	headerBytes = 8        // before each string: its length and its owner, 0 once it was freed
)

// Bounds of waste. The waste is what slabs that are full hold besides live strings; more than this starts the emptying of
// the sparsest one. With an eighth, a store whose strings are all replaced at random copies about four bytes for each byte
// written; with a twentieth it would be nine.
const (
	wasteShare = 8       // of the live bytes
	wasteBytes = 1 << 20 // always allowed
	fullShare  = 16      // a slab that lacks less than this share is not worth emptying
)

// The work of one Tidy: stepBytes, and so many times what was freed since the last one. The factor is above what emptying
// needs to keep up with any pattern of writes (see the bounds of waste), and small enough that it takes a fraction of the
// time that the writes themselves took: a copy of 8 KiB against a write of one, in the worst case.
const (
	stepBytes  = 16 << 10
	stepFactor = 8
	stepDead   = 16 // charged for passing over a freed string, bytes
)

// slab is one piece of memory. data never changes once readers can have the Ref of a string, but for headers, which are the
// writer's.
type slab struct {
	data  []byte
	gen   uint32
	place uint32
	// The writer's:
	used   int  // bytes given out
	live   int  // of these, bytes of strings that were not freed, headers included
	at     int  // where emptying goes on
	filled bool // nothing more is put into it
}

// Slabs holds immutable byte strings. Get may be called by any goroutine, everything else by the writer.
//
// Each string has an owner: a number that is not 0 and by which the user finds the atomic field that holds the string's Ref.
type Slabs struct {
	dir   atomic.Pointer[[]atomic.Pointer[slab]]
	young *slab // new strings go here
	old   *slab // strings that outlived their slab: apart, because they will probably go on living
	prey  *slab // being emptied
	moved func(owner uint32, to Ref)

	gens  []uint32 // by place, the generation of the last slab there
	free  []uint32 // places without a slab
	bytes int      // of all slabs
	full  int      // of the slabs that are filled
	live  int      // bytes of strings that were not freed, headers included
	held  int      // of these, in filled slabs
	freed int      // bytes since the last Tidy
}

// NewSlabs makes an empty set. moved is called by Tidy when a string got a new Ref; it stores that in the owner's field.
func NewSlabs(moved func(owner uint32, to Ref)) *Slabs {
	s := &Slabs{moved: moved}
	s.dir.Store(new([]atomic.Pointer[slab]))
	return s
}

func footprint(n int) int { return headerBytes + (n+unit-1)&^(unit-1) }

// Get returns the n bytes of a string, nil when its slab is gone: then the owner has another Ref or none, and the caller
// loads it again. n must be the string's length. The bytes are shared and immutable, and keep their slab in memory.
func (s *Slabs) Get(r Ref, n int) []byte {
	dir := *s.dir.Load()
	i := r.place()
	if i >= len(dir) {
		return nil
	}
	b := dir[i].Load()
	if b == nil || b.gen != r.gen() {
		return nil
	}
	at := r.offset() + headerBytes
	return b.data[at : at+n : at+n]
}

// Put makes room for a string of n bytes and returns its Ref and the room, which the caller fills before it shows the Ref to
// readers and does not change afterwards.
func (s *Slabs) Put(n int, owner uint32) (Ref, []byte) { return s.put(&s.young, n, owner) }

func (s *Slabs) put(into **slab, n int, owner uint32) (Ref, []byte) {
	if owner == 0 || n > 1<<31-1 {
		invariant.Failed("a string of %d bytes for owner %d", n, owner)
	}
	need := footprint(n)
	b := *into
	if b == nil || b.used+need > len(b.data) {
		if most := s.slabBytes(); need > most/largeShare {
			b = s.add(need)
			b.filled = true
			s.full += need
		} else {
			if b != nil {
				s.fill(b)
			}
			b = s.add(most)
			*into = b
		}
	}
	at := b.used
	binary.LittleEndian.PutUint32(b.data[at:], uint32(n))
	binary.LittleEndian.PutUint32(b.data[at+4:], owner)
	b.used += need
	b.live += need
	s.live += need
	if b.filled {
		s.held += need
	}
	at += headerBytes
	return refOf(b, at-headerBytes), b.data[at : at+n : at+n]
}

// slabBytes is the size of the next slab: it grows with the set, so that a small one wastes little.
func (s *Slabs) slabBytes() int {
	n := slabMin
	for n < slabMax && n*2*wasteShare <= s.bytes {
		n *= 2
	}
	return n
}

// fill ends a slab that has no room for the next string.
func (s *Slabs) fill(b *slab) {
	b.filled = true
	s.full += len(b.data)
	s.held += b.live
	if b.live == 0 {
		s.remove(b)
	}
}

// add puts a new slab into the directory.
func (s *Slabs) add(n int) *slab {
	if len(s.free) == 0 {
		s.grow()
	}
	place := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	if s.gens[place]++; s.gens[place] > genMask {
		s.gens[place] = 1
	}
	b := &slab{data: make([]byte, n), gen: s.gens[place], place: place}
	(*s.dir.Load())[place].Store(b)
	s.bytes += n
	return b
}

// grow doubles the directory. Readers that hold the old one find there the slabs of a moment ago, whose bytes are as good.
func (s *Slabs) grow() {
	old := *s.dir.Load()
	n := max(16, 2*len(old))
	if n > places {
		invariant.Failed("%d slabs of together %d bytes", len(old), s.bytes)
	}
	next := make([]atomic.Pointer[slab], n)
	for i := range old {
		next[i].Store(old[i].Load())
	}
	s.gens = append(s.gens, make([]uint32, n-len(old))...)
	for i := n - 1; i >= len(old); i-- {
		s.free = append(s.free, uint32(i))
	}
	s.dir.Store(&next)
}

// remove takes a filled slab out of the directory; its memory goes when the last reader lets go of it.
func (s *Slabs) remove(b *slab) {
	(*s.dir.Load())[b.place].Store(nil)
	s.free = append(s.free, b.place)
	s.bytes -= len(b.data)
	s.full -= len(b.data)
	if b == s.prey {
		s.prey = nil
	}
}

// Free gives up the string of r, of n bytes. The writer has taken the Ref out of its owner before. Readers that hold the
// bytes keep them.
func (s *Slabs) Free(r Ref, n int) {
	b := (*s.dir.Load())[r.place()].Load()
	at := r.offset()
	if b == nil || b.gen != r.gen() || binary.LittleEndian.Uint32(b.data[at+4:]) == 0 {
		invariant.Failed("a string is freed twice, or Ref %x was never given out", uint64(r))
	}
	if got := int(binary.LittleEndian.Uint32(b.data[at:])); got != n {
		invariant.Failed("a string of %d bytes is freed as one of %d", got, n)
	}
	binary.LittleEndian.PutUint32(b.data[at+4:], 0)
	s.freed += footprint(n)
	s.drop(b, footprint(n))
	if b.filled && b.live == 0 {
		s.remove(b)
	}
}

func (s *Slabs) drop(b *slab, n int) {
	b.live -= n
	s.live -= n
	if b.filled {
		s.held -= n
	}
}

// Tidy does a bounded piece of the work of emptying sparse slabs. The writer calls it regularly, after every batch.
func (s *Slabs) Tidy() {
	budget := stepBytes + stepFactor*s.freed
	s.freed = 0
	for budget > 0 {
		if s.prey == nil {
			if s.full-s.held <= s.live/wasteShare+wasteBytes {
				return
			}
			if s.prey = s.sparsest(); s.prey == nil {
				return
			}
		}
		budget = s.empty(s.prey, budget)
	}
}

// sparsest finds the filled slab whose emptying gains most, nil if none is worth it.
func (s *Slabs) sparsest() *slab {
	var best *slab
	least := 1 - 1.0/fullShare
	dir := *s.dir.Load()
	for i := range dir {
		b := dir[i].Load()
		if b == nil || !b.filled {
			continue
		}
		if share := float64(b.live) / float64(len(b.data)); share < least {
			best, least = b, share
		}
	}
	return best
}

// empty copies live strings out of b until the budget is spent, and takes b away when it is empty. It returns what is left.
func (s *Slabs) empty(b *slab, budget int) int {
	for b.live > 0 && budget > 0 {
		at := b.at
		n := int(binary.LittleEndian.Uint32(b.data[at:]))
		owner := binary.LittleEndian.Uint32(b.data[at+4:])
		need := footprint(n)
		b.at += need
		if owner == 0 {
			budget -= stepDead
			continue
		}
		to, room := s.put(&s.old, n, owner)
		copy(room, b.data[at+headerBytes:])
		s.moved(owner, to)
		binary.LittleEndian.PutUint32(b.data[at+4:], 0)
		s.drop(b, need)
		budget -= need
	}
	if b.live == 0 {
		s.remove(b)
	}
	return budget
}

// Bytes is the memory of all slabs, and Live what the strings in them need.
func (s *Slabs) Bytes() (bytes, live int64) { return int64(s.bytes), int64(s.live) }
