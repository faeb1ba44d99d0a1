package tools

import (
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/test/compat/diff"
	"quorate.dev/quorate/test/compat/proc"
)

// TestSnapshotsAcross saves snapshots of etcd and of quorate, with etcd's tool and with ours, restores each into both, and compares
// what the restored servers answer with what the saved one did: hashes of the key space at every revision, all revisions of all
// keys, leases with their keys, users, roles. Then it does so again after a restart.
func TestSnapshotsAcross(t *testing.T) {
	j, o := sides(t)
	for _, from := range []side{j, o} {
		t.Run("of "+from.server.String(), func(t *testing.T) {
			t.Parallel()
			source, err := proc.Start(from.server, filepath.Join(t.TempDir(), "source"), "--unsafe-no-fsync", "--bcrypt-cost=4")
			if err != nil {
				t.Fatal(err)
			}
			defer source.Kill()
			leases := fill(t, j, source)
			want := facts(t, source, leases)
			for i, saver := range []side{j, o} {
				file := filepath.Join(t.TempDir(), "snap")
				command(t, saver.ctl, "--endpoints="+source.Addr, "snapshot", "save", file)
				for _, to := range []side{j, o} {
					t.Run(fmt.Sprintf("saved by %s, into %s", []string{"etcdctl", "ours"}[i], to.server), func(t *testing.T) {
						s := restore(t, to, file)
						same(t, want, facts(t, s, leases))
						s, err := s.Restart()
						if err != nil {
							t.Fatal(err)
						}
						defer s.Kill()
						same(t, want, facts(t, s, leases))
						command(t, j.ctl, "--endpoints="+s.Addr, "put", "after", "the restart")
					})
				}
			}
		})
	}
}

// TestSnapshotsBumped restores with revisions moved up and everything before marked as compacted, as one does for watchers that
// must not miss the step back, and compares what etcd and quorate make of it.
func TestSnapshotsBumped(t *testing.T) {
	t.Parallel()
	j, o := sides(t)
	source, err := proc.Start(o.server, filepath.Join(t.TempDir(), "source"), "--unsafe-no-fsync", "--bcrypt-cost=4")
	if err != nil {
		t.Fatal(err)
	}
	defer source.Kill()
	leases := fill(t, j, source)
	before := hash(t, source, 0)
	file := filepath.Join(t.TempDir(), "snap")
	command(t, o.ctl, "--endpoints="+source.Addr, "snapshot", "save", file)
	var answers [2][]string
	for i, to := range []side{j, o} {
		s := restore(t, to, file, "--bump-revision=1000", "--mark-compacted")
		defer func() { s.Kill() }()
		at := hash(t, s, 0)
		if at.Header.Revision != before.Header.Revision+1000 || at.CompactRevision != at.Header.Revision {
			t.Errorf("%s: revision %d became %d, compacted at %d", to.server, before.Header.Revision, at.Header.Revision, at.CompactRevision)
		}
		if _, err := pb.NewKVClient(s.Conn()).Range(t.Context(), &pb.RangeRequest{Key: []byte("a"), Revision: before.Header.Revision}); err == nil {
			t.Errorf("%s: the old revision %d can still be read", to.server, before.Header.Revision)
		}
		for _, restart := range []bool{false, true} {
			if restart {
				if s, err = s.Restart(); err != nil {
					t.Fatal(err)
				}
			}
			answers[i] = append(answers[i], facts(t, s, leases)...)
			command(t, j.ctl, "--endpoints="+s.Addr, "put", "after", fmt.Sprint(restart))
			answers[i] = append(answers[i], fmt.Sprint(hash(t, s, 0)))
		}
	}
	same(t, answers[0], answers[1])
}

// fill writes the history of the fixtures and two leases, one with two keys, and returns the leases' ids.
func fill(t *testing.T, by side, s *proc.Server) []int64 {
	t.Helper()
	for line := range strings.SplitSeq(history, "\n") {
		command(t, by.ctl, append([]string{"--endpoints=" + s.Addr}, strings.Fields(line)...)...)
	}
	for _, id := range []int64{0x1234, 0x5678} {
		if _, err := pb.NewLeaseClient(s.Conn()).LeaseGrant(t.Context(), &pb.LeaseGrantRequest{ID: id, TTL: 5000}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 40 { // enough for several pages of etcd's file
		txn := &pb.TxnRequest{}
		for k := range 50 {
			put := &pb.PutRequest{Key: fmt.Appendf(nil, "many/%d", i*50+k), Value: []byte(strings.Repeat("v", k*7))}
			txn.Success = append(txn.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}})
		}
		if _, err := pb.NewKVClient(s.Conn()).Txn(t.Context(), txn); err != nil {
			t.Fatal(err)
		}
	}
	command(t, by.ctl, "--endpoints="+s.Addr, "put", "--lease=1234", "leased/1", "x")
	command(t, by.ctl, "--endpoints="+s.Addr, "put", "--lease=1234", "leased/2", "y")
	command(t, by.ctl, "--endpoints="+s.Addr, "put", "--lease=5678", "leased/3", strings.Repeat("long ", 5000))
	return []int64{0x1234, 0x5678}
}

