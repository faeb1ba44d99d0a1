package load

import (
	"encoding/binary"
	"math/rand/v2"
)

// keySpace writes keys: the prefix, and the number padded with zeros to the key size, so that order of numbers is order of keys.
type keySpace struct {
	prefix string
	size   int
	count  int64
}

func (d *Data) space() keySpace { return keySpace{d.Prefix, d.KeySize, d.Keys} }

// appendKey appends key i, 0 <= i < count.
func (k keySpace) appendKey(dst []byte, i int64) []byte {
	at := len(dst) + k.size
	for range k.size {
		dst = append(dst, '0')
	}
	copy(dst[at-k.size:], k.prefix)
	for at--; i > 0; at-- {
		dst[at] = byte('0' + i%10)
		i /= 10
	}
	return dst
}

// end is the key behind all keys of the prefix.
func (k keySpace) end() []byte { return prefixEnd([]byte(k.prefix)) }

// prefixEnd is the smallest key above all keys with the prefix; a zero byte, which stands for all keys, when there is none.
func prefixEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return []byte{0}
}

// source is the randomness of one slot.
type source struct {
	pcg *rand.PCG
	rnd *rand.Rand
}

func newSource(seed, slot uint64) source {
	p := rand.NewPCG(seed, slot^0x9e3779b97f4a7c15)
	return source{p, rand.New(p)}
}

// filler is what the compressible part of a value repeats.
const filler = "the quick brown fox jumps over the lazy dog and "

// values writes values: random bytes, then filler.
type values struct {
	random int // bytes at the front that do not compress
	buf    []byte
}

func (d *Data) values() values {
	v := values{random: d.ValueSize - int(float64(d.ValueSize)*d.Compressible), buf: make([]byte, d.ValueSize)}
	for i := v.random; i < len(v.buf); i++ {
		v.buf[i] = filler[i%len(filler)]
	}
	return v
}

// next is a new value, valid until the next call.
func (v *values) next(s source) []byte {
	b := v.buf[:v.random]
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, s.pcg.Uint64())
		b = b[8:]
	}
	if len(b) > 0 {
		x := s.pcg.Uint64()
		for i := range b {
			b[i] = byte(x >> (8 * i))
		}
	}
	return v.buf
}
