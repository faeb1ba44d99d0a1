// Package metamorphic has one list of commands played by members with different settings, and wants the same answers of all.
//
// It has no model of what is right: a reference (one command at a time, no restarts, no history left over, all housekeeping done
// at once) answers first, and every other way to run the same log must answer the same. What it varies is what must not
// matter: how the log is cut into batches and whether parts of it come again, when the engine flushes and with how much
// memory, restarts and power cuts with replay, how far housekeeping has come, which old views and lists are still being read,
// when memory is collected, how much the watch hub remembers and how quickly watchers read; and whether a raft host with a log
// applies. What it compares are results, events, changes of leases and members, ranges at all revisions, statistics, hashes
// at all revisions and at compactions, what watchers see (by package check), and in the end every record.
//
// It is only a test. Everything comes from a seed, but not the order in which goroutines run, and so not everything that
// happens in the hub and in the host.
package metamorphic

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
)

var (
	seedFlag     = flag.Uint64("seed", 0, "seed of the first script, 0 for a new one")
	settingsFlag = flag.Uint64("settings", 0, "seed of the first settings of each script, 0 for 1")
	scriptsFlag  = flag.Int("scripts", 4, "how many scripts")
	timesFlag    = flag.Int("times", 12, "how many settings each is played with")
	lengthFlag   = flag.Int("length", 900, "commands of a script")
)

// TestSettingsMakeNoDifference plays scripts under random settings. To play one of them again, give the flags that its name
// tells and -scripts 1 -times 1.
func TestSettingsMakeNoDifference(t *testing.T) {
	seed, first := *seedFlag, max(*settingsFlag, 1)
	if seed == 0 {
		seed = rand.Uint64N(1e9)
	}
	scripts, times := *scriptsFlag, *timesFlag
	if testing.Short() {
		scripts, times = min(scripts, 2), min(times, 5)
	}
	var sum tally
	for i := uint64(0); i < uint64(scripts) || sum.plays >= 48 && sum.least() == 0 && i < uint64(10*scripts); i++ { // a few more for what is rare
		s := write(t, seed+i, *lengthFlag)
		for j := range uint64(times) {
			set := choose(rand.New(rand.NewPCG(seed+i, first+j)), s.hosted)
			t.Run(fmt.Sprintf("-seed=%d -settings=%d", seed+i, first+j), func(t *testing.T) {
				t.Logf("%+v", set)
				play(t, s, set, first+j, &sum)
			})
		}
	}
	t.Logf("%+v", sum)
	if sum.plays >= 48 && sum.least() == 0 {
		t.Error("something that must make no difference did not happen once")
	}
}

// least is how often the rarest of what must make no difference has happened.
func (s *tally) least() int {
	return min(s.hosted, s.restarts, s.reapplied, s.compactedAway, s.viewsOvertaken, s.listsOvertaken)
}
