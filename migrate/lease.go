package migrate

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// grant is a lease for one key.
type grant struct{ id, ttl int64 }

const nanosPerSecond = 1_000_000_000

// grants gives every record of a node that expires a lease, one for each such node: records belong to the node that has their key,
// or else to the one that has their mod_revision. The ids follow from the keys, so that members that migrate on their own agree.
func grants(items []item, r *records, now int64) []grant {
	byKey, byRevision := map[string]item{}, map[int64]item{}
	for _, it := range items {
		if !it.Dir {
			byKey[it.Key], byRevision[int64(it.Modified)] = it, it
		}
	}
	var out []grant
	taken := map[int64]string{}
	for _, kv := range r.list {
		it, ok := byKey[string(kv.Key)]
		if !ok {
			it, ok = byRevision[kv.ModRevision]
		}
		if !ok || it.ends == 0 {
			continue
		}
		id := leaseID(it.Key)
		for taken[id] != "" && taken[id] != it.Key {
			id = id%math.MaxInt64 + 1
		}
		if taken[id] == "" {
			taken[id] = it.Key
			out = append(out, grant{id, left(it.ends, now)})
		}
		kv.Lease = id
	}
	slices.SortFunc(out, func(a, b grant) int { return cmp.Compare(a.id, b.id) })
	return out
}

// leaseID is above 0.
func leaseID(key string) int64 {
	h := fnv.New64a()
	h.Write([]byte(key))
	return int64(h.Sum64()%math.MaxInt64) + 1
}

// left is how many seconds are left until a time, at least 1: what is over already ends soon after the start.
func left(ends, now int64) int64 {
	seconds := (ends - now) / nanosPerSecond
	if ends-now > seconds*nanosPerSecond {
		seconds++
	}
	return max(1, seconds)
}

// row is the lease as etcd keeps it (source: etcd v3.7 server/lease/leasepb/lease.proto).
func (g grant) row() (key, value []byte) {
	value = protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(g.id))
	value = protowire.AppendVarint(protowire.AppendTag(value, 2, protowire.VarintType), uint64(g.ttl))
	return binary.BigEndian.AppendUint64(nil, uint64(g.id)), value
}
