package node_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/node"
	"quorate.dev/quorate/storage"
)

const self ids.MemberID = 0x8e9e05c52164694d

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

var timing = node.Timing{Tick: 100 * time.Millisecond, ElectionTicks: 10}

// patience bounds how long a test waits for something that must happen; it decides nothing when all is well.
const patience = time.Minute

// memLog is a log in memory that can be stopped and made to fail.
type memLog struct {
	mu        sync.Mutex
	hard      *raftpb.HardState
	durable   *raftpb.HardState // hard as of the last sync
	entries   []*raftpb.Entry
	released  ids.Index
	installed storage.Mark
	calls     int
	writes    int
	syncs     int
	err       error
	gate      *gate // for appends
}

func (l *memLog) Append(hs *raftpb.HardState, entries []*raftpb.Entry, sync bool) error {
	l.mu.Lock()
	gate := l.gate
	l.calls++
	l.mu.Unlock()
	gate.wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	if hs != nil {
		l.hard = proto.Clone(hs).(*raftpb.HardState)
	}
	for _, e := range entries {
		for len(l.entries) > 0 && l.entries[len(l.entries)-1].GetIndex() >= e.GetIndex() {
			l.entries = l.entries[:len(l.entries)-1]
		}
		l.entries = append(l.entries, e)
	}
	l.writes++
	if sync {
		l.syncs++
		l.durable = l.hard
	}
	return nil
}

func (l *memLog) Install(hs *raftpb.HardState, index ids.Index, term ids.Term) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	if hs != nil {
		l.hard = proto.Clone(hs).(*raftpb.HardState)
	}
	l.entries, l.installed = nil, storage.Mark{Index: index, Term: term}
	return nil
}

func (l *memLog) Release(upto ids.Index) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.released = upto
	return nil
}

// setGate puts a gate before the appends to come and returns the one before.
func (l *memLog) setGate(g *gate) *gate {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.gate
	l.gate = g
	return old
}

func (l *memLog) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

func (l *memLog) snapshot() (*raftpb.HardState, []*raftpb.Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hard, append([]*raftpb.Entry(nil), l.entries...)
}

// machine records what is applied. Its result for a command is the command's index as revision.
type machine struct {
	mu         sync.Mutex
	mark       storage.Mark
	applied    []command.Command // bodies copied
	batches    int
	largest    int
	err        error
	refuse     func(command.Command) error
	gate       *gate // for batches
	background func(max int) bool
}

func (m *machine) Applied() storage.Mark { return m.mark }

func (m *machine) Apply(cmds []command.Command, results []command.Result) error {
	m.mu.Lock()
	gate := m.gate
	m.mu.Unlock()
	gate.wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	for i, c := range cmds {
		if c.Index != m.mark.Index+1 || c.Term < m.mark.Term {
			return fmt.Errorf("entry %d of term %d after %v", c.Index, c.Term, m.mark)
		}
		c.Body = append([]byte(nil), c.Body...)
		m.applied = append(m.applied, c)
		m.mark = storage.Mark{Index: c.Index, Term: c.Term}
		results[i].Revision = ids.Revision(c.Index)
		if m.refuse != nil {
			results[i].Err = m.refuse(c)
		}
	}
	m.batches++
	m.largest = max(m.largest, len(cmds))
	return nil
}

// setGate puts a gate before the batches to come and returns the one now there.
func (m *machine) setGate(g *gate) *gate {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.gate
	m.gate = g
	return old
}

func (m *machine) Background(max int) (bool, error) {
	if m.background == nil {
		return false, nil
	}
	return m.background(max), nil
}

func (m *machine) commands() []command.Command {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]command.Command(nil), m.applied...)
}

// answer is a waiter that hands its result to the test.
type answer struct {
	t    testing.TB
	once sync.Once
	done chan command.Result
}

func wait(t testing.TB) *answer { return &answer{t: t, done: make(chan command.Result, 1)} }

func (a *answer) Complete(r *command.Result) {
	again := true
	a.once.Do(func() { again = false; a.done <- *r })
	if again {
		a.t.Error("a waiter was answered twice")
	}
}

func (a *answer) get() command.Result {
	a.t.Helper()
	select {
	case r := <-a.done:
		return r
	case <-time.After(patience):
		require.FailNow(a.t, "no answer to a proposal")
		panic("unreachable")
	}
}

func (a *answer) waiting() bool { return len(a.done) == 0 }

// member is one host with what surrounds it.
type member struct {
	t       testing.TB
	host    *node.Host
	log     *memLog
	machine *machine
	clock   *clock.Manual
	pace    *paced // the clock as the newest start sees it
	ready   chan ids.Term
	changes chan node.Leadership
}

// paced is a manual clock that knows whether its ticks were taken. A host that the machine gives no time must not miss them while
// others take theirs: that is what makes a group elect that has no reason to.
type paced struct {
	*clock.Manual
	mu      sync.Mutex
	tickers []<-chan time.Time
}

func (p *paced) NewTicker(d time.Duration) *clock.Ticker {
	t := p.Manual.NewTicker(d)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tickers = append(p.tickers, t.C)
	return t
}

