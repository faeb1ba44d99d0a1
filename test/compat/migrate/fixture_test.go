package migrate

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/test/compat/etcd34"
)

var update = flag.Bool("update", false, "make migrate/testdata of the root module anew, with a real etcd")

// fixtures are small data directories that the unit tests of package migrate read. They are made by
//
//	cd test/compat && go test ./migrate -run TestFixtures -update
//
// Their log files are as etcd left them but for the zeros behind the last record, which would be 64 MB.
var fixtures = []struct {
	name    string
	members int
	flags   []string
	restart bool
}{
	{name: "plain", members: 1},
	{name: "snapshots", members: 1, flags: []string{"--snapshot-count=10"}, restart: true},
	{name: "cluster", members: 2, flags: []string{"--snapshot-count=15"}},
}

const testdata = "../../../migrate/testdata"

// TestFixtures makes the fixtures, or holds that etcd's own migration makes of them what is checked in.
func TestFixtures(t *testing.T) {
	for _, f := range fixtures {
		t.Run(f.name, func(t *testing.T) {
			archive := filepath.Join(testdata, f.name+".tar.gz")
			if *update {
				servers, err := etcd34.StartCluster(t.TempDir(), f.members, f.flags...)
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range servers {
					defer s.Kill()
				}
				fill(t, servers[0], 0)
				if f.restart {
					if err := servers[0].Restart(); err != nil {
						t.Fatal(err)
					}
					fill(t, servers[0], 1)
				}
				dirs := stopped(t, servers)
				pack(t, archive, dirs)
			}
			want := migratedByEtcd(t, filepath.Join(unpack(t, archive), "m1"))
			file := filepath.Join(testdata, f.name+".want")
			if *update {
				if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if have, err := os.ReadFile(file); err != nil || string(have) != want {
				t.Errorf("%v\n%s has\n%s\nand etcd makes\n%s", err, file, have, want)
			}
		})
	}
}

// fill writes one of everything that a migration treats in its own way.
func fill(t *testing.T, s *etcd34.Server, round int) {
	t.Helper()
	base := "/v2/keys/r" + strconv.Itoa(round)
	send := func(method, path string, form ...string) {
		t.Helper()
		values := url.Values{}
		for _, f := range form {
			k, v, _ := strings.Cut(f, "=")
			values.Set(k, v)
		}
		a, err := s.Do(method, base+path, values)
		if err != nil || a.Status >= 500 {
			t.Fatalf("%s %s: %v %+v", method, path, err, a)
		}
	}
	send(http.MethodPut, "/file", "value=one")
	send(http.MethodPut, "/file", "value=two", "prevValue=one")
	send(http.MethodPut, "/dir/deep/file", "value=<&> ü")
	send(http.MethodPut, "/dir-2", "value=")
	send(http.MethodPut, "/empty", "dir=true")
	send(http.MethodPut, "/_hidden/key", "value=secret")
	send(http.MethodPut, "/dir/_too", "value=secret")
	send(http.MethodPut, "/ttl/key", "value=for a century", "ttl=3153600000")
	send(http.MethodPut, "/ttldir", "dir=true", "ttl=3153600000")
	send(http.MethodPut, "/ttldir/inside", "value=x")
	send(http.MethodPut, "/gone", "value=x")
	send(http.MethodDelete, "/gone")
	send(http.MethodPost, "/queue", "value=first")
	send(http.MethodPost, "/queue", "value=second")
	send(http.MethodPut, "/refused", "value=x", "prevExist=true")
	send(http.MethodPut, "/other", "value=last")
}

// migratedByEtcd is what etcdctl's migrate makes of a directory: key, value, revisions and version, a line each.
func migratedByEtcd(t *testing.T, dir string) string {
	t.Helper()
	if _, err := etcd34.Ctl("migrate", "--data-dir", dir); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(dbOf(dir), 0o600, &bolt.Options{ReadOnly: true, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var b strings.Builder
	err = db.View(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("key")).ForEach(func(_, v []byte) error {
			kv := &mvccpb.KeyValue{}
			if err := proto.Unmarshal(v, kv); err != nil {
				return err
			}
			fmt.Fprintf(&b, "%q %q %d %d %d %d\n", kv.GetKey(), kv.GetValue(), kv.GetCreateRevision(), kv.GetModRevision(), kv.GetVersion(), kv.GetLease())
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// pack writes the directories of members, m1 and so on, to an archive.
func pack(t *testing.T, to string, dirs []string) {
	t.Helper()
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	for i, dir := range dirs {
		err = filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
			if err != nil || !info.Mode().IsRegular() || strings.HasSuffix(path, ".tmp") {
				return err
			}
			body, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if strings.HasSuffix(path, ".wal") {
				n := len(bytes.TrimRight(body, "\x00"))
				body = body[:min(len(body), (n/4096+2)*4096)]
			}
			name, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("m%d/%s", i+1, name), Mode: 0o600, Size: int64(len(body))}); err != nil {
				return err
			}
			_, err = w.Write(body)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func unpack(t *testing.T, archive string) string {
	t.Helper()
	f, err := os.Open(archive)
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
		if err == io.EOF {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, h.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
