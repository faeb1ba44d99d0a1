package transfer

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// report is what our verbs print with -w json, as far as it is looked at.
type report struct {
	Cluster  string `json:"cluster_id"`
	Name     string `json:"name"`
	Contents struct {
		Revision int64 `json:"revision"`
		Leases   int   `json:"leases"`
		Users    int   `json:"users"`
		Roles    int   `json:"roles"`
		Alarms   int   `json:"alarms"`
	} `json:"contents"`
	Hashes []struct {
		Revision int64  `json:"revision"`
		Hash     uint32 `json:"hash"`
	} `json:"hashes"`
	Notes []string `json:"notes"`
}

func transferred(t *testing.T, args ...string) report {
	t.Helper()
	var r report
	out := mustQuorate(t, append(args, "-w", "json")...)
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, n := range r.Notes {
		t.Log("note:", n)
	}
	return r
}

// TestCluster takes three members of a cluster over that were killed while they wrote, each from its own directory, and brings them
// back to etcd 3.7, and takes them over again.
func TestCluster(t *testing.T) {
	for _, source := range []string{"etcd37", "etcd34"} {
		t.Run(source, func(t *testing.T) {
			dir := t.TempDir()
			c := newCluster(t, 3)
			c.start(t, source, filepath.Join(dir, "etcd"), "--snapshot-count=100")
			newest := fill(t, c[0])
			secure(t, c[0])
			at := []int64{newest, newest - 3, newest - 10, newest - 25, newest - 40}
			until(t, "all members to have applied everything", func() error { return applied(t, c, newest) })
			was, wasHashes := ask(t, c[0], "root"), hashes(t, c[0], "root", at)
			acked := scribble(t, c, c.kill)
			keepFixture(t, source, filepath.Join(dir, "etcd"), was, wasHashes)

			c.each(t, func(m *member) {
				r := transferred(t, "import", "--from", filepath.Join(dir, "etcd", m.name), "--data-dir", filepath.Join(dir, "ours", m.name))
				if r.Name != m.name || r.Cluster != was["cluster"] || r.Contents.Users != 3 || r.Contents.Leases != 2 {
					t.Errorf("%s: %+v", m.name, r)
				}
			})
			c.start(t, "quorate", filepath.Join(dir, "ours"))
			check(t, "imported", c, was, wasHashes, at)
			c.holds(t, acked)
			head := c.goOn(t)

			at = append(at, head, head-20)
			was, wasHashes = ask(t, c[0], "root"), hashes(t, c[0], "root", at)
			acked = append(acked, scribble(t, c, c.kill)...)
			c.each(t, func(m *member) {
				transferred(t, "export", "--from", filepath.Join(dir, "ours", m.name), "--to-etcd", filepath.Join(dir, "back", m.name))
			})
			c.start(t, "etcd37", filepath.Join(dir, "back"))
			check(t, "exported", c, was, wasHashes, at)
			c.holds(t, acked)
			head = c.goOn(t)

			at = append(at, head)
			was, wasHashes = ask(t, c[0], "root"), hashes(t, c[0], "root", at)
			c.stop()
			c.each(t, func(m *member) {
				transferred(t, "import", "--from", filepath.Join(dir, "back", m.name), "--data-dir", filepath.Join(dir, "again", m.name))
			})
			c.start(t, "quorate", filepath.Join(dir, "again"))
			check(t, "imported again", c, was, wasHashes, at)
			c.goOn(t)
		})
	}
}

// each does something for every member, side by side.
func (c cluster) each(t *testing.T, f func(*member)) {
	t.Helper()
	for _, m := range c {
		f(m)
	}
}

// applied says whether all members have a revision.
func applied(t *testing.T, c cluster, rev int64) error {
	for _, m := range c {
		r, err := pb.NewKVClient(m.conn).Range(m.as(t, "root"), &pb.RangeRequest{Key: []byte("x"), Serializable: true})
		if err != nil {
			return err
		}
		if r.Header.Revision < rev {
			return fmt.Errorf("%s is at revision %d", m.name, r.Header.Revision)
		}
	}
	return nil
}

// check compares every member with the answers of the source.
func check(t *testing.T, what string, c cluster, was, wasHashes facts, at []int64) {
	t.Helper()
	for _, m := range c {
		until(t, m.name+" to be where the source was", func() error { return applied(t, cluster{m}, at[0]) })
		got := ask(t, m, "root")
		if _, ok := was["authentication"]; !ok {
			delete(got, "authentication") // 3.4 does not answer that
		}
		same(t, what+" "+m.name, got, was)
		same(t, what+" "+m.name, hashes(t, m, "root", at), wasHashes)
	}
}

