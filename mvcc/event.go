package mvcc

import (
	"fmt"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// EventBatch is everything that one revision changed, in order. It is immutable and shared by all that watch.
type EventBatch struct {
	Revision ids.Revision
	Events   []Event // never empty
	Bytes    int     // memory that it holds, roughly
}

// Event is one change as a watcher sees it. All bytes are shared and immutable.
type Event struct {
	Type   wire.EventType
	Key    []byte
	KV     []byte // wire KeyValue; of a delete only key and mod_revision
	PrevKV []byte // wire KeyValue before the change; nil when there was none, or when it is compacted (catch-up only)
}

// eventBytes is what an event takes besides its key-values.
const eventBytes = 96

func (b *EventBatch) add(e Event) {
	b.Events = append(b.Events, e)
	b.Bytes += eventBytes + len(e.KV) + len(e.PrevKV)
}

// newBatch makes a batch of the given events, which it copies.
func newBatch(rev ids.Revision, events []Event) *EventBatch {
	var b *EventBatch
	if len(events) == 1 { // by far the most frequent: one piece of memory
		one := new(struct {
			EventBatch
			event [1]Event
		})
		b = &one.EventBatch
		b.Events = one.event[:0:1]
	} else {
		b = &EventBatch{Events: make([]Event, 0, len(events))}
	}
	b.Revision = rev
	for i := range events {
		b.add(events[i])
	}
	return b
}

// wire gives the event as a message, with or without the value before it.
func (e *Event) wire(prev bool) wire.Event {
	m := wire.Event{Type: e.Type, KV: e.KV}
	if prev {
		m.PrevKV = e.PrevKV
	}
	return m
}

// Size is the length of what Append writes, in bytes.
func (e *Event) Size(prev bool) int {
	m := e.wire(prev)
	return m.Size()
}

// Append appends the event as mvccpb.Event, with prev_kv if prev is set and there is one.
func (e *Event) Append(dst []byte, prev bool) []byte {
	m := e.wire(prev)
	return m.Append(dst)
}

// scanFactor bounds how much a catch-up read looks at when little of it matches: this many times the bytes asked for.
const scanFactor = 16

// Events reads what happened at revisions from to to, both included, to keys that match says yes to (nil: all). It stops
// after about maxBytes bytes of events, or after limits.WatchBatchRevs revisions with events, or when it has looked at much
// and found little, but never inside a revision. next is the first revision it did not cover: to+1 when it is done.
// Revisions of which nothing matched have no batch.
//
// prev_kv is there when it is readable at the view's compacted revision, as in etcd. Errors: fault.Compacted when from is
// below what is still there; failures of the disk.
func (v *View) Events(from, to ids.Revision, maxBytes int, match func(key []byte) bool) (batches []*EventBatch, next ids.Revision, err error) {
	to = min(to, v.rev)
	if from < v.compacted {
		return nil, from, fault.Compacted
	}
	if from > to {
		return nil, from, nil
	}
	defer v.era.KeepAlive()
	var low, high [1 + tombstoneBytes]byte
	it, err := v.disk.Iter(recordBound(low[:0], from), recordBound(high[:0], to+1))
	if err != nil {
		return nil, from, err
	}
	// The iterator sees one moment. If the floor is not above from after that moment, every record from there on is in it.
	c := catchup{view: v, maxBytes: maxBytes, match: match, next: from}
	if ids.Revision(v.floor.Load()) > from {
		err = fault.Compacted
	} else {
		err = c.read(it, to)
	}
	if closing := it.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return nil, from, err
	}
	return c.batches, c.next, nil
}

// catchup is one run of Events.
type catchup struct {
	view     *View
	match    func(key []byte) bool
	batches  []*EventBatch
	next     ids.Revision
	maxBytes int
	bytes    int // of the batches so far
	seen     int // bytes of the records looked at
}

func (c *catchup) full() bool {
	return c.bytes >= c.maxBytes || c.seen >= scanFactor*c.maxBytes || len(c.batches) >= limits.WatchBatchRevs
}

func (c *catchup) read(it *storage.Iter, to ids.Revision) error {
	var now *EventBatch
	at := ids.Revision(0)
	for ok := it.First(); ok; ok = it.Next() {
		rec, err := parseRecord(it.Key()[1:])
		if err != nil {
			return err
		}
		main := rec.main
		if main != at {
			c.close(now)
			if now = nil; c.full() {
				c.next = main
				return nil
			}
			at = main
		}
		if rec.mark {
			continue
		}
		if c.seen += len(it.Key()); c.match != nil && rec.key != nil && !c.match(rec.key) {
			continue
		}
		kv := it.Value()
		if kv == nil {
			if err := it.Err(); err != nil {
				return err
			}
		}
		c.seen += len(kv)
		if c.match != nil && rec.key == nil && !c.match(wire.KeyOf(kv)) {
			continue
		}
		if now == nil {
			now = &EventBatch{Revision: main}
		}
		if err := c.add(now, kv, main, rec.sub, rec.tombstone); err != nil {
			return err
		}
	}
	if err := it.Err(); err != nil {
		return err
	}
	c.close(now)
	c.next = to + 1
	return nil
}

func (c *catchup) close(b *EventBatch) {
	if b != nil {
		c.batches = append(c.batches, b)
		c.bytes += b.Bytes
	}
}

// add makes the event of one record; kv is valid only during the call.
func (c *catchup) add(b *EventBatch, kv []byte, main ids.Revision, sub uint32, tombstone bool) error {
	e := Event{Type: wire.EventPut, KV: append([]byte(nil), kv...)}
	if tombstone {
		e = Event{Type: wire.EventDelete, KV: deletion(wire.KeyOf(kv), main)}
	}
	if e.Key = wire.KeyOf(e.KV); len(e.Key) == 0 {
		return fmt.Errorf("mvcc: the record of revision %d_%d holds no key: the store is damaged; restore it from a snapshot or another member", main, sub)
	}
	if tombstone || wire.CreateRevisionOf(e.KV) != int64(main) {
		prev, err := c.before(e.Key, main)
		if err != nil {
			return err
		}
		e.PrevKV = prev
	}
	b.add(e)
	return nil
}

// before reads the value that a key had at the revision before main; nil when it had none or when it is compacted.
func (c *catchup) before(key []byte, main ids.Revision) ([]byte, error) {
	v := c.view
	if main-1 < v.compacted {
		return nil, nil
	}
	e, n := v.get(key, main-1)
	if n == nil {
		return nil, nil
	}
	kv, err := v.value(e, n)
	if ids.Revision(v.floor.Load()) > main-1 {
		return nil, nil // overtaken by a compaction
	}
	return kv, err
}

// deletion is the KeyValue of a delete event.
func deletion(key []byte, main ids.Revision) []byte {
	kv := wire.KeyValue{Key: key, ModRevision: int64(main)}
	return wire.AppendKeyValue(make([]byte, 0, kv.Size()), &kv)
}
