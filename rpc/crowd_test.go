package rpc_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quorate.dev/quorate/rpc"
)

// TestRefusalsTakeTurns floods a server that refuses everything: once it has refused, no more readers than half the
// processors are at it, and every call gets its refusal.
func TestRefusalsTakeTurns(t *testing.T) {
	const conns, calls = 20, 200
	var active, most atomic.Int64
	var crowded atomic.Bool
	s := start(t, rpc.Config{}, func(s *rpc.Server) {
		s.CrowdFor(time.Hour) // however long the clients take between two requests
		s.Unary("/t.T/Busy", func(c *rpc.Call, _ []byte) {
			n := active.Add(1)
			for range 5 {
				runtime.Gosched() // let others in, if they may
			}
			if crowded.Load() {
				most.Store(max(most.Load(), n))
			}
			active.Add(-1)
			c.Refuse(&rpc.Status{Code: rpc.Unknown, Message: "too many requests"})
		})
	})
	first := s.connect(t)
	first.request(3, "/t.T/Busy", false)
	first.must(first.fr.WriteData(3, true, message(nil)))
	first.expectStatus(3, int(rpc.Unknown), "too many requests")
	crowded.Store(true)
	var wg sync.WaitGroup
	for range conns {
		c := s.connect(t)
		wg.Go(func() {
			for i := range uint32(calls) {
				c.request(2*i+1, "/t.T/Busy", false)
				c.must(c.fr.WriteData(2*i+1, true, message(nil)))
			}
			c.expectStatus(2*calls-1, int(rpc.Unknown), "too many requests")
		})
	}
	wg.Wait()
	if limit := int64(max(1, runtime.GOMAXPROCS(0)/2)); most.Load() > limit {
		t.Errorf("%d readers were at work at once, want at most %d", most.Load(), limit)
	}
}
