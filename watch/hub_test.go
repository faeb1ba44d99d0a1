package watch

import (
	"fmt"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/wire"
)

// summary prints what matters of a message on one line.
func summary(r *pb.WatchResponse) string {
	var b strings.Builder
	fmt.Fprintf(&b, "id=%d rev=%d", r.WatchId, r.Header.Revision)
	for _, x := range []struct {
		set  bool
		name string
	}{{r.Created, "created"}, {r.Canceled, "canceled"}, {r.Fragment, "fragment"}} {
		if x.set {
			b.WriteString(" " + x.name)
		}
	}
	if r.CompactRevision != 0 {
		fmt.Fprintf(&b, " compacted=%d", r.CompactRevision)
	}
	if r.CancelReason != "" {
		fmt.Fprintf(&b, " %q", r.CancelReason)
	}
	for _, ev := range r.Events {
		fmt.Fprintf(&b, " %v:%s@%d", ev.Type, ev.Kv.Key, ev.Kv.ModRevision)
		if ev.PrevKv != nil {
			fmt.Fprintf(&b, "(was %s)", ev.PrevKv.Value)
		}
	}
	return b.String()
}

func expect(t *testing.T, sink *fakeSink, want ...string) {
	t.Helper()
	for i, r := range sink.await(t, len(want)) {
		if got := summary(r); got != want[i] {
			t.Errorf("message %d: got  %s\nwant %s", i, got, want[i])
		}
	}
	if extra := sink.take(100); len(extra) > 0 {
		t.Errorf("unexpected message: %s", summary(extra[0]))
	}
}

func put(k, v string) change { return change{key: k, value: v} }
func del(k string) change    { return change{key: k, del: true} }

func create(key, end string, rev int64) *wire.WatchCreateRequest {
	return &wire.WatchCreateRequest{Key: []byte(key), RangeEnd: []byte(end), StartRevision: rev}
}

func TestCreateReplies(t *testing.T) {
	f := newFixture(t, 1<<20)
	f.write(put("a", "1")) // revision 2
	f.write(put("a", "2")) // revision 3
	f.write(put("a", "3")) // revision 4
	f.compact(3)
	sink := &fakeSink{}
	s := f.hub.Open(sink)

	s.Create(create("a", "", 0), "")
	s.Create(create("", "", 0), "")
	five := create("b", "", 0)
	five.WatchID = 5
	s.Create(five, "")
	s.Create(five, "")
	s.Create(create("b", "a", 0), "")
	s.Create(create("b", "b", 0), "")
	s.Create(create("a", "", -1), "")
	s.Create(create("a", "", 0), "rpc error: code = PermissionDenied desc = etcdserver: permission denied")
	s.Create(create("a", "", 2), "")
	s.Create(create("b", "", 3), "")
	expect(t, sink,
		"id=0 rev=4 created",
		"id=1 rev=4 created",
		"id=5 rev=4 created",
		`id=-1 rev=4 created canceled "mvcc: duplicate watch ID provided on the WatchStream"`,
		`id=-1 rev=4 created canceled "mvcc: watcher range is empty"`,
		`id=-1 rev=4 created canceled "mvcc: watcher range is empty"`,
		`id=-1 rev=4 created canceled "etcdserver: mvcc: required revision has been compacted"`,
		`id=-1 rev=4 created canceled "rpc error: code = PermissionDenied desc = etcdserver: permission denied"`,
		"id=2 rev=4 created",
		"id=2 rev=0 canceled compacted=3",
		"id=3 rev=4 created",
	)
	s.Cancel(99)
	s.Cancel(1)
	expect(t, sink, "id=1 rev=4 canceled")
	if st := f.hub.Stats(); st.Watchers != 3 || st.Streams != 1 {
		t.Errorf("stats are %+v, want 3 watchers on 1 stream", st)
	}
	s.Close()
	if st := f.hub.Stats(); st.Watchers != 0 || st.Streams != 0 || st.Slow != 0 {
		t.Errorf("stats after Close are %+v", st)
	}
}

func TestEventsFromPastPresentAndFuture(t *testing.T) {
	f := newFixture(t, 1<<20)
	f.write(put("a", "1"), put("b", "1")) // 2
	f.write(put("a", "2"))                // 3
	sink := &fakeSink{}
	s := f.hub.Open(sink)
	past := create("a", "c", 2)
	past.PrevKV = true
	s.Create(past, "")
	expect(t, sink, "id=0 rev=3 created", "id=0 rev=3 PUT:a@2 PUT:b@2 PUT:a@3(was 1)")
	s.Create(create("a", "", 6), "")
	expect(t, sink, "id=1 rev=3 created")
	onlyDeletes := create("a", "\x00", 0)
	onlyDeletes.Filters = []wire.FilterType{wire.FilterNoPut}
	s.Create(onlyDeletes, "")
	expect(t, sink, "id=2 rev=3 created")
	f.write(put("c", "1")) // 4: nobody's
	f.write(del("a"))      // 5
	for _, r := range sink.await(t, 2) {
		switch got := summary(r); got {
		case "id=0 rev=5 DELETE:a@5(was 2)", "id=2 rev=5 DELETE:a@5":
		default:
			t.Errorf("unexpected %s", got)
		}
	}
	f.write(put("a", "3")) // 6
	for _, r := range sink.await(t, 2) {
		switch got := summary(r); got {
		case "id=0 rev=6 PUT:a@6", "id=1 rev=6 PUT:a@6":
		default:
			t.Errorf("unexpected %s", got)
		}
	}
}

