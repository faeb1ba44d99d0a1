package world

import (
	mathrand "math/rand/v2"
	"time"
)

// calmOften is one of how many seeds simulates minutes in which little happens: long leases, checkpoints and compactions by
// time take place there.
const longOf = 6

// drawLong makes some settings those of a long, calm run.
func drawLong(rng *mathrand.Rand, s *Settings) {
	if rng.IntN(longOf) != 0 {
		return
	}
	seconds := func(least, most int) time.Duration { return time.Duration(least+rng.IntN(most-least+1)) * time.Second }
	s.Long = true
	s.Members = min(s.Members, 5)
	s.Faulty, s.FaultEvery = seconds(120, 600)/time.Duration(1+s.Members/4), seconds(5, 30)
	s.Clients = 2
	s.Pause = time.Duration(500+rng.IntN(2500)) * time.Millisecond
	s.Lessees, s.Lockers = 1+rng.IntN(3), min(s.Lockers, 2)
	s.Linger = seconds(0, 70)
	s.Checkpoint = []time.Duration{3 * time.Second, 20 * time.Second, 0}[rng.IntN(3)]
}
