package watch

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/wire"
)

var modelSeed = flag.Uint64("model-seed", 0, "seed of TestModel, 0 for a new one")

// modelWatcher is what the test knows of one watcher.
type modelWatcher struct {
	span     span
	start    ids.Revision // the first revision it must see
	prevKV   bool
	filters  []wire.FilterType
	fragment bool
	progress bool // wants periodic progress notifications
	canceled bool // by us or by the hub
	// prevAbove is the revision compacted when it was made: events up to it come without previous values.
	prevAbove ids.Revision

	got        []past // from the messages
	lastRev    ids.Revision
	unfinished bool // the last message was a fragment with more to come
}

// wants lists the events the watcher must see up to and including rev.
func (w *modelWatcher) wants(f *fixture, upTo ids.Revision) []past {
	var out []past
	for _, p := range f.history {
		skip := false
		for _, x := range w.filters {
			skip = skip || (x == wire.FilterNoPut) != p.del
		}
		if p.rev >= w.start && p.rev <= upTo && !skip && w.span.contains([]byte(p.key)) {
			out = append(out, p)
		}
	}
	return out
}

// modelStream is one stream, its sink and the watchers on it by id.
type modelStream struct {
	*Stream
	sink     *fakeSink
	watchers map[int64]*modelWatcher
	created  []*modelWatcher // in order of request, waiting for their replies
	progress int
}

// TestModel runs random writes, compactions, creates, cancels and progress requests against streams whose clients read at
// random, and compares what every watcher got with the history.
func TestModel(t *testing.T) {
	seed := *modelSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	for i := range uint64(12) {
		t.Run(fmt.Sprint(seed+i), func(t *testing.T) {
			t.Logf("replay with: go test ./watch -run TestModel/%d$ -model-seed %d", seed+i, seed)
			m := &model{fixture: newFixture(t, 300), r: rand.New(rand.NewPCG(seed+i, 7))}
			m.run(1500)
		})
	}
}

// TestDrivenModel does the same with a hub that the test drives, with other things happening between any two of its steps, and
// each history twice: both times the same bytes are sent in the same order over all streams.
func TestDrivenModel(t *testing.T) {
	seed := *modelSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	for i := range uint64(5) {
		t.Run(fmt.Sprint(seed+i), func(t *testing.T) {
			t.Logf("replay with: go test ./watch -run TestDrivenModel/%d$ -model-seed %d", seed+i, seed)
			var runs [2]strings.Builder
			for run := range runs {
				f := newFixture(t, 300, func(c *Config) { c.Driven = true })
				m := &model{fixture: f, r: rand.New(rand.NewPCG(seed+i, 9)), driven: true, sends: &runs[run]}
				m.run(1500)
			}
			first, second := runs[0].String(), runs[1].String()
			if first != second {
				at := 0
				for at < min(len(first), len(second)) && first[at] == second[at] {
					at++
				}
				t.Fatalf("two runs differ after %d bytes: %.200q and %.200q", at, first[at:], second[at:])
			}
		})
	}
}

type model struct {
	*fixture
	r         *rand.Rand
	streams   []*modelStream
	opened    int // streams so far
	compacted ids.Revision
	progress  int              // messages
	driven    bool             // the test does the hub's steps
	sends     *strings.Builder // what the sinks are told; nil: not of interest
}

func (m *model) run(steps int) {
	m.streams = make([]*modelStream, 4)
	for i := range m.streams {
		m.open(i)
	}
	for range steps {
		if m.driven {
			for range m.r.IntN(4) {
				m.hub.Step()
			}
		}
		m.step()
	}
	for _, s := range m.streams {
		s.sink.mu.Lock()
		s.sink.capacity = 0 // the client reads everything from now on
		s.sink.mu.Unlock()
	}
	eventually(m.t, "all watchers caught up", func() bool {
		for _, s := range m.streams {
			m.read(s, 1000)
		}
		for m.driven && m.hub.Step() {
		}
		st := m.hub.Stats()
		return st.Slow == 0 && st.Pending == 0
	})
	for _, s := range m.streams {
		s.Progress() // waits for the hub: everything was handed over before its answer
		m.read(s, 1<<30)
		m.settled(s)
	}
	if m.progress == 0 {
		m.t.Error("no progress message was ever received: the test does not test them")
	}
}

