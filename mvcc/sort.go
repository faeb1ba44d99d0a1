package mvcc

import (
	"bytes"
	"sort"

	"quorate.dev/quorate/wire"
)

// passes says whether v is within the request's revision filters; 0 is no bound.
func passes(req *wire.RangeRequest, v *version) bool {
	main, create := int64(v.main), int64(v.create)
	return (req.MaxModRevision == 0 || main <= req.MaxModRevision) &&
		(req.MinModRevision == 0 || main >= req.MinModRevision) &&
		(req.MaxCreateRevision == 0 || create <= req.MaxCreateRevision) &&
		(req.MinCreateRevision == 0 || create >= req.MinCreateRevision)
}

// sortable is one key of a result that is to be sorted. Values are read only where the order needs them, so that a limit
// saves the reading of the others.
type sortable struct {
	e     *entry
	v     *version
	kv    []byte // when sorting by value
	value []byte // within kv
	num   int64  // when sorting by a number
}

// fillSorted answers a request with a custom order or with filters.
func (s *sight) fillSorted(req *wire.RangeRequest, resp *wire.RangeResponse, sc *scope, in interval) error {
	fetch := int64(0)
	if defaultOrder(req) && !filtered(req) && req.Limit > 0 {
		fetch = req.Limit + 1
	}
	var w walk
	var all []sortable
	w.start(s.data, sc, in)
	for e, v := w.next(); e != nil; e, v = w.next() {
		resp.Count++
		if (filtered(req) && !passes(req, v)) || (fetch > 0 && int64(len(all)) >= fetch) {
			continue
		}
		item := sortable{e: e, v: v}
		if err := s.rate(req.SortTarget, &item); err != nil {
			return s.confirm(sc.rev, w.lost, err)
		}
		all = append(all, item)
	}
	s.data.arrange(req, all)
	if req.Limit > 0 && int64(len(all)) > req.Limit {
		all = all[:req.Limit]
		resp.More = true
	}
	for i := range all {
		kv, err := s.finish(req, &all[i])
		if err != nil {
			return s.confirm(sc.rev, w.lost, err)
		}
		resp.KVs = append(resp.KVs, kv)
	}
	return s.confirm(sc.rev, w.lost, nil)
}

// rate finds what an item is sorted by.
func (s *sight) rate(target wire.SortTarget, item *sortable) (err error) {
	switch target {
	case wire.SortByVersion:
		item.num = item.v.number
	case wire.SortByCreate:
		item.num = int64(item.v.create)
	case wire.SortByMod:
		item.num = int64(item.v.main)
	case wire.SortByValue:
		item.kv, err = s.value(item.e, item.v)
		item.value = wire.ValueOf(item.kv)
	}
	return err
}

func (s *sight) finish(req *wire.RangeRequest, item *sortable) ([]byte, error) {
	switch {
	case item.kv == nil:
		return s.form(req, item.e, item.v)
	case req.KeysOnly:
		return withoutValue(item.kv), nil
	}
	return item.kv, nil
}

// arrange sorts as the request wants. Equal items have no defined order in the protocol; the algorithm and its input order
// are those of etcd, so that they come out alike.
func (d *data) arrange(req *wire.RangeRequest, all []sortable) {
	order := req.SortOrder
	if req.SortTarget != wire.SortByKey && order == wire.SortNone {
		order = wire.SortAscend
	}
	if order == wire.SortNone || (req.SortTarget == wire.SortByKey && order == wire.SortAscend) {
		return
	}
	by := sorter{items: all}
	switch req.SortTarget {
	case wire.SortByKey:
		by.less = func(a, b *sortable) bool { return d.key(a.e) < d.key(b.e) }
	case wire.SortByValue:
		by.less = func(a, b *sortable) bool { return bytes.Compare(a.value, b.value) < 0 }
	default:
		by.less = func(a, b *sortable) bool { return a.num < b.num }
	}
	if order == wire.SortDescend {
		sort.Sort(sort.Reverse(by))
		return
	}
	sort.Sort(by)
}

type sorter struct {
	items []sortable
	less  func(a, b *sortable) bool
}

func (s sorter) Len() int           { return len(s.items) }
func (s sorter) Swap(i, j int)      { s.items[i], s.items[j] = s.items[j], s.items[i] }
func (s sorter) Less(i, j int) bool { return s.less(&s.items[i], &s.items[j]) }
