package clients

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"quorate.dev/quorate/test/clients/site"
	"quorate.dev/quorate/test/cluster"
)

// patience is how long a client waits for one write.
const patience = time.Minute

// TestKilled kills the leader and a follower under load, and starts them again on the same ports. Writes may fail on a connection that
// is cut; reads, which the client may repeat, may not; watches see everything once.
func TestKilled(t *testing.T) {
	site.Each(t, func(t *testing.T, s *site.Site) {
		l := site.Drive(t, s, patience)
		l.Goes(t)
		leader := s.AwaitLeader(t)
		leader.Kill()
		l.Goes(t)
		s.Back(t, leader)
		next := s.AwaitLeader(t)
		follower := s.Members[slices.IndexFunc(s.Members, func(m *cluster.Member) bool { return m != next && m != leader })]
		follower.Kill()
		l.Goes(t)
		s.Back(t, follower)
		l.Goes(t)
		_, reads := l.Stop()
		for _, err := range reads {
			t.Errorf("a read failed: %v", err)
		}
		l.Check(t)
	})
}

// TestDrained restarts every member under load as an upgrade does: nothing fails.
func TestDrained(t *testing.T) {
	site.Each(t, func(t *testing.T, s *site.Site) {
		l := site.Drive(t, s, patience)
		l.Goes(t)
		for _, m := range s.Members {
			if err := m.Stop(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			l.Goes(t)
			s.Back(t, m)
			l.Goes(t)
		}
		writes, reads := l.Stop()
		for _, err := range append(writes, reads...) {
			t.Errorf("a request failed: %v", err)
		}
		l.Check(t)
	})
}

// TestHopEnds ends the process between, as an upgrade of it does.
func TestHopEnds(t *testing.T) {
	for _, way := range site.Ways() {
		if way == site.Direct {
			continue
		}
		t.Run(string(way), func(t *testing.T) {
			t.Parallel()
			s := site.Start(t, way)
			cli := s.Client(t)
			must(cli.Put(t.Context(), "k", "v"))(t)
			if code := s.StopHop(t); code != 0 {
				t.Errorf("SIGTERM ended the %s with code %d", way, code)
			}
		})
	}
}
