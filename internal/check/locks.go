package check

import (
	"math"
	"sort"
	"strings"
)

// Hold is one time that a client believed to hold a lock: a key of its own under the lock's prefix, attached to a lease, is
// the one of the lowest create revision there (as in etcd's concurrency package).
type Hold struct {
	Client int
	Prefix string // all keys that begin with it compete
	Key    string
	Lease  int64
	Create int64 // the create revision of the key
	At     int64 // the revision at which the client found itself the owner: of the answer, or of the deletion that it waited for
	From   int64 // the instant at which it knew
	To     int64 // the instant at which it began to let go, or stopped believing; Never if it did neither
}

// ownership is one key from its creation to its deletion.
type ownership struct {
	key         string
	lease       int64
	create, end int64 // revisions: it is there from create on, and not at end any more
	owns        int64 // the first revision at which no older key of the prefix is there
}

// Locks checks holders of locks. Keys of a lock are deleted by their holder when it lets go, and else only by the end or the
// revocation of their lease; truth must hold all events of the prefixes, leases what was recorded of the leases.
//
// In the order of revisions a lock has one owner at most: the key that was created first of those that are there. A hold
// whose key was not the owner at its revision is "not the owner", two keys created at one revision are "two keys of one
// creation". By time less is promised: a client whose lease ended may go on believing that it holds the lock. So two holds
// that overlap in time are "two holders at one time" only if, at an instant when both believed, the leases of both were
// there by the cluster's promise (see Promised).
func Locks(holds []Hold, truth *Truth, leases []LeaseOp, rules LeaseRules) Report {
	var r Report
	r.Operations = len(holds)
	byPrefix := map[string][]*Hold{}
	for i := range holds {
		byPrefix[holds[i].Prefix] = append(byPrefix[holds[i].Prefix], &holds[i])
	}
	promised := Promised(leases, rules)
	for _, prefix := range sortedKeys(byPrefix) {
		owners := ownersOf(truth, prefix)
		for i := 1; i < len(owners); i++ {
			if owners[i].create == owners[i-1].create {
				r.add("two keys of one creation", "lock %q: revision %d created both %q and %q", prefix, owners[i].create, owners[i-1].key, owners[i].key)
			}
		}
		for _, h := range byPrefix[prefix] {
			r.ownerAt(h, owners)
		}
		r.together(byPrefix[prefix], promised)
	}
	return r
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

// ownersOf are all keys that ever were under prefix, by creation.
func ownersOf(truth *Truth, prefix string) []ownership {
	var out []ownership
	open := map[string]int{}
	for _, rev := range truth.revisions {
		for _, e := range truth.events[rev] {
			if !strings.HasPrefix(e.KV.Key, prefix) {
				continue
			}
			at, had := open[e.KV.Key]
			switch {
			case e.Delete && had:
				out[at].end = rev
				delete(open, e.KV.Key)
			case !e.Delete && !had:
				open[e.KV.Key] = len(out)
				out = append(out, ownership{key: e.KV.Key, lease: e.KV.Lease, create: rev, end: math.MaxInt64})
			}
		}
	}
	older := int64(0)
	for i := range out {
		out[i].owns = max(older, out[i].create)
		older = max(older, out[i].end)
	}
	return out
}

// ownerAt checks that the hold's key was the owner at the hold's revision.
func (r *Report) ownerAt(h *Hold, owners []ownership) {
	const rule = "not the owner"
	i := sort.Search(len(owners), func(i int) bool { return owners[i].create >= h.Create })
	for i < len(owners) && owners[i].create == h.Create && owners[i].key != h.Key {
		i++
	}
	if i == len(owners) || owners[i].create != h.Create {
		r.add(rule, "client %d holds lock %q by %q, which revision %d did not create", h.Client, h.Prefix, h.Key, h.Create)
		return
	}
	o := owners[i]
	switch {
	case o.lease != h.Lease:
		r.add(rule, "client %d holds lock %q by %q with lease %x, and it was created with lease %x", h.Client, h.Prefix, h.Key, h.Lease, o.lease)
	case h.At < o.create || h.At >= o.end:
		r.add(rule, "client %d holds lock %q at revision %d by %q, which was there from revision %d until revision %d only",
			h.Client, h.Prefix, h.At, h.Key, o.create, o.end)
	case h.At < o.owns:
		for _, older := range owners[:i] {
			if older.end > h.At {
				r.add(rule, "client %d holds lock %q at revision %d by %q, created at %d, but %q, created at %d, was there until revision %d",
					h.Client, h.Prefix, h.At, h.Key, o.create, older.key, older.create, older.end)
				return
			}
		}
	}
}

// together finds holds of one lock that overlap in time although the leases of both were promised.
func (r *Report) together(holds []*Hold, promised map[int64][]Span) {
	sorted := append([]*Hold(nil), holds...)
	sort.SliceStable(sorted, func(i, j int) bool { return sorted[i].From < sorted[j].From })
	var before []*Hold
	for _, h := range sorted {
		kept := before[:0]
		for _, o := range before {
			if o.To <= h.From {
				continue
			}
			kept = append(kept, o)
			if at := bothPromised(max(o.From, h.From), min(o.To, h.To), promised[o.Lease], promised[h.Lease]); at >= 0 {
				r.add("two holders at one time", "lock %q: client %d (%q, revision %d, from %d) and client %d (%q, revision %d, from %d) both hold it at %d, and lease %x and lease %x were both promised then",
					h.Prefix, o.Client, o.Key, o.At, o.From, h.Client, h.Key, h.At, h.From, at, o.Lease, h.Lease)
			}
		}
		before = append(kept, h)
	}
}

// bothPromised is the first instant of [from, to) that is in a span of a and in one of b, -1 if there is none.
func bothPromised(from, to int64, a, b []Span) int64 {
	for _, x := range a {
		for _, y := range b {
			if at := max(from, x.From, y.From); at < min(to, x.To, y.To) {
				return at
			}
		}
	}
	return -1
}
