package rpc

import (
	"runtime"
	"sync/atomic"
	"time"
)

// crowd keeps a server that refuses calls because it has too many from spending everything on refusing them. For a while
// after a refusal only so many readers at a time work on what they read; the others wait, in turn, and with them their
// clients, so that what was accepted gets done.
type crowd struct {
	until atomic.Int64 // when it is over, unix nanoseconds
	span  time.Duration
	turns chan struct{}
}

func (w *crowd) init() {
	w.span, w.turns = crowdTime, make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))
}

// refused notes a refusal.
func (w *crowd) refused(now time.Time) { w.until.Store(now.Add(w.span).UnixNano()) }

// enter waits for a turn if it is crowded; entered says that the caller has one to leave.
func (w *crowd) enter(now time.Time) (entered bool) {
	if w.until.Load() < now.UnixNano() {
		return false
	}
	w.turns <- struct{}{}
	return true
}

func (w *crowd) leave() { <-w.turns }

// Refuse is Fail for a call that the server has no room for at present.
func (k *Call) Refuse(st *Status) {
	k.c.srv.crowd.refused(time.Now())
	k.Fail(st)
}
