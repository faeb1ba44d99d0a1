package grpcapi

import (
	"slices"
	"sync"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/mvcc"
)

// CompactionLog remembers what became of this run's compactions: the hash taken of each, and how far removal has come. It
// is the Compactions of a real server. Its methods are for any goroutine.
type CompactionLog struct {
	mu      sync.Mutex
	hashes  []mvcc.Hash    // the last limits.CompactionHashes, oldest first
	hashing []ids.Revision // compactions whose hash is being taken
	gone    ids.Revision   // everything that compactions up to here made unreachable is removed
	waiting []scrubWait
}

type scrubWait struct {
	at   ids.Revision
	done func()
}

// Started says that a compaction was applied and its hash is being taken. Hashed must follow.
func (l *CompactionLog) Started(at ids.Revision) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hashing = append(l.hashing, at)
}

// Hashed ends what Started began; h is nil when the hash could not be taken.
func (l *CompactionLog) Hashed(at ids.Revision, h *mvcc.Hash) {
	l.mu.Lock()
	if h != nil {
		l.hashes = append(l.hashes, *h)
		if over := len(l.hashes) - limits.CompactionHashes; over > 0 {
			l.hashes = slices.Delete(l.hashes, 0, over)
		}
	}
	if i := slices.Index(l.hashing, at); i >= 0 {
		l.hashing = slices.Delete(l.hashing, i, i+1)
	}
	l.settle()
}

// Finished says that everything compacted up to at is removed from the engine.
func (l *CompactionLog) Finished(at ids.Revision) {
	l.mu.Lock()
	l.gone = max(l.gone, at)
	l.settle()
}

// settle gives up mu and calls those whose wait is over.
func (l *CompactionLog) settle() {
	var over []func()
	l.waiting = slices.DeleteFunc(l.waiting, func(w scrubWait) bool {
		if l.pending(w.at) {
			return false
		}
		over = append(over, w.done)
		return true
	})
	l.mu.Unlock()
	for _, done := range over {
		done()
	}
}

// pending says whether a compaction's removal or hash is not there yet.
func (l *CompactionLog) pending(at ids.Revision) bool {
	return at > l.gone || slices.ContainsFunc(l.hashing, func(h ids.Revision) bool { return h <= at })
}

// Scrubbed implements Compactions. It also waits for the hash, so that who asked for a physical compaction finds it.
func (l *CompactionLog) Scrubbed(at ids.Revision, done func()) {
	l.mu.Lock()
	if l.pending(at) {
		l.waiting = append(l.waiting, scrubWait{at, done})
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	done()
}

// Hash implements Compactions.
func (l *CompactionLog) Hash(at ids.Revision) (mvcc.Hash, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range slices.Backward(l.hashes) {
		if h.Revision == at {
			return h, true
		}
	}
	return mvcc.Hash{}, false
}

// Hashes are the hashes of the last compactions, newest first.
func (l *CompactionLog) Hashes() []mvcc.Hash {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := slices.Clone(l.hashes)
	slices.Reverse(out)
	return out
}
