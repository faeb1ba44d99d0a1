package mvcc

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
)

// ranked is an entry with eight bytes of its key, so that sorting looks at few keys themselves.
type ranked struct {
	part uint64
	id   keyID
}

// smallGroup is how many entries are sorted by whole keys at once.
const smallGroup = 12

// largeGroup is from how many entries on they are sorted without comparing them.
const largeGroup = 1024

// sort puts entries into the order of their keys.
func (d *data) sort(ids []keyID) {
	if slices.IsSortedFunc(ids, d.compare) {
		return
	}
	all := make([]ranked, len(ids))
	for i, id := range ids {
		all[i].id = id
	}
	d.rank(all, 0)
	for i := range all {
		ids[i] = all[i].id
	}
}

func (d *data) compare(a, b keyID) int { return strings.Compare(d.key(d.entry(a)), d.key(d.entry(b))) }

// rank sorts entries whose keys are equal before position depth: by the eight bytes there, then those that are equal in
// these by the next eight. Keys of a store begin alike, so most comparisons of whole keys would look at the same bytes again.
func (d *data) rank(all []ranked, depth int) {
	depth = d.common(all, depth)
	sorted := true
	for i := range all {
		all[i].part = part(d.key(d.entry(all[i].id)), depth)
		sorted = sorted && (i == 0 || all[i-1].part <= all[i].part)
	}
	// Equal ones stay in the order in which they were made, so that their keys are read as they lie in memory.
	switch {
	case sorted:
	case len(all) < largeGroup:
		slices.SortStableFunc(all, func(a, b ranked) int { return cmp.Compare(a.part, b.part) })
	default:
		distribute(all)
	}
	for from := 0; from < len(all); {
		to := from + 1
		for to < len(all) && all[to].part == all[from].part {
			to++
		}
		switch equal := all[from:to]; {
		case len(equal) == 1:
		case len(equal) <= smallGroup || equal[0].part&0xff == 0: // some may have ended here: zeros look like those behind an end
			slices.SortFunc(equal, func(a, b ranked) int { return d.compare(a.id, b.id) })
		default:
			d.rank(equal, depth+8)
		}
		from = to
	}
}

// distribute sorts entries by their parts and leaves equal ones in their order: a radix sort, least significant byte first,
// which passes over bytes that all parts have in common. It takes memory as large as the entries.
func distribute(all []ranked) {
	var counts [8][256]uint32
	for i := range all {
		for b := range counts {
			counts[b][byte(all[i].part>>(8*b))]++
		}
	}
	from, to := all, make([]ranked, len(all))
	for b := range counts {
		if counts[b][byte(all[0].part>>(8*b))] == uint32(len(all)) {
			continue
		}
		at := uint32(0)
		for v, n := range counts[b] {
			counts[b][v], at = at, at+n
		}
		for i := range from {
			v := byte(from[i].part >> (8 * b))
			to[counts[b][v]] = from[i]
			counts[b][v]++
		}
		from, to = to, from
	}
	if &from[0] != &all[0] {
		copy(all, from)
	}
}

// common is the position up to which keys that are equal before depth are equal, in steps of eight bytes, so that they are
// looked at once for all that they have in common.
func (d *data) common(all []ranked, depth int) int {
	first := d.key(d.entry(all[0].id))
	end := depth + (len(first)-depth)&^7
	for i := 1; i < len(all) && end > depth; i++ {
		key := d.key(d.entry(all[i].id))
		end = min(end, depth+(len(key)-depth)&^7)
		for end > depth && key[depth:end] != first[depth:end] {
			end -= 8
		}
	}
	return max(end, depth)
}

// part is the eight bytes of a key at a position, zeros behind its end.
func part(key string, at int) uint64 {
	if len(key) >= at+8 {
		return binary.BigEndian.Uint64(bytesOf(key[at : at+8]))
	}
	var b [8]byte
	if at < len(key) {
		copy(b[:], key[at:])
	}
	return binary.BigEndian.Uint64(b[:])
}
