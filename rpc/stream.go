package rpc

import (
	"bytes"
	"io"
	"time"
)

// StreamHandler handles one streaming call in a goroutine of its own. Returning ends the stream with that status; nil
// means OK.
type StreamHandler func(s *Stream) *Status

// Stream is one streaming call. Recv belongs to one goroutine at a time, and so does Send; TrySend may be used from any.
type Stream struct {
	exchange
	inbox    []received    // complete messages not yet received, from first
	first    int           // index in inbox
	partial  []byte        // the message being assembled, with its prefix
	readable chan struct{} // holds a token when Recv should look again
	writable chan struct{} // holds a token when Send should look again
	notify   func()        // see NotifyWritable
	wanted   bool          // a TrySend was refused and notify is owed
}

// received is one length-prefixed message as it came.
type received []byte

// take implements role: it cuts the bytes into messages.
func (s *Stream) take(p []byte, end bool) bool {
	if !s.c.hold(&s.exchange, len(p)) {
		return false
	}
	limit := s.c.srv.cfg.MessageBytesMax
	for len(p) > 0 && !s.over && !s.out.closing {
		if whole := wholeMessage(p); whole > 0 && whole <= prefixBytes+limit && len(s.partial) == 0 {
			s.partial = bytes.Clone(p[:whole])
			if p = p[whole:]; !s.deliver() {
				return false
			}
			continue
		}
		if need := prefixBytes - len(s.partial); need > 0 {
			n := min(need, len(p))
			s.partial = append(s.partial, p[:n]...)
			if p = p[n:]; n < need {
				break
			}
			if size := declaredSize(s.partial); uint64(size) > uint64(limit) {
				s.abort(tooLarge(size, limit))
				return false
			}
		}
		size := prefixBytes + int(declaredSize(s.partial))
		n := min(size-len(s.partial), len(p))
		if s.partial = append(s.partial, p[:n]...); len(s.partial) == size && !s.deliver() {
			return false
		}
		p = p[n:]
	}
	if end && len(s.partial) > 0 {
		s.abort(statusf(Internal, "unexpected EOF"))
	}
	if end {
		signal(s.readable)
	}
	return false
}

// wholeMessage returns how many bytes of p are its first message with its prefix, 0 when p has only a part of it.
func wholeMessage(p []byte) int {
	if len(p) < prefixBytes || uint64(declaredSize(p)) > uint64(len(p)-prefixBytes) {
		return 0
	}
	return prefixBytes + int(declaredSize(p))
}

// deliver moves the assembled message to the inbox; false when that ended the stream.
func (s *Stream) deliver() bool {
	if len(s.inbox)-s.first >= inboxMessages {
		s.abort(statusf(ResourceExhausted, "more than %d messages of one stream wait for their receiver", inboxMessages))
		return false
	}
	if s.first > 0 && s.first == len(s.inbox) {
		s.inbox, s.first = s.inbox[:0], 0
	}
	s.inbox = append(s.inbox, s.partial)
	s.partial = nil
	signal(s.readable)
	return true
}

// ready implements role; a stream's handler runs elsewhere.
func (s *Stream) ready() {}

// ended implements role.
func (s *Stream) ended() {
	s.inbox, s.first, s.partial = nil, 0, nil
	signal(s.readable)
	signal(s.writable)
}

// signal puts a token into a channel of capacity one unless it is there.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// run is the goroutine of the stream's handler.
func (s *Stream) run() {
	defer s.c.srv.work.Done()
	st := s.req.route.stream(s)
	if st != nil && st.Code == OK {
		st = nil
	}
	if !s.deadline.IsZero() && !time.Now().Before(s.deadline) {
		st = statusDeadline // the handler may have seen it before the connection's timer did
	}
	s.c.mu.Lock()
	s.done()
	s.finish(st)
	s.c.mu.Unlock()
	s.c.flush(false)
}

// Recv returns the next message, which the caller owns. It waits for one; io.EOF says that the client has sent all of
// them, any other error is the *Status the stream ended with.
func (s *Stream) Recv() ([]byte, error) {
	for {
		msg, err := s.pop()
		if msg != nil || err != nil {
			return s.open(msg, err)
		}
		<-s.readable
	}
}

