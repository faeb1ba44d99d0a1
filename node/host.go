package node

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/storage"
)

// Host runs one member of a raft group. All methods are safe for concurrent use.
type Host struct {
	cfg       Config
	life      life
	began     time.Time // where the coarse clock begins
	gauges    gauges
	proposals proposals
	registry  registry
	changes   changes
	reads     reads
	inbox     inbox
	appends   appendQueue
	applies   applyQueue
	tidy      chan struct{} // wakes the keeper

	unreachable memberSet // members whose messages were lost, which the loop has not heard yet
}

// life is the end of a host: what asks for it, why, and when it is complete.
type life struct {
	end      chan struct{} // closed when the goroutines must end
	endOnce  sync.Once
	err      atomic.Pointer[error] // the failure that ended it
	draining atomic.Bool           // Stop was called
	drained  chan struct{}         // gets a token when draining and nothing is pending
	running  sync.WaitGroup
	done     chan struct{} // closed when the goroutines have ended and every waiter is answered
}

// Start recovers the raft state from c and starts the host's goroutines. When this member is the group's only voter it
// campaigns at once. Errors: c is not usable, or the log and the state machine do not fit together.
func Start(c Config) (*Host, error) {
	p, err := open(c)
	if err != nil {
		return nil, err
	}
	h := p.host
	h.run(p.loop.run)
	for range workers {
		h.run((&worker{h: h, loop: p.loop, append: p.append, apply: p.apply}).run)
	}
	ring(h.applies.wake) // there may be housekeeping to do
	if h.cfg.Engine != nil {
		h.run((&keeper{h: h}).run)
		go h.watchEngine()
	}
	go h.bury()
	return h, nil
}

// parts are a host and those who do its work.
type parts struct {
	host   *Host
	loop   *loop
	append *appender
	apply  *applier
}

// open recovers the raft state and makes a host that nobody drives yet.
func open(c Config) (*parts, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	rec, err := recoverLog(c.HardState, c.Entries, c.ConfState, c.Machine.Applied())
	if err != nil {
		return nil, err
	}
	c.Entries = nil // the store holds them now, and lets go of them one day
	h := &Host{cfg: c, began: c.Clock.Now()}
	h.life.end, h.life.done = make(chan struct{}), make(chan struct{})
	h.life.drained = make(chan struct{}, 1)
	now := c.Clock.Now()
	h.proposals.init(c.Member, now)
	h.inbox.wake = make(chan struct{}, 1)
	h.appends.wake = make(chan struct{}, 1)
	h.applies.wake = make(chan struct{}, 1)
	h.tidy = make(chan struct{}, 1)
	h.gauges.now.Store(h.instant(now))
	h.gauges.applied.Store(uint64(rec.mark.Index))
	h.gauges.taken.Store(uint64(rec.mark.Index))
	h.gauges.own.Store(uint64(rec.mark.Term))
	h.gauges.committed.Store(rec.store.hard.GetCommit())
	h.gauges.leader.Store(&leaderState{Leadership: Leadership{Term: ids.Term(rec.store.hard.GetTerm())}})
	last, _ := rec.store.LastIndex()
	lastTerm, err := rec.store.Term(last)
	if err != nil {
		return nil, fmt.Errorf("node: the term of the last entry %d is not known: %w", last, err)
	}
	l, err := newLoop(h, rec)
	if err != nil {
		return nil, err
	}
	h.appends.idle.Store(true)
	return &parts{host: h, loop: l, append: &appender{h: h}, apply: newApplier(h, storage.Mark{Index: ids.Index(last), Term: ids.Term(lastTerm)})}, nil
}

func (h *Host) run(f func()) {
	h.life.running.Add(1)
	go func() {
		defer h.life.running.Done()
		f()
	}()
}

// watchEngine stops the member when the engine fails in the background.
func (h *Host) watchEngine() {
	select {
	case <-h.cfg.Engine.Failed():
		h.fail(h.cfg.Engine.Err())
	case <-h.life.end:
	}
}

// fail ends the host because of err: from here on nothing is acknowledged. Only the first failure counts.
func (h *Host) fail(err error) {
	if !h.life.err.CompareAndSwap(nil, &err) {
		return
	}
	if installed(err) {
		h.cfg.Logger.Info("this member is started again with the state of another one")
	} else {
		h.cfg.Logger.Error("this member stops: it cannot vouch for its disk any more", zap.Error(err))
	}
	h.finish()
}

// failed reports whether the host must not acknowledge anything any more.
func (h *Host) failed() bool { return h.life.err.Load() != nil }

// finish ends the goroutines and refuses what waits.
func (h *Host) finish() {
	h.proposals.close(h.refusal())
	h.life.endOnce.Do(func() { close(h.life.end) })
}

// refusal is what callers get from a host that has ended.
func (h *Host) refusal() error {
	if err := h.Err(); err != nil {
		return fmt.Errorf("%w: %w", fault.Stopped, err)
	}
	return fault.Stopped
}

// bury waits for the end, answers whoever still waits, and closes Done. A waiter is answered at once when the end comes, not
// only when the last goroutine is gone: one that hangs in a write to a dying disk may never be.
func (h *Host) bury() {
	<-h.life.end
	h.refuseAll()
	h.life.running.Wait()
	h.refuseAll()
	close(h.life.done)
}

