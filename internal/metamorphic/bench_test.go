package metamorphic

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/check"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/watch"
	"quorate.dev/quorate/wire"
)

const self = ids.MemberID(0xa1)

var config = state.Config{Member: self, Cluster: 0xc1, LeaseTTLMin: 2}

// settings is everything that must not matter. Percentages are of batches.
type settings struct {
	Host                         bool  // a raft host with its log applies, not the test
	Batch                        int   // commands at once, at most
	Overlap                      int   // commands that come again at the beginning of a batch
	MemTable, Cache              int64 // bytes
	Flush, AsyncFlush            int   // percent
	Restart, Crash               int   // percent; at most a dozen in a run
	Unsynced                     int   // percent of unsynced data that outlives a crash
	Background, Steps            int   // percent; steps at most
	Collect                      int   // percent: garbage collections, after which places of memory are used again
	Keep, Page, Readers          int   // old views that are kept; keys in a page of a long list; goroutines that read
	LogRevisions, Fragment       int   // of the watch hub
	Outbox, Take, Progress, Meet int   // messages that a stream holds; percent: watchers take messages, ask for progress, wait until they have all
}

// choose makes settings up.
func choose(r *rand.Rand, hosted bool) settings {
	of := func(choices ...int) int { return choices[r.IntN(len(choices))] }
	return settings{
		Host: hosted && r.IntN(2) == 0, Batch: of(1, 4, 30, 150, 1000), Overlap: of(0, 3),
		MemTable: int64(of(1, 2, 16)) << 20, Cache: int64(of(16<<10, 8<<20)),
		Flush: of(0, 3, 15), AsyncFlush: of(0, 3, 15), Restart: of(0, 2, 10), Crash: of(0, 2, 10), Unsynced: of(0, 40, 100),
		Background: of(0, 20, 100), Steps: of(1, 7, 1000), Collect: of(0, 1, 5), Keep: of(0, 3, 12), Page: of(1, 7, 40), Readers: of(0, 2),
		LogRevisions: of(1, 20, 300, 0), Fragment: of(300, 5000, 2<<20),
		Outbox: of(1, 4, 0), Take: of(5, 50, 100), Progress: of(0, 10), Meet: of(0, 10),
	}
}

// tally counts what happened in all plays: a test in which nothing happens proves nothing.
type tally struct{ plays, hosted, restarts, crashes, reapplied, compactedAway, viewsRead, viewsOvertaken, listsRead, listsOvertaken, seen int }

// bench is a member that plays a script under settings, and compares.
type bench struct {
	*testing.T
	*script
	set      settings
	tally    *tally
	seed     uint64
	rng      *rand.Rand
	fs       *vfs.MemFS
	engine   *storage.Engine
	machine  *state.Machine
	host     *hosting // nil unless set.Host
	hub      *watch.Hub
	watching []*watcher
	kept     []keptView
	lists    []*keptList
	reading  *readers
	at       int          // commands applied
	bound    atomic.Int64 // the newest compaction that may have happened
	stops    int
}

// keptView is a view that outlives its time, and what it must show.
type keptView struct {
	view *state.View
	want [][]byte
}

// keptList is a long list that is read page by page.
type keptList struct {
	scan      *mvcc.Scan
	want, got [][]byte
}

// play runs the whole script.
func play(t *testing.T, s *script, set settings, seed uint64, sum *tally) {
	sum.plays++
	if set.Host {
		sum.hosted++
	}
	b := &bench{T: t, script: s, set: set, tally: sum, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), fs: vfs.NewCrashableMem()}
	b.start()
	for b.at < len(s.cmds) && !t.Failed() {
		n := 1 + b.rng.IntN(set.Batch)
		for i := range s.probes {
			if at := s.probes[i].at; at > b.at {
				n = min(n, at-b.at)
				break
			}
		}
		b.apply(min(n, len(s.cmds)-b.at))
		for i := range s.probes {
			if s.probes[i].at == b.at {
				b.probe(&s.probes[i])
			}
		}
		b.disturb()
	}
	b.finish()
}

// finish compares what is left in the end, also after one more start.
func (b *bench) finish() {
	defer b.stop()
	if b.Failed() {
		return
	}
	last := &b.probes[len(b.probes)-1]
	b.meet()
	b.judge()
	b.probe(last)
	b.stop()
	b.start()
	b.probe(last)
	if got := remains(b.T, b.engine, b.machine, b.set.Steps, b.hosted); got != b.final {
		b.Errorf("when all housekeeping is done there is\n%s\nand must be\n%s", got, b.final)
	}
}

func (b *bench) percent(n int) bool { return b.rng.IntN(100) < n }

