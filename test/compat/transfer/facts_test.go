package transfer

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"go.etcd.io/etcd/api/v3/authpb"
)

// facts are what a cluster answers, as text, by question.
type facts map[string]string

// hashes is HashKV of a member at some revisions; those that are compacted are left out.
func hashes(t *testing.T, m *member, user string, at []int64) facts {
	t.Helper()
	f := facts{}
	for _, rev := range at {
		r, err := pb.NewMaintenanceClient(m.conn).HashKV(m.as(t, user), &pb.HashKVRequest{Revision: rev})
		if err != nil {
			f[fmt.Sprintf("HashKV at %d", rev)] = err.Error()
			continue
		}
		f[fmt.Sprintf("HashKV at %d", rev)] = fmt.Sprintf("%d, compacted %d", r.Hash, max(r.CompactRevision, 0))
	}
	return f
}

// ask gathers everything but the keys from one member.
func ask(t *testing.T, m *member, user string) facts {
	t.Helper()
	f := facts{}
	ctx := m.as(t, user)
	add := func(question string, r proto.Message, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", question, err)
		}
		b, err := protojson.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		f[question] = strings.ReplaceAll(string(b), " ", "")
	}
	list, err := pb.NewClusterClient(m.conn).MemberList(ctx, &pb.MemberListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	f["cluster"] = fmt.Sprintf("%x", list.Header.ClusterId)
	slices.SortFunc(list.Members, func(a, b *pb.Member) int { return strings.Compare(a.Name, b.Name) })
	list.Header = nil
	add("members", list, nil)
	leases, err := pb.NewLeaseClient(m.conn).LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(leases.Leases, func(a, b *pb.LeaseStatus) int { return int(a.ID - b.ID) })
	for _, l := range leases.Leases {
		r, err := pb.NewLeaseClient(m.conn).LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: l.ID, Keys: true})
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(r.Keys, slices.Compare)
		f[fmt.Sprintf("lease %x", l.ID)] = fmt.Sprintf("granted %d, keys %q", r.GrantedTTL, r.Keys)
	}
	alarms, err := pb.NewMaintenanceClient(m.conn).Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_GET})
	if err == nil {
		alarms.Header = nil
	}
	add("alarms", alarms, err)
	askAuth(t, m, user, add)
	return f
}

func askAuth(t *testing.T, m *member, user string, add func(string, proto.Message, error)) {
	t.Helper()
	ctx, auth := m.as(t, user), pb.NewAuthClient(m.conn)
	if status, err := auth.AuthStatus(ctx, &pb.AuthStatusRequest{}); err == nil || !strings.Contains(err.Error(), "unknown method") { // 3.4 has it not
		if err == nil {
			status.Header = nil
		}
		add("authentication", status, err)
	}
	users, err := auth.UserList(ctx, &pb.AuthUserListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range users.Users {
		r, err := auth.UserGet(ctx, &pb.AuthUserGetRequest{Name: name})
		if err == nil {
			r.Header = nil
		}
		add("user "+name, r, err)
	}
	roles, err := auth.RoleList(ctx, &pb.AuthRoleListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range roles.Roles {
		if name == "root" {
			continue // 3.4 does not show what it may, which is everything
		}
		r, err := auth.RoleGet(ctx, &pb.AuthRoleGetRequest{Role: name})
		if err == nil {
			r.Header = nil
		}
		add("role "+name, r, err)
	}
}

// same compares answers.
func same(t *testing.T, what string, got, want facts) {
	t.Helper()
	for question, answer := range want {
		if got[question] != answer {
			t.Errorf("%s: %s is\n  %s, and was\n  %s", what, question, got[question], answer)
		}
	}
	for question, answer := range got {
		if _, ok := want[question]; !ok {
			t.Errorf("%s: %s is %s, and was not there", what, question, answer)
		}
	}
}

// fill writes what a store can hold: keys in revisions, deletions, transactions, leases, a compaction, users and roles. It returns
// the newest revision.
func fill(t *testing.T, m *member) int64 {
	t.Helper()
	ctx, kv, lease := t.Context(), pb.NewKVClient(m.conn), pb.NewLeaseClient(m.conn)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for id := range int64(3) {
		_, err := lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 100 + id, TTL: 3000 + id})
		must(err)
	}
	last := int64(0)
	put := func(key, value string, id int64) {
		t.Helper()
		r, err := kv.Put(ctx, &pb.PutRequest{Key: []byte(key), Value: []byte(value), Lease: id})
		must(err)
		last = r.Header.Revision
	}
	op := func(key, value string) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte(value)}}}
	}
	for i := range 120 {
		put(fmt.Sprintf("k%03d", i%40), strings.Repeat(fmt.Sprint(i), 20), int64(100+i%3)*int64(i%2))
		switch {
		case i%11 == 5:
			_, err := kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: fmt.Appendf(nil, "k%03d", i%40)})
			must(err)
		case i%13 == 7:
			_, err := kv.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{op("t1", fmt.Sprint(i)), op("t2", fmt.Sprint(i)), op(fmt.Sprintf("t-%d", i), "x")}})
			must(err)
		case i == 70:
			_, err := kv.Compact(ctx, &pb.CompactionRequest{Revision: last - 20, Physical: true})
			must(err)
		}
	}
	_, err := lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: 102})
	must(err)
	put("last", "one", 0)
	return last
}

// secure makes users and roles, and turns authentication on. Passwords are pw- and the name.
func secure(t *testing.T, m *member) {
	t.Helper()
	ctx, auth := t.Context(), pb.NewAuthClient(m.conn)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, role := range []string{"root", "reader", "nothing"} {
		_, err := auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: role})
		must(err)
	}
	_, err := auth.RoleGrantPermission(ctx, &pb.AuthRoleGrantPermissionRequest{Name: "reader", Perm: &authpb.Permission{PermType: authpb.Permission_READ, Key: []byte("k"), RangeEnd: []byte("l")}})
	must(err)
	for user, role := range map[string]string{"root": "root", "ann": "reader", "bob": "nothing"} {
		_, err := auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: user, Password: "pw-" + user, Options: &authpb.UserAddOptions{}})
		must(err)
		_, err = auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: user, Role: role})
		must(err)
	}
	_, err = auth.AuthEnable(ctx, &pb.AuthEnableRequest{})
	must(err)
}
