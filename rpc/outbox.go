package rpc

import (
	"math/bits"
	"sync"
)

// outbox holds the bytes of one exchange that wait to be framed: pieces that belong to it, and pieces that it shares with
// other exchanges and only refers to. conn.mu protects it.
type outbox struct {
	pieces []piece // from first on; those before are empty
	first  int
	off    int // bytes of pieces[first] that are gone
	size   int // bytes that wait
}

// piece is some bytes of an outbox and who they belong to.
type piece struct {
	bytes []byte
	owner owner
}

type owner uint8

const (
	ownerOther   owner = iota // they never change
	ownerOutbox               // more may be appended
	ownerRecycle              // a buffer of newMessage, to be given back
)

func (b *outbox) add(p []byte, o owner) {
	if len(p) == 0 {
		return
	}
	b.pieces = append(b.pieces, piece{p, o})
	b.size += len(p)
}

// copy appends a copy of p.
func (b *outbox) copy(p []byte) {
	if b.first < len(b.pieces) {
		last := &b.pieces[len(b.pieces)-1]
		if last.owner == ownerOutbox && len(last.bytes)+len(p) <= outboxPiece {
			last.bytes = append(last.bytes, p...)
			b.size += len(p)
			return
		}
	}
	b.add(append(make([]byte, 0, max(len(p), outboxLeast)), p...), ownerOutbox)
}

// move appends the next n bytes, which must be there, to dst.
func (b *outbox) move(dst []byte, n int) []byte {
	b.size -= n
	for n > 0 {
		p := b.pieces[b.first].bytes[b.off:]
		if len(p) > n {
			b.off += n
			return append(dst, p[:n]...)
		}
		dst = append(dst, p...)
		n -= len(p)
		b.drop()
	}
	if b.size == 0 {
		b.clear()
	}
	return dst
}

// drop lets go of the first piece.
func (b *outbox) drop() {
	if p := &b.pieces[b.first]; p.owner == ownerRecycle {
		recycleMessage(p.bytes)
	}
	b.pieces[b.first] = piece{}
	b.first, b.off = b.first+1, 0
}

// clear lets go of everything. A short list is kept, so that a stream that keeps up allocates nothing.
func (b *outbox) clear() {
	for b.first < len(b.pieces) {
		b.drop()
	}
	pieces := b.pieces[:0]
	if cap(pieces) > outboxList {
		pieces = nil
	}
	*b = outbox{pieces: pieces}
}

// messageBuffers are the memory of messages larger than a frame, by size: the one at i holds buffers of
// messageLeast << i bytes.
var messageBuffers [messageClasses]sync.Pool

// messageClass is the index in messageBuffers for n bytes; at or above messageClasses there is no pool.
func messageClass(n int) int { return bits.Len(uint(max(n-1, 0) / messageLeast)) }

// newMessage returns an empty buffer for n bytes.
func newMessage(n int) []byte {
	class := messageClass(n)
	if class >= messageClasses {
		return make([]byte, 0, n)
	}
	if b, ok := messageBuffers[class].Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, messageLeast<<class)
}

// recycleMessage takes a buffer of newMessage back.
func recycleMessage(b []byte) {
	if class := messageClass(cap(b)); class < messageClasses && cap(b) == messageLeast<<class {
		b = b[:0]
		messageBuffers[class].Put(&b)
	}
}
