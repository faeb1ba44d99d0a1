package node_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/node"
)

// A new group of one has etcd's history: the founder at index 1 of term 1, the first leader's empty entry at index 2 of
// term 2.
func TestFirstStart(t *testing.T) {
	m := newMember(t).start().lead()
	s := m.host.Status()
	require.True(t, s.Self)
	require.Equal(t, self, s.Leader)
	require.Equal(t, self, s.Member)
	require.Equal(t, ids.Term(2), s.Term)
	require.Equal(t, epoch, s.LeaderSince, "a group of one waits for no election timeout")
	m.log.mu.Lock()
	require.Equal(t, uint64(self), m.log.durable.GetVote(), "it leads on a vote that is not durable")
	require.Equal(t, uint64(2), m.log.durable.GetTerm())
	synced := m.log.syncs
	m.log.mu.Unlock()
	r := m.put("a").get()
	require.NoError(t, r.Err)
	require.Equal(t, ids.Revision(3), r.Revision)
	m.log.mu.Lock()
	require.Equal(t, synced+1, m.log.syncs, "one proposal is one sync: the commit index that follows needs none")
	m.log.mu.Unlock()
	m.stop()

	hs, entries := m.log.snapshot()
	require.Equal(t, uint64(2), hs.GetTerm())
	require.Equal(t, uint64(self), hs.GetVote())
	require.Len(t, entries, 3)
	var change raftpb.ConfChange
	require.NoError(t, proto.Unmarshal(entries[0].GetData(), &change))
	require.Equal(t, raftpb.EntryConfChange, entries[0].GetType())
	require.Equal(t, uint64(1), entries[0].GetTerm())
	require.Equal(t, uint64(self), change.GetNodeId())
	require.Equal(t, `{"id":1}`, string(change.GetContext()))
	require.Equal(t, uint64(2), entries[1].GetTerm())
	require.Empty(t, entries[1].GetData())

	kinds := []command.Kind{command.ConfChange, command.Empty, command.Put}
	for i, c := range m.machine.commands() {
		require.Equal(t, kinds[i], c.Kind)
		require.Equal(t, ids.Index(i+1), c.Index)
	}
}

// The entry bytes of the first records are pinned to what etcd writes for a group of one member.
func TestBootstrapBytes(t *testing.T) {
	log := &memLog{}
	_, entries, err := node.Bootstrap(log, []node.Peer{{ID: 1, Context: []byte("{}")}})
	require.NoError(t, err)
	require.Equal(t, "\x10\x00\x18\x01\x22\x02{}", string(entries[0].GetData()))
	_, _, err = node.Bootstrap(log, nil)
	require.ErrorContains(t, err, "at least one member")
	_, _, err = node.Bootstrap(log, []node.Peer{{ID: 2}, {ID: 1}})
	require.ErrorContains(t, err, "sorted by id")
}

func TestPreVoteLeadsToo(t *testing.T) {
	m := newMember(t).start(func(c *node.Config) { c.Raft.PreVote = true }).lead()
	require.Equal(t, ids.Term(2), m.host.Status().Term)
	require.NoError(t, m.put("a").get().Err)
}

// recorder counts its answers and the order in which it got them.
type recorder struct {
	mu      sync.Mutex
	answers map[string][]command.Result
	order   []string
	wg      sync.WaitGroup
}

type recorded struct {
	r    *recorder
	name string
}

func (w recorded) Complete(res *command.Result) {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	w.r.answers[w.name] = append(w.r.answers[w.name], *res)
	w.r.order = append(w.r.order, w.name)
	w.r.wg.Done()
}

