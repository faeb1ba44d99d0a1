package state

import (
	"fmt"
	"sync/atomic"

	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/command"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/internal/invariant"
	"quorate.dev/quorate/lease"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/v2store"
	"quorate.dev/quorate/wire"
)

// Config is what Open needs to know besides the engine. What it says about replicated state must be the same on every member.
type Config struct {
	Member      ids.MemberID  // this member, for messages
	Cluster     ids.ClusterID // its cluster, for messages
	LeaseTTLMin int64         // seconds; a lease is not granted for less; 0 means 1; the same on every member
	MaxLearners int           // 0 means member.MaxLearnersDefault; the same on every member
}

// Machine is the state machine. One goroutine at a time calls Apply and Background; View and Image are for any.
type Machine struct {
	engine  *storage.Engine
	config  Config
	keys    *mvcc.Store
	leases  *lease.Table
	members *member.Table
	alarms  alarms
	auth    *auth.Table
	v2      tree
	mark    storage.Mark // of the last command applied
	view    atomic.Pointer[View]
	failed  error // nothing is applied after the first failure

	// What follows is of the running call and kept only for its memory.
	batch   *storage.Batch
	effects Effects
	scratch scratch
	granted func(ids.LeaseID) bool // leases.Has
}

// scratch holds one request of each frequent kind, decoded. They alias the command that is being applied.
type scratch struct {
	running ids.Index // of the command
	put     wire.PutRequest
	delete  wire.DeleteRangeRequest
	txn     wire.TxnRequest
}

// View is the state at one instant, after some command. It is immutable and for any goroutine.
type View struct {
	*mvcc.View // the keys
	Applied    ids.Index
	Term       ids.Term // of the command at Applied
	Leases     *lease.View
	Members    *member.View
	Alarms     []wire.AlarmMember // ascending by member, then by type; not to be changed
	Auth       *auth.View
	V2         *v2store.View
}

// RetainedBytes is what the quota is compared with: revision keys and values of all records that are not removed yet, and
// limits.QuotaCostLease for every lease, and the paths and values of the v2 tree, in bytes. It falls after a compaction, as
// Background goes on.
func (v *View) RetainedBytes() int64 {
	return v.Stats().RetainedBytes + int64(v.Leases.Len())*limits.QuotaCostLease + v.V2.Bytes()
}

// Effects is what a batch caused besides results, for those who act on it. Slices are valid until the next Apply; what they
// point to is immutable and may be kept.
type Effects struct {
	Events    []*mvcc.EventBatch // ascending by revision
	Leases    []LeaseChange      // in order
	Changes   []member.Change    // of membership, in order
	Auth      []AuthChange       // in order
	V2        []*v2store.Event   // of the v2 tree, ascending by index
	Alarms    bool               // alarms were raised or cleared
	Members   bool               // members, their attributes, the cluster version or the downgrade changed
	Compacted *Compaction        // the last compaction of the batch; nil when there was none
}

// LeaseChange is something that happened to a lease.
type LeaseChange = lease.Change

// What can happen to a lease.
const (
	Granted      = lease.Granted
	Revoked      = lease.Revoked
	Checkpointed = lease.Checkpointed
)

// Compaction is one compaction and the records as they were when it removed none of them yet. The receiver closes Frozen.
type Compaction struct {
	Previous ids.Revision // the compaction before it, -1 for none
	At       ids.Revision
	Frozen   *storage.Frozen
}

// Open reads the state from the engine and publishes it. The engine then belongs to the Machine until it is closed, but for
// reading. Errors are failures of the disk or name a record that is damaged.
func Open(e *storage.Engine, c Config) (*Machine, error) {
	if c.LeaseTTLMin == 0 {
		c.LeaseTTLMin = 1
	}
	if c.LeaseTTLMin < 0 || c.LeaseTTLMin > limits.LeaseTTLSecondsMax {
		return nil, fmt.Errorf("state: the shortest lease of %d s must be from 1 to %d s", c.LeaseTTLMin, int64(limits.LeaseTTLSecondsMax))
	}
	m := &Machine{engine: e, config: c, mark: e.Applied(), batch: e.NewBatch()}
	if canary.On(canary.MarkAhead) && m.mark.Index > 8 {
		m.mark.Index++
	}
	if err := m.load(); err != nil {
		return nil, fmt.Errorf("state: open the state of member %s of cluster %s: %w", c.Member, c.Cluster, err)
	}
	m.granted = m.leases.Has
	m.publish()
	return m, nil
}

func (m *Machine) load() (err error) {
	if m.keys, err = mvcc.Open(m.engine); err != nil {
		return err
	}
	if m.leases, err = lease.Open(m.engine); err != nil {
		return err
	}
	m.keys.Leases(m.leases.Attach)
	if m.members, err = member.Open(m.engine, m.config.MaxLearners); err != nil {
		return err
	}
	if m.alarms, err = openAlarms(m.engine); err != nil {
		return err
	}
	if m.auth, err = auth.Open(m.engine); err != nil {
		return err
	}
	return m.openV2()
}

