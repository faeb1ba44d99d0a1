package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"quorate.dev/quorate/config"
	"quorate.dev/quorate/internal/disk"
)

// The parts of a data directory.
const (
	lockName  = "LOCK"  // held while a server runs; says which process
	storeName = "store" // the engine
	logName   = "wal"   // the raft log, unless --wal-dir names another place
	tempName  = "tmp"   // what a snapshot needs while it is sent; emptied at every start
)

// dataDir is a data directory that this process alone uses.
type dataDir struct {
	path  string // absolute
	store string
	log   string
	temp  string
	locks closers
}

// openDataDir makes the directory if need be and locks it. Only the holder of the lock may open what is inside.
func openDataDir(m config.Member, logger *zap.Logger) (*dataDir, error) {
	path, err := filepath.Abs(m.DataDir)
	if err != nil {
		return nil, fmt.Errorf("data directory %q: %w", m.DataDir, err)
	}
	if err := makePrivate(path, logger); err != nil {
		return nil, err
	}
	if err := refuseForeign(path, m.WALDir); err != nil {
		return nil, err
	}
	d := &dataDir{path: path, store: filepath.Join(path, storeName), log: filepath.Join(path, logName), temp: filepath.Join(path, tempName)}
	if err := d.take(path); err != nil {
		return nil, err
	}
	if err := d.prepare(m, logger); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// take locks a directory for this process.
func (d *dataDir) take(path string) error {
	lock, err := lockFile(filepath.Join(path, lockName), path)
	if err != nil {
		return err
	}
	d.locks = append(d.locks, lock)
	return nil
}

// prepare takes a log directory of its own, and removes what an earlier process left when it was killed.
func (d *dataDir) prepare(m config.Member, logger *zap.Logger) (err error) {
	if m.WALDir != "" {
		if d.log, err = filepath.Abs(m.WALDir); err != nil {
			return fmt.Errorf("log directory %q: %w", m.WALDir, err)
		}
		if d.log == d.path {
			return fmt.Errorf("--wal-dir and --data-dir are both %s: leave --wal-dir out, or name another directory", d.path)
		}
		if err := makePrivate(d.log, logger); err != nil {
			return err
		}
		if err := d.take(d.log); err != nil {
			return fmt.Errorf("--wal-dir: %w", err)
		}
	}
	return d.emptyTemp()
}

func (d *dataDir) emptyTemp() error {
	if err := os.RemoveAll(d.temp); err != nil {
		return fmt.Errorf("cannot empty %s: %w", d.temp, err)
	}
	if err := os.Mkdir(d.temp, 0o700); err != nil {
		return fmt.Errorf("cannot make %s: %w", d.temp, err)
	}
	return nil
}

// makePrivate makes a directory, durably, that only its owner may enter. One that others may enter is the operator's choice.
func makePrivate(path string, logger *zap.Logger) error {
	if err := disk.MakeDir(vfs.Default, path); err != nil {
		return fmt.Errorf("cannot make directory %s: %w", path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("cannot use directory %s: %w", path, err)
	}
	if mode := info.Mode().Perm(); mode != 0o700 {
		logger.Warn("directory exists with other permissions than recommended", zap.String("dir", path),
			zap.String("permission", mode.String()), zap.String("recommended", "-rwx------"))
	}
	return nil
}

// lockFile takes the lock or says who holds it. The kernel releases it when the process ends, however it ends.
func lockFile(name, dir string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open the lock of directory %s: %w", dir, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder := holderOf(f)
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("directory %s is in use by another process%s: stop it first, or give this server another one (--data-dir)", dir, holder)
		}
		return nil, fmt.Errorf("cannot lock directory %s (file %s): %w", dir, name, err)
	}
	if err := f.Truncate(0); err == nil {
		// The id is only for the message above; the lock holds without it.
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}

func holderOf(f *os.File) string {
	text := make([]byte, 32)
	n, _ := f.ReadAt(text, 0)
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text[:n]))); err == nil {
		return fmt.Sprintf(" (process %d)", pid)
	}
	return ""
}

// Close releases the locks.
func (d *dataDir) Close() error { return d.locks.Close() }