func TestManyProposersEachAnsweredOnceInLogOrder(t *testing.T) {
	const proposers, each = 24, 200 // together fewer than may wait to be applied
	m := newMember(t).start().lead()
	r := &recorder{answers: map[string][]command.Result{}}
	r.wg.Add(proposers * each)
	var all sync.WaitGroup
	m.log.setGate(newGate(10)) // ten writes while they propose, and no more before the last of them has: the rest comes together
	for p := range proposers {
		all.Go(func() {
			for i := range each {
				m.host.Propose(command.Put, numbered(p, i), recorded{r, fmt.Sprintf("%d/%d", p, i)})
			}
		})
	}
	all.Wait()
	m.log.setGate(nil).open()
	r.wg.Wait()
	require.Len(t, r.answers, proposers*each)

	var applied []string
	last := map[int]int{}
	for _, c := range m.machine.commands() {
		if c.Kind != command.Put {
			continue
		}
		p, i := numbers(c.Body)
		require.Equal(t, last[p], i, "proposals of one caller must keep their order")
		last[p]++
		name := fmt.Sprintf("%d/%d", p, i)
		require.Len(t, r.answers[name], 1, name)
		require.NoError(t, r.answers[name][0].Err)
		require.Equal(t, ids.Revision(c.Index), r.answers[name][0].Revision, "the answer of another command")
		applied = append(applied, name)
	}
	require.Equal(t, applied, r.order, "answers must come in log order")
	require.Less(t, m.log.syncs, proposers*each/2, "no group commit")
	require.Zero(t, m.host.Counters().Pending)
	require.Zero(t, m.host.Counters().PendingBytes)
}

func TestNothingIsAnsweredBeforeTheLogIsSynced(t *testing.T) {
	m := newMember(t)
	m.start().lead()
	g := newGate(0)
	m.log.setGate(g)
	a := m.put("a")
	b := m.put("b")
	for range 20 { // ticks hand everything to raft
		m.clock.Advance(timing.Tick)
		runtime.Gosched()
	}
	require.True(t, a.waiting())
	require.True(t, b.waiting())
	g.open()
	require.NoError(t, a.get().Err)
	require.NoError(t, b.get().Err)
}

func TestRequestTooLarge(t *testing.T) {
	m := newMember(t).start(func(c *node.Config) { c.MaxRequestBytes = 100 }).lead()
	require.ErrorIs(t, m.put(strings.Repeat("x", 101)).get().Err, fault.RequestTooLarge)
	require.ErrorIs(t, m.put(strings.Repeat("x", 99)).get().Err, fault.RequestTooLarge, "the bound counts the whole entry")
	require.NoError(t, m.put(strings.Repeat("x", 60)).get().Err)
	cmds := m.machine.commands()
	require.Equal(t, strings.Repeat("x", 60), string(cmds[len(cmds)-1].Body))
}

type message string

func (m message) Size() int                { return len(m) }
func (m message) Append(dst []byte) []byte { return append(dst, m...) }

func TestProposeMessage(t *testing.T) {
	m := newMember(t).start(func(c *node.Config) { c.MaxRequestBytes = 100 }).lead()
	a, b := wait(t), wait(t)
	m.host.ProposeMessage(command.Put, message("hello"), a)
	m.host.ProposeMessage(command.Put, message(strings.Repeat("x", 101)), b)
	require.NoError(t, a.get().Err)
	require.ErrorIs(t, b.get().Err, fault.RequestTooLarge)
	cmds := m.machine.commands()
	require.Equal(t, "hello", string(cmds[len(cmds)-1].Body))
}

func TestTooManyPending(t *testing.T) {
	m := newMember(t, self, self+1).start() // two members and only one is there: nothing commits
	for range limits.ProposalsPending {
		m.host.Propose(command.Put, nil, wait(t))
	}
	require.ErrorIs(t, m.put("one too many").get().Err, fault.TooManyRequests)
	require.EqualValues(t, limits.ProposalsPending, m.host.Counters().Pending)
	require.EqualValues(t, 1, m.host.Counters().ProposalsFailed)
}