func (h *Host) refuseAll() {
	err := h.refusal()
	for c := h.proposals.take(1); c != nil; c = h.proposals.take(1) {
		h.registry.add(c.items)
	}
	h.failItems(h.registry.expire(math.MaxInt64), func(int64) error { return err })
	h.failChanges(h.changes.close(err), func(int64) error { return err })
	h.reads.close(err)
}

// failItems answers proposals that will not be applied, or not in time.
func (h *Host) failItems(items []item, reason func(start int64) error) {
	var bytes int64
	for i := range items {
		items[i].waiter.Complete(&command.Result{Err: reason(items[i].start)})
		bytes += int64(items[i].size)
	}
	if len(items) > 0 {
		h.gauges.failed.Add(uint64(len(items)))
		h.settle(len(items), bytes)
	}
}

// settle takes answered proposals off the books.
func (h *Host) settle(count int, bytes int64) {
	h.gauges.pendingBytes.Add(-bytes)
	if h.gauges.pending.Add(-int64(count)) == 0 && h.life.draining.Load() {
		select {
		case h.life.drained <- struct{}{}:
		default:
		}
	}
}

// Stop refuses new proposals, waits until those accepted are answered, and ends the host. When ctx is done first, the rest
// is answered with fault.Stopped and Stop returns ctx's error after the end. It may be called more than once. The log and
// the engine are the caller's to close, after Stop.
func (h *Host) Stop(ctx context.Context) error {
	h.proposals.close(fault.Stopped)
	h.life.draining.Store(true)
	var err error
	for err == nil && h.gauges.pending.Load() > 0 && !h.ended() {
		select {
		case <-h.life.drained:
		case <-h.life.end:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	h.finish()
	<-h.life.done
	return err
}

func (h *Host) ended() bool {
	select {
	case <-h.life.end:
		return true
	default:
		return false
	}
}

// memberSet is a set of members, for any goroutine.
type memberSet struct {
	mu  sync.Mutex
	ids map[ids.MemberID]bool
}

// add reports whether the member was not in the set.
func (s *memberSet) add(id ids.MemberID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids[id] {
		return false
	}
	if s.ids == nil {
		s.ids = map[ids.MemberID]bool{}
	}
	s.ids[id] = true
	return true
}

func (s *memberSet) remove(id ids.MemberID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ids, id)
}

// Receive takes over a raft message that another member sent to this one. It never blocks; when too many wait it drops the
// message, as a network does.
func (h *Host) Receive(m *raftpb.Message) { h.inbox.receive(m) }

// Done is closed when the host has ended, by Stop or by a failure, and every waiter is answered.
func (h *Host) Done() <-chan struct{} { return h.life.done }

// Err is the failure that ended the host; nil while it works and after Stop.
func (h *Host) Err() error {
	if p := h.life.err.Load(); p != nil {
		return *p
	}
	return nil
}

// Status is the host's condition. The numbers are read one by one, so they may be of slightly different instants.
type Status struct {
	Member      ids.MemberID
	Leadership            // Term is this member's
	LeaderSince time.Time // zero while no leader is known
	Committed   ids.Index
	Applied     ids.Index
}

// Status returns the current condition without waiting for anybody.
func (h *Host) Status() Status {
	lead := h.gauges.leader.Load()
	return Status{
		Member:      h.cfg.Member,
		Leadership:  lead.Leadership,
		LeaderSince: lead.since,
		Applied:     ids.Index(h.gauges.applied.Load()),
		Committed:   ids.Index(h.gauges.committed.Load()),
	}
}

// Counters are numbers for monitoring, counted since Start.
type Counters struct {
	Pending         int64  // proposals accepted and not answered, now
	PendingBytes    int64  // their bytes, now
	ProposalsFailed uint64 // refused, timed out or stopped
	LeaderChanges   uint64 // leaders seen to come
	SlowApplies     uint64 // batches that took longer than 100 ms
	Reissued        uint64 // proposals that were lost with a leader and proposed to the next one
	SlowReads       uint64 // rounds of the read barrier that were repeated
	ReadsFailed     uint64 // reads whose barrier failed
	Stalls          uint64 // times that the log or the machine made no progress for too long
	LateHeartbeats  uint64 // sent by this member as a leader, more than a tick too late
	StepDowns       uint64 // leaderships that were handed over because of that, or of a fence
}

// Counters returns the current numbers without waiting for anybody.
func (h *Host) Counters() Counters {
	return Counters{
		Pending:         h.gauges.pending.Load(),
		PendingBytes:    h.gauges.pendingBytes.Load(),
		ProposalsFailed: h.gauges.failed.Load(),
		LeaderChanges:   h.gauges.leaderChanges.Load(),
		SlowApplies:     h.gauges.slowApplies.Load(),
		Reissued:        h.gauges.reissued.Load(),
		SlowReads:       h.reads.slow.Load(),
		ReadsFailed:     h.reads.failed.Load(),
		Stalls:          h.gauges.stalls.Load(),
		StepDowns:       h.gauges.stepDowns.Load(),
		LateHeartbeats:  h.gauges.lateBeats.Load(),
	}
}

// instant is t by the coarse clock: nanoseconds since the host began, from 1 on. It goes by the monotonic clock, so that setting the time of day
// back does not stop timeouts and repetitions.
func (h *Host) instant(t time.Time) int64 { return int64(t.Sub(h.began)) + 1 }
