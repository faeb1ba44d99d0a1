package wal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"quorate.dev/quorate/ids"
)

// The layout of a segment file, in full in docs/format/wal.md. All numbers are little-endian.
//
//	file   = header sector, group, group, ..., zeros up to the capacity that the header states
//	group  = one or more sectors: the frame and the body, padded with zeros
//	sector = 1 tag byte, 511 payload bytes
const (
	sectorSize  = 512
	payloadSize = sectorSize - 1
	headerSize  = sectorSize
	frameSize   = 36
	maxBody     = math.MaxInt32

	// Tags have several bits set and differ in several, so that no flip of a single bit makes a written sector look like
	// one that was not written, or one kind like the other. The content of entries cannot reach a tag's place, so it
	// cannot imitate the start of a group.
	tagHeader byte = 0xd3 // the file's header
	tagFirst  byte = 0xa6 // first sector of a group
	tagMore   byte = 0x59 // further sectors of a group

	// flagLoose marks a group that was written without waiting for the one before to be durable.
	flagLoose = 1

	formatVersion = 1
)

var (
	magic      = [8]byte{'q', 'u', 'o', 'r', 'w', 'a', 'l', 0}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	zeroSector [sectorSize]byte
)

// chain links a group to everything before it in the log.
type chain struct {
	number uint64 // of the last group; the first is 1
	sum    uint32 // CRC-32C of it, seeded with the sum before
}

// header is the first sector of a segment.
type header struct {
	seq      uint64 // of the segment
	capacity int64  // size of the file in bytes
	chain    chain  // of the last group of the segment before
	last     ids.Index
	meta     Metadata
	state    hardState
}

// headerSumAt is where the header's CRC-32C is; it covers everything before it and is seeded with the chain's sum.
const headerSumAt = 89

// encode returns the header sector and the sum that the first group of the segment continues.
func (h *header) encode() ([]byte, uint32) {
	b := make([]byte, 0, sectorSize)
	b = append(b, tagHeader)
	b = append(b, magic[:]...)
	b = binary.LittleEndian.AppendUint32(b, formatVersion)
	b = binary.LittleEndian.AppendUint64(b, h.seq)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.capacity))
	b = binary.LittleEndian.AppendUint64(b, h.chain.number)
	b = binary.LittleEndian.AppendUint32(b, h.chain.sum)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.last))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.meta.Member))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.meta.Cluster))
	b = binary.LittleEndian.AppendUint64(b, h.state.term)
	b = binary.LittleEndian.AppendUint64(b, h.state.vote)
	b = binary.LittleEndian.AppendUint64(b, h.state.commit)
	sum := crc32.Update(h.chain.sum, castagnoli, b)
	b = binary.LittleEndian.AppendUint32(b, sum)
	return b[:sectorSize], sum
}

// decodeHeader returns the header, the sum that the first group continues, and what is wrong with it ("" if nothing).
func decodeHeader(b []byte) (h header, sum uint32, wrong string) {
	if len(b) < sectorSize {
		return h, 0, "the file is shorter than its header"
	}
	if !bytes.Equal(b[1:9], magic[:]) {
		return h, 0, "the file does not start like a segment of the log"
	}
	if v := binary.LittleEndian.Uint32(b[9:]); v > formatVersion {
		return h, 0, fmt.Sprintf("it has format version %d and this release reads versions up to %d: if a newer release wrote it, start that release", v, formatVersion)
	}
	sum = binary.LittleEndian.Uint32(b[headerSumAt:])
	h.chain.sum = binary.LittleEndian.Uint32(b[37:])
	if crc32.Update(h.chain.sum, castagnoli, b[:headerSumAt]) != sum {
		return h, 0, "the checksum of the header does not match"
	}
	h.seq = binary.LittleEndian.Uint64(b[13:])
	h.capacity = int64(binary.LittleEndian.Uint64(b[21:]))
	h.chain.number = binary.LittleEndian.Uint64(b[29:])
	h.last = ids.Index(binary.LittleEndian.Uint64(b[41:]))
	h.meta.Member = ids.MemberID(binary.LittleEndian.Uint64(b[49:]))
	h.meta.Cluster = ids.ClusterID(binary.LittleEndian.Uint64(b[57:]))
	h.state.term = binary.LittleEndian.Uint64(b[65:])
	h.state.vote = binary.LittleEndian.Uint64(b[73:])
	h.state.commit = binary.LittleEndian.Uint64(b[81:])
	return h, sum, ""
}

