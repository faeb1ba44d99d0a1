package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// workbench is what a workload works on.
type workbench struct {
	o *options
	p *process
}

// jobs are the workloads in the order they run; later ones find what earlier ones wrote.
var jobs = []struct {
	name string
	run  func(*workbench) (*result, error)
}{
	{"idle memory", (*workbench).idle},
	{"put", (*workbench).puts},
	{"linearizable get", (*workbench).linearizable},
	{"serializable get", (*workbench).serializable},
	{"one client put", (*workbench).onePut},
	{"one client get", (*workbench).oneGet},
	{"load", (*workbench).load},
	{"memory after load", (*workbench).memory},
	{"paginated list", (*workbench).list},
	{"restart", (*workbench).restart},
}

// operation does the i-th operation of a workload on one connection.
type operation func(ctx context.Context, kv pb.KVClient, i int64) error

// drive runs op from clients goroutines over conns connections for d, or until total operations when total > 0.
func (w *workbench) drive(conns, clients int, d time.Duration, total int64, op operation) (*result, error) {
	kvs := make([]pb.KVClient, conns)
	for i := range kvs {
		conn, err := dial(w.p.addr)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		kvs[i] = pb.NewKVClient(conn)
		if _, err := kvs[i].Range(context.Background(), &pb.RangeRequest{Key: []byte("warm"), Serializable: true}, grpc.WaitForReady(true)); err != nil {
			return nil, err
		}
	}
	var next atomic.Int64
	var failed atomic.Pointer[error]
	lat := make([][]time.Duration, clients)
	ctx := context.Background()
	cpu0, err := w.p.cpu()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			kv := kvs[c%conns]
			for failed.Load() == nil {
				i := next.Add(1) - 1
				t := time.Now()
				if total > 0 && i >= total || total == 0 && t.Sub(start) >= d {
					return
				}
				if err := op(ctx, kv, i); err != nil {
					failed.Store(&err)
					return
				}
				lat[c] = append(lat[c], time.Since(t))
			}
		})
	}
	wg.Wait()
	if e := failed.Load(); e != nil {
		return nil, *e
	}
	took := time.Since(start)
	cpu1, err := w.p.cpu()
	if err != nil {
		return nil, err
	}
	return summarize(lat, took, cpu1-cpu0), nil
}

