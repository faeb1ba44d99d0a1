package wal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/ids"
	. "quorate.dev/quorate/wal"
)

var owner = Metadata{Member: 0xabc, Cluster: 0xdef}

func small(files vfs.FS) Options { return Options{FS: files, SegmentBytes: 8 << 10} }

func create(t testing.TB, o Options) *Log {
	t.Helper()
	l, err := Create("wal", o, owner)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func open(t testing.TB, o Options, from ids.Index) (*Log, *Replay) {
	t.Helper()
	l, r, err := Open("wal", o, from)
	if err != nil {
		t.Fatal(err)
	}
	return l, r
}

func entry(index, term uint64, data string) *raftpb.Entry {
	e := &raftpb.Entry{Index: &index, Term: &term, Type: raftpb.EntryNormal.Enum()}
	if data != "" {
		e.Data = []byte(data)
	}
	return e
}

// entries makes the entries first to last of a term; contents depend on index, term and size.
func entries(first, last, term uint64, size int) []*raftpb.Entry {
	var es []*raftpb.Entry
	for i := first; i <= last; i++ {
		data := strings.Repeat(fmt.Sprintf("%d/%d,", i, term), size/4+1)[:size]
		es = append(es, entry(i, term, data))
	}
	return es
}

func state(term, vote, commit uint64) *raftpb.HardState {
	return &raftpb.HardState{Term: &term, Vote: &vote, Commit: &commit}
}

// show prints entries and state compactly: index@term:length, and a checksum of the contents where they are not entries().
func show(hs *raftpb.HardState, es []*raftpb.Entry) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d/%d/%d", hs.GetTerm(), hs.GetVote(), hs.GetCommit())
	for _, e := range es {
		fmt.Fprintf(&b, " %d@%d", e.GetIndex(), e.GetTerm())
		if e.GetType() != raftpb.EntryNormal {
			fmt.Fprintf(&b, "(%s)", e.GetType())
		}
		if len(e.Data) > 0 {
			fmt.Fprintf(&b, ":%q", e.Data)
		}
	}
	return b.String()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRoundTrip(t *testing.T) {
	files := vfs.NewMem()
	if Exists(files, "wal") {
		t.Error("a log exists in an empty file system")
	}
	if _, _, err := Open("wal", small(files), 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open without a log: %v", err)
	}
	l := create(t, small(files))
	if !Exists(files, "wal") {
		t.Error("no log exists after Create")
	}
	if _, err := Create("wal", small(files), owner); err == nil || !strings.Contains(err.Error(), "already holds a log") {
		t.Errorf("second Create: %v", err)
	}
	conf := entry(2, 1, "conf")
	conf.Type = raftpb.EntryConfChange.Enum()
	must(t, l.Append(state(1, 2, 0), []*raftpb.Entry{entry(1, 1, "a"), conf, entry(3, 1, "")}, true))
	must(t, l.Append(state(1, 2, 3), nil, false)) // kept back
	must(t, l.Append(nil, []*raftpb.Entry{entry(4, 2, "d")}, true))
	must(t, l.Append(state(2, 2, 4), nil, false)) // written by Close
	must(t, l.Close())
	if err := l.Append(nil, entries(5, 5, 2, 1), true); err == nil {
		t.Error("a closed log took an entry")
	}
	l, r := open(t, small(files), 0)
	want := `2/2/4 1@1:"a" 2@1(EntryConfChange):"conf" 3@1 4@2:"d"`
	if got := show(r.HardState, r.Entries); got != want || r.Metadata != owner || r.Cut != nil {
		t.Errorf("replayed %s, %v, %v; want %s", got, r.Metadata, r.Cut, want)
	}
	if r.Entries[2].Data != nil {
		t.Error("empty data came back as something else than nil")
	}
	must(t, l.Append(nil, entries(5, 5, 2, 1), true))
	must(t, l.Close())
	_, r = open(t, small(files), 3)
	if got := show(r.HardState, r.Entries); got != `2/2/4 4@2:"d" 5@2:"5"` {
		t.Errorf("above entry 3 there is %s", got)
	}
}

func TestOverwrite(t *testing.T) {
	for _, tail := range []uint64{0, 1, 2, 100} {
		o := small(vfs.NewMem())
		o.Tail = tail
		l := create(t, o)
		must(t, l.Append(state(1, 0, 2), entries(1, 9, 1, 4), true))
		must(t, l.Append(nil, entries(10, 12, 1, 2000), true)) // in another segment
		must(t, l.Append(state(2, 0, 2), entries(5, 7, 2, 4), true))
		must(t, l.Append(state(3, 0, 2), entries(3, 3, 3, 4), true))
		must(t, l.Append(nil, entries(4, 4, 3, 4), true))
		must(t, l.Close())
		_, r := open(t, o, 2)
		all := append(entries(1, 2, 1, 4), entries(3, 4, 3, 4)...)
		want := show(state(3, 0, 2), all[2-min(tail, 2):])
		if got := show(r.HardState, r.Entries); got != want {
			t.Errorf("tail %d: %s, want %s", tail, got, want)
		}
	}
}

func TestAppendChecksEntries(t *testing.T) {
	for name, es := range map[string][]*raftpb.Entry{
		"gap":          entries(5, 5, 1, 1),
		"zero":         {entry(0, 1, "")},
		"gap in group": {entry(4, 1, ""), entry(6, 1, "")},
		"back":         {entry(4, 1, ""), entry(3, 1, "")},
	} {
		t.Run(name, func(t *testing.T) {
			l := create(t, small(vfs.NewMem()))
			must(t, l.Append(nil, entries(1, 3, 1, 1), true))
			defer func() {
				if r := fmt.Sprint(recover()); !strings.HasPrefix(r, "BUG:") {
					t.Errorf("recovered %q, want a BUG panic", r)
				}
			}()
			l.Append(nil, es, true)
		})
	}
}

func TestSegmentsAndRelease(t *testing.T) {
	files := vfs.NewMem()
	l := create(t, small(files))
	for i := uint64(1); i <= 40; i++ {
		must(t, l.Append(state(1, 1, i-1), entries(i, i, 1, 1000), true))
	}
	if l.Segments() < 6 || l.Bytes() != int64(l.Segments())*8<<10 {
		t.Errorf("40 kB in segments of 8 KiB made %d segments of %d bytes", l.Segments(), l.Bytes())
	}
	must(t, l.Release(0))
	before := l.Segments()
	must(t, l.Release(20))
	if n := l.Segments(); n >= before || n < 3 {
		t.Errorf("Release(20) left %d of %d segments", n, before)
	}
	must(t, l.Close())
	l, r := open(t, small(files), 20)
	if got, want := show(r.HardState, r.Entries), show(state(1, 1, 39), entries(21, 40, 1, 1000)); got != want {
		t.Errorf("after Release(20) the log holds %.200s, want %.200s", got, want)
	}
	must(t, l.Release(40))
	if n := l.Segments(); n != 1 {
		t.Errorf("Release(40) left %d segments", n)
	}
	must(t, l.Append(nil, entries(41, 41, 1, 5), true))
	must(t, l.Close())
	l, r = open(t, small(files), 40)
	if got, want := show(r.HardState, r.Entries), show(state(1, 1, 39), entries(41, 41, 1, 5)); got != want {
		t.Errorf("after Release(40) the log holds %.200s, want %.200s", got, want)
	}
	must(t, l.Close())
	var corrupt *CorruptError
	if _, _, err := Open("wal", small(files), 10); !errors.As(err, &corrupt) || !strings.Contains(err.Error(), "what lies between is missing") {
		t.Errorf("open for a store that ends before the log starts: %v", err)
	}
	if _, _, err := Open("wal", small(files), 50); !errors.As(err, &corrupt) || !strings.Contains(err.Error(), "the end of the log is missing") {
		t.Errorf("open for a store that is ahead of the log: %v", err)
	}
}

func TestLargeGroup(t *testing.T) {
	files := vfs.NewMem()
	l := create(t, small(files))
	must(t, l.Append(nil, entries(1, 50, 1, 1000), true))
	must(t, l.Append(nil, entries(51, 51, 1, 10), true))
	must(t, l.Close())
	_, r := open(t, small(files), 0)
	if got, want := show(r.HardState, r.Entries), show(state(0, 0, 0), append(entries(1, 50, 1, 1000), entries(51, 51, 1, 10)...)); got != want {
		t.Errorf("a group larger than a segment came back as %.200s", got)
	}
}

func TestInstall(t *testing.T) {
	files := vfs.NewMem()
	l := create(t, small(files))
	must(t, l.Append(state(1, 0, 3), entries(1, 5, 1, 1000), true))
	must(t, l.Install(state(4, 0, 100), 100, 4))
	must(t, l.Append(nil, entries(101, 102, 4, 10), true))
	must(t, l.Close())
	l, r := open(t, small(files), 100)
	if got, want := show(r.HardState, r.Entries), show(state(4, 0, 100), entries(101, 102, 4, 10)); got != want {
		t.Errorf("after Install the log holds %s, want %s", got, want)
	}
	must(t, l.Close())
	if _, _, err := Open("wal", small(files), 5); err == nil {
		t.Error("a store that ends at 5 opened a log that starts at 101")
	}
}

func TestObserver(t *testing.T) {
	var seen []Group
	o := small(vfs.NewMem())
	o.Observe = func(g Group) { seen = append(seen, g) }
	l := create(t, o)
	must(t, l.Append(nil, entries(1, 3, 1, 300), true))
	must(t, l.Append(nil, nil, true))
	if len(seen) != 1 || seen[0].Entries != 3 || seen[0].Bytes != 1024 {
		t.Errorf("observed %+v, want one group of 3 entries and 1024 bytes", seen)
	}
}

// script is a random series of calls, and what must be found after each.
type script struct {
	rng  *rand.Rand
	log  []*raftpb.Entry // what the log holds
	hs   [3]uint64       // durable
	next [3]uint64       // given
}

// step makes one random call. The model changes before the call with attempt, and is acknowledged when it returned.
func (s *script) step(l *Log, attempt func(hs [3]uint64, log []*raftpb.Entry)) error {
	log := slices.Clone(s.log)
	hs := s.next
	if s.rng.IntN(6) == 0 && len(log) > 0 { // a new leader replaces the end
		hs[0]++
		log = log[:max(int(hs[2]), len(log)-s.rng.IntN(4))]
	}
	var group []*raftpb.Entry
	size := []int{0, 10, 300, 470, 480, 3000}[s.rng.IntN(6)]
	for range s.rng.IntN(5) {
		n := uint64(len(log)) + 1
		es := entries(n, n, hs[0], s.rng.IntN(size+1))
		group, log = append(group, es...), append(log, es...)
	}
	if len(group) == 0 {
		log = s.log
	}
	hs[2] = min(uint64(len(log)), hs[2]+uint64(s.rng.IntN(3)))
	hs[1] = uint64(s.rng.IntN(3))
	sync := s.rng.IntN(4) > 0
	attempt(hs, log)
	s.next = hs
	if err := l.Append(state(hs[0], hs[1], hs[2]), group, sync); err != nil {
		return err
	}
	s.log = log
	if sync || len(group) > 0 {
		s.hs = hs
	}
	return nil
}

// TestCrashAtEveryOperation loses power before every single file operation of a random script, with a random part of what
// was not synced, and reopens: the log must open, hold everything acknowledged, and nothing that was not appended.
func TestCrashAtEveryOperation(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	cuts, crashes, rounds := 0, 0, 30
	if testing.Short() { // one goroutine has no races
		rounds = 6
	}
	for round := range uint64(rounds) {
		mem := vfs.NewCrashableMem()
		s := &script{rng: rand.New(rand.NewPCG(seed, round))}
		crash := rand.New(rand.NewPCG(seed, round+1000))
		tryHS, tryLog := s.hs, s.log
		created, released := false, uint64(0)
		files := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
				return nil
			}
			crashes++
			after := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[crash.IntN(3)], RNG: crash})
			if !created && !Exists(after, "wal") {
				return nil
			}
			cuts += checkCrashed(t, after, released, [][3]uint64{s.hs, s.next, tryHS}, s.log, tryLog)
			return nil
		}))
		l := create(t, small(files))
		created = true
		for range 40 {
			must(t, s.step(l, func(hs [3]uint64, log []*raftpb.Entry) { tryHS, tryLog = hs, log }))
			if s.rng.IntN(15) == 0 {
				must(t, l.Close())
				s.hs = s.next
				l, _ = open(t, small(files), ids.Index(released))
			}
			if s.rng.IntN(10) == 0 {
				released = max(released, s.hs[2])
				must(t, l.Release(ids.Index(released)))
			}
		}
	}
	t.Logf("%d crashes, %d cuts", crashes, cuts)
	// About 35 are usual; which part of a write survives is not the seed's alone, so what is asserted leaves room for any luck.
	if crashes < 60*rounds || cuts < 3 && !testing.Short() {
		t.Errorf("only %d crashes and %d cut tails: the test does not test", crashes, cuts)
	}
}

