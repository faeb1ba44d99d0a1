package node

import "runtime"

// workers is how many goroutines append and apply: one each when there is much to do.
const workers = 2

// worker is a goroutine that writes the log and applies what is committed. There are two, which are equal, and two roles,
// appender and applier; each role is one worker's at a time.
//
// While little is going on, the worker that a proposal has woken does the whole of a write by itself: it takes the turn that
// proposes it, writes, takes the turn that commits it, and applies it. To wake another goroutine for each of these would cost
// more than the work. While it applies, the other worker may write. As soon as more waits to be written, each worker stays
// in one role, and the loop goroutine does the turns: then they overlap.
//
// Invariant: whoever gives up a role looks afterwards whether something has come in for it. So a token of a wake channel may
// be taken by a worker that finds the role taken.
type worker struct {
	h      *Host
	loop   *loop
	append *appender
	apply  *applier
	passed bool // the last turn was left to the loop goroutine
}

func (w *worker) run() {
	for ok := true; ok; {
		select {
		case <-w.h.appends.wake:
			ok = w.appendAll()
		case <-w.h.applies.wake:
			ok = w.applyAll()
		case <-w.apply.chores.rest.C:
			w.apply.rested.Store(true)
			ok = w.applyAll()
		case <-w.h.life.end:
			w.last()
			return
		}
	}
}

// last writes what raft has handed out, so that the next start finds the commit index.
func (w *worker) last() {
	w.append.mu.Lock()
	defer w.append.mu.Unlock()
	if messages := w.h.appends.take(); len(messages) > 0 {
		w.append.write(messages)
	}
}

// appendAll is the appender until there is nothing left to write or propose, unless the other worker is it already. It
// reports whether the member may go on.
func (w *worker) appendAll() bool {
	w.passed = false
	for !w.h.ended() && w.appendable() {
		if !w.append.mu.TryLock() {
			return true
		}
		w.h.appends.idle.Store(false)
		apply, ok := w.appendSome()
		w.h.appends.idle.Store(true)
		w.append.mu.Unlock()
		if apply && w.appendable() {
			ring(w.h.appends.wake)
		}
		if !ok || apply && !w.applyAll() {
			return false
		}
	}
	return true
}

// appendable reports whether there is something for the appender. Proposals that a turn of the loop goroutine will take are
// not.
func (w *worker) appendable() bool {
	return w.h.appends.waiting() || !w.passed && w.h.proposals.waiting()
}

// appendSome writes until there is nothing left, or until this worker shall apply what it has written. It reports which, and
// whether the log still works.
func (w *worker) appendSome() (apply, ok bool) {
	w.passed = false
	for !apply && !w.passed && !w.h.ended() {
		if !w.h.appends.waiting() {
			if !w.h.proposals.waiting() {
				break
			}
			apply = w.turn()
			continue
		}
		if !w.append.write(w.h.appends.take()) {
			return false, false
		}
		if w.h.appends.waiting() { // with more to write at once, the others go on meanwhile
			w.h.inbox.ring()
		} else {
			apply = w.turn()
		}
	}
	return apply, true
}

// turn takes a turn of the loop, unless the loop goroutine is at it, which then takes another. It reports whether this worker
// shall apply what is committed.
func (w *worker) turn() (apply bool) {
	todo, ok := w.loop.tryTake()
	if w.passed = !ok; w.passed {
		w.h.inbox.ring()
		return false
	}
	switch {
	case !todo.applies:
		return false
	case todo.syncs || !w.h.applies.small():
		ring(w.h.applies.wake)
		return false
	}
	return true
}

// applyAll is the applier until there is nothing left to do, unless the other worker is it already. It reports whether the
// member may go on.
func (w *worker) applyAll() bool {
	for !w.h.ended() {
		if !w.apply.mu.TryLock() {
			return true
		}
		did, ok := w.apply.work()
		w.apply.mu.Unlock()
		switch {
		case !ok:
			return false
		case did == housekeeping:
			runtime.Gosched() // it can wait for everything else
		case did == nothing && w.h.applies.empty() && !w.apply.rested.CompareAndSwap(true, false):
			return true
		}
	}
	return true
}
