package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/internal/check"
)

// watcher watches, ends its stream now and then, resumes it, and writes down what it gets.
type watcher struct {
	name     string
	via      string
	cli      *clientv3.Client
	rng      *rand.Rand
	key, end string
	prev     bool
	restless bool // ends its stream by itself now and then

	covered atomic.Int64 // everything up to here has arrived
	mu      sync.Mutex
	watches []check.Watch // the last one goes on; a compaction that overtakes it starts another
	cut     int
	done    chan struct{}
	stop    context.CancelFunc
}

// whole reports whether it sees every event.
func (w *watcher) whole() bool { return w.end == "\x00" }

// run watches until ctx ends.
func (w *watcher) run(ctx context.Context) {
	defer close(w.done)
	w.begin(1)
	for ctx.Err() == nil {
		w.session(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(w.rng.Int64N(int64(50 * time.Millisecond)))):
		}
	}
}

func (w *watcher) begin(from int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watches = append(w.watches, check.Watch{Name: fmt.Sprintf("%s#%d", w.name, len(w.watches)+1), Key: w.key, End: w.end, Prev: w.prev})
	w.covered.Store(from - 1)
}

// session is one stream.
func (w *watcher) session(ctx context.Context) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	from := w.covered.Load() + 1
	opts := []clientv3.OpOption{clientv3.WithRev(from), clientv3.WithCreatedNotify(), clientv3.WithProgressNotify(), clientv3.WithFragment()}
	if w.end != "" {
		opts = append(opts, clientv3.WithRange(w.end))
	}
	if w.prev {
		opts = append(opts, clientv3.WithPrevKV())
	}
	w.mu.Lock()
	watch := &w.watches[len(w.watches)-1]
	watch.Sessions = append(watch.Sessions, check.Session{Via: w.via, From: from})
	w.mu.Unlock()
	stream := w.cli.Watch(ctx, w.key, opts...)
	var end <-chan time.Time
	if w.restless {
		end = time.After(time.Duration(w.rng.Int64N(int64(6 * time.Second))))
	}
	ask := time.NewTicker(time.Second)
	defer ask.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-end:
			return
		case <-ask.C:
			_ = w.cli.RequestProgress(ctx)
		case resp, ok := <-stream:
			if !ok {
				w.cut++
				return
			}
			if resp.CompactRevision > 0 {
				w.begin(resp.CompactRevision)
				return
			}
			w.record(resp)
			if resp.Err() != nil {
				w.cut++
				return
			}
		}
	}
}

// record writes an answer down.
func (w *watcher) record(resp clientv3.WatchResponse) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sessions := w.watches[len(w.watches)-1].Sessions
	s := &sessions[len(sessions)-1]
	covered := w.covered.Load()
	switch {
	case resp.Created:
		s.Created = resp.Header.Revision
		return
	case resp.IsProgressNotify():
		s.Batches = append(s.Batches, check.Batch{Revision: resp.Header.Revision, Progress: true})
		covered = max(covered, resp.Header.Revision)
	case len(resp.Events) > 0:
		b := check.Batch{Revision: resp.Header.Revision}
		for _, e := range resp.Events {
			event := check.Event{Revision: e.Kv.ModRevision, Delete: e.Type == clientv3.EventTypeDelete, KV: kvOf(e.Kv)}
			if event.Delete {
				event.KV = check.KV{Key: string(e.Kv.Key), Mod: e.Kv.ModRevision}
			}
			if e.PrevKv != nil {
				prev := kvOf(e.PrevKv)
				event.Prev = &prev
			}
			b.Events = append(b.Events, event)
			covered = max(covered, event.Revision)
		}
		s.Batches = append(s.Batches, b)
	}
	w.covered.Store(covered)
}
