package arena

import (
	"math/bits"
	"sync/atomic"

	"quorate.dev/quorate/internal/invariant"
)

const (
	chunkBits  = 10
	chunkSlots = 1 << chunkBits
	chunkWords = chunkSlots / 64
	chunksMax  = 1<<(32-chunkBits) - 1
)

// Slots holds structs without pointers, each named by a handle that is not 0. At may be called by any goroutine with a
// handle that it found in what is published, everything else by the writer.
//
// T must hold no pointer, or the collector would look at every slot.
type Slots[T any] struct {
	dir  atomic.Pointer[[]atomic.Pointer[[chunkSlots]T]]
	eras *Eras

	chunks []freeSlots // by chunk
	room   []uint64    // a bit per chunk that has free slots
	from   int         // no word of room before this one has a bit
	here   int         // the chunk that slots are taken from
	idle   int         // free slots of all chunks with memory
	lost   []int       // chunks without memory
	limbo  []freed     // slots that readers may still see, oldest first
}

// freeSlots are the free slots of a chunk.
type freeSlots struct {
	bits  [chunkWords]uint64
	count int32
}

// freed are slots that were freed in one era.
type freed struct {
	era     uint64
	handles []uint32
}

const (
	freedMax  = 1024           // handles in one freed
	spareMost = 4 * chunkSlots // free slots that may keep their memory
	spare     = 8              // and one for so many in use
)

// NewSlots makes an empty set whose freed slots are used again as the eras allow.
func NewSlots[T any](eras *Eras) *Slots[T] {
	s := &Slots[T]{eras: eras}
	s.dir.Store(new([]atomic.Pointer[[chunkSlots]T]))
	return s
}

// At returns the slot of a handle. Readers must not keep it beyond Era.KeepAlive.
func (s *Slots[T]) At(h uint32) *T {
	return &(*s.dir.Load())[h>>chunkBits].Load()[h&(chunkSlots-1)]
}

// New gives out a slot. What it holds is left from its use before: the caller sets every field.
func (s *Slots[T]) New() (uint32, *T) {
	if len(s.chunks) == 0 || s.chunks[s.here].count == 0 {
		s.here = s.lowest()
	}
	c := &s.chunks[s.here]
	for w := range c.bits {
		if c.bits[w] == 0 {
			continue
		}
		bit := bits.TrailingZeros64(c.bits[w])
		c.bits[w] &^= 1 << bit
		s.idle--
		if c.count--; c.count == 0 {
			s.room[s.here/64] &^= 1 << (s.here % 64)
		}
		h := uint32(s.here<<chunkBits | w<<6 | bit)
		return h, s.At(h)
	}
	invariant.Failed("chunk %d counts %d free slots and has none", s.here, c.count)
	return 0, nil
}

// lowest returns the first chunk with free slots, so that the last ones become empty; one with new memory if there is none.
func (s *Slots[T]) lowest() int {
	for ; s.from < len(s.room); s.from++ {
		if s.room[s.from] != 0 {
			return s.from*64 + bits.TrailingZeros64(s.room[s.from])
		}
	}
	i := len(s.chunks)
	if n := len(s.lost); n > 0 {
		i = s.lost[n-1]
		s.lost = s.lost[:n-1]
		s.from = i / 64
	} else {
		s.grow()
	}
	(*s.dir.Load())[i].Store(new([chunkSlots]T))
	s.room[i/64] |= 1 << (i % 64)
	s.idle += int(s.chunks[i].count)
	return i
}

// grow adds a chunk that has no memory yet.
func (s *Slots[T]) grow() {
	i := len(s.chunks)
	if i >= chunksMax {
		invariant.Failed("all %d slots are in use", i*chunkSlots)
	}
	if old := *s.dir.Load(); i == len(old) {
		next := make([]atomic.Pointer[[chunkSlots]T], max(8, 2*i))
		for j := range old {
			next[j].Store(old[j].Load())
		}
		s.dir.Store(&next)
	}
	c := freeSlots{count: chunkSlots}
	for w := range c.bits {
		c.bits[w] = 1<<64 - 1
	}
	if i == 0 {
		c.bits[0] &^= 1 // handle 0 names nothing; it counts as given out
		c.count--
	}
	s.chunks = append(s.chunks, c)
	if i/64 == len(s.room) {
		s.room = append(s.room, 0)
	}
}

// Free gives up a slot that the writer has taken out of everything that will be published from now on. Its content stays as
// it is until the slot is used again.
func (s *Slots[T]) Free(h uint32) {
	now := s.eras.now.end.number
	s.eras.freed++
	n := len(s.limbo)
	if n == 0 || s.limbo[n-1].era != now || len(s.limbo[n-1].handles) == freedMax {
		s.limbo = append(s.limbo, freed{era: now})
		n++
	}
	s.limbo[n-1].handles = append(s.limbo[n-1].handles, h)
}

// Reclaim makes freed slots that no reader can hold ready for use, at least most if there are so many. last, which may be
// nil, is called for each before.
func (s *Slots[T]) Reclaim(most int, last func(h uint32, slot *T)) {
	if len(s.limbo) == 0 {
		return
	}
	over := s.eras.over()
	done := 0
	for ; done < len(s.limbo) && most > 0 && s.limbo[done].era <= over; done++ {
		for _, h := range s.limbo[done].handles {
			if last != nil {
				last(h, s.At(h))
			}
			s.release(h)
		}
		most -= len(s.limbo[done].handles)
		s.limbo[done].handles = nil
	}
	if s.limbo = s.limbo[done:]; len(s.limbo) == 0 {
		s.limbo = nil
	}
}

// release marks a slot as free and lets go of the chunk if it is the last one in it and there is enough room elsewhere.
func (s *Slots[T]) release(h uint32) {
	i, bit := int(h>>chunkBits), h&(chunkSlots-1)
	c := &s.chunks[i]
	if c.bits[bit/64]>>(bit%64)&1 != 0 {
		invariant.Failed("slot %d is freed twice", h)
	}
	c.bits[bit/64] |= 1 << (bit % 64)
	c.count++
	s.idle++
	s.room[i/64] |= 1 << (i % 64)
	s.from = min(s.from, i/64)
	used := (len(s.chunks)-len(s.lost))*chunkSlots - s.idle
	if c.count == chunkSlots && i != s.here && s.idle > spareMost+used/spare {
		(*s.dir.Load())[i].Store(nil)
		s.lost = append(s.lost, i)
		s.room[i/64] &^= 1 << (i % 64)
		s.idle -= chunkSlots
	}
}

// Slots returns how many slots are given out, those that were freed and may still be seen included, and how many have memory.
func (s *Slots[T]) Slots() (used, all int) {
	all = (len(s.chunks) - len(s.lost)) * chunkSlots
	return all - s.idle, all
}
