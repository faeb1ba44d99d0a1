package rpc

import (
	"sync"
	"sync/atomic"
	"time"
)

// flusher writes connections on behalf of goroutines that answer calls of many of them, such as an apply loop: they only
// note the connection here. A connection is on the list at most once, so many answers make one write.
type flusher struct {
	holds *atomic.Int64 // shared by all flushers of a server: see Server.Hold

	mu     sync.Mutex
	list   []*conn
	wake   sync.Cond
	closed bool
}

func newFlusher(holds *atomic.Int64) *flusher {
	f := &flusher{holds: holds}
	f.wake.L = &f.mu
	return f
}

func (f *flusher) add(c *conn) {
	f.mu.Lock()
	f.list = append(f.list, c)
	if len(f.list) == 1 && f.holds.Load() == 0 {
		f.wake.Signal()
	}
	f.mu.Unlock()
}

// run is the flusher's goroutine.
func (f *flusher) run() {
	var spare []*conn
	for {
		f.mu.Lock()
		for !f.closed && (len(f.list) == 0 || f.holds.Load() > 0) {
			f.wake.Wait()
		}
		if f.closed {
			f.mu.Unlock()
			return
		}
		list := f.list
		f.list = spare
		f.mu.Unlock()
		for i, c := range list {
			c.flush(false)
			list[i] = nil
		}
		spare = list[:0]
	}
}

func (f *flusher) close() {
	f.mu.Lock()
	f.closed = true
	f.wake.Signal()
	f.mu.Unlock()
}

// later flushes connections that have nothing to say but answers to pings, which clients with calls in flight send all the
// time to learn the bandwidth: nearly always the answer to a call comes first, and both leave in one write.
type later struct {
	mu    sync.Mutex
	list  []*conn
	timer *time.Timer
}

func (l *later) add(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.list = append(l.list, c); len(l.list) > 1 {
		return // the timer runs
	}
	if l.timer == nil {
		l.timer = time.AfterFunc(pingDelay, l.flush)
	} else {
		l.timer.Reset(pingDelay)
	}
}

func (l *later) flush() {
	l.mu.Lock()
	list := l.list
	l.list = nil
	l.mu.Unlock()
	for _, c := range list {
		c.mu.Lock()
		c.w.late = false
		c.mu.Unlock()
		c.flush(false)
	}
}

// Hold keeps answers given by other goroutines than the connections' readers in memory until Release, so that a loop
// which answers many calls causes one write per connection. Holds nest; between Hold and Release the caller must not
// wait for anything, because every connection's answers wait with it.
func (s *Server) Hold() { s.holds.Add(1) }

// Release ends a Hold and has everything pending written.
func (s *Server) Release() {
	if s.holds.Add(-1) > 0 {
		return
	}
	for _, f := range s.flushers {
		f.mu.Lock()
		if len(f.list) == 1 {
			// A single connection is written at once: a hand-over would cost more than the write.
			c := f.list[0]
			f.list[0] = nil
			f.list = f.list[:0]
			f.mu.Unlock()
			c.flush(false)
			continue
		}
		if len(f.list) > 0 {
			f.wake.Signal()
		}
		f.mu.Unlock()
	}
}