// restore makes a data directory of the file and starts a server on it.
func restore(t *testing.T, to side, file string, flags ...string) *proc.Server {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "restored")
	command(t, to.utl, append([]string{"snapshot", "restore", file, "--data-dir=" + filepath.Join(dir, "data"), "--name=m1",
		"--initial-cluster=m1=" + proc.AdvertisedPeer, "--initial-advertise-peer-urls=" + proc.AdvertisedPeer,
		"--initial-cluster-token=compat"}, flags...)...)
	s, err := proc.Start(to.server, dir, "--unsafe-no-fsync", "--bcrypt-cost=4")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func command(t *testing.T, program []string, args ...string) {
	t.Helper()
	cmd := exec.Command(program[0], append(slices.Clone(program[1:]), args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", filepath.Base(program[0]), args, err, out)
	}
}

func hash(t *testing.T, s *proc.Server, rev int64) *pb.HashKVResponse {
	t.Helper()
	h, err := pb.NewMaintenanceClient(s.Conn()).HashKV(t.Context(), &pb.HashKVRequest{Revision: rev})
	if err != nil {
		t.Fatal(err)
	}
	h.Header.RaftTerm = 0 // counts the starts
	return h
}

// facts are the answers to everything that a restored server has to know.
func facts(t *testing.T, s *proc.Server, leases []int64) []string {
	t.Helper()
	var all []string
	note := func(what string, facts []diff.Fact) {
		for _, f := range facts {
			if f.Path != "header.raft_term" && f.Path != "TTL" { // starts are counted, and leases last as long as they were granted for
				all = append(all, what+": "+f.String())
			}
		}
	}
	kv, lease := pb.NewKVClient(s.Conn()), pb.NewLeaseClient(s.Conn())
	// The first revisions are those of the history, and compacted for the most part; the last those of leases.
	everything := &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}
	head := hash(t, s, 0)
	for rev := int64(1); rev <= head.Header.Revision; rev++ {
		if rev == 20 {
			rev = head.Header.Revision - 5
		}
		what := fmt.Sprintf("revision %d", rev)
		everything.Revision = rev
		note(what, ask(t, kv.Range, everything))
		// For the compacted revision a server tells the hash that it took before it compacted. That is not in its file.
		if rev != head.CompactRevision {
			note(what, ask(t, pb.NewMaintenanceClient(s.Conn()).HashKV, &pb.HashKVRequest{Revision: rev}))
		}
	}
	note("leases", ask(t, func(ctx context.Context, q *pb.LeaseLeasesRequest, _ ...grpc.CallOption) (*pb.LeaseLeasesResponse, error) {
		a, err := lease.LeaseLeases(ctx, q)
		slices.SortFunc(a.GetLeases(), func(x, y *pb.LeaseStatus) int { return cmp.Compare(x.ID, y.ID) }) // they come in the order of expiry
		return a, err
	}, &pb.LeaseLeasesRequest{}))
	for _, id := range leases {
		note(fmt.Sprintf("lease %x", id), ask(t, lease.LeaseTimeToLive, &pb.LeaseTimeToLiveRequest{ID: id, Keys: true}))
	}
	auth := pb.NewAuthClient(s.Conn())
	note("authentication", ask(t, auth.AuthStatus, &pb.AuthStatusRequest{}))
	note("users", ask(t, auth.UserList, &pb.AuthUserListRequest{}))
	note("roles", ask(t, auth.RoleList, &pb.AuthRoleListRequest{}))
	note("alice", ask(t, auth.UserGet, &pb.AuthUserGetRequest{Name: "alice"}))
	note("readers", ask(t, auth.RoleGet, &pb.AuthRoleGetRequest{Role: "readers"}))
	return all
}

// ask makes a call and lists the facts of its answer, or of its error.
func ask[Q, A any](t *testing.T, call func(context.Context, *Q, ...grpc.CallOption) (*A, error), q *Q) []diff.Fact {
	t.Helper()
	a, err := call(t.Context(), q)
	if err != nil {
		return diff.Error(err)
	}
	return diff.Message(any(a).(proto.Message))
}

// same reports where two lists of facts differ.
func same(t *testing.T, want, got []string) {
	t.Helper()
	count := map[string]int{}
	for _, f := range want {
		count[f]++
	}
	for _, f := range got {
		count[f]--
	}
	shown := 0
	for f, n := range count {
		if n != 0 && shown < 20 {
			t.Errorf("%s: %.300s", map[bool]string{true: "lost", false: "came"}[n > 0], f)
			shown++
		}
	}
}
