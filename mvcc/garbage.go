package mvcc

import "quorate.dev/quorate/ids"

// garbage lists what future compactions remove, in the order in which it becomes removable.
//
// A version with a value is needed at revisions below that of its successor, so it goes with a compaction at or above its
// successor's main revision. A tombstone goes with a compaction above its own: one exactly at the compacted revision stays,
// so that a watch that starts there sees it (source: etcd v3.7 server/storage/mvcc/key_index.go).
type garbage struct {
	versions   queue[grave] // successors: what they follow is the garbage
	tombstones queue[grave]
	pending    bool // a compaction is not finished
	// superseded are the versions that were pushed down since the last publication. They keep their bytes until the engine
	// has them.
	superseded []versionID
	forgotten  ids.Revision // see canary.GraveForgotten
}

// grave is a version and its key. Both are there until the grave is popped: what follows a version is pushed and popped after
// it, and a tombstone waits for its grave (see fate).
type grave struct {
	e keyID
	v versionID
}

// queue is a first-in first-out list in chunks, so that it neither moves nor keeps what was taken out.
type queue[T any] struct {
	chunks [][]T
	head   int // position in chunks[0]
}

const queueChunk = 512

func (q *queue[T]) push(x T) {
	if n := len(q.chunks); n == 0 || len(q.chunks[n-1]) == queueChunk {
		q.chunks = append(q.chunks, make([]T, 0, queueChunk))
	}
	last := &q.chunks[len(q.chunks)-1]
	*last = append(*last, x)
}

// peek returns the oldest item; ok is false when there is none.
func (q *queue[T]) peek() (x T, ok bool) {
	if len(q.chunks) == 0 || q.head == len(q.chunks[0]) {
		return x, false
	}
	return q.chunks[0][q.head], true
}

// pop removes the oldest item.
func (q *queue[T]) pop() {
	var zero T
	q.chunks[0][q.head] = zero
	q.head++
	if q.head == queueChunk {
		q.chunks[0] = nil
		q.chunks = q.chunks[1:]
		q.head = 0
	}
}
