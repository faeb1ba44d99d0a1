package mvcc

import (
	"bytes"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/invariant"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// Tx is the changes of one command. They share one main revision and have sub revisions 0, 1, 2 and so on. It is valid from
// Begin to End; its writes cannot be undone, so whatever may be refused is checked before the first of them.
type Tx struct {
	s       *Store
	b       *storage.Batch
	open    bool
	begin   ids.Revision
	events  []Event
	changes []Change
	path    []bool
	err     error
}

// Change says what a Tx did to one key, so that leases can be attached and detached.
type Change struct {
	Type     wire.EventType
	Key      []byte // immutable
	OldLease ids.LeaseID
	NewLease ids.LeaseID
}

// Begin opens the Tx of a command whose records go to b. The one before must have been ended.
func (s *Store) Begin(b *storage.Batch) *Tx {
	invariant.Check(!s.tx.open, "a Tx is open already")
	s.tx = Tx{s: s, b: b, open: true, begin: s.rev, events: emptied(s.tx.events), changes: emptied(s.tx.changes), path: s.tx.path[:0]}
	return &s.tx
}

// scratchMax is how many items of a large command's lists are kept for the next command.
const scratchMax = 4096

// emptied makes a list ready for use again and lets go of what it held.
func emptied[T any](list []T) []T {
	if cap(list) > scratchMax {
		return nil
	}
	clear(list)
	return list[:0]
}

// Changed says whether the Tx has changed any key.
func (t *Tx) Changed() bool { return len(t.changes) > 0 }

// Revision is the revision that a response has at this point: that of the store before the Tx until the first change, one
// more after it.
func (t *Tx) Revision() ids.Revision {
	if t.Changed() {
		return t.begin + 1
	}
	return t.begin
}

// Err says that a value before a change could not be read from the disk: what the Tx wrote must not be committed.
func (t *Tx) Err() error { return t.err }

// value is the KeyValue of the current version of e.
func (t *Tx) value(e keyID, v *version) []byte {
	s := sight{data: t.s.data, disk: t.s.disk.Reader}
	kv, err := s.value(s.data.entry(e), v)
	if err != nil && t.err == nil {
		t.err = err
	}
	return kv
}

// Changes lists the changed keys in order. It is valid until the next Begin.
func (t *Tx) Changes() []Change { return t.changes }

// CheckPut says whether Put may be called: fault.LeaseNotFound when the request names a lease that is not granted,
// fault.KeyNotFound when value or lease are to be kept and the key has none.
func (t *Tx) CheckPut(req *wire.PutRequest, granted func(ids.LeaseID) bool) error {
	if req.Lease != 0 && !granted(ids.LeaseID(req.Lease)) {
		return fault.LeaseNotFound
	}
	if req.IgnoreValue || req.IgnoreLease {
		if _, v := t.s.current(req.Key); v == nil {
			return fault.KeyNotFound
		}
	}
	return nil
}

// Put writes a key. CheckPut has passed. It returns the wire KeyValue before, nil when the key had none; the bytes are
// shared and immutable. The request is copied.
func (t *Tx) Put(req *wire.PutRequest) (prev []byte) {
	e, old := t.s.current(req.Key)
	kv := wire.KeyValue{Key: req.Key, CreateRevision: int64(t.begin + 1), ModRevision: int64(t.begin + 1), Version: 1,
		Value: req.Value, Lease: req.Lease}
	c := Change{Type: wire.EventPut, NewLease: ids.LeaseID(req.Lease)}
	if old != nil {
		prev = t.value(e, old)
		c.OldLease = old.lease
		kv.CreateRevision, kv.Version = int64(old.create), old.number+1
		if req.IgnoreValue {
			kv.Value = wire.ValueOf(prev)
		}
		if req.IgnoreLease {
			c.NewLease = c.OldLease
			kv.Lease = int64(c.OldLease)
		}
	}
	v, b := t.s.data.newVersion(&kv, t.sub())
	c.Key = wire.KeyOf(b)
	t.s.write(t.b, e, v, b)
	t.note(c, Event{Type: wire.EventPut, Key: c.Key, KV: b, PrevKV: t.before(c.Key, old, prev)})
	return prev
}

// DeleteRange deletes the keys of an interval in key order (range_end as in every request) and returns how many there were
// and their wire KeyValues before.
func (t *Tx) DeleteRange(key, end []byte) (deleted int64, prev [][]byte) {
	in := intervalOf(key, end)
	if in.single {
		e, v := t.s.current(key)
		if v == nil {
			return 0, nil
		}
		return 1, [][]byte{t.remove(e, v)}
	}
	var doomed []keyID // collected first: removing changes the tree
	sc := scope{rev: t.Revision(), live: t.s.live.root, exact: true}
	var w walk
	w.start(t.s.data, &sc, in)
	for e, _ := w.next(); e != nil; e, _ = w.next() {
		doomed = append(doomed, w.id)
	}
	if len(doomed) > 0 {
		prev = make([][]byte, 0, len(doomed))
	}
	for _, e := range doomed {
		prev = append(prev, t.remove(e, t.s.data.head(t.s.data.entry(e))))
	}
	return int64(len(doomed)), prev
}

// remove writes the tombstone of a key and returns its KeyValue before.
func (t *Tx) remove(e keyID, old *version) []byte {
	d := t.s.data
	prev := t.value(e, old)
	only := wire.KeyValue{Key: bytesOf(d.key(d.entry(e)))}
	body := wire.AppendKeyValue(make([]byte, 0, only.Size()), &only)
	rec := recordOf{change: change{main: t.begin + 1, sub: t.sub(), tombstone: true}, size: len(body)}
	t.s.write(t.b, e, d.newBare(&rec), body)
	kv := deletion(only.Key, rec.main)
	c := Change{Type: wire.EventDelete, Key: wire.KeyOf(kv), OldLease: old.lease}
	t.note(c, Event{Type: wire.EventDelete, Key: c.Key, KV: kv, PrevKV: t.before(c.Key, old, prev)})
	return prev
}

// before is what watchers are told of a key's value before its change from version old, whose KeyValue is prev: the value at
// the revision before this Tx, also for the second change of a key. A put that creates the key has none, as in etcd.
//
// It is a copy. The value after the change is not: the log of events holds those of a stretch of time, which lie together in
// few slabs that hold little else. The values before lie all over the slabs, and each would keep one in memory.
func (t *Tx) before(key []byte, old *version, prev []byte) []byte {
	if old == nil {
		return nil
	}
	if old.main > t.begin {
		for i := range t.events {
			if bytes.Equal(t.events[i].Key, key) {
				return t.events[i].PrevKV
			}
		}
	}
	return t.s.data.events.Of(prev)
}

func (t *Tx) sub() uint32 { return uint32(len(t.changes)) }

func (t *Tx) note(c Change, e Event) {
	t.changes = append(t.changes, c)
	t.events = append(t.events, e)
}

// Range answers a Range request and sees the Tx's own changes. Requirements and errors as View.Range, without Stale.
func (t *Tx) Range(req *wire.RangeRequest) (*wire.RangeResponse, error) {
	s := t.s.sight(t.Revision())
	resp := new(wire.RangeResponse)
	if err := s.fill(req, resp); err != nil {
		return nil, err
	}
	return resp, nil
}

// End closes the Tx. It returns the events, nil when nothing changed; then no revision was used.
func (t *Tx) End() *EventBatch {
	invariant.Check(t.open, "a Tx is ended twice")
	t.open = false
	if !t.Changed() {
		return nil
	}
	t.s.rev = t.begin + 1
	return newBatch(t.s.rev, t.events)
}
