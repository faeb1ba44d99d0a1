//go:build unix

package load

import (
	"syscall"
	"time"
)

// CPUTime is what this process has used, user and kernel.
func CPUTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
