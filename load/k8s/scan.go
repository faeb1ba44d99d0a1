package k8s

import (
	"encoding/binary"

	"quorate.dev/quorate/wire"
)

// pageScan reads a RangeResponse that arrives in pieces and keeps of it only what a list needs to go on.
type pageScan struct {
	revision int64 // of the header
	keys     int64
	more     bool
	last     []byte                      // key
	each     func(key []byte, mod int64) // called for each KeyValue; nil for nobody

	tag    uint64 // of the field under way, 0 before it is known
	left   uint64 // of its payload, bytes
	head   []byte // the begin of its payload
	number [binary.MaxVarintLen64]byte
	have   int
	bad    bool
}

// Fields of RangeResponse, as tags.
const (
	tagHeader = 1<<3 | 2
	tagKVs    = 2<<3 | 2
	tagMore   = 3 << 3
)

func (s *pageScan) feed(p []byte) {
	for len(p) > 0 && !s.bad {
		if s.left > 0 {
			n := min(s.left, uint64(len(p)))
			if room := headBytes - len(s.head); room > 0 {
				s.head = append(s.head, p[:min(n, uint64(room))]...)
			}
			p = p[n:]
			if s.left -= n; s.left == 0 {
				s.field()
			}
			continue
		}
		s.number[s.have] = p[0]
		s.have++
		done := p[0] < 0x80
		p = p[1:]
		switch {
		case done:
			v, _ := binary.Uvarint(s.number[:s.have])
			s.have = 0
			s.varint(v)
		case s.have == len(s.number):
			s.bad = true
		}
	}
}

// varint takes a tag, a length, or a number.
func (s *pageScan) varint(v uint64) {
	switch {
	case s.tag == 0:
		s.tag = v
		s.bad = v>>3 == 0 || v&7 != 0 && v&7 != 2
	case s.tag&7 == 0:
		if s.tag == tagMore {
			s.more = v != 0
		}
		s.tag = 0
	default:
		s.left, s.head = v, s.head[:0]
		if v == 0 {
			s.field()
		}
	}
}

// field takes the begin of a field whose payload has come to its end.
func (s *pageScan) field() {
	switch s.tag {
	case tagHeader:
		var h wire.Header
		s.bad = h.Unmarshal(s.head) != nil
		s.revision = h.Revision
	case tagKVs:
		s.keys++
		key := wire.KeyOf(s.head)
		s.last = append(s.last[:0], key...)
		if s.each != nil {
			s.each(key, wire.ModRevisionOf(s.head))
		}
	}
	s.tag = 0
}

// whole reports whether what came was a RangeResponse to its end.
func (s *pageScan) whole() bool {
	return !s.bad && s.left == 0 && s.have == 0 && s.tag == 0 && s.revision != 0
}
