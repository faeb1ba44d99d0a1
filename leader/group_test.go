package leader_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/leader"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/node"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wal"
	"quorate.dev/quorate/wire"
)

// group is three members in one process, with one clock, whose messages are plain calls.
type group struct {
	t       *testing.T
	clock   *clock.Manual
	members []*groupMember

	mu    sync.Mutex
	queue []*raftpb.Message
	cut   ids.MemberID
}

type groupMember struct {
	g     *group
	id    ids.MemberID
	host  *node.Host
	state *state.Machine
	duty  *leader.Duty
	led   ids.Term // the loop goroutine's own
}

// groupTiming has ticks so long that minutes pass quickly.
var groupTiming = node.Timing{Tick: time.Second, ElectionTicks: 10}

func newGroup(t *testing.T, checkpoints bool) *group {
	g := &group{t: t, clock: clock.NewManual(epoch)}
	var founders []node.Peer
	for id := ids.MemberID(1); id <= 3; id++ {
		m := member.Member{ID: id, PeerURLs: []string{fmt.Sprintf("http://m%d:2380", id)}}
		founders = append(founders, node.Peer{ID: id, Context: m.JSON()})
	}
	for id := ids.MemberID(1); id <= 3; id++ {
		m := &groupMember{g: g, id: id}
		m.start(founders, checkpoints)
		g.members = append(g.members, m)
	}
	return g
}

func (m *groupMember) start(founders []node.Peer, checkpoints bool) {
	t, files := m.g.t, vfs.NewMem()
	log, err := wal.Create("wal", wal.Options{FS: files, SegmentBytes: 64 << 10}, wal.Metadata{Member: m.id, Cluster: 7})
	require.NoError(t, err)
	hard, entries, err := node.Bootstrap(log, founders)
	require.NoError(t, err)
	engine, err := storage.Open("store", storage.Options{FS: files})
	require.NoError(t, err)
	m.state, err = state.Open(engine, state.Config{Member: m.id, Cluster: 7})
	require.NoError(t, err)
	m.duty = leader.New(leader.Config{
		Member: m.id, Proposer: m, State: m, Election: groupTiming.Election(), RequestTimeout: groupTiming.RequestTimeout(),
		Checkpoints: checkpoints, Clock: m.g.clock,
	})
	m.host, err = node.Start(node.Config{
		Member: m.id, Log: log, HardState: hard, Entries: entries, Machine: m, Transport: m, Timing: groupTiming, Raft: node.Raft{PreVote: true}, Clock: m.g.clock,
		Observer: node.Observer{
			LeaderReady: func(term ids.Term) { m.duty.Promote(term, m.state.View().Leases.All()) },
			LeaderChanged: func(l node.Leadership) {
				if l.Self {
					m.led = l.Term
				} else if m.led != 0 {
					m.duty.Demote(m.led)
					m.led = 0
				}
			},
		},
	})
	require.NoError(t, err)
	m.duty.Start()
	t.Cleanup(func() {
		m.duty.Stop()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = m.host.Stop(ctx)
		_ = log.Close()
		_ = engine.CloseDirty()
	})
}

// A member proposes through its host, applies to its state, and says what its duties look at.
func (m *groupMember) ProposeMessage(kind command.Kind, msg leader.Message, w command.Waiter) {
	m.host.ProposeMessage(kind, msg, w)
}
func (m *groupMember) ProposeInTerm(term ids.Term, kind command.Kind, msg leader.Message, w command.Waiter) {
	m.host.ProposeInTerm(term, kind, msg, w)
}
func (m *groupMember) Revision() ids.Revision             { return m.state.View().Revision() }
func (m *groupMember) RetainedBytes() int64               { return 0 }
func (m *groupMember) Alarms() []wire.AlarmMember         { return nil }
func (m *groupMember) ClusterVersion() string             { return "" }
func (m *groupMember) Applied() storage.Mark              { return m.state.Applied() }
func (m *groupMember) Background(max int) (bool, error)   { return m.state.Background(max) }
func (m *groupMember) ActiveSince(ids.MemberID) time.Time { return epoch.Add(-time.Hour) }

func (m *groupMember) Apply(cmds []command.Command, results []command.Result) error {
	effects, err := m.state.Apply(cmds, results)
	var changes []leader.Change
	kinds := map[any]leader.ChangeKind{state.Granted: leader.Granted, state.Revoked: leader.Revoked, state.Checkpointed: leader.Checkpointed}
	for _, c := range effects.Leases {
		changes = append(changes, leader.Change{ID: c.ID, Kind: kinds[c.Kind], TTL: c.TTL, Remaining: c.Remaining})
	}
	m.duty.Apply(changes)
	return err
}

func (m *groupMember) Send(messages []*raftpb.Message) {
	m.g.mu.Lock()
	defer m.g.mu.Unlock()
	m.g.queue = append(m.g.queue, messages...)
}

func (g *group) deliver() {
	g.mu.Lock()
	queue := g.queue
	g.queue = nil
	cut := g.cut
	g.mu.Unlock()
	for _, m := range queue {
		if to, from := ids.MemberID(m.GetTo()), ids.MemberID(m.GetFrom()); to != cut && from != cut {
			g.members[to-1].host.Receive(m)
		}
	}
}

// sever cuts one member off; 0 nobody.
func (g *group) sever(id ids.MemberID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cut = id
}

