package arena

import (
	"bytes"
	"encoding/binary"
	"math/rand"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// book is the owners of the strings of a set and what each string must be.
type book struct {
	slabs *Slabs
	refs  []atomic.Uint64 // by owner
	want  [][]byte        // by owner, nil for none
	live  int
}

func newBook(owners int) *book {
	b := &book{refs: make([]atomic.Uint64, owners+1), want: make([][]byte, owners+1)}
	b.slabs = NewSlabs(func(owner uint32, to Ref) { b.refs[owner].Store(uint64(to)) })
	return b
}

func (b *book) set(owner uint32, s []byte) {
	b.drop(owner)
	r, room := b.slabs.Put(len(s), owner)
	copy(room, s)
	b.refs[owner].Store(uint64(r))
	b.want[owner] = s
	b.live += len(s)
}

func (b *book) drop(owner uint32) {
	if old := b.want[owner]; old != nil {
		r := Ref(b.refs[owner].Load())
		b.refs[owner].Store(0)
		b.slabs.Free(r, len(old))
		b.want[owner] = nil
		b.live -= len(old)
	}
}

func (b *book) check(t testing.TB) {
	strings := 0
	for owner, want := range b.want {
		if want != nil {
			strings++
			got := b.slabs.Get(Ref(b.refs[owner].Load()), len(want))
			if !bytes.Equal(got, want) {
				t.Fatalf("owner %d has %q, want %q", owner, got, want)
			}
		}
	}
	_, live := b.slabs.Bytes()
	require.GreaterOrEqual(t, int(live), b.live)
	require.LessOrEqual(t, int(live), b.live+strings*(headerBytes+unit))
}

// TestSlabs puts, replaces and frees strings of all lengths, checks every one of them, old slices too, and that memory stays
// near what lives.
func TestSlabs(t *testing.T) {
	const seed, owners = 11, 4000
	t.Log("seed", seed)
	r := rand.New(rand.NewSource(seed))
	b := newBook(owners)
	type kept struct{ got, want []byte }
	var old []kept
	for i := range 400_000 {
		owner := uint32(1 + r.Intn(owners))
		switch {
		case i > 300_000 && owner%8 != 0: // most of them go for good
			b.drop(owner)
		case r.Intn(4) == 0:
			b.drop(owner)
		default:
			n := r.Intn(1 << r.Intn(12))
			if r.Intn(2000) == 0 {
				n = slabMin + r.Intn(slabMax)
			}
			s := make([]byte, n)
			r.Read(s)
			b.set(owner, s)
			if r.Intn(1000) == 0 {
				old = append(old, kept{b.slabs.Get(Ref(b.refs[owner].Load()), n), s})
			}
		}
		if i%100 == 0 {
			b.slabs.Tidy()
			size, live := b.slabs.Bytes()
			require.LessOrEqual(t, size, live+live/wasteShare+wasteBytes+4*slabMax, "step %d", i)
		}
		if i%10_000 == 0 {
			b.check(t)
		}
	}
	b.check(t)
	for _, k := range old {
		require.True(t, bytes.Equal(k.got, k.want), "bytes that a reader held were overwritten")
	}
	for owner := range b.want {
		b.drop(uint32(owner))
	}
	b.slabs.Tidy()
	size, live := b.slabs.Bytes()
	require.Zero(t, live)
	require.LessOrEqual(t, size, int64(2*slabMax))
}

// TestSlabsStaleRef checks that a Ref of a slab that is gone leads to nothing when another slab has its place.
func TestSlabsStaleRef(t *testing.T) {
	b := newBook(8)
	b.set(1, bytes.Repeat([]byte("a"), 2*slabMax))
	stale := Ref(b.refs[1].Load())
	b.set(1, bytes.Repeat([]byte("b"), 2*slabMax))
	require.Equal(t, stale.place(), Ref(b.refs[1].Load()).place(), "the test means to reuse the place")
	require.Nil(t, b.slabs.Get(stale, 2*slabMax))
	require.Nil(t, b.slabs.Get(Ref(0), 1))
	b.check(t)
}

// TestSlabsMistakes checks that a writer who frees twice, or a string of another length, is stopped.
func TestSlabsMistakes(t *testing.T) {
	s := NewSlabs(func(uint32, Ref) {})
	r, _ := s.Put(5, 1)
	keep, _ := s.Put(5, 1)
	require.Panics(t, func() { s.Free(r, 6) })
	s.Free(r, 5)
	require.Panics(t, func() { s.Free(r, 5) })
	require.Panics(t, func() { s.Put(5, 0) })
	s.Free(keep, 5)
}

// TestSlabsBesideReaders has readers look at strings that say whose they are, while the writer replaces them and slabs are
// emptied.
func TestSlabsBesideReaders(t *testing.T) {
	const owners, size = 3000, 300
	b := newBook(owners)
	text := func(owner uint32, n int) []byte {
		s := make([]byte, size)
		for i := 0; i < size; i += 4 {
			binary.LittleEndian.PutUint32(s[i:], owner)
		}
		binary.LittleEndian.PutUint32(s, uint32(n))
		return s
	}
	for owner := range uint32(owners) {
		b.set(owner+1, text(owner+1, 0))
	}
	var done atomic.Bool
	var readers sync.WaitGroup
	for i := range 3 {
		readers.Go(func() {
			r := rand.New(rand.NewSource(int64(i)))
			for !done.Load() {
				owner := uint32(1 + r.Intn(owners))
				ref := Ref(b.refs[owner].Load())
				if ref == 0 {
					continue
				}
				s := b.slabs.Get(ref, size)
				for j := 4; s != nil && j < size; j += 4 {
					if got := binary.LittleEndian.Uint32(s[j:]); got != owner {
						t.Errorf("owner %d has bytes of %d", owner, got)
						return
					}
				}
				if now := Ref(b.refs[owner].Load()); s == nil && now == ref {
					t.Errorf("the string of owner %d is gone and its ref is not", owner)
					return
				}
			}
		})
	}
	r := rand.New(rand.NewSource(5))
	moved := 0
	count := b.slabs.moved
	b.slabs.moved = func(owner uint32, to Ref) { moved++; count(owner, to) }
	for n := range 60_000 {
		owner := uint32(1 + r.Intn(owners)*r.Intn(owners)/owners)
		b.set(owner, text(owner, n))
		if n%20 == 0 {
			b.slabs.Tidy()
		}
	}
	done.Store(true)
	readers.Wait()
	b.check(t)
	require.Greater(t, moved, 1000, "nothing was moved: the test shows nothing")
}

// FuzzSlabs runs any sequence of puts, frees and steps.
func FuzzSlabs(f *testing.F) {
	f.Add([]byte("put and free and tidy, over and over again, until something breaks"))
	f.Fuzz(func(t *testing.T, ops []byte) {
		b := newBook(32)
		for i, op := range ops {
			owner := uint32(op%32) + 1
			switch op / 32 {
			case 0:
				b.drop(owner)
			case 1:
				b.slabs.Tidy()
			default:
				n := int(op) * i
				if op/32 == 7 {
					n *= 64
				}
				b.set(owner, bytes.Repeat([]byte{byte(i)}, n))
			}
		}
		b.check(t)
	})
}

// TestCopies checks that copies are equal, apart, and cannot grow into each other.
func TestCopies(t *testing.T) {
	c := NewCopies(64 << 10)
	require.Nil(t, c.Of(nil))
	r := rand.New(rand.NewSource(1))
	var got, want [][]byte
	for i := range 5000 {
		b := make([]byte, r.Intn(100+i%2*20_000))
		r.Read(b)
		want = append(want, append([]byte{}, b...))
		copied := c.Of(b)
		require.Equal(t, len(copied), cap(copied))
		got = append(got, copied)
		clear(b)
	}
	for i := range want {
		require.True(t, bytes.Equal(want[i], got[i]))
	}
}

func BenchmarkSlabsGet(b *testing.B) {
	k := newBook(1 << 16)
	for i := range k.want[1:] {
		k.set(uint32(i+1), make([]byte, 256))
	}
	b.ResetTimer()
	for i := range b.N {
		if k.slabs.Get(Ref(k.refs[1+i*7919&(1<<16-1)].Load()), 256) == nil {
			b.Fatal("gone")
		}
	}
}

func BenchmarkSlabsReplace(b *testing.B) {
	k := newBook(1 << 16)
	v := make([]byte, 256)
	for i := range k.want[1:] {
		k.set(uint32(i+1), v)
	}
	b.ResetTimer()
	b.ReportAllocs()
	for i := range b.N {
		k.set(uint32(1+i*7919*(i>>16|1)&(1<<16-1)), v)
		if i%100 == 0 {
			k.slabs.Tidy()
		}
	}
}
