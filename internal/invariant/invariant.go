// Package invariant holds the checks of facts that only a mistake in this program can break.
//
// It is not for errors that users or disks cause: those are values of package fault, or plain errors that name a file. A
// broken invariant means that going on could destroy data, so Check panics with a text that starts "BUG:".
//
// Cheap checks call Check directly and are always on. Dear ones are guarded by Enabled, a constant that is true only when
// the program is built with the tag "invariants", so that they cost nothing otherwise:
//
//	if invariant.Enabled {
//		invariant.Check(sorted(keys), "keys out of order: %q", keys)
//	}
package invariant

import "fmt"

// Check panics with "BUG: " and the formatted text when cond is false.
//
// The arguments are evaluated, and may be moved to the heap, even when cond is true; on a hot path write the condition as an
// if and call Failed.
func Check(cond bool, format string, args ...any) {
	if !cond {
		Failed(format, args...)
	}
}

// Failed panics with "BUG: " and the formatted text.
func Failed(format string, args ...any) {
	panic("BUG: " + fmt.Sprintf(format, args...))
}
