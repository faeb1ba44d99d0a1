package node

import (
	"sort"
	"sync"

	"quorate.dev/quorate/command"
)

// registry holds the proposals handed to raft until they are answered: a ring in the order of their ids, which is the order
// in which they were proposed and, with few exceptions, that in which they commit.
//
// The loop adds and expires, the applier takes; each does so once per batch, so the lock is not contended. Whoever
// removes a waiter from its item answers it: that is why each is answered exactly once.
//
// Invariant: ids ascend from head to tail; the item at head, if there is one, is not answered.
type registry struct {
	mu         sync.Mutex
	ring       []item // a power of two
	head, tail uint64 // positions; position p is ring[p&(len-1)]
	next       uint64 // where the next answer is expected
}

func (r *registry) at(p uint64) *item { return &r.ring[p&uint64(len(r.ring)-1)] }

// add appends the items of one chunk.
func (r *registry) add(items []item) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.grow(len(items))
	for i := range items {
		*r.at(r.tail) = items[i]
		r.tail++
	}
}

// grow makes room for n more items.
func (r *registry) grow(n int) {
	used := int(r.tail - r.head)
	if used+n <= len(r.ring) {
		return
	}
	size := max(2*len(r.ring), 1024)
	for size < used+n {
		size *= 2
	}
	ring := make([]item, size)
	for p := r.head; p < r.tail; p++ {
		ring[p&uint64(size-1)] = *r.at(p)
	}
	r.ring = ring
}

// take finds the waiters of the commands, nil where there is none, removes them, and reports how many there were and the
// bytes of their entries. out has the length of cmds.
func (r *registry) take(cmds []command.Command, out []command.Waiter) (count, bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range cmds {
		out[i] = nil
		if cmds[i].ID == 0 {
			continue
		}
		it := r.find(cmds[i].ID)
		if it == nil {
			continue
		}
		out[i] = it.waiter
		count++
		bytes += it.size
		it.waiter = nil
	}
	r.pop()
	return count, bytes
}

// find returns the item with this id if it waits. Answers mostly come in order, so it looks at the expected place first.
func (r *registry) find(id uint64) *item {
	r.next = max(r.next, r.head)
	if r.next >= r.tail || r.at(r.next).id != id {
		n := int(r.tail - r.head)
		i := sort.Search(n, func(i int) bool { return r.at(r.head+uint64(i)).id >= id })
		if i == n || r.at(r.head+uint64(i)).id != id {
			return nil
		}
		r.next = r.head + uint64(i)
	}
	it := r.at(r.next)
	r.next++
	if it.waiter == nil {
		return nil
	}
	return it
}

// pop moves head over what is answered.
func (r *registry) pop() {
	for r.head < r.tail && r.at(r.head).waiter == nil {
		*r.at(r.head) = item{}
		r.head++
	}
}

// expire removes and returns the items that were proposed at or before start. All have the same time to live, so they are
// the oldest.
func (r *registry) expire(start int64) []item {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []item
	for r.head < r.tail && r.at(r.head).start <= start {
		out = append(out, *r.at(r.head))
		r.at(r.head).waiter = nil
		r.pop()
	}
	return out
}

// unanswered returns a chunk of those items of c that still wait, in memory of its own.
func (r *registry) unanswered(c *chunk) *chunk {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &chunk{}
	p, at := r.head, 0
	for _, it := range c.items {
		data := c.arena[at : at+it.size]
		at += it.size
		for p < r.tail && r.at(p).id < it.id {
			p++
		}
		if p < r.tail && r.at(p).id == it.id && r.at(p).waiter != nil {
			out.arena = append(out.arena, data...)
			out.items = append(out.items, it)
		}
	}
	return out
}

// oldest returns the id of the oldest item that waits, or ok false when none does.
func (r *registry) oldest() (id uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.head == r.tail {
		return 0, false
	}
	return r.at(r.head).id, true
}
