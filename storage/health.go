package storage

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// health collects what the engine reports of itself and stops it after the first failure.
//
// Pebble tries a failed flush again for as long as it takes. That may be right for a full disk and is wrong for a failed
// fsync, after which the kernel may count pages as clean that never reached the disk. So the first failure of any write is
// final: from then on the fence refuses every change of a file, and background goroutines end when they next report to
// this listener. Whatever is on disk then is what a crash at that moment would have left.
type health struct {
	dir     string
	log     func(msg string, kv ...any)
	pinned  bool // there are no other background jobs
	once    sync.Once
	err     atomic.Pointer[error]
	failed  chan struct{} // closed by the first failure
	flushed chan struct{} // gets a token after a flush; Commit waits for it
}

func newHealth(dir string, log func(string, ...any)) *health {
	return &health{dir: dir, log: log, failed: make(chan struct{}), flushed: make(chan struct{}, 1)}
}

// fail records the first failure.
func (h *health) fail(err error) {
	h.once.Do(func() {
		err = fmt.Errorf("storage: %s has failed and takes no more writes; look at the disk, then start again: %w", h.dir, err)
		h.err.Store(&err)
		close(h.failed)
	})
}

// Err returns the first failure or nil.
func (h *health) Err() error {
	if p := h.err.Load(); p != nil {
		return *p
	}
	return nil
}

func (h *health) listener() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			h.endIfFailed()
			h.fail(err)
		},
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			h.fail(fmt.Errorf("file %s is damaged, restore the store from a snapshot or another member: %w", i.Path, i.Details))
		},
		FlushBegin:      func(pebble.FlushInfo) { h.endIfFailed() },
		CompactionBegin: func(pebble.CompactionInfo) { h.endIfFailed() },
		FlushEnd: func(i pebble.FlushInfo) {
			select {
			case h.flushed <- struct{}{}:
			default:
			}
		},
	}
}

// halt stops a background goroutine where it is. Of a pinned engine it ends it, so that nothing holds what it holds: there are
// no others to keep away, and what was opened halfway is taken apart.
func (h *health) halt() {
	if h.pinned {
		runtime.Goexit()
	}
	select {}
}

// endIfFailed ends a background goroutine that would otherwise repeat failed work without a pause. The engine calls with
// its lock not held, or held under a deferred unlock.
func (h *health) endIfFailed() {
	if h.Err() != nil {
		runtime.Goexit()
	}
}

// Infof implements pebble.Logger. Those messages are for developers of the engine.
func (h *health) Infof(string, ...any) {}

// Errorf implements pebble.Logger.
func (h *health) Errorf(format string, args ...any) {
	if h.log != nil {
		h.log("storage engine", "store", h.dir, "report", fmt.Sprintf(format, args...))
	}
}

// Fatalf implements pebble.Logger. The engine expects that this does not return, so the goroutine ends; it is always one
// of the engine's own, or that of Engine.openPebble.
func (h *health) Fatalf(format string, args ...any) {
	fatal := fatalError{text: fmt.Sprintf(format, args...)}
	for _, a := range args {
		if err, ok := a.(error); ok {
			fatal.cause = err
		}
	}
	h.fail(fatal)
	runtime.Goexit()
}

// fatalError is a message of the engine about an error that is part of its text.
type fatalError struct {
	text  string
	cause error
}

// Error implements error.
func (e fatalError) Error() string { return e.text }

// Unwrap lets errors.Is find the cause.
func (e fatalError) Unwrap() error { return e.cause }
