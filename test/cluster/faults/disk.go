package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"quorate.dev/quorate/test/cluster"
)

// disk is a small file system that one member has for itself.
type disk struct {
	member *cluster.Member
	dir    string
	full   bool
}

// diskSize is enough for the data of a run with some room.
const diskSize = "768m"

// mount gives a member a small disk. It needs the right to mount.
func mount(m *cluster.Member) (*disk, error) {
	dir := filepath.Join(m.Dir, "data") // not the log of the process, which is to be kept
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+diskSize); err != nil {
		return nil, fmt.Errorf("a small disk of its own for %s: %w", m.Name, err)
	}
	return &disk{member: m, dir: dir}, nil
}

func (d *disk) filler() string { return filepath.Join(d.dir, "filler") }

// fill leaves no room at all.
func (d *disk) fill() error {
	f, err := os.Create(d.filler())
	if err != nil {
		return err
	}
	defer f.Close()
	d.full = true
	block := make([]byte, 1<<20)
	for size := len(block); ; {
		if _, err := f.Write(block[:size]); errors.Is(err, syscall.ENOSPC) {
			if size /= 16; size == 0 {
				return nil
			}
		} else if err != nil {
			return err
		}
	}
}

func (d *disk) free() error {
	d.full = false
	return os.Remove(d.filler())
}

func (d *disk) unmount() error { return syscall.Unmount(d.dir, syscall.MNT_DETACH) }
