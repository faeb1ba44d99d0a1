package restore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/disk"
	"quorate.dev/quorate/wal"
)

// begin makes the directory to build in, removing what an earlier restore left when it was killed. The lock says that no
// other is at work there.
func (r *Restore) begin() (io.Closer, error) {
	if err := disk.MakeDir(r.fs, r.build); err != nil {
		return nil, fmt.Errorf("restore: make directory %s: %w", r.build, err)
	}
	lock, err := r.fs.Lock(r.fs.PathJoin(r.build, lockName))
	if err != nil {
		return nil, fmt.Errorf("restore: another restore to %s is at work (%s): %w", r.o.DataDir, r.build, err)
	}
	for _, name := range []string{r.fs.PathJoin(r.build, StoreName), r.fs.PathJoin(r.build, LogName), r.log} {
		if err := r.fs.RemoveAll(name); err != nil {
			return nil, errors.Join(fmt.Errorf("restore: remove what an earlier restore left: %w", err), lock.Close())
		}
	}
	return lock, nil
}

// makeLog writes a log that continues after what the store covers: without entries, unless the origin has some.
func (r *Restore) makeLog() error {
	log, err := wal.Create(r.log, wal.Options{FS: r.fs}, wal.Metadata{Member: r.self(), Cluster: r.cluster()})
	if err != nil {
		return err
	}
	if r.o.Origin != nil {
		return errors.Join(r.o.Origin.fill(log), log.Close())
	}
	m := r.mark()
	hard := &raftpb.HardState{Term: proto.Uint64(uint64(m.Term)), Vote: proto.Uint64(0), Commit: proto.Uint64(uint64(m.Index))}
	return errors.Join(log.Install(hard, m.Index, m.Term), log.Close())
}

func (r *Restore) self() ids.MemberID {
	if r.o.Origin != nil {
		return r.o.Origin.Self
	}
	return r.o.Self
}

// publish gives everything its name. The log goes first: a server refuses to start on a log that continues after a store that
// is not there.
func (r *Restore) publish() error {
	if r.o.LogDir != "" {
		if err := r.rename(r.log, r.o.LogDir); err != nil {
			return err
		}
	}
	if !r.inside {
		return r.rename(r.build, r.o.DataDir)
	}
	for _, name := range []string{LogName, StoreName} {
		from := r.fs.PathJoin(r.build, name)
		if _, err := r.fs.Stat(from); errors.Is(err, fs.ErrNotExist) {
			continue // the log lies elsewhere
		}
		if err := r.rename(from, r.fs.PathJoin(r.o.DataDir, name)); err != nil {
			return err
		}
	}
	if err := r.fs.RemoveAll(r.build); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return disk.SyncDir(r.fs, r.o.DataDir)
}

// rename moves a directory, durably.
func (r *Restore) rename(from, to string) error {
	if err := r.fs.Rename(from, to); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := disk.SyncDir(r.fs, r.fs.PathDir(to)); err != nil {
		return fmt.Errorf("restore: sync the directory of %s: %w", to, err)
	}
	return nil
}

// abandon removes everything that was written. What has its final name already was made by this restore too: New has found
// that there was nothing.
func (r *Restore) abandon() error {
	leftovers := []string{r.build, r.log}
	if r.o.LogDir != "" {
		leftovers = append(leftovers, r.o.LogDir)
	}
	if r.inside {
		leftovers = append(leftovers, r.fs.PathJoin(r.o.DataDir, LogName), r.fs.PathJoin(r.o.DataDir, StoreName))
	} else {
		leftovers = append(leftovers, r.o.DataDir)
	}
	var failed error
	for _, name := range leftovers {
		if err := r.fs.RemoveAll(name); err != nil {
			failed = errors.Join(failed, fmt.Errorf("restore: remove %s, which is not complete: %w", name, err))
		}
	}
	return failed
}