func TestProgressOnRequest(t *testing.T) {
	f := newFixture(t, 1<<20)
	sink := &fakeSink{}
	s := f.hub.Open(sink)
	s.Progress() // no watcher: dropped
	s.Create(create("a", "", 0), "")
	f.write(put("x", "1"))
	s.Progress()
	expect(t, sink, "id=0 rev=1 created", "id=-1 rev=2")
	s.Create(create("a", "", 5), "")
	s.Progress() // a watcher starts in the future: dropped
	expect(t, sink, "id=1 rev=2 created")
	f.write(put("x", "2"))
	f.write(put("x", "3"))
	s.Progress()
	expect(t, sink, "id=-1 rev=4")
}

// TestProgressWaitsForSlowWatcher owes the answer until what was read before it has been handed over.
func TestProgressWaitsForSlowWatcher(t *testing.T) {
	f := newFixture(t, 1<<20)
	sink := &fakeSink{capacity: 2}
	s := f.hub.Open(sink)
	s.Create(create("a", "", 0), "")
	for i := range 5 {
		f.write(put("a", fmt.Sprint(i)))
		eventually(t, "the write was offered", func() bool { return f.hub.Stats().Pending == 0 })
	}
	s.Progress()
	events := 0
	for {
		r := sink.await(t, 1)[0]
		events += len(r.Events)
		if r.WatchId == -1 {
			break
		}
	}
	if events != 5 {
		t.Errorf("the progress message came after %d of 5 events", events)
	}
}

func TestPeriodicProgress(t *testing.T) {
	f := newFixture(t, 1<<20)
	sink := &fakeSink{}
	s := f.hub.Open(sink)
	req := create("a", "", 0)
	req.ProgressNotify = true
	s.Create(req, "")
	s.Create(create("a", "", 0), "") // did not ask
	expect(t, sink, "id=0 rev=1 created", "id=1 rev=1 created")
	f.notifyProgress()
	expect(t, sink, "id=0 rev=1")
	f.write(put("a", "1"))
	sink.await(t, 2)
	f.notifyProgress() // an event came meanwhile: no notification this time
	f.write(put("b", "1"))
	expect(t, sink)
	f.notifyProgress()
	expect(t, sink, "id=0 rev=3")
	// And the clock does the same: each advance may come before the hub has armed its timer again.
	eventually(t, "a notification by the clock", func() bool {
		f.clock.Advance(limits.WatchProgress + limits.WatchProgress/10)
		return len(sink.take(1)) == 1
	})
}

func TestFragments(t *testing.T) {
	f := newFixture(t, 200)
	sink := &fakeSink{}
	s := f.hub.Open(sink)
	frag := create("k", "l", 0)
	frag.Fragment = true
	s.Create(frag, "")
	s.Create(create("k", "l", 0), "")
	sink.await(t, 2)
	var big []change
	for i := range 5 {
		big = append(big, put(fmt.Sprint("k", i), strings.Repeat("v", 80)))
	}
	f.write(big...)
	var parts []*pb.WatchResponse
	whole := 0
	for _, r := range sink.await(t, 6) {
		if r.WatchId == 1 {
			whole++
			if len(r.Events) != 5 || r.Fragment {
				t.Errorf("the watcher that wants no fragments got %s", summary(r))
			}
			continue
		}
		parts = append(parts, r)
	}
	if whole != 1 || len(parts) != 5 {
		t.Fatalf("got %d whole responses and %d fragments, want 1 and 5", whole, len(parts))
	}
	for i, r := range parts {
		if r.Fragment != (i < 4) || len(r.Events) != 1 || string(r.Events[0].Kv.Key) != fmt.Sprint("k", i) {
			t.Errorf("fragment %d is %s", i, summary(r))
		}
	}
}

// TestSlowStreamHarmsOnlyItself never reads one stream and wants the other to get everything at once.
func TestSlowStreamHarmsOnlyItself(t *testing.T) {
	f := newFixture(t, 1<<20)
	stuck, fine := &fakeSink{capacity: 1}, &fakeSink{}
	a, b := f.hub.Open(stuck), f.hub.Open(fine)
	a.Create(create("k", "", 0), "")
	b.Create(create("k", "", 0), "")
	fine.await(t, 1)
	const n = 500
	for i := range n {
		f.write(put("k", fmt.Sprint(i)))
	}
	got := 0
	for got < n {
		got += len(fine.await(t, 1)[0].Events)
	}
	if st := f.hub.Stats(); st.Slow != 1 {
		t.Errorf("%d slow watchers, want the one that does not read", st.Slow)
	}
	got = 0
	for got < n { // and when it reads at last, it gets everything
		got += len(stuck.await(t, 1)[0].Events)
	}
}

// TestUnreadRepliesHoldTheirOwnStream creates watchers without ever reading: the requests wait, the hub does not.
func TestUnreadRepliesHoldTheirOwnStream(t *testing.T) {
	f := newFixture(t, 1<<20)
	sink := &fakeSink{capacity: 1}
	s := f.hub.Open(sink)
	done := make(chan int)
	go func() {
		n := 0
		for range repliesMax + 100 {
			s.Create(create("k", "", 0), "")
			n++
		}
		done <- n
	}()
	eventually(t, "the replies queue", func() bool {
		s.replies.Lock()
		defer s.replies.Unlock()
		return len(s.replies.waiting) > repliesMax
	})
	select {
	case <-done:
		t.Fatal("a client that does not read may create watchers without end")
	case <-time.After(20 * time.Millisecond):
	}
	f.write(put("other", "1"))
	eventually(t, "the hub goes on", func() bool { return f.hub.Stats().Pending == 0 })
	s.Close()
	if n := <-done; n != repliesMax+100 {
		t.Fatalf("%d creates returned", n)
	}
}
