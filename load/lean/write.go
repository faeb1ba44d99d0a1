package lean

import (
	"net"

	"golang.org/x/net/http2"
)

func appendFrame(dst []byte, n int, t http2.FrameType, flags http2.Flags, id uint32) []byte {
	return append(dst, byte(n>>16), byte(n>>8), byte(n), byte(t), byte(flags), byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

// appendUint32Frame appends a frame whose payload is one number: WINDOW_UPDATE or RST_STREAM.
func appendUint32Frame(dst []byte, t http2.FrameType, id, v uint32) []byte {
	return append(appendFrame(dst, 4, t, 0, id), byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

func appendMessageHeader(dst []byte, n int) []byte {
	return append(dst, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

// message puts req behind what s has to send, last when the request ends with it.
func (c *Conn) message(s *stream, req Message, last bool) {
	size := req.Size()
	n := messageHeader + size
	if s.id != 0 && len(s.pend) == 0 && n <= c.send.frame && int64(n) <= s.window && int64(n) <= c.send.window {
		var flags http2.Flags
		if last {
			flags = http2.FlagDataEndStream
			s.flags |= flagSentEnd
		}
		out := appendFrame(c.send.out, n, http2.FrameData, flags, s.id)
		c.send.out = req.Append(appendMessageHeader(out, size))
		s.window -= int64(n)
		c.send.window -= int64(n)
		return
	}
	s.pend = req.Append(appendMessageHeader(s.pend, size))
	if last {
		s.flags |= flagWantEnd
	}
	c.pump(s)
}

// pump sends what the windows allow of s.
func (c *Conn) pump(s *stream) {
	if s.id == 0 || s.flags&(flagEnded|flagSentEnd) != 0 {
		return
	}
	at := 0
	for at < len(s.pend) {
		n := int(min(int64(len(s.pend)-at), int64(c.send.frame), s.window, c.send.window))
		if n <= 0 {
			break
		}
		var flags http2.Flags
		if at+n == len(s.pend) && s.flags&flagWantEnd != 0 {
			flags = http2.FlagDataEndStream
			s.flags |= flagSentEnd
		}
		c.send.out = append(appendFrame(c.send.out, n, http2.FrameData, flags, s.id), s.pend[at:at+n]...)
		s.window -= int64(n)
		c.send.window -= int64(n)
		at += n
	}
	s.pend = s.pend[:copy(s.pend, s.pend[at:])]
	if len(s.pend) == 0 && s.flags&(flagWantEnd|flagSentEnd) == flagWantEnd {
		c.send.out = appendFrame(c.send.out, 0, http2.FrameData, http2.FlagDataEndStream, s.id)
		s.flags |= flagSentEnd
	}
	if len(s.pend) > 0 && s.flags&flagBlocked == 0 {
		s.flags |= flagBlocked
		c.send.blocked = append(c.send.blocked, s)
	}
}

// pumpBlocked tries every stream that waits for window again.
func (c *Conn) pumpBlocked() {
	list := c.send.blocked
	c.send.blocked = nil
	for _, s := range list {
		s.flags &^= flagBlocked
		c.pump(s)
	}
}

// Flush sends what was called since the last one. A socket that takes no more is left to a goroutine, so Flush never waits
// for the server. An error is why the connection takes no more calls, also when this Flush sent everything.
func (c *Conn) Flush() error {
	c.mu.Lock()
	if c.send.flushing || len(c.send.out) == 0 {
		err := c.err
		c.mu.Unlock()
		return err
	}
	c.send.flushing = true
	for {
		buf := c.takeOut()
		if buf == nil {
			err := c.err
			c.mu.Unlock()
			return err
		}
		c.mu.Unlock()
		n, err := c.tryWrite(buf)
		if err != nil {
			c.broken(err)
			return c.Err()
		}
		if n < len(buf) {
			go c.writeRest(buf, n)
			return nil
		}
		c.mu.Lock()
		c.keepOut(buf)
	}
}

// takeOut returns what is to be written now, nil when there is nothing and nobody is flushing any more.
func (c *Conn) takeOut() []byte {
	if len(c.send.out) == 0 {
		c.send.flushing = false
		return nil
	}
	buf := c.send.out
	c.send.out = c.send.spare[:0]
	c.send.spare = nil
	return buf
}

func (c *Conn) keepOut(buf []byte) {
	if cap(buf) <= bufferKeep {
		c.send.spare = buf[:0]
	}
}

// writeRest writes buf from n on, and then what gathers meanwhile, waiting for the socket.
func (c *Conn) writeRest(buf []byte, n int) {
	for {
		if _, err := c.nc.Write(buf[n:]); err != nil {
			c.broken(err)
			return
		}
		n = 0
		c.mu.Lock()
		c.keepOut(buf)
		buf = c.takeOut()
		c.mu.Unlock()
		if buf == nil {
			return
		}
	}
}

// broken ends the connection after a failed write. The reader completes the calls; it may still find a GOAWAY that says why.
func (c *Conn) broken(err error) {
	c.refuse(err)
	if half, ok := c.nc.(*net.TCPConn); ok {
		_ = half.CloseWrite()
		return
	}
	c.nc.Close()
}

// tryWrite writes as much as the socket takes without waiting; nothing when that cannot be known. Only who is flushing calls it.
func (c *Conn) tryWrite(buf []byte) (int, error) {
	if c.raw == nil {
		return 0, nil
	}
	t := &c.send.try
	t.buf = buf
	err := c.raw.Write(t.write)
	t.buf = nil
	if err != nil {
		return 0, err
	}
	return t.n, t.err
}

// attempt is a write that does not wait; its function is kept, so that writing allocates nothing.
type attempt struct {
	write func(fd uintptr) bool
	buf   []byte
	n     int
	err   error
}

func (t *attempt) init() {
	t.write = func(fd uintptr) bool {
		t.n, t.err = writeFD(fd, t.buf)
		return true
	}
}
