package watch

import (
	"fmt"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/limits"
)

func driveIt(c *Config) { c.Driven = true }

// rest brings the hub to rest and returns how many steps that took.
func rest(t *testing.T, h *Hub) (steps int) {
	t.Helper()
	for ; h.Step(); steps++ {
		if steps > 100_000 {
			t.Fatal("the hub does not come to rest")
		}
	}
	return steps
}

// now wants exactly these messages, which must be there already.
func now(t *testing.T, sink *fakeSink, want ...string) {
	t.Helper()
	got := sink.take(1000)
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("missing: %s", want[i])
		case i >= len(want):
			t.Errorf("unexpected: %s", summary(got[i]))
		case summary(got[i]) != want[i]:
			t.Errorf("message %d: got  %s\nwant %s", i, summary(got[i]), want[i])
		}
	}
}

// TestDrivenHubDelivers: nothing is delivered before a step, everything after the last.
func TestDrivenHubDelivers(t *testing.T) {
	f := newFixture(t, 1<<20, driveIt)
	one, two := &fakeSink{}, &fakeSink{}
	f.hub.Open(one).Create(create("a", "", 0), "")
	f.hub.Open(two).Create(create("a", "c", 0), "")
	now(t, one, "id=0 rev=1 created")
	now(t, two, "id=0 rev=1 created")
	if n := rest(t, f.hub); n != 0 {
		t.Errorf("%d steps were made and there was nothing to do", n)
	}
	f.write(put("a", "1"))
	f.write(put("b", "1"))
	now(t, one)
	if st := f.hub.Stats(); st.Pending != 2 {
		t.Errorf("%d events wait for a step, want 2", st.Pending)
	}
	if n := rest(t, f.hub); n != 1 {
		t.Errorf("%d steps for one delivery", n)
	}
	now(t, one, "id=0 rev=3 PUT:a@2")
	now(t, two, "id=0 rev=3 PUT:a@2 PUT:b@3")
}

// TestDrivenHubCatchesUp: a watcher of the past comes forward in turns, from the views and from the log; what happens between
// the parts of a turn is not lost.
func TestDrivenHubCatchesUp(t *testing.T) {
	f := newFixture(t, 1<<20, driveIt)
	const n = 100
	for i := range n {
		f.write(put("a", fmt.Sprint(i)))
	}
	rest(t, f.hub)
	sink := &fakeSink{}
	s := f.hub.Open(sink)
	s.Create(create("a", "", 2), "")
	s.Create(create("a", "", 2), "")
	written, steps := n, 0
	for f.hub.Step() {
		if steps++; steps%2 == 1 && written < n+3 {
			f.write(put("a", "more"))
			written++
		}
		if f.hub.Stats().Slow > 0 && steps == 3 {
			s.Cancel(1) // while a turn with it is under way
		}
	}
	if st := f.hub.Stats(); st.Slow != 0 || st.Pending != 0 || st.Turns < 2 {
		t.Errorf("at rest the stats are %+v", st)
	}
	events, canceled := 0, false
	for _, r := range sink.take(1000) {
		if r.WatchId == 1 {
			if canceled {
				t.Errorf("after the confirmation came %s", summary(r))
			}
			canceled = r.Canceled
			continue
		}
		for _, ev := range r.Events {
			if events++; ev.Kv.ModRevision != int64(events)+1 {
				t.Fatalf("event %d is of revision %d", events, ev.Kv.ModRevision)
			}
		}
	}
	if events != written {
		t.Errorf("%d of %d events came", events, written)
	}
	if !canceled {
		t.Error("the cancellation was not confirmed")
	}
}

// TestDrivenHubWaitsForSinks: a hub at rest has done what it can for a full sink, and goes on when there is room.
func TestDrivenHubWaitsForSinks(t *testing.T) {
	f := newFixture(t, 1<<20, driveIt)
	sink := &fakeSink{capacity: 2}
	f.hub.Open(sink).Create(create("a", "", 0), "")
	for i := range 3 {
		f.write(put("a", fmt.Sprint(i)))
		rest(t, f.hub)
	}
	now(t, sink, "id=0 rev=1 created", "id=0 rev=2 PUT:a@2")
	rest(t, f.hub)
	now(t, sink, "id=0 rev=4 PUT:a@3 PUT:a@4")
}

// orderSink writes what it gets into a list that many share.
type orderSink struct {
	name  int
	order *[]string
}

func (s *orderSink) TrySend(head, body []byte) bool {
	var m pb.WatchResponse
	if err := proto.Unmarshal(slices.Concat(head, body), &m); err != nil {
		panic(err)
	}
	*s.order = append(*s.order, fmt.Sprintf("%d:%s", s.name, summary(&m)))
	return true
}
func (s *orderSink) Flush()                {}
func (s *orderSink) NotifyWritable(func()) {}
func (s *orderSink) Fail(err error)        { panic(err) }

