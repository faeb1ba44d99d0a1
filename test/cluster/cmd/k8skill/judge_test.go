package main

import (
	"testing"
	"time"
)

// TestBreachAfter: breaks close to each other are one, the longest between two kills counts, and what was due just before a kill and was
// under way then belongs to it.
func TestBreachAfter(t *testing.T) {
	at := func(ms int) float64 { return float64(ms) / 1000 }
	slots := []slot{
		{At: at(0), Calls: 100, Over: 1},             // 1% is allowed
		{At: at(50), Calls: 100, Errors: 1},          // of an earlier kill
		{At: at(950), Calls: 100, Lost: 2},           // under way at the kill
		{At: at(1000), Calls: 100, Over: 50, Max: 3}, // waits for the leader
		{At: at(1050), Calls: 100},
		{At: at(1100), Calls: 100, Events: 50, EventsOver: 1},
		{At: at(1150), Calls: 100},
		{At: at(2000), Calls: 100, Over: 2},   // a break of its own, and a shorter one
		{At: at(2960), Calls: 100, Errors: 7}, // of the next kill
	}
	got := breachAfter(slots, time.Second, 3*time.Second)
	want := breach{from: -50 * time.Millisecond, length: 200 * time.Millisecond, all: 250 * time.Millisecond, lost: 2, over: 52, events: 1, slowest: 3 * time.Millisecond}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := breachAfter(slots[4:5], time.Second, 3*time.Second); got != (breach{}) {
		t.Errorf("no break, but %+v", got)
	}
}
