package node

import (
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"go.uber.org/zap"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
)

// Stall says that this member's own log or state machine makes no progress although there is work for it. It is the grey
// failure: the member is alive and sends heartbeats, and yet serves nobody.
type Stall struct {
	What string        // "the raft log" or "the state machine"; "" when all is well
	For  time.Duration // how long there has been no progress, in whole ticks
}

// The parts of a member that can stall.
const (
	stalledLog     = "the raft log"
	stalledMachine = "the state machine"
)

// fencedData is why a leader hands over that is fenced.
const fencedData = "its data differs from that of the others"

// removedSelf is why a leader hands over that has heard of its removal.
const removedSelf = "its removal"

// Fence says whether this member's data is not to be trusted. As long as it is not, this member votes and keeps the log, but does
// not lead: a leader that learns it hands over. The only voter leads all the same.
func (h *Host) Fence(on bool) { h.gauges.fenced.Store(on) }

// Stall is what does not get on for longer than limits.StallElections election timeouts, as of the last tick.
func (h *Host) Stall() Stall {
	if s := h.gauges.stall.Load(); s != nil {
		return *s
	}
	return Stall{}
}

// watchdog notices when the log or the machine makes no progress, and has a leader hand over to a member that does.
//
// Raft does not notice: heartbeats need no disk, and with asynchronous writes a majority of the others commits without this
// member's own sync. So a leader with a dead disk would lead for ever and answer nobody, because it applies only what is
// durable here.
//
// Time is counted in ticks: a process that was paused as a whole has missed no progress.
type watchdog struct {
	log, machine progress
	written      uint64 // storage-append messages finished since the start
	given        uint64 // index of the last entry given to the applier
	reported     string // what is known to be stalled
	handing      string // why this member, as a leader, hands over; "" when it does not
	again        int    // the tick of the next attempt to hand over
	tried        []uint64
}

// progress is how long, in ticks, work has waited without any of it being done.
type progress struct {
	done  uint64
	ticks int
}

func (p *progress) look(done uint64, owing bool) {
	if p.ticks++; done != p.done || !owing {
		p.done, p.ticks = done, 0
	}
}

// stall says what has made no progress for at least that many ticks.
func (w *watchdog) stall(ticks int) string {
	switch {
	case w.log.ticks >= ticks:
		return stalledLog
	case w.machine.ticks >= ticks:
		return stalledMachine
	}
	return ""
}

// stallTicks is from how many ticks without progress on a member counts as stalled.
func (l *loop) stallTicks() int { return limits.StallElections * l.h.cfg.Timing.ElectionTicks }

// unfit reports whether this member makes so little progress that it must not become the leader. That is from half the time
// on after which a leader gives up: what holds up all members alike must not pass the leadership around.
func (l *loop) unfit() bool {
	return !l.sole() && (l.h.gauges.fenced.Load() || l.watchdog.stall(max(l.stallTicks()/2, 1)) != "")
}

// watch looks, at every tick, whether the log and the machine get on.
func (l *loop) watch() {
	w := &l.watchdog
	applied := l.h.gauges.applied.Load()
	w.log.look(w.written, l.appending > 0)
	w.machine.look(applied, w.given > applied)
	what := w.stall(l.stallTicks())
	if what == "" {
		l.recovered()
		switch {
		case l.parting:
			l.giveUp(removedSelf, 0)
		case l.h.gauges.fenced.Load():
			l.giveUp(fencedData, 0)
		}
		return
	}
	age := time.Duration(max(w.log.ticks, w.machine.ticks)) * l.h.cfg.Timing.Tick
	l.h.gauges.stall.Store(&Stall{What: what, For: age})
	if w.reported != what {
		w.reported = what
		l.h.gauges.stalls.Add(1)
		l.h.cfg.Logger.Error("this member stalls: there is work for "+what+" and none of it gets done", zap.Duration("for", age),
			zap.Int("writes-waiting", l.appending), zap.Uint64("applied", applied), zap.Uint64("to-be-applied", w.given),
			zap.Uint64("committed", l.h.gauges.committed.Load()), zap.Bool("leader", l.role == raft.StateLeader))
	}
	l.giveUp(what, age)
}