// TestDrivenHubNoticesRoom that a sink gets between the refusal of a message and the end of the turn it was part of.
func TestDrivenHubNoticesRoom(t *testing.T) {
	f := newFixture(t, 1<<20, driveIt)
	for i := range 100 {
		f.write(put("a", fmt.Sprint(i)))
	}
	rest(t, f.hub)
	sink := &fakeSink{capacity: 1}
	f.hub.Open(sink).Create(create("a", "", 2), "")
	for !sink.refused {
		if !f.hub.Step() {
			t.Fatal("nothing was offered")
		}
	}
	now(t, sink, "id=0 rev=101 created")
	events := 0
	for {
		rest(t, f.hub)
		got := sink.take(1)
		if len(got) == 0 {
			break
		}
		events += len(got[0].Events)
	}
	if events != 100 {
		t.Errorf("%d of 100 events came: the watcher waits for a notice that was given before", events)
	}
}

// TestDrivenHubOrder has a stream with many watchers of one interval go away. In which order the others are served afterwards
// is the same in two runs.
func TestDrivenHubOrder(t *testing.T) {
	run := func() string {
		f := newFixture(t, 1<<20, driveIt)
		var order []string
		leaves := f.hub.Open(&orderSink{0, &order})
		for i := range 30 {
			leaves.Create(create("a", "", 0), "")
			f.hub.Open(&orderSink{i + 1, &order}).Create(create("a", "", 0), "")
		}
		leaves.Close()
		order = nil
		f.write(put("a", "1"))
		rest(t, f.hub)
		if len(order) != 30 {
			t.Errorf("%d messages for 30 watchers", len(order))
		}
		return fmt.Sprint(order)
	}
	if first, second := run(), run(); first != second {
		t.Errorf("once   %s\nagain  %s", first, second)
	}
}

// TestDrivenHubSendsProgress by the manual clock: to all streams in the order in which they were opened, watchers by id.
func TestDrivenHubSendsProgress(t *testing.T) {
	f := newFixture(t, 1<<20, driveIt)
	var order []string
	var streams []*Stream
	for i := range 20 {
		streams = append(streams, f.hub.Open(&orderSink{i, &order}))
		for id := 3; id >= 1; id-- {
			req := create("a", "", 0)
			req.WatchID, req.ProgressNotify = int64(id), true
			streams[i].Create(req, "")
		}
	}
	streams[7].Close()
	order = nil
	f.clock.Advance(limits.WatchProgress - 1)
	if rest(t, f.hub) != 0 || len(order) != 0 {
		t.Fatalf("a nanosecond too early there was %v", order)
	}
	f.clock.Advance(1)
	if n := rest(t, f.hub); n != 1 {
		t.Errorf("the notifications took %d steps", n)
	}
	var want []string
	for i := range streams {
		for id := 1; id <= 3 && i != 7; id++ {
			want = append(want, fmt.Sprintf("%d:id=%d rev=1", i, id))
		}
	}
	if fmt.Sprint(order) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", order, want)
	}
	if rest(t, f.hub) != 0 {
		t.Error("the notifications came twice")
	}
}

// TestDrivenHubCloses at once, with a turn under way, and does nothing any more.
func TestDrivenHubCloses(t *testing.T) {
	f := newFixture(t, 1<<20, driveIt)
	for i := range 100 {
		f.write(put("a", fmt.Sprint(i)))
	}
	rest(t, f.hub)
	sink := &fakeSink{}
	s := f.hub.Open(sink)
	s.Create(create("a", "", 2), "")
	if !f.hub.Step() {
		t.Fatal("a watcher is behind and there is nothing to do")
	}
	f.hub.Close()
	f.hub.Close()
	f.write(put("a", "1"))
	f.clock.Advance(2 * limits.WatchProgress)
	if f.hub.Step() {
		t.Error("a closed hub has something to do")
	}
	now(t, sink, "id=0 rev=101 created")
	s.Close()
}

// TestCrowded: Create of a driven hub cannot wait for room, so it says that the client's next request must.
func TestCrowded(t *testing.T) {
	f := newFixture(t, 1<<20, driveIt)
	sink := &fakeSink{capacity: 1}
	s := f.hub.Open(sink)
	for range repliesMax + 1 {
		if s.Crowded() {
			t.Fatal("crowded too early")
		}
		s.Create(create("k", "", 0), "")
	}
	s.Create(create("k", "", 0), "")
	if !s.Crowded() {
		t.Fatal("a client that does not read may create watchers without end")
	}
	for s.Crowded() {
		if len(sink.take(1)) == 0 {
			t.Fatal("crowded and nothing to read")
		}
	}
	s.Close()
	if s.Crowded() {
		t.Error("a closed stream is crowded")
	}
}

// TestStepNeedsDriven: goroutines and a driver would do the same work twice.
func TestStepNeedsDriven(t *testing.T) {
	f := newFixture(t, 1<<20)
	defer func() {
		if recover() == nil {
			t.Error("a hub with goroutines was stepped")
		}
	}()
	f.hub.Step()
}