// open puts a new stream in the place of one that is closed, if there is one.
func (m *model) open(i int) {
	if old := m.streams[i]; old != nil {
		old.Close()
	}
	sink := &fakeSink{capacity: []int{0, 2, 5, 40}[i]}
	n := m.opened
	m.opened++
	if m.sends != nil {
		sink.sends = func(what string) { fmt.Fprintf(m.sends, "%d %s\n", n, what) }
	}
	m.streams[i] = &modelStream{Stream: m.hub.Open(sink), sink: sink, watchers: map[int64]*modelWatcher{}}
}

func (m *model) step() {
	s := m.streams[m.r.IntN(len(m.streams))]
	switch n := m.r.IntN(100); {
	case n < 50:
		var changes []change
		for _, k := range m.r.Perm(8)[:1+m.r.IntN(3)] {
			changes = append(changes, change{key: string(rune('a' + k)), value: fmt.Sprint("v", m.r.IntN(1000)), del: m.r.IntN(4) == 0})
		}
		m.write(changes...)
	case n < 60:
		m.create(s)
	case n < 63:
		for _, id := range slices.Sorted(maps.Keys(s.watchers)) {
			if !s.watchers[id].canceled && m.r.IntN(4) == 0 {
				s.Cancel(id)
				break
			}
		}
	case n < 66:
		s.Progress()
	case n < 67:
		m.clock.Advance(limits.WatchProgress / 2)
		if m.r.IntN(4) == 0 {
			m.open(m.r.IntN(len(m.streams)))
		}
	case n < 69 && m.s.Revision() > m.compacted+20:
		m.compacted = m.s.Revision() - ids.Revision(m.r.IntN(20))
		m.compact(m.compacted)
	default:
		m.read(s, 1+m.r.IntN(6))
	}
}

func (m *model) create(s *modelStream) {
	if len(s.created)+len(s.watchers) > 60 {
		return
	}
	req := &wire.WatchCreateRequest{Key: []byte{byte('a' + m.r.IntN(8))}, PrevKV: m.r.IntN(2) == 0, Fragment: m.r.IntN(3) == 0}
	req.ProgressNotify = m.r.IntN(2) == 0
	switch m.r.IntN(4) {
	case 0:
		req.RangeEnd = []byte{0}
	case 1:
		req.RangeEnd = []byte{req.Key[0] + byte(m.r.IntN(4))}
	}
	if m.r.IntN(6) == 0 {
		req.Filters = []wire.FilterType{wire.FilterType(m.r.IntN(2))}
	}
	w := &modelWatcher{
		prevAbove: m.compacted, prevKV: req.PrevKV, filters: req.Filters, fragment: req.Fragment, progress: req.ProgressNotify,
		start: m.s.Revision() + 1,
	}
	if m.r.IntN(3) > 0 {
		w.start = max(1, m.s.Revision()+10-ids.Revision(m.r.IntN(60)))
		req.StartRevision = int64(w.start)
	}
	var ok bool
	if w.span, ok = spanOf(req.Key, req.RangeEnd); !ok {
		w = nil // must be refused
	}
	s.created = append(s.created, w)
	s.Create(req, "")
}

// read takes messages as a client would and holds each to the promises.
func (m *model) read(s *modelStream, n int) {
	m.t.Helper()
	for _, r := range s.sink.take(n) {
		if s.sink.broken != nil {
			m.t.Fatalf("not a WatchResponse: %v", s.sink.broken)
		}
		switch {
		case r.Created:
			w := s.created[0]
			s.created = s.created[1:]
			if (w == nil) != r.Canceled || r.Canceled && (r.WatchId != -1 || r.CancelReason != reasonEmptyRange) {
				m.t.Fatalf("reply to a create request: %v", r)
			}
			if w != nil {
				s.watchers[r.WatchId] = w
			}
		case r.WatchId == -1:
			m.progress++
			for id, w := range s.watchers {
				if !w.canceled {
					m.compare(id, w, w.wants(m.fixture, ids.Revision(r.Header.Revision)), "at a progress message")
				}
			}
		default:
			m.deliver(s, r)
		}
	}
}

