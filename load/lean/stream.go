package lean

import "golang.org/x/net/http2"

// Handler receives what arrives on a stream. It runs on the connection's reader and must not block; it may use the stream
// and the connection. End comes exactly once and last, with nil when the server ended the stream with status OK, unless
// Cancel came first: then nothing comes any more but a callback that is already running.
type Handler interface {
	// Message is one response message, valid only during the call.
	Message(body []byte)
	// End is how the stream ended: nil, *Status or *ConnError.
	End(err error)
}

// PieceHandler is a Handler that takes messages as they arrive instead of whole, so that a response of any size costs no
// memory. Its Message is not called.
type PieceHandler interface {
	Handler
	// Piece is the next part of a message, of which left bytes are still to come.
	Piece(p []byte, left int)
}

// Stream is a call on which messages travel one by one.
type Stream struct {
	c *Conn
	s *stream
}

// Open starts a stream; its headers leave with the next Flush.
func (c *Conn) Open(m Method, h Handler) (*Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, err := c.open(m)
	if err != nil {
		return nil, err
	}
	s.handler = h
	s.pieces, _ = h.(PieceHandler)
	s.current = &Stream{c, s}
	return s.current, nil
}

// Send sends a request message with the next Flush; last says that no more will follow. It returns ErrEnded after the end
// of the stream, ErrQueue when the server does not take what was sent before. req is not kept.
func (t *Stream) Send(req Message, last bool) error {
	c, s := t.c, t.s
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return c.err
	case s.flags&(flagEnded|flagSentEnd|flagWantEnd) != 0:
		return ErrEnded
	case len(s.pend) > SendQueueBytes:
		return ErrQueue
	}
	c.message(s, req, last)
	return nil
}

// Cancel ends the stream at once. It leaves with the next Flush.
func (t *Stream) Cancel() {
	c, s := t.c, t.s
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.flags&flagEnded != 0 {
		return
	}
	if s.id == 0 {
		for i, w := range c.waiting {
			if w == s {
				c.waiting = append(c.waiting[:i], c.waiting[i+1:]...)
				break
			}
		}
		s.flags |= flagEnded
		return
	}
	c.send.out = appendUint32Frame(c.send.out, http2.FrameRSTStream, s.id, uint32(http2.ErrCodeCancel))
	c.leave(s)
}
