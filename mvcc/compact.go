package mvcc

import (
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/storage"
)

// Compact makes revisions below rev unreadable from the next View on, and writes that intention to the batch; Scrub removes
// them. Errors: fault.Compacted when rev is not above the last compaction, fault.FutureRev.
func (s *Store) Compact(b *storage.Batch, rev ids.Revision) error {
	switch {
	case rev <= s.compacted:
		return fault.Compacted
	case rev > s.rev:
		return fault.FutureRev
	}
	s.compacted = rev
	var buf [revisionBytes]byte
	b.Set(scheduledKey, appendRevision(buf[:0], rev, 0, false))
	s.garbage.pending = true
	return nil
}

// Scrubbing says whether a compaction has records left to remove.
func (s *Store) Scrubbing() bool { return s.garbage.pending }

// Scrub removes at most max records that the last compaction made unreadable, from memory and through the batch from the
// engine, and says whether there may be more. The last step writes that the compaction is finished. It costs what it
// removes. No Tx may be open.
func (s *Store) Scrub(b *storage.Batch, max int) (more bool) {
	if !s.garbage.pending {
		return false
	}
	// Readers that find the floor at or below their revision after they have read know that nothing below was cut before.
	s.floor.Store(int64(s.compacted))
	s.pins.release(s.compacted)
	for range max {
		if !s.scrubOne(b) {
			var buf [revisionBytes]byte
			b.Set(finishedKey, appendRevision(buf[:0], s.compacted, 0, false))
			s.garbage.pending = false
			return false
		}
	}
	return true
}

// scrubOne removes one record; false says that there is none to remove.
//
// A superseded version and a tombstone of one key are never due at the same revision out of order: the tombstone is due
// above its main revision and the version below it at that revision. So versions that are due go first, and whatever is
// behind a version that goes has gone before it, but for tombstones that stayed in the chain below.
func (s *Store) scrubOne(b *storage.Batch) bool {
	if g, ok := s.garbage.versions.peek(); ok {
		if v := s.data.version(g.v); v.main <= s.compacted {
			s.garbage.versions.pop()
			old := versionID(v.prev.Load())
			s.erase(b, g.e, old)
			v.prev.Store(0)
			s.cut(old)
			return true
		}
	}
	if g, ok := s.garbage.tombstones.peek(); ok && s.buried(g.v) {
		s.garbage.tombstones.pop()
		s.erase(b, g.e, g.v)
		s.bury(g)
		return true
	}
	return false
}

// buried reports whether a tombstone is below what can be read or watched. That at the compacted revision itself is not.
func (s *Store) buried(id versionID) bool {
	main := s.data.version(id).main
	if main == s.compacted && (canary.On(canary.RevisionBack) && main == s.rev || canary.On(canary.GraveForgotten) && s.garbage.forgotten == main) {
		return true
	}
	return main < s.compacted
}

// cut gives up a version that was taken out of its chain, and what is behind it.
func (s *Store) cut(id versionID) {
	for id != 0 {
		v := s.data.version(id)
		older := versionID(v.prev.Load())
		if v.tombstone() && v.gone != erased {
			v.gone = cutOff
		} else {
			s.data.free(id)
		}
		id = older
	}
}

// bury gives up a tombstone whose record was removed. Below a newer version it stays in memory until that version goes: it
// says "no value" as well as the end of the chain does.
func (s *Store) bury(g grave) {
	switch v := s.data.version(g.v); {
	case v.gone == cutOff:
		s.data.free(g.v)
	case versionID(s.data.entry(g.e).head.Load()) == g.v:
		s.dead.remove(g.e)
		s.table.remove(g.e)
		s.data.freeEntry(g.e)
		s.data.free(g.v)
	default:
		v.gone = erased
	}
}

// erase deletes the record of a version of e from the engine.
func (s *Store) erase(b *storage.Batch, e keyID, id versionID) {
	v := s.data.version(id)
	s.disk.key = recordKey(s.disk.key[:0], s.data.key(s.data.entry(e)), v)
	b.Delete(s.disk.key)
	s.stats.Revisions--
	s.stats.RetainedBytes -= v.size()
}
