package server

import "testing"

func TestGarbagePercent(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{
		{0, 2400},
		{6 << 20, 400},
		{96 << 20, 25},
		{640 << 20, 25},
		{64 << 30, 25},
	} {
		if got := garbagePercent(c.live); got != c.want {
			t.Errorf("with %d bytes live: %d, want %d", c.live, got, c.want)
		}
	}
}
