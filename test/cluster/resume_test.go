package cluster

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"quorate.dev/quorate/test/compat/proc"
)

// resumeMB is the size of the store that is sent, in MB: CLUSTER_RESUME_MB, else what takes a moment.
func resumeMB(t *testing.T) int {
	text := os.Getenv("CLUSTER_RESUME_MB")
	if text == "" {
		return 30
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 10 {
		t.Fatalf("CLUSTER_RESUME_MB=%q: give a number of MB from 10 on", text)
	}
	return n
}

// TestSnapshotResumes kills a member while it is brought a snapshot, under load. What had arrived is not sent again, and the one
// snapshot is enough, however much is written meanwhile.
func TestSnapshotResumes(t *testing.T) {
	if kind() == proc.Etcd {
		t.Skip("a snapshot of etcd's begins anew")
	}
	c := start(t, 3, "--snapshot-catchup-entries=100", "--snapshot-count=100")
	leader, err := c.Leader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	behind := c.Members[0]
	if behind == leader { // the load must not wait for an election
		behind = c.Members[1]
	}
	var others []string
	for _, m := range c.Members {
		if m != behind {
			others = append(others, m.Client)
		}
	}
	var kept int64
	for tries := 1; kept == 0; tries++ {
		behind.Kill()
		fill(t, c, others, resumeMB(t), tries)
		if err := os.Truncate(filepath.Join(behind.Dir, "log"), 0); err != nil {
			t.Fatal(err)
		}
		if err := behind.Start(); err != nil {
			t.Fatal(err)
		}
		kept = stopMidway(t, behind, int64(resumeMB(t))<<20/4)
		if kept == 0 && tries == 5 {
			t.Fatal("the snapshot was never caught on its way")
		}
	}
	behind.Kill()
	t.Logf("killed with %d bytes of the snapshot", kept)
	l := drive(t, c, 5, patience)
	l.more(t, 500)
	if err := behind.Start(); err != nil {
		t.Fatal(err)
	}
	if err := behind.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.more(t, 500)
	l.check(t, c)
	all := received(t, behind)
	if len(all) != 1 {
		t.Fatalf("%d snapshots were received, where one was enough: %+v", len(all), all)
	}
	if got := all[0]; got.Fetched > got.Bytes-kept+got.Bytes/1000+(1<<20) {
		t.Fatalf("%d bytes of the snapshot's %d were fetched after the kill, although %d were there", got.Fetched, got.Bytes, kept)
	}
	t.Logf("%d of %d bytes were fetched afterwards", all[0].Fetched, all[0].Bytes)
}

// fill writes so many MB that cannot be compressed.
func fill(t *testing.T, c *Cluster, endpoints []string, mb, round int) {
	t.Helper()
	var done sync.WaitGroup
	for w := range 4 {
		cli := connect(t, c, endpoints...)
		done.Go(func() {
			value := make([]byte, 32<<10)
			for n := w; n < mb*32; n += 4 {
				_, _ = rand.Read(value)
				if _, err := cli.Put(t.Context(), fmt.Sprintf("fill/%d/%06d", round, n), string(value)); err != nil {
					t.Errorf("put %d: %v", n, err)
					return
				}
			}
		})
	}
	done.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// stopMidway pauses the member when it has received so many bytes of a snapshot, at least, and says how many are there, 0 when
// it was too fast.
func stopMidway(t *testing.T, m *Member, least int64) int64 {
	t.Helper()
	incoming := filepath.Join(m.Dir, "data", "incoming")
	whole := false
	until(t, "a snapshot is on its way", func() bool {
		bytes, manifest := sizeOf(incoming)
		whole = manifest || strings.Contains(m.LogTail(1<<20), "received a snapshot")
		return whole || bytes >= least
	})
	if whole {
		return 0
	}
	if err := m.Pause(); err != nil {
		t.Fatal(err)
	}
	bytes, manifest := sizeOf(incoming)
	if manifest || strings.Contains(m.LogTail(1<<20), "received a snapshot") {
		return 0
	}
	return bytes
}

// sizeOf is the size of all files below dir, and whether a manifest, which is written last, is among them.
func sizeOf(dir string) (bytes int64, manifest bool) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // it comes and goes
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			bytes += info.Size()
		}
		manifest = manifest || d.Name() == "manifest.json"
		return nil
	})
	return bytes, manifest
}

// arrival is what a member logs of a snapshot that it has received.
type arrival struct {
	Msg     string
	Fetched int64 `json:"bytes-fetched"`
	Bytes   int64 `json:"bytes"`
}

func received(t *testing.T, m *Member) (out []arrival) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(m.Dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var a arrival
		if json.Unmarshal([]byte(line), &a) == nil && a.Msg == "received a snapshot" {
			out = append(out, a)
		}
	}
	return out
}
