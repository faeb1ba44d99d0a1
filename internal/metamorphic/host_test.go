package metamorphic

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/node"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wal"
)

// hosting has a raft host with a log apply the commands: it cuts them into batches as it likes, and keeps house when it likes.
// Its clock stands still but for elections, so nothing ever takes too long.
type hosting struct {
	b       *bench
	machine *state.Machine
	host    *node.Host
	log     *wal.Log
	at      map[ids.Index]int // the place in the script of every entry that ever was applied
	next    int               // the place of the next one
}

// startHost starts a host on the bench's machine, and returns when everything that was acknowledged before is applied again.
func (b *bench) startHost(before *hosting) *hosting {
	h := &hosting{b: b, machine: b.machine, at: map[ids.Index]int{}}
	if before != nil {
		h.at, h.next = before.at, before.next
	}
	hard, entries := h.openLog()
	manual := clock.NewManual(time.Unix(1, 0))
	ready := make(chan struct{}, 1)
	var err error
	h.host, err = node.Start(node.Config{
		Member: self, Log: h.log, HardState: hard, Entries: entries, ConfState: b.machine.ConfState(), Machine: h, Engine: b.engine,
		Timing: node.Timing{Tick: 10 * time.Millisecond, ElectionTicks: 10}, Clock: manual,
		Observer: node.Observer{LeaderReady: func(ids.Term) { ready <- struct{}{} }},
	})
	require.NoError(b, err)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range int(patience / time.Millisecond) {
		select {
		case <-ready:
			return h
		case <-tick.C:
			manual.Advance(10 * time.Millisecond)
		}
	}
	require.FailNow(b, "the only member does not lead", "%+v: %v", h.host.Status(), h.host.Err())
	return nil
}

func (h *hosting) openLog() (*raftpb.HardState, []*raftpb.Entry) {
	const dir = "log"
	options := wal.Options{FS: h.b.fs, SegmentBytes: 256 << 10}
	if wal.Exists(h.b.fs, dir) {
		log, replay, err := wal.Open(dir, options, h.b.engine.Applied().Index)
		require.NoError(h.b, err)
		h.log = log
		return replay.HardState, replay.Entries
	}
	log, err := wal.Create(dir, options, wal.Metadata{Member: self, Cluster: 0xc1})
	require.NoError(h.b, err)
	h.log = log
	m := member.Member{ID: self, Name: "m", PeerURLs: []string{"http://localhost:2380"}}
	hard, entries, err := node.Bootstrap(log, []node.Peer{{ID: self, Context: m.JSON()}})
	require.NoError(h.b, err)
	return hard, entries
}

func (h *hosting) stop(t *testing.T) {
	require.NoError(t, h.host.Stop(context.Background()))
	require.NoError(t, errors.Join(h.host.Err(), h.log.Close()))
}

// answered compares the result that reaches whoever proposed.
type answered struct {
	b    *bench
	at   int
	done chan<- struct{}
}

// Complete implements command.Waiter.
func (a answered) Complete(r *command.Result) {
	if got := showResult(r); got != a.b.steps[a.at].result {
		a.b.Errorf("who proposed command %d, %s, is answered\n%s\nand must be answered\n%s", a.at, a.b.cmds[a.at].Kind, got, a.b.steps[a.at].result)
	}
	a.done <- struct{}{}
}

// apply proposes the next n commands and waits for the answers.
func (h *hosting) apply(b *bench, n int) {
	done := make(chan struct{}, n)
	for i := b.at; i < b.at+n; i++ {
		h.host.Propose(b.cmds[i].Kind, b.cmds[i].Body, answered{b, i, done})
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	for range n {
		select {
		case <-done:
		case <-late.C:
			require.FailNow(b, "a proposal is never answered", "%+v: %v", h.host.Status(), h.host.Err())
		}
	}
}

// Applied implements node.Machine.
func (h *hosting) Applied() storage.Mark { return h.machine.Applied() }

// Background implements node.Machine.
func (h *hosting) Background(max int) (bool, error) {
	return h.machine.Background(min(max, h.b.set.Steps))
}

// Apply implements node.Machine.
func (h *hosting) Apply(cmds []command.Command, results []command.Result) error {
	effects, err := h.machine.Apply(cmds, results)
	if err != nil {
		return err
	}
	first, ours := -1, make([]command.Result, 0, len(cmds))
	for i := range cmds {
		if k := cmds[i].Kind; k == command.Empty || k == command.ConfChange { // the host's own
			continue
		}
		at, again := h.at[cmds[i].Index]
		if !again {
			at = h.next
			h.at[cmds[i].Index] = at
			h.next++
		}
		if first < 0 {
			first = at
		}
		ours = append(ours, results[i])
	}
	if first >= 0 {
		h.b.compare(first, ours, &effects)
	}
	h.b.hub.Publish(effects.Events)
	return nil
}
