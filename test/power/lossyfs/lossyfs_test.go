package lossyfs_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	. "quorate.dev/quorate/test/power/lossyfs"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mount(t *testing.T) *Disk {
	t.Helper()
	if err := Usable(); err != nil && os.Getenv("POWER_NO_FUSE") != "" {
		t.Skip("POWER_NO_FUSE is set: ", err)
	}
	d, err := Mount(t.TempDir(), Options{Seed: 1})
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	return d
}

func create(t *testing.T, name string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|flags, 0o600)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func put(t *testing.T, f *os.File, at int64, text string) {
	t.Helper()
	_, err := f.WriteAt([]byte(text), at)
	must(t, err)
}

func syncDir(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(dir)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
}

// want compares a directory with what is to be in it: name and content, or "/" for a directory.
func want(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	must(t, err)
	if len(list) != len(files) {
		t.Errorf("%s holds %v, want %v", dir, list, files)
	}
	for name, text := range files {
		if text == "/" {
			if info, err := os.Stat(filepath.Join(dir, name)); err != nil || !info.IsDir() {
				t.Errorf("%s is no directory: %v", name, err)
			}
		} else if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != text {
			t.Errorf("%s holds %q %v, want %q", name, got, err, text)
		}
	}
}

// TestCutTakesTheUnsynced: what was synced is there after a cut and nothing else.
func TestCutTakesTheUnsynced(t *testing.T) {
	d := mount(t)
	at := func(name string) string { return filepath.Join(d.Dir(), name) }
	kept := create(t, at("kept"), 0)
	put(t, kept, 0, "durable")
	must(t, kept.Sync())
	empty := create(t, at("empty"), 0)
	put(t, empty, 0, "never synced")
	syncDir(t, d.Dir())
	put(t, kept, 0, "DURABLE, and more")
	unnamed := create(t, at("unnamed"), 0)
	put(t, unnamed, 0, "synced, but its name is not")
	must(t, unnamed.Sync())
	must(t, os.Mkdir(at("dir"), 0o700))
	want(t, d.Dir(), map[string]string{"kept": "DURABLE, and more", "empty": "never synced", "unnamed": "synced, but its name is not", "dir": "/"})
	loss := d.Cut(0)
	if loss != (Loss{Writes: 2, Names: 2}) {
		t.Errorf("the loss is said to be %v", loss)
	}
	want(t, d.Dir(), map[string]string{"kept": "durable", "empty": ""})
	if _, err := kept.WriteAt([]byte("x"), 0); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("a file from before the cut can be written: %v", err)
	}
}

// TestNamesNeedTheirDirectory: renames, removals and directories are durable when the directory is synced.
func TestNamesNeedTheirDirectory(t *testing.T) {
	d := mount(t)
	at := func(name string) string { return filepath.Join(d.Dir(), name) }
	for _, name := range []string{"old", "victim", "gone"} {
		f := create(t, at(name), syscall.O_SYNC)
		put(t, f, 0, name)
	}
	must(t, os.Mkdir(at("sub"), 0o700))
	syncDir(t, d.Dir())
	before := map[string]string{"old": "old", "victim": "victim", "gone": "gone", "sub": "/"}
	change := func() {
		must(t, os.Rename(at("old"), at("victim")))
		must(t, os.Remove(at("gone")))
		must(t, os.Mkdir(at("sub/inner"), 0o700))
	}
	change()
	d.Cut(0)
	want(t, d.Dir(), before)
	want(t, at("sub"), nil)
	change()
	syncDir(t, d.Dir())
	d.Cut(0)
	want(t, d.Dir(), map[string]string{"victim": "old", "sub": "/"})
	want(t, at("sub"), nil)
	must(t, os.Rename(at("victim"), at("sub/moved"))) // durable on both sides, or on none
	syncDir(t, at("sub"))
	d.Cut(0)
	want(t, d.Dir(), map[string]string{"sub": "/"})
	want(t, at("sub"), map[string]string{"moved": "old"})
}

// TestSynchronousWrites: a write to a file opened so is durable when it returns, and no other is.
func TestSynchronousWrites(t *testing.T) {
	for name, flags := range map[string]int{"O_DSYNC": syscall.O_DSYNC, "O_SYNC": syscall.O_SYNC, "O_DIRECT|O_DSYNC": syscall.O_DIRECT | syscall.O_DSYNC} {
		t.Run(name, func(t *testing.T) {
			d := mount(t)
			path := filepath.Join(d.Dir(), "file")
			loose := create(t, path, 0)
			must(t, loose.Truncate(8192))
			must(t, loose.Sync())
			syncDir(t, d.Dir())
			durable := create(t, path, flags)
			page := func(b byte) string { return string(bytes.Repeat([]byte{b}, 4096)) }
			put(t, loose, 0, page('a'))
			block, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned
			must(t, err)
			copy(block, page('b'))
			_, err = durable.WriteAt(block, 4096)
			must(t, err)
			want(t, d.Dir(), map[string]string{"file": page('a') + page('b')})
			d.Cut(0)
			want(t, d.Dir(), map[string]string{"file": page(0) + page('b')})
		})
	}
}

// TestOlderWritesStayBelow: a sync later does not bring back what a synchronous write has replaced.
func TestOlderWritesStayBelow(t *testing.T) {
	d := mount(t)
	path := filepath.Join(d.Dir(), "file")
	loose, durable := create(t, path, 0), create(t, path, syscall.O_DSYNC)
	syncDir(t, d.Dir())
	put(t, loose, 0, "0123456789")
	put(t, durable, 2, "xx")
	put(t, loose, 4, "yy")
	must(t, loose.Sync())
	d.Cut(0)
	want(t, d.Dir(), map[string]string{"file": "01xxyy6789"})
	if loss := d.Cut(0); loss.Any() {
		t.Errorf("the second cut says %v", loss)
	}
}

