package wal

import (
	"errors"
	"os"
	"syscall"
)

// openDirect opens a file twice: once so that each write is durable when it returns, once so that it is not.
func openDirect(path string) (groups, zeros file, err error) {
	const flags = os.O_RDWR | syscall.O_DIRECT | syscall.O_CLOEXEC
	g, err := os.OpenFile(path, flags|syscall.O_DSYNC, 0)
	if err != nil {
		return nil, nil, err
	}
	z, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return nil, nil, errors.Join(err, g.Close())
	}
	return g, z, nil
}
