package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	authpb "go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"quorate.dev/quorate/test/compat/proc"
)

// history fills a server with something of everything that a snapshot holds, and compacts at revision 60.
func history(t *testing.T, s *proc.Server) {
	t.Helper()
	kv, lease, auth := pb.NewKVClient(s.Conn()), pb.NewLeaseClient(s.Conn()), pb.NewAuthClient(s.Conn())
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(lease.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{ID: 77, TTL: 3000}))
	for i := range 100 {
		must(kv.Put(t.Context(), &pb.PutRequest{Key: fmt.Appendf(nil, "k%02d", i%40), Value: []byte(strings.Repeat("v", i*50))}))
	}
	must(kv.Put(t.Context(), &pb.PutRequest{Key: []byte("leased"), Value: []byte("x"), Lease: 77}))
	must(kv.Put(t.Context(), &pb.PutRequest{Key: []byte(strings.Repeat("long", 1000)), Value: []byte("y")}))
	must(kv.DeleteRange(t.Context(), &pb.DeleteRangeRequest{Key: []byte("k10"), RangeEnd: []byte("k20")}))
	must(kv.Txn(t.Context(), &pb.TxnRequest{Success: []*pb.RequestOp{
		{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("t1")}}},
		{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("k30")}}},
	}}))
	must(kv.Compact(t.Context(), &pb.CompactionRequest{Revision: 60, Physical: true}))
	must(auth.RoleAdd(t.Context(), &pb.AuthRoleAddRequest{Name: "reader"}))
	must(auth.RoleGrantPermission(t.Context(), &pb.AuthRoleGrantPermissionRequest{Name: "reader", Perm: &authpb.Permission{Key: []byte("k"), RangeEnd: []byte("l")}}))
	must(auth.UserAdd(t.Context(), &pb.AuthUserAddRequest{Name: "u", Password: "secret"}))
	must(auth.UserGrantRole(t.Context(), &pb.AuthUserGrantRoleRequest{User: "u", Role: "reader"}))
}

// ours runs a command line of etcdutl with our program and returns what it printed.
func ours(t *testing.T, args ...string) []byte {
	t.Helper()
	bin, err := proc.Binary(proc.Quorate)
	if err != nil {
		t.Fatal(err)
	}
	return command(t, bin, append([]string{"etcdutl"}, args...)...)
}

// TestSnapshotOfEtcdRunsHere saves a snapshot of a real etcd and restores it into quorate: hashes at every revision, leases, users
// and roles are the same, and etcdutl and our command say the same of the file.
func TestSnapshotOfEtcdRunsHere(t *testing.T) {
	etcd := start(t, proc.Etcd, t.TempDir())
	history(t, etcd)
	file := filepath.Join(t.TempDir(), "saved.db")
	command(t, tool(t, "etcdctl"), "--endpoints="+etcd.Addr, "snapshot", "save", file)
	theirs := copyOf(t, file) // etcdutl hashkv changes the file
	for _, args := range [][]string{{"snapshot", "status"}, {"snapshot", "status", "-w", "json"}, {"hashkv"}, {"hashkv", "--rev=80", "-w", "table"}} {
		want := command(t, tool(t, "etcdutl"), append(args, theirs)...)
		if got := ours(t, append(args, file)...); string(got) != string(want) {
			t.Errorf("%v: etcdutl says\n%swe say\n%s", args, want, got)
		}
	}
	dir := t.TempDir()
	ours(t, "snapshot", "restore", file, "--data-dir="+filepath.Join(dir, "data"), "--name=m1", "--initial-cluster-token=compat",
		"--initial-cluster=m1="+proc.AdvertisedPeer, "--initial-advertise-peer-urls="+proc.AdvertisedPeer)
	here := start(t, proc.Quorate, dir)
	compareStores(t, etcd, here, 61) // at 60 a running etcd remembers the hash that its compaction took
	next, err := pb.NewKVClient(here.Conn()).Put(t.Context(), &pb.PutRequest{Key: []byte("new"), Value: []byte("1")})
	if err != nil || next.Header.Revision != revisionOf(t, etcd)+1 {
		t.Errorf("the next put: %v, %v", next, err)
	}
	if _, err := here.Restart(); err != nil {
		t.Error(err)
	}
}

// TestRestoreBumped restores one file with a bumped revision into both, and compares the servers that start from it.
func TestRestoreBumped(t *testing.T) {
	etcd := start(t, proc.Etcd, t.TempDir())
	history(t, etcd)
	file := filepath.Join(t.TempDir(), "saved.db")
	command(t, tool(t, "etcdctl"), "--endpoints="+etcd.Addr, "snapshot", "save", file)
	flags := func(dir string) []string {
		return []string{"snapshot", "restore", file, "--data-dir=" + filepath.Join(dir, "data"), "--name=m1", "--initial-cluster-token=compat",
			"--initial-cluster=m1=" + proc.AdvertisedPeer, "--initial-advertise-peer-urls=" + proc.AdvertisedPeer, "--bump-revision=1000000", "--mark-compacted"}
	}
	theirs, own := t.TempDir(), t.TempDir()
	command(t, tool(t, "etcdutl"), flags(theirs)...)
	ours(t, flags(own)...)
	a, b := start(t, proc.Etcd, theirs), start(t, proc.Quorate, own)
	compareStores(t, a, b, revisionOf(t, a))
	for _, s := range []*proc.Server{a, b} {
		if _, err := pb.NewKVClient(s.Conn()).Put(t.Context(), &pb.PutRequest{Key: []byte("k01"), Value: []byte("after")}); err != nil {
			t.Error(err)
		}
		if _, err := pb.NewKVClient(s.Conn()).Compact(t.Context(), &pb.CompactionRequest{Revision: revisionOf(t, s), Physical: true}); err != nil {
			t.Error(err)
		}
	}
	compareStores(t, a, b, revisionOf(t, a))
}