// TestLuck: a cut may leave some sectors of a write, and no sector is torn.
func TestLuck(t *testing.T) {
	const sectors = 64
	d := mount(t)
	path := filepath.Join(d.Dir(), "file")
	f := create(t, path, 0)
	must(t, f.Truncate(sectors*512))
	must(t, f.Sync())
	syncDir(t, d.Dir())
	var loss Loss
	for range 30 {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		must(t, err)
		put(t, f, 0, string(bytes.Repeat([]byte{'z'}, sectors*512)))
		must(t, f.Close())
		l := d.Cut(0.9)
		loss.Writes, loss.Torn, loss.Kept = loss.Writes+l.Writes, loss.Torn+l.Torn, loss.Kept+l.Kept
		data, err := os.ReadFile(path)
		must(t, err)
		for sector := range slices.Chunk(data, 512) {
			if n := bytes.Count(sector, []byte{'z'}); n != 0 && n != 512 {
				t.Fatalf("a sector of which %d bytes were written", n)
			}
		}
		must(t, os.WriteFile(path, make([]byte, sectors*512), 0o600))
		f, err = os.Open(path)
		must(t, err)
		must(t, f.Sync())
		must(t, f.Close())
	}
	if loss.Writes == 0 || loss.Torn == 0 || loss.Kept == 0 {
		t.Errorf("30 cuts: %v; all of that was to be expected", loss)
	}
}

// TestRandomNames does random things to a directory: after a cut with luck the names are those of some moment for each file,
// and each file has a name at most.
func TestRandomNames(t *testing.T) {
	d := mount(t)
	r := rand.New(rand.NewPCG(2, 2))
	at := func(i int) string { return filepath.Join(d.Dir(), string(rune('a'+i))) }
	for range 20 {
		for range 30 {
			switch i, j := r.IntN(6), r.IntN(6); r.IntN(4) {
			case 0:
				_ = os.Rename(at(i), at(j))
			case 1:
				_ = os.Remove(at(i))
			case 2:
				syncDir(t, d.Dir())
			default:
				must(t, os.WriteFile(at(i), nil, 0o600))
			}
		}
		d.Cut(0.5)
		list, err := os.ReadDir(d.Dir())
		must(t, err)
		seen := map[uint64]string{}
		for _, e := range list {
			info, err := e.Info()
			must(t, err)
			stat := info.Sys().(*syscall.Stat_t)
			if other := seen[stat.Ino]; other != "" || stat.Nlink != 1 {
				t.Fatalf("%s and %s are one file with %d names", e.Name(), other, stat.Nlink)
			}
			seen[stat.Ino] = e.Name()
		}
	}
}

// TestFullDisk: what does not fit is refused, and room comes back when files go.
func TestFullDisk(t *testing.T) {
	d := mount(t)
	f := create(t, filepath.Join(d.Dir(), "file"), 0)
	d.Limit(16 << 10)
	put(t, f, 0, string(make([]byte, 12<<10)))
	if _, err := f.WriteAt(make([]byte, 8<<10), 12<<10); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("20 kB on a disk of 16: %v", err)
	}
	g := create(t, filepath.Join(d.Dir(), "reserved"), 0)
	if err := unix.Fallocate(int(g.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 8<<10); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("8 kB reserved where there are 4: %v", err)
	}
	must(t, unix.Fallocate(int(g.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 4<<10))
	if used := d.Used(); used != 16<<10 || d.Refused() != 2 {
		t.Errorf("%d bytes used, %d operations refused", used, d.Refused())
	}
	must(t, os.Remove(f.Name()))
	must(t, f.Close())
	until(t, "the space of a removed file comes back", func() bool { return d.Used() == 4<<10 })
	put(t, g, 0, string(make([]byte, 16<<10)))
	d.Cut(0)
	if used := d.Used(); used != 0 {
		t.Errorf("%d bytes used after a cut that left nothing", used)
	}
}

// TestFailures: operations of a kind fail until they do not.
func TestFailures(t *testing.T) {
	d := mount(t)
	f := create(t, filepath.Join(d.Dir(), "file"), 0)
	d.Fail(Syncs, syscall.EIO)
	put(t, f, 0, "text")
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("a sync that was to fail: %v", err)
	}
	d.Fail(0, 0)
	must(t, f.Sync())
	d.PowerOff(0)
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("a sync without power: %v", err)
	}
	d.PowerOn()
}

// TestHang: operations wait until the disk goes on; without power they fail instead.
func TestHang(t *testing.T) {
	d := mount(t)
	f := create(t, filepath.Join(d.Dir(), "file"), 0)
	for _, cut := range []bool{false, true} {
		d.Hang(Writes | Syncs)
		done := make(chan error, 1)
		go func() {
			_, err := f.WriteAt([]byte("text"), 0)
			done <- err
		}()
		until(t, "the write waits", func() bool { return d.Hanging() == 1 })
		if _, err := os.ReadDir(d.Dir()); err != nil {
			t.Errorf("a read beside a write that hangs: %v", err)
		}
		select {
		case err := <-done:
			t.Fatalf("the write has ended: %v", err)
		default:
		}
		if cut {
			d.Cut(0)
		} else {
			d.GoOn()
		}
		if err := <-done; errors.Is(err, syscall.EIO) != cut || !cut && err != nil {
			t.Errorf("the write ended with %v, power cut %t", err, cut)
		}
	}
}

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for !cond() {
		select {
		case <-limit:
			t.Fatalf("%s: not within 20 s", what)
		case <-time.After(time.Millisecond):
		}
	}
}
