package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/etcddb"
	"quorate.dev/quorate/internal/etcdwal"
	"quorate.dev/quorate/member"
)

// Kind says what a path leads to.
type Kind int

// The kinds.
const (
	Nothing  Kind = iota // there is nothing
	EtcdDir              // a data directory of etcd
	OwnDir               // a data directory of this store
	File                 // a file, perhaps a snapshot
	OtherDir             // a directory of something else
)

// KindOf looks at a path.
func KindOf(path string) (Kind, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Nothing, nil
	case err != nil:
		return Nothing, err
	case !info.IsDir():
		return File, nil
	}
	for _, probe := range []struct {
		name string
		kind Kind
	}{{"member", EtcdDir}, {"store", OwnDir}, {"proxy", EtcdDir}} {
		if info, err := os.Stat(filepath.Join(path, probe.name)); err == nil && info.IsDir() {
			return probe.kind, nil
		}
	}
	return OtherDir, nil
}

// Source is what a member of etcd knew, open and locked.
type Source struct {
	Path    string // as given
	Release string // of etcd that wrote it, as far as that can be told
	Self    ids.MemberID
	Cluster ids.ClusterID
	Members []member.Member // ascending by id, at the entry that the db covers
	Notes   []string        // what a person should know

	file   *etcddb.File
	facts  *facts
	log    *etcdwal.Log // nil: there is none
	survey *etcdwal.Survey
	hard   *raftpb.HardState
	snap   string // the .snap file that members and keys of the v2 API were read from; "" for none
	tree   treePart
	skip   bool // the file has no checksum
	live   func(ids.Revision) (hash uint32, compacted ids.Revision, err error)
}

// ErrLive is wrapped by the errors about a source that a running etcd has open.
var ErrLive = errors.New("etcd is running on it")

// lockWait is how long a db file is waited for.
const lockWait = time.Second

// openDB opens and locks a db file.
func openDB(ctx context.Context, path string) (*etcddb.File, error) {
	file, err := etcddb.Open(path)
	if err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeoutCause(ctx, lockWait, ErrLive)
	defer cancel()
	if err := file.Lock(wait); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// OpenDir opens a data directory of etcd. walDir is where its log lies, "" for its usual place. Errors that wrap ErrLive or
// etcdwal.ErrLocked say that etcd is running; *etcdwal.DamageError and *etcddb.DamageError where a file is damaged.
func OpenDir(ctx context.Context, dir, walDir string) (*Source, error) {
	s := &Source{Path: dir}
	if err := s.openDir(ctx, dir, walDir); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close releases the files.
func (s *Source) Close() error {
	var failed error
	if s.file != nil {
		failed = s.file.Close()
	}
	if s.log != nil {
		failed = errors.Join(failed, s.log.Close())
	}
	return failed
}

func (s *Source) openDir(ctx context.Context, dir, walDir string) (err error) {
	snaps := filepath.Join(dir, "member", "snap")
	if walDir == "" {
		walDir = filepath.Join(dir, "member", "wal")
	}
	if _, err := os.Stat(filepath.Join(dir, "proxy")); err == nil {
		return fmt.Errorf("transfer: %s is the directory of a proxy of etcd, which holds no data", dir)
	}
	if s.log, err = etcdwal.Open(walDir); err != nil {
		return missing(err, "there is no log of etcd in %s, and without it what the member acknowledged last is lost: name the directory that etcd had as --wal-dir", walDir)
	}
	if err := s.log.Lock(); err != nil {
		return err
	}
	db := filepath.Join(snaps, "db")
	if s.file, err = openDB(ctx, db); err != nil {
		return missing(err, "there is a log of etcd and no file %s, which holds the data of the v3 API. A directory with data of the v2 API alone is for \"quorate migrate\"", db)
	}
	if s.survey, err = s.log.Survey(ctx); err != nil {
		return err
	}
	s.Self, s.Cluster, s.hard = ids.MemberID(s.survey.Member), ids.ClusterID(s.survey.Cluster), s.survey.State
	if t := s.survey.Torn; t != nil {
		s.note("the log ends at offset %d of %s with a record that an interrupted write left incomplete; nobody was told that it had succeeded, and it is left out", t.Offset, t.File)
	}
	if s.survey.Short {
		s.note("the last file of the log ends with a record, with entry %d, where etcd leaves room: if etcd has not repaired it, something cut it, and what the member acknowledged after that entry is missing", s.survey.Last)
	}
	if s.facts, err = readFacts(ctx, s.file); err != nil {
		return err
	}
	if err := s.fresher(ctx, snaps); err != nil {
		return err
	}
	s.Release, s.Members = s.facts.release(), s.facts.members
	if err := s.checkMark(); err != nil {
		return err
	}
	if s.facts.version != "" { // 3.6 and later have neither members nor v2 keys anywhere but in the db
		err = s.checkSelf()
	} else {
		err = s.older(ctx, snaps)
	}
	if err != nil {
		return err
	}
	return s.checkJoined(ctx)
}

// missing words the absence of a file.
func missing(err error, format string, args ...any) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("transfer: "+format+" (%w)", append(args, err)...)
	}
	return err
}

