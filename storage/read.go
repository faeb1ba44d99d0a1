package storage

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Reader reads a state of the store: the newest (Engine) or that of one moment (Frozen).
type Reader interface {
	// Get returns a copy of the value of key; ok says whether there is one.
	Get(key []byte) (value []byte, ok bool, err error)
	// GetAppend is Get that appends the value to dst, so that a caller can reuse memory.
	GetAppend(dst, key []byte) (value []byte, ok bool, err error)
	// Iter returns an iterator over [lower, upper); a nil bound is no bound. It sees the state at this call. It must be
	// closed.
	Iter(lower, upper []byte) (*Iter, error)
	// Keys is Iter for going over the keys once. It must be closed.
	Keys(lower, upper []byte) (*Keys, error)
}

var (
	_ Reader = (*Engine)(nil)
	_ Reader = (*Frozen)(nil)
)

// Get implements Reader.
func (e *Engine) Get(key []byte) ([]byte, bool, error) { return e.GetAppend(nil, key) }

// GetAppend implements Reader.
func (e *Engine) GetAppend(dst, key []byte) ([]byte, bool, error) {
	return get(e.db, e.dir, dst, key)
}

// Iter implements Reader.
func (e *Engine) Iter(lower, upper []byte) (*Iter, error) { return e.iter(e.db, lower, upper) }

// Keys implements Reader.
func (e *Engine) Keys(lower, upper []byte) (*Keys, error) { return e.keys(e.db, lower, upper) }

func (e *Engine) keys(r pebble.Reader, lower, upper []byte) (*Keys, error) {
	it, err := e.iter(r, lower, upper)
	if err != nil {
		return nil, err
	}
	if e.pinned {
		return &Keys{own: it}, nil
	}
	return keysOf(it), nil
}

func get(r pebble.Reader, dir string, dst, key []byte) ([]byte, bool, error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return dst, false, nil
	}
	if err != nil {
		return dst, false, fmt.Errorf("storage: read %s: %w", dir, err)
	}
	dst = append(dst, v...)
	if err := closer.Close(); err != nil {
		return dst, false, fmt.Errorf("storage: read %s: %w", dir, err)
	}
	return dst, true, nil
}

func (e *Engine) iter(r pebble.Reader, lower, upper []byte) (*Iter, error) {
	if upper == nil {
		upper = endOfUser
	}
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, fmt.Errorf("storage: read %s: %w", e.dir, err)
	}
	e.readers.Add(1)
	return &Iter{it: it, e: e}, nil
}

// Iter walks over keys in order. It is for one goroutine. The positioning methods say whether there is a key at the new
// position; when they say no, Err tells the end of the range from a failure.
type Iter struct {
	it    *pebble.Iterator
	e     *Engine
	err   error
	steps uint
}

// First moves to the first key of the range.
func (i *Iter) First() bool { return i.it.First() }

// Last moves to the last key of the range.
func (i *Iter) Last() bool { return i.it.Last() }

// Next moves to the next key. Long walks give way to other goroutines now and then.
func (i *Iter) Next() bool {
	if i.steps++; i.steps%walkSteps == 0 {
		giveWay()
	}
	return i.it.Next()
}

// walkSteps is how many keys an iterator passes between two offers to give way: some tens of microseconds.
const walkSteps = 256

// Prev moves to the previous key.
func (i *Iter) Prev() bool { return i.it.Prev() }

// SeekGE moves to the first key at or after key.
func (i *Iter) SeekGE(key []byte) bool { return i.it.SeekGE(key) }

// SeekLT moves to the last key before key.
func (i *Iter) SeekLT(key []byte) bool { return i.it.SeekLT(key) }

// Valid says whether the iterator is at a key.
func (i *Iter) Valid() bool { return i.it.Valid() }

// Key returns the current key. It is valid until the iterator moves.
func (i *Iter) Key() []byte { return i.it.Key() }

// Value returns the current value. It is valid until the iterator moves. It is nil when the value cannot be read; Err then
// says why.
func (i *Iter) Value() []byte {
	v, err := i.it.ValueAndErr()
	if err != nil && i.err == nil {
		i.err = err
	}
	return v
}

// Err returns the first failure, nil at a plain end of the range.
func (i *Iter) Err() error {
	if err := errors.Join(i.err, i.it.Error()); err != nil {
		return fmt.Errorf("storage: read %s: %w", i.e.dir, err)
	}
	return nil
}

// Close releases the iterator and returns what Err would. It must be called once.
func (i *Iter) Close() error {
	err := errors.Join(i.err, i.it.Close())
	i.e.readers.Add(-1)
	i.e.tidy()
	if err != nil {
		return fmt.Errorf("storage: read %s: %w", i.e.dir, err)
	}
	return nil
}

// Frozen is the state of one moment. It is safe for concurrent use. While it is open, the engine keeps what it shows, on
// disk, so it must be closed.
type Frozen struct {
	e    *Engine
	snap *pebble.Snapshot
	mark Mark
}

// Freeze returns the state after the last commit. Any goroutine may call it.
func (e *Engine) Freeze() *Frozen {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.readers.Add(1)
	return &Frozen{e: e, snap: e.db.NewSnapshot(), mark: e.applied}
}

// Mark returns the mark of the frozen state.
func (f *Frozen) Mark() Mark { return f.mark }

// Get implements Reader.
func (f *Frozen) Get(key []byte) ([]byte, bool, error) { return f.GetAppend(nil, key) }

// GetAppend implements Reader.
func (f *Frozen) GetAppend(dst, key []byte) ([]byte, bool, error) {
	return get(f.snap, f.e.dir, dst, key)
}

// Iter implements Reader.
func (f *Frozen) Iter(lower, upper []byte) (*Iter, error) { return f.e.iter(f.snap, lower, upper) }

// Keys implements Reader.
func (f *Frozen) Keys(lower, upper []byte) (*Keys, error) { return f.e.keys(f.snap, lower, upper) }

// Close releases the state. It must be called once, after its iterators are closed. It does not wait for an engine that has
// failed.
func (f *Frozen) Close() error {
	f.e.readers.Add(-1)
	defer f.e.tidy()
	return f.e.await("release a frozen state of", f.snap.Close)
}
