//go:build race

package arena

import (
	"runtime"
	"unsafe"
)

// The collector proves that readers are done before a slot is used again. The race detector does not see the collector's
// proof, so it is told.

func raceRelease(e *eraEnd) { runtime.RaceReleaseMerge(unsafe.Pointer(e)) }
func raceAcquire(e *eraEnd) { runtime.RaceAcquire(unsafe.Pointer(e)) }
