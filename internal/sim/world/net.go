package world

import (
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/ids"
)

// network carries messages between members, and between clients and members.
//
// Between members a message may be lost, late, overtaken or doubled. Proposals are not doubled: they go over a stream that does not do
// that either, and the host relies on it.
type network struct {
	w     *World
	delay time.Duration // most, for the most part
	loss  int           // one of so many messages is lost; 0: none
	twice int           // one of so many messages arrives twice; 0: none
	late  int           // one of so many messages takes ten times as long; 0: none
	cut   map[link]bool // what goes from one to the other is lost
	tails
}

// link is a direction between two members; 0 stands for the clients.
type link struct{ from, to ids.MemberID }

func (n *network) sever(from, to ids.MemberID, cut bool) {
	if cut {
		n.cut[link{from, to}] = true
	} else {
		delete(n.cut, link{from, to})
	}
}

// passes draws how long something is under way, or that it does not arrive.
func (n *network) passes(from, to ids.MemberID) (time.Duration, bool) {
	d := n.w.between(50*time.Microsecond, n.delay)
	if n.late > 0 && n.w.chance(n.late) {
		d *= 10
	}
	d += n.jammed(from, to)
	lost := n.loss > 0 && n.w.chance(n.loss)
	return d, !lost && !n.cut[link{from, to}]
}

// port is the transport of one life of a member.
type port struct {
	m    *Member
	life int
}

// Send implements node.Transport.
func (p port) Send(messages []*raftpb.Message) {
	w := p.m.w
	for _, m := range messages {
		from, to := ids.MemberID(m.GetFrom()), ids.MemberID(m.GetTo())
		if p.m.shuns(to) {
			continue
		}
		w.voted(p.m, m)
		body, err := proto.Marshal(m)
		if err != nil {
			w.broken("a raft message cannot be encoded: %v", err)
			return
		}
		for _, later := range w.net.copies(m.GetType() != raftpb.MsgProp) {
			d, ok := w.net.passes(from, to)
			if !ok {
				w.reportLost(p.m, to)
				continue
			}
			w.after(d+later, func() { w.arrive(from, to, body) })
		}
	}
}

// ActiveSince implements node.Transport.
func (p port) ActiveSince(id ids.MemberID) time.Time {
	w := p.m.w
	if !w.reaches(p.m.ID, id) {
		return time.Time{}
	}
	return epoch.Add(-time.Hour)
}

// reportLost tells raft now and then that a member cannot be reached, as a transport does.
func (w *World) reportLost(m *Member, to ids.MemberID) {
	if w.chance(8) {
		life := m.life
		w.after(w.upTo(100*time.Millisecond), func() {
			m.enter(life, func() { m.drive.Host.ReportUnreachable(to) })
		})
	}
}

// arrive hands a raft message over.
func (w *World) arrive(from, to ids.MemberID, body []byte) {
	m := w.member(to)
	if m == nil || w.net.cut[link{from, to}] {
		return
	}
	m.enter(m.life, func() {
		if m.shuns(from) {
			return
		}
		message := &raftpb.Message{}
		if err := proto.Unmarshal(body, message); err != nil {
			w.broken("a raft message cannot be decoded: %v", err)
			return
		}
		m.drive.Host.Receive(message)
	})
}
