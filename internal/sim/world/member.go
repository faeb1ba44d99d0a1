package world

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/internal/sim/disk"
	"quorate.dev/quorate/leader"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/node"
	"quorate.dev/quorate/snapshot"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wal"
	"quorate.dev/quorate/watch"
	"quorate.dev/quorate/wire"
)

// Where a member's data lies on its disk.
const (
	dataDir  = "data"
	storeDir = "data/store"
	logDir   = "data/log"
)

// Member is one simulated member.
type Member struct {
	w    *World
	ID   ids.MemberID
	name string
	disk *disk.Disk

	life    int // counts starts; what was begun in another life is void
	up      bool
	paused  bool
	founder bool
	waiting []func() // what came in while it was paused
	work    work
	standing
	process               // nil fields while it is down
	slow    time.Duration // by which its applies may be later
	cutting bool          // the power goes at one of the next operations of its disk
	harmed  int           // the life whose disk failed at some time: it may find that out later
}

// process is what a start makes.
type process struct {
	clock  *clock.Manual
	at     time.Duration // what the clock has been brought to
	engine *storage.Engine
	log    *wal.Log
	state  *state.Machine
	hub    *watch.Hub
	duty   *leader.Duty
	depot  *snapshot.Depot
	drive  *node.Driver
	led    ids.Term

	suspended bool   // its clock stands still with it
	users     *canon // that were compared with other members last
	v2        heritage
}

// work says which steps are already on the agenda.
type work struct{ turn, write, apply, watch bool }

// enter runs do as something that happens to the process of this life, and has it do what follows.
func (m *Member) enter(life int, do func()) {
	if !m.up || m.life != life {
		return
	}
	if m.paused {
		m.waiting = append(m.waiting, func() { m.enter(life, do) })
		return
	}
	m.sync()
	do()
	m.follow()
}

// sync brings the member's clock to the present.
func (m *Member) sync() {
	if d := m.w.now - m.at; d > 0 {
		m.at = m.w.now
		m.clock.Advance(m.shown(d))
	}
}

// follow puts on the agenda what the member has to do now, and looks whether it has ended.
func (m *Member) follow() {
	if !m.up {
		return
	}
	if err := m.drive.Host.Err(); err != nil {
		m.ended(err)
		return
	}
	w, life := m.w, m.life
	turn, write, apply := m.drive.Wants()
	if turn && !m.work.turn {
		m.work.turn = true
		w.after(w.upTo(100*time.Microsecond), func() { m.enter(life, func() { m.work.turn = false; m.drive.Turn() }) })
	}
	if write && !m.work.write && !m.disk.Stalled() {
		m.work.write = true
		w.after(w.between(50*time.Microsecond, w.set.Sync), func() { m.enter(life, func() { m.work.write = false; m.drive.Write() }) })
	}
	if apply && !m.work.apply {
		m.work.apply = true
		w.after(w.upTo(w.set.Apply+m.slow), func() { m.enter(life, func() { m.work.apply = false; m.drive.Apply() }) })
	}
	if !m.work.watch {
		m.work.watch = true
		w.after(w.upTo(2*time.Millisecond), func() { m.watches(life) })
	}
}

// watches has the watches delivered that there is something for. What follows it is no reason to do so again: else a member would do nothing but look.
func (m *Member) watches(life int) {
	if !m.up || m.life != life {
		return
	}
	if m.paused {
		m.waiting = append(m.waiting, func() { m.watches(life) })
		return
	}
	m.sync()
	for range 1 + m.w.rng.IntN(8) { // what others do at the same time may come between
		if !m.hub.Step() {
			m.follow()
			if m.life == life {
				m.work.watch = false
			}
			return
		}
	}
	m.follow()
	m.w.after(m.w.upTo(time.Millisecond), func() { m.watches(life) })
}

