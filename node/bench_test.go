package node_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/node"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wal"
)

// idle is a machine that does nothing.
type idle struct{}

func (idle) Applied() storage.Mark                           { return storage.Mark{} }
func (idle) Apply([]command.Command, []command.Result) error { return nil }
func (idle) Background(int) (bool, error)                    { return false, nil }

// client proposes again whenever it is answered, until the work is done.
type client struct {
	host *node.Host
	body []byte
	left *atomic.Int64
	done *sync.WaitGroup
}

func (c *client) Complete(*command.Result) {
	if c.left.Add(-1) < 0 {
		c.done.Done()
		return
	}
	c.host.Propose(command.Put, c.body, c)
}

// BenchmarkPropose measures proposals of 256 bytes through a log on a real disk into a machine that does nothing, by the
// number of clients that each wait for their answer.
func BenchmarkPropose(b *testing.B) {
	for _, clients := range []int{1, 100, 1000} {
		b.Run(map[int]string{1: "clients=1", 100: "clients=100", 1000: "clients=1000"}[clients], func(b *testing.B) {
			log, err := wal.Create(b.TempDir(), wal.Options{}, wal.Metadata{Member: self})
			require.NoError(b, err)
			defer log.Close()
			hs, entries, err := node.Bootstrap(log, []node.Peer{{ID: self}})
			require.NoError(b, err)
			ready := make(chan ids.Term, 1)
			h, err := node.Start(node.Config{
				Member: self, Log: log, HardState: hs, Entries: entries, Machine: idle{}, Timing: timing, Clock: clock.Real(),
				Observer: node.Observer{LeaderReady: func(term ids.Term) { ready <- term }},
			})
			require.NoError(b, err)
			defer func() { require.NoError(b, h.Stop(b.Context())) }()
			<-ready
			var left atomic.Int64
			var done sync.WaitGroup
			left.Store(int64(b.N))
			done.Add(clients)
			b.ReportAllocs()
			b.ResetTimer()
			for range clients {
				c := &client{host: h, body: make([]byte, 256), left: &left, done: &done}
				c.Complete(nil)
			}
			done.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
		})
	}
}
