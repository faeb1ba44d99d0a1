package fan_test

import (
	"context"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"quorate.dev/quorate/proxy/fan"
)

var prefix = &pb.WatchCreateRequest{Key: []byte("a/"), RangeEnd: []byte("a0")}

// TestShared: watchers of one range are one watch of the store, and each gets every event.
func TestShared(t *testing.T) {
	store := startStore(t, nil)
	f := startFront(t, fan.Config{}, store)
	kv := client(t, store)
	conn := connect(t, f.addr)
	const n = 3
	streams := make([]*stream, n)
	for i := range streams {
		s := watchStream(t, context.Background(), conn)
		streams[i] = s
		for id := range int64(2) {
			s.create(prefix)
			if r := s.next(); !r.Created || r.Canceled || r.WatchId != id || r.Header.Revision != 1 || r.Header.ClusterId == 0 {
				t.Fatalf("created: %v", r)
			}
		}
	}
	for i := range 10 {
		rev := put(t, kv, "a/k", "v")
		for _, s := range streams {
			seen := map[int64]bool{}
			for range 2 {
				r := s.next()
				if len(r.Events) != 1 || r.Events[0].Kv.ModRevision != rev || r.Header.Revision != rev || seen[r.WatchId] {
					t.Fatalf("put %d at %d: %v", i, rev, r)
				}
				seen[r.WatchId] = true
			}
		}
	}
	if s := f.hub.Stats(); s.Groups != 1 || s.Watchers != 2*n || s.EventsReceived != 10 || s.EventsDelivered != 10*2*n || s.Alone != 0 {
		t.Fatalf("%+v", s)
	}
}

// TestCancelShowsNoOlderStore: the reply to a cancel is not older than the reply to the create, though the watch had no events.
func TestCancelShowsNoOlderStore(t *testing.T) {
	store := startStore(t, nil)
	f := startFront(t, fan.Config{}, store)
	kv := client(t, store)
	s := watchStream(t, context.Background(), connect(t, f.addr))
	s.create(prefix)
	s.next()
	for id := range int64(3) {
		rev := put(t, kv, "elsewhere", "v")
		s.create(prefix)
		if r := s.next(); !r.Created || r.Header.Revision != rev {
			t.Fatalf("created after %d: %v", rev, r)
		}
		s.cancelWatch(id)
		if r := s.next(); !r.Canceled || r.Header.Revision != rev {
			t.Fatalf("cancelled after %d: %v", rev, r)
		}
	}
}

// TestResumedLog: after a loss of the connection the store is asked from the last revision on that had arrived, and nothing is
// twice in what a later watcher gets from the log.
func TestResumedLog(t *testing.T) {
	store := startStore(t, nil)
	g := newGate(t, store)
	f := startFront(t, fan.Config{}, g.addr())
	kv := client(t, store)
	conn := connect(t, f.addr)
	first := watchStream(t, context.Background(), conn)
	first.create(prefix)
	first.next()
	one := put(t, kv, "a/1", "1")
	first.next()
	g.cut(false)
	await(t, "the loss is noticed", func() bool { return f.hub.Stats().Resumed > 0 })
	two := put(t, kv, "a/1", "2")
	if r := first.next(); len(r.Events) != 1 || r.Events[0].Kv.ModRevision != two {
		t.Fatalf("after the loss: %v", r)
	}
	later := watchStream(t, context.Background(), conn)
	later.create(&pb.WatchCreateRequest{Key: prefix.Key, RangeEnd: prefix.RangeEnd, StartRevision: one})
	later.next()
	if r := later.next(); len(r.Events) != 2 || r.Events[0].Kv.ModRevision != one || r.Events[1].Kv.ModRevision != two {
		t.Fatalf("from the log: %v", r)
	}
	if s := f.hub.Stats(); s.Alone != 0 || s.Groups != 1 {
		t.Fatalf("%+v", s)
	}
}

// TestCompactedInLog: what others watch is still there after a compaction; what is not there is answered as by the store.
func TestCompactedInLog(t *testing.T) {
	store := startStore(t, nil)
	f := startFront(t, fan.Config{}, store)
	kv := client(t, store)
	conn := connect(t, f.addr)
	old := put(t, kv, "a/1", "0")
	first := watchStream(t, context.Background(), conn)
	first.create(prefix)
	first.next()
	kept := put(t, kv, "a/1", "1")
	first.next()
	last := put(t, kv, "a/1", "2")
	first.next()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := kv.Compact(ctx, last); err != nil {
		t.Fatal(err)
	}
	s := watchStream(t, context.Background(), conn)
	s.create(&pb.WatchCreateRequest{Key: prefix.Key, RangeEnd: prefix.RangeEnd, StartRevision: kept})
	s.next()
	if r := s.next(); len(r.Events) != 2 || r.Events[0].Kv.ModRevision != kept || r.Events[1].Kv.ModRevision != last {
		t.Fatalf("from the log: %v", r)
	}
	s.create(&pb.WatchCreateRequest{Key: prefix.Key, RangeEnd: prefix.RangeEnd, StartRevision: old})
	if r := s.next(); !r.Created || r.Canceled {
		t.Fatalf("%v", r)
	}
	if r := s.next(); !r.Canceled || r.CompactRevision != last || r.CancelReason != "" || r.Header.Revision != 0 {
		t.Fatalf("below the log: %v", r)
	}
}
