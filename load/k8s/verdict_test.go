package k8s

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"quorate.dev/quorate/load"
	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/wire"
)

var levels = SLO{Call: time.Second, List: 30 * time.Second, Delivery: time.Second, Progress: time.Second}

// TestRecorder: what counts is what was due while measuring, by class, with refusals, lost calls and slow ones apart.
func TestRecorder(t *testing.T) {
	const begin, end = 10 * time.Second, 20 * time.Second
	r := newRecorder(&levels, begin, end)
	r.call(updatePods, begin-1, begin+time.Second, nil) // of the warm-up
	r.call(updatePods, end, end+1, nil)                 // too late
	r.call(updatePods, begin, begin+2*time.Second, nil)
	r.call(updatePods, end-1, end+time.Millisecond, nil)
	r.call(listPods, begin+time.Second, begin+3*time.Second, nil) // not slow for a page
	r.call(updatePods, begin, begin+1, &lean.ConnError{Endpoint: "m1", Err: errors.New("reset")})
	r.call(updatePods, begin, begin+1, &lean.Status{Code: 14, Message: "no leader"})
	r.event(pods, begin+50*time.Millisecond, begin+60*time.Millisecond)
	r.event(pods, begin+50*time.Millisecond, begin+2*time.Second)
	r.answered(begin, begin+time.Millisecond)
	r.started(begin, begin+11*time.Millisecond)
	r.started(begin, begin+9*time.Millisecond)
	if got, want := r.counts[updatePods], (counts{calls: 2, errors: 1, lost: 1, over: 1, max: 2 * time.Second}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if r.all.Count() != 3 || r.hist[listPods].Count() != 1 || r.counts[listPods].over != 0 || r.late != 1 || r.waits.calls != 1 {
		t.Errorf("%d calls, %+v, %d late, %+v", r.all.Count(), r.counts[listPods], r.late, r.waits)
	}
	if got, want := r.slots[1].events, (counts{calls: 2, over: 1, max: 2*time.Second - 50*time.Millisecond}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	rows := timeline(r.slots, time.Second)
	if len(rows) != 10 || rows[0].Calls != 1 || rows[0].Errors != 1 || rows[0].Lost != 1 || rows[0].Over != 1 || rows[0].Max != 2000 || rows[9].Calls != 1 || rows[0].Events != 2 {
		t.Errorf("%+v", rows)
	}
}

// TestJudge: each way in which a service level breaks is named, and what is within it is not.
func TestJudge(t *testing.T) {
	good := func() *RunReport {
		return &RunReport{All: Row{Count: 1000}, Calls: []Row{{Verb: "update", Resource: "pods", Count: 1000, Over: 10, P99: 900, limit: time.Second}},
			Delivery: []Row{{Resource: "pods", Count: 1000, P99: 1000}}, Progress: Row{Count: 100, Over: 1}}
	}
	for _, c := range []struct {
		spoil func(*RunReport)
		want  string
	}{
		{func(*RunReport) {}, ""},
		{func(r *RunReport) { r.Calls[0].Lost = 5 }, ""},
		{func(r *RunReport) { r.Calls[0].Over = 11 }, "update pods: p99"},
		{func(r *RunReport) { r.Calls[0].Errors = 1 }, "update pods: 1 errors"},
		{func(r *RunReport) { r.Delivery[0].P99 = 1000.1 }, "delivery of pods"},
		{func(r *RunReport) { r.Progress.Over = 2 }, "progress requests"},
		{func(r *RunReport) { r.Progress.Errors = 1 }, "1 progress requests were not answered"},
		{func(r *RunReport) { r.Missing = 1 }, "1 events of acknowledged writes did not come"},
		{func(r *RunReport) { r.Surplus = 2 }, "2 events came"},
		{func(r *RunReport) { r.Faults = []string{"watch of pods: backwards"} }, "backwards"},
		{func(r *RunReport) { r.All.Count = 0 }, "no call"},
	} {
		r := good()
		c.spoil(r)
		r.judge(&levels)
		if r.OK != (c.want == "") || len(r.Broken) > 1 || !strings.Contains(strings.Join(r.Broken, ""), c.want) {
			t.Errorf("%q: %v", c.want, r.Broken)
		}
		whole := Report{Run: good(), Relist: r, Verified: &Verified{}}
		whole.judge()
		if whole.OK != r.OK {
			t.Errorf("%q: in a report: %v", c.want, whole.Broken)
		}
	}
	lost := Report{Run: good(), Verified: &Verified{Faults: []string{"a write is gone"}}}
	if lost.judge(); lost.OK {
		t.Error("a lost write does not count")
	}
}

// TestRow: percentiles of merged histograms are those of everything that was merged.
func TestRow(t *testing.T) {
	var a, b load.Histogram
	for i := range 990 {
		a.Add(time.Duration(i) * time.Microsecond)
	}
	for range 10 {
		b.Add(time.Second)
	}
	a.Merge(&b)
	r := row(&a, counts{calls: 1000, over: 10}, 10*time.Second)
	if r.Rate != 100 || r.P99 < 0.98 || r.P99 > 1 || r.P999 < 990 || r.Max != 1000 || r.Over != 10 {
		t.Errorf("%+v", r)
	}
}

// TestPageScan: a page is read the same however it is cut, and a page that is cut short is not whole.
func TestPageScan(t *testing.T) {
	resp := wire.RangeResponse{Header: wire.Header{ClusterID: 1 << 60, MemberID: 7, Revision: 4711, RaftTerm: 3}, More: true, Count: 900}
	var want []string
	for i := range int64(20) {
		kv := wire.KeyValue{Key: appendNode(nil, i), CreateRevision: i + 1, ModRevision: 100 + i, Version: 2, Value: make([]byte, 100*i)}
		resp.KVs = append(resp.KVs, kv.Append(nil))
		want = append(want, string(kv.Key))
	}
	body := resp.Append(nil)
	for _, piece := range []int{1, 2, 3, 7, 100, 1000, len(body)} {
		var got []string
		s := pageScan{each: func(key []byte, mod int64) {
			if number(key) != mod-100 {
				t.Errorf("%s has revision %d", key, mod)
			}
			got = append(got, string(key))
		}}
		for rest := body; len(rest) > 0; {
			n := min(piece, len(rest))
			s.feed(rest[:n])
			if rest = rest[n:]; len(rest) == 1 && s.whole() {
				t.Errorf("pieces of %d: whole without its end", piece)
			}
		}
		if !s.whole() || s.revision != 4711 || !s.more || s.keys != 20 || string(s.last) != want[19] || !slices.Equal(got, want) {
			t.Errorf("pieces of %d: %+v", piece, s)
		}
	}
	var bad pageScan
	bad.feed(binary.AppendUvarint(nil, 3)) // a group
	if bad.whole() {
		t.Error("nonsense is whole")
	}
}

// TestAcked: a watch that begins at a revision expects every acknowledged write after it, in whatever order the acknowledgements come.
func TestAcked(t *testing.T) {
	a := newAcked()
	w := &watcher{}
	for _, r := range []int64{5, 9, 7, 12} {
		a.note(r)
	}
	n, unsure := a.since(8, w)
	a.note(8)  // before the watch began
	a.note(10) // after
	a.doubt()
	more, unknown := a.expected(w)
	if n != 2 || unsure || more != 1 || unknown != 1 {
		t.Errorf("%d and %d more, unsure %v, %d unknown", n, more, unsure, unknown)
	}
	for i := range int64(acksKept) {
		a.note(100 + i)
	}
	if _, unsure := a.since(50, w); !unsure {
		t.Error("more writes than are kept, and it is sure of their number")
	}
}

// TestPods: numbers of pods stay theirs while the table grows and pods come and go.
func TestPods(t *testing.T) {
	var p podTable
	for i := range int64(300_000) {
		if n := p.add(); n != i {
			t.Fatalf("pod %d got number %d", i, n)
		}
		p.at(i).rev = i + 1
		if i%3 == 2 {
			p.head++
		}
	}
	for n := p.head; n < p.tail; n++ {
		if p.at(n).rev != n+1 {
			t.Fatalf("pod %d has revision %d", n, p.at(n).rev)
		}
	}
	if p.live() != 200_000 {
		t.Errorf("%d pods", p.live())
	}
}

// TestAgenda: what is due comes in the order of time, and not before.
func TestAgenda(t *testing.T) {
	var a agenda
	for _, at := range []time.Duration{5, 1, 4, 2, 3} {
		a.add(due{at: at})
	}
	for want := time.Duration(1); want <= 3; want++ {
		if x, ok := a.next(3); !ok || x.at != want {
			t.Errorf("%v, %v", x, ok)
		}
	}
	if _, ok := a.next(3); ok || len(a) != 2 {
		t.Errorf("something is left that is due")
	}
}
