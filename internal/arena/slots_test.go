package arena

import (
	"math/rand"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

type pair struct{ a, b uint64 }

// reclaimed runs the collector until cond, which it calls again and again, is true.
func reclaimed(t *testing.T, cond func() bool) {
	t.Helper()
	for range 2000 { // the reports come from a goroutine of the runtime's, some time after a collection
		runtime.GC()
		if cond() {
			return
		}
	}
	t.Fatal("slots do not come back")
}

// TestSlotsWaitForReaders checks that freed slots are not given out while what was published before is held, whatever later
// eras do, and are as soon as it is not.
func TestSlotsWaitForReaders(t *testing.T) {
	eras := NewEras()
	s := NewSlots[pair](eras)
	held := eras.Now() // what a reader of the beginning holds
	mine := map[uint32]bool{}
	turn := func(n int) {
		for range n {
			h, p := s.New()
			require.False(t, mine[h], "slot %d is in use", h)
			p.a = 7
			mine[h] = true
			s.Free(h)
		}
		eras.Turn()
		s.Reclaim(1<<30, nil)
	}
	for range 20 {
		turn(turnAfter)
		runtime.GC()
	}
	used, _ := s.Slots()
	require.Equal(t, 1+20*turnAfter, used, "slots came back although the first era is held")
	for h := range mine {
		require.Equal(t, uint64(7), s.At(h).a)
	}
	held.KeepAlive()
	dropped := 0
	reclaimed(t, func() bool {
		s.Reclaim(1<<30, func(h uint32, p *pair) { dropped++; p.a = 0 })
		used, _ := s.Slots()
		return used == 1
	})
	require.Equal(t, len(mine), dropped)
}

// TestErasEndInOrder checks that a slot freed in a later era waits for readers of earlier ones.
func TestErasEndInOrder(t *testing.T) {
	eras := NewEras()
	s := NewSlots[pair](eras)
	var held []*Era
	for range 5 {
		held = append(held, eras.Now())
		for range turnAfter {
			h, _ := s.New()
			s.Free(h)
		}
		eras.Turn()
	}
	used := func() int {
		s.Reclaim(1<<30, nil)
		n, _ := s.Slots()
		return n - 1
	}
	held[1], held[3] = nil, nil
	for range 3 {
		runtime.GC()
	}
	require.Equal(t, 5*turnAfter, used())
	held[0].KeepAlive()
	held[0] = nil
	reclaimed(t, func() bool { return used() == 3*turnAfter })
	held[2].KeepAlive()
	held[2] = nil
	reclaimed(t, func() bool { return used() == turnAfter })
	held[4].KeepAlive()
	held[4] = nil
	reclaimed(t, func() bool { return used() == 0 })
}

// TestErasTurnSeldom checks that an era lasts until some slots were freed.
func TestErasTurnSeldom(t *testing.T) {
	eras := NewEras()
	s := NewSlots[pair](eras)
	first := eras.Now()
	for range turnAfter - 1 {
		h, _ := s.New()
		s.Free(h)
		eras.Turn()
		require.Same(t, first, eras.Now())
	}
	h, _ := s.New()
	s.Free(h)
	eras.Turn()
	require.NotSame(t, first, eras.Now())
}

// TestSlotsGiveMemoryBack fills many chunks, frees most slots, and checks that memory goes and comes as needed.
func TestSlotsGiveMemoryBack(t *testing.T) {
	eras := NewEras()
	s := NewSlots[pair](eras)
	r := rand.New(rand.NewSource(2))
	want := map[uint32]uint64{}
	for round := range 3 {
		for i := range 100_000 {
			h, p := s.New()
			*p = pair{uint64(i), uint64(round)}
			_, taken := want[h]
			require.False(t, taken, "slot %d is in use", h)
			want[h] = uint64(i)
		}
		_, all := s.Slots()
		require.Less(t, all, len(want)+len(want)/spare+2*spareMost+2*chunkSlots)
		for h := range want {
			if int(h) > 20_000 || r.Intn(10) > 0 {
				s.Free(h)
				delete(want, h)
			}
		}
		eras.Turn()
		reclaimed(t, func() bool { s.Reclaim(5000, nil); used, _ := s.Slots(); return used == len(want)+1 })
		_, all = s.Slots()
		require.Less(t, all, 20_000+spareMost+2*chunkSlots)
		for h, i := range want {
			require.Equal(t, i, s.At(h).a)
		}
	}
	h, _ := s.New()
	s.Free(h)
	s.Free(h)
	eras.freed = turnAfter
	eras.Turn()
	require.Panics(t, func() { reclaimed(t, func() bool { s.Reclaim(1<<30, nil); return false }) })
}

// TestSlotsBesideReaders publishes pairs of equal numbers by handle, as a store publishes its views, and has readers look at
// what they took for a while, under the race detector: a slot that is used again too early shows as a race or as an unequal
// pair.
func TestSlotsBesideReaders(t *testing.T) {
	type view struct {
		era     *Era
		handles []uint32
		sum     uint64
	}
	eras := NewEras()
	s := NewSlots[pair](eras)
	var now atomic.Pointer[view]
	publish := func(handles []uint32, sum uint64) {
		eras.Turn()
		now.Store(&view{eras.Now(), append([]uint32(nil), handles...), sum})
		s.Reclaim(200, nil)
	}
	publish(nil, 0)
	var done atomic.Bool
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for !done.Load() {
				v := now.Load()
				for range 3 {
					sum := uint64(0)
					for _, h := range v.handles {
						p := s.At(h)
						if sum += p.a; p.a != p.b {
							t.Errorf("slot %d holds %v", h, *p)
						}
					}
					if sum != v.sum {
						t.Errorf("sum %d, want %d", sum, v.sum)
					}
				}
				v.era.KeepAlive()
				runtime.Gosched()
			}
		})
	}
	seen := map[uint32]bool{}
	again := 0 // slots that were given out again
	var handles []uint32
	sum := uint64(0)
	r := rand.New(rand.NewSource(1))
	for i := uint64(0); again < 1000 && i < 500_000; i++ {
		h, p := s.New()
		if seen[h] {
			again++
		}
		seen[h] = true
		*p = pair{i, i}
		handles = append(handles, h)
		sum += i
		for len(handles) > 50 {
			j := r.Intn(len(handles))
			sum -= s.At(handles[j]).a
			s.Free(handles[j])
			handles[j] = handles[len(handles)-1]
			handles = handles[:len(handles)-1]
		}
		if i%4 == 0 {
			publish(handles, sum)
		}
		if i%500 == 0 {
			runtime.GC()
		}
	}
	done.Store(true)
	readers.Wait()
	require.Equal(t, 1000, again, "hardly a slot was used again: the test shows nothing")
}

func BenchmarkSlotsAt(b *testing.B) {
	s := NewSlots[pair](NewEras())
	for i := range uint64(1 << 16) {
		_, p := s.New()
		p.a = i
	}
	b.ResetTimer()
	sum := uint64(0)
	for i := range b.N {
		sum += s.At(uint32(i*7919) & (1<<16 - 1)).a
	}
	_ = sum
}

func BenchmarkSlotsNew(b *testing.B) {
	s := NewSlots[pair](NewEras())
	b.ReportAllocs()
	for i := range b.N {
		_, p := s.New()
		p.a = uint64(i)
	}
}
