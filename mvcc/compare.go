package mvcc

import (
	"bytes"
	"cmp"

	"quorate.dev/quorate/wire"
)

// The fields of Compare's target_union.
const (
	unionVersion = 4
	unionCreate  = 5
	unionMod     = 6
	unionValue   = 7
	unionLease   = 8
)

// holds says whether every compare of a transaction is true at the current revision.
func (s *sight) holds(compares []wire.Compare) (bool, error) {
	for i := range compares {
		if ok, err := s.compare(&compares[i]); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// compare evaluates one compare. With a range_end every key of the interval must satisfy it. No key at all is compared as
// one KeyValue of zeros, but for values: a key that is not there has no value, so nothing about it is true.
func (s *sight) compare(c *wire.Compare) (bool, error) {
	in := intervalOf(c.Key, c.RangeEnd)
	if in.single {
		e, v := s.get(c.Key, s.rev)
		if v == nil {
			return absent(c), s.confirm(s.rev, false, nil)
		}
		ok, err := s.satisfies(c, e, v)
		if err != nil {
			err = s.confirm(s.rev, false, err)
		}
		return ok, err
	}
	sc := scope{rev: s.rev, live: s.keys.root, exact: true}
	var w walk
	w.start(s.data, &sc, in)
	e, v := w.next()
	if e == nil {
		return absent(c), s.confirm(s.rev, w.lost, nil)
	}
	for ; e != nil; e, v = w.next() {
		if ok, err := s.satisfies(c, e, v); !ok || err != nil {
			return false, s.confirm(s.rev, w.lost, err)
		}
	}
	return true, s.confirm(s.rev, w.lost, nil)
}

func absent(c *wire.Compare) bool {
	return c.Target != wire.CompareValue && operator(c.Result, cmp.Compare(0, operand(c)))
}

// satisfies compares one key's version.
func (s *sight) satisfies(c *wire.Compare, e *entry, v *version) (bool, error) {
	var got int64
	switch c.Target {
	case wire.CompareVersion:
		got = v.number
	case wire.CompareCreate:
		got = int64(v.create)
	case wire.CompareMod:
		got = int64(v.main)
	case wire.CompareValue, wire.CompareLease:
		kv, err := s.value(e, v)
		if err != nil {
			return false, err
		}
		if c.Target == wire.CompareValue {
			return operator(c.Result, bytes.Compare(wire.ValueOf(kv), valueOperand(c))), nil
		}
		got = wire.LeaseOf(kv)
	default:
		return operator(c.Result, 0), nil // a target of a later protocol: equal to anything, as in etcd
	}
	return operator(c.Result, cmp.Compare(got, operand(c))), nil
}

// operand is the number to compare with; a union field of another target counts as zero.
func operand(c *wire.Compare) int64 {
	want := [...]int32{wire.CompareVersion: unionVersion, wire.CompareCreate: unionCreate, wire.CompareMod: unionMod,
		wire.CompareLease: unionLease}
	if c.Target < 0 || int(c.Target) >= len(want) || want[c.Target] == 0 || c.Union != want[c.Target] {
		return 0
	}
	return c.Number
}

func valueOperand(c *wire.Compare) []byte {
	if c.Union != unionValue {
		return nil
	}
	return c.Value
}

// operator applies a compare result to the order of what is there and what is wanted. An unknown one is true, as in etcd.
func operator(r wire.CompareResult, order int) bool {
	switch r {
	case wire.CompareEqual:
		return order == 0
	case wire.CompareNotEqual:
		return order != 0
	case wire.CompareGreater:
		return order > 0
	case wire.CompareLess:
		return order < 0
	}
	return true
}
