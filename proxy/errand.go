package proxy

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/proxy/upstream"
	"quorate.dev/quorate/rpc"
)

// errand is one unary call to the store, made for one or more clients. It is given to another member when the first one
// certainly did not look at it, and for no other reason.
type errand struct {
	f        *forwarder
	header   *lean.Header
	msg      []byte    // owned
	deadline time.Time // zero for none
	to       receiver
	floor    atomic.Int64 // revision that the answer must have at least: see ordering
	tries    int
	metadata []lean.Field // that came with the answer

	mu       sync.Mutex
	conn     *upstream.Conn // that it was last given to
	ticket   lean.Ticket
	canceled bool
}

// receiver gets the end of an errand.
type receiver interface {
	// answered gets the message, valid only during the call, or why there is none. It must not block.
	answered(body []byte, bad *rpc.Status)
}

// raw is a message that is encoded already.
type raw []byte

func (r raw) Size() int                { return len(r) }
func (r raw) Append(dst []byte) []byte { return append(dst, r...) }

// start gives the errand to a member that serves. It does not block.
func (e *errand) start() { e.give(nil) }

// give prefers any other connection to avoid.
func (e *errand) give(avoid *upstream.Conn) {
	for e.tries < triesMax {
		conn := e.f.pool.Now()
		if conn != nil && conn == avoid {
			conn = e.f.pool.Other(avoid)
		}
		if conn == nil {
			e.wait()
			return
		}
		e.tries++
		if e.giveTo(conn) {
			return
		}
		avoid = conn
	}
	e.to.answered(nil, statusNone)
}

// giveTo reports whether conn took the errand, or nobody wants it any more.
func (e *errand) giveTo(conn *upstream.Conn) bool {
	var timeout time.Duration
	if !e.deadline.IsZero() {
		timeout = max(e.deadline.Sub(e.f.clock.Now()), time.Millisecond)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.canceled {
		return true
	}
	// The lock is held until the ticket is known, so that a cancellation finds it. Done does not need the lock.
	ticket, err := conn.Call(e.header, timeout, raw(e.msg), e)
	if err != nil {
		return false
	}
	e.conn, e.ticket = conn, ticket
	conn.Kick()
	return true
}

// wait waits for a connection elsewhere: there is none now.
func (e *errand) wait() {
	if e.f.waiting.Add(1) > waitingMax {
		e.f.waiting.Add(-1)
		e.to.answered(nil, statusNone)
		return
	}
	e.f.work.Go(func() {
		defer e.f.waiting.Add(-1)
		ctx, cancel := context.WithTimeout(e.f.ctx, e.f.wait)
		defer cancel()
		if _, err := e.f.pool.Pick(ctx); err != nil {
			if errors.Is(err, upstream.ErrClosed) || e.f.ctx.Err() != nil {
				e.to.answered(nil, statusStopping)
			} else {
				e.f.log.Warn("no connection to the store for a call", errorField(err))
				e.to.answered(nil, statusNone)
			}
			return
		}
		e.tries++
		e.start()
	})
}

// cancel says that nobody waits for the answer any more. It may be called with a client's connection locked.
func (e *errand) cancel() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.canceled = true
	if conn := e.conn; conn != nil && e.ticket.Cancel() {
		conn.Kick()
	}
}

// Headers implements lean.HeaderReceiver.
func (e *errand) Headers(metadata []lean.Field, _ bool) { e.metadata = append(e.metadata, metadata...) }

// Done implements lean.Completion.
func (e *errand) Done(body []byte, err error) {
	switch {
	case err == nil && len(body) > e.f.limits.Recv:
		e.to.answered(nil, tooLargeToReceive(len(body), e.f.limits.Recv))
	case err == nil:
		if floor := e.floor.Load(); floor > 0 && e.f.order.violated(body, floor) {
			e.again()
			return
		}
		e.f.order.note(body)
		e.to.answered(body, nil)
	case lean.Unprocessed(err) && e.tries < triesMax:
		e.f.counts.retries.Add(1)
		e.metadata = nil
		e.give(e.last())
	default:
		e.to.answered(nil, e.f.statusOf(err))
	}
}

func (e *errand) last() *upstream.Conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.conn
}

// again asks another member, whose answer may be as new as one that was given before; and at last for the newest.
func (e *errand) again() {
	e.f.counts.reordered.Add(1)
	e.metadata = nil
	if e.tries >= triesMax-1 {
		e.msg = append(e.msg, linearizable...)
		e.floor.Store(0)
	}
	if e.tries >= triesMax {
		e.tries = triesMax - 1
	}
	e.give(e.last())
}

// statusOf is what a client is told of a call that ended with err.
func (f *forwarder) statusOf(err error) *rpc.Status {
	var lost *lean.ConnError
	if errors.As(err, &lost) {
		if lean.Unprocessed(err) {
			return statusNone
		}
		f.log.Warn("a call was lost with its connection to the store", errorField(err))
		return statusLost
	}
	return upstream.StatusOf(err)
}