func TestTooManyNotApplied(t *testing.T) {
	m := newMember(t)
	m.machine.gate = newGate(2)
	m.start().lead()
	first := m.put("in the machine")
	m.until(func() bool { return m.host.Status().Committed == 3 })
	var held []*answer
	for range limits.ProposalsInFlight + 1 {
		held = append(held, m.put("committed"))
	}
	m.until(func() bool { return m.host.Status().Committed > 3+limits.ProposalsInFlight })
	require.ErrorIs(t, m.put("refused").get().Err, fault.TooManyRequests)
	require.True(t, first.waiting())
	m.machine.gate.open()
	for _, a := range held {
		require.NoError(t, a.get().Err)
	}
	require.NoError(t, m.put("accepted again").get().Err)
	require.LessOrEqual(t, m.machine.largest, limits.ApplyBatchEntries)
}

func TestTimeoutWithoutLeader(t *testing.T) {
	m := newMember(t, self, self+1).start()
	a := m.put("a")
	start := m.clock.Now()
	m.pass(func() bool { return !a.waiting() })
	require.ErrorIs(t, a.get().Err, fault.Timeout)
	require.GreaterOrEqual(t, m.clock.Now().Sub(start), timing.RequestTimeout())
	require.Zero(t, m.host.Counters().Pending)
	require.False(t, m.host.Status().Self)
	require.True(t, m.host.Status().LeaderSince.IsZero())
}

// A log that hangs lets everything time out, also what was not handed to it.
func TestTimeoutWhileTheLogHangs(t *testing.T) {
	m := newMember(t).start().lead()
	m.log.setGate(newGate(0))
	calls := func() int {
		m.log.mu.Lock()
		defer m.log.mu.Unlock()
		return m.log.calls
	}
	before := calls()
	a := m.put("a")
	m.until(func() bool { return calls() > before })
	b := m.put("b")
	m.clock.Advance(timing.RequestTimeout() + timing.Tick)
	require.ErrorIs(t, a.get().Err, fault.Timeout)
	require.ErrorIs(t, b.get().Err, fault.Timeout)
}

// A proposal that was waiting when a leader was elected, and is not applied in time, is blamed on the earlier leader.
func TestTimeoutAroundAnElection(t *testing.T) {
	m := newMember(t)
	m.log.setGate(newGate(0))
	m.machine.gate = newGate(1) // the founder's entry
	m.start()
	before := m.put("before")
	m.pass(func() bool { return m.clock.Now().Sub(epoch) >= time.Second })
	m.log.setGate(nil).open()
	m.until(func() bool { return m.host.Status().Self })
	elected := m.host.Status().LeaderSince
	m.pass(func() bool { return m.clock.Now().Sub(elected) > time.Second })
	after := m.put("after")
	m.pass(func() bool { return !before.waiting() && !after.waiting() })
	require.ErrorIs(t, before.get().Err, fault.TimeoutDueToLeaderFail)
	require.ErrorIs(t, after.get().Err, fault.Timeout)
}

func TestLogFailureStopsEverything(t *testing.T) {
	m := newMember(t).start().lead()
	require.NoError(t, m.put("before").get().Err)
	m.log.fail(errDisk)
	a := m.put("during")
	err := a.get().Err
	require.ErrorIs(t, err, fault.Stopped)
	require.ErrorIs(t, err, errDisk)
	<-m.host.Done()
	require.ErrorIs(t, m.host.Err(), errDisk)
	require.ErrorContains(t, m.host.Err(), "/data/wal/3.wal")
	require.ErrorIs(t, m.put("after").get().Err, errDisk)
	m.host.Read(func(err error) { require.ErrorIs(t, err, errDisk) })
	m.host.TransferLeadership(self, func(err error) { require.ErrorIs(t, err, fault.Stopped) })
	require.NoError(t, m.host.Stop(context.Background()))
	stopped := make(chan error, 1)
	m.host.Read(func(err error) { stopped <- err })
	require.ErrorIs(t, <-stopped, fault.Stopped)
	require.Len(t, m.machine.commands(), 3, "something was applied after the failure")
}

