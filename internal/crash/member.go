// Package crash proves that what a member acknowledged survives its disk: it runs a member (log, engine, state machine and
// raft host, the real ones) on a file system in memory, lets the i-th file operation fail or the power go at it, for every
// i, and reopens what is left.
//
// It is not part of the product and has no network. Data passes as in the product: proposals go in, results come out.
//
// Invariants: proposals are made one after the other, so a reopened member must be in exactly the state after the first n of
// them, with n at least the number acknowledged and at most the number proposed.
package crash

import (
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"

	"time"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/node"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wal"
)

const (
	selfID       = ids.MemberID(7)
	storeDir     = "data/store"
	logDir       = "data/log"
	segmentBytes = 8 << 10
	memTable     = 1 << 20
)

// running is a running member.
type running struct {
	engine *storage.Engine
	log    *wal.Log
	state  *state.Machine
	host   *node.Host
}

// machine adapts the state machine to the host.
type machine struct{ *state.Machine }

// Apply implements node.Machine.
func (m machine) Apply(cmds []command.Command, results []command.Result) error {
	effects, err := m.Machine.Apply(cmds, results)
	if effects.Compacted != nil && effects.Compacted.Frozen != nil {
		err = errors.Join(err, effects.Compacted.Frozen.Close())
	}
	return err
}

// start opens a member on fs, founding it if there is nothing yet. On an error nothing is left open.
func start(fs vfs.FS) (r *running, err error) {
	r = &running{}
	defer func() {
		if err != nil {
			r.abandon()
		}
	}()
	if r.engine, err = storage.Open(storeDir, storage.Options{FS: fs, MemTableBytes: memTable}); err != nil {
		return r, err
	}
	hard, entries, err := r.openLog(fs)
	if err != nil {
		return r, err
	}
	if r.state, err = state.Open(r.engine, state.Config{Member: selfID, Cluster: 1}); err != nil {
		return r, err
	}
	r.host, err = node.Start(node.Config{
		Member: selfID, Log: r.log, HardState: hard, Entries: entries, ConfState: r.state.ConfState(),
		Machine: machine{r.state}, Engine: r.engine,
		Timing: node.Timing{Tick: 10 * time.Millisecond, ElectionTicks: 10},
	})
	return r, err
}

func (r *running) openLog(fs vfs.FS) (*raftpb.HardState, []*raftpb.Entry, error) {
	options := wal.Options{FS: fs, SegmentBytes: segmentBytes}
	if !wal.Exists(fs, logDir) {
		log, err := wal.Create(logDir, options, wal.Metadata{Member: selfID, Cluster: 1})
		if err != nil {
			return nil, nil, err
		}
		r.log = log
		return found(log)
	}
	log, replay, err := wal.Open(logDir, options, r.engine.Applied().Index)
	if err != nil {
		return nil, nil, err
	}
	r.log = log
	if len(replay.Entries) == 0 && r.engine.Applied().Index == 0 {
		return found(log)
	}
	return replay.HardState, replay.Entries, nil
}

func found(log *wal.Log) (*raftpb.HardState, []*raftpb.Entry, error) {
	self := member.Member{ID: selfID, Name: "m", PeerURLs: []string{"http://localhost:2380"}}
	return node.Bootstrap(log, []node.Peer{{ID: selfID, Context: self.JSON()}})
}

// outcome receives one result.
type outcome chan error

// Complete implements command.Waiter.
func (o outcome) Complete(r *command.Result) { o <- r.Err }

// propose waits for the result of one command.
func (r *running) propose(kind command.Kind, body []byte) error {
	done := make(outcome, 1)
	r.host.Propose(kind, body, done)
	return <-done
}

// stop ends the member in order.
func (r *running) stop() error {
	err := r.host.Stop(context.Background())
	return errors.Join(err, r.host.Err(), r.log.Close(), r.engine.Close())
}

// abandon lets go of everything without making anything durable.
func (r *running) abandon() {
	if r.host != nil {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = r.host.Stop(ctx) // what is pending is refused
	}
	if r.log != nil {
		_ = r.log.Close() // its disk is failing: that is the point
	}
	if r.engine != nil {
		_ = r.engine.CloseDirty()
	}
}
