package node

import (
	"fmt"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/limits"
)

// retentionCheckBytes is how much is applied between two looks at what the engine has made durable.
const retentionCheckBytes = 4 << 20

// restBytes is from how much unflushed data on a member that has come to rest has its engine flush: so that it holds no full
// memtable for nothing, and that the next start replays little, whatever ends this one.
const restBytes = 1 << 20

// keeper is the goroutine that keeps the log short: it lets go of entries that the engine holds durably, and has the engine
// flush when too much of the log lies beyond that, so that a restart replays little. It is woken after every
// retentionCheckBytes applied and every tidyTicks, and nobody waits for it: removing a file takes as long as a sync.
type keeper struct {
	h        *Host
	samples  []sample // of looks at which the engine was behind, oldest first
	durable  int64    // bytes at the newest sample that is durable
	asked    int64    // bytes when a flush was last asked for
	seen     int64    // bytes at the look before
	since    int64    // when they were first seen, by raft's clock, nanoseconds
	released ids.Index
}

// sample says that the entries up to index have at least so many bytes.
type sample struct {
	index ids.Index
	bytes int64
}

func (k *keeper) run() {
	for {
		select {
		case <-k.h.tidy:
		case <-k.h.life.end:
			return
		}
		if err := k.tidy(); err != nil {
			k.h.fail(err)
			return
		}
	}
}

// tidy looks at what is durable and acts on it. Its errors are failures of the engine or of the log.
func (k *keeper) tidy() error {
	bytes := k.h.gauges.appliedBytes.Load() // before the index, which is stored first
	now := sample{index: ids.Index(k.h.gauges.applied.Load()), bytes: bytes}
	if n := len(k.samples); n == 0 || k.samples[n-1].index != now.index {
		k.samples = append(k.samples, now)
	} else {
		k.samples[n-1] = now // the look before came between the index and the bytes
	}
	mark, err := k.h.cfg.Engine.Durable()
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	if canary.On(canary.ReleaseEarly) {
		mark.Index = now.index
	}
	drop := 0
	for drop < len(k.samples) && k.samples[drop].index <= mark.Index {
		k.durable = k.samples[drop].bytes
		drop++
	}
	k.samples = k.samples[drop:]
	if mark.Index > k.released {
		k.released = mark.Index
		if err := k.h.cfg.Log.Release(mark.Index); err != nil {
			return fmt.Errorf("node: the raft log could not let go of entries up to %d: %w", mark.Index, err)
		}
	}
	// Two looks may follow each other at once, so it takes time to tell rest from a pause.
	at := k.h.gauges.ticked.Load()
	if bytes != k.seen {
		k.seen, k.since = bytes, at
	}
	rests := at-k.since >= int64(tidyTicks*k.h.cfg.Timing.Tick) && bytes-max(k.durable, k.asked) > restBytes
	if rests || bytes-k.durable > limits.LogUnflushedBytes && k.asked <= k.durable {
		k.asked = bytes
		if _, err := k.h.cfg.Engine.AsyncFlush(); err != nil {
			return fmt.Errorf("node: %w", err)
		}
	}
	return nil
}
