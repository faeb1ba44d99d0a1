package site

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/test/cluster"
)

// Load is what clients do while things happen to members: they write, read, watch, and keep leases alive. It remembers everything
// that it was told, so that Check can compare it with what the members know in the end.
type Load struct {
	s       *Site
	t       testing.TB
	cancel  context.CancelFunc
	done    sync.WaitGroup
	watched sync.WaitGroup
	began   int64 // the revision before the first write
	lasting clientv3.LeaseID
	leases  *clientv3.Client

	acked, reads atomic.Int64
	newest       atomic.Int64 // the newest revision that a write was acknowledged with
	renewed      atomic.Int64 // answers to the lasting lease
	mu           sync.Mutex
	keys         map[string]int64 // acknowledged, and their revisions
	writeErrors  []error
	readErrors   []error
	watchers     []*follower
	lastingEnded bool
}

// follower is a watch and all that it has seen.
type follower struct {
	name string
	mu   sync.Mutex
	seen []event
	err  error
	upTo atomic.Int64
}

type event struct {
	rev  int64
	text string
}

// Bounds of the load: it is there to be seen, not to be fast.
const (
	loadWriters = 3
	loadReaders = 2
	loadPace    = 5 * time.Millisecond
	loadTTL     = 120 // seconds: nothing here is to end because a machine stands still
)

// Drive starts the load. answer bounds a write; a client gives up on a member that does not answer at all only by that.
func Drive(t testing.TB, s *Site, answer time.Duration) *Load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &Load{s: s, t: t, cancel: cancel, keys: map[string]int64{}}
	t.Cleanup(func() { cancel(); l.done.Wait(); l.watched.Wait() })
	l.leases = s.Client(t)
	granted, err := l.leases.Grant(ctx, loadTTL)
	if err != nil {
		t.Fatal(err)
	}
	put, err := l.leases.Put(ctx, "lasting", "x", clientv3.WithLease(granted.ID))
	if err != nil {
		t.Fatal(err)
	}
	l.lasting, l.began = granted.ID, put.Header.Revision
	alive, err := l.leases.KeepAlive(ctx, granted.ID)
	if err != nil {
		t.Fatal(err)
	}
	l.done.Go(func() { l.keep(ctx, alive) })
	for i := range loadWriters {
		cli := s.Client(t)
		l.done.Go(func() { l.write(ctx, cli, i, answer) })
	}
	for i := range loadReaders {
		cli := s.Client(t)
		l.done.Go(func() { l.read(ctx, cli, i%2 == 1) })
	}
	for _, requireLeader := range []bool{false, true} {
		f := &follower{name: fmt.Sprintf("the watch (require leader: %t)", requireLeader)}
		f.upTo.Store(l.began)
		l.watchers = append(l.watchers, f)
		cli := s.Client(t)
		l.watched.Go(func() { f.follow(t.Context(), cli, requireLeader) })
	}
	return l
}

