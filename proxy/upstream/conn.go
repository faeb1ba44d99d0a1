package upstream

import (
	"sync"
	"sync/atomic"
	"time"

	"quorate.dev/quorate/load/lean"
)

// Conn is one connection to a member. Its methods may be called from any goroutine.
type Conn struct {
	lean     *lean.Conn
	endpoint string

	kicks chan struct{} // holds a token when something is to be flushed

	mu    sync.Mutex
	aside chan struct{} // closed while the member is set aside
	ready atomic.Bool   // aside is open

	heard atomic.Int64 // answers to questions about the member, so far
}

func newConn(l *lean.Conn, endpoint string) *Conn {
	c := &Conn{lean: l, endpoint: endpoint, kicks: make(chan struct{}, 1), aside: make(chan struct{})}
	c.ready.Store(true)
	go c.flush()
	return c
}

// Call sends a unary call with the next Kick or, from a callback of this connection, when that returns. When it returns
// nil, done is completed exactly once unless Ticket.Cancel returned true. timeout is told to the store; 0 tells nothing. An
// error means that nothing was sent.
func (c *Conn) Call(h *lean.Header, timeout time.Duration, req lean.Message, done lean.Completion) (lean.Ticket, error) {
	return c.lean.CallWith(h, timeout, req, done)
}

// Open starts a stream, whose messages and headers leave with the next Kick. The loss of the connection ends it with a
// *lean.ConnError.
func (c *Conn) Open(h *lean.Header, timeout time.Duration, pace lean.Pace, handler lean.Handler) (*lean.Stream, error) {
	return c.lean.OpenWith(h, timeout, pace, handler)
}

// Kick has what was sent written soon by a goroutine of the connection; it never waits.
func (c *Conn) Kick() {
	select {
	case c.kicks <- struct{}{}:
	default:
	}
}

// flush writes for those who kick, so that whoever sends between two writes shares the second.
func (c *Conn) flush() {
	for {
		select {
		case <-c.kicks:
			_ = c.lean.Flush() // a failure ends the connection, and with it every call
		case <-c.lean.Gone():
			return
		}
	}
}

// Endpoint is the address of the member, as it was given to the Pool.
func (c *Conn) Endpoint() string { return c.endpoint }

// Lost is closed when the connection has ended and every call and stream on it was completed.
func (c *Conn) Lost() <-chan struct{} { return c.lean.Gone() }

// Serving reports whether the connection takes calls and its member serves.
func (c *Conn) Serving() bool { return c.ready.Load() && c.lean.Err() == nil }

// Aside is closed while the member is set aside: it does not answer, has no leader or does not serve. Calls under way go
// on. When the member is back, Aside returns another channel.
func (c *Conn) Aside() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.aside
}

// set notes whether the member serves, and reports whether that is news.
func (c *Conn) set(serving bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ready.Load() == serving {
		return false
	}
	c.ready.Store(serving) // before anybody hears of it: who looks for another connection must not be given this one
	if serving {
		c.aside = make(chan struct{})
	} else {
		close(c.aside)
	}
	return true
}
