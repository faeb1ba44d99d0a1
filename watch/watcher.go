package watch

import (
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/wire"
)

// state says who moves a watcher forward.
type state uint8

const (
	stateLive    state = iota // in the index; the hub's goroutine delivers
	stateQueued               // in Hub.behind, waiting for a catch-up worker
	stateWorking              // a catch-up worker has it
	stateBlocked              // its stream is full; the sink's notification will queue it
	stateClosed               // cancelled; nothing is sent any more
)

// watcher is one cursor on the log. All fields are guarded by Hub.mu, except that a catch-up worker that holds it
// (stateWorking) reads the immutable ones freely.
type watcher struct {
	// Immutable.
	stream   *Stream
	id       int64
	span     span
	prevKV   bool
	fragment bool
	progress bool
	// prevAbove hides previous values from events up to it: when the watcher was made, the revisions that hold them were
	// compacted, and clients take a previous value as a sign that its revision can be read.
	prevAbove ids.Revision
	noPut     bool
	noDelete  bool

	state state
	next  ids.Revision // when not live: the first revision not yet sent; when live: earlier revisions do not concern it
	quiet bool         // no event since the last periodic progress notification
	drop  *string      // cancelled while a worker had it, and why: "" when its client asked for that; nil: it was not
	place int          // in its group, while live
}

func (w *watcher) drops(t wire.EventType) bool {
	return t == wire.EventPut && w.noPut || t == wire.EventDelete && w.noDelete
}

// spanOf reads the interval of a create request; ok is false for one that can match no key.
func spanOf(key, end []byte) (s span, ok bool) {
	if len(key) == 0 {
		key = []byte{0}
	}
	switch {
	case len(end) == 0:
		return span{key: string(key), single: true}, true
	case len(end) == 1 && end[0] == 0:
		return span{key: string(key), open: true}, true
	}
	return span{key: string(key), end: string(end)}, string(key) < string(end)
}
