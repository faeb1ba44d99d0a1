package main

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// keySpace is how many keys the timed puts write and the gets read.
const keySpace = 10_000

func (c *caller) numbered(format string, i int64) []byte {
	c.key = fmt.Appendf(c.key[:0], format, i)
	return c.key
}

const basicKey = "bench/key/%08d"

// halfRandom fills b: its first half with random bytes that depend on seed, the rest with text. Compression halves it, alone
// and among others: no two seeds share a stretch.
func halfRandom(b []byte, seed uint64) []byte {
	x := mix(seed)
	half := len(b) / 2
	for i := 0; i < half; i += 8 {
		x += 0x9e3779b97f4a7c15
		z := mix(x)
		for k := i; k < min(i+8, half); k++ {
			b[k] = byte(z)
			z >>= 8
		}
	}
	const text = "the quick brown fox jumps over the lazy dog, and so on; "
	for n := half; n < len(b); {
		n += copy(b[n:], text)
	}
	return b
}

// mix is the finalizer of splitmix64.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// putOf writes value to the keys of the basic store in turn.
func putOf(value []byte) operation {
	return func(c *caller, l limit, i int64) error {
		return c.put(l, c.numbered(basicKey, i%keySpace), value)
	}
}

func getOf(serializable bool) operation {
	return func(c *caller, l limit, i int64) error {
		q := query{key: c.numbered(basicKey, c.random.Int64N(keySpace)), serializable: serializable}
		if err := c.get(l, &q); err != nil {
			return err
		}
		_, kv, err := inner(c.reply.b, 2)
		if err == nil && len(kv) < 256 {
			err = errors.New("a key that was written is not there")
		}
		return err
	}
}

func value256() []byte { return halfRandom(make([]byte, 256), 1) }

// once opens connections, runs one workload, closes them.
func (w *workbench) once(connections int, load *workload) (*outcome, error) {
	cs, err := w.s.connect(connections)
	if err != nil {
		return nil, err
	}
	defer cs.close()
	return w.s.drive(cs, load)
}

func figuresOf(o *outcome, err error) (*result, error) {
	if err != nil {
		return nil, err
	}
	return o.result(), nil
}

// fillBasic creates the keys that puts write and gets read.
func (w *workbench) fillBasic() error {
	_, err := w.once(w.sizes.conns, &workload{clients: w.sizes.clients, total: keySpace, op: putOf(value256())})
	return err
}

// parallel runs op from all clients.
func (w *workbench) parallel(op operation, d time.Duration) (*result, error) {
	return figuresOf(w.once(w.sizes.conns, &workload{clients: w.sizes.clients, d: d, op: op}))
}

func (w *workbench) puts() (*result, error) { return w.parallel(putOf(value256()), w.sizes.timed()) }

func (w *workbench) gets() (*result, error) { return w.parallel(getOf(false), w.sizes.timed()) }

func (w *workbench) serializable() (*result, error) {
	return w.parallel(getOf(true), w.sizes.timed())
}

func (w *workbench) alone(op operation) (*result, error) {
	return figuresOf(w.once(1, &workload{clients: 1, d: w.sizes.timed() / 2, op: op}))
}

func (w *workbench) onePut() (*result, error) { return w.alone(putOf(value256())) }

func (w *workbench) oneGet() (*result, error) { return w.alone(getOf(false)) }

// idle waits until the fresh server is at rest and then watches it.
func (w *workbench) idle() (*result, error) {
	if err := w.s.settle(time.Duration(w.sizes.calm) * time.Second); err != nil {
		return nil, err
	}
	d := time.Duration(w.sizes.idle) * time.Second
	cpu0, err := w.s.cpu()
	if err != nil {
		return nil, err
	}
	time.Sleep(d)
	cpu1, err := w.s.cpu()
	if err != nil {
		return nil, err
	}
	return w.holdings(newResult().set("CPU share", float64(cpu1-cpu0)/float64(d)))
}

// holdings adds memory and disk to r.
func (w *workbench) holdings(r *result) (*result, error) {
	m, err := w.s.memory()
	if err != nil {
		return nil, err
	}
	disk, err := w.s.disk()
	r.set("resident", float64(m.resident)).set("anonymous", float64(m.anonymous)).set("peak resident", float64(m.peak))
	return r.set("disk", float64(disk)), err
}

// exchange sends a request that is already encoded.
func (c *caller) exchange(l limit, method string, request []byte) error {
	c.req.b = request
	err := c.call(l, method, &c.reply)
	c.req.b = nil
	return err
}

// compactRequest encodes a CompactionRequest that is answered when the work is done.
func compactRequest(rev int64) []byte {
	b := appendInt(nil, 1, rev)
	return protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.VarintType), 1)
}
