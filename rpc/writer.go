package rpc

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// writer is the sending side of a connection. conn.mu protects all of it.
//
// Frames are appended to out; when that is long enough it goes to full and another buffer takes its place, so that
// nothing that is framed is copied again. Whoever takes busy writes full and out, again and again, until nothing is
// pending; bytes that others append meanwhile are therefore written by it. Data that the windows, or too much framed
// output, hold back waits in its exchange; exchanges that have data and window wait in queue and send one frame per turn.
type writer struct {
	c *conn
	output
	head     headEncoder
	queue    turns     // exchanges that may send DATA, oldest turn first
	window   int64     // the peer's connection window
	initial  int64     // the peer's initial stream window
	waiting  int       // bytes in all exchanges' outboxes
	busy     bool      // the write token is taken
	dirty    bool      // the connection is on its flusher's list
	late     bool      // the connection is on its server's list of later
	failed   bool      // the socket took no more
	notify   []func()  // NotifyWritable functions to be called once the lock is released
	moved    sync.Cond // signalled when framed bytes were given to the socket
	provoked bool      // HEADERS or DATA were sent since the last PING came: see conn.onPing
}

// output is what is framed.
type output struct {
	out       []byte   // complete frames not yet given to the socket
	full      [][]byte // earlier ones
	fullSize  int      // bytes in full
	unhurried int      // how many of the framed bytes, from the first on, may wait for others to leave with
}

// turns is a queue of exchanges, linked through outflow.after.
type turns struct{ head, tail *exchange }

func (q *turns) empty() bool { return q.head == nil }

func (q *turns) push(x *exchange) {
	if q.head == nil {
		q.head = x
	} else {
		q.tail.out.after = x
	}
	q.tail = x
}

func (q *turns) pop() *exchange {
	x := q.head
	q.head, x.out.after = x.out.after, nil
	if q.head == nil {
		q.tail = nil
	}
	return x
}

// Output buffers come in two sizes: most connections never need a large one.
type (
	smallBuffer [outBufferSmall]byte
	largeBuffer [outBuffer + frameBytes + 1<<10]byte
)

var (
	smallBuffers = sync.Pool{New: func() any { return new(smallBuffer) }}
	largeBuffers = sync.Pool{New: func() any { return new(largeBuffer) }}
)

// buffer returns out, with memory behind it, for a frame of a few bytes to be begun.
func (w *writer) buffer() []byte {
	w.room(outSpare)
	return w.out
}

// room makes room in out for a frame of n bytes, so that appending it copies nothing else.
func (w *writer) room(n int) {
	switch {
	case w.out == nil && n <= outBufferSmall:
		w.out = smallBuffers.Get().(*smallBuffer)[:0]
	case cap(w.out)-len(w.out) >= n && len(w.out) < outBuffer:
	case len(w.out) >= outBufferSmall:
		w.full = append(w.full, w.out)
		w.fullSize += len(w.out)
		w.out = largeBuffers.Get().(*largeBuffer)[:0]
	default:
		small := w.out
		w.out = append(largeBuffers.Get().(*largeBuffer)[:0], small...)
		recycle(small)
	}
}

func recycle(b []byte) {
	switch cap(b) {
	case len(largeBuffer{}):
		largeBuffers.Put((*largeBuffer)(b[:cap(b)]))
	case len(smallBuffer{}):
		smallBuffers.Put((*smallBuffer)(b[:cap(b)]))
	}
}

// framed is the number of bytes that wait for the socket.
func (w *writer) framed() int { return w.fullSize + len(w.out) }

// pending reports whether there is something to be written, framed or called.
func (w *writer) pending() bool {
	return w.framed() > 0 || !w.queue.empty() || len(w.notify) > 0
}