// ended is the end of a process that stops by itself.
func (m *Member) ended(err error) {
	again := errors.Is(err, node.ErrInstall)
	m.w.trace.note(m.name, "ends: %v", err)
	if m.cutting && errors.Is(err, disk.ErrPowerLost) {
		m.w.powerLoss(m)
		m.w.revive(m)
		return
	}
	if !again && m.w.noticed(m, err) {
		return
	}
	harmed := m.harmed == m.life
	m.kill()
	switch {
	case harmed:
		m.w.start(m)
	case again:
		m.w.after(m.w.upTo(100*time.Millisecond), func() { m.w.start(m) })
	case m.disk.Failing() == "":
		m.w.broken("%s ended by itself: %v", m.name, err)
	}
}

// kill ends the process where it is. What it has written stays as it is.
func (m *Member) kill() {
	if !m.up {
		return
	}
	m.down(m.disk.Kill())
}

// down ends the process and leaves a disk to the next one.
func (m *Member) down(next *disk.Disk) {
	m.disk = next
	if !m.up {
		return
	}
	m.up, m.paused, m.waiting, m.work = false, false, nil, work{}
	m.w.demoted(m)
	m.w.disturb()
	m.drive.Abandon()
	m.hub.Close()
	m.v2.close()
	m.duty.Stop()
	_ = m.log.Close()
	_ = m.engine.CloseDirty()
	m.process = process{}
}

// open starts a process on what the disk holds.
func (m *Member) open() (err error) {
	w := m.w
	m.life++
	m.process = process{clock: m.newClock(), at: w.now}
	defer func() {
		if err != nil {
			m.closeAll()
		}
	}()
	if err := m.install(); err != nil {
		return err
	}
	if m.engine, err = storage.Open(storeDir, storage.Options{FS: m.disk.FS(), MemTableBytes: 1 << 20, Pinned: true}); err != nil {
		return err
	}
	hard, entries, err := m.openLog()
	if err != nil {
		return err
	}
	if m.state, err = state.Open(m.engine, state.Config{Member: m.ID, Cluster: clusterID, LeaseTTLMin: m.w.leaseTTLMin(), MaxLearners: w.set.Learners}); err != nil {
		return err
	}
	if err := m.enlist(); err != nil {
		return err
	}
	if m.depot, err = snapshot.New(snapshot.Options{FS: m.disk.FS(), Dir: dataDir, Checkpoint: m.checkpoint, Applied: m.engine.Applied().Index, Clock: m.clock}); err != nil {
		return err
	}
	m.hub = watch.New(watch.Config{
		View: func() *mvcc.View { return m.state.View().View }, Header: m.header, FragmentBytes: 1 << 20,
		LogRevisions: w.set.WatchLog, ProgressInterval: time.Second, Clock: m.clock, Driven: true,
	})
	m.v2 = newHeritage(m.state.View().V2)
	m.duty = leader.New(leader.Config{
		Member: m.ID, Proposer: proposer{m}, State: dutyState{m}, Election: w.timing().Election(), RequestTimeout: w.timing().RequestTimeout(),
		Checkpoints: w.set.Checkpoints, CheckpointEvery: w.set.Checkpoint, Compaction: w.set.Automatic, Clock: m.clock, ClusterVersion: m.version, V2: m.tree(),
	})
	m.drive, err = node.Drive(m.config(hard, entries))
	return err
}

func (m *Member) config(hard *raftpb.HardState, entries []*raftpb.Entry) node.Config {
	w := m.w
	return node.Config{
		Member: m.ID, Log: m.log, HardState: hard, Entries: entries, ConfState: m.state.ConfState(), Machine: machine{m}, Engine: m.engine,
		Transport: port{m, m.life}, Snapshots: &courier{m, m.life}, Timing: w.timing(),
		Raft: node.Raft{PreVote: !w.set.NoPreVote, CatchUp: w.set.CatchUp, Slack: w.set.Slack}, Clock: m.clock,
		Observer: node.Observer{
			LeaderChanged: m.leaderChanged,
			LeaderReady:   func(term ids.Term) { m.duty.Promote(term, m.state.View().Leases.All()); w.promoted(m, term) },
		},
	}
}