func TestMachineFailureStopsEverything(t *testing.T) {
	m := newMember(t).start().lead()
	m.machine.mu.Lock()
	m.machine.err = errDisk
	m.machine.mu.Unlock()
	require.ErrorIs(t, m.put("a").get().Err, errDisk)
	<-m.host.Done()
	require.ErrorContains(t, m.host.Err(), "entries 3 to 3 could not be applied")
}

func TestUnreadableEntryStopsTheMember(t *testing.T) {
	m := newMember(t)
	hs, entries := m.log.snapshot()
	entries = append(entries, &raftpb.Entry{Index: proto.Uint64(2), Term: proto.Uint64(1), Data: []byte{0xff}})
	m.start(func(c *node.Config) { c.HardState, c.Entries = hs, entries })
	<-m.host.Done()
	require.ErrorContains(t, m.host.Err(), "committed entry 2 of term 1 cannot be understood")
}

func TestStopAnswersWhatWasAccepted(t *testing.T) {
	m := newMember(t).start().lead()
	var answers []*answer
	for i := range 500 {
		answers = append(answers, m.put(fmt.Sprint(i)))
	}
	m.stop()
	for _, a := range answers {
		require.NoError(t, a.get().Err)
	}
	require.ErrorIs(t, m.put("late").get().Err, fault.Stopped)
	require.NoError(t, m.host.Err())
	hs, _ := m.log.snapshot()
	require.EqualValues(t, 502, hs.GetCommit(), "a clean stop leaves the commit index in the log")
	m.stop()
}

func TestStopGivesUp(t *testing.T) {
	m := newMember(t, self, self+1).start()
	a := m.put("a")
	var read error
	done := make(chan struct{})
	m.host.Read(func(err error) { read = err; close(done) })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, m.host.Stop(ctx), context.Canceled)
	require.ErrorIs(t, a.get().Err, fault.Stopped)
	<-done
	require.ErrorIs(t, read, fault.Stopped)
}

func TestReads(t *testing.T) {
	m := newMember(t)
	m.machine.gate = newGate(1) // the founder's entry
	m.start()
	m.until(func() bool { return m.host.Status().Self })
	early := make(chan error, 1)
	m.host.Read(func(err error) { early <- err })
	require.Empty(t, early, "a leader must not serve reads before it has applied its first entry")
	m.machine.gate.open()
	m.lead()
	require.NoError(t, <-early)
	called := false
	m.host.Read(func(err error) { called = err == nil })
	require.True(t, called, "the only voter serves reads at once")
	require.Zero(t, testing.AllocsPerRun(100, func() { m.host.Read(noRead) }))
}

func noRead(error) {}

func TestReadTimesOutWithoutLeader(t *testing.T) {
	m := newMember(t, self, self+1).start()
	got := make(chan error, 1)
	m.host.Read(func(err error) { got <- err })
	m.pass(func() bool { return len(got) == 1 })
	require.ErrorIs(t, <-got, fault.Timeout)
	require.EqualValues(t, 1, m.host.Counters().ReadsFailed)
}

func TestTransferLeadership(t *testing.T) {
	got := make(chan error, 1)
	done := func(err error) { got <- err }
	alone := newMember(t).start().lead()
	alone.host.TransferLeadership(self, done)
	require.NoError(t, <-got)
	alone.host.TransferLeadership(self+1, done)
	require.ErrorIs(t, <-got, fault.BadLeaderTransferee)
	follower := newMember(t, self, self+1).start()
	follower.host.TransferLeadership(self+1, done)
	require.ErrorIs(t, <-got, fault.NotLeader)
	follower.stop()
	follower.host.TransferLeadership(self+1, done)
	require.ErrorIs(t, <-got, fault.Stopped)
}