func appendFrame(dst []byte, size int, t http2.FrameType, flags http2.Flags, id uint32) []byte {
	return append(dst, byte(size>>16), byte(size>>8), byte(size), byte(t), byte(flags), byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

// frameHeaderBytes is the size of every HTTP/2 frame's header.
const frameHeaderBytes = 9

// patchSize sets the payload length of the frame that begins at at and reaches to the end of dst.
func patchSize(dst []byte, at int) {
	n := len(dst) - at - frameHeaderBytes
	dst[at], dst[at+1], dst[at+2] = byte(n>>16), byte(n>>8), byte(n)
}

// endBlock completes the HEADERS frame that begins at at, moving what exceeds a frame into CONTINUATIONs.
func endBlock(dst []byte, at int, id uint32) []byte {
	block := dst[at+frameHeaderBytes:]
	if len(block) <= frameBytes {
		patchSize(dst, at)
		return dst
	}
	rest := append([]byte(nil), block[frameBytes:]...)
	dst = dst[:at+frameHeaderBytes+frameBytes]
	dst[at+4] &^= byte(http2.FlagHeadersEndHeaders)
	patchSize(dst, at)
	for len(rest) > 0 {
		n := min(frameBytes, len(rest))
		var flags http2.Flags
		if n == len(rest) {
			flags = http2.FlagContinuationEndHeaders
		}
		dst = append(appendFrame(dst, n, http2.FrameContinuation, flags, id), rest[:n]...)
		rest = rest[n:]
	}
	return dst
}

// appendHeaders writes the response headers of a gRPC exchange unless that is done.
func (w *writer) appendHeaders(x *exchange) {
	if x.out.begun {
		return
	}
	x.out.begun = true
	at := len(w.buffer())
	w.out = appendFrame(w.out, 0, http2.FrameHeaders, http2.FlagHeadersEndHeaders, x.id)
	w.out = w.head.appendGRPC(w.out, x.req.contentType)
	w.out = appendPairs(w.out, x.out.header)
	w.out = endBlock(w.out, at, x.id)
	w.provoked = true
}

// appendTrailers writes the end of a gRPC exchange: trailers, or headers and trailers in one when no message was sent
// and the handler set no headers.
func (w *writer) appendTrailers(x *exchange) {
	if len(x.out.header) > 0 {
		w.appendHeaders(x)
	}
	at := len(w.buffer())
	w.out = appendFrame(w.out, 0, http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, x.id)
	if x.out.begun {
		w.out = w.head.begin(w.out)
	} else {
		w.out = w.head.appendGRPC(w.out, x.req.contentType)
	}
	w.out = w.head.appendStatus(w.out, x.end)
	w.out = appendPairs(w.out, x.out.trailer)
	w.out = endBlock(w.out, at, x.id)
	w.provoked = true
}

func (w *writer) appendReset(id uint32, code http2.ErrCode) {
	w.out = appendFrame(w.buffer(), 4, http2.FrameRSTStream, 0, id)
	w.out = binary.BigEndian.AppendUint32(w.out, uint32(code))
}

func (w *writer) appendWindowUpdate(id uint32, n int) {
	w.out = appendFrame(w.buffer(), 4, http2.FrameWindowUpdate, 0, id)
	w.out = binary.BigEndian.AppendUint32(w.out, uint32(n))
}

func (w *writer) appendPing(ack bool, data [8]byte) {
	var flags http2.Flags
	if ack {
		flags = http2.FlagPingAck
	}
	w.out = append(appendFrame(w.buffer(), 8, http2.FramePing, flags, 0), data[:]...)
}

func (w *writer) appendGoAway(last uint32, code http2.ErrCode, debug string) {
	w.out = appendFrame(w.buffer(), 8+len(debug), http2.FrameGoAway, 0, 0)
	w.out = binary.BigEndian.AppendUint32(w.out, last)
	w.out = binary.BigEndian.AppendUint32(w.out, uint32(code))
	w.out = append(w.out, debug...)
}

func (w *writer) appendSettings(settings ...http2.Setting) {
	w.out = appendFrame(w.buffer(), 6*len(settings), http2.FrameSettings, 0, 0)
	for _, s := range settings {
		w.out = binary.BigEndian.AppendUint16(w.out, uint16(s.ID))
		w.out = binary.BigEndian.AppendUint32(w.out, s.Val)
	}
}

// send sends one gRPC message of x: straight into out when it fits a frame and the windows are open, else by the queue.
func (w *writer) send(x *exchange, m Message, size int) {
	w.appendHeaders(x)
	n := int64(prefixBytes + size)
	if n > frameBytes || !w.open(x, n) {
		w.enqueue(x, appendMessage(newMessage(int(n)), m, size), ownerRecycle)
		return
	}
	w.provoked = true
	x.out.window -= n
	w.window -= n
	x.out.frames++
	w.room(frameHeaderBytes + int(n))
	w.out = appendFrame(w.out, int(n), http2.FrameData, 0, x.id)
	w.out = appendMessage(w.out, m, size)
}

// open reports whether n bytes of x may be framed at once without passing others that wait.
func (w *writer) open(x *exchange, n int64) bool {
	return !x.out.hasData() && n <= x.out.window && n <= w.window && w.queue.empty() && w.framed() <= outHighWater
}

// sendShared sends one gRPC message of x, head and body. body is not copied while it waits and must never change.
func (w *writer) sendShared(x *exchange, head, body []byte) {
	w.appendHeaders(x)
	lead := prefixBytes + len(head)
	n := lead + len(body)
	if lead <= frameBytes && w.open(x, int64(n)) {
		w.frameShared(x, head, body)
		return
	}
	var prefix [prefixBytes]byte
	x.out.box.copy(appendPrefix(prefix[:0], n-prefixBytes))
	x.out.box.copy(head)
	x.out.box.add(body, ownerOther)
	w.waiting += n
	w.schedule(x)
}

// frameShared frames a message for which the windows have room. Its head fits the first frame.
func (w *writer) frameShared(x *exchange, head, body []byte) {
	size := len(head) + len(body)
	x.out.window -= int64(prefixBytes + size)
	w.window -= int64(prefixBytes + size)
	w.provoked = true
	first := true
	for left := prefixBytes + size; left > 0; {
		n := min(left, frameBytes)
		w.room(frameHeaderBytes + n)
		w.out = appendFrame(w.out, n, http2.FrameData, 0, x.id)
		x.out.frames++
		left -= n
		if first {
			w.out = append(appendPrefix(w.out, size), head...)
			n -= prefixBytes + len(head)
			first = false
		}
		w.out = append(w.out, body[:n]...)
		body = body[n:]
	}
}

// enqueue queues bytes of x to be sent as DATA. It takes over data, which belongs to o.
func (w *writer) enqueue(x *exchange, data []byte, o owner) {
	w.waiting += len(data)
	if len(data) > outboxLeast {
		x.out.box.add(data, o)
	} else {
		x.out.box.copy(data)
		if o == ownerRecycle {
			recycleMessage(data)
		}
	}
	w.schedule(x)
}

// schedule puts x in the queue when it can send.
func (w *writer) schedule(x *exchange) {
	if !x.out.queued && x.out.window > 0 && x.out.hasData() && !x.over && !x.out.idle {
		x.out.queued = true
		w.queue.push(x)
	}
}

// pump frames queued data as far as the windows and the bound on framed output allow. The caller holds mu and the write
// token; mu may be released in between.
func (w *writer) pump() {
	for !w.queue.empty() && w.window > 0 && w.framed() < outHighWater && !w.failed {
		x := w.queue.pop()
		x.out.queued = false
		if x.over {
			continue
		}
		if x.out.box.size == 0 && x.out.next != nil && !w.produce(x) {
			continue
		}
		w.sendFrame(x)
		w.schedule(x)
	}
}

// produce asks the producer of x for its next piece, without the lock; false when there is none, or x ended meanwhile.
func (w *writer) produce(x *exchange) bool {
	next, buf := x.out.next, x.out.piece[:0]
	x.out.resumed = false
	w.c.mu.Unlock()
	piece, more := next(buf)
	w.c.mu.Lock()
	if x.over {
		return false
	}
	x.out.left -= len(piece)
	if x.out.left < 0 || !more && x.out.left > 0 {
		panic(fmt.Sprintf("BUG: the producer of a reply to %s is %d bytes off the size it announced", x.req.path, x.out.left))
	}
	x.out.piece = piece
	if len(piece) == 0 && more {
		x.out.idle = !x.out.resumed
		w.schedule(x)
		return false
	}
	x.out.box.add(piece, ownerOther)
	w.waiting += len(piece)
	if !more {
		x.out.next = nil
	}
	if x.out.hasData() {
		return true
	}
	w.drainedQueue(x)
	return false
}

// sendFrame frames as much of x's outbox as one frame and the windows allow.
func (w *writer) sendFrame(x *exchange) {
	n := int(min(int64(x.out.box.size), frameBytes, x.out.window, w.window))
	if n <= 0 {
		return
	}
	x.out.window -= int64(n)
	w.window -= int64(n)
	w.waiting -= n
	w.room(frameHeaderBytes + n)
	w.out = appendFrame(w.out, n, http2.FrameData, 0, x.id)
	w.out = x.out.box.move(w.out, n)
	w.provoked = true
	x.out.partial = true
	x.out.frames++
	if !x.out.hasData() {
		w.drainedQueue(x)
		return
	}
	w.drained(x)
}

// drainedQueue is called when the last queued byte of x is framed.
func (w *writer) drainedQueue(x *exchange) {
	x.out.partial = false
	if x.out.closing {
		x.writeEnd()
		return
	}
	w.drained(x)
}

// drained wakes those who wait for room in the outbox of x.
func (w *writer) drained(x *exchange) {
	switch r := x.role.(type) {
	case *Stream:
		if x.out.box.size > outboxBytes/2 {
			return
		}
		signal(r.writable)
		if r.wanted && r.notify != nil && !x.over {
			r.wanted = false
			w.notify = append(w.notify, r.notify)
		}
	case *web:
		signal(r.writable)
	}
}

// flush writes what is pending unless somebody is at it. A plain socket is tried without waiting. For other connections
// a goroutine of their own does it, but where reader says that the caller has nothing better to do than to wait for a
// little.
func (c *conn) flush(reader bool) {
	c.mu.Lock()
	c.w.dirty = false
	if c.w.busy || !c.w.pending() {
		c.mu.Unlock()
		return
	}
	if reader && c.mayWait() {
		add := !c.w.late
		c.w.late = true
		c.mu.Unlock()
		if add {
			c.srv.later.add(c)
		}
		return
	}
	c.w.busy = true
	if c.in.raw != nil {
		c.writeAll(false)
		return
	}
	if reader && c.w.framed() <= writeChunk && c.w.queue.empty() {
		c.writeAll(true)
		return
	}
	c.mu.Unlock()
	go c.writeApart()
}

// mayWait reports whether what is pending need not be written now, because it is likely to leave with an answer soon. mu held.
func (c *conn) mayWait() bool {
	w := &c.w
	return len(c.streams) > 0 && w.framed() == w.unhurried && w.queue.empty() && len(w.notify) == 0 && !c.life.draining
}

// writeApart goes on with the write token in a goroutine of the connection's own.
func (c *conn) writeApart() {
	c.mu.Lock()
	c.writeAll(true)
}

// writeAll writes until nothing is pending. The caller holds mu and the write token; both are released on return, or
// kept by the goroutine that finishes what the socket did not take at once.
func (c *conn) writeAll(wait bool) {
	w := &c.w
	for written := 0; ; {
		if !wait && written > writeTurn {
			c.mu.Unlock()
			go c.writeApart()
			return
		}
		w.pump()
		c.collect()
		notify := w.notify
		w.notify = nil
		if len(c.try.bufs) == 0 && len(notify) == 0 {
			break
		}
		c.mu.Unlock()
		for _, fn := range notify {
			fn()
		}
		n, done, err := c.writeBuffers(wait)
		written += n
		if err == nil && !done {
			go c.writeRest()
			return
		}
		c.mu.Lock()
		c.wrote(err)
	}
	w.busy = false
	w.moved.Broadcast()
	c.mu.Unlock()
}

// collect moves what is framed to the list of the token's holder. mu held.
func (c *conn) collect() {
	w, a := &c.w, &c.try
	if w.failed {
		w.full, w.fullSize, w.out = nil, 0, nil
	}
	a.bufs, w.full = w.full, a.bufs[:0]
	w.fullSize, w.unhurried = 0, 0
	if len(w.out) > 0 {
		a.bufs = append(a.bufs, w.out)
	}
	w.out = nil
}

// writeBuffers writes the holder's buffers and gives them back. done is false when the socket is full; then the rest is
// still in the list.
func (c *conn) writeBuffers(wait bool) (written int, done bool, err error) {
	a := &c.try
	for i, buf := range a.bufs {
		if buf == nil {
			continue
		}
		n, err := c.write(buf[a.off:], wait)
		written += n
		if err != nil {
			return written, true, err
		}
		if a.off += n; a.off < len(buf) {
			return written, false, nil
		}
		if o := c.srv.cfg.Observer; o != nil {
			o.Bytes(0, len(buf))
		}
		recycle(buf)
		a.bufs[i], a.off = nil, 0
	}
	return written, true, nil
}

// wrote ends the writing of the holder's buffers. mu held.
func (c *conn) wrote(err error) {
	clear(c.try.bufs)
	c.try.bufs, c.try.off = c.try.bufs[:0], 0
	if err != nil && !c.w.failed {
		c.w.failed = true
		c.nc.Close() // the reader wakes up and cleans up
	}
	c.w.moved.Broadcast()
}

// writeRest is the goroutine that takes over, with the write token, when a socket is full.
func (c *conn) writeRest() {
	_, _, err := c.writeBuffers(true)
	c.mu.Lock()
	c.wrote(err)
	c.writeAll(true)
}

// write gives p to the socket: as much as it takes at once, or, when wait is set, all of it, as long as the peer
// accepts some of it every WriteTimeout.
func (c *conn) write(p []byte, wait bool) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if !wait {
		return c.tryWrite(p)
	}
	done := 0
	for done < len(p) {
		chunk := p[done:min(len(p), done+writeChunk)]
		if err := c.nc.SetWriteDeadline(time.Now().Add(c.srv.cfg.WriteTimeout)); err != nil {
			return done, err
		}
		n, err := c.writeWhole(chunk)
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, c.nc.SetWriteDeadline(time.Time{})
}

// writeWhole writes p as one piece even where TLS makes several records of it.
func (c *conn) writeWhole(p []byte) (int, error) {
	if c.below == nil || len(p) <= recordBytes {
		return c.nc.Write(p)
	}
	c.below.Hold()
	n, err := c.nc.Write(p)
	if failed := c.below.Release(); failed != nil && err == nil {
		n, err = 0, failed
	}
	return n, err
}

// tryWrite writes without waiting. Only the holder of the write token calls it.
func (c *conn) tryWrite(p []byte) (int, error) {
	c.try.p, c.try.n, c.try.err = p, 0, nil
	err := c.in.raw.Write(c.try.fn)
	c.try.p = nil
	if err == nil {
		err = c.try.err
	}
	return c.try.n, err
}

// attempt belongs to the holder of the write token: what it has to write, and the arguments and results of a write that
// does not wait.
type attempt struct {
	bufs [][]byte // those written are nil
	off  int      // bytes of the first one left that are written

	p   []byte
	n   int
	err error
	fn  func(fd uintptr) bool
}

func (a *attempt) init() {
	a.fn = func(fd uintptr) bool {
		a.n, a.err = writeFD(fd, a.p)
		return true
	}
}

// unlockAndKick releases mu and makes sure that what was appended will be written: by the reader when it is at work on
// this connection, by the holder of the write token, or by a flusher.
func (c *conn) unlockAndKick() {
	w := &c.w
	kick := w.pending() && !w.busy && !w.dirty && !c.in.reading.Load()
	if kick {
		w.dirty = true
	}
	c.mu.Unlock()
	if kick {
		c.flusher.add(c)
	}
}