// checkCrashed opens a crashed log, checks it against what was acknowledged and what was attempted, and returns the number
// of cut tails.
func checkCrashed(t *testing.T, files vfs.FS, from uint64, states [][3]uint64, acked, attempted []*raftpb.Entry) int {
	t.Helper()
	l, r, err := Open("wal", small(files), ids.Index(from))
	if err != nil {
		t.Fatalf("a crash made the log unreadable: %v", err)
	}
	var got []string
	for _, log := range [][]*raftpb.Entry{acked, attempted} {
		for _, hs := range states {
			got = append(got, show(state(hs[0], hs[1], hs[2]), log[from:]))
		}
	}
	if found := show(r.HardState, r.Entries); !slices.Contains(got, found) {
		t.Fatalf("found     %.300s\nacked     %.300s\nattempted %.300s", found, got[0], got[len(got)-1])
	}
	// What was found can be built on.
	next := from + uint64(len(r.Entries)) + 1
	must(t, l.Append(nil, entries(next, next, 99, 600), true))
	must(t, l.Close())
	l, again := open(t, small(files), ids.Index(from))
	if again.Cut != nil || len(again.Entries) != len(r.Entries)+1 {
		t.Fatalf("after the repair: %v, %d entries, want %d", again.Cut, len(again.Entries), len(r.Entries)+1)
	}
	must(t, l.Close())
	if r.Cut != nil {
		return 1
	}
	return 0
}

