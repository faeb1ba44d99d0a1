package leader_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/leader"
	"quorate.dev/quorate/limits"
)

// tree is what the duties see of the v2 tree.
type tree struct {
	expiry int64
	mode   string
}

func (t *tree) state() (int64, string) { return t.expiry, t.mode }

// What expires is removed by the leader alone, when it is due, and one proposal is under way at a time.
func TestV2Expiry(t *testing.T) {
	seen := &tree{mode: "separate"}
	w := newWorld(t, func(c *leader.Config) { c.V2.State = seen.state })
	round := func() []string {
		w.clock.Advance(limits.LeaseRound)
		w.duty.Round()
		return w.describeAll()
	}
	seen.expiry = epoch.Add(1200 * time.Millisecond).UnixNano()
	for range 5 {
		require.Empty(t, round(), "another member leads")
	}
	w.duty.Promote(1, nil)
	require.Equal(t, []string{"v2 SYNC  at 3s"}, round())
	require.Len(t, round(), 1, "it is under way")
	w.answer(errors.New("no leader"))
	require.Equal(t, []string{"v2 SYNC  at 4s"}, round())
	w.answer(nil)
	seen.expiry = epoch.Add(4600 * time.Millisecond).UnixNano()
	require.Empty(t, round(), "nothing is due at 4.5s")
	require.Equal(t, []string{"v2 SYNC  at 5s"}, round())
	w.answer(nil)
	w.duty.Round()
	require.Empty(t, w.describeAll(), "a second round at the same instant comes too early")
	seen.expiry = 0
	require.Empty(t, round(), "nothing expires")
}

// The mode is asked for until the tree has it, but not all the time.
func TestV2Mode(t *testing.T) {
	seen := &tree{mode: "separate"}
	w := newWorld(t, func(c *leader.Config) { c.V2 = leader.V2{State: seen.state, Mode: "shared"} })
	w.duty.Promote(1, nil)
	w.duty.Round()
	require.Equal(t, []string{"v2 MODE shared at 0s"}, w.describeAll())
	w.answer(errors.New("a file and a key differ"))
	for range 119 {
		w.clock.Advance(limits.LeaseRound)
		w.duty.Round()
		require.Empty(t, w.describeAll())
	}
	w.clock.Advance(limits.LeaseRound)
	w.duty.Round()
	require.Equal(t, []string{"v2 MODE shared at 1m0s"}, w.describeAll())
	seen.mode = "shared"
	w.answer(nil)
	w.clock.Advance(time.Hour)
	w.duty.Round()
	require.Empty(t, w.describeAll())
}
