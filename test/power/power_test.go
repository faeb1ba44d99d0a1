package power

import (
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
		s.await(1 + s.rng.IntN(400))
		luck := s.luck()
		loss := s.cut(luck, 0)
		stop()
		t.Logf("round %d, luck %.1f: %v", round, luck, loss)
		total.Writes, total.Names, total.Torn = total.Writes+loss.Writes, total.Names+loss.Names, total.Torn+loss.Torn
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
