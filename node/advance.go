package node

import (
	"time"

	"go.etcd.io/raft/v3"

	"quorate.dev/quorate/ids"
)

// advanceWithin is how long after the start the other members may take to connect for the first election to come early
// (source: etcd's EtcdServer.adjustTicks, which waits for its streams' read timeout).
const advanceWithin = 5 * time.Second

// advance lets a member that has just started wait less for the first election: as soon as a majority is connected, all but two
// ticks of the election timeout are passed over. Two remain so that a leader that is there already is heard first.
func (l *loop) advance() {
	timing := l.h.cfg.Timing
	switch {
	case !l.early:
		return
	case l.lead != raft.None || time.Duration(l.ticks)*timing.Tick > advanceWithin:
		l.early = false
		return
	case !l.quorum(func(id uint64) bool { return !l.h.cfg.Transport.ActiveSince(ids.MemberID(id)).IsZero() }):
		return
	}
	l.early = false
	n := timing.ElectionTicks - 2
	l.h.cfg.Logger.Sugar().Infof("other members are connected; fast-forwarding %d of %d election ticks", n, timing.ElectionTicks)
	for range n {
		l.rn.Tick()
	}
}
