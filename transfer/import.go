package transfer

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/restore"
	"quorate.dev/quorate/storage"
)

// Options says where to.
type Options struct {
	DataDir string // must not exist, or be empty
	LogDir  string // of the target, must not exist; "" is inside DataDir

	// FS holds what an import writes; nil means the operating system's.
	FS vfs.FS
	// Clock measures; nil is the machine's.
	Clock clock.Clock
	// Progress, if not nil, is told at the start of each stage and now and then.
	Progress func(stage string, done, total int64)
}

// Report says what was brought over.
type Report struct {
	From     string `json:"from"`
	To       string `json:"to"`
	Release  string `json:"etcd"` // that wrote or will read it
	Cluster  string `json:"cluster_id"`
	Member   string `json:"member_id"`
	Name     string `json:"name"`
	Members  int    `json:"members"`
	Contents `json:"contents"`
	Log      LogPart  `json:"log"`
	V2       V2Part   `json:"v2"`
	Hashes   []Hash   `json:"hashes"` // equal on both sides
	Notes    []string `json:"notes,omitempty"`
	Seconds  float64  `json:"seconds"`
}

// Contents counts what the store holds.
type Contents struct {
	Revision  ids.Revision `json:"revision"`
	Compacted ids.Revision `json:"compacted_revision"`
	Records   int64        `json:"records"` // of keys, deletions included
	Bytes     int64        `json:"bytes"`   // of all pairs
	Leases    int          `json:"leases"`
	Users     int          `json:"users"`
	Roles     int          `json:"roles"`
	Alarms    int          `json:"alarms"`
}

// LogPart describes the log.
type LogPart struct {
	Index   uint64 `json:"index"` // the entry that the store covers
	Term    uint64 `json:"term"`
	Entries int    `json:"entries"` // after it
	Commit  uint64 `json:"commit"`
}

// bytesPerAppend is how many bytes of entries are written to the log at a time.
const bytesPerAppend = 2 << 20

// importer is one import.
type importer struct {
	s      *Source
	o      Options
	began  time.Time
	report Report
	tr     translator
}

// Import makes a data directory of ours. What it refuses to write over is told by an error that wraps restore.ErrOccupied.
func Import(ctx context.Context, s *Source, o Options) (*Report, error) {
	if o.Clock == nil {
		o.Clock = clock.Real()
	}
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	i := &importer{s: s, o: o, began: o.Clock.Now(), tr: translator{keepV2: s.tree.rows != nil}}
	me, _ := find(s.Members, s.Self)
	i.report = Report{From: s.Path, To: o.DataDir, Release: s.Release, Cluster: s.Cluster.String(), Member: s.Self.String(), Name: me.Name, Members: len(s.Members)}
	job, err := restore.New(restore.Options{
		File: s.file.Path(), DataDir: o.DataDir, LogDir: o.LogDir, Members: s.Members, FS: o.FS, SkipChecksum: s.log != nil || s.skip,
		Progress: func(p restore.Progress) { o.Progress(p.Stage.String(), p.Done, p.Total) },
		Origin: &restore.Origin{
			Extra:   s.addTree,
			Cluster: s.Cluster, Self: s.Self, Mark: s.facts.mark, Hard: s.hard, Removed: s.facts.removed,
			Entries: func(write func([]*raftpb.Entry) error) error { return i.entries(ctx, write) },
			Check:   func(r storage.Reader) error { return i.check(ctx, r) },
		},
	})
	if err != nil {
		return nil, err
	}
	result, err := job.Run(ctx, s.file)
	if err != nil {
		return nil, err
	}
	r := &i.report
	r.Revision, r.Records, r.Bytes, r.Compacted = result.Revision, result.Records, result.Bytes, s.facts.compacted
	r.Log.Index, r.Log.Term, r.Log.Commit = uint64(s.facts.mark.Index), uint64(s.facts.mark.Term), s.hard.GetCommit()
	r.V2 = s.tree.V2Part
	if i.tr.keepV2 && (s.tree.Keys > 0 || i.tr.v2 > 0) {
		s.note("%d keys of the v2 API were brought over, at index %d, and %d of its requests that come after them in the log: clients reach them with --enable-v2", s.tree.Keys, s.tree.Index, i.tr.v2)
	}
	r.Notes = append(slices.Clone(s.Notes), r.Notes...)
	r.Seconds = o.Clock.Now().Sub(i.began).Seconds()
	return r, nil
}

// entries hands the log after the mark over, in parts.
func (i *importer) entries(ctx context.Context, write func([]*raftpb.Entry) error) error {
	if i.s.log == nil {
		return nil
	}
	var part []*raftpb.Entry
	bytes := 0
	err := i.s.log.Entries(ctx, uint64(i.s.facts.mark.Index), func(e *raftpb.Entry) error {
		e, err := i.tr.entry(e)
		if err == nil {
			err = plainPassword(e)
		}
		if err != nil {
			return err
		}
		part, bytes = append(part, e), bytes+size(e)
		i.report.Log.Entries++
		if bytes < bytesPerAppend {
			return nil
		}
		err = write(part)
		part, bytes = part[:0], 0
		return err
	})
	if err == nil && len(part) > 0 {
		err = write(part)
	}
	return err
}

// errDiffers is wrapped by the error of a verification that failed.
var errDiffers = errors.New("the copy does not hold what the original does")

// check compares the store with the source before it gets its name.
func (i *importer) check(ctx context.Context, r storage.Reader) error {
	if err := i.count(r); err != nil {
		return err
	}
	newest, err := newestRevision(r)
	if err != nil {
		return err
	}
	compacted := i.s.facts.compacted
	newest = max(newest, compacted, 1)
	at := samples(compacted, newest)
	total, pass := i.s.file.PagesSize(), ""
	pairs := filePairs(ctx, i.s.file, func(n int64) { i.o.Progress("hashing"+pass, n, total) })
	theirs, err := Hashes(func(visit func(key, value []byte) error) error {
		defer func() { pass = ", second pass" }()
		return pairs(visit)
	}, compacted, at)
	if err != nil {
		return err
	}
	i.o.Progress("comparing", 0, 0)
	if err := compare(r, compacted, theirs); err != nil {
		return err
	}
	i.report.Hashes = theirs
	return i.compareLive(theirs[len(theirs)-1], compacted)
}

// compareLive compares with what the member itself answers, if it can be asked.
func (i *importer) compareLive(head Hash, compacted ids.Revision) error {
	if i.s.live == nil {
		return nil
	}
	hash, theirs, err := i.s.live(head.Revision)
	switch {
	case err != nil:
		i.report.Notes = append(i.report.Notes, fmt.Sprintf("the server could not be asked for its HashKV at revision %d (%v); the file itself was compared", head.Revision, err))
	case theirs != compacted && (theirs > 0 || compacted > 0):
		i.report.Notes = append(i.report.Notes, fmt.Sprintf("the server has been compacted at revision %d since the snapshot, whose compaction is at %d, so its HashKV is another one; the file itself was compared", theirs, compacted))
	case hash != head.Hash:
		return fmt.Errorf("transfer: %w: HashKV at revision %d is %d at the server and %d in its snapshot", errDiffers, head.Revision, hash, head.Hash)
	default:
		i.report.Notes = append(i.report.Notes, fmt.Sprintf("the server answers the same HashKV, %d, at revision %d", hash, head.Revision))
	}
	return nil
}

// WALDir is where the log of an import lies.
func (o *Options) WALDir() string {
	if o.LogDir != "" {
		return o.LogDir
	}
	return filepath.Join(o.DataDir, restore.LogName)
}
