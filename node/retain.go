package node

import (
	"fmt"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
)

// retentionCheckBytes is how much is applied between two looks at what the engine has made durable.
const retentionCheckBytes = 4 << 20

// retention keeps the log short: it lets go of entries that the engine holds durably, and has the engine flush when too
// much of the log lies beyond that, so that a restart replays little. It belongs to the apply goroutine.
type retention struct {
	h        *Host
	applied  ids.Index
	bytes    int64    // of entries applied since the start
	checked  int64    // bytes at the last look
	samples  []sample // of looks at which the engine was behind, oldest first
	durable  int64    // bytes at the newest sample that is durable
	asked    int64    // bytes when a flush was last asked for
	released ids.Index
}

// sample says how many bytes were applied when index was.
type sample struct {
	index ids.Index
	bytes int64
}

// note takes account of a batch that was applied, and reports whether the member may go on.
func (r *retention) note(last ids.Index, bytes int) bool {
	r.applied = last
	r.bytes += int64(bytes)
	if r.bytes-r.checked < retentionCheckBytes {
		return true
	}
	return r.tidy()
}

// tidy looks at what is durable and acts on it. It reports whether the member may go on.
func (r *retention) tidy() bool {
	if r.h.cfg.Engine == nil {
		return true
	}
	r.checked = r.bytes
	r.samples = append(r.samples, sample{index: r.applied, bytes: r.bytes})
	mark, err := r.h.cfg.Engine.Durable()
	if err != nil {
		r.h.fail(fmt.Errorf("node: %w", err))
		return false
	}
	drop := 0
	for drop < len(r.samples) && r.samples[drop].index <= mark.Index {
		r.durable = r.samples[drop].bytes
		drop++
	}
	r.samples = r.samples[drop:]
	if mark.Index > r.released {
		r.released = mark.Index
		if err := r.h.cfg.Log.Release(mark.Index); err != nil {
			r.h.fail(fmt.Errorf("node: the raft log could not let go of entries up to %d: %w", mark.Index, err))
			return false
		}
	}
	if r.bytes-r.durable > limits.LogUnflushedBytes && r.asked <= r.durable {
		r.asked = r.bytes
		if _, err := r.h.cfg.Engine.AsyncFlush(); err != nil {
			r.h.fail(fmt.Errorf("node: %w", err))
			return false
		}
	}
	return true
}
