package watch

import (
	"slices"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/mvcc"
)

// eventLog is the shared log: the latest revisions' events, oldest first, bounded by bytes and by revisions. Revisions
// without events of their own do not occur: every main revision has at least one event.
type eventLog struct {
	batches []*mvcc.EventBatch
	bytes   int
	max     int          // revisions kept
	first   ids.Revision // the oldest revision the log can serve: all events at or above it are here
	last    ids.Revision // the newest revision seen
}

// append adds a batch; its revision is above every earlier one.
func (l *eventLog) append(b *mvcc.EventBatch) {
	l.batches = append(l.batches, b)
	l.bytes += b.Bytes
	l.last = b.Revision
	drop := 0
	for len(l.batches)-drop > 1 && (l.bytes > limits.WatchLogBytes || len(l.batches)-drop > l.max) {
		l.bytes -= l.batches[drop].Bytes
		l.first = l.batches[drop].Revision + 1
		l.batches[drop] = nil
		drop++
	}
	// Reslicing leaves the dropped entries to the next growth of the array, which copies only what is kept.
	l.batches = l.batches[drop:]
}

// from returns the batches at or above rev, at most maxRevs and about maxBytes, at least one when there is any. The list is
// the caller's own: append clears what it drops from the log's.
func (l *eventLog) from(rev ids.Revision, maxRevs, maxBytes int) []*mvcc.EventBatch {
	lo, hi := 0, len(l.batches)
	for lo < hi {
		mid := (lo + hi) / 2
		if l.batches[mid].Revision < rev {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	bytes, end := 0, lo
	for end < len(l.batches) && end-lo < maxRevs && bytes < maxBytes {
		bytes += l.batches[end].Bytes
		end++
	}
	return slices.Clone(l.batches[lo:end])
}
