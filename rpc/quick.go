package rpc

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/net/http2"
)

// The frames of a call that goes well are handled where they lie in the input, when they lie there whole: HEADERS with
// all of their block, DATA without padding, WINDOW_UPDATE. Everything else, and everything that looks odd, takes the way
// through the Framer, which judges it.

// quickFrame handles the next frame if it is one of those; handled says whether it was.
func (c *conn) quickFrame() (handled bool, err error) {
	p := c.in.unread()
	if len(p) < frameHeaderBytes || c.head.open {
		return false, nil
	}
	size := int(p[0])<<16 | int(p[1])<<8 | int(p[2])
	if size > frameBytes || len(p) < frameHeaderBytes+size {
		return false, nil
	}
	flags, id := http2.Flags(p[4]), binary.BigEndian.Uint32(p[5:])
	payload := p[frameHeaderBytes : frameHeaderBytes+size : frameHeaderBytes+size]
	switch kind := http2.FrameType(p[3]); {
	case id >= 1<<31:
	case kind == http2.FrameData && id != 0 && flags&^http2.FlagDataEndStream == 0:
		c.in.skip(frameHeaderBytes + size)
		return true, c.onData(id, payload, size, flags != 0)
	case kind == http2.FrameHeaders && id != 0 && flags&^http2.FlagHeadersEndStream == http2.FlagHeadersEndHeaders:
		c.in.skip(frameHeaderBytes + size)
		return true, c.onHeaders(id, payload, flags.Has(http2.FlagHeadersEndStream), true, false)
	case kind == http2.FrameWindowUpdate && size == 4:
		if n := binary.BigEndian.Uint32(payload) & (1<<31 - 1); n > 0 {
			c.in.skip(frameHeaderBytes + size)
			return true, c.onWindowUpdate(id, n)
		}
	}
	return false, nil
}

// knownBlocks remembers header blocks that refer to tables only. Such a block means the same as long as the tables do not
// change, which only blocks of another kind do.
type knownBlocks struct {
	list   [blocksKnown]knownBlock
	next   int    // slot of list that is overwritten next
	tables uint64 // blocks that may have changed the tables
}

type knownBlock struct {
	bytes   []byte
	tables  uint64 // knownBlocks.tables when it was decoded
	req     *request
	timeout string
}

// recall returns a block that was decoded before, nil when there is none.
func (b *knownBlocks) recall(block []byte) *knownBlock {
	for i := range b.list {
		if k := &b.list[i]; k.req != nil && k.tables == b.tables && bytes.Equal(k.bytes, block) {
			return k
		}
	}
	return nil
}

// learn is called with every whole block that was decoded, and the request it means, nil for none.
func (b *knownBlocks) learn(block []byte, req *request, timeout string) {
	if !refersOnly(block) {
		b.tables++
		return
	}
	if req == nil || req.malformed != "" || req.failed != nil || len(block) > knownBlockBytes {
		return
	}
	k := &b.list[b.next]
	b.next = (b.next + 1) % len(b.list)
	*k = knownBlock{append(k.bytes[:0], block...), b.tables, req, timeout}
}

// refersOnly reports whether all fields of a block are indexed ones (RFC 7541 section 6.1), which change no table.
func refersOnly(block []byte) bool {
	for i := 0; i < len(block); i++ {
		if block[i]&0x80 == 0 {
			return false
		}
		if block[i] == 0xff { // the index goes on
			for i++; i < len(block) && block[i]&0x80 != 0; i++ {
			}
		}
	}
	return true
}