// TestEveryOperationFails lets the i-th file operation fail, for every i: the call must fail, so must every later one, and
// everything acknowledged must be found afterwards.
func TestEveryOperationFails(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for i := 0; ; i++ {
		mem := vfs.NewCrashableMem()
		counter := &errorfs.Counter{Injector: errorfs.OnIndex(int32(i))}
		files := errorfs.Wrap(mem, counter)
		s := &script{rng: rand.New(rand.NewPCG(seed, 1))}
		tryHS, tryLog := s.hs, s.log
		l, err := Create("wal", small(files), owner)
		for n := 0; err == nil && n < 60; n++ {
			if n == 30 {
				if err := l.Release(ids.Index(len(s.log) / 2)); err != nil && counter.Load() == 0 {
					t.Fatal(err)
				}
			}
			err = s.step(l, func(hs [3]uint64, log []*raftpb.Entry) { tryHS, tryLog = hs, log })
		}
		if l == nil {
			continue
		}
		if (err == nil) != (l.Err() == nil) {
			t.Fatalf("operation %d: Append said %v and Err %v", i, err, l.Err())
		}
		if err != nil {
			if again := l.Append(nil, entries(1, 1, 9, 1), true); again == nil || again.Error() != err.Error() {
				t.Fatalf("operation %d: after %v Append said %v", i, err, again)
			}
		}
		l.Close()
		_, r, err := Open("wal", small(mem.CrashClone(vfs.CrashCloneCfg{})), 0)
		if counter.Load() == 0 {
			break
		}
		if err != nil && !strings.Contains(err.Error(), "what lies between") { // the released part may be gone
			t.Fatalf("operation %d: %v", i, err)
		}
		if err == nil {
			found := show(r.HardState, r.Entries)
			for _, hs := range [][3]uint64{s.hs, s.next, tryHS} {
				if found == show(state(hs[0], hs[1], hs[2]), s.log) || found == show(state(hs[0], hs[1], hs[2]), tryLog) {
					found = ""
				}
			}
			if found != "" {
				t.Fatalf("operation %d: found %.300s", i, found)
			}
		}
	}
}

