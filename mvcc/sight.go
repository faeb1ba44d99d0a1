package mvcc

import (
	"errors"
	"fmt"
	"sync/atomic"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/arena"
	"quorate.dev/quorate/internal/invariant"
	"quorate.dev/quorate/storage"
)

// Stale says that a view is too old to answer about its own revision: a compaction above it removed what it would need.
// The reader takes the newest view and starts again, authorization included. It is not an answer for a client.
var Stale = errors.New("mvcc: this view is older than the newest compaction: take the newest view and ask again")

// keySet is the root of a tree of live keys and the revisions for which it is exact. Sets form a chain from the newest to
// the oldest that is kept.
//
// A set is exact from its last change up to the first change of the next newer set; between the first and the last change
// of one publication no set is exact.
type keySet struct {
	root  node
	first ids.Revision // the first revision of the changes that made this set from the older one
	last  ids.Revision // the last of them
	bytes int          // of the nodes that this set does not share with the older one
	older atomic.Pointer[keySet]
	until atomic.Int64 // the first revision of the changes that made the next newer set; 0 while this is the newest
}

// sight is what one reader sees: an immutable View, or the writer's own state inside a Tx. Readers of other goroutines end
// each use of it with era.KeepAlive.
type sight struct {
	data      *data
	era       *arena.Era
	keys      *keySet // the live keys at rev
	dead      node    // keys with retained history but no value at rev
	table     *table
	rev       ids.Revision
	compacted ids.Revision
	disk      storage.Reader
	// floor is the revision below which the writer may have cut version chains. It only grows, and it is raised before
	// anything is cut, so a reader that finds it at or below its revision after reading has read everything.
	floor *atomic.Int64
	pins  *pins // nil for the writer, whose newest set still changes
}

// scope is the set of keys to look at for a revision: live alone when that is exact, else live and dead with every key
// looked at.
type scope struct {
	rev   ids.Revision
	live  node
	dead  node // none when live is exact
	exact bool
	set   *keySet // that live is the root of; nil when it is not exact
}

// resolve checks the revision of a request against the view and finds its scope. asked <= 0 means the current revision.
func (s *sight) resolve(asked int64) (scope, error) {
	rev := ids.Revision(asked)
	switch {
	case rev > s.rev:
		return scope{}, fault.FutureRev
	case rev <= 0:
		rev = s.rev
	}
	if rev < s.compacted {
		return scope{}, fault.Compacted
	}
	until := s.rev + 1 // the sets looked at so far are of revisions at or above this
	for k := s.keys; k != nil && rev < until; k = k.older.Load() {
		if rev >= k.last {
			return scope{rev: rev, live: k.root, exact: true, set: k}, nil
		}
		until = k.first
	}
	if k := s.pins.find(rev); k != nil {
		return scope{rev: rev, live: k.root, exact: true, set: k}, nil
	}
	return scope{rev: rev, live: s.keys.root, dead: s.dead}, nil
}

// confirm ends a read at rev. It returns err unless the writer may have removed something that the read needed; then it
// says that instead. lost says that a version or record was missing, which nothing else can explain.
func (s *sight) confirm(rev ids.Revision, lost bool, err error) error {
	if ids.Revision(s.floor.Load()) > rev {
		if rev == s.rev {
			return Stale
		}
		return fault.Compacted
	}
	if err == nil && lost {
		invariant.Failed("a key of the set of revision %d has no value at it (view at %d, compacted %d)", rev, s.rev, s.compacted)
	}
	return err
}

// value returns the wire form of a live version, from memory or from the engine. The caller confirms the read afterwards,
// also when this fails.
func (s *sight) value(e *entry, v *version) ([]byte, error) {
	if kv := s.data.kv(v); kv != nil {
		return kv, nil
	}
	var buf [128]byte
	key := s.data.key(e)
	kv, ok, err := s.disk.Get(recordKey(buf[:0], key, v))
	switch {
	case err == nil && ok && len(kv) != int(v.n):
		err = fmt.Errorf("mvcc: the record of key %q at revision %d_%d has %d bytes instead of %d: the store is damaged; restore it from a snapshot or another member", key, v.main, v.sub, len(kv), v.n)
	case err == nil && !ok:
		err = fmt.Errorf("mvcc: the record of key %q at revision %d_%d is missing: the store is damaged; restore it from a snapshot or another member", key, v.main, v.sub)
	}
	return kv, err
}

// get returns the version of key at rev, nil for none.
func (s *sight) get(key []byte, rev ids.Revision) (*entry, *version) {
	id := s.table.find(textOf(key))
	if id == 0 {
		return nil, nil
	}
	e := s.data.entry(id)
	if v := s.data.at(e, rev); v.live() {
		return e, v
	}
	return nil, nil
}

// interval is the key interval of a request: exactly key when single, all keys at or above key when open, else [key, end).
type interval struct {
	key, end     string
	single, open bool
}

// intervalOf reads key and range_end as every request does: no end is one key, an end of one zero byte is no bound.
func intervalOf(key, end []byte) interval {
	switch {
	case len(end) == 0:
		return interval{key: textOf(key), single: true}
	case len(end) == 1 && end[0] == 0:
		return interval{key: textOf(key), open: true}
	}
	return interval{key: textOf(key), end: textOf(end)}
}

func (i *interval) holds(key string) bool { return i.open || key < i.end }

// empty says that no key can be in the interval.
func (i *interval) empty() bool { return !i.single && !i.open && i.end <= i.key }

// count returns the number of entries of an exact set in the interval, which is not single.
func (i *interval) count(d *data, root node) int {
	if i.empty() {
		return 0
	}
	low := root.rank(d, i.key)
	if i.open {
		return root.size() - low
	}
	return root.rank(d, i.end) - low
}

// walk gives the keys of a scope in an interval that have a value, in order.
type walk struct {
	data   *data
	scope  scope
	within interval
	live   cursor
	dead   cursor
	a, b   item  // the next ones of live and dead
	id     keyID // of what next returned
	lost   bool  // an exact set had a key without a value: see sight.confirm
}

// item is an entry and its key, which is loaded only if needed; id is 0 at the end.
type item struct {
	id  keyID
	key string
}

func (w *walk) start(d *data, sc *scope, in interval) {
	w.data, w.scope, w.within = d, *sc, in
	if in.empty() {
		return
	}
	w.live.seek(d, sc.live, in.key)
	w.a = w.bounded(w.live.next())
	if sc.dead != (node{}) {
		w.dead.seek(d, sc.dead, in.key)
		w.b = w.bounded(w.dead.next())
	}
}

// bounded makes an item of an entry within the interval. Where all of an exact set are within it and none is to be compared
// with another set's, the key is not loaded.
func (w *walk) bounded(id keyID) item {
	if id == 0 || w.within.open && w.scope.dead == (node{}) {
		return item{id: id}
	}
	key := w.data.key(w.data.entry(id))
	if !w.within.holds(key) {
		return item{}
	}
	return item{id, key}
}

// next returns the next key and its version; nil at the end.
func (w *walk) next() (*entry, *version) {
	for {
		w.id = w.a.id
		switch {
		case w.a.id == 0 && w.b.id == 0:
			return nil, nil
		case w.a.id == 0 || w.b.id != 0 && w.b.key < w.a.key:
			w.id = w.b.id
			w.b = w.bounded(w.dead.next())
		default:
			w.a = w.bounded(w.live.next())
		}
		e := w.data.entry(w.id)
		if v := w.data.at(e, w.scope.rev); v.live() {
			return e, v
		}
		w.lost = w.lost || w.scope.exact
	}
}
