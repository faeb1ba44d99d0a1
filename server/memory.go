package server

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

// garbageFloor is how much garbage may pile up before the next collection at least, in bytes: enough that a small store is
// not collected all the time.
const garbageFloor = 64 << 20

// garbagePercent is the GOGC that lets as much garbage pile up over a live heap as the part of it that a collection looks
// through, which is what the collection costs. Keys and values are not in that part, so neither the memory beside them nor the
// time for collecting grows with them.
func garbagePercent(live, scanned uint64) int {
	live = max(live, 1<<20)
	return max(1, int(max(scanned, garbageFloor)*100/live))
}

const (
	// calm is how long no collection must have been necessary before unused memory goes back to the system.
	calm = 3 * time.Second
	// calmGarbage is how much must have been allocated since then for it to be done again. Less than garbageFloor, because
	// what the engine does after the work of clients would leave that much behind.
	calmGarbage = 24 << 20
)

// startPercent is the GOGC while a store is opened. Nearly all that is allocated then stays.
const startPercent = 400

// hurryCollector lets the collector do little while a store is opened, until paceCollector. An operator's GOGC is respected.
func hurryCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(startPercent)
	}
}

// paceCollector sets the collector's pace after every collection from then on, and gives memory back when the work ends. With
// Go's own setting the heap may grow to twice what is live, which for a store that keeps its values in memory is a second copy
// of the data. An operator's GOGC is respected. It is for a process that is nothing but this server.
func paceCollector() {
	if os.Getenv("GOGC") != "" {
		return
	}
	var ours atomic.Bool // the next collection is that of the timer
	var freed uint64     // bytes allocated before memory was given back
	var idle *time.Timer
	idle = time.AfterFunc(math.MaxInt64, func() {
		if allocated := allocatedBytes(); allocated-freed >= calmGarbage || freed == 0 {
			ours.Store(true)
			debug.FreeOSMemory()
			releaseProgram()
			freed = allocatedBytes()
		}
		idle.Reset(calm)
	})
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/total:bytes"}}
	var next func()
	next = func() {
		metrics.Read(sample)
		debug.SetGCPercent(garbagePercent(sample[0].Value.Uint64(), sample[1].Value.Uint64()))
		if !ours.Swap(false) {
			idle.Reset(calm)
		}
		// The sentinel is garbage at once, so its cleanup runs after the next collection.
		sentinel := new([16]byte)
		runtime.AddCleanup(sentinel, func(struct{}) { next() }, struct{}{})
	}
	next()
}

// allocatedBytes is what has been allocated since the start of the process.
func allocatedBytes() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