// TestTornSectors mixes old and new sectors of the last group in every way (or many ways) that a disk may leave.
func TestTornSectors(t *testing.T) {
	for _, size := range []int{1, 460, 480, 2000, 6000} {
		mem := vfs.NewCrashableMem()
		l := create(t, small(mem))
		must(t, l.Append(state(1, 1, 0), entries(1, 1, 1, 100), true))
		name, before := content(t, mem)
		must(t, l.Append(nil, entries(2, 2, 1, size), true))
		_, after := content(t, mem)
		var sectors []int
		for at := 0; at < len(after); at += 512 {
			if !bytes.Equal(before[at:at+512], after[at:at+512]) {
				sectors = append(sectors, at)
			}
		}
		for mask := range 1 << len(sectors) {
			torn := slices.Clone(before)
			for i, at := range sectors {
				if mask>>i&1 == 1 {
					copy(torn[at:at+512], after[at:at+512])
				}
			}
			_, r, err := Open("wal", small(with(t, name, torn)), 0)
			if err != nil {
				t.Fatalf("size %d, sectors %b written: %v", size, mask, err)
			}
			want := 1
			if mask == 1<<len(sectors)-1 {
				want = 2
			}
			if len(r.Entries) != want || (r.Cut != nil) != (want == 1 && mask != 0) {
				t.Fatalf("size %d, sectors %b written: %d entries, cut %v", size, mask, len(r.Entries), r.Cut)
			}
		}
	}
}