// Applied is the mark up to which the state is complete.
func (m *Machine) Applied() storage.Mark { return m.mark }

// ConfState is raft's configuration after the last command, in new memory.
func (m *Machine) ConfState() *raftpb.ConfState { return m.members.View().ConfState() }

// View returns the newest state. Any goroutine may call it.
func (m *Machine) View() *View { return m.view.Load() }

func (m *Machine) publish() {
	m.view.Store(&View{
		View: m.keys.Publish(), Applied: m.mark.Index, Term: m.mark.Term,
		Leases: m.leases.View(), Members: m.members.View(), Alarms: m.alarms.list, Auth: m.auth.Published(),
		V2: m.v2.Publish(),
	})
}

// Apply applies the commands in order and fills results, which has the same length, with their answers. Commands at or below
// Applied were applied before; they are passed over and their results hold the current revision only. When it returns, View
// shows the batch. An error is a failure of the disk: the batch has not happened, and no other will.
func (m *Machine) Apply(cmds []command.Command, results []command.Result) (Effects, error) {
	if len(cmds) != len(results) {
		invariant.Failed("%d commands with room for %d results", len(cmds), len(results))
	}
	if m.failed != nil {
		return Effects{}, m.failed
	}
	mark := m.mark
	m.resetEffects()
	for i := range cmds {
		c, r := &cmds[i], &results[i]
		if c.Index <= mark.Index {
			*r = command.Result{Revision: m.keys.Revision()}
			continue
		}
		if c.Index != mark.Index+1 || c.Term < mark.Term {
			invariant.Failed("entry %d of term %d is applied after entry %v", c.Index, c.Term, mark)
		}
		m.run(c, r)
		if m.failed != nil {
			return Effects{}, m.failed
		}
		mark = storage.Mark{Index: c.Index, Term: c.Term}
	}
	if mark == m.mark {
		return Effects{}, nil
	}
	if err := m.commit(mark); err != nil {
		return Effects{}, err
	}
	if m.effects.Compacted != nil {
		m.effects.Compacted.Frozen = m.engine.Freeze()
	}
	return m.effects, nil
}

func (m *Machine) resetEffects() {
	e := &m.effects
	clear(e.Events)
	clear(e.Changes)
	clear(e.Auth)
	*e = Effects{Events: e.Events[:0], Leases: e.Leases[:0], Changes: e.Changes[:0], Auth: e.Auth[:0]}
}

// run applies one command.
func (m *Machine) run(c *command.Command, r *command.Result) {
	*r = command.Result{}
	if canary.On(canary.SkipCommand) && c.Index%50 == 0 && m.config.Member%2 == 0 {
		return
	}
	kind := c.Kind.Row().Kind
	m.scratch.running = c.Index
	if r.Err = m.denied(kind.Row()); r.Err == nil {
		r.Err = m.permitted(c)
	}
	if r.Err == nil {
		if err := handlers[kind](m, c.Body, r); err != nil {
			*r = command.Result{Err: err}
		}
	}
	r.Revision = m.keys.Revision()
}

// commit makes the batch durable in the order of batches, and visible.
func (m *Machine) commit(mark storage.Mark) error {
	if err := m.engine.Commit(m.batch, mark); err != nil {
		m.failed = fmt.Errorf("state: commit entry %v: %w", mark, err)
		return m.failed
	}
	m.batch.Reset()
	m.mark = mark
	m.effects.V2 = m.v2.Events()
	if !canary.On(canary.ApplyLate) || mark.Index%3 != 0 {
		m.publish()
	}
	return nil
}

// Background does up to max steps of housekeeping and says whether there is more to do. A step is the removal of one record
// that a compaction made unreachable or, after a restart and when there is none, the fetching of one value into memory. It is
// called by the goroutine that calls Apply. Errors as Apply.
func (m *Machine) Background(max int) (more bool, err error) {
	if m.failed != nil {
		return false, m.failed
	}
	if !m.keys.Scrubbing() {
		if more, err = m.keys.Warm(max); err != nil {
			m.failed = fmt.Errorf("state: fetch values into memory: %w", err)
		}
		return more, m.failed
	}
	more = m.keys.Scrub(m.batch, max) || m.keys.Warming()
	return more, m.commit(m.mark)
}

// Image is the stored state of one instant, for a snapshot or a hash. It is for any goroutine.
type Image struct {
	// Frozen holds every bucket.
	Frozen *storage.Frozen
}

// Image freezes the state after the last batch. The caller closes it. Any goroutine may call it.
func (m *Machine) Image() *Image { return &Image{Frozen: m.engine.Freeze()} }

// Mark is the command that the image is complete up to. Together with Frozen it is all that writing etcd's db format needs:
// raft's configuration and the storage version are in the meta bucket already.
func (i *Image) Mark() storage.Mark { return i.Frozen.Mark() }

// Hash is the hash of the keys up to a revision, 0 for all, as mvcc.HashKV has it.
func (i *Image) Hash(upper ids.Revision) (mvcc.Hash, error) { return mvcc.HashKV(i.Frozen, upper) }

// Close releases the image.
func (i *Image) Close() error { return i.Frozen.Close() }
