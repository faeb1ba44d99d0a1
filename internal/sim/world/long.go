package world

import (
	"cmp"
	"errors"
	mathrand "math/rand/v2"
	"time"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/internal/check"
	"quorate.dev/quorate/leader"
	"quorate.dev/quorate/wire"
)

// longOf is how many seeds there are to one that simulates minutes in which little happens: long leases, checkpoints, and compactions by
// time take place there.
// Settings.LongOf is another number.
const longOf = 6

// drawLong makes some settings those of a long, calm run.
func drawLong(rng *mathrand.Rand, s *Settings) {
	if rng.IntN(cmp.Or(s.LongOf, longOf)) != 0 {
		return
	}
	seconds := func(least, most int) time.Duration { return time.Duration(least+rng.IntN(most-least+1)) * time.Second }
	s.Long = true
	s.Members = min(s.Members, 5)
	slow := []time.Duration{1, 2, 5}[rng.IntN(3)] // members that are far from each other, as settings for them have it
	s.Tick, s.Calm = slow*s.Tick, slow*s.Calm
	s.Faulty, s.FaultEvery = slow*seconds(120, 480)/time.Duration(1+s.Members/4), slow*seconds(5, 30)
	s.Clients = 2
	s.Pause = slow * time.Duration(500+rng.IntN(2500)) * time.Millisecond
	s.Lessees, s.Lockers = 1+rng.IntN(3), min(s.Lockers, 2)
	s.Linger = seconds(0, 70)
	s.Checkpoint = []time.Duration{3 * time.Second, 20 * time.Second, 0}[rng.IntN(3)]
	s.Automatic = []leader.Compaction{
		{}, {Mode: leader.CompactPeriodic, Period: seconds(30, 90)}, {Mode: leader.CompactRevision, Revisions: 50 + rng.Int64N(100)},
	}[rng.IntN(3)]
	if s.ChangeEvery != 0 {
		s.ChangeEvery = seconds(5, 40)
	}
	s.Old, s.Upgrade = min(s.Old, s.Members), 20*s.Upgrade
}

// automatic takes note of what a member compacts by itself, and gives back who waits for it. It is nil if that has to wait: what no watch
// has seen yet stays, because nobody could judge it any more.
func (m *Member) automatic(kind command.Kind, msg leader.Message, w command.Waiter) command.Waiter {
	c, ok := msg.(*wire.CompactionRequest)
	if kind != command.Compaction || !ok {
		return w
	}
	world := m.w
	if c.Revision > world.safe {
		w.Complete(&command.Result{Err: fault.Timeout})
		return nil
	}
	at := len(world.spent)
	world.spent = append(world.spent, check.Operation{
		Client: 401, Call: world.instant(), Return: check.Never, Request: check.Request{Kind: check.Compact, Revision: c.Revision},
	})
	return waiter(func(r *command.Result) {
		o := &world.spent[at]
		switch {
		case r.Err == nil:
			o.Return, o.Answer = world.instant(), check.Answer{Revision: int64(r.Revision)}
			world.counts.Compactions++
		case errors.Is(r.Err, fault.Compacted):
			o.Return, o.Answer = world.instant(), check.Answer{Refusal: r.Err.Error()}
		}
		world.trace.note(m.name, "compacts by itself up to %d: %v", c.Revision, r.Err)
		w.Complete(r)
	})
}
