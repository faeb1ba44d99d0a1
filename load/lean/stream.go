package lean

import (
	"cmp"
	"time"

	"golang.org/x/net/http2"
)

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

// HeaderReceiver is a Handler or Completion that wants to know what metadata came with the answer, besides gRPC's own.
type HeaderReceiver interface {
	// Headers gets the headers or, with trailers set, the trailers, when there are any. They may be kept. It runs as Message
	// does, and before it or before the end.
	Headers(metadata []Field, trailers bool)
}

// Stream is a call on which messages travel one by one.
type Stream struct {
	c *Conn
	s *stream
}

// Open starts a stream; its headers leave with the next Flush.
func (c *Conn) Open(m Method, h Handler) (*Stream, error) {
	return c.openStream(opening{method: m}, 0, h)
}

// Pace says who gives a stream's receive window back to the server.
type Pace bool

// The paces of a stream.
const (
	Free  Pace = false // what has arrived is given back at once
	Paced Pace = true  // what Message got is given back by Stream.Credit, and what Piece got too
)

// OpenWith starts a stream as Open does, with header instead of a method and the connection's token. timeout is told to the
// server; 0 tells nothing.
func (c *Conn) OpenWith(header *Header, timeout time.Duration, pace Pace, h Handler) (*Stream, error) {
	var flags streamFlags
	if pace == Paced {
		flags = flagPaced
	}
	return c.openStream(opening{header: header, timeout: timeout}, flags, h)
}

func (c *Conn) openStream(o opening, flags streamFlags, h Handler) (*Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, err := c.open(o)
	if err != nil {
		return nil, err
	}
	s.handler = h
	s.pieces, _ = h.(PieceHandler)
	s.flags |= flags
	s.current = &Stream{c, s}
	return s.current, nil
}

// Credit lets the server of a Paced stream send n bytes more, once what Message or Piece got, as many bytes, is dealt with.
// The server hears of it with a later Flush.
func (t *Stream) Credit(n int) {
	c, s := t.c, t.s
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.flags&flagEnded != 0 {
		return
	}
	paid := min(n, s.ahead)
	s.ahead -= paid
	c.credit(s, n-paid)
	c.advance(s)
}

// advance gives window back for a message of a Paced stream that is being assembled, on account of the Credit to come:
// messages larger than the window would never be whole otherwise. c.mu held.
func (c *Conn) advance(s *stream) {
	if part := len(s.own) - s.ahead; s.flags&flagPaced != 0 && part >= c.window()/4 {
		s.ahead += part
		c.credit(s, part)
	}
}

// prefixBack gives back what Credit does not count. c.mu held.
func (c *Conn) prefixBack(s *stream) {
	if s.flags&flagPaced != 0 {
		c.credit(s, messageHeader)
	}
}

// window is the receive window of one stream, bytes.
func (c *Conn) window() int { return cmp.Or(c.cfg.Window, StreamWindow) }

// credit gives n bytes of receive window back to the server when enough have gathered. c.mu held.
func (c *Conn) credit(s *stream, n int) {
	if s.credit += int64(n); s.credit >= int64(c.window())/4 && !c.cfg.Stall {
		c.send.out = appendUint32Frame(c.send.out, http2.FrameWindowUpdate, s.id, uint32(s.credit))
		s.credit = 0
	}
}

// CloseSend says that no more messages will follow, with the next Flush.
func (t *Stream) CloseSend() {
	c, s := t.c, t.s
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.flags&(flagEnded|flagSentEnd|flagWantEnd) == 0 {
		s.flags |= flagWantEnd
		c.pump(s)
	}
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
	c.forget(s)
}