// giveUp hands the leadership over, if this member has it, nobody else has it handed over, and the last attempt is over.
func (l *loop) giveUp(what string, age time.Duration) {
	if l.role == raft.StateLeader && !l.sole() && l.ticks >= l.again && len(l.transfers) == 0 {
		l.handOver(what, age)
	}
}

// recovered notes that what was stalled goes on.
func (l *loop) recovered() {
	w := &l.watchdog
	if w.reported == "" {
		return
	}
	l.h.cfg.Logger.Info("this member does not stall any more: "+w.reported+" goes on", zap.Bool("leader", l.role == raft.StateLeader))
	w.reported, w.handing, w.again, w.tried = "", "", 0, nil
	l.h.gauges.stall.Store(nil)
}

// handOver begins to hand the leadership to the best of the others. One that does not take it is not asked again before all
// have been asked.
func (l *loop) handOver(what string, age time.Duration) {
	w := &l.watchdog
	to, why := l.betterOff(what)
	if to == 0 {
		if len(w.tried) > 0 { // all have been asked, and may be better by now
			w.tried, w.again = nil, l.ticks+l.h.cfg.Timing.ElectionTicks
			return
		}
		w.again = l.ticks + l.h.cfg.Timing.ElectionTicks
		l.h.cfg.Logger.Warn("this leader should hand over and nobody can take over", zap.String("because-of", what), zap.Duration("for", age), zap.String("reason", why))
		return
	}
	// Raft gives up a transfer after an election timeout.
	w.handing, w.again, w.tried = what, l.ticks+l.h.cfg.Timing.ElectionTicks+1, append(w.tried, to)
	l.h.cfg.Logger.Warn("this leader hands the leadership over", zap.String("because-of", what), zap.Duration("for", age), zap.Stringer("to", ids.MemberID(to)))
	l.rn.TransferLeader(to)
}

// betterOff is the voter to hand over to: of those that answer and have not been asked yet, the one with the longest log. When
// this member's own log is stalled, the others must be a majority without it, and the successor must have more on its disk
// than this member: else the same thing may ail all of them, and a new leader would do no better.
func (l *loop) betterOff(what string) (to uint64, why string) {
	voters := l.conf.GetVoters()
	active, match := 0, uint64(0)
	if what != stalledLog {
		active++ // this member can still vote
	} else {
		match, _ = l.store.LastIndex()
	}
	why = "no other member answers with a longer log"
	l.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		if id == *l.self || !pr.RecentActive || !slices.Contains(voters, id) {
			return
		}
		active++
		if pr.Match > match && !slices.Contains(l.watchdog.tried, id) {
			to, match = id, pr.Match
		}
	})
	if active <= len(voters)/2 {
		return 0, "the members that answer are no majority"
	}
	return to, why
}

// handedOver notes that a leader that had to hand over leads no more.
func (l *loop) handedOver(leader ids.MemberID) {
	if l.handing != "" && leader != 0 && uint64(leader) != *l.self {
		l.h.gauges.stepDowns.Add(1)
		l.h.cfg.Logger.Info("the leadership of this member is handed over", zap.String("because-of", l.handing), zap.Stringer("leader", leader))
		l.handing, l.tried = "", nil
	}
}

// tickRaft moves raft's clock on. A member that must not lead, and that asks nobody beforehand whether it would be elected,
// stands still instead: else it would end the term of a leader that does better.
func (l *loop) tickRaft() {
	if l.role != raft.StateLeader && !l.h.cfg.Raft.PreVote && l.unfit() {
		return
	}
	l.rn.Tick()
}

// refuses reports whether this member must not take the leadership that m offers it.
func (l *loop) refuses(m *raftpb.Message) bool {
	if m.GetType() != raftpb.MsgTimeoutNow || !l.unfit() {
		return false
	}
	l.h.cfg.Logger.Warn("this member refuses to lead", zap.Stringer("asked-by", ids.MemberID(m.GetFrom())),
		zap.String("stalled", l.watchdog.stall(max(l.stallTicks()/2, 1))), zap.Bool("fenced", l.h.gauges.fenced.Load()))
	return true
}

// withholds reports whether a message must not be sent because this member must not be elected.
func (l *loop) withholds(m *raftpb.Message) bool {
	return m.GetType() == raftpb.MsgPreVote && l.unfit()
}
