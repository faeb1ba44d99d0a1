package node_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/node"
)

// instant is a log that keeps nothing and takes no time while its lock is free.
type instant struct{ mu sync.Mutex }

func (l *instant) Append(*raftpb.HardState, []*raftpb.Entry, bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return nil
}

func (l *instant) Release(ids.Index) error { return nil }

// Install implements node.Log.
func (l *instant) Install(*raftpb.HardState, ids.Index, ids.Term) error { return nil }

// tally is a waiter that counts the answers.
type tally struct{ sync.WaitGroup }

func (t *tally) Complete(*command.Result) { t.Done() }

// TestAllocations: from Propose to the answer, an entry in a batch costs raft's four allocations (entry, data, term, index)
// and a share of the batch's, and a lone one what raft's messages cost.
func TestAllocations(t *testing.T) {
	log := &instant{}
	hs, entries, err := node.Bootstrap(log, []node.Peer{{ID: self}})
	require.NoError(t, err)
	ready := make(chan ids.Term, 1)
	h, err := node.Start(node.Config{
		Member: self, Log: log, HardState: hs, Entries: entries, Machine: idle{}, Timing: timing,
		Observer: node.Observer{LeaderReady: func(term ids.Term) { ready <- term }},
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, h.Stop(t.Context())) }()
	<-ready
	var answers tally
	body := make([]byte, 256)
	propose := func(n int) func() {
		return func() {
			answers.Add(n)
			log.mu.Lock() // so that they come together
			for range n {
				h.Propose(command.Put, body, &answers)
			}
			log.mu.Unlock()
			answers.Wait()
		}
	}
	const batch = 1000
	for range 20 { // let the buffers grow
		propose(batch)()
	}
	perEntry := testing.AllocsPerRun(50, propose(batch)) / batch
	lone := testing.AllocsPerRun(1000, propose(1))
	t.Logf("%.2f allocations an entry in batches of %d, %.0f alone", perEntry, batch, lone)
	require.Less(t, perEntry, 4.5)
	require.LessOrEqual(t, lone, 49.0)
}