// open unwraps a message popped from the inbox.
func (s *Stream) open(framed received, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	msg, st := unwrap(framed, s.req.encoding, s.c.srv.cfg.MessageBytesMax)
	if st != nil {
		s.c.mu.Lock()
		s.abort(st)
		s.c.mu.Unlock()
		s.c.flush(false)
		return nil, st
	}
	if o := s.c.srv.cfg.Observer; o != nil {
		o.MessageReceived(s.req.path)
	}
	return msg, nil
}

// pop takes the oldest message and gives its bytes back to the peer's window; all nil when there is none yet.
func (s *Stream) pop() (received, error) {
	c := s.c
	c.mu.Lock()
	switch {
	case s.over || s.out.closing:
		err := s.ending()
		c.mu.Unlock()
		return nil, err
	case s.first == len(s.inbox):
		ended := s.in.ended
		c.mu.Unlock()
		if ended {
			return nil, io.EOF
		}
		return nil, nil
	}
	msg := s.inbox[s.first]
	s.inbox[s.first] = nil
	s.first++
	c.release(&s.exchange, len(msg))
	credited := c.credit(&s.exchange)
	c.mu.Unlock()
	if credited {
		c.flush(false)
	}
	return msg, nil
}

// unread implements role: complete messages wait.
func (s *Stream) unread() bool { return s.first < len(s.inbox) }

// ending is why nothing can be sent or received any more. mu held.
func (s *Stream) ending() error {
	if s.end != nil {
		return s.end
	}
	return statusCanceled
}

// Send sends one message. It waits while the stream's outbox is full, and returns the *Status the stream ended with if
// that comes first. The message is encoded before Send returns.
func (s *Stream) Send(m Message) error {
	size := m.Size()
	c := s.c
	for {
		c.mu.Lock()
		if s.over || s.out.closing {
			err := s.ending()
			c.mu.Unlock()
			return err
		}
		if !s.full(prefixBytes + size) {
			c.w.send(&s.exchange, m, size)
			s.observeSent()
			c.mu.Unlock()
			c.flush(false)
			return nil
		}
		c.mu.Unlock()
		<-s.writable
	}
}

// TrySend sends one message, head followed by body, with the next Flush at the latest. head is copied; body is referred to
// until it has left, by as many streams as it was given to, and must never change. It never waits: false means that the
// outbox is full or the stream is over. An empty outbox takes one message of any size.
func (s *Stream) TrySend(head, body []byte) bool {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.over || s.out.closing {
		return false
	}
	if s.full(prefixBytes + len(head) + len(body)) {
		s.wanted = true
		return false
	}
	c.w.sendShared(&s.exchange, head, body)
	s.observeSent()
	return true
}

// Flush has what TrySend took written, without waiting for it. Whoever sends to many streams flushes them afterwards, so
// that streams of one connection share a write.
func (s *Stream) Flush() {
	s.c.mu.Lock()
	s.c.unlockAndKick()
}

// Abort ends the stream with st, which Recv and Send return from then on. What the outbox holds is dropped. It is for whoever
// finds, other than the handler, that the stream cannot go on; it does not wait for the handler.
func (s *Stream) Abort(st *Status) {
	s.c.mu.Lock()
	s.abort(st)
	signal(s.readable)
	signal(s.writable)
	s.c.unlockAndKick()
}

func (s *Stream) observeSent() {
	if o := s.c.srv.cfg.Observer; o != nil {
		o.MessageSent(s.req.path)
	}
}

// full reports whether size more bytes do not fit the outbox. mu held.
func (s *Stream) full(size int) bool {
	waiting := s.out.box.size
	return waiting > 0 && (waiting+size > outboxBytes || s.c.w.waiting+size > outboxConn)
}

// NotifyWritable sets the function that is called once after a TrySend returned false, when the outbox has drained
// below half. It replaces an earlier one. fn runs on a goroutine of this package without locks and must not block.
func (s *Stream) NotifyWritable(fn func()) {
	s.c.mu.Lock()
	s.notify = fn
	s.c.w.drained(&s.exchange)
	s.c.unlockAndKick()
}