// pass lets time pass until cond holds. Each tick is given real time to take effect.
func (g *group) pass(cond func() bool) {
	g.t.Helper()
	pause := time.NewTicker(200 * time.Microsecond)
	defer pause.Stop()
	for limit := time.Now().Add(time.Minute); !cond(); {
		require.True(g.t, time.Now().Before(limit), "the condition did not come true")
		g.clock.Advance(groupTiming.Tick)
		for range 20 {
			g.deliver()
			<-pause.C
		}
	}
}

// leads waits for a leader other than not whose duties have begun.
func (g *group) leads(not *groupMember) (m *groupMember) {
	g.t.Helper()
	g.pass(func() bool {
		for _, m = range g.members {
			if _, _, _, leading := m.duty.Remaining(0); leading && m.host.Status().Self && m != not {
				return true
			}
		}
		return false
	})
	return m
}

// grant grants leases of one time to live.
func (g *group) grant(m *groupMember, ttl int64, count int) {
	g.t.Helper()
	done := make(chan error, count)
	for id := 1; id <= count; id++ {
		m.host.ProposeMessage(command.LeaseGrant, &wire.LeaseGrantRequest{ID: int64(id), TTL: ttl}, granted(done))
	}
	g.pass(func() bool { return len(done) == count })
	for range count {
		require.NoError(g.t, <-done)
	}
}

type granted chan error

func (w granted) Complete(r *command.Result) { w <- r.Err }

// TestLeaseOutlivesItsLeader cuts the leader off. The next one gives each lease its whole time and the election timeout again,
// since nobody could renew it meanwhile, and then revokes it at all members; the old one revokes nothing.
func TestLeaseOutlivesItsLeader(t *testing.T) {
	const ttl, count = 30, 20
	g := newGroup(t, false)
	first := g.leads(nil)
	g.grant(first, ttl, count)
	g.sever(first.id)
	second := g.leads(first)
	promoted := g.clock.Now()
	left, of, ok, leading := second.duty.Remaining(1)
	require.True(t, ok && leading)
	require.EqualValues(t, ttl, of)
	require.Greater(t, left, ttl*time.Second, "nobody could renew it")
	require.LessOrEqual(t, left, ttl*time.Second+groupTiming.Election())

	// One lease is renewed once, by the new leader.
	g.pass(func() bool { return g.clock.Now().Sub(promoted) >= 20*time.Second })
	ttlNow, err := second.duty.Renew(t.Context(), 7)
	require.NoError(t, err)
	require.EqualValues(t, ttl, ttlNow)
	renewed := g.clock.Now()

	g.pass(func() bool { return second.state.View().Leases.Len() == 1 })
	require.GreaterOrEqual(t, g.clock.Now().Sub(promoted), ttl*time.Second)
	require.Equal(t, count, first.state.View().Leases.Len(), "a leader without followers revokes nothing")
	g.pass(func() bool { return second.state.View().Leases.Len() == 0 })
	require.GreaterOrEqual(t, g.clock.Now().Sub(renewed), ttl*time.Second)
	g.sever(0)
	g.pass(func() bool {
		for _, m := range g.members {
			if m.state.View().Leases.Len() != 0 {
				return false
			}
		}
		return true
	})
	_, _, _, leading = first.duty.Remaining(1)
	require.False(t, leading)
}

// TestCheckpointOutlivesItsLeader has a long lease whose remaining time the leader records, so that the next one does not give it
// its whole time again. A renewal undoes that.
func TestCheckpointOutlivesItsLeader(t *testing.T) {
	const ttl = 3600
	g := newGroup(t, true)
	first := g.leads(nil)
	g.grant(first, ttl, 2)
	began := g.clock.Now()
	checkpointed := func(id ids.LeaseID) bool {
		for _, m := range g.members {
			l, ok := m.state.View().Leases.Get(id)
			if !ok || l.Remaining == 0 {
				return false
			}
		}
		return true
	}
	g.pass(func() bool { return checkpointed(1) && checkpointed(2) })
	done := make(chan error, 1)
	first.duty.RenewAsync(2, func(_ int64, err error) { done <- err })
	g.pass(func() bool { return len(done) == 1 })
	require.NoError(t, <-done)

	g.sever(first.id)
	second := g.leads(first)
	passed := g.clock.Now().Sub(began)
	require.Greater(t, passed, 5*time.Minute)
	left, _, ok, _ := second.duty.Remaining(1)
	require.True(t, ok)
	require.Less(t, left, ttl*time.Second-4*time.Minute, "it was given its whole time again")
	require.Greater(t, left, ttl*time.Second-passed)
	left, _, ok, _ = second.duty.Remaining(2)
	require.True(t, ok)
	require.Greater(t, left, ttl*time.Second-time.Minute, "its renewal was forgotten")
}

// TestRevocationsGoOnWithTheNextLeader lets more leases expire at once than are revoked in a round and cuts the leader off in the
// middle. The next one finds those that are left, spreads them, and revokes each.
func TestRevocationsGoOnWithTheNextLeader(t *testing.T) {
	const ttl, count = 30, 3000
	g := newGroup(t, false)
	first := g.leads(nil)
	g.grant(first, ttl, count)
	g.pass(func() bool { n := first.state.View().Leases.Len(); return n > 0 && n < count })
	g.sever(first.id)
	second := g.leads(first)
	left := second.state.View().Leases.Len()
	require.Positive(t, left)
	g.pass(func() bool { return second.state.View().Leases.Len() == 0 })
	require.EqualValues(t, left, second.duty.Counters().Expired, "each is revoked once")
}
