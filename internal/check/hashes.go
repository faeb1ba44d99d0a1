package check

import "sort"

// StateHash is the hash of one member's state after it applied one entry of the log.
type StateHash struct {
	Member   string // with every start of a member a new one, or the same: then it must find what it had
	Index    uint64 // the entry that was applied last
	Revision int64  // the state's revision
	Hash     uint64
}

// Hashes checks that members that have applied the same entries have the same state: two hashes of one index are equal,
// whoever took them, and so are the revisions; and along the log revisions do not go back. The hash must be of what is
// replicated only, all of it, and must not depend on housekeeping. Of two members that differ, the first index at which they
// do is named, and no other. Rules: "two states of one index", "a revision that goes back".
func Hashes(history []StateHash) Report {
	var r Report
	r.Operations = len(history)
	sorted := append([]StateHash(nil), history...)
	sort.SliceStable(sorted, func(i, j int) bool {
		a, b := &sorted[i], &sorted[j]
		if a.Index != b.Index {
			return a.Index < b.Index
		}
		return a.Member < b.Member
	})
	differ := map[[2]string]bool{}
	for from := 0; from < len(sorted); {
		to := from + 1
		for to < len(sorted) && sorted[to].Index == sorted[from].Index {
			to++
		}
		for _, pair := range pairsThatDiffer(sorted[from:to]) {
			a, b := pair[0], pair[1]
			if names := [2]string{a.Member, b.Member}; !differ[names] {
				differ[names] = true
				r.add("two states of one index", "after entry %d member %s has hash %016x at revision %d, member %s has hash %016x at revision %d; it is the first entry at which they differ",
					a.Index, a.Member, a.Hash, a.Revision, b.Member, b.Hash, b.Revision)
			}
		}
		if to < len(sorted) && sorted[to].Revision < sorted[from].Revision {
			r.add("a revision that goes back", "after entry %d member %s is at revision %d, after entry %d member %s is at revision %d",
				sorted[from].Index, sorted[from].Member, sorted[from].Revision, sorted[to].Index, sorted[to].Member, sorted[to].Revision)
		}
		from = to
	}
	return r
}

// pairsThatDiffer pairs the hashes of one index that are not the same.
func pairsThatDiffer(group []StateHash) [][2]StateHash {
	var out [][2]StateHash
	for i, a := range group {
		for _, b := range group[i+1:] {
			if a.Hash != b.Hash || a.Revision != b.Revision {
				out = append(out, [2]StateHash{a, b})
			}
		}
	}
	return out
}
