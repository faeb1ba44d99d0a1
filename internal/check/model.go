package check

import (
	"encoding/binary"
	"fmt"
)

// state is the store at one instant. It is immutable: an execution returns the next one.
type state struct {
	rev       int64
	compacted int64
	keys      *tree[KV]
	leases    *tree[int64]
	past      *tree[*tree[KV]] // keys by revision
	chain     uint64           // hash of all contents up to here
	doubt     int64            // up to here a compaction whose outcome is unknown may have gone
}

// genesis is an empty store: etcd's first revision is 1, and the first write makes it 2.
func genesis() *state {
	s := &state{rev: 1}
	s.past = s.past.with(number(1), nil, 0)
	return s
}

func (s *state) digest() uint64 {
	return s.chain ^ mix(uint64(s.rev)) ^ mix(s.leases.digest()+uint64(s.compacted))
}

func (s *state) equal(o *state) bool {
	return s.rev == o.rev && s.compacted == o.compacted && s.chain == o.chain && s.leases.digest() == o.leases.digest()
}

func number(n int64) string {
	return string(binary.BigEndian.AppendUint64(nil, uint64(n)))
}

func digestOf(kv KV) uint64 {
	h := hash(kv.Key)*31 + hash(kv.Value)
	for _, n := range [...]int64{kv.Create, kv.Mod, kv.Version, kv.Lease} {
		h = mix(h + uint64(n))
	}
	return h
}

// writer collects the changes of one revision on a copy of a state.
type writer struct {
	state
	events []Event
}

func (s *state) write() *writer { return &writer{state: *s} }

// done is the state after the changes; without any, the revision stays.
func (w *writer) done() *state {
	s := w.state
	if len(w.events) > 0 {
		s.rev++
		s.past = s.past.with(number(s.rev), s.keys, 0)
		s.chain = mix(s.chain*3 + s.keys.digest())
	}
	return &s
}

func (w *writer) put(r Request) Answer {
	old, had := w.keys.get(r.Key)
	kv := KV{Key: r.Key, Value: r.Value, Create: w.rev + 1, Mod: w.rev + 1, Version: 1, Lease: r.Lease}
	event := Event{Revision: w.rev + 1}
	var a Answer
	if had {
		kv.Create, kv.Version = old.Create, old.Version+1
		event.Prev = &old
		if r.Prev {
			a.KVs = []KV{old}
		}
	}
	event.KV = kv
	w.keys = w.keys.with(kv.Key, kv, digestOf(kv))
	w.events = append(w.events, event)
	return a
}

func (w *writer) delete(r Request) Answer {
	var a Answer
	for _, kv := range find(w.keys, r.Key, r.End) {
		w.keys = w.keys.without(kv.Key)
		w.events = append(w.events, Event{Revision: w.rev + 1, Delete: true, KV: KV{Key: kv.Key, Mod: w.rev + 1}, Prev: &kv})
		a.Count++
		if r.Prev {
			a.KVs = append(a.KVs, kv)
		}
	}
	return a
}

func (w *writer) drop(lease int64) {
	w.leases = w.leases.without(number(lease))
	for _, kv := range w.held(lease) {
		w.delete(Request{Key: kv.Key})
	}
}

// held are the keys of a lease.
func (s *state) held(lease int64) (out []KV) {
	s.keys.each("", "", true, func(_ string, kv KV) {
		if kv.Lease == lease {
			out = append(out, kv)
		}
	})
	return out
}

func (s *state) alive(lease int64) bool {
	_, ok := s.leases.get(number(lease))
	return ok
}

func find(keys *tree[KV], key, end string) (out []KV) {
	if end == "" {
		if kv, ok := keys.get(key); ok {
			out = append(out, kv)
		}
		return out
	}
	keys.each(key, end, end == "\x00", func(_ string, kv KV) { out = append(out, kv) })
	return out
}

func (s *state) read(r Request) Answer {
	keys := s.keys
	if r.Revision > 0 {
		switch {
		case r.Revision > s.rev:
			return Answer{Refusal: FutureRev}
		case r.Revision < s.compacted:
			return Answer{Refusal: Compacted}
		}
		keys, _ = s.past.get(number(r.Revision))
	}
	a := Answer{KVs: find(keys, r.Key, r.End)}
	a.Count = int64(len(a.KVs))
	if r.Limit > 0 && a.Count > r.Limit {
		a.KVs, a.More = a.KVs[:r.Limit], true
	}
	return a
}