// content returns name and bytes of the only segment.
func content(t *testing.T, mem *vfs.MemFS) (string, []byte) {
	t.Helper()
	names, err := mem.List("wal")
	must(t, err)
	name := path.Join("wal", names[0])
	b, err := mem.UnsafeGetFileDataBuffer(name)
	must(t, err)
	return name, slices.Clone(b)
}

// with returns a file system that holds one file.
func with(t testing.TB, name string, data []byte) *vfs.MemFS {
	t.Helper()
	mem := vfs.NewMem()
	must(t, mem.MkdirAll(path.Dir(name), 0o700))
	f, err := mem.Create(name, "")
	must(t, err)
	_, err = f.Write(data)
	must(t, err)
	must(t, f.Close())
	return mem
}

// threeSegments is a log with acknowledged entries 1 to 8 in three segments of 4 KiB.
func threeSegments(t testing.TB) (*vfs.MemFS, Options, string) {
	t.Helper()
	mem := vfs.NewCrashableMem()
	o := Options{FS: mem, SegmentBytes: 4 << 10}
	l := create(t, o)
	for i := uint64(1); i <= 8; i++ {
		must(t, l.Append(state(1, 1, i-1), entries(i, i, 1, 200*int(i)), true))
	}
	if l.Segments() != 3 {
		t.Fatalf("%d segments, want 3", l.Segments())
	}
	must(t, l.Close())
	_, r := open(t, o, 0)
	return mem, o, show(r.HardState, r.Entries)
}

