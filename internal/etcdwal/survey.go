package etcdwal

import (
	"context"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Survey is what a log says as a whole.
type Survey struct {
	Member, Cluster uint64
	State           *raftpb.HardState // the last one; never nil
	// Snapshots are the records of snapshots that are covered by the commit index, ascending by index, at most the newest 64.
	Snapshots []Snapshot
	// The log holds all entries above Start up to Last; Last is Start when it holds none. Start is 0, or below the first
	// entry of the oldest segment that is still there, or the index of a snapshot that the member was sent by its leader.
	Start, Last uint64
	LastTerm    uint64 // of entry Last; 0 when the log does not say
	Torn        *Torn  // left out; nil normally
	Short       bool   // the last file ends with a record: it was cut there, by etcd's repair or by something else
	Replaced    int    // times that entries were replaced by those of another leader

	runs  []run  // terms, ascending by index
	drops []drop // ascending by place; index is then the lowest of all from there on
}

// keptSnapshots bounds Survey.Snapshots. Snapshots are 10,000 entries apart, and etcd keeps five.
const keptSnapshots = 64

// run says that the entries from an index on have a term.
type run struct{ index, term uint64 }

// drop says that entries from an index on that lie before a place were replaced.
type drop struct {
	at    place
	index uint64
}

// Survey reads the whole log, once; a second call returns the same.
func (l *Log) Survey(ctx context.Context) (*Survey, error) {
	if l.survey != nil {
		return l.survey, nil
	}
	s := &surveyor{Survey: Survey{State: &raftpb.HardState{}}, first: l.segments[0].first}
	torn, short, err := l.walk(ctx, 0, s.record)
	if err != nil {
		return nil, err
	}
	s.Short = short
	s.finish(torn)
	if !s.named {
		return nil, &DamageError{File: l.segments[0].path, Reason: "the log does not say which member it belongs to: its metadata are missing"}
	}
	if at := l.segments[len(l.segments)-1].path; s.State.GetCommit() > s.Last {
		return nil, &DamageError{File: at, Offset: s.end, Reason: "the log ends there with entry " + decimal(s.Last) + ", and its own hard state says that the entries up to " +
			decimal(s.State.GetCommit()) + " are committed: it was truncated, or files are missing"}
	}
	l.survey = &s.Survey
	return l.survey, nil
}

// surveyor makes a Survey.
type surveyor struct {
	Survey
	named, begun bool
	first        uint64 // as the name of the first segment says; one above the last entry before it
	end          int64  // offset after the last record
}

func (s *surveyor) record(at place, c *cursor, r record) error {
	s.end = c.next
	switch r.kind {
	case kindMetadata:
		member, cluster, err := decodeMetadata(c, r)
		if err != nil {
			return err
		}
		if s.named && (member != s.Member || cluster != s.Cluster) {
			return c.damaged("it belongs to member %x of cluster %x, and what is before to member %x of cluster %x", member, cluster, s.Member, s.Cluster)
		}
		s.named, s.Member, s.Cluster = true, member, cluster
	case kindState:
		state := &raftpb.HardState{}
		if err := proto.Unmarshal(r.data, state); err != nil {
			return c.damaged("a hard state cannot be decoded: %v", err)
		}
		s.State = state
	case kindSnapshot:
		snap, err := decodeSnapshot(c, r)
		if err != nil {
			return err
		}
		s.snapshot(at, snap)
	case kindEntry:
		e, err := decodeEntry(c, r)
		if err != nil {
			return err
		}
		return s.entry(at, c, e.GetIndex(), e.GetTerm())
	default:
		return c.damaged("there is a record of type %d, which no etcd up to 3.7 writes", r.kind)
	}
	return nil
}

// entry takes an entry, which may replace others.
func (s *surveyor) entry(at place, c *cursor, index, term uint64) error {
	switch {
	case !s.begun:
		s.begun, s.Start, s.Last = true, index-1, index-1
	case index > s.Last+1:
		return c.damaged("entry %d follows entry %d: entries are missing", index, s.Last)
	case index <= s.Last:
		s.Replaced++
		s.drops = append(s.drops, drop{at, index})
		s.Start = min(s.Start, index-1)
		s.forget(index)
	}
	if n := len(s.runs); n == 0 || s.runs[n-1].term != term {
		s.runs = append(s.runs, run{index, term})
	}
	s.Last = index
	return nil
}

// forget takes back the terms from an index on.
func (s *surveyor) forget(index uint64) {
	for n := len(s.runs); n > 0 && s.runs[n-1].index >= index; n-- {
		s.runs = s.runs[:n-1]
	}
}

// snapshot takes a record of a snapshot. One that the log does not reach was sent by a leader, and the log begins anew after it.
func (s *surveyor) snapshot(at place, snap Snapshot) {
	s.Snapshots = append(s.Snapshots, snap)
	if len(s.Snapshots) >= 2*keptSnapshots {
		s.Snapshots = slices.Delete(s.Snapshots, 0, keptSnapshots)
	}
	if !s.begun && (snap.Index == 0 || snap.Index < s.first) {
		return // a snapshot of what an older segment held
	}
	if term, known := s.Term(snap.Index); s.begun && snap.Index <= s.Last && (!known || term == snap.Term) {
		return
	}
	if s.begun && s.Last > s.Start {
		s.drops = append(s.drops, drop{at, 0})
	}
	s.begun, s.Start, s.Last = true, snap.Index, snap.Index
	s.runs = append(s.runs[:0], run{snap.Index, snap.Term})
}

func (s *surveyor) finish(torn *Torn) {
	s.Torn = torn
	s.LastTerm, _ = s.Term(s.Last)
	commit := s.State.GetCommit()
	s.Snapshots = slices.DeleteFunc(s.Snapshots, func(x Snapshot) bool { return x.Index > commit })
	slices.SortStableFunc(s.Snapshots, func(a, b Snapshot) int {
		if a.Index < b.Index {
			return -1
		}
		return 1
	})
	if n := len(s.Snapshots); n > keptSnapshots {
		s.Snapshots = s.Snapshots[n-keptSnapshots:]
	}
	for i := len(s.drops) - 2; i >= 0; i-- {
		s.drops[i].index = min(s.drops[i].index, s.drops[i+1].index)
	}
}

// Term is the term of an entry between Start and Last; false when the log does not say.
func (s *Survey) Term(index uint64) (uint64, bool) {
	if index == 0 {
		return 0, s.Start == 0
	}
	if index > s.Last || len(s.runs) == 0 || index < s.runs[0].index {
		return 0, false
	}
	for _, r := range slices.Backward(s.runs) {
		if r.index <= index {
			return r.term, true
		}
	}
	return 0, false
}

// Entries calls visit for the entries above an index, in order and without those that were replaced later. They may be kept. The
// log must reach back that far: a *DamageError otherwise. Errors of visit end the walk and are returned.
func (l *Log) Entries(ctx context.Context, after uint64, visit func(*raftpb.Entry) error) error {
	s, err := l.Survey(ctx)
	if err != nil {
		return err
	}
	if after < s.Start && s.Last > after {
		return &DamageError{File: l.segments[0].path, Reason: "the log begins with entry " + decimal(s.Start+1) + " and the entries from " + decimal(after+1) + " on are needed: files are missing"}
	}
	if after >= s.Last {
		return nil
	}
	drops, last := s.drops, after
	_, _, err = l.walk(ctx, l.startFor(after), func(at place, c *cursor, r record) error {
		if r.kind != kindEntry {
			return nil
		}
		e, err := decodeEntry(c, r)
		if err != nil {
			return err
		}
		for len(drops) > 0 && !at.before(drops[0].at) {
			drops = drops[1:]
		}
		if e.GetIndex() <= after || len(drops) > 0 && e.GetIndex() >= drops[0].index {
			return nil
		}
		if e.GetIndex() != last+1 {
			return c.damaged("entry %d follows entry %d: entries are missing, or the file has changed since it was read first", e.GetIndex(), last)
		}
		last++
		return visit(e)
	})
	if err == nil && last != s.Last {
		return &DamageError{File: l.segments[len(l.segments)-1].path, Reason: "the log ends with entry " + decimal(last) + " and did so with entry " + decimal(s.Last) + " before: it has changed"}
	}
	return err
}
