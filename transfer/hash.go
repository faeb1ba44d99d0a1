package transfer

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"hash/maphash"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/storage"
)

// Hash is what HashKV answers at a revision.
type Hash struct {
	Revision ids.Revision `json:"revision"`
	Hash     uint32       `json:"hash"`
}

// Pairs walks over the pairs of etcd's bucket "key" in order. What visit gets is valid during the call; its error ends the walk
// and is returned.
type Pairs func(visit func(key, value []byte) error) error

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// never is a revision above all.
const never = ids.Revision(math.MaxInt64)

// Hashes is HashKV at several revisions, ascending, none below the compacted one (0: never compacted). It shares no code with the
// store's own, which it is a judge of, and goes over the pairs at most twice. Memory: when the store was compacted, some 50
// bytes for each key.
func Hashes(pairs Pairs, compacted ids.Revision, at []ids.Revision) ([]Hash, error) {
	h := &hasher{compacted: compacted, at: at, alive: make([]bool, len(at))}
	if compacted > 0 {
		h.keys, h.seed = map[uint64]keyState{}, maphash.MakeSeed()
		if err := pairs(h.look); err != nil {
			return nil, err
		}
		h.reached(never)
		h.keys = nil
	}
	h.sums = make([]uint32, len(at))
	for i := range h.sums {
		h.sums[i] = crc32.Checksum([]byte("key"), castagnoli)
	}
	if err := pairs(h.sum); err != nil {
		return nil, err
	}
	out := make([]Hash, len(at))
	for i := range at {
		out[i] = Hash{at[i], h.sums[i]}
	}
	return out, nil
}

type hasher struct {
	compacted ids.Revision
	at        []ids.Revision
	sums      []uint32

	// Of the first walk.
	seed  maphash.Seed
	keys  map[uint64]keyState // by the hash of the key
	live  int                 // keys that have a value
	done  int                 // revisions of at that were passed
	alive []bool              // any key had a value at a revision of at
	ends  []ids.Revision      // of each value up to the compacted revision: when the key changed next

	old int // values up to the compacted revision, in the second walk
}

// keyState is what the first walk knows of a key.
type keyState struct {
	end  int32 // one above the place in ends of its newest value up to the compacted revision; 0: none
	live bool
}

// look takes a pair of the first walk.
func (h *hasher) look(key, value []byte) error {
	main, tombstone, err := revisionOf(key)
	if err != nil {
		return err
	}
	h.reached(main)
	id := maphash.Bytes(h.seed, userKey(value))
	k := h.keys[id]
	if k.end > 0 {
		h.ends[k.end-1], k.end = main, 0
	}
	if !tombstone && main <= h.compacted {
		h.ends = append(h.ends, never)
		k.end = int32(len(h.ends))
	}
	switch {
	case k.live && tombstone:
		h.live--
	case !k.live && !tombstone:
		h.live++
	}
	k.live = !tombstone
	h.keys[id] = k
	return nil
}

// reached notes what was true before a revision.
func (h *hasher) reached(main ids.Revision) {
	for h.done < len(h.at) && h.at[h.done] < main {
		h.alive[h.done] = h.live > 0
		h.done++
	}
}

// sum takes a pair of the second walk.
func (h *hasher) sum(key, value []byte) error {
	main, tombstone, err := revisionOf(key)
	if err != nil {
		return err
	}
	old, end := main <= h.compacted, never
	if old && !tombstone {
		end = h.ends[h.old]
		h.old++
	}
	for i, at := range h.at {
		current := at // what was replaced after this revision is still counted
		if !h.alive[i] {
			current = min(at, h.compacted)
		}
		if main > at || old && (tombstone || end <= current) {
			continue
		}
		h.sums[i] = crc32.Update(crc32.Update(h.sums[i], castagnoli, key), castagnoli, value)
	}
	return nil
}

// revisionOf reads a key of the bucket.
func revisionOf(key []byte) (main ids.Revision, tombstone bool, err error) {
	if len(key) != 17 && len(key) != 18 || key[8] != '_' || len(key) == 18 && key[17] != 't' || key[0] > 0x7f {
		return 0, false, fmt.Errorf("transfer: %q is no revision", key)
	}
	return ids.Revision(binary.BigEndian.Uint64(key)), len(key) == 18, nil
}

// userKey is the key in a record; damaged ones have none.
func userKey(value []byte) (key []byte) {
	for len(value) > 0 {
		number, kind, n := protowire.ConsumeTag(value)
		if n < 0 {
			return nil
		}
		value = value[n:]
		if number == 1 && kind == protowire.BytesType {
			key, _ = protowire.ConsumeBytes(value)
			return key
		}
		if n = protowire.ConsumeFieldValue(number, kind, value); n < 0 {
			return nil
		}
		value = value[n:]
	}
	return nil
}

// samples are revisions to compare at: the newest, the compacted one, and three between.
func samples(compacted, newest ids.Revision) []ids.Revision {
	out := []ids.Revision{newest}
	low := max(compacted, 1)
	for i := ids.Revision(1); i < 4; i++ {
		out = append(out, low+(newest-low)/4*i+(newest-low)%4*i/4)
	}
	out = append(out, low)
	slices.Sort(out)
	return slices.Compact(out)
}

// enginePairs are the pairs of a store of ours, as etcd has them.
func enginePairs(r storage.Reader) Pairs {
	return func(visit func(key, value []byte) error) error {
		it, err := r.Iter(storage.BucketBounds(storage.BucketKey))
		if err != nil {
			return err
		}
		for ok := it.First(); ok && err == nil; ok = it.Next() {
			err = visit(storage.RevisionKey(it.Key()[1:]), it.Value())
		}
		if failed := it.Err(); err == nil {
			err = failed
		}
		if closing := it.Close(); err == nil {
			err = closing
		}
		return err
	}
}
