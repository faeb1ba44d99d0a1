package etcddb_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	bolt "go.etcd.io/bbolt"

	. "quorate.dev/quorate/internal/etcddb"
	"quorate.dev/quorate/storage"
)

// pairs is the content of a db file: "bucket/key" to value.
type pairs map[string]string

// image makes a store with keys key revisions of size bytes and something in every bucket, and returns the file expected.
func image(t testing.TB, keys, size int) (*storage.Frozen, pairs) {
	t.Helper()
	e, err := storage.Open("store", storage.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	want := pairs{
		"meta/consistent_index": "\x00\x00\x00\x00\x00\x00\x01\x02",
		"meta/term":             "\x00\x00\x00\x00\x00\x00\x00\x03",
	}
	b := e.NewBatch()
	for _, bucket := range Buckets {
		for i := range 3 {
			k, v := fmt.Sprintf("key%d", i), strings.Repeat("v", i)
			b.Set(storage.BucketKeyOf(bucket.Store, []byte(k)), []byte(v))
			want[bucket.Name+"/"+k] = v
		}
	}
	for i := range keys {
		k := fmt.Sprintf("%016d_", i)
		v := make([]byte, rng.IntN(2*size+1))
		for i := range v {
			v[i] = byte(rng.Uint32())
		}
		b.Set(storage.BucketKeyOf(storage.BucketKey, []byte(k)), v)
		want["key/"+k] = string(v)
	}
	if err := e.Commit(b, storage.Mark{Index: 0x102, Term: 3}); err != nil {
		t.Fatal(err)
	}
	f := e.Freeze()
	t.Cleanup(func() {
		if err := errors.Join(f.Close(), e.Close()); err != nil {
			t.Error(err)
		}
	})
	return f, want
}

func read(path string) (pairs, error) {
	got := pairs{}
	err := Read(path, func(bucket string, key, value []byte) error {
		got[bucket+"/"+string(key)] = string(value)
		return nil
	})
	return got, err
}

// readBolt reads with etcd's own library, which also checks the file's structure.
func readBolt(t *testing.T, path string) pairs {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	got := pairs{}
	err = db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			t.Errorf("bbolt finds: %v", err)
		}
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				got[string(name)+"/"+string(k)] = string(v)
				return nil
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestExport(t *testing.T) {
	for _, c := range []struct{ keys, size int }{{0, 0}, {1, 10}, {5000, 300}, {40, 20_000}, {20_000, 1000}} {
		t.Run(fmt.Sprintf("%d of %d bytes", c.keys, c.size), func(t *testing.T) {
			src, want := image(t, c.keys, c.size)
			path := filepath.Join(t.TempDir(), "db")
			last := int64(0)
			err := ExportWith(context.Background(), src, path, func(n int64) {
				if n < last {
					t.Errorf("progress went from %d to %d", last, n)
				}
				last = n
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := readBolt(t, path); !maps.Equal(got, want) {
				t.Errorf("bbolt reads %d pairs, want %d, or they differ", len(got), len(want))
			}
			if got, err := read(path); err != nil || !maps.Equal(got, want) {
				t.Errorf("Read gives %d pairs, want %d, or they differ; %v", len(got), len(want), err)
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if limit := last*5/4 + 40*int64(c.keys) + 2<<20; info.Size() > limit || info.Size()%512 != 0 {
				t.Errorf("%d bytes of pairs became a file of %d, more than %d or not whole sectors", last, info.Size(), limit)
			}
		})
	}
}

func TestExportIntoEmptyFile(t *testing.T) {
	src, want := image(t, 10, 10)
	f, err := os.CreateTemp(t.TempDir(), "db")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Export(src, f.Name()); err != nil {
		t.Fatal(err)
	}
	if got := readBolt(t, f.Name()); !maps.Equal(got, want) {
		t.Errorf("%d pairs, want %d, or they differ", len(got), len(want))
	}
	if err := Export(src, f.Name()); err == nil || !strings.Contains(err.Error(), f.Name()) {
		t.Errorf("export over a file: %v", err)
	}
}

func TestExportEnds(t *testing.T) {
	src, _ := image(t, 10, 10)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	path := filepath.Join(t.TempDir(), "db")
	if err := ExportWith(ctx, src, path, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("export with an ended context: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
}

func TestReadStops(t *testing.T) {
	src, _ := image(t, 1000, 100)
	path := filepath.Join(t.TempDir(), "db")
	if err := Export(src, path); err != nil {
		t.Fatal(err)
	}
	stop, n := errors.New("stop"), 0
	err := Read(path, func(string, []byte, []byte) error {
		if n++; n == 20 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || n != 20 {
		t.Errorf("after %d pairs: %v", n, err)
	}
	if err := Read(path+"x", nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// TestReadDamaged overwrites bytes and truncates: Read must return, with the truth about what it visited or an error that
// names the file. (A bbolt file has no checksums over its pages, so a changed value cannot be noticed.)
func TestReadDamaged(t *testing.T) {
	src, want := image(t, 500, 200)
	dir := t.TempDir()
	path := filepath.Join(dir, "db")
	if err := Export(src, path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(dir, "damaged")
	write := func(b []byte) {
		if err := os.WriteFile(damaged, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for n := 0; n < len(data); n += 1000 {
		write(data[:n])
		got, err := read(damaged)
		var damage *DamageError
		if err == nil && !maps.Equal(got, want) || err != nil && (!errors.As(err, &damage) || !strings.Contains(err.Error(), damaged)) {
			t.Fatalf("cut to %d bytes: %d pairs, %v", n, len(got), err)
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	noticed := 0
	for range 3000 {
		b := bytes.Clone(data)
		at := rng.IntN(len(b) / 4096) // prefer the structure at the start of a page
		b[at*4096+rng.IntN(64)] ^= byte(1 + rng.IntN(255))
		write(b)
		if _, err := read(damaged); err != nil {
			noticed++
		}
	}
	if noticed == 0 {
		t.Error("no damage was noticed")
	}
}

func TestOneMetaPageIsEnough(t *testing.T) {
	src, _ := image(t, 500, 200)
	path := filepath.Join(t.TempDir(), "db")
	if err := Export(src, path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ok := 0
	for _, page := range []int{0, os.Getpagesize()} {
		b := bytes.Clone(data)
		b[page+20] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := read(path); err == nil && len(got) > 0 { // the older one may show less
			ok++
		}
	}
	if ok != 2 {
		t.Errorf("a file with one valid meta page was read in %d of 2 cases", ok)
	}
}

// FuzzRead gives arbitrary bytes as a file.
func FuzzRead(f *testing.F) {
	src, _ := image(f, 20, 50)
	path := filepath.Join(f.TempDir(), "db")
	if err := Export(src, path); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	damaged := filepath.Join(f.TempDir(), "damaged")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(damaged, b, 0o600); err != nil {
			t.Fatal(err)
		}
		total := 0
		err := Read(damaged, func(bucket string, key, value []byte) error {
			total += len(key) + len(value)
			return nil
		})
		if err != nil && !strings.Contains(err.Error(), damaged) {
			t.Errorf("the error does not name the file: %v", err)
		}
		if total > len(b) {
			t.Errorf("a file of %d bytes gave %d bytes of pairs", len(b), total)
		}
	})
}

func BenchmarkExport(b *testing.B) {
	src, want := image(b, 50_000, 500)
	n := int64(0)
	for k, v := range want {
		n += int64(len(k) + len(v))
	}
	b.SetBytes(n)
	i := 0
	for b.Loop() {
		if err := Export(src, filepath.Join(b.TempDir(), fmt.Sprint(i))); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
