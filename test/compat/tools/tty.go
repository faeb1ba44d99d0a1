package tools

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// tty is a terminal that somebody has already typed into.
type tty struct{ master, slave *os.File }

func newTTY(typed string) (*tty, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	var slave *os.File
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err == nil {
		_, err = master.WriteString(typed)
	}
	if err != nil {
		master.Close()
		return nil, err
	}
	return &tty{master, slave}, nil
}

func (t *tty) close() {
	t.slave.Close()
	t.master.Close()
}