// frame is the start of a group's payload.
type frame struct {
	number  uint64 // of the group
	offset  int64  // of the group in its file: a group in the wrong place is noticed
	length  int64  // of the body in bytes
	flags   uint32
	before  uint32 // sum of the group before
	ownSum  uint32 // CRC-32C of the fields above, seeded with before
	bodySum uint32 // CRC-32C of the body, seeded with ownSum: the group's sum
}

// groupSize is the size on disk of a group with a body of n bytes.
func groupSize(n int) int64 {
	return (int64(frameSize+n) + payloadSize - 1) / payloadSize * sectorSize
}

// appendGroup appends the sectors of a group to dst, and returns the chain that includes it.
func appendGroup(dst, body []byte, before chain, offset int64, loose bool) ([]byte, chain) {
	dst = append(dst, tagFirst)
	dst = append(dst, zeroSector[:frameSize]...)
	f := dst[len(dst)-frameSize:] // in place: a frame of its own would be allocated, because checksums let it escape
	number := before.number + 1
	binary.LittleEndian.PutUint64(f[0:], number)
	binary.LittleEndian.PutUint64(f[8:], uint64(offset))
	binary.LittleEndian.PutUint32(f[16:], uint32(len(body)))
	if loose {
		binary.LittleEndian.PutUint32(f[20:], flagLoose)
	}
	binary.LittleEndian.PutUint32(f[24:], before.sum)
	own := crc32.Update(before.sum, castagnoli, f[:28])
	sum := crc32.Update(own, castagnoli, body)
	binary.LittleEndian.PutUint32(f[28:], own)
	binary.LittleEndian.PutUint32(f[32:], sum)

	n := min(len(body), payloadSize-frameSize)
	dst = append(dst, body[:n]...)
	for body = body[n:]; len(body) > 0; body = body[n:] {
		n = min(len(body), payloadSize)
		dst = append(dst, tagMore)
		dst = append(dst, body[:n]...)
	}
	if rest := len(dst) % sectorSize; rest > 0 {
		dst = append(dst, zeroSector[rest:]...)
	}
	return dst, chain{number: number, sum: sum}
}

// decodeFrame reads the frame from a group's first sector and says whether its own checksum matches.
func decodeFrame(sector []byte) (f frame, ok bool) {
	b := sector[1 : 1+frameSize]
	f.number = binary.LittleEndian.Uint64(b)
	f.offset = int64(binary.LittleEndian.Uint64(b[8:]))
	f.length = int64(binary.LittleEndian.Uint32(b[16:]))
	f.flags = binary.LittleEndian.Uint32(b[20:])
	f.before = binary.LittleEndian.Uint32(b[24:])
	f.ownSum = binary.LittleEndian.Uint32(b[28:])
	f.bodySum = binary.LittleEndian.Uint32(b[32:])
	return f, crc32.Update(f.before, castagnoli, b[:28]) == f.ownSum
}

func (f *frame) size() int64 { return groupSize(int(f.length)) }

// body returns the body out of the group's sectors, in new memory, and says whether its checksum matches.
func (f *frame) body(sectors []byte) ([]byte, bool) {
	body := make([]byte, 0, f.length+payloadSize)
	for at := 0; at < len(sectors); at += sectorSize {
		from := 1
		if at == 0 {
			from += frameSize
		}
		body = append(body, sectors[at+from:at+sectorSize]...)
	}
	body = body[:f.length]
	return body, crc32.Update(f.ownSum, castagnoli, body) == f.bodySum
}