// closeAll lets go of what a start that failed has opened.
func (m *Member) closeAll() {
	if m.log != nil {
		_ = m.log.Close()
	}
	if m.engine != nil {
		_ = m.engine.CloseDirty()
	}
	m.process = process{}
}

func (m *Member) openLog() (*raftpb.HardState, []*raftpb.Entry, error) {
	options := wal.Options{FS: m.disk.FS(), SegmentBytes: m.w.set.Segment}
	if !wal.Exists(m.disk.FS(), logDir) {
		log, err := wal.Create(logDir, options, wal.Metadata{Member: m.ID, Cluster: clusterID})
		if err != nil {
			return nil, nil, err
		}
		m.log = log
		return m.found()
	}
	log, replay, err := wal.Open(logDir, options, m.engine.Applied().Index)
	if err != nil {
		return nil, nil, err
	}
	m.log = log
	if m.founder && len(replay.Entries) == 0 && m.engine.Applied().Index == 0 {
		return m.found()
	}
	return replay.HardState, replay.Entries, nil
}

// found writes the beginning of the log of a founder. One that joins begins with nothing.
func (m *Member) found() (*raftpb.HardState, []*raftpb.Entry, error) {
	if !m.founder {
		return &raftpb.HardState{}, nil, nil
	}
	var peers []node.Peer
	for i := range m.w.set.Members {
		p := member.Member{ID: memberID(i), Name: nameOf(i), PeerURLs: []string{"http://" + nameOf(i)}}
		peers = append(peers, node.Peer{ID: p.ID, Context: p.JSON()})
	}
	return node.Bootstrap(m.log, peers)
}

// install carries out an intended install of a snapshot.
func (m *Member) install() error {
	manifest, err := snapshot.Pending(m.disk.FS(), dataDir)
	if err != nil || manifest == nil {
		return err
	}
	log, replay, err := wal.Open(logDir, wal.Options{FS: m.disk.FS(), SegmentBytes: m.w.set.Segment}, manifest.Index)
	if err != nil {
		if log, replay, err = wal.OpenWhole(logDir, wal.Options{FS: m.disk.FS(), SegmentBytes: m.w.set.Segment}); err != nil {
			return err
		}
	}
	hard := &raftpb.HardState{Term: replay.HardState.Term, Vote: replay.HardState.Vote, Commit: proto.Uint64(uint64(manifest.Index))}
	if hard.GetTerm() < uint64(manifest.Term) {
		hard.Term, hard.Vote = proto.Uint64(uint64(manifest.Term)), proto.Uint64(0)
	}
	if err := errors.Join(log.Install(hard, manifest.Index, manifest.Term), log.Close()); err != nil {
		return err
	}
	return snapshot.Swap(m.disk.FS(), dataDir, storeDir)
}

// checkpoint makes dir a copy of the store and says what it covers.
func (m *Member) checkpoint(dir string) (*raftpb.SnapshotMetadata, error) {
	if err := m.engine.Checkpoint(dir); err != nil {
		return nil, err
	}
	copied, err := storage.Open(dir, storage.Options{FS: m.disk.FS(), ReadOnly: true, Pinned: true})
	if err != nil {
		return nil, err
	}
	mark := copied.Applied()
	table, err := member.Open(copied, m.w.set.Learners)
	if err = errors.Join(err, copied.Close()); err != nil {
		return nil, err
	}
	return &raftpb.SnapshotMetadata{Index: proto.Uint64(uint64(mark.Index)), Term: proto.Uint64(uint64(mark.Term)), ConfState: table.View().ConfState()}, nil
}

func (m *Member) header() wire.Header {
	h := wire.Header{ClusterID: uint64(clusterID), MemberID: uint64(m.ID)}
	if m.drive != nil {
		h.RaftTerm = uint64(m.drive.Host.Status().Term)
	}
	return h
}

func (m *Member) leaderChanged(l node.Leadership) {
	if l.Leader != 0 {
		m.w.trace.note(m.name, "follows %s in term %d", m.w.nameOf(l.Leader), l.Term)
	}
	switch {
	case l.Self:
		m.led = l.Term
	case m.led != 0:
		m.w.demoted(m)
		m.duty.Demote(m.led)
		m.led = 0
	}
}

