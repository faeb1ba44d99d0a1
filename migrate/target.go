package migrate

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"quorate.dev/quorate/internal/etcddb"
	"quorate.dev/quorate/restore"
)

// OccupiedError says that there is something already where a destination should be made.
type OccupiedError struct{ Path string }

// Error names the path.
func (e *OccupiedError) Error() string { return fmt.Sprintf("migrate: %s exists already", e.Path) }

// publish gives a db file that was compared its place, and compares again what was made of it. The file is there for the
// function's use and is removed afterwards if it is still there.
type publish func(ctx context.Context, file string) error

// target looks whether the destination is free, and returns how it is made; nil for a dry run.
func (m *migration) target() (publish, error) {
	t := m.o.Target
	if t.Kind == DataDir || t.Kind == Snapshot {
		if info, err := os.Stat(filepath.Dir(filepath.Clean(t.Path))); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("migrate: there is no directory %s to make %s in: make it, or name another place", filepath.Dir(filepath.Clean(t.Path)), t.Path)
		}
		inside, err := leadsInto(t.Path, m.o.DataDir)
		if err != nil {
			return nil, err
		}
		if inside {
			return nil, fmt.Errorf("migrate: %s lies in the source %s, and nothing is written there; name another place", t.Path, m.o.DataDir)
		}
	}
	switch t.Kind {
	case DataDir:
		return m.toDataDir()
	case Snapshot:
		if _, err := os.Lstat(t.Path); err == nil {
			return nil, &OccupiedError{t.Path}
		}
		return m.toSnapshot, nil
	case InPlace:
		return m.toSource, nil
	}
	return nil, nil
}

// leadsInto says whether a path leads into a directory. The path itself need not be there.
func leadsInto(path, dir string) (bool, error) {
	real, err := filepath.EvalSymlinks(filepath.Dir(filepath.Clean(path)))
	if err != nil {
		return false, fmt.Errorf("migrate: %w", err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err == nil {
		real, err = filepath.Abs(filepath.Join(real, filepath.Base(path)))
	}
	if err != nil {
		return false, fmt.Errorf("migrate: %w", err)
	}
	return real == dir || strings.HasPrefix(real, dir+string(filepath.Separator)), nil
}

// write makes the destination.
func (m *migration) write(ctx context.Context, put publish) (err error) {
	path := filepath.Clean(m.o.Target.Path)
	if m.o.Target.Kind == InPlace {
		path = m.src.dbPath()
	}
	m.o.Progress(Progress{Stage: Writing, Total: int64(len(m.out.list))})
	w, err := etcddb.CreateBeside(path)
	if err != nil {
		return err
	}
	if err := m.fill(ctx, w); err != nil {
		return errors.Join(err, w.Abort())
	}
	if err := w.Close(); err != nil {
		return err
	}
	defer func() {
		if rest := os.Remove(w.Path()); rest != nil && !errors.Is(rest, fs.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("migrate: %w", rest))
		}
	}()
	if err := m.verifyFile(ctx, w.Path()); err != nil {
		return err
	}
	return put(ctx, w.Path())
}

// fill writes the db file. In place it holds what was there before, too.
func (m *migration) fill(ctx context.Context, w *etcddb.Writer) error {
	applied := uint64(0) // consistent_index so far
	if m.o.Target.Kind == InPlace && m.src.db != nil {
		err := m.src.db.Walk(etcddb.Visitor{
			Bucket: func(name string) (bool, error) { return true, w.Bucket(name) },
			Pair: func(bucket string, key, value []byte) error {
				if bucket == "meta" && string(key) == "consistent_index" && len(value) == 8 {
					applied = binary.BigEndian.Uint64(value)
				}
				if err := context.Cause(ctx); err != nil {
					return err
				}
				return w.Put(bucket, clone(key), clone(value))
			},
		})
		if err != nil {
			return err
		}
	}
	for _, b := range etcddb.Buckets {
		if m.o.Target.Kind == InPlace && b.Name != "key" && b.Name != "meta" && (b.Name != "lease" || len(m.leases) == 0) {
			continue // etcd makes them when it starts
		}
		if err := w.Bucket(b.Name); err != nil {
			return err
		}
	}
	for _, g := range m.leases {
		key, value := g.row()
		if err := w.Put("lease", key, value); err != nil {
			return err
		}
	}
	for i, kv := range m.out.list {
		if err := w.Put("key", revisionBytes(kv.ModRevision), kv.Append(nil)); err != nil {
			return err
		}
		if (i+1)%reportEvery == 0 {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			m.o.Progress(Progress{Stage: Writing, Done: int64(i + 1), Total: int64(len(m.out.list))})
		}
	}
	if last := m.src.survey.Last; last > applied {
		applied = last
	}
	return w.Put("meta", []byte("consistent_index"), binary.BigEndian.AppendUint64(nil, applied))
}

func clone(b []byte) []byte { return append([]byte{}, b...) }

// toSnapshot makes a file in etcd's snapshot format.
func (m *migration) toSnapshot(_ context.Context, file string) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	sum := sha256.New()
	if _, err = io.Copy(sum, f); err == nil { // it is at the end then
		_, err = f.Write(sum.Sum(nil))
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if _, err := os.Lstat(m.o.Target.Path); err == nil {
		return &OccupiedError{m.o.Target.Path}
	}
	return rename(file, m.o.Target.Path)
}

func rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	dir, err := os.Open(filepath.Dir(to))
	if err == nil {
		err = errors.Join(dir.Sync(), dir.Close())
	}
	if err != nil {
		return fmt.Errorf("migrate: sync the directory of %s: %w", to, err)
	}
	return nil
}

