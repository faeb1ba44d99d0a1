package node_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/node"
	"quorate.dev/quorate/storage"
)

// engine is what the host sees of the storage engine.
type engine struct {
	mu      sync.Mutex
	durable storage.Mark
	flushes int
	looks   int // calls of Durable
	err     error
	failed  chan struct{}
}

func (e *engine) Durable() (storage.Mark, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.looks++
	return e.durable, e.err
}

func (e *engine) AsyncFlush() (<-chan struct{}, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.flushes++
	return nil, nil
}

func (e *engine) Failed() <-chan struct{} { return e.failed }
func (e *engine) Err() error              { return errDisk }

func (e *engine) counted() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.flushes
}

func (e *engine) looked() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.looks
}

func (e *engine) make(durable ids.Index) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.durable = storage.Mark{Index: durable, Term: 2}
}

// The engine is asked to flush once whenever the bound of unflushed log is exceeded, and the log lets go of what is durable.
func TestLogIsKeptShort(t *testing.T) {
	e := &engine{failed: make(chan struct{})}
	m := newMember(t).start(func(c *node.Config) { c.Engine = e }).lead()
	const size = 1 << 20
	body := strings.Repeat("x", size)
	fill := func(bytes int) (last ids.Index) {
		for range bytes / size {
			r := m.put(body).get()
			require.NoError(t, r.Err)
			last = ids.Index(r.Revision)
		}
		return last
	}
	fill(limits.LogUnflushedBytes - 8*size)
	require.Zero(t, e.counted())
	last := fill(16 * size)
	require.Equal(t, 1, e.counted(), "one flush, not one for each batch until it is done")
	fill(64 * size)
	require.Equal(t, 1, e.counted())
	e.make(last)
	fill(16 * size)
	require.Equal(t, 2, e.counted(), "the flush is behind again")
	m.log.mu.Lock()
	require.Equal(t, last, m.log.released)
	m.log.mu.Unlock()

	// With nothing to apply the log is looked after all the same.
	last = m.host.Status().Applied
	e.make(last)
	m.pass(func() bool {
		m.log.mu.Lock()
		defer m.log.mu.Unlock()
		return m.log.released == last
	})
}

// A member that has come to rest has its engine flush what is not durable, once, and not for a trifle.
func TestEngineFlushesAtRest(t *testing.T) {
	e := &engine{failed: make(chan struct{})}
	m := newMember(t).start(func(c *node.Config) { c.Engine = e }).lead()
	fill := func() {
		for range 3 {
			require.NoError(t, m.put(strings.Repeat("x", 1<<20)).get().Err)
		}
		require.NoError(t, m.put("b").get().Err) // once it is answered, what came before it is counted
	}
	// rest lets the keeper look several times, and returns how often it asked in all.
	rest := func() int {
		until := e.looked() + 4
		m.pass(func() bool { return e.looked() >= until })
		return e.counted()
	}
	fill()
	n := rest()
	require.Positive(t, n)
	require.Equal(t, n, rest(), "asked for again, though nothing came after")
	e.make(m.host.Status().Applied)
	require.NoError(t, m.put("a").get().Err)
	require.Equal(t, n, rest(), "asked for because of a few bytes")
	fill()
	require.Greater(t, rest(), n)
}

func TestEngineFailureStopsTheMember(t *testing.T) {
	e := &engine{failed: make(chan struct{})}
	m := newMember(t).start(func(c *node.Config) { c.Engine = e }).lead()
	close(e.failed)
	<-m.host.Done()
	require.ErrorIs(t, m.host.Err(), errDisk)
	require.ErrorIs(t, m.put("a").get().Err, errDisk)
}
