package leader

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/wire"
)

// Message is a request that knows its wire form, as the types of package wire do.
type Message = interface {
	Size() int
	Append(dst []byte) []byte
}

// Proposer proposes commands to the group; *node.Host is one. Neither method blocks, and both complete the waiter exactly once.
type Proposer interface {
	ProposeMessage(kind command.Kind, m Message, w command.Waiter)
	// ProposeInTerm proposes what must take effect as an entry of that term or not at all.
	ProposeInTerm(term ids.Term, kind command.Kind, m Message, w command.Waiter)
}

// State is what the duties look at. Each method reads the newest published view.
type State interface {
	Revision() ids.Revision
	RetainedBytes() int64 // what the quota counts
	Alarms() []wire.AlarmMember
	ClusterVersion() string // "" when it was never set
}

// Config is what New needs. Fields are required unless they say otherwise.
type Config struct {
	Member          ids.MemberID
	Proposer        Proposer
	State           State
	Election        time.Duration // the election timeout; leases live longer by it after a change of leader
	RequestTimeout  time.Duration // how long a request waits for this member to become the leader
	Compaction      Compaction    // the zero value compacts nothing
	Checkpoints     bool          // checkpoint the remaining time of long leases
	CheckpointEvery time.Duration // the period of checkpoints; 0: limits.LeaseCheckpoint
	QuotaBytes      int64         // 0 or below: alarms are not taken back
	ClusterVersion  string        // what this release raises the cluster version to; "": leave it alone
	V2              V2            // the zero value does nothing
	Clock           clock.Clock   // nil: the machine's clock
	Logger          *zap.Logger   // nil: no log
}

// MinTTL is the shortest time to live that a lease is granted, in seconds: one and a half election timeouts rounded up, so
// that a lease outlives a change of leader (source: etcd's NewServer, minTTL).
func MinTTL(electionTicks int, tick time.Duration) int64 {
	shortest := time.Duration(3*electionTicks/2) * tick
	return int64(math.Ceil(shortest.Seconds()))
}

// Duty does the leader's work on one member. All methods are safe for concurrent use.
type Duty struct {
	cfg   Config
	birth time.Time // instant 0

	mu     sync.Mutex
	leases leases
	queued queued

	compactor *compactor
	clearing  atomic.Bool // a deactivation of the alarm is under way
	versioned atomic.Bool // a change of the cluster version is under way
	v2        v2Duties    // of the rounds

	renewed, expired atomic.Uint64

	kick chan struct{}
	quit chan struct{}
	done sync.WaitGroup // what Start started
	stop sync.Once
}

// New returns a duty that does nothing yet; Start begins its rounds, or the caller makes them himself with Round.
func New(c Config) *Duty {
	if c.Clock == nil {
		c.Clock = clock.Real()
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.CheckpointEvery == 0 {
		c.CheckpointEvery = limits.LeaseCheckpoint
	}
	d := &Duty{cfg: c, birth: c.Clock.Now(), v2: newV2Duties()}
	d.kick, d.quit = make(chan struct{}, 1), make(chan struct{})
	d.compactor = newCompactor(c.Compaction, 0)
	return d
}

// Start begins the rounds. It is called at most once, before Stop, and not by who calls Round.
func (d *Duty) Start() {
	d.done.Go(func() {
		ticker := d.cfg.Clock.NewTicker(limits.LeaseRound)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
			case <-d.kick:
			case <-d.quit:
				return
			}
			d.Round()
		}
	})
}

// Stop ends the rounds and answers everybody who waits with fault.Stopped. It may be called more than once, and also when
// Start was not.
func (d *Duty) Stop() {
	d.stop.Do(func() { close(d.quit) })
	d.done.Wait()
	d.mu.Lock()
	d.leases.reset()
	d.queued.closed = true
	waiting := d.queued.takeAll()
	d.mu.Unlock()
	answer(waiting, fault.Stopped)
}

// Round does what is due now on the caller's goroutine. It is for a caller who drives the duty himself instead of calling
// Start: every limits.LeaseRound, and as soon as it is Wanted. Rounds must not overlap. After Stop it does nothing. The same
// calls at the same instants of the Clock make the same proposals and answers in the same order.
func (d *Duty) Round() {
	select {
	case <-d.quit:
		return
	default:
	}
	select {
	case <-d.kick: // this is the round that was wanted
	default:
	}
	now := d.now()
	d.expireAwaiting(now)
	leading := d.leading()
	if leading {
		d.revokeExpired(now)
		d.checkpoint(now)
		d.raiseVersion()
		d.tendV2(now)
	}
	d.compact(now, leading)
	d.clearAlarm()
}

// Wanted reports whether a round is wanted before the next is due by time: this member has become the leader since the last.
func (d *Duty) Wanted() bool { return len(d.kick) > 0 }

// Counters are numbers for monitoring, counted since New.
type Counters struct {
	Renewed uint64 // renewals granted
	Expired uint64 // leases found expired and proposed for revocation
}

// Counters returns the current numbers.
func (d *Duty) Counters() Counters {
	return Counters{Renewed: d.renewed.Load(), Expired: d.expired.Load()}
}

func (d *Duty) now() instant { return instant(d.cfg.Clock.Now().Sub(d.birth)) }

// leading reports whether this member has been promoted and not demoted since.
func (d *Duty) leading() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.leases.term != 0
}

// waiter adapts a function to command.Waiter.
type waiter func(*command.Result)

// Complete implements command.Waiter.
func (w waiter) Complete(r *command.Result) { w(r) }
