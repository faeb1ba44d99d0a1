package server

import (
	"sync"

	"go.uber.org/zap"

	"quorate.dev/quorate/grpcapi"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/state"
)

// compactions follows each compaction to its end: it hashes the store as it was at that moment, beside everything else, and
// notes when the records it made unreachable are gone. What it learns goes into the log that grpcapi asks.
type compactions struct {
	log    *grpcapi.CompactionLog
	logger *zap.Logger

	// The apply goroutine's own.
	scrubbing bool

	mu      sync.Mutex
	queue   []*state.Compaction // to be hashed
	busy    bool                // a goroutine works on queue
	closed  bool
	working sync.WaitGroup
}

// begun takes over a compaction that was just applied.
func (c *compactions) begun(k *state.Compaction) {
	c.scrubbing = true
	c.log.Started(k.At)
	c.mu.Lock()
	full := c.closed || len(c.queue) >= limits.CompactionHashes
	if !full {
		c.queue = append(c.queue, k)
		if !c.busy {
			c.busy = true
			c.working.Go(c.work)
		}
	}
	c.mu.Unlock()
	if full { // compactions come faster than hashes; HashKV computes this one when asked
		c.done(k, nil)
	}
}

// scrubbed says that everything compacted up to at is gone. It is called whenever the apply goroutine finds nothing to do.
func (c *compactions) scrubbed(at ids.Revision) {
	c.log.Finished(at)
	if c.scrubbing {
		c.scrubbing = false
		c.logger.Info("finished scheduled compaction", zap.Int64("compact-revision", int64(at)))
	}
}

// work hashes the queued compactions one after the other.
func (c *compactions) work() {
	for k := c.next(); k != nil; k = c.next() {
		hash, err := mvcc.HashOf(k.Frozen, k.Previous, k.At)
		if err != nil {
			c.logger.Warn("failed to hash the store at a compaction", zap.Int64("compact-revision", int64(k.At)), zap.Error(err))
			c.done(k, nil)
			continue
		}
		c.logger.Info("storing new hash", zap.Uint32("hash", hash.Hash), zap.Int64("revision", int64(hash.Revision)),
			zap.Int64("compact-revision", int64(hash.Compacted)))
		c.done(k, &hash)
	}
}

func (c *compactions) next() *state.Compaction {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		c.busy = false
		return nil
	}
	k := c.queue[0]
	c.queue = c.queue[1:]
	return k
}

func (c *compactions) done(k *state.Compaction, hash *mvcc.Hash) {
	if err := k.Frozen.Close(); err != nil {
		c.logger.Warn("failed to close a frozen view of the store", zap.Error(err))
	}
	c.log.Hashed(k.At, hash)
}

// Close lets go of the store. No compaction is applied any more.
func (c *compactions) Close() {
	c.mu.Lock()
	c.closed = true
	queue := c.queue
	c.queue = nil
	c.mu.Unlock()
	for _, k := range queue {
		c.done(k, nil)
	}
	c.working.Wait()
}
