package world

import (
	"errors"
	"slices"
	"time"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	durable "quorate.dev/quorate/internal/disk"
	"quorate.dev/quorate/internal/sim/disk"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/wire"
)

// As in server: how long the others still talk to a member that was removed, and how long that goes on if nobody tells it to go.
const (
	partingTime  = time.Second
	partingLimit = time.Minute
)

// errRemoved ends the start of a member that knows that it was removed.
var errRemoved = errors.New("the member was removed from the cluster")

// roster is who was ever to be in the cluster. A slice of members is never changed in place: somebody may be going through it.
type roster struct {
	members []*Member               // that have a process, or will have one again
	known   []ids.MemberID          // everybody ever, in the order in which they were made up
	names   map[ids.MemberID]string // of those
	urls    []string                // of members that are gone
	asked   []*asked                // what the operator asked for
	tables  map[ids.Index]table     // the register after some entries
	moves   int                     // counts peer URLs that were made up
}

// standing is how a member stands to the cluster.
type standing struct {
	joining   bool // it has not published its name yet, and serves nobody
	gone      bool // it was removed and is never started again
	version   string
	lingering map[ids.MemberID]bool // of this life: removed so recently that this member still talks to them
	parting   bool                  // of this life: it knows that it was removed
	decided   string                // of this life: the version of the cluster when it was looked at last
}

// newMember makes up a member with an empty disk.
func (w *World) newMember(id ids.MemberID) *Member {
	m := &Member{w: w, ID: id, name: nameOf(len(w.known)), disk: disk.New(w.rng, disk.Config{Ordered: w.set.Ordered})}
	m.version = newest
	if w.names == nil {
		w.names, w.tables = map[ids.MemberID]string{}, map[ids.Index]table{}
	}
	w.known, w.names[id] = append(w.known, id), m.name
	if err := durable.MakeDir(m.disk.FS(), dataDir); err != nil {
		w.broken("%v", err)
	}
	return m
}

// freshID draws an id that nobody ever had. The last two bytes of ids differ, as proposals are told apart by them.
func (w *World) freshID() ids.MemberID {
	for {
		id := ids.MemberID(1 + w.rng.IntN(1<<16-1))
		if w.names[id] == "" {
			return id
		}
	}
}

// knock has a new member ask the others whether they know of it, until one does: then it starts and gets everything from them.
func (w *World) knock(j *Member, a *asked) {
	if a.refused {
		return
	}
	m := w.anyMember()
	_, there := w.net.passes(j.ID, m.ID)
	_, back := w.net.passes(m.ID, j.ID)
	if there && back && m.up && !m.paused {
		v := m.state.View().Members
		if v.Removed(j.ID) {
			w.retire(j, "was removed before it started")
			return
		}
		if _, ok := v.Get(j.ID); ok {
			w.counts.Joined++
			w.trace.note(j.name, "joins, because %s knows of it", m.name)
			w.members = append(slices.Clone(w.members), j)
			w.start(j)
			return
		}
	}
	w.after(w.between(50*time.Millisecond, 500*time.Millisecond), func() { w.knock(j, a) })
}

// retire is the end of a member that was removed, and of its disk.
func (w *World) retire(m *Member, why string) {
	w.trace.note(m.name, "%s", why)
	if w.rot.of == m {
		w.unrot()
	}
	m.kill()
	m.gone, m.cutting = true, false
	m.disk.Free()
	m.disk.Repair()
	w.members = slices.DeleteFunc(slices.Clone(w.members), func(o *Member) bool { return o == m })
	w.counts.Retired++
}

// enlist begins a life: what it knows of those that were removed earlier is that they are gone.
func (m *Member) enlist() error {
	members := m.state.View().Members
	m.lingering, m.parting, m.decided = map[ids.MemberID]bool{}, false, members.Version()
	if members.Removed(m.ID) {
		return errRemoved
	}
	return nil
}

// announce has a member that has started publish its name, until it is heard, as the server does.
func (m *Member) announce(life int) {
	m.enter(life, func() {
		req := &wire.ClusterMemberAttrSetRequest{MemberID: uint64(m.ID), Name: m.name, ClientURLs: []string{"http://" + m.name + ":2379"}}
		m.drive.Host.ProposeMessage(command.MemberAttributes, req, waiter(func(r *command.Result) {
			switch {
			case r.Err == nil:
				m.joining = false
			case !errors.Is(r.Err, fault.Stopped):
				m.w.after(m.w.upTo(100*time.Millisecond), func() { m.announce(life) })
			}
		}))
	})
}

// registered follows a change of members that this member has applied.
func (m *Member) registered(effects *state.Effects, index ids.Index) {
	if len(effects.Changes) > 0 || index%8 == 0 { // all members end a batch at a change
		m.w.tabled(m, index)
	}
	m.agree()
	for _, c := range effects.Changes {
		m.w.trace.note(m.name, "knows that %s is %v", m.w.nameOf(c.Member.ID), c.Kind)
		if c.Kind == member.Removed {
			m.part(c.Member.ID)
		}
	}
}

// part goes on with a member that was removed for a while, so that it hears of it too. It may be this one.
func (m *Member) part(id ids.MemberID) {
	life := m.life
	if id == m.ID {
		m.parting = true
		m.w.after(partingLimit, func() { m.enter(life, func() { m.w.retire(m, "ends, for it was removed") }) })
		return
	}
	m.lingering[id] = true
	m.w.after(partingTime, func() { m.enter(life, func() { delete(m.lingering, id) }) })
}

// shuns reports whether this member has nothing to do any more with one that was removed.
func (m *Member) shuns(id ids.MemberID) bool {
	return m.state.View().Members.Removed(id) && !m.lingering[id]
}

// dial has a member ask another one for its stream now and then, which tells it if it was removed.
func (m *Member) dial() {
	w := m.w
	other := w.anyMember()
	d, there := w.net.passes(m.ID, other.ID)
	if !w.chance(4) || other == m || !there || !other.up {
		return
	}
	life := m.life
	w.after(d, func() {
		other.enter(other.life, func() {
			if d, back := w.net.passes(other.ID, m.ID); back && other.shuns(m.ID) {
				w.after(d, func() { m.enter(life, func() { w.retire(m, "hears from "+other.name+" that it was removed") }) })
			}
		})
	})
}

// serves reports whether a client that asks this member is answered at all.
func (m *Member) serves(stale bool) bool {
	return m.up && !m.joining && !m.parting && (stale || !m.learner())
}

func (m *Member) learner() bool {
	self, ok := m.state.View().Members.Get(m.ID)
	return ok && self.IsLearner
}

// reaches reports whether another member is connected.
func (w *World) reaches(from, to ids.MemberID) bool {
	other := w.member(to)
	return other != nil && other.up && !w.net.cut[link{from, to}] && !w.net.cut[link{to, from}]
}

// register is the newest register that a member knows; nil if none is up.
func (w *World) register() (v *member.View) {
	var index ids.Index
	for _, m := range w.members {
		if m.up && (v == nil || m.state.Applied().Index > index) {
			index, v = m.state.Applied().Index, m.state.View().Members
		}
	}
	return v
}

// assembled reports whether those who run are those who are in the cluster.
func (w *World) assembled() bool {
	v := w.register()
	if v == nil || len(v.Members()) != len(w.members) {
		return false
	}
	for _, r := range v.Members() {
		if m := w.member(r.ID); m == nil || m.joining || !r.Started() {
			return false
		}
	}
	return w.agreed()
}