func (b *bench) start() {
	var err error
	b.engine, err = storage.Open("db", storage.Options{FS: b.fs, MemTableBytes: b.set.MemTable, CacheBytes: b.set.Cache})
	require.NoError(b, err)
	b.machine, err = state.Open(b.engine, config)
	require.NoError(b, err)
	machine := b.machine
	b.hub = watch.New(watch.Config{
		View: func() *mvcc.View { return machine.View().View }, Header: func() wire.Header { return wire.Header{} },
		FragmentBytes: b.set.Fragment, LogRevisions: b.set.LogRevisions,
	})
	b.startReaders()
	if b.set.Host {
		b.host = b.startHost(b.host)
	} else {
		b.tally.reapplied += b.at - int(b.machine.Applied().Index)
		b.at = int(b.machine.Applied().Index)
	}
	b.openWatchers()
}

// down lets go of everything that belongs to the running member but its engine.
func (b *bench) down() {
	b.stopReaders()
	if b.host != nil {
		b.host.stop(b.T)
	}
	for _, w := range b.watching {
		w.lose()
	}
	b.hub.Close()
	b.kept, b.lists = nil, nil
}

func (b *bench) stop() {
	if b.engine == nil {
		return
	}
	b.down()
	require.NoError(b, b.engine.Close())
	b.engine = nil
}

// crash cuts the power.
func (b *bench) crash() {
	fs := b.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: b.set.Unsynced, RNG: b.rng})
	b.down()
	require.NoError(b, b.engine.CloseDirty())
	b.fs = fs
	b.start()
}

// openWatchers opens the watchers whose time has come, and reopens those that were there.
func (b *bench) openWatchers() {
	for i := len(b.watching); i < len(b.watchers) && b.watchers[i].after <= b.at; i++ {
		b.watching = append(b.watching, newWatcher(b.T, fmt.Sprint("w", i), b.watchers[i].req))
	}
	for _, w := range b.watching {
		if w.stream == nil {
			w.open(b.hub, b.set.Outbox)
		}
	}
}

// apply has the next n commands applied.
func (b *bench) apply(n int) {
	b.kick()
	b.bound.Store(max(b.bound.Load(), b.steps[b.at+n-1].compacted))
	if b.host != nil {
		b.host.apply(b, n)
	} else {
		again := min(b.at, b.rng.IntN(b.set.Overlap+1))
		results := make([]command.Result, again+n)
		effects, err := b.machine.Apply(b.cmds[b.at-again:b.at+n], results)
		require.NoError(b, err)
		b.compare(b.at, results[again:], &effects)
		b.hub.Publish(effects.Events)
	}
	b.at += n
}

// compare holds the results and effects of a batch against those of the reference. It is for any goroutine.
func (b *bench) compare(at int, results []command.Result, effects *state.Effects) {
	var events, leases, members []string
	for i := range results {
		want := &b.steps[at+i]
		if got := showResult(&results[i]); got != want.result {
			b.Errorf("command %d, %s, is answered\n%s\nand must be answered\n%s", at+i, b.cmds[at+i].Kind, got, want.result)
		}
		events, leases, members = append(events, want.events...), append(leases, want.leases...), append(members, want.members...)
	}
	gotEvents, gotLeases, gotMembers := showEffects(effects)
	b.same(fmt.Sprintf("the events of %d commands from %d on", len(results), at), gotEvents, events)
	b.same(fmt.Sprintf("the changes of leases of %d commands from %d on", len(results), at), gotLeases, leases)
	if !b.set.Host { // its founding is a change more
		b.same(fmt.Sprintf("the changes of members of %d commands from %d on", len(results), at), gotMembers, members)
	}
	if c := effects.Compacted; c != nil {
		if hash, err := mvcc.HashOf(c.Frozen, c.Previous, c.At); err != nil || hash != b.hashes[[2]ids.Revision{c.Previous, c.At}] {
			b.Errorf("the compaction at %d, after that at %d, found hash %+v (%v), and must find %+v", c.At, c.Previous, hash, err, b.hashes[[2]ids.Revision{c.Previous, c.At}])
		}
		if err := c.Frozen.Close(); err != nil {
			b.Error(err)
		}
	}
}

func (b *bench) same(what string, got, want []string) {
	for i := range max(len(got), len(want)) {
		g, w := "nothing", "nothing"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			b.Errorf("of %s, number %d is\n%s\nand must be\n%s", what, i, g, w)
			return
		}
	}
}

