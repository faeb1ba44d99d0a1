package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Batch collects changes that become visible and durable together. Later changes of a key win over earlier ones. It is for
// one goroutine and is reused with Reset.
type Batch struct {
	b *pebble.Batch
}

// NewBatch returns an empty batch of this engine.
func (e *Engine) NewBatch() *Batch { return &Batch{b: e.db.NewBatch()} }

// Set writes key with value; both are copied.
func (b *Batch) Set(key, value []byte) {
	k, v := b.SetDeferred(len(key), len(value))
	copy(k, key)
	copy(v, value)
}

// SetDeferred is Set for a caller that builds key and value in place: it returns the two slices to fill. They are valid
// until the next call on the batch and must be filled completely before it; the key's first byte must be a bucket.
func (b *Batch) SetDeferred(keyLen, valueLen int) (key, value []byte) {
	op := b.b.SetDeferred(keyLen, valueLen)
	return op.Key, op.Value
}

// Delete removes key if it is there.
func (b *Batch) Delete(key []byte) {
	op := b.b.DeleteDeferred(len(key))
	copy(op.Key, key)
}

// DeleteRange removes every key in [start, end). It costs the same however many there are, and readers pay for it until
// the range is compacted, so it is for large ranges.
func (b *Batch) DeleteRange(start, end []byte) {
	op := b.b.DeleteRangeDeferred(len(start), len(end))
	copy(op.Key, start)
	copy(op.Value, end)
}

// Len returns the number of changes.
func (b *Batch) Len() int { return int(b.b.Count()) }

// Bytes returns the size of the batch as the engine holds it, in bytes.
func (b *Batch) Bytes() int { return b.b.Len() }

// Reset empties the batch and makes it ready for use again.
func (b *Batch) Reset() { b.b.Reset() }

func (b *Batch) setMark(m Mark, written uint64) {
	k, v := b.SetDeferred(len(markKey), markBytes)
	copy(k, markKey)
	binary.BigEndian.PutUint64(v, uint64(m.Index))
	binary.BigEndian.PutUint64(v[8:], uint64(m.Term))
	binary.BigEndian.PutUint64(v[16:], written)
}

// String describes the batch for messages.
func (b *Batch) String() string { return fmt.Sprintf("%d changes, %d bytes", b.Len(), b.Bytes()) }
