package etcddb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// Writer makes a db file out of pairs that come in any order. It is for one goroutine. The file is of use after Close only.
type Writer struct {
	db   *bolt.DB
	tx   *bolt.Tx
	path string
	n    int // bytes in tx
}

// scratchMark is in the names of files that are being made.
const scratchMark = ".migrating-"

// CreateBeside begins a file with a new name, in the directory of path and beginning with its name: what is to become path. Files that
// others were making there when they were killed are removed.
func CreateBeside(path string) (*Writer, error) {
	old, err := filepath.Glob(filepath.Join(filepath.Dir(path), filepath.Base(path)+scratchMark+"*"))
	if err != nil {
		return nil, fmt.Errorf("etcddb: %w", err)
	}
	for _, name := range old {
		if err := removeUnused(name); err != nil {
			return nil, err
		}
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+scratchMark+"*")
	if err != nil {
		return nil, fmt.Errorf("etcddb: %w", err)
	}
	w := &Writer{path: f.Name()}
	if err := f.Close(); err != nil {
		return nil, errors.Join(fmt.Errorf("etcddb: %w", err), os.Remove(w.path))
	}
	w.db, err = bolt.Open(w.path, 0o600, &bolt.Options{NoSync: true, NoGrowSync: true, NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("etcddb: make %s: %w", w.path, err), os.Remove(w.path))
	}
	w.db.AllocSize = 1 << 20
	return w, nil
}

// removeUnused removes a file that no process has locked.
func removeUnused(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("etcddb: %w", err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("etcddb: another process is at work there: it is making %s", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("etcddb: remove what an earlier run left: %w", err)
	}
	return nil
}

// Path is the name of the file while it is being made.
func (w *Writer) Path() string { return w.path }

// Bucket makes a bucket, if there is none of that name.
func (w *Writer) Bucket(name string) error {
	_, err := w.bucket(name)
	return err
}

func (w *Writer) bucket(name string) (b *bolt.Bucket, err error) {
	if w.tx == nil {
		if w.tx, err = w.db.Begin(true); err != nil {
			return nil, w.failed(err)
		}
	}
	if b, err = w.tx.CreateBucketIfNotExists([]byte(name)); err != nil {
		return nil, w.failed(err)
	}
	return b, nil
}

func (w *Writer) failed(err error) error { return fmt.Errorf("etcddb: write %s: %w", w.path, err) }

// Put writes a pair, which takes the place of one with the same key. The bytes are the writer's until Close.
func (w *Writer) Put(bucket string, key, value []byte) error {
	b, err := w.bucket(bucket)
	if err != nil {
		return err
	}
	if err := b.Put(key, value); err != nil {
		return w.failed(err)
	}
	if w.n += len(key) + len(value); w.n < bytesPerCommit {
		return nil
	}
	return w.commit()
}

func (w *Writer) commit() error {
	if w.tx == nil {
		return nil
	}
	err := w.tx.Commit()
	w.tx, w.n = nil, 0
	if err != nil {
		return w.failed(err)
	}
	return nil
}

// Close makes the file complete and durable. When it fails, the file is removed.
func (w *Writer) Close() error {
	err := w.commit()
	if err == nil {
		err = w.db.Sync()
	}
	if err = errors.Join(err, w.db.Close()); err != nil {
		return errors.Join(w.failed(err), os.Remove(w.path))
	}
	return nil
}

// Abort removes the file.
func (w *Writer) Abort() error {
	var failed error
	if w.tx != nil {
		failed = w.tx.Rollback()
		w.tx = nil
	}
	return errors.Join(failed, w.db.Close(), os.Remove(w.path))
}
