package world

import (
	"errors"
	"fmt"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/internal/check"
)

// errNeverAsked says that a request has reached nobody.
var errNeverAsked = errors.New("the member is down")

// call has some member do something for a client, and calls then once: with the answer, with errNeverAsked, or with errUnderWay when no
// answer came while a client waits.
func call[T any](w *World, do func(*Member, func(T, error)), then func(T, error)) {
	var none T
	ended := false
	end := func(v T, err error) {
		if !ended {
			ended = true
			then(v, err)
		}
	}
	m := w.anyMember()
	w.after(opTimeout, func() { end(none, errUnderWay) })
	d, ok := w.net.passes(0, m.ID)
	if !ok {
		return
	}
	w.after(d, func() {
		if !m.serves(false) {
			end(none, errNeverAsked)
			return
		}
		life := m.life
		m.enter(life, func() {
			do(m, func(v T, err error) { w.back(m, life, func() { end(v, err) }) })
		})
	})
}

// caller is a client that follows a plan. What it asks and is answered joins the history of all.
type caller struct {
	w       *World
	id      int // of all clients
	name    string
	history []check.Operation
	open    int // requests that are not answered and not given up
}

// ask asks for something and calls then with what came of it.
func (c *caller) ask(q check.Request, then func(check.Answer, error)) {
	w := c.w
	op := check.Operation{Client: c.id, Call: w.instant(), Return: check.Never, Request: q}
	c.open++
	call(w, func(m *Member, answer func(check.Answer, error)) { m.serve(byRoot, q, 0, answer) }, func(a check.Answer, err error) {
		c.open--
		if q.Kind == check.Revoke {
			w.leases.revoked(&op, err, w.instant())
		}
		c.record(op, a, err)
		then(a, err)
	})
}

// record writes an operation down.
func (c *caller) record(op check.Operation, a check.Answer, err error) {
	w := c.w
	switch {
	case errors.Is(err, errNeverAsked):
		return
	case err == nil:
		op.Return, op.Answer = w.instant(), a
		w.seen = max(w.seen, a.Revision)
		w.counts.Answered++
	case certain(err):
		op.Return, op.Answer = w.instant(), check.Answer{Refusal: err.Error()}
		w.counts.Refused++
		if errors.Is(err, fault.LeaseNotFound) {
			w.leases.refused(&op)
		}
	default:
		w.counts.Unknown++
	}
	w.trace.note(c.name, "%s: revision %d, %v", op.Request, a.Revision, err)
	c.history = append(c.history, op)
}

// say notes what is no operation of the history.
func (c *caller) say(format string, args ...any) {
	c.w.trace.note(c.name, "%s", fmt.Sprintf(format, args...))
}