func (l *Load) keep(ctx context.Context, alive <-chan *clientv3.LeaseKeepAliveResponse) {
	for range alive {
		l.renewed.Add(1)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastingEnded = ctx.Err() == nil
}

// pause waits for the next step and reports whether there is one.
func pause(ctx context.Context, t *time.Ticker) bool {
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (l *Load) write(ctx context.Context, cli *clientv3.Client, i int, answer time.Duration) {
	tick := time.NewTicker(loadPace)
	defer tick.Stop()
	for n := 0; pause(ctx, tick); n++ {
		key := fmt.Sprintf("load/%d/%06d", i, n)
		try, cancel := context.WithTimeout(ctx, answer)
		resp, err := cli.Put(try, key, "x")
		cancel()
		if ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		if err != nil {
			l.writeErrors = append(l.writeErrors, err)
		} else {
			l.keys[key] = resp.Header.Revision
			l.acked.Add(1)
			for old := l.newest.Load(); old < resp.Header.Revision && !l.newest.CompareAndSwap(old, resp.Header.Revision); old = l.newest.Load() {
			}
		}
		l.mu.Unlock()
	}
}

// read reads with all the time there is: the client itself has to go on elsewhere.
func (l *Load) read(ctx context.Context, cli *clientv3.Client, serializable bool) {
	tick := time.NewTicker(loadPace)
	defer tick.Stop()
	var opts []clientv3.OpOption
	if serializable {
		opts = append(opts, clientv3.WithSerializable())
	}
	for pause(ctx, tick) {
		floor := l.newest.Load()
		resp, err := cli.Get(ctx, "lasting", opts...)
		if ctx.Err() != nil {
			return
		}
		if err == nil && !serializable && resp.Header.Revision < floor {
			err = fmt.Errorf("a linearizable read at revision %d after a write at %d was acknowledged", resp.Header.Revision, floor)
		}
		if err == nil && len(resp.Kvs) != 1 {
			err = errors.New("the key of the lasting lease is gone")
		}
		if err != nil {
			l.mu.Lock()
			l.readErrors = append(l.readErrors, err)
			l.mu.Unlock()
			continue
		}
		l.reads.Add(1)
	}
}

// follow watches from the beginning. A watch that requires a leader ends when there is none, and is then made again where it ended,
// as its users do; anything else that ends it is an error.
func (f *follower) follow(ctx context.Context, cli *clientv3.Client, requireLeader bool) {
	wctx := ctx
	if requireLeader {
		wctx = clientv3.WithRequireLeader(ctx)
	}
	for ctx.Err() == nil {
		err := f.once(wctx, cli)
		if requireLeader && errors.Is(err, rpctypes.ErrNoLeader) {
			continue
		}
		if ctx.Err() == nil {
			f.mu.Lock()
			f.err = err
			f.mu.Unlock()
		}
		return
	}
}

func (f *follower) once(ctx context.Context, cli *clientv3.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for resp := range cli.Watch(ctx, "load/", clientv3.WithPrefix(), clientv3.WithRev(f.upTo.Load()+1)) {
		if err := resp.Err(); err != nil {
			return err
		}
		f.mu.Lock()
		for _, e := range resp.Events {
			f.seen = append(f.seen, event{e.Kv.ModRevision, fmt.Sprintf("%s %s", e.Type, e.Kv.Key)})
			f.upTo.Store(e.Kv.ModRevision)
		}
		f.mu.Unlock()
	}
	return errors.New("the channel was closed without a word")
}

// Goes waits until all kinds of requests are answered again and watches have seen what was written until then.
func (l *Load) Goes(t testing.TB) {
	t.Helper()
	const more = 50
	acked, reads := l.acked.Load()+more, l.reads.Load()+more
	Until(t, "writes and reads are answered", func() bool { return l.acked.Load() >= acked && l.reads.Load() >= reads })
	newest := l.newest.Load()
	for _, f := range l.watchers {
		Until(t, f.name+" goes on", func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.err != nil {
				t.Fatalf("%s ended: %v", f.name, f.err)
			}
			return f.upTo.Load() >= newest
		})
	}
	l.lease(t)
}

// lease: a lease on the stream of keep-alives that was there before is answered.
func (l *Load) lease(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	granted, err := l.leases.Grant(ctx, loadTTL)
	if err != nil {
		t.Fatalf("grant: %v", err)
	}
	alive, err := l.leases.KeepAlive(ctx, granted.ID)
	if err != nil {
		t.Fatalf("keep-alive: %v", err)
	}
	if resp := <-alive; resp == nil || resp.TTL != loadTTL {
		t.Fatalf("keep-alive: %v", resp)
	}
	if _, err := l.leases.Revoke(ctx, granted.ID); err != nil {
		t.Fatalf("revoke: %v", err)
	}
}

// Renewed is how often the lasting lease was answered.
func (l *Load) Renewed() int64 { return l.renewed.Load() }

// Stop ends the load and returns what failed.
func (l *Load) Stop() (writes, reads []error) {
	l.cancel()
	l.done.Wait()
	return l.writeErrors, l.readErrors
}

// Check stops the load and compares what clients were told with what each of the members says: everything acknowledged is there, and
// each watch has seen exactly the history.
func (l *Load) Check(t testing.TB, members ...*cluster.Member) {
	t.Helper()
	l.Stop()
	if l.lastingEnded {
		t.Error("the lasting lease was given up by its client")
	}
	if len(members) == 0 {
		members = l.s.Members
	}
	end := l.end(t)
	for _, f := range l.watchers {
		Until(t, f.name+" has seen everything", func() bool { return f.upTo.Load() >= end })
	}
	for _, m := range members {
		history := l.history(t, m, end)
		revs := map[string]int64{}
		for _, e := range history {
			revs[e.text] = e.rev
		}
		for key, rev := range l.keys {
			if revs["PUT "+key] != rev {
				t.Errorf("%s was acknowledged at revision %d; in the history of %s it is at %d", key, rev, m.Name, revs["PUT "+key])
			}
		}
		for _, f := range l.watchers {
			f.compare(t, history, end, m.Name)
		}
	}
	t.Logf("%d writes and %d reads answered, %d writes and %d reads failed", l.acked.Load(), l.reads.Load(), len(l.writeErrors), len(l.readErrors))
}

// end writes the last event and returns its revision.
func (l *Load) end(t testing.TB) (rev int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	Until(t, "the last write", func() bool {
		resp, err := l.leases.Put(ctx, "load/end", "x")
		if err == nil {
			rev = resp.Header.Revision
		}
		return err == nil
	})
	return rev
}

// history is what a member tells of the load, to a watch of its own.
func (l *Load) history(t testing.TB, m *cluster.Member, end int64) (out []event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for resp := range l.s.At(t, m).Watch(ctx, "load/", clientv3.WithPrefix(), clientv3.WithRev(l.began+1)) {
		if err := resp.Err(); err != nil {
			t.Fatal(err)
		}
		for _, e := range resp.Events {
			out = append(out, event{e.Kv.ModRevision, fmt.Sprintf("%s %s", e.Type, e.Kv.Key)})
		}
		if len(out) > 0 && out[len(out)-1].rev >= end {
			return slices.DeleteFunc(out, func(e event) bool { return e.rev > end })
		}
	}
	t.Fatalf("the history of %s ends at revision %d, not at %d", m.Name, out[len(out)-1].rev, end)
	return nil
}

// compare compares what was seen with the history up to the end; a write that was under way when the load stopped may come later.
func (f *follower) compare(t testing.TB, history []event, end int64, member string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := slices.DeleteFunc(slices.Clone(f.seen), func(e event) bool { return e.rev > end })
	for i := range max(len(history), len(seen)) {
		switch {
		case i >= len(seen):
			t.Errorf("%s has missed %d events of %s from %v on", f.name, len(history)-i, member, history[i])
		case i >= len(history):
			t.Errorf("%s has seen %d events that are not in the history of %s, from %v on", f.name, len(seen)-i, member, seen[i])
		case history[i] != seen[i]:
			t.Errorf("event %d is %v, and %s has seen %v", i, history[i], f.name, seen[i])
		default:
			continue
		}
		return
	}
}
