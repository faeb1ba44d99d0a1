package world

import (
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// contest is a time in which several members want to lead at once, messages take about as long as an election, and who has voted may
// lose its power before anybody hears of it.
type contest struct{ until time.Duration }

// contestLeadership has the leader hand over to two others one after the other, so that both begin an election in the same term.
func (w *World) contestLeadership() {
	if len(w.members) < 3 {
		return
	}
	lasts := w.between(200*time.Millisecond, 2*time.Second)
	w.contest.until = w.now + lasts
	w.net.delay = w.between(5*time.Millisecond, 400*time.Millisecond)
	w.mends(lasts, func() { w.net.delay = time.Millisecond })
	m := w.leader()
	life, asked := m.life, 2+w.rng.IntN(2)
	for _, i := range w.rng.Perm(len(w.members)) {
		to := w.members[i].ID
		if to == m.ID || asked == 0 {
			continue
		}
		asked--
		w.after(w.upTo(20*time.Millisecond), func() {
			m.enter(life, func() { m.drive.Host.TransferLeadership(to, func(error) {}) })
		})
	}
}

// handOver has the leader hand over to some other.
func (w *World) handOver() {
	m, to := w.leader(), w.anyMember()
	w.trace.note(m.name, "hands over to %s", to.name)
	m.enter(m.life, func() { m.drive.Host.TransferLeadership(to.ID, func(error) {}) })
}

// voted looks at what a member sends: in a contest, some that give their vote lose their power just after, and are back at once.
func (w *World) voted(m *Member, message *raftpb.Message) {
	if w.now >= w.contest.until || w.healed || message.GetType() != raftpb.MsgVoteResp || message.GetReject() || !w.chance(2) {
		return
	}
	life := m.life
	w.after(w.upTo(2*time.Millisecond), func() {
		if m.up && m.life == life && !w.healed {
			w.trace.note(m.name, "loses its power after a vote")
			w.powerLoss(m)
			w.after(w.between(time.Millisecond, 150*time.Millisecond), func() { w.start(m) })
		}
	})
}
