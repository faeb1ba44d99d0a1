// Package power takes the power from real processes, whose data lie on a file system that then loses what was not synced
// (package lossyfs), and checks that nothing acknowledged is gone. It also fills that disk and lets it hang.
//
// It is not a simulation: the processes, the kernel and the clients are real, so a seed repeats what was chosen and not what
// came of it. There is nothing here but tests; they need root and /dev/fuse, and fail without, unless POWER_NO_FUSE says that
// it is known to be missing.
package power