// probe asks the questions of a probe, and keeps what it may want to look at later.
func (b *bench) probe(p *probe) {
	got, _ := p.ask(b.T, b.machine)
	for i := range p.want {
		if got[i] != p.want[i] {
			b.Errorf("after %d commands, %s is\n%s\nand must be\n%s", p.at, p.question(i), got[i], p.want[i])
			return
		}
	}
	if len(b.kept) < b.set.Keep {
		v := b.machine.View()
		b.kept = append(b.kept, keptView{v, p.keys})
		scan, err := v.Scan(everything())
		require.NoError(b, err)
		b.lists = append(b.lists, &keptList{scan: scan, want: p.keys})
	}
}

// disturb does at random what must make no difference.
func (b *bench) disturb() {
	if b.percent(b.set.Flush) {
		require.NoError(b, b.engine.Flush())
	}
	if b.percent(b.set.AsyncFlush) {
		_, err := b.engine.AsyncFlush()
		require.NoError(b, err)
	}
	if b.percent(b.set.Collect) {
		runtime.GC()
	}
	if !b.set.Host && b.percent(b.set.Background) {
		b.kick()
		_, err := b.machine.Background(1 + b.rng.IntN(b.set.Steps))
		require.NoError(b, err)
	}
	b.look()
	b.openWatchers()
	for _, w := range b.watching {
		if b.percent(b.set.Take) {
			w.take(1+b.rng.IntN(5), b.bound.Load())
		}
		if b.percent(b.set.Progress) {
			w.stream.Progress()
		}
	}
	if b.percent(b.set.Meet) {
		b.meet()
	}
	switch {
	case b.stops >= 12:
	case b.percent(b.set.Restart):
		b.stops++
		b.tally.restarts++
		b.stop()
		b.start()
	case b.percent(b.set.Crash):
		b.stops++
		b.tally.crashes++
		b.crash()
	}
}

// look reads on in old views and long lists.
func (b *bench) look() {
	compacted := b.machine.View().Compacted()
	overtaken := func(err error, at ids.Revision) bool {
		return (errors.Is(err, mvcc.Stale) || errors.Is(err, fault.Compacted)) && at < compacted
	}
	b.kept = slices.DeleteFunc(b.kept, func(k keptView) bool {
		if b.rng.IntN(8) > 0 {
			return false
		}
		resp, err := k.view.Range(everything())
		if b.tally.viewsRead++; err != nil {
			b.tally.viewsOvertaken++
		}
		if err == nil && !slices.EqualFunc(resp.KVs, k.want, bytes.Equal) {
			b.Errorf("the view of revision %d shows, at revision %d,\n%s\nand must show\n%s", k.view.Revision(), b.machine.View().Revision(), showKVs(resp.KVs), showKVs(k.want))
		} else if err != nil && !overtaken(err, k.view.Revision()) {
			b.Errorf("the view of revision %d shows, at revision %d, the newest compaction being at %d: %v", k.view.Revision(), b.machine.View().Revision(), compacted, err)
		}
		return err != nil
	})
	b.lists = slices.DeleteFunc(b.lists, func(l *keptList) bool {
		page, done, err := l.scan.Page(nil, b.set.Page, 1<<20)
		l.got = append(l.got, page...)
		switch {
		case err != nil:
			b.tally.listsOvertaken++
		case done:
			b.tally.listsRead++
		}
		if err != nil && !overtaken(err, ids.Revision(l.scan.Revision())) {
			b.Errorf("the list at revision %d fails: %v", l.scan.Revision(), err)
		}
		if err == nil && done && !slices.EqualFunc(l.got, l.want, bytes.Equal) {
			b.Errorf("the list at revision %d is\n%s\nand must be\n%s", l.scan.Revision(), showKVs(l.got), showKVs(l.want))
		}
		return err != nil || done
	})
}

// meet waits until every watcher has all there is.
func (b *bench) meet() {
	now := int64(b.machine.View().Revision())
	for _, w := range b.watching {
		last := int64(0)
		for _, batch := range b.events.Sessions[0].Batches {
			if batch.Revision <= now && slices.ContainsFunc(batch.Events, w.current().Wants) {
				last = batch.Revision
			}
		}
		w.await(last, b.bound.Load())
	}
}

// judge checks what all watchers saw against the events of the reference.
func (b *bench) judge() {
	if b.Failed() {
		return
	}
	last := b.steps[len(b.steps)-1]
	truth, report := check.TruthOf([]check.Watch{b.events}, last.compacted)
	for _, w := range b.watching {
		w.current().Through = last.revision
		b.tally.compactedAway += len(w.seen) - 1
		for _, part := range w.seen {
			for _, s := range part.Sessions {
				b.tally.seen += len(s.Batches)
			}
		}
		found := check.Watches(w.seen, truth)
		report.Violations = append(report.Violations, found.Violations...)
	}
	for _, v := range report.Violations {
		b.Errorf("%v", v)
	}
}