// TestRestoreCluster restores two of three members. The third is started without the file, as if somebody had forgotten it: it
// must be brought what the others have.
func TestRestoreCluster(t *testing.T) {
	etcd := start(t, proc.Etcd, t.TempDir())
	history(t, etcd)
	file := filepath.Join(t.TempDir(), "saved.db")
	command(t, tool(t, "etcdctl"), "--endpoints="+etcd.Addr, "snapshot", "save", file)
	ports, err := proc.FreePorts(3)
	if err != nil {
		t.Fatal(err)
	}
	var urls, initial []string
	for i, port := range ports {
		urls = append(urls, fmt.Sprintf("http://127.0.0.1:%d", port))
		initial = append(initial, fmt.Sprintf("m%d=%s", i+1, urls[i]))
	}
	root := t.TempDir()
	servers, errs := make([]*proc.Server, 3), make([]error, 3)
	var wg sync.WaitGroup
	for i := range 3 {
		dir := filepath.Join(root, fmt.Sprint(i))
		cluster := []string{fmt.Sprintf("--name=m%d", i+1), "--initial-cluster=" + strings.Join(initial, ","), "--initial-advertise-peer-urls=" + urls[i]}
		if i < 2 {
			ours(t, append([]string{"snapshot", "restore", file, "--data-dir=" + filepath.Join(dir, "data"), "--initial-cluster-token=compat"}, cluster...)...)
		}
		wg.Go(func() {
			servers[i], errs[i] = proc.Start(proc.Quorate, dir, append(cluster, "--listen-peer-urls="+urls[i])...)
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("member %d: %v", i, err)
		}
		t.Cleanup(servers[i].Kill)
	}
	for _, s := range servers {
		compareStores(t, etcd, s, 61)
	}
}

// TestRestoreInterrupted stops a restore with the signal of Ctrl-C and looks at what it leaves.
func TestRestoreInterrupted(t *testing.T) {
	bin, err := proc.Binary(proc.Quorate)
	if err != nil {
		t.Fatal(err)
	}
	etcd := start(t, proc.Etcd, t.TempDir())
	history(t, etcd)
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	file := filepath.Join(t.TempDir(), "saved.db")
	command(t, tool(t, "etcdctl"), "--endpoints="+etcd.Addr, "snapshot", "save", file)
	held, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	lockFile(t, held) // the restore waits for the file
	cmd := exec.CommandContext(t.Context(), bin, "snapshot", "restore", file, "--data-dir", data, "--timeout=0")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitOpen(t, cmd.Process.Pid, file)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: interrupt" {
		t.Errorf("it ended with %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}

func copyOf(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), filepath.Base(file))
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

func revisionOf(t *testing.T, s *proc.Server) int64 {
	t.Helper()
	resp, err := pb.NewKVClient(s.Conn()).Range(t.Context(), &pb.RangeRequest{Key: []byte("nothing")})
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

// compareStores checks that two servers hold the same history from a revision on, and the same leases, users and roles.
func compareStores(t *testing.T, a, b *proc.Server, from int64) {
	t.Helper()
	head := revisionOf(t, a)
	if got := revisionOf(t, b); got != head {
		t.Errorf("revision %d and %d", head, got)
	}
	for rev := from; rev <= head; rev++ {
		x, errx := pb.NewMaintenanceClient(a.Conn()).HashKV(t.Context(), &pb.HashKVRequest{Revision: rev})
		y, erry := pb.NewMaintenanceClient(b.Conn()).HashKV(t.Context(), &pb.HashKVRequest{Revision: rev})
		if errx != nil || erry != nil || x.Hash != y.Hash || x.CompactRevision != y.CompactRevision {
			t.Errorf("hash at revision %d: %v, %v and %v, %v", rev, x, errx, y, erry)
		}
	}
	for what, ask := range map[string]func(context.Context, *proc.Server) (any, error){
		"keys": func(ctx context.Context, s *proc.Server) (any, error) {
			r, err := pb.NewKVClient(s.Conn()).Range(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
			return r.GetKvs(), err
		},
		"lease": func(ctx context.Context, s *proc.Server) (any, error) {
			r, err := pb.NewLeaseClient(s.Conn()).LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: 77, Keys: true})
			return fmt.Sprint(r.GetGrantedTTL(), r.GetKeys()), err
		},
		"user": func(ctx context.Context, s *proc.Server) (any, error) {
			r, err := pb.NewAuthClient(s.Conn()).UserGet(ctx, &pb.AuthUserGetRequest{Name: "u"})
			return r.GetRoles(), err
		},
		"role": func(ctx context.Context, s *proc.Server) (any, error) {
			r, err := pb.NewAuthClient(s.Conn()).RoleGet(ctx, &pb.AuthRoleGetRequest{Role: "reader"})
			return r.GetPerm(), err
		},
		"auth revision": func(ctx context.Context, s *proc.Server) (any, error) {
			r, err := pb.NewAuthClient(s.Conn()).AuthStatus(ctx, &pb.AuthStatusRequest{})
			return r.GetAuthRevision(), err
		},
	} {
		x, errx := ask(t.Context(), a)
		y, erry := ask(t.Context(), b)
		if errx != nil || erry != nil || fmt.Sprint(x) != fmt.Sprint(y) {
			t.Errorf("%s: %v, %v and %v, %v", what, x, errx, y, erry)
		}
	}
}
