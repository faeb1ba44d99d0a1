package world

import (
	"math"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
)

// lifetime is what a member says of a lease.
type lifetime struct {
	id       int64 // of a grant
	revision int64 // of a grant
	ttl      int64 // seconds: as granted, or what remains
	granted  int64 // seconds
}

type leaseReply = func(lifetime, error)

const (
	leaseRetry    = 50 * time.Millisecond
	leaseAskLimit = time.Second // that a member waits for an answer of the leader before it asks again
)

// grant does what the server does with a grant: it chooses the id, if the client did not, and raises the time.
func (m *Member) grant(id, ttl int64, answer leaseReply) {
	for id == 0 {
		id = m.w.rng.Int64() & math.MaxInt64
	}
	body, err := proto.Marshal(&etcdserverpb.LeaseGrantRequest{ID: id, TTL: max(ttl, m.w.leaseTTLMin())})
	if err != nil {
		answer(lifetime{}, err)
		return
	}
	by := byRoot.prove(m.state.View().Auth)
	m.drive.Host.ProposeAs(command.LeaseGrant, body, by.User, by.Revision, waiter(func(r *command.Result) {
		answer(lifetime{id: int64(r.Lease), revision: int64(r.Revision), ttl: r.TTL}, r.Err)
	}))
}

// keepAlive renews a lease at the leader, whichever member that is.
func (m *Member) keepAlive(id int64, answer leaseReply) {
	renew := func(l *Member, done leaseReply) {
		l.renew(ids.LeaseID(id), func(ttl int64, err error) { done(lifetime{ttl: ttl}, err) })
	}
	if m.drive.Host.Status().Self || len(m.state.View().Members.Members()) == 1 {
		renew(m, answer)
		return
	}
	m.atLeader(m.w.now+m.w.timing().RequestTimeout(), renew, renew, answer)
}

// timeToLive asks how long a lease lives, as the server does: it reads, and asks the leader if this member is another one.
func (m *Member) timeToLive(id int64, answer leaseReply) {
	remaining := func(l *Member, done leaseReply) {
		left, granted, ok, leading := l.duty.Remaining(ids.LeaseID(id))
		switch {
		case !leading:
			done(lifetime{}, fault.NotLeader)
		case !ok:
			done(lifetime{}, fault.LeaseNotFound)
		default:
			done(lifetime{ttl: int64(left / time.Second), granted: granted}, nil)
		}
	}
	there := func(l *Member, done leaseReply) {
		l.drive.Host.Read(func(err error) {
			if err != nil {
				done(lifetime{}, err)
				return
			}
			remaining(l, done)
		})
	}
	changed := func(_ *Member, done leaseReply) { done(lifetime{}, fault.LeaderChanged) }
	m.drive.Host.Read(func(err error) {
		if err != nil {
			answer(lifetime{}, err)
			return
		}
		if _, _, _, leading := m.duty.Remaining(ids.LeaseID(id)); leading {
			remaining(m, answer)
			return
		}
		m.atLeader(m.w.now+m.w.timing().RequestTimeout(), there, changed, answer)
	})
}

// atLeader has the leader do something, until it answers or the time is over. here is done instead when this member has come to lead.
func (m *Member) atLeader(until time.Duration, there, here func(*Member, leaseReply), answer leaseReply) {
	w, life := m.w, m.life
	again := func() {
		w.after(leaseRetry, func() { m.enter(life, func() { m.atLeader(until, there, here, answer) }) })
	}
	st := m.drive.Host.Status()
	leader := w.member(st.Leader)
	switch {
	case w.now >= until:
		answer(lifetime{}, fault.Timeout)
	case st.Self:
		here(m, answer)
	case leader == nil:
		again()
	default:
		w.between2(m, leader, there, func(v lifetime, err error) {
			m.enter(life, func() {
				if err == nil || err == fault.LeaseNotFound { //nolint:errorlint // these come as they are
					answer(v, err)
					return
				}
				again()
			})
		})
	}
}

// between2 has one member ask another, and done be called once.
func (w *World) between2(from, to *Member, there func(*Member, leaseReply), done leaseReply) {
	ended := false
	end := func(v lifetime, err error) {
		if !ended {
			ended = true
			done(v, err)
		}
	}
	w.after(leaseAskLimit, func() { end(lifetime{}, errUnderWay) })
	d, ok := w.net.passes(from.ID, to.ID)
	if !ok {
		return
	}
	w.after(d, func() {
		life := to.life
		to.enter(life, func() {
			if !to.drive.Host.Status().Self {
				end(lifetime{}, fault.NotLeader)
				return
			}
			there(to, func(v lifetime, err error) {
				if d, ok := w.net.passes(to.ID, from.ID); ok && to.up && to.life == life {
					w.after(d, func() { end(v, err) })
				}
			})
		})
	})
}
