package lean

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/net/http2"
)

// receiver is the incoming half; only the reader uses it.
type receiver struct {
	buf      []byte
	r, w     int
	credit   int64     // received since the last WINDOW_UPDATE of the connection, bytes
	borrowed []*stream // whose body may alias buf
	seen     bool      // the server's first SETTINGS
	goAway   error     // what GOAWAY said

	block    []byte // of HEADERS that CONTINUATION goes on
	blockID  uint32 // 0 when no block is open
	blockEnd bool   // END_STREAM of those HEADERS
	headers  headerDecoder
}

func (r *receiver) init(*Conn) {
	r.buf = make([]byte, readBytesMin)
	r.headers.init()
}

// frame is one frame; its payload aliases the input buffer.
type frame struct {
	kind    http2.FrameType
	flags   http2.Flags
	id      uint32
	payload []byte
}

// run is the reader: it reads until the connection ends and then completes what is left.
func (c *Conn) run() {
	err := c.readLoop()
	if c.recv.goAway != nil && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
		err = c.recv.goAway
	}
	c.refuse(err)
	c.nc.Close()
	c.mu.Lock()
	for len(c.streams) > 0 || len(c.waiting) > 0 {
		for _, s := range c.streams {
			c.finish(s, nil, c.err)
		}
		if n := len(c.waiting); n > 0 {
			s := c.waiting[n-1]
			c.waiting = c.waiting[:n-1]
			c.finish(s, nil, unprocessedError{c.err})
		}
	}
	c.mu.Unlock()
	close(c.done)
}

func (c *Conn) readLoop() error {
	sweep := c.cfg.Timeout / sweepsPerTimeout
	if err := c.nextSweep(sweep); err != nil {
		return err
	}
	for {
		if err := c.Flush(); err != nil && c.recv.goAway == nil {
			return c.drainAfter(err)
		}
		n, err := c.fill()
		if n > 0 {
			c.mu.Lock()
			perr := c.process()
			c.mu.Unlock()
			if perr != nil {
				return perr
			}
		}
		switch {
		case err == nil:
		case sweep > 0 && errors.Is(err, os.ErrDeadlineExceeded):
			c.sweep()
			if err := c.nextSweep(sweep); err != nil {
				return err
			}
		default:
			return fmt.Errorf("the connection is lost: %w", err)
		}
	}
}

// drainAfter reads what the server said before it closed the connection under a failed write: a GOAWAY tells more.
func (c *Conn) drainAfter(err error) error {
	if errors.Is(err, ErrClosed) {
		return err
	}
	if c.nc.SetReadDeadline(time.Now().Add(time.Second)) != nil {
		return err
	}
	for c.recv.goAway == nil {
		if n, rerr := c.fill(); n == 0 || rerr != nil {
			return err
		}
		c.mu.Lock()
		perr := c.process()
		c.mu.Unlock()
		if perr != nil {
			return err
		}
	}
	return c.recv.goAway
}

func (c *Conn) nextSweep(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	return c.nc.SetReadDeadline(time.Now().Add(d))
}

// sweep ends unary calls that are older than the timeout.
func (c *Conn) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	var late []*stream
	for _, s := range c.streams {
		if s.done == nil {
			continue
		}
		if s.age++; s.age > sweepsPerTimeout {
			late = append(late, s)
		}
	}
	for _, s := range late {
		c.send.out = appendUint32Frame(c.send.out, http2.FrameRSTStream, s.id, uint32(http2.ErrCodeCancel))
		s.flags |= flagSentEnd
		c.finish(s, nil, statusTimeout)
	}
}

// fill reads once. Bodies that alias the buffer are copied first, because what is left of a frame moves to its beginning.
func (c *Conn) fill() (int, error) {
	r := &c.recv
	if len(r.borrowed) > 0 {
		c.repay()
	}
	if r.r > 0 {
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
	if r.w == len(r.buf) && len(r.buf) < readBytesMax {
		bigger := make([]byte, 2*len(r.buf))
		copy(bigger, r.buf)
		r.buf = bigger
	}
	n, err := c.nc.Read(r.buf[r.w:])
	r.w += n
	return n, err
}

// repay copies the bodies that still alias the buffer. Most streams in the list have ended, and may be other calls by now.
func (c *Conn) repay() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.recv.borrowed {
		if s.flags&flagBorrowed != 0 {
			s.own = append(s.own[:0], s.body...)
			s.body = nil
			s.flags &^= flagBorrowed
		}
		c.recv.borrowed[i] = nil
	}
	c.recv.borrowed = c.recv.borrowed[:0]
}

