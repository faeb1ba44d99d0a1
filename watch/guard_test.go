package watch

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// denials is a guard that refuses the intervals in it.
type denials struct {
	sync.Mutex
	refused map[string]string // by "key end"
	asked   []string
}

func (l *denials) Refusal(key, end []byte) string {
	l.Lock()
	defer l.Unlock()
	of := fmt.Sprintf("%q %q", key, end)
	l.asked = append(l.asked, of)
	return l.refused[of]
}

func (l *denials) refuse(key, end, why string) {
	l.Lock()
	defer l.Unlock()
	l.refused[fmt.Sprintf("%q %q", key, end)] = why
	l.asked = nil
}

// TestGuards: a guard is asked when a watcher is created and at every recheck, with the interval as the client gave it. Watchers that
// are refused end with the reason, and nothing that is published afterwards reaches them, whether they kept up or not.
func TestGuards(t *testing.T) {
	f := newFixture(t, 1<<20)
	g := &denials{refused: map[string]string{}}
	g.refuse("secret", "", "not you")
	sink, open := &fakeSink{}, &fakeSink{}
	s := f.hub.OpenGuarded(sink, g)
	other := f.hub.Open(open) // without a guard
	s.Create(create("secret", "", 0), "")
	s.Create(create("secret", "", -1), "") // for this its reason comes first
	s.Create(create("k", "", 0), "")
	s.Create(create("a", "m", 0), "")
	s.Create(create("a", "\x00", 0), "")
	other.Create(create("k", "", 0), "")
	expect(t, open, "id=0 rev=1 created")
	expect(t, sink, `id=-1 rev=1 created canceled "not you"`, `id=-1 rev=1 created canceled "etcdserver: mvcc: required revision has been compacted"`,
		"id=0 rev=1 created", "id=1 rev=1 created", "id=2 rev=1 created")

	g.refuse("a", "m", "not any more")
	f.hub.Recheck()
	if asked := strings.Join(g.asked, ", "); asked != `"k" "", "a" "m", "a" "\x00"` { // once each: what a guard records of a refusal is recorded once
		t.Errorf("asked about %s", asked)
	}
	expect(t, sink, `id=1 rev=1 canceled "not any more"`)
	f.write(put("k", "1"))
	expect(t, open, "id=0 rev=2 PUT:k@2")
	for _, r := range sink.await(t, 2) {
		if r.WatchId == 1 || len(r.Events) != 1 {
			t.Errorf("%s", summary(r))
		}
	}
	if st := f.hub.Stats(); st.Watchers != 3 {
		t.Errorf("%d watchers", st.Watchers)
	}
}

// TestGuardsOfSlowWatchers: a watcher that is behind when its permission goes is not brought forward any more.
func TestGuardsOfSlowWatchers(t *testing.T) {
	f := newFixture(t, 1<<20)
	g := &denials{refused: map[string]string{}}
	stuck := &fakeSink{capacity: 1}
	f.hub.OpenGuarded(stuck, g).Create(create("k", "", 0), "")
	const n = 100
	for i := range n {
		f.write(put("k", fmt.Sprint(i)))
	}
	eventually(t, "the watcher is behind", func() bool { return f.hub.Stats().Slow == 1 })
	g.refuse("k", "", "not any more")
	f.hub.Recheck()
	for i := range n {
		f.write(put("k", fmt.Sprint("secret", i)))
	}
	for {
		r := stuck.await(t, 1)[0]
		for _, ev := range r.Events {
			if strings.HasPrefix(string(ev.Kv.Value), "secret") {
				t.Fatalf("shown: %s", summary(r))
			}
		}
		if r.Canceled {
			if r.CancelReason != "not any more" {
				t.Errorf("%s", summary(r))
			}
			break
		}
	}
	eventually(t, "it is gone", func() bool { return f.hub.Stats().Watchers == 0 })
}