// TestEveryBitFlip flips a bit in every byte, and checks that all acknowledged entries are found, or a CorruptError that
// names the file. The flip is in acknowledged data or in room that was never written.
func TestEveryBitFlip(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	mem, o, want := threeSegments(t)
	names, err := mem.List("wal")
	must(t, err)
	corrupted := 0
	for _, name := range names {
		for at := 0; ; at++ {
			o.FS = mem.CrashClone(vfs.CrashCloneCfg{})
			data, err := o.FS.(*vfs.MemFS).UnsafeGetFileDataBuffer(path.Join("wal", name))
			must(t, err)
			if at == len(data) {
				break
			}
			data[at] ^= 1 << rng.IntN(8)
			corrupted += checkDamaged(t, o, want, fmt.Sprintf("byte %d of %s flipped", at, name))
		}
	}
	if corrupted < 5000 {
		t.Errorf("only %d flips were noticed", corrupted)
	}
}

// checkDamaged opens a damaged log, fails the test if it shows anything but want, and returns 1 if it is refused.
func checkDamaged(t *testing.T, o Options, want, how string) int {
	t.Helper()
	_, r, err := Open("wal", o, 0)
	var corrupt *CorruptError
	switch {
	case errors.As(err, &corrupt):
		if !strings.HasPrefix(corrupt.File, "wal/") || !strings.Contains(err.Error(), fmt.Sprintf("%s is damaged at offset %d", corrupt.File, corrupt.Offset)) {
			t.Fatalf("%s: the error does not name file and offset: %v", how, err)
		}
		return 1
	case err != nil:
		t.Fatalf("%s: %v", how, err)
	case show(r.HardState, r.Entries) != want:
		t.Fatalf("%s: acknowledged entries were lost or changed, cut %v:\n%.300s\nwant\n%.300s", how, r.Cut, show(r.HardState, r.Entries), want)
	}
	return 0
}

// TestEveryTruncation shortens each segment to every length.
func TestEveryTruncation(t *testing.T) {
	mem, o, want := threeSegments(t)
	names, err := mem.List("wal")
	must(t, err)
	for _, name := range names {
		data, err := mem.UnsafeGetFileDataBuffer(path.Join("wal", name))
		must(t, err)
		for n := range len(data) {
			clone := mem.CrashClone(vfs.CrashCloneCfg{})
			f, err := clone.Create(path.Join("wal", name), "")
			must(t, err)
			_, err = f.Write(slices.Clone(data[:n]))
			must(t, err)
			must(t, f.Close())
			o.FS = clone
			if checkDamaged(t, o, want, fmt.Sprintf("%s cut to %d bytes", name, n)) == 0 {
				t.Fatalf("%s cut to %d bytes: opened", name, n)
			}
		}
	}
}

