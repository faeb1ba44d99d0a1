package load

import (
	"errors"
	"sync/atomic"
	"time"

	"quorate.dev/quorate/load/lean"
)

// job makes the requests of one slot, one after the other, and judges the answers. It is used by one goroutine at a time.
type job interface {
	// next is request n of the run, meant to start at start; false ends the slot. The message is encoded before next is
	// called again.
	next(n int64, start time.Duration) (lean.Method, lean.Message, bool)
	// done takes the answer, or the error that came instead, and returns how many payload bytes were moved. An answer that
	// cannot be right is an error.
	done(body []byte, err error) (bytes int, wrong error)
}

// transport is how a job's requests travel.
type transport int

const (
	unary    transport = iota // a call each
	session                   // messages on one stream that stays open, each with one answer
	download                  // a call each whose answer is taken in pieces
)

// slot is one request that may be under way.
type slot struct {
	r     *run
	line  *line
	job   job
	via   transport
	start time.Duration // intended, since the begin of measuring

	talk *conversation // of a session, nil before its first request
}

// conversation is a session's stream. Its server may end it while the slot waits for its turn, on another goroutine.
type conversation struct {
	slot    *slot
	stream  *lean.Stream
	conn    *lean.Conn  // that stream is on
	pending atomic.Bool // a request waits for its answer
	over    atomic.Bool // the stream has ended
}

// Done implements lean.Completion.
func (s *slot) Done(body []byte, err error) { s.complete(body, err) }

// complete records the answer and goes on.
func (s *slot) complete(body []byte, err error) {
	now := s.r.now()
	bytes, wrong := s.job.done(body, err)
	if err == nil {
		err = wrong
	}
	if s.r.stopping() && errors.Is(err, lean.ErrClosed) {
		s.retire() // the run was cut short
		return
	}
	s.line.rec.record(now, s.start, bytes, err)
	if err != nil && s.r.failed(err) {
		var lost *lean.ConnError
		if errors.As(err, &lost) && !s.r.open {
			s.line.park(s)
			return
		}
	}
	if s.r.open {
		s.r.free <- s // never blocks: free has room for every slot
		return
	}
	s.loop(now)
}

// loop sends the next request of a closed loop, or retires the slot.
func (s *slot) loop(now time.Duration) {
	n, ok := s.r.ticket(now)
	if !ok {
		s.retire()
		return
	}
	sent, err := s.issue(n, now)
	switch {
	case err != nil && s.r.failed(err):
		s.r.giveBack(now)
		s.line.park(s)
	case err != nil || !sent:
		s.retire()
	}
}

// issue hands request n to the connection. An error says that it was not taken; then nothing will complete.
func (s *slot) issue(n int64, start time.Duration) (sent bool, err error) {
	s.start = start
	m, msg, ok := s.job.next(n, start)
	if !ok {
		return false, nil
	}
	conn := s.line.conn.Load()
	switch s.via {
	case unary:
		err = conn.Call(m, msg, s)
	case session:
		err = s.send(conn, m, msg)
	case download:
		var stream *lean.Stream
		if stream, err = conn.Open(m, &taker{slot: s}); err == nil {
			err = stream.Send(msg, true)
		}
	}
	if err != nil {
		_, _ = s.job.done(nil, err)
		return false, err
	}
	return true, nil
}

// send writes a message to the slot's session, which it opens when there is none on this connection.
func (s *slot) send(conn *lean.Conn, m lean.Method, msg lean.Message) (err error) {
	t := s.talk
	if t == nil || t.conn != conn || t.over.Load() {
		t = &conversation{slot: s, conn: conn}
		if t.stream, err = conn.Open(m, t); err != nil {
			return err
		}
		s.talk = t
	}
	t.pending.Store(true)
	if err = t.stream.Send(msg, false); err != nil && !t.pending.CompareAndSwap(true, false) {
		return nil // End came in between and has taken the request
	}
	return err
}

// retire takes the slot out of the run.
func (s *slot) retire() {
	if s.talk != nil {
		s.talk.stream.Cancel()
	}
	if s.r.open {
		s.r.free <- s // so that the pacer finds all when it ends
		return
	}
	s.r.slots.Done()
}

// Message implements lean.Handler.
func (t *conversation) Message(body []byte) {
	if t.pending.CompareAndSwap(true, false) {
		t.slot.complete(body, nil)
	}
}

// End implements lean.Handler.
func (t *conversation) End(err error) {
	t.over.Store(true)
	if err == nil {
		err = errSessionOver
	}
	if t.pending.CompareAndSwap(true, false) {
		t.slot.complete(nil, err)
	}
}

var errSessionOver = &lean.Status{Code: lean.CodeUnavailable, Message: "the server ended the stream"}

// pieceTaker is what a job implements whose answers are taken in pieces.
type pieceTaker interface {
	piece(p []byte, left int, sinceStart time.Duration)
}

// taker is a slot as the handler of one download.
type taker struct{ *slot }

// Message implements lean.Handler; pieces come instead.
func (t *taker) Message([]byte) {}

// Piece implements lean.PieceHandler.
func (t *taker) Piece(p []byte, left int) {
	t.job.(pieceTaker).piece(p, left, t.r.now()-t.start)
}

// End implements lean.Handler.
func (t *taker) End(err error) { t.complete(nil, err) }
