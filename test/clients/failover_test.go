package clients

import (
	"syscall"
	"testing"
	"time"

	"quorate.dev/quorate/test/clients/site"
)

// patience is how long a client waits for one write.
const patience = time.Minute

// TestKilled kills every member in turn, and the leader once more, under load, and starts it again on the same port. Writes may fail
// on a connection that is cut; reads, which the client may repeat, may not; watches see everything once.
func TestKilled(t *testing.T) {
	site.Each(t, func(t *testing.T, s *site.Site) {
		l := site.Drive(t, s, patience)
		l.Goes(t)
		for _, m := range s.Members {
			m.Kill()
			l.Goes(t)
			s.Back(t, m)
		}
		leader := s.AwaitLeader(t)
		leader.Kill()
		l.Goes(t)
		s.Back(t, leader)
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
			s := site.Start(t, way)
			cli := s.Client(t)
			must(cli.Put(t.Context(), "k", "v"))(t)
			if code := s.StopHop(t); code != 0 {
				t.Errorf("SIGTERM ended the %s with code %d", way, code)
			}
		})
	}
}
