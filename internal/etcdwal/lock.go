package etcdwal

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Lock keeps every etcd from opening the log until Close; when one has it open already the error wraps ErrLocked. The files are
// not changed.
func (l *Log) Lock() error {
	for _, s := range l.segments {
		f, err := lockShared(s.path)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		l.locked = append(l.locked, f)
	}
	return nil
}

// lockShared opens a file and locks it in the ways etcd looks for: by flock, and where there are such by locks of open files.
func lockShared(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("etcdwal: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if err == nil || without(err) {
		err = lockOpenFile(f)
	}
	switch {
	case err == nil, without(err):
		return f, nil // on a file system without locks there is no etcd that uses them
	case errors.Is(err, unix.EWOULDBLOCK), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
		err = fmt.Errorf("etcdwal: %s: %w: stop etcd first, or work on a copy", path, ErrLocked)
	default:
		err = fmt.Errorf("etcdwal: lock %s: %w", path, err)
	}
	return nil, errors.Join(err, f.Close())
}

func without(err error) bool {
	return errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.ENOSYS)
}