// toSource puts the file in the place of the source's db file, with the owner that this had, or that its directory has.
func (m *migration) toSource(_ context.Context, file string) error {
	to := m.src.dbPath()
	mode := fs.FileMode(0o600)
	info, err := os.Stat(to)
	if errors.Is(err, fs.ErrNotExist) {
		info, err = os.Stat(filepath.Dir(to))
	} else if err == nil {
		mode = info.Mode().Perm()
	}
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && (int(owner.Uid) != os.Getuid() || int(owner.Gid) != os.Getgid()) {
		if err := os.Chown(file, int(owner.Uid), int(owner.Gid)); err != nil {
			return fmt.Errorf("migrate: etcd could not open the file, because it would not be its owner's: %w", err)
		}
	}
	if err := os.Chmod(file, mode); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return rename(file, to)
}

// toDataDir looks whether a data directory of ours can be made.
func (m *migration) toDataDir() (publish, error) {
	t := m.o.Target
	if m.o.TTL == Lease && len(t.Members) > 1 {
		return nil, fmt.Errorf("migrate: the leases of keys that expire would not be the same on %d members, because each would begin with the time that is left when it is made: make one file with --to-snapshot and restore it on every member, with \"quorate snapshot restore\"", len(t.Members))
	}
	o := restore.Options{DataDir: filepath.Clean(t.Path), LogDir: t.LogDir, Self: t.Self.ID, Members: t.Members, SkipChecksum: true}
	o.Progress = func(p restore.Progress) {
		if p.Stage == restore.Loading {
			m.o.Progress(Progress{Stage: Writing, Done: p.Done, Total: p.Total})
		}
	}
	if _, err := restore.New(o); err != nil {
		return nil, err
	}
	return func(ctx context.Context, file string) error {
		o.File = file
		_, err := os.Stat(o.DataDir)
		empty := err == nil // then it stays when something fails
		job, err := restore.New(o)
		if err != nil {
			return err
		}
		db, err := etcddb.Open(file)
		if err != nil {
			return err
		}
		_, err = job.Run(ctx, db)
		if err = errors.Join(err, db.Close()); err != nil {
			return err
		}
		if err := m.verifyStore(ctx, filepath.Join(o.DataDir, restore.StoreName)); err != nil {
			return errors.Join(err, takeBack(o, empty))
		}
		return nil
	}, nil
}

// takeBack removes a data directory that was made.
func takeBack(o restore.Options, empty bool) error {
	gone := []string{o.DataDir}
	if empty {
		gone = []string{filepath.Join(o.DataDir, restore.StoreName), filepath.Join(o.DataDir, restore.LogName)}
	}
	if o.LogDir != "" {
		gone = append(gone, o.LogDir)
	}
	var failed error
	for _, path := range gone {
		failed = errors.Join(failed, os.RemoveAll(path))
	}
	return failed
}