func (s *Source) note(format string, args ...any) {
	s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
}

// fresher takes the database that a leader has sent, when the member was stopped before it took the place of the old one, as etcd
// does when it starts.
func (s *Source) fresher(ctx context.Context, snaps string) error {
	known := s.survey.Snapshots
	if len(known) == 0 || known[len(known)-1].Index <= uint64(s.facts.mark.Index) {
		return nil
	}
	at := known[len(known)-1].Index
	path := filepath.Join(snaps, fmt.Sprintf("%016x.snap.db", at))
	file, err := openDB(ctx, path)
	if err != nil {
		return missing(err, "%s covers the log up to entry %d and the log says that there is a snapshot at entry %d, but the file %s is not there: this member lost data; import another one", s.file.Path(), s.facts.mark.Index, at, path)
	}
	facts, err := readFacts(ctx, file)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	s.note("the database is %s, which the leader had sent and etcd had not put in its place yet", path)
	old := s.file
	s.file, s.facts = file, facts
	return old.Close()
}

// checkMark compares what the db covers with the log.
func (s *Source) checkMark() error {
	mark := &s.facts.mark
	if uint64(mark.Index) > s.survey.Last {
		return &etcdwal.DamageError{File: s.log.Dir(), Reason: fmt.Sprintf("the log ends with entry %d, and %s covers it up to entry %d: it was truncated, files are missing, or the two do not belong together", s.survey.Last, s.file.Path(), mark.Index)}
	}
	if uint64(mark.Index) < s.survey.Start {
		return &etcdwal.DamageError{File: s.log.Segments()[0], Reason: fmt.Sprintf("the log begins after entry %d, and %s covers it up to entry %d: files are missing, or the two do not belong together", s.survey.Start, s.file.Path(), mark.Index)}
	}
	term, known := s.survey.Term(uint64(mark.Index))
	switch {
	case mark.Index == 0:
		mark.Term = 0
	case s.facts.hasTerm && known && term != uint64(mark.Term):
		return fmt.Errorf("transfer: entry %d has term %d in the log %s and term %d in %s: the two do not belong together", mark.Index, term, s.log.Dir(), mark.Term, s.file.Path())
	case !s.facts.hasTerm && !known:
		return fmt.Errorf("transfer: neither %s nor the log %s says of what term entry %d is, up to which the data go: start etcd once, write something, and stop it", s.file.Path(), s.log.Dir(), mark.Index)
	case !s.facts.hasTerm:
		mark.Term = ids.Term(term)
	}
	s.hard = &raftpb.HardState{
		Term: proto.Uint64(max(s.survey.State.GetTerm(), uint64(mark.Term))), Vote: proto.Uint64(s.survey.State.GetVote()),
		Commit: proto.Uint64(max(s.survey.State.GetCommit(), uint64(mark.Index))),
	}
	return nil
}

// checkSelf refuses a member that is not one any more.
func (s *Source) checkSelf() error {
	for _, id := range s.facts.removed {
		if id == s.Self {
			return fmt.Errorf("transfer: member %s, whose directory %s is, was removed from the cluster: import one that is in it", s.Self, s.Path)
		}
	}
	return nil
}

// checkJoined refuses a member that nobody knows: not the db, and not the log after it.
func (s *Source) checkJoined(ctx context.Context) error {
	if _, ok := find(s.Members, s.Self); ok {
		return nil
	}
	err := s.log.Entries(ctx, uint64(s.facts.mark.Index), func(e *raftpb.Entry) error {
		var change raftpb.ConfChange
		if e.GetType() != raftpb.EntryConfChange || proto.Unmarshal(e.GetData(), &change) != nil || ids.MemberID(change.GetNodeId()) != s.Self {
			return nil
		}
		return errEnough
	})
	switch {
	case errors.Is(err, errEnough):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("transfer: the log %s is of member %s, which %s does not know as a member: the two do not belong together", s.log.Dir(), s.Self, s.file.Path())
}

// Name is the name of this member, "" while it has none.
func (s *Source) Name() string {
	m, _ := find(s.Members, s.Self)
	return m.Name
}