// scribble writes through all members at once and has them ended in the middle. It returns the keys that were acknowledged.
func scribble(t *testing.T, c cluster, end func()) []string {
	t.Helper()
	const enough = 400
	var mu sync.Mutex
	var acked []string
	ready := make(chan struct{})
	var wg sync.WaitGroup
	for _, m := range c {
		ctx, kv := m.as(t, "root"), pb.NewKVClient(m.conn)
		for worker := range 4 {
			wg.Go(func() {
				for i := 0; ; i++ {
					key := fmt.Sprintf("w/%s/%d/%d/%d", m.name, worker, m.cmd.Process.Pid, i)
					if _, err := kv.Put(ctx, &pb.PutRequest{Key: []byte(key), Value: []byte(strings.Repeat("x", 500))}); err != nil {
						return
					}
					mu.Lock()
					if acked = append(acked, key); len(acked) == enough {
						close(ready)
					}
					mu.Unlock()
				}
			})
		}
	}
	<-ready
	for _, m := range c {
		_ = m.cmd.Process.Kill()
	}
	wg.Wait()
	end()
	return acked
}

// holds checks that keys are there.
func (c cluster) holds(t *testing.T, keys []string) {
	t.Helper()
	ctx := c[1].as(t, "root")
	r, err := pb.NewKVClient(c[1].conn).Range(ctx, &pb.RangeRequest{Key: []byte("w/"), RangeEnd: []byte("w0"), KeysOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, kv := range r.Kvs {
		there[string(kv.Key)] = true
	}
	for _, key := range keys {
		if !there[key] {
			t.Errorf("%s was acknowledged and is not there", key)
		}
	}
	t.Logf("%d keys were acknowledged, %d are there", len(keys), len(there))
}

// goOn writes and checks that revisions continue, that permissions hold, and that all members come to the same. It returns the newest revision.
func (c cluster) goOn(t *testing.T) int64 {
	t.Helper()
	ctx, kv := c[0].as(t, "root"), pb.NewKVClient(c[0].conn)
	was, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte("last")})
	if err != nil {
		t.Fatal(err)
	}
	var head int64
	for i := range 30 {
		r, err := kv.Put(ctx, &pb.PutRequest{Key: []byte("last"), Value: []byte("two"), PrevKv: true})
		if err != nil {
			t.Fatal(err)
		}
		if head = r.Header.Revision; head != was.Header.Revision+int64(i)+1 || r.PrevKv.GetVersion() != was.Kvs[0].Version+int64(i) {
			t.Fatalf("revision %d follows %d, and version %d follows %d", head, was.Header.Revision, r.PrevKv.GetVersion()+1, was.Kvs[0].Version)
		}
	}
	ann := c[0].as(t, "ann")
	if _, err := kv.Range(ann, &pb.RangeRequest{Key: []byte("k001")}); err != nil {
		t.Errorf("a user may not read what her role says: %v", err)
	}
	if _, err := kv.Put(ann, &pb.PutRequest{Key: []byte("k001")}); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("a user may write what her role does not say: %v", err)
	}
	until(t, "all members to have applied everything", func() error { return applied(t, c, head) })
	at := []int64{head, head - 5}
	want := hashes(t, c[0], "root", at)
	for _, m := range c[1:] {
		same(t, m.name, hashes(t, m, "root", at), want)
	}
	return head
}

