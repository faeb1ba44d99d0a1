package mvcc

import (
	"sync/atomic"

	"quorate.dev/quorate/ids"
)

// pins keeps the key sets of lists that are being read page by page, because those go on at their first page's revision for
// longer than the ring reaches back. Readers put sets in, the newest pushing the oldest out; the writer takes those out that
// no revision can need any more.
//
// It only decides whether a count is quick: the answer is the same without it.
type pins struct {
	slots [pinned]atomic.Pointer[keySet]
	next  atomic.Uint32
}

// pinned is how many lists of distinct key sets are kept. A set holds, besides what the newest one holds, at most a pointer
// and a half per key.
const pinned = 8

// keep remembers k.
func (p *pins) keep(k *keySet) {
	if p == nil {
		return
	}
	for i := range p.slots {
		if p.slots[i].Load() == k {
			return
		}
	}
	p.slots[p.next.Add(1)%pinned].Store(k)
}

// find returns a set that is exact at rev, nil if none is kept. A set that is still the newest is not looked for here.
func (p *pins) find(rev ids.Revision) *keySet {
	if p == nil {
		return nil
	}
	for i := range p.slots {
		if k := p.slots[i].Load(); k != nil && rev >= k.last && rev < ids.Revision(k.until.Load()) {
			return k
		}
	}
	return nil
}

// release forgets the sets that are exact only below the compacted revision.
func (p *pins) release(compacted ids.Revision) {
	for i := range p.slots {
		if k := p.slots[i].Load(); k != nil && k.until.Load() != 0 && ids.Revision(k.until.Load()) <= compacted {
			p.slots[i].CompareAndSwap(k, nil)
		}
	}
}
