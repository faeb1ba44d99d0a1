package rpc

import (
	"fmt"
	"time"

	"golang.org/x/net/http2"
)

// UnaryHandler handles one unary call. It runs on the connection's reader and must not block; it answers exactly once,
// with Reply, ReplyStream or Fail, now or later, from any goroutine. msg is valid only until the handler returns.
// A call whose deadline passes first is answered by rpc itself; the handler's answer is then dropped.
type UnaryHandler func(c *Call, msg []byte)

// Call is one unary call. Its methods may be used from any goroutine.
type Call struct {
	exchange
	msg  []byte // the length-prefixed message: the reader's own bytes when one frame brought it whole
	held int    // bytes of msg that were copied and are charged to the connection
}

// take implements role.
func (k *Call) take(p []byte, end bool) bool {
	if end && k.msg == nil {
		k.msg = p
	} else if k.c.hold(&k.exchange, len(p)) {
		k.msg = append(k.msg, p...)
		k.held += len(p)
	} else {
		return false
	}
	limit := k.c.srv.cfg.MessageBytesMax
	if len(k.msg) < prefixBytes {
		if end {
			k.refuse(statusf(Internal, "cardinality violation: received no request message from non-client-streaming RPC"))
		}
		return false
	}
	size := declaredSize(k.msg)
	switch have := uint64(len(k.msg) - prefixBytes); {
	case uint64(size) > uint64(limit):
		k.refuse(tooLarge(size, limit))
	case have > uint64(size):
		k.refuse(statusf(Internal, "cardinality violation: received multiple request messages for non-client-streaming RPC"))
	case end && have < uint64(size):
		k.refuse(statusf(Internal, "unexpected EOF"))
	default:
		k.running = end
		return end
	}
	return false
}

// refuse answers before any handler saw the call. mu held.
func (k *Call) refuse(st *Status) {
	k.done()
	k.finish(st)
}

// ready implements role: it runs the handler.
func (k *Call) ready() {
	msg, st := unwrap(k.msg, k.req.encoding, k.c.srv.cfg.MessageBytesMax)
	k.msg = nil
	if st != nil {
		k.Fail(st)
		return
	}
	if o := k.c.srv.cfg.Observer; o != nil {
		o.MessageReceived(k.req.path)
	}
	k.req.route.unary(k, msg)
	if k.held > 0 {
		k.c.mu.Lock()
		k.c.release(&k.exchange, k.held)
		k.c.mu.Unlock()
	}
}

// unread implements role: what came is only assembled, and bounded by the message limit.
func (k *Call) unread() bool { return false }

// ended implements role. msg stays: the reader may be looking at it.
func (k *Call) ended() {}

// Reply answers with m, which is encoded before Reply returns.
func (k *Call) Reply(m Message) {
	size := m.Size()
	var framed []byte
	if size > frameBytes-prefixBytes {
		// Large messages are encoded before the connection is locked.
		framed = appendMessage(newMessage(prefixBytes+size), m, size)
	}
	c := k.c
	c.mu.Lock()
	if k.answer() {
		if k.witness != nil {
			k.witness.Replied(m)
		}
		if framed != nil {
			c.w.appendHeaders(&k.exchange)
			c.w.enqueue(&k.exchange, framed, ownerRecycle)
		} else {
			c.w.send(&k.exchange, m, size)
		}
		k.sent()
		k.finish(nil)
	}
	c.unlockAndKick()
}

