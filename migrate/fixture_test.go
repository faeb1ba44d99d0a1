package migrate_test

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quorate.dev/quorate/internal/etcddb"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/migrate"
	"quorate.dev/quorate/wire"
)

// unpacked gives the data directory of member m1 of a fixture, as a real etcd 3.4 has left it (test/compat/migrate makes them).
func unpacked(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return filepath.Join(dir, "m1")
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// wanted is what etcd's own migration makes of a fixture.
func wanted(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".want"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// held is what a db file holds in the buckets key and lease.
func held(t *testing.T, path string) (keys, leases string) {
	t.Helper()
	err := etcddb.Read(path, func(bucket string, key, value []byte) error {
		switch bucket {
		case "key":
			var kv wire.KeyValue
			if err := kv.Unmarshal(value); err != nil {
				return err
			}
			keys += fmt.Sprintf("%q %q %d %d %d %d\n", kv.Key, kv.Value, kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease)
		case "lease":
			leases += fmt.Sprintf("%x %x\n", key, value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys, leases
}

// tree is every file below a directory with what is in it.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			fmt.Fprintln(&b, path)
			return err
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %q\n", path, text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// into is a target in a directory of its own, which has to be empty when a migration fails.
func into(t *testing.T, kind migrate.Kind) migrate.Target {
	t.Helper()
	urls := []string{"http://127.0.0.1:2380"}
	self := member.Member{ID: member.IDOf(urls, "x"), Name: "m1", PeerURLs: urls}
	return migrate.Target{Kind: kind, Path: filepath.Join(t.TempDir(), "made"), Self: self, Members: []member.Member{self}}
}

// run migrates and returns the lines that were said.
func run(t *testing.T, o migrate.Options) (*migrate.Report, string, error) {
	t.Helper()
	said := ""
	o.Say = func(line string) { said += line + "\n" }
	r, err := migrate.Run(context.Background(), o)
	return r, said, err
}
