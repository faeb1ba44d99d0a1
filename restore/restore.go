package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/disk"
	"quorate.dev/quorate/internal/etcddb"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/storage"
)

// The parts of a data directory, as package server has them.
const (
	StoreName = "store" // the engine
	LogName   = "wal"   // the raft log, unless it lies elsewhere

	lockName  = "LOCK"
	buildName = ".restoring" // what is being made, beside or inside the target
)

// Options says what to restore and where to.
type Options struct {
	File    string // in etcd's snapshot format
	DataDir string // must not exist, or be empty
	LogDir  string // must not exist; "" is DataDir/wal

	Self    ids.MemberID
	Members []member.Member // of the new cluster, Self among them

	// Origin, if not nil, makes the directory go on where the file was taken, instead of founding a cluster with Members.
	Origin *Origin

	SkipChecksum bool         // take the file without checksum, or with a wrong one
	Bump         ids.Revision // added to the newest revision; everything before is compacted then; 0 leaves both as they are

	// FS holds what is written; nil means the operating system's. The file is always the operating system's.
	FS vfs.FS
	// Progress, if not nil, is told at the start of each stage and about every 8 MiB.
	Progress func(Progress)
}

// Stage is a part of the work.
type Stage int

// The stages, in order.
const (
	Checking  Stage = iota // the checksum
	Loading                // pairs into the engine
	Verifying              // reading them back
	Finishing              // log, sync, rename
)

// String names a stage for people.
func (s Stage) String() string {
	return [...]string{"checking", "writing", "verifying", "finishing"}[s]
}

// Progress is how far a restore is.
type Progress struct {
	Stage       Stage
	Done, Total int64        // bytes; Total is an estimate of the stage's work, 0 when it is not known
	Newest      ids.Revision // of the keys, before they are bumped; known from Verifying on
}

// Result describes a data directory that was made.
type Result struct {
	Revision ids.Revision // newest, bumped if asked for
	Records  int64        // of keys, deletions included
	Bytes    int64        // of keys and values in all buckets
	Cluster  ids.ClusterID
}

// Restore is one restore that may begin.
type Restore struct {
	o      Options
	fs     vfs.FS
	inside bool   // DataDir exists: it is filled, else it is renamed into place
	build  string // where the data directory is made
	log    string // where the log is made
}

// ErrOccupied is wrapped by New's errors about a target that is there already.
var ErrOccupied = errors.New("the target is not free")

// occupied words the refusal as etcd does.
type occupied string

func (o occupied) Error() string { return string(o) }
func (o occupied) Unwrap() error { return ErrOccupied }

// New looks whether a restore can begin. It changes nothing.
func New(o Options) (*Restore, error) {
	r := &Restore{o: o, fs: o.FS}
	if r.fs == nil {
		r.fs = vfs.Default
	}
	r.o.Members = slices.SortedFunc(slices.Values(o.Members), func(a, b member.Member) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	if o.Origin == nil && !slices.ContainsFunc(o.Members, func(m member.Member) bool { return m.ID == o.Self }) {
		return nil, fmt.Errorf("restore: member %s is not one of the members of the new cluster", o.Self)
	}
	switch names, err := r.fs.List(o.DataDir); {
	case err == nil && (len(names) == 0 || len(names) == 1 && names[0] == buildName):
		r.inside, r.build = true, r.fs.PathJoin(o.DataDir, buildName)
	case !there(r.fs, o.DataDir):
		r.build = o.DataDir + buildName
	default:
		return nil, occupied(fmt.Sprintf("data-dir %q not empty or could not be read", o.DataDir))
	}
	r.log = r.fs.PathJoin(r.build, LogName)
	if o.LogDir != "" {
		if there(r.fs, o.LogDir) {
			return nil, occupied(fmt.Sprintf("wal-dir %q exists", o.LogDir))
		}
		r.log = o.LogDir + buildName
	}
	return r, nil
}

// there says whether a path leads anywhere.
func there(files vfs.FS, path string) bool {
	_, err := files.Stat(path)
	return err == nil
}

// Run restores. When it fails, or ctx ends, everything it has written is removed. A file that is not sound gives a
// *ChecksumError or a *etcddb.DamageError.
func (r *Restore) Run(ctx context.Context, file *etcddb.File) (*Result, error) {
	if !r.o.SkipChecksum {
		if err := Checksum(ctx, file, r.o.Progress); err != nil {
			return nil, err
		}
	}
	unlock, err := r.begin()
	if err != nil {
		return nil, err
	}
	result, err := r.make(ctx, file)
	if err == nil {
		err = r.publish()
	}
	if err != nil {
		return nil, errors.Join(err, r.abandon(), unlock.Close())
	}
	return result, unlock.Close()
}

func (r *Restore) progress(p Progress) {
	if r.o.Progress != nil {
		r.o.Progress(p)
	}
}

// mark is the entry that the new store covers; see the package comment.
func (r *Restore) mark() storage.Mark {
	if r.o.Origin != nil {
		return r.o.Origin.Mark
	}
	return storage.Mark{Index: ids.Index(len(r.o.Members) + 1), Term: 1}
}

func (r *Restore) cluster() ids.ClusterID {
	if r.o.Origin != nil {
		return r.o.Origin.Cluster
	}
	var all []ids.MemberID
	for _, m := range r.o.Members {
		all = append(all, m.ID)
	}
	return member.ClusterIDOf(all)
}

// make builds the directory.
func (r *Restore) make(ctx context.Context, file *etcddb.File) (*Result, error) {
	store := r.fs.PathJoin(r.build, StoreName)
	result, err := r.fill(ctx, file, store)
	if err != nil {
		return nil, err
	}
	r.progress(Progress{Stage: Finishing})
	if err := r.makeLog(); err != nil {
		return nil, err
	}
	result.Cluster = r.cluster()
	return result, disk.SyncDir(r.fs, r.build)
}