// ticking reports whether a host has begun to listen for ticks.
func (p *paced) ticking() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.tickers) > 0
}

// taken reports whether no tick waits for a host.
func (p *paced) taken() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !slices.ContainsFunc(p.tickers, func(c <-chan time.Time) bool { return len(c) > 0 })
}

// newMember returns a member with a bootstrapped log that is not started yet.
func newMember(t testing.TB, founders ...ids.MemberID) *member {
	m := &member{
		t: t, log: &memLog{}, machine: &machine{}, clock: clock.NewManual(epoch),
		ready: make(chan ids.Term, 16), changes: make(chan node.Leadership, 64),
	}
	if len(founders) == 0 {
		founders = []ids.MemberID{self}
	}
	var peers []node.Peer
	for _, id := range founders {
		peers = append(peers, node.Peer{ID: id, Context: []byte(`{"id":1}`)})
	}
	_, _, err := node.Bootstrap(m.log, peers)
	require.NoError(t, err)
	return m
}

func (m *member) config() node.Config {
	hs, entries := m.log.snapshot()
	m.pace = &paced{Manual: m.clock}
	return node.Config{
		Member: self, Log: m.log, HardState: hs, Entries: entries, Machine: m.machine, Timing: timing, Clock: m.pace,
		Observer: node.Observer{
			LeaderReady:   func(term ids.Term) { m.ready <- term },
			LeaderChanged: func(l node.Leadership) { m.changes <- l },
		},
	}
}

func (m *member) start(change ...func(*node.Config)) *member {
	m.t.Helper()
	c := m.config()
	for _, f := range change {
		f(&c)
	}
	h, err := node.Start(c)
	require.NoError(m.t, err)
	m.host = h
	m.t.Cleanup(func() {
		m.log.setGate(nil).open()
		if m.machine != nil {
			m.machine.setGate(nil).open()
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = h.Stop(ctx)
	})
	m.until(func() bool { return m.pace.ticking() || m.over() })
	return m
}

// over reports whether the host has failed or was stopped.
func (m *member) over() bool {
	select {
	case <-m.host.Done():
		return true
	default:
		return m.host.Err() != nil
	}
}

// tick moves the clock on by a tick and waits until the host has taken it.
func (m *member) tick() {
	m.t.Helper()
	m.clock.Advance(timing.Tick)
	m.until(func() bool { return m.pace.taken() || m.over() })
}

// turns waits until a host has heard of everything that it was given before, and has sent what it answers to that.
func turns(h *node.Host) {
	for range 2 { // what is asked second is answered in a later turn, or in one that is over
		done := make(chan struct{})
		h.Progress(0, func(node.Progress, error) { close(done) })
		<-done
	}
}

// lead waits until the member leads and is ready.
func (m *member) lead() *member {
	m.t.Helper()
	select {
	case <-m.ready:
	case <-m.host.Done():
		require.FailNow(m.t, "the host ended", "%v", m.host.Err())
	case <-time.After(patience):
		require.FailNow(m.t, "no leadership")
	}
	return m
}

func (m *member) put(body string) *answer {
	a := wait(m.t)
	m.host.Propose(command.Put, []byte(body), a)
	return a
}

// until waits, without moving the clock, until cond holds.
func (m *member) until(cond func() bool) {
	m.t.Helper()
	m.poll(cond, func() {})
}

// pass moves the clock on, tick by tick, until cond holds.
func (m *member) pass(cond func() bool) {
	m.t.Helper()
	m.poll(cond, m.tick)
}

func (m *member) poll(cond func() bool, step func()) {
	m.t.Helper()
	for limit := time.Now().Add(patience); !cond(); runtime.Gosched() {
		require.True(m.t, time.Now().Before(limit), "the condition did not come true")
		step()
	}
}

// gate lets through as many as it was told to, or, once open, everybody. A nil gate is open.
type gate struct {
	tokens chan struct{}
	once   sync.Once
}

func newGate(tokens int) *gate {
	g := &gate{tokens: make(chan struct{}, 1000)}
	g.let(tokens)
	return g
}

func (g *gate) let(n int) {
	for range n {
		g.tokens <- struct{}{}
	}
}

func (g *gate) open() {
	if g != nil {
		g.once.Do(func() { close(g.tokens) })
	}
}

func (g *gate) wait() {
	if g != nil {
		<-g.tokens
	}
}

func (m *member) stop() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(m.t, m.host.Stop(ctx))
}

// numbered encodes and decodes a body that carries two numbers.
func numbered(a, b int) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(a)), uint32(b))
}

func numbers(body []byte) (a, b int) {
	return int(binary.BigEndian.Uint32(body)), int(binary.BigEndian.Uint32(body[4:]))
}

var errDisk = errors.New("write /data/wal/3.wal: input/output error")

func voters(all ...ids.MemberID) *raftpb.ConfState {
	cs := &raftpb.ConfState{}
	for _, id := range all {
		cs.Voters = append(cs.Voters, uint64(id))
	}
	return cs
}