// ReplyStream answers with one message of exactly size bytes that is produced piece by piece as the peer's window
// opens, so that a large answer never lies in memory whole. next appends some more bytes to dst and says whether more
// follow; it is called without locks from a goroutine of this package, one call at a time, must not block, and is not
// called again once the call is over. When it appends nothing and says that more follows, it is called again after
// Resume. Producing another number of bytes than size is a bug of the caller and panics.
func (k *Call) ReplyStream(size int, next func(dst []byte) (out []byte, more bool)) {
	c := k.c
	c.mu.Lock()
	if k.answer() {
		if w, ok := k.witness.(StreamWitness); ok {
			w.Streaming(size)
		}
		c.w.appendHeaders(&k.exchange)
		c.w.enqueue(&k.exchange, appendPrefix(make([]byte, 0, prefixBytes), size), ownerOther)
		k.out.next, k.out.left = next, size
		k.sent()
		k.finish(nil)
	}
	c.unlockAndKick()
}

// Resume says that the producer of ReplyStream, which had nothing to append, has something now.
func (k *Call) Resume() {
	c := k.c
	c.mu.Lock()
	k.out.idle, k.out.resumed = false, true
	c.w.schedule(&k.exchange)
	c.unlockAndKick()
}

// Abandon ends an answer by ReplyStream that cannot be completed; st is for the counters. The stream is reset as refused:
// a client that has seen only a part of a message may, and grpc-go does, make the call again.
func (k *Call) Abandon(st *Status) {
	c := k.c
	c.mu.Lock()
	k.reset(http2.ErrCodeRefusedStream, st)
	c.unlockAndKick()
}

// Fail answers with an error. A nil status, or one with code OK, is an answer without a message and therefore a bug of
// the caller; the client gets Internal.
func (k *Call) Fail(st *Status) {
	if st == nil || st.Code == OK {
		st = statusf(Internal, "BUG: a call failed without an error")
	}
	c := k.c
	c.mu.Lock()
	if k.answer() {
		k.finish(st)
	}
	c.unlockAndKick()
}

// answer claims the right to answer; false when the call is already over. mu held.
func (k *Call) answer() bool {
	first := !k.answered
	k.done()
	return first && !k.over && !k.out.closing
}

func (k *Call) sent() {
	if o := k.c.srv.cfg.Observer; o != nil {
		o.MessageSent(k.req.path)
	}
}

// appendMessage appends m with its prefix and checks that m kept its word about its size.
func appendMessage(dst []byte, m Message, size int) []byte {
	dst = appendPrefix(dst, size)
	at := len(dst)
	dst = m.Append(dst)
	if got := len(dst) - at; got != size {
		panic(fmt.Sprintf("BUG: %T announced %d bytes and appended %d", m, size, got))
	}
	return dst
}

// armDeadline makes sure that the deadline of x will be noticed. One timer serves a connection: it is only moved to
// earlier times, and when it fires it looks at all open exchanges. mu held.
func (c *conn) armDeadline(at time.Time) {
	d := &c.deadlines
	if !d.at.IsZero() && !at.Before(d.at) {
		return
	}
	d.at = at
	wait := max(time.Until(at), deadlineGrain)
	if d.timer == nil {
		d.timer = time.AfterFunc(wait, c.expire)
	} else {
		d.timer.Reset(wait)
	}
}

// deadlines is a connection's one timer for all its calls.
type deadlines struct {
	timer *time.Timer
	at    time.Time // when the timer fires; zero when it does not
}

// expire answers the calls whose deadlines have passed and arms the timer for the next.
func (c *conn) expire() {
	now := time.Now()
	c.mu.Lock()
	c.deadlines.at = time.Time{}
	if c.over {
		c.mu.Unlock()
		return
	}
	var next time.Time
	for _, x := range c.streams {
		switch {
		case x.deadline.IsZero():
		case !x.deadline.After(now):
			x.abort(statusDeadline)
		case next.IsZero() || x.deadline.Before(next):
			next = x.deadline
		}
	}
	if !next.IsZero() {
		// Looking at many exchanges costs: the more there are, the less often.
		floor := now.Add(deadlineGrain + time.Duration(len(c.streams))*time.Microsecond)
		if next.Before(floor) {
			next = floor
		}
		c.armDeadline(next)
	}
	c.unlockAndKick()
}
