package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sys/unix"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/internal/disk"
	"quorate.dev/quorate/internal/etcddb"
	"quorate.dev/quorate/internal/etcdwal"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/restore"
	"quorate.dev/quorate/snapshot"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/v2store"
	"quorate.dev/quorate/wal"
)

// ExportOptions says where to, and for which etcd.
type ExportOptions struct {
	To      string // must not exist, or be an empty directory
	Release string // "3.6" or "3.7", "" for the version of the cluster
	LogDir  string // of the source, "" for its usual place

	Clock    clock.Clock                           // nil is the machine's
	Progress func(stage string, done, total int64) // may be nil
}

// exportName is added to the name of what is being made.
const exportName = ".exporting"

// exporter is one export.
type exporter struct {
	ctx    context.Context
	o      ExportOptions
	began  time.Time
	build  string
	report Report

	// What is to be there.
	self    ids.MemberID
	cluster ids.ClusterID
	mark    storage.Mark
	hard    *raftpb.HardState
	entries []*raftpb.Entry
	members []member.Member
	removed []ids.MemberID
	version string // of the cluster
}

// ExportStore makes a data directory of etcd out of one of ours, whose server must not run.
func ExportStore(ctx context.Context, dir string, o ExportOptions) (*Report, error) {
	x, err := newExporter(ctx, dir, o)
	if err != nil {
		return nil, err
	}
	if m, err := snapshot.Pending(vfs.Default, dir); err != nil || m != nil {
		return nil, errors.Join(err, fmt.Errorf("transfer: %s holds a snapshot of another member, which takes the place of its store at the next start: start the server once", dir))
	}
	engine, err := storage.Open(filepath.Join(dir, restore.StoreName), storage.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	frozen := engine.Freeze()
	report, err := x.run(func() error { return x.fromStore(frozen, dir) })
	return report, errors.Join(err, frozen.Close(), engine.Close())
}

// ExportSnapshot makes a data directory of etcd out of a snapshot.
func ExportSnapshot(ctx context.Context, s *Source, o ExportOptions) (*Report, error) {
	x, err := newExporter(ctx, s.Path, o)
	if err != nil {
		return nil, err
	}
	if !s.facts.hasTerm || s.log != nil {
		return nil, fmt.Errorf("transfer: %s is not of Quorate nor of etcd 3.5 or later: import it first", s.Path)
	}
	return x.run(func() error { return x.fromSnapshot(s) })
}

func newExporter(ctx context.Context, from string, o ExportOptions) (*exporter, error) {
	if o.Clock == nil {
		o.Clock = clock.Real()
	}
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	if o.Release != "" && o.Release != "3.6" && o.Release != "3.7" {
		return nil, fmt.Errorf("transfer: directories are made for etcd 3.6 and 3.7, not for %q", o.Release)
	}
	o.To = filepath.Clean(o.To)
	switch names, err := os.ReadDir(o.To); {
	case err == nil && len(names) > 0:
		return nil, fmt.Errorf("transfer: %s is not empty: %w", o.To, restore.ErrOccupied)
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("transfer: %w", err)
	}
	return &exporter{ctx: ctx, o: o, began: o.Clock.Now(), build: o.To + exportName, report: Report{From: from, To: o.To}}, nil
}

// run builds beside the target and renames.
func (x *exporter) run(fill func() error) (*Report, error) {
	if err := disk.MakeDir(vfs.Default, x.build); err != nil {
		return nil, fmt.Errorf("transfer: make directory %s: %w", x.build, err)
	}
	lock, err := os.Open(x.build)
	if err != nil {
		return nil, fmt.Errorf("transfer: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("transfer: another export to %s is at work (%s): %w", x.o.To, x.build, err)
	}
	err = os.RemoveAll(x.path()) // what an earlier one left when it was killed
	for _, part := range []string{"snap", "wal"} {
		if err == nil {
			err = disk.MakeDir(vfs.Default, x.path(part))
		}
	}
	if err == nil {
		err = fill()
	}
	if err == nil {
		err = x.publish()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(x.build))
	}
	x.report.Seconds = x.o.Clock.Now().Sub(x.began).Seconds()
	return &x.report, nil
}

// path is inside the directory "member" of what is being made.
func (x *exporter) path(parts ...string) string {
	return filepath.Join(append([]string{x.build, "member"}, parts...)...)
}

func (x *exporter) publish() error {
	if err := context.Cause(x.ctx); err != nil {
		return err
	}
	if err := disk.SyncDir(vfs.Default, x.path()); err != nil {
		return fmt.Errorf("transfer: %w", err)
	}
	if err := errors.Join(disk.SyncDir(vfs.Default, x.build), os.Rename(x.build, x.o.To)); err != nil {
		return fmt.Errorf("transfer: %w", err)
	}
	return disk.SyncDir(vfs.Default, filepath.Dir(x.o.To))
}

// fromStore reads a store of ours and its log.
func (x *exporter) fromStore(frozen *storage.Frozen, dir string) error {
	x.mark = frozen.Mark()
	logDir := x.o.LogDir
	if logDir == "" {
		logDir = filepath.Join(dir, restore.LogName)
	}
	replay, err := wal.Read(logDir, wal.Options{}, x.mark.Index)
	if err != nil {
		return err
	}
	x.self, x.cluster, x.hard = replay.Metadata.Member, replay.Metadata.Cluster, replay.HardState
	if commit := uint64(x.mark.Index); x.hard.GetCommit() < commit {
		x.hard.Commit = &commit
	}
	if x.entries, err = x.forEtcd(replay.Entries); err != nil {
		return err
	}
	register, err := member.Open(frozen, 0)
	if err != nil {
		return err
	}
	x.members = register.View().Members()
	if x.report.Contents, err = countSmall(frozen); err != nil {
		return err
	}
	if err := x.leaveTree(frozen); err != nil {
		return err
	}
	total := int64(0)
	if err := etcddb.ExportWith(x.ctx, frozen, x.path("snap", "db"), func(n int64) { total = n; x.o.Progress("writing", n, 0) }); err != nil {
		return err
	}
	x.report.Bytes = total
	return x.finish(func(theirs []Hash, compacted ids.Revision) error { return compare(frozen, compacted, theirs) })
}

// leaveTree says what is not exported.
func (x *exporter) leaveTree(r storage.Reader) error {
	tree, err := v2store.Open(r)
	if err != nil {
		return err
	}
	tree.Publish().Walk("/1", 0, func(n *v2store.Node) bool {
		if !n.Dir {
			x.report.V2.Keys++
		}
		return true
	})
	if x.report.V2.Index = tree.Index(); x.report.V2.Keys > 0 {
		x.report.Notes = append(x.report.Notes, fmt.Sprintf("%d keys of the v2 API were left out: no etcd since 3.6 has it", x.report.V2.Keys))
	}
	return nil
}

// forEtcd are the entries after the mark, without what etcd 3.6 and later do not know.
func (x *exporter) forEtcd(entries []*raftpb.Entry) (out []*raftpb.Entry, err error) {
	v2 := 0
	for _, e := range entries {
		if e.GetIndex() <= uint64(x.mark.Index) {
			continue
		}
		if e.GetType() == raftpb.EntryNormal {
			c, err := command.Decode(e.GetData())
			if err != nil {
				return nil, fmt.Errorf("transfer: entry %d: %w", e.GetIndex(), err)
			}
			if field := c.Kind.Row().Field; c.Kind != command.Empty && (field == 0 || c.Kind == command.V2) {
				e, v2 = withData(e, nil), v2+1
			}
			if c.Kind == command.ClusterVersion && x.o.Release == "3.6" {
				e = withData(e, nil)
			}
		}
		out = append(out, e)
	}
	if v2 > 0 {
		x.report.Notes = append(x.report.Notes, fmt.Sprintf("%d entries of the log hold requests of the v2 API, which no etcd since 3.6 has, and were left out", v2))
	}
	return out, nil
}

// fromSnapshot copies a file of etcd's format.
func (x *exporter) fromSnapshot(s *Source) error {
	if !s.skip {
		if err := restore.Checksum(x.ctx, s.file, func(p restore.Progress) { x.o.Progress(p.Stage.String(), p.Done, p.Total) }); err != nil {
			return err
		}
	}
	x.self, x.cluster, x.mark, x.hard, x.members = s.Self, s.Cluster, s.facts.mark, s.hard, s.Members
	x.report.Notes = append(x.report.Notes, s.Notes...)
	if err := x.copyPages(s.file); err != nil {
		return err
	}
	return x.finish(func(theirs []Hash, compacted ids.Revision) error {
		ours, err := Hashes(filePairs(x.ctx, s.file, nil), compacted, revisions(theirs))
		if err == nil && !slices.Equal(ours, theirs) {
			err = fmt.Errorf("transfer: %w: hashes %v and %v", errDiffers, ours, theirs)
		}
		if err == nil && s.live != nil {
			i := &importer{s: s}
			err = i.compareLive(theirs[len(theirs)-1], compacted)
			x.report.Notes = append(x.report.Notes, i.report.Notes...)
		}
		return err
	})
}

func revisions(hashes []Hash) (out []ids.Revision) {
	for _, h := range hashes {
		out = append(out, h.Revision)
	}
	return out
}

// copyStep is how many bytes are copied between two looks at the context.
const copyStep = 8 << 20

// copyPages copies a file without its checksum.
func (x *exporter) copyPages(file *etcddb.File) error {
	out, err := os.OpenFile(x.path("snap", "db"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("transfer: %w", err)
	}
	total := file.PagesSize()
	in := io.NewSectionReader(file.Handle(), 0, total)
	for done := int64(0); done < total && err == nil; done += copyStep {
		x.o.Progress("writing", done, total)
		if err = context.Cause(x.ctx); err == nil {
			_, err = io.CopyN(out, in, min(copyStep, total-done))
		}
	}
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return fmt.Errorf("transfer: copy %s: %w", file.Path(), err)
	}
	return nil
}

// finish writes the log, and reads everything back. same compares the hashes of what was written with those of the source.
func (x *exporter) finish(same func([]Hash, ids.Revision) error) error {
	db := x.path("snap", "db")
	if x.o.Release != "" {
		if err := etcddb.SetVersion(db, x.o.Release+".0"); err != nil {
			return err
		}
	}
	file, err := etcddb.Open(db)
	if err != nil {
		return err
	}
	defer file.Close()
	f, err := readFacts(x.ctx, file)
	if err != nil {
		return err
	}
	if f.mark != x.mark {
		return fmt.Errorf("transfer: %s covers entry %s and should cover %s", db, f.mark, x.mark)
	}
	x.removed, x.version = f.removed, f.cluster
	if err := x.writeLog(); err != nil {
		return err
	}
	return x.verify(file, f, same)
}

// verify reads back what was written.
func (x *exporter) verify(file *etcddb.File, f *facts, same func([]Hash, ids.Revision) error) (err error) {
	r, total := &x.report, file.PagesSize()
	newest := f.compacted
	pairs := filePairs(x.ctx, file, func(n int64) { x.o.Progress("hashing", n, total) })
	records := int64(0)
	if err := pairs(func(key, _ []byte) error {
		main, _, err := revisionOf(key)
		newest, records = max(newest, main), records+1
		return err
	}); err != nil {
		return err
	}
	newest = max(newest, 1)
	if r.Hashes, err = Hashes(pairs, f.compacted, samples(f.compacted, newest)); err != nil {
		return err
	}
	x.o.Progress("comparing", 0, 0)
	if err := same(r.Hashes, f.compacted); err != nil {
		return err
	}
	if err := x.verifyLog(); err != nil {
		return err
	}
	me, _ := find(x.members, x.self)
	r.Release, r.Cluster, r.Member, r.Name, r.Members = f.release(), x.cluster.String(), x.self.String(), me.Name, len(x.members)
	r.Revision, r.Compacted, r.Records = newest, f.compacted, records
	r.Log = LogPart{Index: uint64(x.mark.Index), Term: uint64(x.mark.Term), Entries: len(x.entries), Commit: x.hard.GetCommit()}
	return nil
}

// verifyLog reads the log back.
func (x *exporter) verifyLog() error {
	l, err := etcdwal.Open(x.path("wal"))
	if err != nil {
		return err
	}
	s, err := l.Survey(x.ctx)
	if err != nil {
		return err
	}
	last := uint64(x.mark.Index) + uint64(len(x.entries))
	if s.Last != last || s.Member != uint64(x.self) || s.Cluster != uint64(x.cluster) || s.State.GetCommit() != x.hard.GetCommit() || s.Torn != nil {
		return fmt.Errorf("transfer: the log that was written reads back as %d entries of member %x, committed up to %d; it should be %d of member %s, up to %d",
			s.Last, s.Member, s.State.GetCommit(), last, x.self, x.hard.GetCommit())
	}
	return nil
}
