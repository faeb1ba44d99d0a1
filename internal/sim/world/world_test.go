package world_test

import (
	"bytes"
	"flag"
	"testing"

	"quorate.dev/quorate/internal/sim/world"
)

var seeds = flag.Int("seeds", 40, "how many seeds TestSeeds runs")

// TestSeeds runs seeds, of which none may break a promise.
func TestSeeds(t *testing.T) {
	var sum world.Counts
	for seed := range uint64(*seeds) {
		r := world.Run(seed, world.Settings{}, nil)
		for _, v := range r.Violations {
			t.Errorf("seed %d: %s", seed, v)
		}
		sum.Add(r.Counts)
	}
	t.Logf("%+v", sum)
	if *seeds >= 40 && (sum.Kills == 0 || sum.PowerLosses == 0 || sum.Snapshots == 0 || sum.Hashes == 0 || sum.Refused == 0 || sum.Unknown == 0 ||
		sum.AuthChanges == 0 || sum.Denied == 0 || sum.Overtaken == 0 ||
		sum.Added == 0 || sum.Promoted == 0 || sum.Removed == 0 || sum.Joined == 0 || sum.Retired == 0 || sum.Lists == 0 || sum.Registers == 0 || sum.Upgrades == 0) {
		t.Errorf("something never happened: %+v", sum)
	}
}

// TestSameSeed runs seeds twice: every line must be the same.
func TestSameSeed(t *testing.T) {
	for _, seed := range []uint64{4, 8, 10, 11, 23, 51, 260} {
		var first, second bytes.Buffer
		a, b := world.Run(seed, world.Settings{}, &first), world.Run(seed, world.Settings{}, &second)
		if a.Sum != b.Sum || a.Steps != b.Steps || !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Errorf("seed %d: two runs differ: %d and %d events, traces %016x and %016x", seed, a.Steps, b.Steps, a.Sum, b.Sum)
		}
		if first.Len() == 0 {
			t.Errorf("seed %d has no trace", seed)
		}
	}
}
