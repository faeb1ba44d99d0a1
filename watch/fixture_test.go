package watch

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// fixture is a store with a hub, and the history of everything that was written, kept by obvious means.
type fixture struct {
	t     *testing.T
	e     *storage.Engine
	s     *mvcc.Store
	hub   *Hub
	clock *clock.Manual
	index ids.Index

	history []past
	current map[string]string
}

// past is one event as the test knows it.
type past struct {
	rev             ids.Revision
	del             bool
	key, value, old string
	existed         bool
}

func (p past) String() string {
	if p.del {
		return fmt.Sprintf("%d DELETE %s (was %q)", p.rev, p.key, p.old)
	}
	return fmt.Sprintf("%d PUT %s=%q (was %q)", p.rev, p.key, p.value, p.old)
}

func newFixture(t *testing.T, fragmentBytes int, change ...func(*Config)) *fixture {
	t.Helper()
	e, err := storage.Open("db", storage.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	s, err := mvcc.Open(e)
	if err != nil {
		t.Fatal(err)
	}
	s.Publish()
	f := &fixture{t: t, e: e, s: s, current: map[string]string{}, clock: clock.NewManual(time.Unix(0, 0))}
	c := Config{
		View:          s.View,
		Header:        func() wire.Header { return wire.Header{ClusterID: 1, MemberID: 2, RaftTerm: 3} },
		FragmentBytes: fragmentBytes,
		Clock:         f.clock,
		LogRevisions:  25, // so that the past is read from views too
	}
	for _, set := range change {
		set(&c)
	}
	f.hub = New(c)
	t.Cleanup(func() {
		f.hub.Close()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// notifyProgress sends progress notifications as if they were due.
func (f *fixture) notifyProgress() {
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	f.hub.notifyProgress()
}

// change is one operation of a transaction; value "" with del deletes.
type change struct {
	key, value string
	del        bool
}

// write applies changes as one transaction and publishes it. Deletes of absent keys change nothing.
func (f *fixture) write(changes ...change) {
	f.t.Helper()
	b := f.e.NewBatch()
	tx := f.s.Begin(b)
	var events []past
	for _, c := range changes {
		old, existed := f.current[c.key]
		switch {
		case !c.del:
			tx.Put(&wire.PutRequest{Key: []byte(c.key), Value: []byte(c.value)})
			f.current[c.key] = c.value
		case existed:
			tx.DeleteRange([]byte(c.key), nil)
			delete(f.current, c.key)
			c.value = ""
		default:
			continue
		}
		events = append(events, past{del: c.del, key: c.key, value: c.value, old: old, existed: existed})
	}
	batch := tx.End()
	f.commit(b)
	for i := range events {
		events[i].rev = f.s.Revision()
	}
	f.history = append(f.history, events...)
	if batch != nil {
		f.hub.Publish([]*mvcc.EventBatch{batch})
	}
}

func (f *fixture) compact(rev ids.Revision) {
	f.t.Helper()
	b := f.e.NewBatch()
	if err := f.s.Compact(b, rev); err != nil {
		f.t.Fatal(err)
	}
	f.commit(b)
	for more := true; more; {
		b = f.e.NewBatch()
		more = f.s.Scrub(b, 7)
		f.commit(b)
	}
}

func (f *fixture) commit(b *storage.Batch) {
	f.t.Helper()
	f.index++
	if err := f.e.Commit(b, storage.Mark{Index: f.index, Term: 1}); err != nil {
		f.t.Fatal(err)
	}
	f.s.Publish()
}

// fakeSink keeps messages until the test takes them, and refuses when it holds capacity messages.
type fakeSink struct {
	mu       sync.Mutex
	capacity int
	queue    []*pb.WatchResponse
	refused  bool
	writable func()
	broken   error
	failed   error
	sends    func(what string) // told of each message, with its bytes, and each refusal and flush; nil: nobody is
}

func (s *fakeSink) Flush() { s.tell("flush") }

func (s *fakeSink) tell(format string, args ...any) {
	if s.sends != nil {
		s.sends(fmt.Sprintf(format, args...))
	}
}

func (s *fakeSink) TrySend(head, body []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.capacity > 0 && len(s.queue) >= s.capacity {
		s.refused = true
		s.tell("refused %x %x", head, body)
		return false
	}
	whole := slices.Concat(head, body)
	s.tell("%x %x", head, body)
	m := new(pb.WatchResponse)
	if err := proto.Unmarshal(whole, m); err != nil {
		s.broken = err
	}
	s.queue = append(s.queue, m)
	return true
}

func (s *fakeSink) NotifyWritable(fn func()) { s.writable = fn }

func (s *fakeSink) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = err
}

// take removes up to n messages and, as rpc does, calls back when there is room again after a refusal.
func (s *fakeSink) take(n int) []*pb.WatchResponse {
	s.mu.Lock()
	n = min(n, len(s.queue))
	out := s.queue[:n:n]
	s.queue = s.queue[n:]
	call := s.refused && len(s.queue) <= s.capacity/2
	if call {
		s.refused = false
	}
	s.mu.Unlock()
	if call {
		s.writable()
	}
	return out
}

// eventually polls for a condition; it fails the test after two minutes.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("still not: %s", what)
		case <-tick.C:
		}
	}
}

// await takes messages until there are n.
func (s *fakeSink) await(t *testing.T, n int) []*pb.WatchResponse {
	t.Helper()
	var got []*pb.WatchResponse
	eventually(t, fmt.Sprintf("%d messages (have %v)", n, got), func() bool {
		got = append(got, s.take(n-len(got))...)
		return len(got) == n
	})
	return got
}
