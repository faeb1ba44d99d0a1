package etcdwal

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockOpenFile takes a shared lock that belongs to the open file, as etcd takes an exclusive one.
func lockOpenFile(f *os.File) error {
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK})
}
