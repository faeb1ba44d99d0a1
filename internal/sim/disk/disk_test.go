package disk_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"quorate.dev/quorate/internal/sim/disk"
)

var (
	seedFlag = flag.Uint64("seed", 0, "seed of the disks, 0 for a new one")
	stepFlag = flag.Uint64("step", 3, "try every how manieth operation in a sweep")
)

// seed returns the seed of this run.
func seed(t *testing.T) uint64 {
	s := *seedFlag
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("replay with -seed %d", s)
	return s
}

// sweep calls one with operations of the script, by their number, until it says that there is none of that number.
func sweep(t *testing.T, s uint64, one func(t *testing.T, n uint64) (reached bool)) {
	step := *stepFlag
	if testing.Short() {
		step = 13
	}
	n := 1 + s%step
	for ; !t.Failed(); n += step {
		reached := true
		t.Run(fmt.Sprint(n), func(t *testing.T) { reached = one(t, n) })
		if !reached {
			break
		}
	}
	if n < 100 {
		t.Fatalf("the script has only %d operations: the sweep sweeps nothing", n)
	}
	t.Logf("%d operations, every %dth tried", n, step)
}

// TestScript runs the script without any fault, so that the sweeps mean what they say.
func TestScript(t *testing.T) {
	r := play(newDisk(seed(t), 0))
	if r.err != nil || r.acked != steps {
		t.Fatalf("after %d entries: %v", r.acked, r.err)
	}
	r.verify(t, states())
}

// TestPowerLossAtEveryOperation takes the power away in the middle of every operation of the script.
func TestPowerLossAtEveryOperation(t *testing.T) {
	s, want := seed(t), states()
	sweep(t, s, func(t *testing.T, n uint64) bool {
		d := newDisk(s, n)
		d.CrashAt(n)
		r := play(d)
		if r.err == nil {
			return false
		}
		if !errors.Is(r.err, disk.ErrPowerLost) {
			t.Fatalf("the power went, and the member says %v", r.err)
		}
		r.d = r.d.Crash()
		r.verify(t, want)
		return true
	})
}

// TestBrokenAtEveryOperation breaks the disk at every write and sync of the script. The member must notice, at the latest when it
// is closed; on the broken disk it does not start; on the mended one, everything is there, also after the power went.
func TestBrokenAtEveryOperation(t *testing.T) {
	s, want := seed(t), states()
	sweep(t, s, func(t *testing.T, n uint64) bool {
		d := newDisk(s, n)
		d.FailAfter(n, disk.Broken)
		r := play(d)
		if r.d.Failing() == "" {
			return false
		}
		if !errors.Is(r.err, syscall.EIO) {
			t.Fatalf("the disk broke after %d entries, and the member says %v", r.acked, r.err)
		}
		r.d = r.d.Kill()
		if _, err := open(r.d); !errors.Is(err, syscall.EIO) {
			t.Fatalf("on a broken disk: %v", err)
		}
		r.d = r.d.Kill()
		if n%3 == 0 {
			r.d = r.d.Crash()
		}
		r.d.Repair()
		r.verify(t, want)
		return true
	})
}

// TestNoSpaceAtEveryOperation fills the disk at every write and sync of the script.
func TestNoSpaceAtEveryOperation(t *testing.T) {
	s, want := seed(t), states()
	sweep(t, s, func(t *testing.T, n uint64) bool {
		d := newDisk(s, n)
		d.FailAfter(n, disk.NoSpace)
		r := play(d)
		if r.d.Failing() == "" {
			return false
		}
		if r.err != nil && !errors.Is(r.err, syscall.ENOSPC) {
			t.Fatalf("the disk is full after %d entries, and the member says %v", r.acked, r.err)
		}
		r.d = r.d.Kill()
		if n%3 == 0 {
			r.d = r.d.Crash()
		}
		r.d.Free()
		r.verify(t, want)
		return true
	})
}

// TestRepeats wants the same operations, and the same files after a crash, from two runs of one seed.
func TestRepeats(t *testing.T) {
	s := seed(t)
	once := func(n uint64) (log []string) {
		d := newDisk(s, n)
		d.OnOp = func(op, path string, bytes int) { log = append(log, fmt.Sprintf("%s %s %d", op, path, bytes)) }
		d.CrashAt(n)
		r := play(d)
		log = append(log, fmt.Sprint(r.acked, r.tried, r.err, r.d.Ops()))
		for range 3 {
			r.d = r.d.Crash()
			m, err := open(r.d)
			if err != nil {
				t.Fatal(err)
			}
			content, err := m.content()
			log = append(log, fmt.Sprint(m.last, content, err))
			m.abandon()
		}
		return log
	}
	for _, n := range []uint64{1, 40, 87, 150, 200, 260, 300, 1e6} {
		a, b := once(n), once(n)
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Fatalf("crash at %d: operation %d was %q, then %q", n, i, a[i], b[i])
			}
		}
		if len(a) != len(b) {
			t.Fatalf("crash at %d: %d operations, then %d", n, len(a), len(b))
		}
	}
}

