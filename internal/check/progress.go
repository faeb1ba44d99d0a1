package check

import "sort"

// Progress checks that everything works again soon after all faults have ended: every client has asked something at or after
// the instant healed that was answered at or before healed+bound. A refusal counts if it is an answer of the store itself
// (LeaseNotFound, LeaseExists, Compacted, FutureRev); one that says that it cannot serve does not. clients are all that
// there are, so that one that has recorded nothing is missed. The history must go on until healed+bound at least. Rule:
// "no progress".
func Progress(clients []int, history []Operation, healed, bound int64) Report {
	var r Report
	r.Operations = len(history)
	served, asked := map[int]bool{}, map[int]int{}
	late := map[int]*Operation{} // the first success of each client that came too late
	for i := range history {
		o := &history[i]
		if o.Call < healed {
			continue
		}
		asked[o.Client]++
		switch {
		case !o.Known() || !o.Answer.served():
		case o.Return <= healed+bound:
			served[o.Client] = true
		case late[o.Client] == nil || o.Return < late[o.Client].Return:
			late[o.Client] = o
		}
	}
	sorted := append([]int(nil), clients...)
	sort.Ints(sorted)
	for _, c := range sorted {
		switch {
		case served[c]:
		case asked[c] == 0:
			r.add("no progress", "client %d asked nothing after %d, when all faults had ended", c, healed)
		case late[c] != nil:
			r.add("no progress", "client %d had no success from %d, when all faults had ended, to %d; the first was %v", c, healed, healed+bound, late[c])
		default:
			r.add("no progress", "client %d asked %d times after %d, when all faults had ended, and never had success", c, asked[c], healed)
		}
	}
	return r
}

// served reports whether the answer is that of a store that works.
func (a *Answer) served() bool {
	switch a.Refusal {
	case "", LeaseNotFound, LeaseExists, Compacted, FutureRev:
		return true
	}
	return false
}