func TestBackgroundWorkRunsInTheGapsAndAmongBatches(t *testing.T) {
	m := newMember(t)
	var steps []int // batches applied before each step
	more := 3
	m.machine.background = func(int) bool {
		m.machine.mu.Lock()
		defer m.machine.mu.Unlock()
		steps = append(steps, m.machine.batches)
		more--
		return more > 0
	}
	m.start().lead()
	m.put("a").get()
	m.until(func() bool {
		m.machine.mu.Lock()
		defer m.machine.mu.Unlock()
		return more <= 0
	})
	m.machine.mu.Lock()
	defer m.machine.mu.Unlock()
	require.GreaterOrEqual(t, len(steps), 3)
}

// TestHousekeepingRests checks that a step of housekeeping is followed by nine times its duration without one, unless so
// much is written meanwhile that it would never catch up.
func TestHousekeepingRests(t *testing.T) {
	m := newMember(t)
	var steps, units atomic.Int64
	m.machine.background = func(max int) bool {
		m.clock.Advance(10 * time.Millisecond)
		units.Store(int64(max))
		steps.Add(1)
		return true
	}
	m.start().lead()
	m.until(func() bool { return steps.Load() > 0 })
	before := steps.Load() // at the start nothing had been done, so nothing rested
	m.put("a").get()
	m.put("b").get()
	require.Equal(t, before, steps.Load(), "a step during the rest")
	m.clock.Advance(90 * time.Millisecond)
	m.until(func() bool { return steps.Load() > before })
	m.put("c").get()
	require.Equal(t, before+1, steps.Load(), "a step during the second rest")
	for range 3000 {
		m.put("d").get()
	}
	require.Equal(t, before+2, steps.Load(), "steps while 3,000 entries were applied")
	require.GreaterOrEqual(t, units.Load(), int64(2000), "as many units as entries")
}

func TestRefusedMemberChange(t *testing.T) {
	refused := errors.New("no such member")
	m := newMember(t, self, self+1)
	m.machine.refuse = func(c command.Command) error {
		if c.Kind == command.ConfChange && c.Index == 2 {
			return refused
		}
		return nil
	}
	m.start().lead() // with the second founder refused this member is the only voter
	require.NoError(t, m.put("a").get().Err)
}

func TestConfigErrors(t *testing.T) {
	for _, c := range []struct {
		change func(*node.Config)
		text   string
	}{
		{func(c *node.Config) { c.Member = 0 }, "member id"},
		{func(c *node.Config) { c.Log = nil }, "a log and a state machine"},
		{func(c *node.Config) { c.Machine = nil }, "a log and a state machine"},
		{func(c *node.Config) { c.Timing.Tick = 0 }, "tick of 0s"},
		{func(c *node.Config) { c.Timing.ElectionTicks = 1 }, "1 election ticks"},
	} {
		cfg := newMember(t).config()
		c.change(&cfg)
		_, err := node.Start(cfg)
		require.ErrorContains(t, err, c.text)
	}
}

// What a proposal may allocate, batches being large: raft copies each entry (the entry, its data, its term, its index), and
// everything else is shared by a batch. A machine that gives the test no time cuts batches to pieces, so the best of some runs counts.
func TestProposeAllocatesWhatRaftDoes(t *testing.T) {
	const clients, n, runs = 200, 40_000, 20
	m := newMember(t)
	m.machine = nil
	m.start(func(c *node.Config) { c.Machine = idle{} }).lead()
	var measured []float64
	for range runs {
		m.log.mu.Lock()
		m.log.entries = make([]*raftpb.Entry, 0, 2*n)
		m.log.mu.Unlock()
		var left atomic.Int64
		var done sync.WaitGroup
		left.Store(n)
		done.Add(clients)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range clients {
			c := &client{host: m.host, body: make([]byte, 256), left: &left, done: &done}
			c.Complete(nil)
		}
		done.Wait()
		runtime.ReadMemStats(&after)
		perProposal := float64(after.Mallocs-before.Mallocs) / n
		t.Logf("%.2f allocations a proposal", perProposal)
		if perProposal < 6 { // the race detector, on four processors, has some five
			return
		}
		measured = append(measured, perProposal)
	}
	require.Fail(t, "a proposal allocates too much", "in every run: %v", measured)
}
