package leader_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/leader"
	"quorate.dev/quorate/lease"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/wire"
)

// A duty that nobody started revokes an expired lease in the rounds of its driver, and says when it wants one early.
func TestDrivenDutyRevokes(t *testing.T) {
	w := newWorld(t, func(c *leader.Config) { c.ClusterVersion = "3.7.0" })
	require.False(t, w.duty.Wanted(), "nothing happened yet")
	w.duty.Promote(2, []lease.Lease{{ID: 1, TTL: 5}, {ID: 2, TTL: 50}})
	require.True(t, w.duty.Wanted(), "the new leader has something to do at once")
	w.duty.Round()
	require.False(t, w.duty.Wanted(), "that was the round that was wanted")
	require.Equal(t, []string{"version 3.7.0"}, w.describeAll())
	w.answer(nil)
	for range 11 { // 5 s of the lease and 1 s of the election timeout, less one round
		w.clock.Advance(limits.LeaseRound)
		w.duty.Round()
		require.Empty(t, w.proposed)
	}
	w.clock.Advance(limits.LeaseRound)
	w.duty.Round()
	require.Equal(t, []string{"revoke 1"}, w.describeAll())
	waited := make(chan error, 1)
	w.duty.RenewAsync(1, func(_ int64, err error) { waited <- err })
	require.Empty(t, waited)
	w.answer(nil)
	require.ErrorIs(t, <-waited, fault.LeaseNotFound)
	_, _, ok, leading := w.duty.Remaining(1)
	require.True(t, leading && !ok)
	_, _, ok, _ = w.duty.Remaining(2)
	require.True(t, ok)
}

// Stop needs no Start: everybody who waits is answered, and nothing is proposed afterwards.
func TestStopOfDrivenDuty(t *testing.T) {
	idle := newWorld(t, nil)
	idle.duty.Stop()
	idle.duty.Stop()

	w := newWorld(t, func(c *leader.Config) { c.QuotaBytes = 1000 })
	answers := make(chan error, 2)
	w.duty.Await(func(err error) { answers <- err })
	w.duty.Stop()
	require.ErrorIs(t, <-answers, fault.Stopped)

	w = newWorld(t, func(c *leader.Config) { c.QuotaBytes = 1000 })
	w.duty.Promote(2, []lease.Lease{{ID: 1, TTL: 5}})
	w.clock.Advance(6 * time.Second)
	w.duty.RenewAsync(1, func(_ int64, err error) { answers <- err })
	w.setNoSpace(7)
	w.duty.Stop()
	require.ErrorIs(t, <-answers, fault.Stopped)
	w.duty.Round()
	require.Empty(t, w.proposed, "a stopped duty takes back no alarm")
	w.duty.Stop()
	w.duty.Await(func(err error) { answers <- err })
	require.ErrorIs(t, <-answers, fault.Stopped)
}

// Two runs of one script make the same proposals and give the same answers in the same order.
func TestDrivenDutyIsDeterministic(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	first, second := drivenScript(t, seed), drivenScript(t, seed)
	require.True(t, first == second, "two runs differ")
	parts := []string{"revoke", "checkpoint", "compact", "alarm", "version"}
	for _, err := range []error{fault.NotLeader, fault.LeaseNotFound, fault.Stopped, fault.Timeout} {
		parts = append(parts, err.Error())
	}
	for _, what := range parts {
		require.True(t, strings.Contains(first, what), "the script is too weak: no %s", what)
	}
}

// drivenScript plays random calls and returns everything that was proposed and answered, in order.
func drivenScript(t *testing.T, seed uint64) string {
	rng := rand.New(rand.NewPCG(seed, 3))
	w := newWorld(t, func(c *leader.Config) {
		c.Checkpoints, c.QuotaBytes, c.ClusterVersion = true, 1000, "3.7.0"
		c.Compaction = leader.Compaction{Mode: leader.CompactPeriodic, Period: 10 * time.Minute}
	})
	w.trace = true
	term := ids.Term(1)
	for step := range 4000 {
		id := ids.LeaseID(rng.IntN(60) + 1)
		switch n := rng.IntN(100); {
		case n < 15:
			w.duty.Apply([]leader.Change{{ID: id, Kind: leader.Granted, TTL: int64(rng.IntN(900) + 2)}})
		case n < 55:
			w.duty.RenewAsync(id, func(ttl int64, err error) { w.printf("%d: renew %d: %d %v\n", step, id, ttl, err) })
		case n < 57:
			w.duty.Demote(term)
		case n < 61:
			var all []lease.Lease
			for i := range rng.IntN(40) {
				all = append(all, lease.Lease{ID: ids.LeaseID(i*7%60 + 1), TTL: int64(rng.IntN(900) + 2), Remaining: int64(rng.IntN(3))})
			}
			term++
			w.duty.Promote(term, all)
		case n < 64:
			w.setNoSpace(7)
		case n < 65:
			w.version = ""
		case n < 70:
			w.clock.Advance(time.Minute)
		case n < 85:
			w.revision++
			w.clock.Advance(limits.LeaseRound)
		default:
			if n == 99 {
				w.answer(fault.Timeout)
			} else if n > 92 {
				w.answer(nil)
			}
		}
		if w.duty.Wanted() || rng.IntN(3) == 0 {
			w.duty.Round()
		}
	}
	// Many wait for revocations, and are answered in one go.
	term++
	w.duty.Promote(term, []lease.Lease{{ID: 5, TTL: 1}, {ID: 3, TTL: 1}, {ID: 4, TTL: 1}, {ID: 1, TTL: 1}, {ID: 2, TTL: 1}})
	w.clock.Advance(time.Minute)
	for range 30 {
		id := ids.LeaseID(rng.IntN(5) + 1)
		w.duty.RenewAsync(id, func(ttl int64, err error) { w.printf("end: renew %d: %d %v\n", id, ttl, err) })
	}
	w.duty.Stop()
	return w.out.String()
}

func (w *world) setNoSpace(id uint64) {
	w.alarms = []wire.AlarmMember{{MemberID: id, Alarm: wire.AlarmNoSpace}}
}

// describeAll prints the proposals that wait for an answer.
func (w *world) describeAll() (all []string) {
	for _, p := range w.proposed {
		all = append(all, describe(p))
	}
	return all
}
