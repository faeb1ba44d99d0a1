package etcddb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// lockPoll is how often a lock that somebody else holds is asked for again, as bbolt does.
const lockPoll = 50 * time.Millisecond

// Lock waits until no process has the file open for writing (bbolt locks a file that it writes) and keeps such away until
// Close. It gives up when ctx ends.
func (f *File) Lock(ctx context.Context) error {
	for {
		err := unix.Flock(int(f.file.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		switch {
		case err == nil, errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.ENOLCK):
			return nil // a file system without locks has no server on it that uses them
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("etcddb: lock %s: %w", f.path, err)
		}
		timer := time.NewTimer(lockPoll)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("etcddb: %s is open in another process, which may change it: stop that process, or work on a copy: %w", f.path, context.Cause(ctx))
		}
	}
}
