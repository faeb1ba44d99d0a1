package mvcc

import (
	"math/bits"
	"slices"
)

// Measure is what all pages of a Scan have together.
type Measure struct {
	Keys     int64
	Elements int64 // bytes of the records as elements of a repeated field with a tag of one byte, tags and lengths included
	Absent   int64 // bytes of the records that are not in memory, which Page reads from disk
}

func (m *Measure) add(size int) {
	m.Keys++
	m.Elements += int64(1 + (bits.Len(uint(size)|1)+6)/7 + size)
}

// Collect measures a scan of more than one key that has not begun, from the index alone. Where all records are in memory
// it appends them to dst as well, so that nothing that happens to the store afterwards concerns the reader; else it gives
// dst back as it was and the reader gets them by Page. Errors as Page.
func (s *Scan) Collect(dst [][]byte) (kvs [][]byte, m Measure, err error) {
	in := intervalOf(s.req.Key, s.req.RangeEnd)
	kvs = dst
	if s.scope.exact {
		kvs = slices.Grow(kvs, int(min(s.left, int64(in.count(s.view.data, s.scope.live)))))
	}
	d := s.view.data
	defer s.view.era.KeepAlive()
	var w walk
	w.start(d, &s.scope, in)
	for left := s.left; ; left-- {
		e, v := w.next()
		if e == nil || left == 0 {
			s.more = e != nil
			break
		}
		kv := d.kv(v)
		switch {
		case s.req.KeysOnly:
			kv = d.stripped(e, v)
			m.add(len(kv))
		default:
			m.add(int(v.n))
		}
		if kv == nil {
			m.Absent += int64(v.n)
		} else if m.Absent == 0 {
			kvs = append(kvs, kv)
		}
	}
	if m.Absent > 0 {
		clear(kvs[len(dst):])
		kvs = dst
	}
	return kvs, m, s.view.confirm(s.scope.rev, w.lost, nil)
}
