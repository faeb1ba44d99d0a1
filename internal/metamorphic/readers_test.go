package metamorphic

import (
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"sync"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/state"
)

// readers read beside the writer: the newest view, at its own revision and at older ones, must show what the reference
// showed at that revision, whatever is applied and removed meanwhile.
type readers struct {
	work chan struct{} // one for each read that is to be done
	all  sync.WaitGroup
}

// digest is a number that stands for a list of KeyValues.
func digest(kvs [][]byte) uint32 {
	sum := uint32(len(kvs))
	for _, kv := range kvs {
		sum = crc32.Update(sum, crc32.IEEETable, kv)
	}
	return sum
}

// startReaders starts as many readers as the settings say.
func (b *bench) startReaders() {
	b.reading = &readers{work: make(chan struct{}, 3)}
	machine := b.machine
	for i := range b.set.Readers {
		seed := uint64(i)
		b.reading.all.Go(func() {
			rng := rand.New(rand.NewPCG(seed, b.seed))
			for range b.reading.work {
				b.readOnce(machine, rng)
			}
		})
	}
}

// stopReaders waits until no reader reads.
func (b *bench) stopReaders() {
	close(b.reading.work)
	b.reading.all.Wait()
}

// kick has some reads begin now.
func (b *bench) kick() {
	for range cap(b.reading.work) {
		select {
		case b.reading.work <- struct{}{}:
		default:
		}
	}
}

func (b *bench) readOnce(machine *state.Machine, rng *rand.Rand) {
	v := machine.View()
	at := v.Revision()
	req := everything()
	if low := max(v.Compacted(), 1); rng.IntN(2) == 0 {
		at = low + ids.Revision(rng.Int64N(int64(at-low)+1))
		req.Revision = int64(at)
	}
	want, known := b.digests[at]
	resp, err := v.Range(req)
	switch {
	case errors.Is(err, mvcc.Stale), errors.Is(err, fault.Compacted):
		if machine.View().Compacted() <= at {
			b.Errorf("a reader of revision %d is refused (%v), and the newest compaction is at %d", at, err, machine.View().Compacted())
		}
	case err != nil:
		b.Errorf("a reader of revision %d: %v", at, err)
	case !known:
		b.Errorf("a reader finds revision %d, which never was", at)
	case digest(resp.KVs) != want:
		b.Errorf("a reader finds at revision %d other than the reference:%s", at, showKVs(resp.KVs))
	}
}