// process handles every whole frame of the buffer. It holds c.mu, but for callbacks.
func (c *Conn) process() error {
	r := &c.recv
	full := r.r == 0 && r.w == len(r.buf)
	for r.w-r.r >= frameHeader {
		b := r.buf[r.r:r.w]
		n := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
		if n > defaultFrame {
			return fmt.Errorf("the server sent a frame of %d bytes; is it an HTTP/2 server?", n)
		}
		if len(b) < frameHeader+n {
			break
		}
		f := frame{http2.FrameType(b[3]), http2.Flags(b[4]), binary.BigEndian.Uint32(b[5:9]) & (1<<31 - 1), b[frameHeader : frameHeader+n]}
		r.r += frameHeader + n
		if err := c.handle(f); err != nil {
			return err
		}
	}
	if full && len(r.buf) < readBytesMax {
		// The socket had more than fits: read more at a time. Nothing aliases the old buffer but borrowed bodies, which stay
		// valid in it.
		bigger := make([]byte, 2*len(r.buf))
		r.w = copy(bigger, r.buf[r.r:r.w])
		r.r, r.buf = 0, bigger
	}
	return nil
}

func (c *Conn) handle(f frame) error {
	if !c.recv.seen && f.kind != http2.FrameSettings {
		return fmt.Errorf("the server began with a %v frame instead of SETTINGS", f.kind)
	}
	if c.recv.blockID != 0 && f.kind != http2.FrameContinuation {
		return fmt.Errorf("a %v frame inside a header block", f.kind)
	}
	switch f.kind {
	case http2.FrameData:
		return c.data(f)
	case http2.FrameHeaders:
		return c.headers(f)
	case http2.FrameContinuation:
		return c.continuation(f)
	case http2.FrameRSTStream:
		return c.reset(f)
	case http2.FrameSettings:
		return c.settings(f)
	case http2.FramePing:
		return c.ping(f)
	case http2.FrameGoAway:
		return c.goAway(f)
	case http2.FrameWindowUpdate:
		return c.windowUpdate(f)
	case http2.FramePushPromise:
		return errors.New("the server pushes, which this client forbids")
	}
	return nil // PRIORITY, and types that are not known, are to be ignored
}

// stream is the stream of a frame, nil for one that has ended.
func (c *Conn) stream(f frame) (*stream, error) {
	if f.id&1 == 0 || f.id >= c.nextID {
		return nil, fmt.Errorf("a %v frame on stream %d, which does not exist", f.kind, f.id)
	}
	return c.streams[f.id], nil
}

// unpad removes the padding of a DATA or HEADERS frame.
func unpad(f frame) ([]byte, error) {
	p := f.payload
	if !f.flags.Has(http2.FlagDataPadded) {
		return p, nil
	}
	if len(p) == 0 || len(p)-1 < int(p[0]) {
		return nil, fmt.Errorf("a %v frame with more padding than payload", f.kind)
	}
	return p[1 : len(p)-int(p[0])], nil
}

func (c *Conn) data(f frame) error {
	s, err := c.stream(f)
	if err != nil {
		return err
	}
	c.recv.credit += int64(len(f.payload))
	if c.recv.credit >= ConnWindow/4 {
		c.send.out = appendUint32Frame(c.send.out, http2.FrameWindowUpdate, 0, uint32(c.recv.credit))
		c.recv.credit = 0
	}
	p, err := unpad(f)
	if err != nil {
		return err
	}
	if s == nil {
		return nil
	}
	if s.flags&flagHeaders == 0 {
		return fmt.Errorf("DATA before HEADERS on stream %d", f.id)
	}
	end := f.flags.Has(http2.FlagDataEndStream)
	if !end {
		back := len(f.payload)
		if s.flags&flagPaced != 0 {
			back -= len(p) // see Stream.Credit, prefixBack and advance
		}
		c.credit(s, back)
	}
	var bad *Status
	if s.handler != nil {
		bad = c.streamData(s, p)
	} else {
		bad = c.unaryData(s, p)
	}
	if end && bad == nil {
		bad = &Status{CodeInternal, "the server ended the stream without trailers"}
	}
	if bad != nil && s.flags&flagEnded == 0 {
		c.abort(s, bad)
	}
	return nil
}

// abort resets a stream whose server does not follow gRPC.
func (c *Conn) abort(s *stream, err *Status) {
	c.send.out = appendUint32Frame(c.send.out, http2.FrameRSTStream, s.id, uint32(http2.ErrCodeCancel))
	s.flags |= flagSentEnd
	c.finish(s, nil, err)
}

