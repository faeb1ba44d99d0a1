package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"quorate.dev/quorate/audit"
	"quorate.dev/quorate/internal/clock"
)

// gate is a file whose writes wait until it is opened, as a file on a dead network or a pipe that nobody reads.
type gate struct {
	memory
	waits  chan struct{} // a write has begun, once for each
	opened chan struct{}
}

func newGate() *gate { return &gate{waits: make(chan struct{}, 1000), opened: make(chan struct{})} }

func (g *gate) Write(p []byte) (int, error) {
	g.waits <- struct{}{}
	<-g.opened
	return g.memory.Write(p)
}

func record(l *audit.Log, key string) {
	e := l.Entry()
	e.Range(audit.Put, []byte(key), nil)
	l.Record(e)
}

func started(t testing.TB, o audit.Options) *audit.Log {
	t.Helper()
	l, err := audit.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func closed(t testing.TB, l *audit.Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// told lists the keys and, as "-n", the losses that lines tell of, and ignores lines that are no JSON.
func told(t testing.TB, text string) (out []string, broken int) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if !strings.HasSuffix(line, "}") || !strings.HasPrefix(line, "{") {
			broken++
			continue
		}
		s := decode(t, line)
		if s.Event == "lost" {
			out = append(out, fmt.Sprint(-s.Lost))
		} else {
			out = append(out, *s.Ranges[0].Key)
		}
	}
	return out, broken
}

// TestStuckFile: entries wait up to the bound and are then counted, and the lines that come later say how many are missing,
// where they are missing.
func TestStuckFile(t *testing.T) {
	g, now := newGate(), clock.NewManual(begin)
	l := started(t, audit.Options{Out: g, Queue: 2, Clock: now})
	record(l, "a") // is being written
	<-g.waits
	for _, key := range []string{"b", "c", "d", "e", "f"} {
		now.Advance(time.Second)
		record(l, key) // two wait
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Close(gone); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "2 entries waited") {
		t.Errorf("closing a stuck log: %v", err)
	}
	if c := l.Counters(); c != (audit.Counters{Lost: 3}) {
		t.Errorf("%+v", c)
	}
	close(g.opened)
	closed(t, l)
	if got, _ := told(t, g.String()); fmt.Sprint(got) != "[a b c -3]" {
		t.Errorf("lines %v", got)
	}
	if c := l.Counters(); c != (audit.Counters{Recorded: 3, Lost: 3}) {
		t.Errorf("%+v", c)
	}
	record(l, "late")
}

// TestLossIsSaidInPlace: what is recorded after a loss comes with the news.
func TestLossIsSaidInPlace(t *testing.T) {
	g := newGate()
	l := started(t, audit.Options{Out: g, Queue: 1})
	record(l, "a")
	<-g.waits
	record(l, "b")
	record(l, "c")
	g.opened <- struct{}{}
	<-g.waits // b is being written, with the news of c
	record(l, "d")
	record(l, "e")
	g.opened <- struct{}{}
	<-g.waits // d
	record(l, "f")
	close(g.opened)
	closed(t, l)
	if got, _ := told(t, g.String()); fmt.Sprint(got) != "[a b -1 d -1 f]" {
		t.Errorf("lines %v", got)
	}
}

// faulty is a file that takes as many bytes as told and then fails, until it is repaired.
type faulty struct {
	memory
	mu    sync.Mutex
	takes int // bytes; below 0 everything
}

func (f *faulty) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.takes < 0 {
		return f.memory.Write(p)
	}
	n, _ := f.memory.Write(p[:min(f.takes, len(p))])
	f.takes = 0
	return n, syscall.ENOSPC
}

func (f *faulty) take(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.takes = n
}

// TestFullDisk: failures are reported once, what is lost is counted, and after it a line is whole again.
func TestFullDisk(t *testing.T) {
	file, failed := &faulty{takes: -1}, make(chan error, 10)
	l := started(t, audit.Options{Out: file, Failed: func(err error) { failed <- err }})
	until := func(ok func(audit.Counters) bool) {
		t.Helper()
		deadline := time.After(2 * time.Minute)
		for tick := time.NewTicker(time.Millisecond); !ok(l.Counters()); {
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatalf("%+v", l.Counters())
			}
		}
	}
	record(l, "a")
	until(func(c audit.Counters) bool { return c.Recorded == 1 })
	for range 2 { // it fails, works, and fails again
		before := l.Counters()
		file.take(10) // the line is torn
		for i := range uint64(3) {
			record(l, "lost")
			until(func(c audit.Counters) bool { return c.Lost == before.Lost+i+1 })
		}
		if err := <-failed; !errors.Is(err, syscall.ENOSPC) || len(failed) > 0 {
			t.Errorf("%v was reported, and %d more", err, len(failed))
		}
		file.take(-1)
		record(l, "b")
		until(func(c audit.Counters) bool { return c.Recorded == before.Recorded+1 })
	}
	closed(t, l)
	got, broken := told(t, file.String())
	if want := "[a -3 b -3 b]"; broken != 2 || fmt.Sprint(got) != want {
		t.Errorf("lines %v, %d broken, want %s and 2 broken", got, broken, want)
	}
	if c := l.Counters(); c != (audit.Counters{Recorded: 3, Lost: 6, Failures: 6}) {
		t.Errorf("%+v", c)
	}
}

