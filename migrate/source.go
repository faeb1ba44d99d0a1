package migrate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/internal/etcddb"
	"quorate.dev/quorate/internal/etcdwal"
)

// lockPatience is how long a db file is waited for that another process has open: somebody may just be stopping it.
const lockPatience = 2 * time.Second

// Source is the data directory of a stopped member, locked. Its files are not changed.
type Source struct {
	dir    string
	log    *etcdwal.Log
	survey *etcdwal.Survey
	snap   *raftpb.Snapshot // nil when there is none
	path   string           // of the .snap file
	db     *etcddb.File     // nil when there is none
}

// RefusedError says why a directory is not migrated, and what to do.
type RefusedError struct {
	Path   string
	Reason string
	Do     string
	Err    error // what the reason is; nil when Reason says all
}

// Error names the path and the reason.
func (e *RefusedError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("migrate: %s: %v", e.Reason, e.Err)
	}
	return fmt.Sprintf("migrate: %s: %s", e.Path, e.Reason)
}

// Unwrap returns the cause.
func (e *RefusedError) Unwrap() error { return e.Err }

// Open opens a data directory of etcd and locks it until Close. logDir may be "". Errors: *RefusedError where the directory is not
// what can be migrated, and failures of the disk.
func Open(ctx context.Context, dir, logDir string) (*Source, error) {
	if err := recognise(dir, logDir); err != nil {
		return nil, err
	}
	if logDir == "" {
		logDir = filepath.Join(dir, "member", "wal")
	}
	s := &Source{dir: dir}
	err := s.openLog(ctx, logDir)
	if err == nil {
		err = s.openSnap()
	}
	if err == nil {
		err = s.openDB(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close gives the locks back.
func (s *Source) Close() error {
	var failed error
	if s.log != nil {
		failed = s.log.Close()
	}
	if s.db != nil {
		failed = errors.Join(failed, s.db.Close())
	}
	return failed
}

func exists(parts ...string) bool {
	_, err := os.Stat(filepath.Join(parts...))
	return err == nil
}

// recognise refuses what is no data directory of etcd 2.0.1 to 3.4.
func recognise(dir, logDir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	refuse := func(reason, do string) error { return &RefusedError{Path: dir, Reason: reason, Do: do} }
	switch {
	case !info.IsDir():
		return refuse("it is a file, and the data directory of a member of etcd is needed", "name the directory that etcd was started with (--data-dir)")
	case exists(dir, "member", "snap"):
		return nil
	case exists(dir, "store"):
		return refuse("it is a data directory of Quorate, which has nothing to migrate", "name a data directory of etcd")
	case exists(dir, "proxy"):
		return refuse("it is the directory of a proxy of etcd, which holds no keys", "name the data directory of a member")
	case exists(dir, "log") && exists(dir, "conf"):
		return refuse("it is a data directory of etcd 0.4", "start etcd 2.3 on a copy of it once, which upgrades it, stop that, and migrate the copy")
	case exists(dir, "snap") && exists(dir, "wal"):
		return refuse("it is a data directory of etcd 2.0.0, which has no directory \"member\"", "start etcd 2.3 on a copy of it once, which upgrades it, stop that, and migrate the copy")
	case exists(dir, "member", "wal") && logDir == "":
		return refuse("it has no directory member/snap, which every member of etcd has", "use another copy of the data directory")
	}
	return refuse("it is no data directory of etcd: it has no directory member/snap", "name the directory that etcd was started with (--data-dir)")
}

const (
	doStop    = "stop this member's etcd first, or work on a copy that was made while it was stopped"
	doAnother = "use the data directory of another member, or a backup; nothing was written"
)

func (s *Source) openLog(ctx context.Context, dir string) (err error) {
	if s.log, err = etcdwal.Open(dir); err != nil {
		return s.refused("the log", dir, err)
	}
	if err := s.log.Lock(); err != nil {
		return s.refused("the directory is in use", dir, err)
	}
	if s.survey, err = s.log.Survey(ctx); err != nil {
		return s.refused("the log", dir, err)
	}
	if torn := s.survey.Torn; torn != nil {
		return &RefusedError{Path: torn.File, Reason: fmt.Sprintf("the record at offset %d is incomplete: etcd was interrupted when it wrote it, or the file was cut off", torn.Offset),
			Do: "start this member's etcd once, which repairs its log and fetches what is missing from the others, stop it, check with \"quorate migrate check\" and try again"}
	}
	return nil
}

// refused says what to do about an error of reading.
func (s *Source) refused(what, path string, err error) error {
	var damage *etcdwal.DamageError
	var dbDamage *etcddb.DamageError
	switch {
	case errors.Is(err, etcdwal.ErrLocked):
		return &RefusedError{Path: path, Reason: what, Do: doStop, Err: err}
	case errors.As(err, &damage), errors.As(err, &dbDamage):
		return &RefusedError{Path: path, Reason: what, Do: doAnother, Err: err}
	case errors.Is(err, fs.ErrNotExist):
		return &RefusedError{Path: path, Reason: what, Do: "if the log lies elsewhere, name its directory with --wal-dir", Err: err}
	}
	return fmt.Errorf("migrate: %s: %w", what, err)
}

// openSnap reads the newest .snap file.
func (s *Source) openSnap() error {
	dir := filepath.Join(s.dir, "member", "snap")
	files, err := etcdwal.Snaps(dir)
	if err != nil {
		return s.refused("the snapshots", dir, err)
	}
	if len(files) == 0 {
		return nil
	}
	s.path = files[0].Path
	if s.snap, err = etcdwal.ReadSnap(s.path); err != nil {
		refused := &RefusedError{Path: s.path, Reason: "the newest snapshot", Do: doAnother, Err: err}
		if len(files) > 1 && files[1].Index >= s.survey.Start {
			refused.Do = fmt.Sprintf("the log reaches back to the one before (%s): move the damaged file out of a copy of the directory and migrate the copy, which gives the same keys", filepath.Base(files[1].Path))
		}
		return refused
	}
	return s.fits()
}

// fits says whether snapshot and log are of one history without a gap.
func (s *Source) fits() error {
	at := s.snap.GetMetadata()
	index, term := at.GetIndex(), at.GetTerm()
	reason := ""
	switch known, ok := s.survey.Term(index); {
	case index > s.survey.Last:
		reason = fmt.Sprintf("it covers entries up to %d, and the log ends with entry %d: the end of the log is missing", index, s.survey.Last)
	case ok && known != term:
		reason = fmt.Sprintf("it ends with entry %d of term %d, and the log has that entry in term %d: they are not of one member", index, term, known)
	case index < s.survey.Start:
		reason = fmt.Sprintf("it covers entries up to %d, and the log begins with entry %d: what is between is missing", index, s.survey.Start+1)
	}
	if reason == "" {
		return nil
	}
	return &RefusedError{Path: s.path, Reason: reason, Do: doAnother}
}

// openDB opens the file with the keys of the v3 API, which etcd 2 does not have.
func (s *Source) openDB(ctx context.Context) error {
	path := s.dbPath()
	file, err := etcddb.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return s.refused("the file of the v3 API", path, err)
	}
	s.db = file
	ctx, cancel := context.WithTimeoutCause(ctx, lockPatience, fmt.Errorf("waited %s for it", lockPatience))
	defer cancel()
	if err := file.Lock(ctx); err != nil {
		return &RefusedError{Path: path, Reason: "the directory is in use", Do: doStop, Err: err}
	}
	return nil
}

func (s *Source) dbPath() string { return filepath.Join(s.dir, "member", "snap", "db") }

// Position is how far a stopped member was.
type Position struct {
	Path            string
	Member, Cluster uint64
	Last, LastTerm  uint64 // the last entry of the log; what a migration of this member covers
	Commit          uint64 // the last entry that this member knew to be committed
	term            func(uint64) (uint64, bool)
}

// TermAt is the term of one of the entries in the log; false when it does not say.
func (p *Position) TermAt(index uint64) (uint64, bool) { return p.term(index) }

// Position says how far the member was.
func (s *Source) Position() *Position {
	v := s.survey
	return &Position{Path: s.dir, Member: v.Member, Cluster: v.Cluster, Last: v.Last, LastTerm: v.LastTerm, Commit: v.State.GetCommit(), term: v.Term}
}
