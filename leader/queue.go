package leader

import "quorate.dev/quorate/ids"

// instant is a point in time on the duty's own scale: nanoseconds since it was made.
type instant int64

// due says that a lease is to be looked at.
type due struct {
	at instant
	id ids.LeaseID
}

// queue is a binary heap of dues, earliest first, equal instants by lease id. The zero value is empty. It holds plain
// numbers only, so a million leases cost the garbage collector nothing.
type queue []due

func (a due) before(b due) bool { return a.at < b.at || (a.at == b.at && a.id < b.id) }

// push adds d in O(log n).
func (q *queue) push(d due) {
	*q = append(*q, d)
	h := *q
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h[i].before(h[parent]) {
			return
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}

// pop removes the earliest, if it is at or before now, in O(log n).
func (q *queue) pop(now instant) (due, bool) {
	h := *q
	if len(h) == 0 || h[0].at > now {
		return due{}, false
	}
	top := h[0]
	last := len(h) - 1
	h[0] = h[last]
	*q = h[:last]
	h[:last].down(0)
	return top, true
}

// down restores the order below position i.
func (q queue) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(q) {
			return
		}
		if child+1 < len(q) && q[child+1].before(q[child]) {
			child++
		}
		if !q[child].before(q[i]) {
			return
		}
		q[i], q[child] = q[child], q[i]
		i = child
	}
}

// order makes a heap of dues in any order, in O(n).
func (q queue) order() {
	for i := len(q)/2 - 1; i >= 0; i-- {
		q.down(i)
	}
}