// TestRot flips a bit of a member at rest. It must either not matter or be noticed: what a member answers is never wrong.
func TestRot(t *testing.T) {
	s, want := seed(t), states()
	rounds := 150
	if testing.Short() {
		rounds = 40
	}
	refused, harmless := map[string]int{}, map[string]int{}
	for i := range rounds {
		n := uint64(i)
		d := newDisk(s, n)
		rng := rand.New(rand.NewPCG(s, n))
		if i%2 == 0 {
			d.CrashAt(100 + rng.Uint64N(250))
		}
		r := play(d)
		r.d = r.d.Crash()
		flip := r.d.FlipBit(rng, []string{"", logDir, storeDir}[i%3], nil)
		if flip == nil {
			t.Fatal("no file with a byte in it")
		}
		what := flip.String()
		kind := what[:min(len(what), strings.IndexByte(what, ' '))]
		kind = strings.TrimRight(kind[strings.LastIndexByte(kind, '/')+1:], "0123456789")
		m, err := open(r.d)
		content := ""
		if err == nil {
			content, err = m.content()
		}
		switch {
		case err != nil && strings.Contains(err.Error(), "SILENT"):
			t.Errorf("round %d: %s: %v", i, what, err)
		case err != nil:
			refused[kind]++
		case m.last >= r.acked && m.last <= r.tried && content == want[m.last]:
			harmless[kind]++
		default:
			t.Errorf("round %d: %s: acknowledged %d, tried %d, found %d:\n%s\nwant\n%s", i, what, r.acked, r.tried, m.last, content, want[m.last])
		}
		if err == nil {
			m.abandon()
		}
		if err != nil && kind != "MANIFEST-" { // of whose end the engine believes that it was never written whole
			r.d = r.d.Kill()
			flip.Undo()
			r.verify(t, want)
		}
	}
	t.Logf("refused %v, harmless %v", refused, harmless)
	if len(refused) == 0 || len(harmless) == 0 {
		t.Error("the flips reach nothing")
	}
}

// TestSyncDecides checks the promises of a disk one by one.
func TestSyncDecides(t *testing.T) {
	s, lost, torn, kept := seed(t), 0, 0, 0
	for i := range uint64(300) {
		d := newDisk(s, i)
		fs := d.FS()
		if err := fs.MkdirAll("a", 0); err != nil {
			t.Fatal(err)
		}
		write := func(f interface {
			Write([]byte) (int, error)
		}, c byte, n int) {
			if k, err := f.Write(slices.Repeat([]byte{c}, n)); k != n || err != nil {
				t.Fatal(k, err)
			}
		}
		f, err := fs.Create("a/f", "")
		if err != nil {
			t.Fatal(err)
		}
		root, _ := fs.OpenDir("")
		dir, _ := fs.OpenDir("a")
		write(f, 's', 1000)
		if err := errors.Join(f.Sync(), dir.Sync(), root.Sync()); err != nil {
			t.Fatal(err)
		}
		write(f, 'u', 3000)
		if err := fs.Rename("a/f", "a/g"); err != nil {
			t.Fatal(err)
		}
		after := d.Crash().FS()
		names, err := after.List("a")
		if err != nil || len(names) != 1 {
			t.Fatalf("%v, %v: a rename happens or it does not", names, err)
		}
		g, err := after.Open("a/" + names[0])
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 5000)
		n, _ := g.ReadAt(b, 0)
		if b = b[:n]; n < 1000 || strings.Count(string(b[:1000]), "s") != 1000 {
			t.Fatalf("what was synced is %q", b)
		}
		for from := 1000; from < n; {
			to := min(n, from+disk.SectorBytes-from%disk.SectorBytes)
			if u := strings.Count(string(b[from:to]), "u"); u != 0 && u != to-from {
				t.Fatalf("the sector of offset %d is torn", from)
			}
			from = to
		}
		switch u := strings.Count(string(b), "u"); u {
		case 0:
			lost++
		case 3000:
			kept++
		default:
			torn++
		}
		if _, err := f.Write([]byte("x")); !errors.Is(err, disk.ErrPowerLost) {
			t.Fatalf("a write of the process that is gone: %v", err)
		}
	}
	if lost == 0 || torn == 0 || kept == 0 {
		t.Errorf("lost %d, torn %d, kept %d", lost, torn, kept)
	}
}

// TestStall is a note, and it outlives the process.
func TestStall(t *testing.T) {
	d := newDisk(1, 1)
	d.SetStalled(true)
	if d = d.Kill().Crash(); !d.Stalled() {
		t.Error("a stall ended with the process")
	}
	d.SetStalled(false)
	if d.Stalled() || d.FlipBit(rand.New(rand.NewPCG(1, 1)), "", nil) != nil {
		t.Error("the disk stalls, or there is a bit on an empty disk")
	}
}

// TestEndedOnce wants a mistake in a simulation to be seen: the state of a disk goes on in one place.
func TestEndedOnce(t *testing.T) {
	d := newDisk(1, 1)
	d.CrashAt(1)
	if err := d.FS().MkdirAll("a", 0); !errors.Is(err, disk.ErrPowerLost) {
		t.Fatal(err)
	}
	d.Crash()
	defer func() {
		if r := fmt.Sprint(recover()); !strings.HasPrefix(r, "BUG:") {
			t.Errorf("ended twice: %s", r)
		}
	}()
	d.Kill()
}