func (m *model) deliver(s *modelStream, r *pb.WatchResponse) {
	m.t.Helper()
	w := s.watchers[r.WatchId]
	if w == nil || w.canceled {
		m.t.Fatalf("a message for watcher %d, which does not exist: %v", r.WatchId, r)
	}
	if r.Canceled {
		w.canceled = true
		if r.CompactRevision != 0 {
			next := max(w.start, w.lastRev+1)
			if int64(next) >= r.CompactRevision && len(w.wants(m.fixture, 1<<62)) > len(w.got) {
				next = w.wants(m.fixture, 1<<62)[len(w.got)].rev
			}
			if int64(next) >= r.CompactRevision || r.Header.Revision != 0 || r.CancelReason != "" {
				m.t.Fatalf("watcher %d needed revision %d and got %v", r.WatchId, next, r)
			}
		}
		return
	}
	if len(r.Events) == 0 && w.progress && !r.Fragment {
		m.progress++
		m.compare(r.WatchId, w, w.wants(m.fixture, ids.Revision(r.Header.Revision)), "at a progress notification")
		return
	}
	for i, ev := range r.Events {
		p := past{rev: ids.Revision(ev.Kv.ModRevision), del: ev.Type == mvccpb.Event_DELETE, key: string(ev.Kv.Key), value: string(ev.Kv.Value)}
		if p.rev < w.lastRev || p.rev == w.lastRev && i == 0 && !w.unfinished {
			m.t.Fatalf("watcher %d: revision %d comes again or was split", r.WatchId, p.rev)
		}
		if ev.PrevKv != nil {
			if !w.prevKV {
				m.t.Fatalf("watcher %d did not ask for previous values", r.WatchId)
			}
			p.old, p.existed = string(ev.PrevKv.Value), true
		}
		w.lastRev = p.rev
		w.got = append(w.got, p)
	}
	if r.Fragment && !w.fragment || len(r.Events) == 0 {
		m.t.Fatalf("watcher %d: unexpected message %v", r.WatchId, r)
	}
	w.unfinished = r.Fragment
}

// settled checks every watcher after everything was read.
func (m *model) settled(s *modelStream) {
	m.t.Helper()
	if len(s.created) > 0 {
		m.t.Fatalf("%d create requests were never answered", len(s.created))
	}
	for id, w := range s.watchers {
		want := w.wants(m.fixture, 1<<62)
		if w.canceled {
			if len(w.got) > len(want) {
				m.t.Fatalf("watcher %d got %d events, there were %d", id, len(w.got), len(want))
			}
			want = want[:len(w.got)]
		}
		m.compare(id, w, want, "at the end")
	}
}

func (m *model) compare(id int64, w *modelWatcher, want []past, when string) {
	m.t.Helper()
	if len(w.got) < len(want) {
		m.t.Fatalf("watcher %d of %v from %d %s: got %d events, want %d; first missing: %v", id, w.span, w.start, when, len(w.got), len(want), want[len(w.got)])
	}
	for i, p := range want {
		g := w.got[i]
		if g.rev != p.rev || g.key != p.key || g.value != p.value || g.del != p.del {
			m.t.Fatalf("watcher %d %s: event %d is %v, want %v", id, when, i, g, p)
		}
		// The value before may be compacted away when the event is read from the past; else it must be there.
		if w.prevKV && p.existed && (g.existed && (g.old != p.old || p.rev <= w.prevAbove) || !g.existed && p.rev > m.compacted+1) {
			m.t.Fatalf("watcher %d %s: event %d is %v, want %v", id, when, i, g, p)
		}
	}
}
