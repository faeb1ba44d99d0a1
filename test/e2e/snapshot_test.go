package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"quorate.dev/quorate/test/compat/proc"
)

// TestSnapshotRunsInEtcd saves a snapshot of quorate with etcdctl of both releases, reads and restores it with etcdutl, and
// starts a real etcd on it: the way back that a user of ours has.
func TestSnapshotRunsInEtcd(t *testing.T) {
	s := start(t, proc.Quorate, t.TempDir())
	kv := pb.NewKVClient(s.Conn())
	put := func(key, value string, lease int64) {
		if _, err := kv.Put(t.Context(), &pb.PutRequest{Key: []byte(key), Value: []byte(value), Lease: lease}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pb.NewLeaseClient(s.Conn()).LeaseGrant(t.Context(), &pb.LeaseGrantRequest{ID: 77, TTL: 3000}); err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		put(fmt.Sprintf("k%03d", i), fmt.Sprintf("value %d", i), 0)
	}
	put("k007", "again", 0)
	put("leased", "x", 77)
	for _, key := range []string{"k100", "k101"} {
		if _, err := kv.DeleteRange(t.Context(), &pb.DeleteRangeRequest{Key: []byte(key)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := kv.Compact(t.Context(), &pb.CompactionRequest{Revision: 300, Physical: true}); err != nil {
		t.Fatal(err)
	}
	for name, ctl := range map[string]string{"3.7": tool(t, "etcdctl"), "3.4": etcdctl34(t)} {
		t.Run("saved by "+name, func(t *testing.T) { restoreIntoEtcd(t, s, ctl) })
	}
}

func restoreIntoEtcd(t *testing.T, s *proc.Server, ctl string) {
	dir := t.TempDir()
	file := filepath.Join(dir, "saved.db")
	command(t, ctl, "--endpoints="+s.Addr, "snapshot", "save", file)
	var st struct {
		Revision int64  `json:"revision"`
		TotalKey int64  `json:"totalKey"`
		Version  string `json:"version"`
	}
	out := command(t, tool(t, "etcdutl"), "snapshot", "status", file, "-w", "json")
	if err := json.Unmarshal(out, &st); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	all := &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}
	want, err := pb.NewKVClient(s.Conn()).Range(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	if st.Revision != want.Header.Revision || st.TotalKey == 0 || st.Version != "3.7.0" {
		t.Errorf("status says %+v, the store is at revision %d", st, want.Header.Revision)
	}
	restored := filepath.Join(dir, "etcd")
	command(t, tool(t, "etcdutl"), "snapshot", "restore", file, "--data-dir="+filepath.Join(restored, "data"), "--name=m1",
		"--initial-cluster-token=compat", "--initial-cluster=m1="+proc.AdvertisedPeer, "--initial-advertise-peer-urls="+proc.AdvertisedPeer)
	etcd := start(t, proc.Etcd, restored)
	got, err := pb.NewKVClient(etcd.Conn()).Range(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	if got.Header.Revision != want.Header.Revision || got.Count != want.Count || fmt.Sprint(got.Kvs) != fmt.Sprint(want.Kvs) {
		t.Errorf("etcd reads %d keys at revision %d, quorate has %d at %d", got.Count, got.Header.Revision, want.Count, want.Header.Revision)
	}
	compareHistory(t, s, etcd, want.Header.Revision)
	lease, err := pb.NewLeaseClient(etcd.Conn()).LeaseTimeToLive(t.Context(), &pb.LeaseTimeToLiveRequest{ID: 77, Keys: true})
	if err != nil || lease.GrantedTTL != 3000 || len(lease.Keys) != 1 || string(lease.Keys[0]) != "leased" {
		t.Errorf("the lease came back as %v, %v", lease, err)
	}
	next, err := pb.NewKVClient(etcd.Conn()).Put(t.Context(), &pb.PutRequest{Key: []byte("new"), Value: []byte("1")})
	if err != nil || next.Header.Revision != want.Header.Revision+1 {
		t.Errorf("the next put: %v, %v", next, err)
	}
}

// compareHistory checks that the two stores have the same past, compaction included.
func compareHistory(t *testing.T, a, b *proc.Server, revision int64) {
	for _, rev := range []int64{revision, revision - 1, 400, 301} {
		x, errx := pb.NewMaintenanceClient(a.Conn()).HashKV(t.Context(), &pb.HashKVRequest{Revision: rev})
		y, erry := pb.NewMaintenanceClient(b.Conn()).HashKV(t.Context(), &pb.HashKVRequest{Revision: rev})
		if errx != nil || erry != nil || x.Hash != y.Hash || x.CompactRevision != y.CompactRevision {
			t.Errorf("hash at revision %d: %v, %v and %v, %v", rev, x, errx, y, erry)
		}
	}
}

func command(t *testing.T, path string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(cmd.Environ(), "ETCDCTL_API=3")
	out, err := cmd.Output()
	if err != nil {
		var stderr []byte
		if exit, ok := err.(*exec.ExitError); ok {
			stderr = exit.Stderr
		}
		t.Fatalf("%s %v: %v\n%s%s", path, args, err, out, stderr)
	}
	return out
}
