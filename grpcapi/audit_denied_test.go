package grpcapi_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"quorate.dev/quorate/audit"
	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/grpcapi"
	"quorate.dev/quorate/internal/pki"
)

// securedLines is how many lines secure leaves.
const securedLines = 17

// TestAuditDenied: whatever the operator wants to be recorded, what is denied is, with who it was and what they tried.
func TestAuditDenied(t *testing.T) {
	s, file := audited(t, audit.Management)
	secure(t, s)
	n := securedLines
	file.awaitLines(t, n)
	expect := func(want string) {
		t.Helper()
		n++
		if got := file.awaitLines(t, n)[n-1]; got != sorted(t, want) {
			t.Errorf("line %s\nwant %s", got, sorted(t, want))
		}
	}
	denied := func(event, method, ranges, more string) string {
		return fmt.Sprintf(`{"event":%q,"method":%q,"user":"reader","identified":"token","decision":"denied","code":"PermissionDenied","error":"etcdserver: permission denied","ranges":[%s]%s}`,
			event, method, ranges, more)
	}
	reader := s.as(t, "reader")
	expect(`{"event":"call","method":"/etcdserverpb.Auth/Authenticate","identified":"none","decision":"allowed","code":"OK","revision":1,"target_user":"reader"}`)
	ctx := t.Context()
	if _, err := reader.kv.Range(ctx, &pb.RangeRequest{Key: []byte("k")}); err != nil { // not recorded
		t.Fatal(err)
	}
	put := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("k"), Value: []byte("v")}}}
	nested := &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Failure: []*pb.RequestOp{put}}}}}}
	for _, c := range []struct {
		call func() error
		want string
	}{
		{func() error { _, err := reader.kv.Put(ctx, &pb.PutRequest{Key: []byte("k")}); return err },
			denied("call", "/etcdserverpb.KV/Put", `{"action":"put","key":"k"}`, "")},
		{func() error { _, err := reader.kv.Range(ctx, &pb.RangeRequest{Key: []byte("a")}); return err },
			denied("call", "/etcdserverpb.KV/Range", `{"action":"read","key":"a"}`, "")},
		{func() error { _, err := reader.kv.Txn(ctx, nested); return err },
			denied("call", "/etcdserverpb.KV/Txn", `{"action":"put","key":"k"}`, "")},
		{func() error {
			r, err := reader.kv.RangeStream(ctx, &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("b")})
			if err == nil {
				_, err = r.Recv()
			}
			return err
		}, denied("end", "/etcdserverpb.KV/RangeStream", `{"action":"read","key":"a","range_end":"b"}`, "")},
		{func() error {
			r, err := pb.NewMaintenanceClient(reader.conn).Snapshot(ctx, &pb.SnapshotRequest{})
			if err == nil {
				_, err = r.Recv()
			}
			return err
		}, strings.Replace(denied("open", "/etcdserverpb.Maintenance/Snapshot", "", ""), `,"ranges":[]`, "", 1)},
		{func() error { _, err := s.kv.Range(ctx, &pb.RangeRequest{Key: []byte("k")}); return err },
			`{"event":"call","method":"/etcdserverpb.KV/Range","identified":"none","decision":"denied","code":"InvalidArgument","error":"etcdserver: user name is empty","ranges":[{"action":"read","key":"k"}]}`},
		{func() error {
			_, err := s.with(t, "token", "wrong.1").kv.Range(ctx, &pb.RangeRequest{Key: []byte("k")})
			return err
		},
			`{"event":"call","method":"/etcdserverpb.KV/Range","identified":"none","decision":"denied","code":"Unauthenticated","error":"etcdserver: invalid auth token","ranges":[{"action":"read","key":"k"}]}`},
		{func() error {
			_, err := pb.NewAuthClient(s.conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: "root", Password: "wrong"})
			return err
		}, `{"event":"call","method":"/etcdserverpb.Auth/Authenticate","identified":"none","decision":"denied","code":"InvalidArgument","error":"etcdserver: authentication failed, invalid user ID or password","target_user":"root"}`},
		{func() error {
			_, err := pb.NewAuthClient(s.conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: "certified", Password: "x"})
			return err
		}, `{"event":"call","method":"/etcdserverpb.Auth/Authenticate","identified":"none","decision":"denied","code":"Unknown","error":"auth: authentication failed, password was given for no password user","target_user":"certified"}`},
	} {
		if err := c.call(); err == nil || err == io.EOF {
			t.Fatalf("allowed: %s", c.want)
		}
		expect(c.want)
	}
}

