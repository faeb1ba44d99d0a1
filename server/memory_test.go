package server

import "testing"

// TestGarbagePercent checks that the garbage allowed beside a live heap is as much as a collection has to look through, at
// least the floor, and does not grow with data that no collection looks through.
func TestGarbagePercent(t *testing.T) {
	for _, c := range []struct {
		live, scanned uint64
		want          int
	}{
		{0, 0, 6400},
		{16 << 20, 1 << 20, 400},
		{256 << 20, 8 << 20, 25},
		{640 << 20, 64 << 20, 10},
		{640 << 20, 128 << 20, 20},
		{64 << 30, 64 << 20, 1},
	} {
		if got := garbagePercent(c.live, c.scanned); got != c.want {
			t.Errorf("with %d bytes live of which %d are scanned: %d, want %d", c.live, c.scanned, got, c.want)
		}
	}
}
