package node

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/storage"
)

// Log is the raft log on disk, as the host uses it; *wal.Log implements it. Append is called by one goroutine at a time,
// Release meanwhile by another one. An error is final: the host does not call it again.
type Log interface {
	// Append writes the entries, which may overwrite older ones from their first index on, and the hard state (nil: as
	// before). When sync is set, both and everything before them are durable when it returns.
	Append(hs *raftpb.HardState, entries []*raftpb.Entry, sync bool) error
	// Install forgets all entries, so that the next one is index+1, durably.
	Install(hs *raftpb.HardState, index ids.Index, term ids.Term) error
	// Release says that entries up to and including upto are not needed for recovery any more.
	Release(upto ids.Index) error
}

// Machine is the replicated state machine. One goroutine at a time calls it.
type Machine interface {
	// Applied is the mark up to which the state is complete. Called once, by Start.
	Applied() storage.Mark
	// Apply applies the commands in order as one batch and fills results, which has the same length. What readers and
	// watchers see must include the batch when it returns. An error means that the batch is not applied and the member
	// must stop.
	Apply(cmds []command.Command, results []command.Result) error
	// Background does up to max units of housekeeping and reports whether there is more to do. No command is applied meanwhile.
	Background(max int) (more bool, err error)
}

// Engine is what the host must know of the storage engine below the machine; *storage.Engine implements it.
type Engine interface {
	// Durable is the mark that a power loss at this moment would leave.
	Durable() (storage.Mark, error)
	// AsyncFlush starts to make everything committed durable.
	AsyncFlush() (<-chan struct{}, error)
	// Failed is closed when the engine has failed; Err says why.
	Failed() <-chan struct{}
	Err() error
}

// Transport carries raft messages to other members. It must not block: messages may be dropped, raft repeats them.
type Transport interface {
	// Send takes the messages over; each names its receiver. The host keeps no reference to them.
	Send(messages []*raftpb.Message)
	// ActiveSince is the time since which the connection to a member has worked, or the zero time when it does not work.
	ActiveSince(id ids.MemberID) time.Time
}

// Snapshots brings the state of this member to others that are too far behind for the log, and takes theirs.
type Snapshots interface {
	// Send brings a snapshot to the receiver of m, which is a MsgSnap without data, and calls done once, on another goroutine,
	// when the receiver has it or cannot get it. The snapshot must be at the message's index or later. It must not block.
	Send(m *raftpb.Message, done func(error))
	// Install makes it durable that the snapshot at this position, which was received and given to Host.Receive, takes the
	// place of the state at the next start. It is called once, by the appender; the host ends then, with ErrInstall.
	Install(meta *raftpb.SnapshotMetadata) error
}

// ErrInstall ends a host whose state is to be replaced by a snapshot: it has to be started again.
var ErrInstall = errors.New("node: a snapshot from another member takes the place of this member's state, which must be opened again")

// Alone is the transport of a member that has no peers: it drops everything.
type Alone struct{}

// Send implements Transport.
func (Alone) Send([]*raftpb.Message) {}

// ActiveSince implements Transport.
func (Alone) ActiveSince(ids.MemberID) time.Time { return time.Time{} }

// Leadership is who leads the group, as this member knows it.
type Leadership struct {
	Term   ids.Term
	Leader ids.MemberID // 0: none known
	Self   bool         // this member is the leader
}

// Observer is told what happens. Every function may be nil and must not block. Answer is the one that also does something.
type Observer struct {
	// LeaderChanged reports every change at once, one after the other.
	LeaderChanged func(Leadership)
	// LeaderReady reports that this member leads term and has applied everything that earlier leaders acknowledged. No
	// command is applied meanwhile. The leadership may be lost again by then.
	LeaderReady func(term ids.Term)
	// LogAppended reports one write to the log and what it took; no other begins meanwhile.
	LogAppended func(entries int, synced bool, took time.Duration)
	// Answer, if it is not nil, must run deliver before it returns; deliver answers the waiters of one batch. It lets the
	// front gather what the answers write.
	Answer func(deliver func())
	// BatchApplied reports one batch applied and what it took; no other begins meanwhile.
	BatchApplied func(entries int, took time.Duration)
}

// Timing is the raft clock.
type Timing struct {
	Tick           time.Duration // the heartbeat interval
	ElectionTicks  int           // ticks without a leader before an election
	HeartbeatTicks int           // ticks between heartbeats; 0 means 1
}

// Election is the election timeout.
func (t Timing) Election() time.Duration { return time.Duration(t.ElectionTicks) * t.Tick }

// RequestTimeout is how long a request may take: five seconds and two election timeouts (source: etcd's
// ServerConfig.ReqTimeout).
func (t Timing) RequestTimeout() time.Duration { return limits.RequestTimeoutBase + 2*t.Election() }

// Raft is how the group elects, and how long it can help a member that was away without sending it the whole state.
type Raft struct {
	PreVote bool // ask before an election whether it could be won, so that a member that was cut off disturbs nobody
	Advance bool // have the first election after a start come early (see advance)
	// CatchUp is how many applied entries are kept in memory for other members, at least; Slack how many more come together
	// before the rest is let go of. 0 means limits.LogRetainedEntries each. Large entries are let go of earlier.
	CatchUp, Slack int
}

// Config is what Start needs. Fields are required unless they say otherwise.
type Config struct {
	Member ids.MemberID

	Log       Log
	HardState *raftpb.HardState // as found in the log; nil when it has none
	Entries   []*raftpb.Entry   // as found in the log, ascending without gaps; those at or below the machine's mark are skipped
	ConfState *raftpb.ConfState // the group's members as of the machine's mark; nil or empty before the first change

	Machine   Machine
	Engine    Engine    // nil: the log is never released
	Transport Transport // nil: Alone
	Snapshots Snapshots // nil: none are sent, and none may come

	Timing          Timing
	Raft            Raft
	MaxRequestBytes int // bound of one log entry's data, bytes; 0 means limits.RequestBytes

	Clock    clock.Clock // nil: the machine's clock
	Logger   *zap.Logger // nil: no log
	Observer Observer
}

// complete fills what may be left out and reports what must not.
func (c *Config) complete() error {
	if c.Transport == nil {
		c.Transport = Alone{}
	}
	if c.Clock == nil {
		c.Clock = clock.Real()
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.Timing.HeartbeatTicks == 0 {
		c.Timing.HeartbeatTicks = 1
	}
	if c.Raft.CatchUp == 0 {
		c.Raft.CatchUp = limits.LogRetainedEntries
	}
	if c.Raft.Slack == 0 {
		c.Raft.Slack = limits.LogRetainedEntries
	}
	if c.MaxRequestBytes == 0 {
		c.MaxRequestBytes = limits.RequestBytes
	}
	switch {
	case c.Member == 0:
		return fmt.Errorf("node: the member id must not be 0")
	case c.Log == nil || c.Machine == nil:
		return fmt.Errorf("node: a log and a state machine are needed")
	case c.Timing.Tick <= 0:
		return fmt.Errorf("node: the tick of %s must be positive", c.Timing.Tick)
	case c.Timing.ElectionTicks <= c.Timing.HeartbeatTicks:
		return fmt.Errorf("node: %d election ticks must be more than the %d heartbeat ticks", c.Timing.ElectionTicks, c.Timing.HeartbeatTicks)
	}
	return nil
}
