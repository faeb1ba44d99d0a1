package server

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// How much garbage may pile up before the next collection: a part of the live heap, because collecting costs in proportion
// to it, but at least enough that a small store is not collected all the time.
const (
	garbagePart  = 4        // a quarter of the live heap
	garbageFloor = 24 << 20 // bytes
)

// garbagePercent is the GOGC that lets that much pile up over a live heap of the given size.
func garbagePercent(live uint64) int {
	live = max(live, 1<<20)
	return int(max(live/garbagePart, garbageFloor) * 100 / live)
}

// paceCollector sets the collector's pace after every collection from then on. With Go's own setting the heap may grow to
// twice what is live, which for a store that keeps its values in memory is a second copy of the data. An operator's GOGC is
// respected. It is for a process that is nothing but this server.
func paceCollector() {
	if os.Getenv("GOGC") != "" {
		return
	}
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	var next func()
	next = func() {
		metrics.Read(sample)
		debug.SetGCPercent(garbagePercent(sample[0].Value.Uint64()))
		// The sentinel is garbage at once, so its cleanup runs after the next collection.
		sentinel := new([16]byte)
		runtime.AddCleanup(sentinel, func(struct{}) { next() }, struct{}{})
	}
	next()
}