// TestWays takes one member over in every way: refused while it runs, over the network, from a snapshot file, and from its directory.
func TestWays(t *testing.T) {
	for _, source := range []string{"etcd37", "etcd34"} {
		t.Run(source, func(t *testing.T) {
			dir := t.TempDir()
			c := newCluster(t, 1)
			c.start(t, source, filepath.Join(dir, "etcd"))
			m := c[0]
			newest := fill(t, m)
			if _, err := pb.NewMaintenanceClient(m.conn).Alarm(t.Context(), &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE}); err != nil {
				t.Fatal(err)
			}
			secure(t, m)
			at := []int64{newest, newest - 10, newest - 30}
			was, wasHashes := ask(t, m, "root"), hashes(t, m, "root", at)

			url := fmt.Sprintf("http://127.0.0.1:%d", m.client)
			_, err := quorate(t, "import", "--from", m.dir, "--data-dir", filepath.Join(dir, "live"))
			if err == nil || !strings.Contains(err.Error(), "locked by a running process") {
				t.Errorf("the directory of a running member: %v", err)
			}
			file := filepath.Join(dir, "saved.db")
			mustQuorate(t, "snapshot", "save", file, "--endpoints", url, "--user", "root:pw-root")
			ways := map[string]report{
				"network": transferred(t, "import", "--from", url, "--user", "root:pw-root", "--data-dir", filepath.Join(dir, "network", "m1")),
				"file":    transferred(t, "import", "--from", file, "--data-dir", filepath.Join(dir, "file", "m1")),
			}
			if n := strings.Join(ways["network"].Notes, "\n"); !strings.Contains(n, "answers the same HashKV") {
				t.Errorf("the running member was not compared with: %s", n)
			}
			c.stop()
			ways["directory"] = transferred(t, "import", "--from", m.dir, "--data-dir", filepath.Join(dir, "directory", "m1"))
			names, err := os.ReadDir(dir)
			if err != nil || len(names) != 5 {
				t.Errorf("something was left behind: %v %v", names, err)
			}
			for way, r := range ways {
				if r.Contents.Alarms != 1 || r.Contents.Leases != 2 || r.Contents.Users != 3 || r.Contents.Roles != 3 || r.Contents.Revision != newest || len(r.Hashes) != 5 {
					t.Errorf("%s: %+v", way, r)
				}
				c.start(t, "quorate", filepath.Join(dir, way))
				got := ask(t, m, "root")
				if _, ok := was["authentication"]; !ok {
					delete(got, "authentication") // 3.4 does not answer that
				}
				same(t, way, got, was)
				same(t, way, hashes(t, m, "root", at), wasHashes)
				if _, err := pb.NewKVClient(m.conn).Put(m.as(t, "root"), &pb.PutRequest{Key: []byte("after")}); err == nil || !strings.Contains(err.Error(), "database space exceeded") {
					t.Errorf("a put under the alarm that was taken over: %v", err)
				}
				c.stop()
			}
		})
	}
}

// TestSnapshotOfCluster makes a cluster of three out of one snapshot file.
func TestSnapshotOfCluster(t *testing.T) {
	dir := t.TempDir()
	c := newCluster(t, 3)
	c.start(t, "etcd37", filepath.Join(dir, "etcd"))
	newest := fill(t, c[0])
	secure(t, c[0])
	at := []int64{newest, newest - 10}
	was, wasHashes := ask(t, c[0], "root"), hashes(t, c[0], "root", at)
	file := filepath.Join(dir, "saved.db")
	mustQuorate(t, "snapshot", "save", file, "--endpoints", fmt.Sprintf("http://127.0.0.1:%d", c[2].client), "--user", "root:pw-root")
	c.kill()
	if _, err := quorate(t, "import", "--from", file, "--data-dir", filepath.Join(dir, "x")); err == nil || !strings.Contains(err.Error(), "say with --name which") {
		t.Errorf("without a name: %v", err)
	}
	c.each(t, func(m *member) {
		transferred(t, "import", "--from", file, "--name", m.name, "--data-dir", filepath.Join(dir, "ours", m.name))
	})
	c.start(t, "quorate", filepath.Join(dir, "ours"))
	check(t, "from one snapshot", c, was, wasHashes, at)
	c.goOn(t)
	saved := filepath.Join(dir, "ours.db")
	mustQuorate(t, "snapshot", "save", saved, "--endpoints", fmt.Sprintf("http://127.0.0.1:%d", c[1].client), "--user", "root:pw-root")
	was, wasHashes = ask(t, c[0], "root"), hashes(t, c[0], "root", at)
	c.kill()
	c.each(t, func(m *member) {
		transferred(t, "export", "--from", saved, "--name", m.name, "--to-etcd", filepath.Join(dir, "back", m.name))
	})
	c.start(t, "etcd37", filepath.Join(dir, "back"))
	check(t, "back from one snapshot", c, was, wasHashes, at)
	c.goOn(t)
}

var keep = flag.String("keep", "", "directory to put the first member's data into, packed, and what it answered: fixtures of package transfer")

// keepFixture packs one member.
func keepFixture(t *testing.T, source, dir string, was, wasHashes facts) {
	t.Helper()
	if *keep == "" {
		return
	}
	if out, err := exec.Command("tar", "-czf", filepath.Join(*keep, source+".tar.gz"), "-C", dir, "--exclude=*.tmp", "m1").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	all := maps.Clone(was)
	maps.Copy(all, wasHashes)
	b, err := json.MarshalIndent(all, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(*keep, source+".json"), append(b, '\n'), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