// TestLostBlocks removes whole files, and zeroes runs of sectors before the last group, as disks do that lose writes.
func TestLostBlocks(t *testing.T) {
	mem, o, want := threeSegments(t)
	names, err := mem.List("wal")
	must(t, err)
	slices.Sort(names)
	for i, name := range names {
		clone := mem.CrashClone(vfs.CrashCloneCfg{})
		must(t, clone.Remove(path.Join("wal", name)))
		o.FS = clone
		if i < len(names)-1 && checkDamaged(t, o, want, name+" removed") == 0 {
			t.Errorf("%s removed: opened", name)
		}
	}
	for _, name := range names[:2] {
		for at := 0; at < 4096; at += 512 {
			for end := at + 512; end <= 4096; end += 512 {
				clone := mem.CrashClone(vfs.CrashCloneCfg{})
				data, err := clone.UnsafeGetFileDataBuffer(path.Join("wal", name))
				must(t, err)
				clear(data[at:end])
				o.FS = clone
				checkDamaged(t, o, want, fmt.Sprintf("%s zeroed from %d to %d", name, at, end))
			}
		}
	}
	// In the last segment, with a whole group after the damage.
	clone := mem.CrashClone(vfs.CrashCloneCfg{})
	o.FS = clone
	l, _ := open(t, o, 0)
	must(t, l.Append(nil, entries(9, 9, 1, 10), true))
	must(t, l.Append(nil, entries(10, 10, 1, 10), true))
	must(t, l.Close())
	names, err = clone.List("wal")
	must(t, err)
	slices.Sort(names)
	data, err := clone.UnsafeGetFileDataBuffer(path.Join("wal", names[len(names)-1]))
	must(t, err)
	for at := 512; ; at += 512 {
		if bytes.Contains(data[at:at+512], []byte("9/1")) {
			clear(data[at : at+512])
			break
		}
	}
	var corrupt *CorruptError
	if _, _, err := Open("wal", o, 0); !errors.As(err, &corrupt) || !strings.Contains(err.Error(), "was written after it was durable") {
		t.Errorf("a lost sector before an acknowledged group: %v", err)
	}
}

// TestLostState loses the last group of a full segment when it holds only a hard state, which no entry after it misses.
func TestLostState(t *testing.T) {
	mem := vfs.NewCrashableMem()
	o := Options{FS: mem, SegmentBytes: 1536}
	l := create(t, o)
	must(t, l.Append(nil, entries(1, 1, 1, 10), true))
	must(t, l.Append(state(7, 7, 0), nil, true))
	name, data := content(t, mem)
	must(t, l.Append(nil, entries(2, 2, 7, 10), true))
	clear(data[1024:])
	live, err := mem.UnsafeGetFileDataBuffer(name)
	must(t, err)
	copy(live, data)
	var corrupt *CorruptError
	if _, _, err := Open("wal", o, 0); !errors.As(err, &corrupt) || corrupt.File != name || corrupt.Offset != 1024 {
		t.Errorf("a vote was lost and Open said %v", err)
	}
}

// TestLargeCut cuts an interrupted group that is larger than what one append clears ahead of itself.
func TestLargeCut(t *testing.T) {
	mem := vfs.NewCrashableMem()
	o := Options{FS: mem, SegmentBytes: 2 << 20}
	l := create(t, o)
	must(t, l.Append(nil, entries(1, 1, 1, 1_000_000), true))
	name, data := content(t, mem)
	clear(data[512:1024])
	o.FS = with(t, name, data)
	l, r := open(t, o, 0)
	if r.Cut == nil || r.Cut.Offset != 512 || r.Cut.Bytes < 1_000_000 {
		t.Fatalf("cut %v", r.Cut)
	}
	must(t, l.Append(nil, entries(1, 1, 2, 1), true))
	must(t, l.Close())
	if _, r = open(t, o, 0); r.Cut != nil || len(r.Entries) != 1 {
		t.Errorf("after the repair: %d entries, cut %v", len(r.Entries), r.Cut)
	}
}

// TestOpenMakesDurable checks that what Open returned survives the next crash even if it was never synced before, and that
// the last group is written anew, which a sync that failed before makes necessary.
func TestOpenMakesDurable(t *testing.T) {
	mem := vfs.NewCrashableMem()
	o := small(mem)
	l := create(t, o)
	must(t, l.Append(nil, entries(1, 1, 1, 100), true))
	var ops []string
	failing := false
	o.FS = errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if failing && op.Kind == errorfs.OpFileSyncData {
			return errors.New("sync failed")
		}
		if op.Kind == errorfs.OpFileWriteAt || op.Kind == errorfs.OpFileSyncData {
			ops = append(ops, fmt.Sprint(op.Kind == errorfs.OpFileWriteAt, op.Offset))
		}
		return nil
	}))
	must(t, l.Close())
	l, _ = open(t, o, 0)
	failing = true
	if err := l.Append(nil, entries(2, 2, 1, 100), true); err == nil {
		t.Fatal("a failed sync was acknowledged")
	}
	failing, ops = false, nil
	_, r := open(t, o, 0)
	if len(r.Entries) != 2 {
		t.Fatalf("%d entries in the page cache, want 2", len(r.Entries))
	}
	if got := strings.Join(ops, ", "); got != "true 1024, false 0" {
		t.Errorf("Open did %s; want the group at 1024 written and then a sync", got)
	}
	o.FS = mem.CrashClone(vfs.CrashCloneCfg{})
	if _, r = open(t, o, 0); len(r.Entries) != 2 {
		t.Errorf("%d entries after the crash, want the 2 that Open returned", len(r.Entries))
	}
}

