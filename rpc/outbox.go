package rpc

// outbox holds the bytes of one exchange that wait to be framed: pieces that belong to it, and pieces that it shares with
// other exchanges and only refers to. conn.mu protects it.
type outbox struct {
	pieces [][]byte // from first on; those before are nil
	first  int
	off    int  // bytes of pieces[first] that are gone
	size   int  // bytes that wait
	own    bool // the last piece is the outbox's own: more may be appended to it
}

// share appends p without copying it: p must never change.
func (b *outbox) share(p []byte) {
	if len(p) == 0 {
		return
	}
	b.pieces = append(b.pieces, p)
	b.size += len(p)
	b.own = false
}

// copy appends a copy of p.
func (b *outbox) copy(p []byte) {
	if b.own && len(b.pieces) > b.first {
		last := &b.pieces[len(b.pieces)-1]
		if len(*last)+len(p) <= outboxPiece {
			*last = append(*last, p...)
			b.size += len(p)
			return
		}
	}
	b.share(append(make([]byte, 0, max(len(p), outboxLeast)), p...))
	b.own = true
}

// move appends the next n bytes, which must be there, to dst.
func (b *outbox) move(dst []byte, n int) []byte {
	b.size -= n
	for n > 0 {
		p := b.pieces[b.first][b.off:]
		if len(p) > n {
			b.off += n
			return append(dst, p[:n]...)
		}
		dst = append(dst, p...)
		n -= len(p)
		b.pieces[b.first] = nil
		b.first, b.off = b.first+1, 0
	}
	if b.size == 0 {
		b.reset()
	}
	return dst
}

// reset is called when everything has left: a short list is kept, so that a stream that keeps up allocates nothing.
func (b *outbox) reset() {
	pieces := b.pieces[:0]
	if cap(pieces) > outboxList {
		pieces = nil
	}
	*b = outbox{pieces: pieces}
}