// TestRotation: old files stay as they are, and no line is divided among two.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	l := started(t, audit.Options{Path: filepath.Join(dir, "audit.log"), Rotation: audit.Rotation{MaxSize: 1}, Queue: 1 << 14})
	const all = 4000
	for i := range all {
		record(l, fmt.Sprintf("%0450d", i))
	}
	closed(t, l)
	if c := l.Counters(); c != (audit.Counters{Recorded: all}) {
		t.Errorf("%+v", c)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 2 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	seen := map[string]bool{}
	for _, f := range files {
		info, err := f.Info()
		if err != nil || info.Mode().Perm() != 0o600 || info.Size() > 1<<20 {
			t.Errorf("%s: %v, %d bytes, %v", f.Name(), info.Mode(), info.Size(), err)
		}
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		keys, broken := told(t, string(text))
		if broken > 0 {
			t.Errorf("%s has %d broken lines", f.Name(), broken)
		}
		for _, key := range keys {
			seen[key] = true
		}
	}
	if len(seen) != all {
		t.Errorf("%d of %d lines", len(seen), all)
	}
}

// TestAppends: a start goes on in the file that is there.
func TestAppends(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	for _, key := range []string{"a", "b"} {
		l := started(t, audit.Options{Path: path})
		record(l, key)
		closed(t, l)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := told(t, string(text)); fmt.Sprint(got) != "[a b]" {
		t.Errorf("lines %v", got)
	}
}

func TestStartRefuses(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "no", "audit.log"): "no such file or directory",
		dir:                                   "is not a regular file",
		fifo:                                  "is not a regular file (p---------): name a file, or - for the standard output",
	} {
		if _, err := audit.Start(audit.Options{Path: path}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

func TestWants(t *testing.T) {
	for _, lowest := range []audit.Class{audit.Read, audit.Write, audit.Management} {
		l := started(t, audit.Options{Out: new(memory), Methods: lowest})
		for _, c := range []audit.Class{audit.Read, audit.Write, audit.Management} {
			if l.Wants(c) != (c >= lowest) {
				t.Errorf("from %d on: %d is %t", lowest, c, l.Wants(c))
			}
		}
		closed(t, l)
	}
}

// TestConcurrent: every entry is written or said to be lost, exactly once, while many goroutines record.
func TestConcurrent(t *testing.T) {
	out := new(memory)
	l := started(t, audit.Options{Out: out, Queue: 8})
	const goroutines, each = 8, 500
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			for i := range each {
				if i%10 == 0 {
					l.Discard(l.Entry())
				}
				record(l, fmt.Sprintf("%d/%d", g, i))
			}
		})
	}
	all.Wait()
	closed(t, l)
	got, broken := told(t, out.String())
	seen, lost := map[string]bool{}, 0
	for _, key := range got {
		if n := 0; strings.HasPrefix(key, "-") {
			_, _ = fmt.Sscan(key, &n)
			lost -= n
			continue
		}
		if seen[key] {
			t.Errorf("%s twice", key)
		}
		seen[key] = true
	}
	c := l.Counters()
	if broken != 0 || len(seen)+lost != goroutines*each || c.Lost != uint64(lost) || c.Recorded != uint64(len(seen)) {
		t.Errorf("%d lines, %d lost, %d broken, %+v", len(seen), lost, broken, c)
	}
}

// nowhere takes everything.
type nowhere struct{ io.Writer }

func (nowhere) Close() error { return nil }

// TestAllocations: recording a call costs the caller no memory.
func TestAllocations(t *testing.T) {
	l := started(t, audit.Options{Out: nowhere{io.Discard}})
	key := bytes.Repeat([]byte("k"), 100)
	one := func() {
		e := l.Entry()
		e.Method, e.Caller.User = "/etcdserverpb.KV/Put", "alice"
		e.Range(audit.Put, key, nil)
		l.Record(e)
	}
	for range 5000 {
		one()
	}
	// The writer gives entries back in its own time: on a machine that is busy with other things it may be behind for a while, and then
	// new ones are made. That it is so every time means that nothing comes back.
	best := math.Inf(1)
	for range 100 {
		if best = min(best, testing.AllocsPerRun(500, one)); best <= 0.5 {
			break
		}
	}
	if best > 0.5 && !poolsForget {
		t.Errorf("%v allocations", best)
	}
	closed(t, l)
}