// TestNoSync checks that damage which the missing sync explains is cut, and that it is not taken for proof otherwise.
func TestNoSync(t *testing.T) {
	mem := vfs.NewCrashableMem()
	o := small(mem)
	o.NoSync = true
	l := create(t, o)
	for i := uint64(1); i <= 3; i++ {
		must(t, l.Append(nil, entries(i, i, 1, 10), true))
	}
	name, data := content(t, mem)
	clear(data[1024:1536]) // entry 2
	o.FS = with(t, name, data)
	if _, r := open(t, o, 0); len(r.Entries) != 1 || r.Cut == nil || r.Cut.Offset != 1024 || r.Cut.Bytes != 1024 {
		t.Errorf("%d entries, cut %v", len(r.Entries), r.Cut)
	}
}

// TestDocumentedLayout is the example of docs/format/wal.md.
func TestDocumentedLayout(t *testing.T) {
	mem := vfs.NewCrashableMem()
	l := create(t, small(mem))
	must(t, l.Append(state(1, 2, 0), []*raftpb.Entry{entry(1, 1, "a")}, true))
	_, data := content(t, mem)
	if got, want := fmt.Sprintf("%x", data[:9]), "d371756f7277616c00"; got != want {
		t.Errorf("the file starts with %s, want %s", got, want)
	}
	if got, want := fmt.Sprintf("%x", data[0x200:0x219]), "a60100000000000000"+"0002000000000000"+"0a000000"+"00000000"; got != want {
		t.Errorf("the group starts with %s, want %s", got, want)
	}
	if got, want := fmt.Sprintf("%x", data[0x225:0x230]), "01010200"+"020001010161"+"00"; got != want {
		t.Errorf("the body is %s, want %s", got, want)
	}
	if !bytes.Equal(data[0x219:0x21d], data[89:93]) {
		t.Error("the first group does not continue the header's checksum")
	}
}

func TestNewerVersionIsRefused(t *testing.T) {
	mem := vfs.NewCrashableMem()
	must(t, create(t, small(mem)).Close())
	name, data := content(t, mem)
	data[9] = 2
	if _, _, err := Open("wal", small(with(t, name, data)), 0); err == nil || !strings.Contains(err.Error(), "start that release") {
		t.Errorf("version 2: %v", err)
	}
}

func TestRealFiles(t *testing.T) {
	dir := t.TempDir() + "/a/wal"
	o := Options{SegmentBytes: 64 << 10}
	l, err := Create(dir, o, owner)
	must(t, err)
	for i := uint64(1); i <= 300; i++ {
		must(t, l.Append(state(1, 1, i-1), entries(i, i, 1, 1000), true))
	}
	must(t, l.Release(100))
	must(t, l.Close())
	l, r, err := Open(dir, o, 100)
	must(t, err)
	if got, want := show(r.HardState, r.Entries), show(state(1, 1, 299), entries(101, 300, 1, 1000)); got != want {
		t.Errorf("found %.200s, want %.200s", got, want)
	}
	must(t, l.Append(nil, entries(301, 301, 1, 1), true))
	must(t, l.Close())
}