func summarize(lat [][]time.Duration, took, cpu time.Duration) *result {
	var all []time.Duration
	for _, l := range lat {
		all = append(all, l...)
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	r := &result{Operations: len(all), Seconds: took.Seconds()}
	if len(all) == 0 {
		return r
	}
	r.Rate = float64(len(all)) / took.Seconds()
	r.P50, r.P99, r.P999 = quantile(all, 0.5), quantile(all, 0.99), quantile(all, 0.999)
	r.CPUMicros = float64(cpu.Microseconds()) / float64(len(all))
	return r
}

// quantile is the nearest-rank quantile in milliseconds.
func quantile(sorted []time.Duration, q float64) float64 {
	i := min(int(q*float64(len(sorted))), len(sorted)-1)
	return float64(sorted[i].Nanoseconds()) / 1e6
}

func key(i int64) []byte { return fmt.Appendf(nil, "bench/key/%08d", i) }

// keySpace is how many keys the timed puts write and the gets read.
const keySpace = 10_000

func (w *workbench) seconds() time.Duration { return time.Duration(w.o.seconds) * time.Second }

func put(value []byte) operation {
	return func(ctx context.Context, kv pb.KVClient, i int64) error {
		_, err := kv.Put(ctx, &pb.PutRequest{Key: key(i % keySpace), Value: value})
		return err
	}
}

func get(serializable bool) operation {
	return func(ctx context.Context, kv pb.KVClient, i int64) error {
		_, err := kv.Range(ctx, &pb.RangeRequest{Key: key(rand.Int64N(keySpace)), Serializable: serializable})
		return err
	}
}

func randomValue(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func (w *workbench) onePut() (*result, error) {
	return w.drive(1, 1, w.seconds()/2, 0, put(randomValue(256)))
}

func (w *workbench) oneGet() (*result, error) {
	return w.drive(1, 1, w.seconds()/2, 0, get(false))
}

func (w *workbench) puts() (*result, error) {
	return w.drive(w.o.conns, w.o.clients, w.seconds(), 0, put(randomValue(256)))
}

func (w *workbench) linearizable() (*result, error) {
	return w.drive(w.o.conns, w.o.clients, w.seconds(), 0, get(false))
}

func (w *workbench) serializable() (*result, error) {
	return w.drive(w.o.conns, w.o.clients, w.seconds(), 0, get(true))
}

// load creates the large store: values of 1,024 random bytes, different for each key.
func (w *workbench) load() (*result, error) {
	return w.drive(w.o.conns, w.o.clients, 0, int64(w.o.keys), func(ctx context.Context, kv pb.KVClient, i int64) error {
		r := rand.New(rand.NewPCG(uint64(i), 3))
		value := make([]byte, 1024)
		for j := 0; j < len(value); j += 8 {
			x := r.Uint64()
			for k := range 8 {
				value[j+k] = byte(x >> (8 * k))
			}
		}
		_, err := kv.Put(ctx, &pb.PutRequest{Key: fmt.Appendf(nil, "bench/large/%08d", i), Value: value})
		return err
	})
}

// list pages through the large store as Kubernetes does: 500 at a time, at the first page's revision.
func (w *workbench) list() (*result, error) {
	conn, err := dial(w.p.addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	kv := pb.NewKVClient(conn)
	var lat []time.Duration
	var rev int64
	seen := 0
	cpu0, err := w.p.cpu()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	for from := []byte("bench/large/"); ; {
		t := time.Now()
		resp, err := kv.Range(context.Background(), &pb.RangeRequest{Key: from, RangeEnd: []byte("bench/large0"), Limit: 500, Revision: rev})
		if err != nil {
			return nil, err
		}
		lat = append(lat, time.Since(t))
		seen += len(resp.Kvs)
		rev = resp.Header.Revision
		if !resp.More {
			break
		}
		from = append(append([]byte(nil), resp.Kvs[len(resp.Kvs)-1].Key...), 0)
	}
	took := time.Since(start)
	cpu1, err := w.p.cpu()
	if err != nil {
		return nil, err
	}
	if seen != w.o.keys {
		return nil, fmt.Errorf("the pages held %d keys, want %d", seen, w.o.keys)
	}
	return summarize([][]time.Duration{lat}, took, cpu1-cpu0), nil
}

func (w *workbench) idle() (*result, error) { return w.settle(3 * time.Second) }

func (w *workbench) memory() (*result, error) { return w.settle(5 * time.Second) }

// settle waits and then reads memory, disk, and the CPU used meanwhile.
func (w *workbench) settle(d time.Duration) (*result, error) {
	cpu0, err := w.p.cpu()
	if err != nil {
		return nil, err
	}
	time.Sleep(d)
	cpu1, err := w.p.cpu()
	if err != nil {
		return nil, err
	}
	r := &result{Seconds: d.Seconds(), IdleCPU: float64(cpu1-cpu0) / float64(d)}
	if r.RSS, r.PeakRSS, err = w.p.rss(); err != nil {
		return nil, err
	}
	r.Disk, err = w.p.disk()
	return r, err
}

// restart stops the server cleanly and measures from starting it again to its first answer.
func (w *workbench) restart() (*result, error) {
	if err := w.p.stop(); err != nil {
		return nil, err
	}
	start := time.Now()
	p, err := w.p.c.start(w.p.dir)
	if err != nil {
		return nil, err
	}
	took := time.Since(start)
	w.p = p
	r := &result{Seconds: took.Seconds(), Operations: 1, P50: float64(took.Microseconds()) / 1e3}
	r.RSS, r.PeakRSS, err = p.rss()
	return r, err
}
