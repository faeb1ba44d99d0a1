package load

import (
	"context"
	"sync"
	"sync/atomic"

	"quorate.dev/quorate/load/lean"
)

// bulkDepth is how many calls of a bulk are under way on one connection.
const bulkDepth = 64

// bulk makes calls 0 to n-1 over all connections as fast as they go, for what a workload needs before or after it is measured.
type bulk struct {
	n     int64
	write func(i int64) (lean.Method, lean.Message)
	read  func(i int64, body []byte) error

	issued atomic.Int64
	calls  sync.WaitGroup
	once   sync.Once
	err    error
	failed atomic.Bool
}

// bulkCall is one call under way.
type bulkCall struct {
	b    *bulk
	conn *lean.Conn
	i    int64
}

// bulk runs b to its end, or to the first error.
func (r *run) bulk(ctx context.Context, b *bulk) error {
	for _, l := range r.lines {
		conn := l.conn.Load()
		for range bulkDepth {
			b.calls.Add(1)
			(&bulkCall{b: b, conn: conn}).next()
		}
		if err := conn.Flush(); err != nil {
			b.fail(err)
		}
	}
	done := make(chan struct{})
	go func() {
		b.calls.Wait()
		close(done)
	}()
	select {
	case <-done:
		return b.err
	case <-ctx.Done():
		b.fail(ctx.Err())
		<-done // calls under way end within their timeout
		return b.err
	}
}

func (b *bulk) fail(err error) {
	b.once.Do(func() {
		b.err = err
		b.failed.Store(true)
	})
}

// next sends the next call, or ends the chain.
func (c *bulkCall) next() {
	if c.i = c.b.issued.Add(1) - 1; c.i >= c.b.n || c.b.failed.Load() {
		c.b.calls.Done()
		return
	}
	m, msg := c.b.write(c.i)
	if err := c.conn.Call(m, msg, c); err != nil {
		c.b.fail(err)
		c.b.calls.Done()
	}
}

// Done implements lean.Completion.
func (c *bulkCall) Done(body []byte, err error) {
	if err == nil && c.b.read != nil {
		err = c.b.read(c.i, body)
	}
	if err != nil {
		c.b.fail(err)
	}
	c.next()
}
