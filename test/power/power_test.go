package power

import (
	"context"
	"fmt"
	"testing"

	"quorate.dev/quorate/test/power/lossyfs"
)

// TestOneMember cuts the power of a single member at random moments under load. Everything acknowledged must be there after
// each.
func TestOneMember(t *testing.T) {
	rounds := int(number(t, "POWER_ROUNDS", 10))
	s := build(t, random(t), 1, "--snapshot-count=200")
	var total lossyfs.Loss
	s.up()
	for round := range rounds {
		stop := s.load(1+s.rng.IntN(8), 20_000)
		if s.rng.IntN(3) == 0 { // the cut comes soon after a start from what another process left
			s.await(1 + s.rng.IntN(200))
			s.Members[0].Kill()
			must(t, s.Members[0].Start())
		}
		s.await(1 + s.rng.IntN(400))
		luck := s.luck()
		loss := s.cut(luck, 0)
		stop()
		t.Logf("round %d, luck %.1f: %v", round, luck, loss)
		total.Writes, total.Names, total.Torn = total.Writes+loss.Writes, total.Names+loss.Names, total.Torn+loss.Torn
		if s.rng.IntN(2) == 0 {
			t.Logf("at the start after that: %v", s.stumble(0))
		}
		s.up()
		s.keeps()
	}
	s.judge()
	if rounds >= 10 && !total.Any() {
		t.Errorf("%d cuts and nothing was lost: that is no test", rounds)
	}
}

// TestThreeMembers cuts the power of all three members at once, or of some, at random moments under load.
func TestThreeMembers(t *testing.T) {
	rounds := int(number(t, "POWER_ROUNDS", 6))
	s := build(t, random(t), 3, "--snapshot-count=200")
	s.up()
	for round := range rounds {
		stop := s.load(4, 20_000)
		if m := s.Members[s.rng.IntN(3)]; s.rng.IntN(3) == 0 {
			s.await(1 + s.rng.IntN(100))
			m.Kill()
			must(t, m.Start())
		}
		s.await(1 + s.rng.IntN(300))
		members := s.rng.Perm(3)
		if s.rng.IntN(3) == 0 {
			members = members[:1+s.rng.IntN(2)]
		}
		luck := s.luck()
		loss := s.cut(luck, members...)
		stop()
		t.Logf("round %d, members %v, luck %.1f: %v", round, members, luck, loss)
		s.up()
		s.keeps()
	}
	s.judge()
}

// stumble starts members and cuts their power somewhere on the way.
func (s *site) stumble(members ...int) lossyfs.Loss {
	s.t.Helper()
	d := s.disks[members[0]]
	until := d.Asked() + s.rng.IntN(60)
	for _, i := range members {
		must(s.t, s.Members[i].Start())
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	ready := make(chan error, 1)
	go func() { ready <- s.Members[members[0]].Ready(ctx) }()
	s.until("the disk is asked for more, or the member is ready", func() bool { return d.Asked() >= until || len(ready) > 0 })
	loss := s.cut(s.luck(), members...)
	cancel()
	<-ready // before somebody starts the member again
	return loss
}

// TestFounding cuts the power while members start for the first time, some times in a row. They must found their cluster in the
// end, and keep what is acknowledged then.
func TestFounding(t *testing.T) {
	rng := random(t)
	for round := range int(number(t, "POWER_ROUNDS", 6)) {
		members := []int{0, 1, 2}[:1+2*(round%2)]
		t.Run(fmt.Sprintf("%d-members-%d", round, len(members)), func(t *testing.T) {
			s := build(t, rng, len(members))
			for range 1 + rng.IntN(3) {
				t.Logf("%v", s.stumble(members...))
			}
			s.up()
			stop := s.load(2, 100)
			s.await(20)
			s.cut(0, members...)
			stop()
			s.up()
			s.judge()
		})
	}
}

// TestLossesAreSeen runs a member that does not wait for its disk. Its losses must be found, else the tests above prove nothing.
func TestLossesAreSeen(t *testing.T) {
	s := build(t, random(t), 1, "--unsafe-no-fsync")
	s.up()
	stop := s.load(4, 100)
	s.await(100)
	loss := s.cut(0, 0)
	stop()
	t.Logf("%v", loss)
	if err := s.tryUp(); err != nil {
		t.Logf("the member does not start any more, as it should be able to: %v", err)
		return
	}
	w, err := s.events(s.Members[0])
	must(t, err)
	lost := s.lost(w)
	if len(lost) == 0 {
		t.Fatal("a member without fsync has lost nothing in a power failure")
	}
	t.Logf("%d acknowledged writes are lost, as they must be", len(lost))
}