// unaryData keeps a part of the response: by reference when it is the whole.
func (c *Conn) unaryData(s *stream, p []byte) *Status {
	if s.flags&flagBorrowed == 0 && len(s.own) == 0 {
		if len(p) >= messageHeader && len(p)-messageHeader == int(binary.BigEndian.Uint32(p[1:])) {
			s.body = p
			s.flags |= flagBorrowed
			c.recv.borrowed = append(c.recv.borrowed, s)
			return nil
		}
	}
	if s.flags&flagBorrowed != 0 {
		s.own = append(s.own[:0], s.body...)
		s.body = nil
		s.flags &^= flagBorrowed
	}
	if len(s.own)+len(p) > MessageBytesMax {
		return &Status{CodeResourceExhausted, "the response is larger than this client takes"}
	}
	s.own = append(s.own, p...)
	return nil
}

// response is the one message of a unary response.
func (s *stream) response() ([]byte, *Status) {
	b := s.own
	if s.flags&flagBorrowed != 0 {
		b = s.body
	}
	switch {
	case len(b) < messageHeader:
		return nil, &Status{CodeInternal, "a response without a message"}
	case b[0] != 0:
		return nil, errCompressed
	case len(b)-messageHeader != int(binary.BigEndian.Uint32(b[1:])):
		return nil, &Status{CodeInternal, "a response that is not one message"}
	}
	return b[messageHeader:], nil
}

var errCompressed = &Status{CodeInternal, "a compressed message, which this client did not ask for"}

// streamData hands out the messages, or pieces, that p completes.
func (c *Conn) streamData(s *stream, p []byte) *Status {
	for len(p) > 0 && s.flags&flagEnded == 0 {
		if s.flags&flagInPiece != 0 {
			n := min(len(p), s.left)
			p = c.piece(s, p, n)
			continue
		}
		if len(s.own) < messageHeader && len(s.own)+len(p) < messageHeader {
			s.own = append(s.own, p...)
			return nil
		}
		if k := messageHeader - len(s.own); k > 0 && len(s.own) > 0 {
			s.own = append(s.own, p[:k]...)
			p = p[k:]
		}
		head := p
		if len(s.own) > 0 {
			head = s.own
		}
		if head[0] != 0 {
			return errCompressed
		}
		size := int(binary.BigEndian.Uint32(head[1:]))
		if s.pieces != nil {
			if len(s.own) == 0 {
				p = p[messageHeader:]
			}
			s.own, s.left = s.own[:0], size
			c.prefixBack(s)
			s.flags |= flagInPiece
			p = c.piece(s, p, min(len(p), size))
			continue
		}
		if size > MessageBytesMax-messageHeader {
			return &Status{CodeResourceExhausted, "a message larger than this client takes"}
		}
		p = c.wholeMessage(s, p, messageHeader+size)
	}
	return nil
}

// piece hands out n bytes of p, which belong to the message under way, and returns the rest.
func (c *Conn) piece(s *stream, p []byte, n int) []byte {
	s.left -= n
	if s.left == 0 {
		s.flags &^= flagInPiece
	}
	left := s.left
	if n > 0 || left == 0 {
		c.mu.Unlock()
		s.pieces.Piece(p[:n], left)
		c.mu.Lock()
	}
	return p[n:]
}

// wholeMessage hands out the message of total bytes, prefix included, that begins in own or p, if p completes it, and returns
// what is behind it.
func (c *Conn) wholeMessage(s *stream, p []byte, total int) []byte {
	var m []byte
	switch {
	case len(s.own) == 0 && len(p) >= total:
		m, p = p[:total], p[total:]
	case len(s.own)+len(p) < total:
		s.own = append(s.own, p...)
		c.advance(s)
		return nil
	default:
		k := total - len(s.own)
		s.own = append(s.own, p[:k]...)
		m, p = s.own, p[k:]
	}
	c.prefixBack(s)
	c.mu.Unlock()
	s.handler.Message(m[messageHeader:])
	c.mu.Lock()
	s.own = s.own[:0]
	if cap(s.own) > bufferKeep {
		s.own = nil
	}
	return p
}

// finish takes s out of the table and runs its callback without the lock.
func (c *Conn) finish(s *stream, body []byte, err error) {
	if s.id != 0 && s.flags&flagSentEnd == 0 {
		// The server answered before it had the whole request, or a stream's client side is still open.
		c.send.out = appendUint32Frame(c.send.out, http2.FrameRSTStream, s.id, uint32(http2.ErrCodeCancel))
	}
	c.leave(s)
	c.mu.Unlock()
	if s.handler != nil {
		s.handler.End(err)
	} else {
		s.done.Done(body, err)
	}
	c.mu.Lock()
	c.recycle(s)
}