func (c Compare) holds(keys *tree[KV]) bool {
	kv, ok := keys.get(c.Key)
	order := 0
	if c.Target == ByValue {
		if !ok {
			return false
		}
		order = compare(kv.Value, c.Value)
	} else {
		n := map[Target]int64{ByVersion: kv.Version, ByCreate: kv.Create, ByMod: kv.Mod, ByLease: kv.Lease}[c.Target]
		order = compare(n, c.Number)
	}
	switch c.Relation {
	case '=':
		return order == 0
	case '!':
		return order != 0
	case '<':
		return order < 0
	}
	return order > 0
}

func compare[T int64 | string](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (w *writer) txn(r Request) Answer {
	path := w.decide(nil, &r)
	if _, refusal := w.admit(&r, path); refusal != "" {
		return Answer{Refusal: refusal}
	}
	a, _ := w.carryOut(&r, path)
	return a
}

// execute is the store: what it answers to r in state s, the state after it, and the events it causes. granted is the id
// that a grant was given.
func (s *state) execute(r Request, granted int64) (*state, Answer, []Event) {
	w := s.write()
	var a Answer
	switch r.Kind {
	case Put:
		if r.Lease != 0 && !s.alive(r.Lease) {
			return s, Answer{Refusal: LeaseNotFound}, nil
		}
		a = w.put(r)
	case Delete:
		a = w.delete(r)
	case Range:
		a = s.read(r)
	case Txn:
		a = w.txn(r)
	case Grant:
		if s.alive(granted) {
			return s, Answer{Refusal: LeaseExists}, nil
		}
		a.Lease = granted
		w.leases = w.leases.with(number(granted), granted, hash(number(granted)))
	case Revoke, Expire:
		if !s.alive(r.Lease) {
			return s, Answer{Refusal: LeaseNotFound}, nil
		}
		w.drop(r.Lease)
	case Compact:
		switch {
		case r.Revision <= s.compacted:
			return s, Answer{Refusal: Compacted}, nil
		case r.Revision > s.rev:
			return s, Answer{Refusal: FutureRev}, nil
		}
		w.compacted = r.Revision
	}
	if a.Refusal != "" {
		return s, a, nil
	}
	next := w.done()
	a.Revision = next.rev
	return next, a, w.events
}

// step takes the operation in this state. The text says why it does not fit, and is empty when it does.
func (s *state) step(o *Operation) (*state, []Event, string) {
	got := o.Answer
	if got.Refusal != "" {
		next, why := s.refused(o)
		return next, nil, why
	}
	next, want, events := s.execute(o.Request, got.Lease)
	if want.Refusal != "" {
		return nil, nil, fmt.Sprintf("it must be refused here (revision %d): %s", s.rev, want.Refusal)
	}
	if why := differ(o.Request, want, got); why != "" {
		return nil, nil, fmt.Sprintf("%s (placed after revision %d)", why, s.rev)
	}
	return next, events, ""
}

// near says cheaply that an operation cannot be the next one, judging by its revision alone.
func (s *state) near(o *Operation) bool {
	switch at := o.Answer.Revision; {
	case o.Answer.Refusal != "":
		return true
	case o.Request.Kind == Revoke:
		return s.rev == at || s.rev == at-1
	case o.Request.Kind == Expire || writes(o.Request, o.Answer):
		return s.rev == at-1
	default:
		return s.rev == at
	}
}

// refused takes an operation that the store refused.
func (s *state) refused(o *Operation) (*state, string) {
	_, want, _ := s.execute(o.Request, o.Answer.Lease)
	switch refusal := o.Answer.Refusal; {
	case refusal == want.Refusal:
		return s, ""
	case refusal == LeaseNotFound:
		// The time of a lease without keys may be over without a trace.
		s, why := s.vanish(o.Request)
		if why != "" {
			return nil, why
		}
		return s, ""
	case refusal == Compacted && o.Request.Kind != Compact && o.Request.oldest() < s.doubt,
		refusal == Compacted && o.Request.Kind == Compact && o.Request.Revision <= s.doubt:
		return s, ""
	case refusal == LeaseExists || refusal == Compacted || refusal == FutureRev:
		return nil, fmt.Sprintf("nothing forbids it here (revision %d, compacted %d, the answer would be %s)", s.rev, s.compacted, want.text(o.Request.Kind))
	}
	return s, ""
}

// vanish ends the leases that a refused request names, if they hold no keys.
func (s *state) vanish(r Request) (*state, string) {
	var named []int64
	r.each(func(part *Request) { named = append(named, part.Lease) })
	w := s.write()
	found := false
	for _, lease := range named {
		if lease == 0 || !s.alive(lease) {
			continue
		}
		if held := s.held(lease); len(held) > 0 {
			continue
		}
		w.drop(lease)
		found = true
	}
	if !found {
		return nil, fmt.Sprintf("the lease is there at revision %d and holds keys", s.rev)
	}
	return w.done(), ""
}
