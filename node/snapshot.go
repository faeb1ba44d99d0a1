package node

import (
	"errors"
	"fmt"
	"math"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/invariant"
)

// describe says for raft what a snapshot of this moment would be. What is sent may be newer.
func (l *loop) describe() *raftpb.Snapshot {
	term, err := l.store.Term(l.applied)
	if err != nil {
		invariant.Failed("the term of applied entry %d is not known: %v", l.applied, err)
	}
	return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: proto.Uint64(l.applied), Term: proto.Uint64(term), ConfState: proto.Clone(l.conf).(*raftpb.ConfState),
	}}
}

// sendSnapshot has a snapshot brought to a follower. Raft sends it nothing else until it hears how that went.
//
// Any snapshot will do from which the log continues. So an older one that the follower has a part of already can be used
// again, and until the follower has gone on from there, the log is kept.
func (l *loop) sendSnapshot(m *raftpb.Message) {
	to := m.GetTo()
	m.Snapshot.Metadata.Index, m.Snapshot.Metadata.Term = proto.Uint64(uint64(l.store.base.Index)), proto.Uint64(uint64(l.store.base.Term))
	l.store.hold(to, math.MaxInt)
	l.h.cfg.Logger.Info("sending a snapshot to a member that is too far behind for the log", zap.Stringer("to", ids.MemberID(to)), zap.Uint64("index", m.GetSnapshot().GetMetadata().GetIndex()))
	l.h.cfg.Snapshots.Send(m, func(err error) {
		status := raft.SnapshotFinish
		if err != nil {
			status = raft.SnapshotFailure
			l.h.cfg.Logger.Warn("a snapshot could not be sent", zap.Stringer("to", ids.MemberID(to)), zap.Error(err))
		}
		l.h.inbox.put(event{call: func(l *loop) {
			l.rn.ReportSnapshot(to, status)
			l.store.hold(to, l.ticks+int(holdTime/l.h.cfg.Timing.Tick))
		}})
	})
}

// holdTime is how long the log is kept for a follower that was sent a snapshot, or to which it could not be sent, and that has not
// gone on yet: the time of a restart.
const holdTime = time.Minute

// releaseHolds lets go of the log again when the followers that it is kept for have gone on, or time is over.
func (l *loop) releaseHolds() {
	if len(l.store.held) == 0 {
		return
	}
	waiting := map[uint64]bool{}
	l.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		waiting[id] = pr.State != tracker.StateReplicate || pr.Match < uint64(l.store.base.Index)
	})
	for to, until := range l.store.held {
		if !waiting[to] || l.ticks >= until {
			delete(l.store.held, to)
		}
	}
	if len(l.store.held) == 0 {
		l.store.trim(l.applied) // the next write may be long in coming
	}
}

// install makes it durable that a snapshot takes the place of log and state, and ends the host. Whatever raft handed out before is
// durable already.
func (a *appender) install(m *raftpb.Message) error {
	meta := m.GetSnapshot().GetMetadata()
	if err := a.h.cfg.Snapshots.Install(meta); err != nil {
		return fmt.Errorf("install the snapshot at index %d: %w", meta.GetIndex(), err)
	}
	if m.Term != nil {
		a.state.Term, a.state.Vote, a.state.Commit = m.Term, m.Vote, m.Commit
		a.hard = &a.state
	}
	if err := a.h.cfg.Log.Install(a.hard, ids.Index(meta.GetIndex()), ids.Term(meta.GetTerm())); err != nil {
		return err
	}
	return ErrInstall
}

// ReportUnreachable says that messages to a member are lost, so that raft sends it less until it answers. It never blocks.
func (h *Host) ReportUnreachable(id ids.MemberID) {
	if !h.unreachable.add(id) {
		return // the loop has not heard of the last time yet
	}
	h.inbox.put(event{call: func(l *loop) {
		h.unreachable.remove(id)
		l.rn.ReportUnreachable(uint64(id))
	}})
}

// installed reports whether err is the end of a host whose state is replaced.
func installed(err error) bool { return errors.Is(err, ErrInstall) }
