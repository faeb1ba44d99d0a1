package world

import (
	"fmt"

	"quorate.dev/quorate/internal/check"
)

// past is a revision to read at: mostly one that can be read, but also those that cannot be read any more, or not yet.
func (c *client) past() int64 {
	w := c.w
	switch w.rng.IntN(8) {
	case 0:
		return max(1, w.compacted-w.rng.Int64N(3))
	case 1:
		return w.compacted + w.rng.Int64N(3)
	case 2:
		return w.seen + w.rng.Int64N(4) // it may be there when the request gets there
	case 3:
		return w.seen + 1000
	}
	return max(1, w.seen-w.rng.Int64N(20))
}

// condition is a comparison of any kind, which holds now and then.
func (c *client) condition(key string) check.Compare {
	rng := c.w.rng
	cond := check.Compare{Key: key, Target: check.ByMod, Relation: '=', Number: c.mods[key]}
	switch rng.IntN(8) {
	case 0:
		cond.Target, cond.Number = check.ByVersion, rng.Int64N(5)
	case 1:
		cond.Target, cond.Number = check.ByCreate, c.mods[key]-rng.Int64N(2)
	case 2:
		cond.Target, cond.Number, cond.Value = check.ByValue, 0, fmt.Sprintf("%d.%d", 1+rng.IntN(c.w.set.Clients), rng.IntN(100))
	case 3:
		if cond.Target, cond.Number = check.ByLease, 0; len(c.leases) > 0 && c.w.chance(2) {
			cond.Number = c.leases[rng.IntN(len(c.leases))]
		}
	}
	if rng.IntN(3) == 0 {
		cond.Relation = "=!<>"[rng.IntN(4)]
	}
	return cond
}

// txn replaces two keys if the first is as this client saw it last, and reads otherwise; some also read the past, which may refuse
// all of it, and some hold another transaction.
func (c *client) txn(put check.Request) check.Request {
	rng := c.w.rng
	put.Prev = rng.IntN(4) == 0
	other := check.Request{Kind: check.Put, Key: put.Key + "+", Value: put.Value}
	if rng.IntN(3) == 0 {
		other = check.Request{Kind: check.Delete, Key: put.Key + "+", Prev: put.Prev}
	}
	q := check.Request{Kind: check.Txn, If: []check.Compare{c.condition(put.Key)},
		Then: []check.Request{put, other, {Kind: check.Range, Key: put.Key, End: put.Key + "~"}},
		Else: []check.Request{{Kind: check.Range, Key: put.Key}}}
	switch rng.IntN(10) {
	case 0:
		q.If = nil
	case 1:
		q.If = append(q.If, c.condition(c.key()))
	case 2: // of reads alone
		q.Then, q.Else = q.Then[2:], append(q.Else, check.Request{Kind: check.Range, Key: "k", End: "l", Limit: 3})
	}
	if rng.IntN(4) == 0 {
		back := check.Request{Kind: check.Range, Key: put.Key, Revision: c.past()}
		if rng.IntN(2) == 0 {
			q.Then = append(q.Then, back)
		} else {
			q.Else = append(q.Else, back)
			if rng.IntN(2) == 0 {
				q.Else = append(q.Else, check.Request{Kind: check.Put, Key: put.Key + "!", Value: put.Value})
			}
		}
	}
	if rng.IntN(5) == 0 {
		key := put.Key
		if c.w.guarded() { // who may do all the rest may not do this
			key = c.key()
		}
		inner := check.Request{Kind: check.Txn, If: []check.Compare{c.condition(put.Key)},
			Then: []check.Request{{Kind: check.Put, Key: key + "-", Value: put.Value}, {Kind: check.Range, Key: key + "+"}},
			Else: []check.Request{{Kind: check.Range, Key: key, Revision: c.past() * rng.Int64N(2)}, {Kind: check.Delete, Key: key + "-"}}}
		if q.Then = append(q.Then, inner); rng.IntN(2) == 0 {
			q.Else = append(q.Else, inner)
		}
	}
	return q
}