// TestAuditWatchesDenied: a watch that is refused has a line, and one that ends with its permission.
func TestAuditWatchesDenied(t *testing.T) {
	s, file := audited(t, audit.Management)
	secure(t, s)
	reader, root := s.as(t, "reader"), s.as(t, "root")
	n := securedLines + 2
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w, err := pb.NewWatchClient(reader.conn).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "k"} {
		req := &pb.WatchCreateRequest{Key: []byte(key), WatchId: 7}
		if err := w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: req}}); err != nil {
			t.Fatal(err)
		}
		recv(t, w)
	}
	const line = `"method":"/etcdserverpb.Watch/Watch","user":"reader","identified":"token","decision":"denied","code":"PermissionDenied","error":"etcdserver: permission denied",`
	want := sorted(t, `{"event":"create",`+line+`"watch_id":7,"ranges":[{"action":"read","key":"a"}]}`)
	if got := file.awaitLines(t, n+1)[n]; got != want {
		t.Errorf("line %s\nwant %s", got, want)
	}
	if _, err := pb.NewAuthClient(root.conn).UserRevokeRole(t.Context(), &pb.AuthUserRevokeRoleRequest{Name: "reader", Role: "reader"}); err != nil {
		t.Fatal(err)
	}
	if r := recv(t, w); !r.Canceled {
		t.Fatal(r)
	}
	want = sorted(t, `{"event":"cancel",`+line+`"ranges":[{"action":"read","key":"k"}]}`)
	revoked := sorted(t, `{"event":"call","method":"/etcdserverpb.Auth/UserRevokeRole","user":"root","identified":"token","decision":"allowed","code":"OK","revision":1,"target_user":"reader","target_role":"reader"}`)
	if got := file.awaitLines(t, n+3)[n+1:]; !slices.Contains(got, want) || !slices.Contains(got, revoked) {
		t.Errorf("lines %s\nwant %s\nand  %s", strings.Join(got, "\n"), want, revoked)
	}
	if _, err := pb.NewAuthClient(root.conn).UserGrantRole(t.Context(), &pb.AuthUserGrantRoleRequest{User: "reader", Role: "reader"}); err != nil {
		t.Fatal(err)
	}
	granted := sorted(t, `{"event":"call","method":"/etcdserverpb.Auth/UserGrantRole","user":"root","identified":"token","decision":"allowed","code":"OK","revision":1,"target_user":"reader","target_role":"reader"}`)
	if got := file.awaitLines(t, n+4)[n+3:]; !slices.Equal(got, []string{granted}) {
		t.Errorf("after one line each, lines %s\nwant %s", strings.Join(got, "\n"), granted)
	}
}

// TestAuditKnowsAllMethods: a method without a row would be recorded without what it is about.
func TestAuditKnowsAllMethods(t *testing.T) {
	for _, m := range auth.Methods() {
		if !grpcapi.AuditKnows(m.String()) {
			t.Errorf("%s has no row", m)
		}
	}
}

// TestAuditCertificate: who is known by a certificate is recorded as that, and by a token when there is one.
func TestAuditCertificate(t *testing.T) {
	plain, file := audited(t, audit.Management)
	secure(t, plain)
	ca := pki.New(t, "ca", time.Now())
	member, client := ca.Issue("member", nil).TLS(), ca.Issue("reader", nil).TLS()
	st := plain.store
	st.keeper.Certificates = true
	st.tls = &tls.Config{Certificates: []tls.Certificate{member}, ClientCAs: pki.Pool(ca), ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"h2"}}
	addr := serveNode(t, st, st, settings())
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		RootCAs: pki.Pool(ca), ServerName: "localhost", Certificates: []tls.Certificate{client}})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	root := plain.token(t, "root")
	for i, c := range []struct {
		ctx  context.Context
		want string
	}{
		{t.Context(), `"user":"reader","identified":"certificate","decision":"denied","code":"PermissionDenied","error":"etcdserver: permission denied"`},
		{metadata.AppendToOutgoingContext(t.Context(), "token", root), `"user":"root","identified":"token","decision":"allowed","code":"OK","revision":1`},
	} {
		_, _ = pb.NewAuthClient(conn).UserDelete(c.ctx, &pb.AuthUserDeleteRequest{Name: "writer"})
		want := sorted(t, `{"event":"call","method":"/etcdserverpb.Auth/UserDelete","target_user":"writer",`+c.want+`}`)
		if got := file.awaitLines(t, securedLines+i+2)[securedLines+i+1]; got != want {
			t.Errorf("line %s\nwant %s", got, want)
		}
	}
}
