package insight

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/limits"
)

// looking runs f while a look is open and returns what the look saw.
func looking(t *testing.T, f func(d *Desk, c *clock.Manual)) *Top {
	t.Helper()
	c := clock.NewManual(time.Unix(1000, 0))
	d := NewDesk(c)
	seen := make(chan *Top, 1)
	go func() {
		top, err := d.Look(context.Background(), time.Second, 2)
		if err != nil {
			t.Error(err)
		}
		seen <- top
	}()
	c.Await(1)
	f(d, c)
	c.Advance(time.Second)
	return <-seen
}

func TestLook(t *testing.T) {
	top := looking(t, func(d *Desk, _ *clock.Manual) {
		for i := range 10 {
			w := d.Sample()
			if w != 1 {
				t.Fatalf("weight %d of call %d, want each to be recorded", w, i)
			}
			c := Call{Weight: w, Method: "/etcdserverpb.KV/Put", Client: "10.0.0.1", User: "ann", Key: fmt.Appendf(nil, "/registry/pods/ns/%d", i%2), Single: true, In: 10, Out: 3, Took: time.Millisecond}
			if i == 9 {
				c.Method, c.Single, c.Failed, c.Took = "/etcdserverpb.KV/Range", false, true, time.Second
			}
			d.Record(&c)
		}
	})
	if top.Calls != 10 || top.Sampled != 10 || top.Seconds != 1 {
		t.Errorf("got %d calls, %d sampled in %v s", top.Calls, top.Sampled, top.Seconds)
	}
	if len(top.Methods) != 2 || top.Methods[0].Method != "KV/Put" || top.Methods[0].Calls != 9 || top.Methods[1].Failed != 1 || top.Methods[1].Max != 1 {
		t.Errorf("methods: %+v", top.Methods)
	}
	if r := top.Clients[0]; r.Client != "10.0.0.1" || r.User != "ann" || r.In != 100 || r.Out != 30 {
		t.Errorf("clients: %+v", top.Clients)
	}
	if r := top.Prefixes[0]; string(r.Key) != "/registry/pods/" || r.Calls != 9 || r.Method != "KV/Put" {
		t.Errorf("prefixes: %+v", top.Prefixes)
	}
	if r := top.Keys[0]; string(r.Key) != "/registry/pods/ns/0" || r.Calls != 5 || len(top.Keys) != 2 || top.Keys[1].Calls != 4 {
		t.Errorf("keys: %+v", top.Keys)
	}
	if got := top.Methods[0].P99; got < 0.001 || got > 0.002 {
		t.Errorf("p99 %v of calls that took 1 ms", got)
	}
}

// TestNobodyLooks: without a look nothing is recorded and nothing allocated.
func TestNobodyLooks(t *testing.T) {
	d := NewDesk(nil)
	if n := testing.AllocsPerRun(100, func() {
		if d.Sample() != 0 || d.Looking() {
			t.Fatal("a call is recorded and nobody looks")
		}
	}); n > 0 {
		t.Errorf("%v allocations a call", n)
	}
	var none *Desk
	if none.Sample() != 0 || none.Looking() {
		t.Error("no desk records")
	}
}

// TestBusy: more looks than may are refused, and room comes back.
func TestBusy(t *testing.T) {
	c := clock.NewManual(time.Unix(1000, 0))
	d := NewDesk(c)
	done := make(chan error, limits.TopLooks)
	for range limits.TopLooks {
		go func() { _, err := d.Look(context.Background(), time.Second, 2); done <- err }()
	}
	c.Await(limits.TopLooks)
	if _, err := d.Look(context.Background(), time.Second, 2); !errors.Is(err, ErrBusy) {
		t.Errorf("one look too many: %v", err)
	}
	c.Advance(time.Second)
	for range limits.TopLooks {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if d.Looking() {
		t.Error("it is still recorded after the last look")
	}
}

// TestPace: of many calls few are recorded, and the estimate of all stays about right.
func TestPace(t *testing.T) {
	const calls = 1_000_000
	top := looking(t, func(d *Desk, _ *clock.Manual) { // all within one slice of time
		for range calls {
			if w := d.Sample(); w > 0 {
				d.Record(&Call{Weight: w, Method: "/a.B/C", Client: "x"})
			}
		}
	})
	if top.Sampled > calls/10 {
		t.Errorf("%d of %d calls were recorded", top.Sampled, calls)
	}
	if top.Calls < calls*8/10 || top.Calls > calls*12/10 {
		t.Errorf("estimate of %d calls: %d", calls, top.Calls)
	}
}

// TestHeavy: names that have many calls are found among any number of others, and are not counted too low by more than the
// method's bound, nor ever too high.
func TestHeavy(t *testing.T) {
	s := newSketch(100)
	r := rand.New(rand.NewPCG(1, 2))
	truth := map[string]uint64{}
	const calls = 50_000
	for i := range calls {
		name := fmt.Sprint("rare", r.Uint64())
		if i%10 == 0 {
			name = fmt.Sprint("hot", i%50)
		}
		truth[name]++
		s.add(&Call{Weight: 1}, Row{Key: []byte(name)})
	}
	if len(s.byName) != 100 || len(s.heap) != 100 {
		t.Fatalf("holds %d and %d names, want 100", len(s.byName), len(s.heap))
	}
	rows := s.rows(5)
	for _, row := range rows {
		n := truth[string(row.Key)]
		if string(row.Key[:3]) != "hot" || row.Calls > n || row.Calls+row.Over < n || row.Over > calls/100 {
			t.Errorf("%s: between %d and %d, really %d", row.Key, row.Calls, row.Calls+row.Over, n)
		}
	}
	if !slices.IsSortedFunc(rows, byCalls) {
		t.Error("rows are not in order")
	}
}

func TestPrefixOf(t *testing.T) {
	for _, c := range []struct {
		key   string
		depth int
		want  string
	}{
		{"/registry/pods/ns/a", 2, "/registry/pods/"}, {"/registry/pods/ns/a", 3, "/registry/pods/ns/"}, {"/registry/pods/ns/a", 9, "/registry/pods/ns/"},
		{"a/b/c", 2, "a/b/"}, {"a/b", 2, "a/"}, {"/a", 2, "/a"}, {"plain", 2, "plain"}, {"a-long-key-without-a-slash", 2, "a-long-key-witho"}, {"", 2, ""}, {"/", 1, "/"},
	} {
		if got := string(prefixOf([]byte(c.key), c.depth)); got != c.want {
			t.Errorf("prefixOf(%q, %d) = %q, want %q", c.key, c.depth, got, c.want)
		}
	}
}
