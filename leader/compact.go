package leader

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/wire"
)

// Mode says when old revisions are compacted.
type Mode uint8

// The modes of automatic compaction.
const (
	CompactNever    Mode = iota
	CompactPeriodic      // keep what is younger than a period
	CompactRevision      // keep a number of revisions
)

// Compaction is the setting of automatic compaction (etcd's --auto-compaction-mode and --auto-compaction-retention).
type Compaction struct {
	Mode      Mode
	Period    time.Duration // CompactPeriodic: at least 10 ns, in earnest at least minutes
	Revisions int64         // CompactRevision: how many revisions to keep, positive
}

// Validate reports a setting that cannot be carried out.
func (c Compaction) Validate() error {
	switch {
	case c.Mode > CompactRevision:
		return fmt.Errorf("leader: there is no compaction mode %d", c.Mode)
	case c.Mode == CompactPeriodic && c.Period < samplesPerBase:
		return fmt.Errorf("leader: a compaction period of %s is too short", c.Period)
	case c.Mode == CompactRevision && c.Revisions <= 0:
		return fmt.Errorf("leader: the number of revisions to keep must be positive, not %d", c.Revisions)
	}
	return nil
}

// Numbers of automatic compaction (source: etcd's package v3compactor).
const (
	revisionEvery   = 5 * time.Minute // how often CompactRevision looks
	periodicLongest = time.Hour       // CompactPeriodic compacts at least this often
	samplesPerBase  = 10              // revisions sampled between two compactions
)

// compactor decides when to compact and to which revision. Every member runs it, so that a new leader has samples, but only
// the leader's decisions are carried out.
//
// In periodic mode it samples the revision ten times in each interval of min(period, one hour), compacts for the first time
// when a period has passed, then once per interval, always to the sample that is a period old. In revision mode it compacts
// every five minutes to the current revision less those to keep. Either way it does nothing when there is nothing new.
type compactor struct {
	c        Compaction
	next     instant        // when it looks again
	samples  []ids.Revision // periodic, oldest first
	keep     int            // samples to keep
	wait     instant        // periodic: since the last success, before the next compaction
	interval instant        // periodic: wait after the first time

	mu      sync.Mutex // guards what an answer changes
	pending bool       // a compaction is under way
	last    ids.Revision
	success instant
}

func newCompactor(c Compaction, now instant) *compactor {
	k := &compactor{c: c, success: now, next: now}
	switch c.Mode {
	case CompactPeriodic:
		base := min(c.Period, periodicLongest)
		k.wait, k.interval = instant(c.Period), instant(base)
		k.keep = int(c.Period/k.every()) + 1
	case CompactRevision:
		k.next = now + instant(revisionEvery)
	}
	return k
}

// every is the time between two looks.
func (k *compactor) every() time.Duration {
	if k.c.Mode == CompactRevision {
		return revisionEvery
	}
	return min(k.c.Period, periodicLongest) / samplesPerBase
}

// due returns the revision to compact to, if it is time to.
func (k *compactor) due(now instant, current ids.Revision, leading bool) (ids.Revision, bool) {
	if k.c.Mode == CompactNever || now < k.next {
		return 0, false
	}
	for k.next <= now {
		k.next += instant(k.every())
	}
	target := current - ids.Revision(k.c.Revisions)
	if k.c.Mode == CompactPeriodic {
		if k.samples = append(k.samples, current); len(k.samples) > k.keep {
			k.samples = k.samples[1:]
		}
		target = k.samples[0]
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !leading || k.pending || target <= 0 || target == k.last {
		return 0, false
	}
	if k.c.Mode == CompactPeriodic {
		if now-k.success < k.wait {
			return 0, false
		}
		k.wait = k.interval
	}
	k.pending = true
	return target, true
}

// answered says how a compaction went. To find that somebody has compacted further is as good as a success.
func (k *compactor) answered(target ids.Revision, now instant, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pending = false
	if err == nil || errors.Is(err, fault.Compacted) {
		k.last, k.success = target, now
	}
}

// compact proposes a compaction when one is due.
func (d *Duty) compact(now instant, leading bool) {
	target, ok := d.compactor.due(now, d.cfg.State.Revision(), leading)
	if !ok {
		return
	}
	m := &wire.CompactionRequest{Revision: int64(target)}
	d.cfg.Proposer.ProposeMessage(command.Compaction, m, waiter(func(r *command.Result) {
		d.compactor.answered(target, now, r.Err)
		if r.Err == nil {
			d.cfg.Logger.Info("completed auto compaction", zap.Int64("revision", int64(target)))
		} else if !errors.Is(r.Err, fault.Compacted) {
			d.cfg.Logger.Warn("auto compaction failed, will try again", zap.Int64("revision", int64(target)), zap.Error(r.Err))
		}
	}))
}