// ticks keeps raft's clock and the duties going for one life.
func (m *Member) ticks(life int) {
	m.enter(life, func() {
		m.drive.Tick()
		m.dial()
		if m.w.chance(20) {
			m.drive.Tidy()
		}
	})
	if m.up && m.life == life {
		m.w.after(m.period(m.w.set.Tick), func() { m.ticks(life) })
	}
}

// rounds keeps the leader's duties going for one life.
func (m *Member) rounds(life int) {
	m.enter(life, m.duty.Round)
	if m.up && m.life == life {
		m.w.after(m.period(limits.LeaseRound), func() { m.rounds(life) })
	}
}

// machine is the state machine as node drives it.
type machine struct{ m *Member }

// Applied implements node.Machine.
func (a machine) Applied() storage.Mark { return a.m.state.Applied() }

// Apply implements node.Machine.
func (a machine) Apply(cmds []command.Command, results []command.Result) error {
	m := a.m
	before := m.state.Applied().Index
	effects, err := m.state.Apply(cmds, results)
	if err != nil {
		return err
	}
	if effects.Compacted != nil && effects.Compacted.Frozen != nil {
		if err := effects.Compacted.Frozen.Close(); err != nil {
			return err
		}
	}
	m.w.decided(m, before, cmds, results, &effects)
	m.w.remember(m, before, cmds, results, &effects)
	m.hub.Publish(effects.Events)
	m.v2.publish(m.state.View().V2, effects.V2)
	m.w.ends(m, effects.Leases)
	m.duty.Apply(leaseChanges(effects.Leases))
	m.registered(&effects, cmds[len(cmds)-1].Index)
	m.w.applied(m, cmds[len(cmds)-1].Index)
	return nil
}

// Background implements node.Machine.
func (a machine) Background(most int) (bool, error) {
	return a.m.state.Background(min(most, a.m.w.set.Scrub))
}

func leaseChanges(changes []state.LeaseChange) (out []leader.Change) {
	for _, c := range changes {
		change := leader.Change{ID: c.ID, TTL: c.TTL, Remaining: c.Remaining}
		switch c.Kind {
		case state.Granted:
			change.Kind = leader.Granted
		case state.Revoked:
			change.Kind = leader.Revoked
		case state.Checkpointed:
			change.Kind = leader.Checkpointed
		}
		out = append(out, change)
	}
	return out
}

// proposer is the host as the duties use it.
type proposer struct{ m *Member }

// ProposeMessage implements leader.Proposer.
func (p proposer) ProposeMessage(kind command.Kind, msg leader.Message, w command.Waiter) {
	if w = p.m.automatic(kind, msg, w); w != nil {
		p.m.drive.Host.ProposeMessage(kind, msg, w)
	}
}

// ProposeInTerm implements leader.Proposer.
func (p proposer) ProposeInTerm(term ids.Term, kind command.Kind, msg leader.Message, w command.Waiter) {
	user, revision := p.m.state.View().Steward()
	p.m.drive.Host.ProposeInTermAs(term, kind, msg, user, revision, w)
}

// dutyState is what the duties look at.
type dutyState struct{ m *Member }

// Revision implements leader.State.
func (s dutyState) Revision() ids.Revision { return s.m.state.View().Revision() }

// RetainedBytes implements leader.State.
func (s dutyState) RetainedBytes() int64 { return s.m.state.View().RetainedBytes() }

// Alarms implements leader.State.
func (s dutyState) Alarms() []wire.AlarmMember { return s.m.state.View().Alarms }

// ClusterVersion implements leader.State.
func (s dutyState) ClusterVersion() string { return s.m.state.View().Members.Version() }

func nameOf(i int) string { return fmt.Sprintf("m%d", i+1) }

func memberID(i int) ids.MemberID { return ids.MemberID(0x101 * (i + 1)) }
