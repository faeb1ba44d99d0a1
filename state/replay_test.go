package state_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/command"
)

// outcome is everything that two runs of the same log must have in common.
type outcome struct {
	results []string
	effects string
	content string
	hash    string
	view    string
}

// reference runs a log one command at a time, without restarts.
func reference(t *testing.T, log []command.Command) outcome {
	r := newRig(t, vfs.NewMem())
	defer r.close()
	var o outcome
	for i := range log {
		results, effects := r.apply(log[i : i+1])
		o.results = append(o.results, results...)
		o.effects += showEffects(&effects)
	}
	o.finish(r)
	return o
}

// finish takes what is to be compared at the end of a run, when the housekeeping is done.
func (o *outcome) finish(r *rig) {
	r.Helper()
	r.settle()
	o.content, o.hash, o.view = r.content(), r.hash(), showView(r, r.machine.View())
}

func seeded(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// logs are the kinds of random logs.
var logs = []func(*rand.Rand, int) []command.Command{randomLog, randomAuthLog, randomV2Log}

// batchOf is a random piece of the log from position at on.
func batchOf(r *rand.Rand, log []command.Command, at int) []command.Command {
	return log[at:min(len(log), at+1+r.IntN(60))]
}

// TestReplayIsDeterministic runs one log in batches of random sizes, with steps of housekeeping and clean restarts at random
// places, and compares with the reference: results, effects, stored bytes, hash and view.
func TestReplayIsDeterministic(t *testing.T) {
	for i := range 9 {
		r := seeded(t)
		log := logs[i%3](r, 1500)
		want := reference(t, log)
		rig := newRig(t, vfs.NewMem())
		var got outcome
		for at := 0; at < len(log); {
			batch := batchOf(r, log, at)
			// Entries that were applied already come again after a restart.
			again := min(at, r.IntN(3))
			results, effects := rig.apply(log[at-again : at+len(batch)])
			got.results = append(got.results, results[again:]...)
			got.effects += showEffects(&effects)
			at += len(batch)
			switch r.IntN(12) {
			case 0:
				rig.reopen()
			case 1, 2, 3:
				_, err := rig.machine.Background(1 + r.IntN(10))
				require.NoError(t, err)
			}
		}
		got.finish(rig)
		rig.close()
		for i := range want.results {
			require.Equal(t, want.results[i], got.results[i], "result of command %d: %s %x", i, log[i].Kind, log[i].Body)
		}
		require.Equal(t, eventLines(want.effects), eventLines(got.effects))
		require.Equal(t, want.content, got.content)
		require.Equal(t, want.hash, got.hash)
		require.Equal(t, want.view, got.view)
	}
}

// eventLines keeps the effects that do not depend on how a log is cut into batches, in an order that does not either.
func eventLines(effects string) []string {
	var out []string
	for _, line := range strings.Split(effects, "\n") {
		if !strings.HasSuffix(line, "changed") && !strings.HasPrefix(line, "compacted") {
			out = append(out, line)
		}
	}
	slices.Sort(out)
	return out
}

// TestCrashAnywhere cuts the power at random places, several times in one run of a log, and goes on from the engine's mark.
// What a restart finds must be exactly the state after the command that the mark names.
func TestCrashAnywhere(t *testing.T) {
	for i := range 6 {
		r := seeded(t)
		log := logs[i%3](r, 900)
		want := reference(t, log)
		views := viewsOf(t, log)
		rig := newRig(t, vfs.NewCrashableMem())
		lost := 0
		for at := 0; at < len(log); {
			batch := batchOf(r, log, at)
			rig.apply(batch)
			at += len(batch)
			switch r.IntN(8) {
			case 0:
				require.NoError(t, rig.engine.Flush())
			case 1:
				_, err := rig.engine.AsyncFlush()
				require.NoError(t, err)
			case 2, 3:
				_, err := rig.machine.Background(1 + r.IntN(10))
				require.NoError(t, err)
			case 4:
				fs := rig.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})
				require.NoError(t, rig.engine.CloseDirty())
				rig.fs = fs
				rig.open()
				back := int(rig.machine.Applied().Index)
				require.LessOrEqual(t, back, at)
				require.Equal(t, views[back], showView(t, rig.machine.View()), "after the crash at %d", at)
				lost += at - back
				at = back
			}
		}
		var got outcome
		got.finish(rig)
		rig.close()
		t.Logf("%d commands were applied again", lost)
		require.Equal(t, want.content, got.content)
		require.Equal(t, want.hash, got.hash)
		require.Equal(t, want.view, got.view)
	}
}

// viewsOf is the view after every command, from a run without crashes; views[0] is that of an empty store.
func viewsOf(t *testing.T, log []command.Command) []string {
	r := newRig(t, vfs.NewMem())
	defer r.close()
	views := []string{showView(t, r.machine.View())}
	for i := range log {
		r.apply(log[i : i+1])
		views = append(views, showView(t, r.machine.View()))
	}
	return views
}
