package grpcapi_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/authn"
	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/wire"
)

// openAuthn gives the store what knows passwords and tokens.
func (s *store) openAuthn() {
	tokens, err := authn.OpenTokens(authn.TokenConfig{
		Kind: authn.KindSimple, Clock: clock.Real(), Applied: func() ids.Index { return s.View().Applied },
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.keeper = &authn.Keeper{Tokens: tokens}
	if s.verifier, err = authn.NewVerifier(authn.CostMin, 1); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		s.verifier.Close()
		authn.CloseTokens(tokens)
	})
}

// authChanged does what a member does with what changed of users and tokens.
func (s *store) authChanged(changes []state.AuthChange) {
	for _, c := range changes {
		switch c.Kind {
		case state.TokenAssigned:
			s.keeper.Tokens.Assign(c.User, c.Token, c.Index)
		case state.UserDropped:
			s.keeper.Tokens.Invalidate(c.User)
		case state.AuthDisabled:
			s.keeper.Tokens.Invalidate("")
		}
	}
	s.hub.Recheck()
}

// secured is a server with authentication enabled and these users, whose passwords are their names: root; reader, writer and
// both with permissions for k to l; norole; and certified, who has no password.
func secured(t testing.TB) *server { return secure(t, start(t)) }

// secure makes these users on a server.
func secure(t testing.TB, s *server) *server {
	a := pb.NewAuthClient(s.conn)
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"root", "reader", "writer", "both", "norole"} {
		_, err := a.UserAdd(ctx, &pb.AuthUserAddRequest{Name: name, Password: name})
		must(err)
	}
	_, err := a.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "certified", Options: &authpb.UserAddOptions{NoPassword: true}})
	must(err)
	for name, kind := range map[string]authpb.Permission_Type{"reader": authpb.READ, "writer": authpb.WRITE, "both": authpb.READWRITE} {
		_, err := a.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: name})
		must(err)
		_, err = a.RoleGrantPermission(ctx, &pb.AuthRoleGrantPermissionRequest{Name: name,
			Perm: &authpb.Permission{PermType: kind, Key: []byte("k"), RangeEnd: []byte("l")}})
		must(err)
		_, err = a.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: name, Role: name})
		must(err)
	}
	_, err = a.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"})
	must(err)
	_, err = a.AuthEnable(ctx, &pb.AuthEnableRequest{})
	must(err)
	return s
}

// token is a new token of a user.
func (s *server) token(t testing.TB, name string) string {
	t.Helper()
	r, err := pb.NewAuthClient(s.conn).Authenticate(t.Context(), &pb.AuthenticateRequest{Name: name, Password: name})
	if err != nil {
		t.Fatal(err)
	}
	return r.Token
}

// as is the server as a user calls it.
func (s *server) as(t testing.TB, name string) *server {
	t.Helper()
	return s.with(t, "token", s.token(t, name))
}

// with is the server called with metadata.
func (s *server) with(t testing.TB, kv ...string) *server {
	add := func(ctx context.Context) context.Context { return metadata.AppendToOutgoingContext(ctx, kv...) }
	conn, err := grpc.NewClient("passthrough:///"+s.addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoke(add(ctx), method, req, reply, cc, opts...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return open(add(ctx), desc, cc, method, opts...)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &server{store: s.store, addr: s.addr, conn: conn, kv: pb.NewKVClient(conn)}
}

// TestNobodyIsRefused calls every method without a token: all but those that need no identity refuse, and none of them does
// anything.
func TestNobodyIsRefused(t *testing.T) {
	s := secured(t)
	streams := []auth.Method{auth.MethodRangeStream, auth.MethodWatch, auth.MethodLeaseKeepAlive, auth.MethodSnapshot, auth.MethodObserve}
	before := s.View()
	for _, m := range auth.Methods() {
		if m.Open() {
			continue
		}
		var err error
		if slices.Contains(streams, m) {
			var st grpc.ClientStream
			if st, err = s.conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, m.String()); err != nil {
				t.Fatal(err)
			}
			// A request that has the field 1 that each of these needs.
			if err = st.SendMsg(anyRequest(m)); err == nil || errors.Is(err, io.EOF) { // then the server has answered already
				if m != auth.MethodWatch {
					_ = st.CloseSend()
				}
				var resp pb.WatchResponse
				if err = st.RecvMsg(&resp); err == nil && m == auth.MethodWatch && resp.Canceled && resp.WatchId == -1 {
					err = status.Error(codes.InvalidArgument, resp.CancelReason)
				}
			}
		} else {
			err = s.conn.Invoke(t.Context(), m.String(), anyRequest(m), &emptypb.Empty{})
		}
		if err == nil || !strings.HasSuffix(status.Convert(err).Message(), fault.UserEmpty.Text) {
			t.Errorf("%s: %v", m, err)
		}
	}
	after := s.View()
	if after.Revision() != before.Revision() || after.Auth.Revision() != before.Auth.Revision() || after.Leases.Len() != 0 {
		t.Errorf("something was done for nobody: %d %d %d", after.Revision(), after.Auth.Revision(), after.Leases.Len())
	}
}

// anyRequest is a request that the method accepts.
func anyRequest(m auth.Method) any {
	switch m {
	case auth.MethodTxn:
		return &pb.TxnRequest{Compare: []*pb.Compare{{Key: []byte("k")}}}
	case auth.MethodWatch:
		return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("k")}}}
	case auth.MethodLeaseGrant, auth.MethodLeaseRevoke, auth.MethodLeaseKeepAlive, auth.MethodLeaseTimeToLive, auth.MethodCompact:
		return &pb.LeaseKeepAliveRequest{ID: 1}
	case auth.MethodMemberAdd:
		return &pb.MemberAddRequest{PeerURLs: []string{"http://localhost:1"}}
	case auth.MethodProclaim, auth.MethodResign:
		return &pb.PutRequest{Key: []byte("\x12\x01k\x20\x01")} // a leader with a key and a lease
	case auth.MethodHash, auth.MethodHashKV, auth.MethodStatus, auth.MethodDefragment, auth.MethodMoveLeader, auth.MethodSnapshot,
		auth.MethodLeaseLeases, auth.MethodMemberList, auth.MethodMemberRemove, auth.MethodMemberUpdate, auth.MethodMemberPromote,
		auth.MethodAlarm, auth.MethodDowngrade, auth.MethodAuthEnable, auth.MethodAuthDisable, auth.MethodUserList, auth.MethodRoleList:
		return &emptypb.Empty{}
	}
	return &pb.RangeRequest{Key: []byte("k")}
}

// TestUsers goes through the life of users and roles.
func TestUsers(t *testing.T) {
	s := start(t)
	a := pb.NewAuthClient(s.conn)
	ctx := t.Context()
	st, err := a.AuthStatus(ctx, &pb.AuthStatusRequest{})
	if err != nil || header(t, st.Header) != 1 || st.Enabled || st.AuthRevision != 1 {
		t.Fatalf("%v %v", st, err)
	}
	_, err = a.Authenticate(ctx, &pb.AuthenticateRequest{Name: "root"})
	failsAs(t, err, fault.AuthNotEnabled)
	_, err = a.AuthEnable(ctx, &pb.AuthEnableRequest{})
	failsAs(t, err, fault.RootUserNotExist)
	_, err = a.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "x", Password: strings.Repeat("x", 73)})
	fails(t, err, codes.Unknown, "bcrypt: password length exceeds 72 bytes")

	s = secured(t)
	root := pb.NewAuthClient(s.as(t, "root").conn)
	if st, err = root.AuthStatus(ctx, &pb.AuthStatusRequest{}); err != nil || !st.Enabled || st.AuthRevision != 17 {
		t.Fatalf("%v %v", st, err)
	}
	if users, err := root.UserList(ctx, &pb.AuthUserListRequest{}); err != nil || strings.Join(users.Users, " ") != "both certified norole reader root writer" {
		t.Fatalf("%v %v", users, err)
	}
	_, err = pb.NewAuthClient(s.conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: "root", Password: "wrong"})
	failsAs(t, err, fault.AuthFailed)
	_, err = pb.NewAuthClient(s.conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: "certified", Password: "certified"})
	failsAs(t, err, fault.NoPasswordUser)
	reader := s.as(t, "reader")
	if r, err := pb.NewAuthClient(reader.conn).UserGet(ctx, &pb.AuthUserGetRequest{Name: "reader"}); err != nil || strings.Join(r.Roles, " ") != "reader" {
		t.Fatalf("one's own user: %v %v", r, err)
	}
	if r, err := pb.NewAuthClient(reader.conn).RoleGet(ctx, &pb.AuthRoleGetRequest{Role: "reader"}); err != nil || len(r.Perm) != 1 || string(r.Perm[0].RangeEnd) != "l" {
		t.Fatalf("one's own role: %v %v", r, err)
	}
	_, err = pb.NewAuthClient(reader.conn).UserAdd(ctx, &pb.AuthUserAddRequest{Name: "x", Password: "x"})
	failsAs(t, err, fault.PermissionDenied)
	// Another password ends the tokens of before.
	if _, err = root.UserChangePassword(ctx, &pb.AuthUserChangePasswordRequest{Name: "reader", Password: "other"}); err != nil {
		t.Fatal(err)
	}
	_, err = reader.kv.Range(ctx, &pb.RangeRequest{Key: []byte("k")})
	failsAs(t, err, fault.InvalidAuthToken)
	_, err = pb.NewAuthClient(s.conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: "reader", Password: "reader"})
	failsAs(t, err, fault.AuthFailed)
	if _, err = root.AuthDisable(ctx, &pb.AuthDisableRequest{}); err != nil {
		t.Fatal(err)
	}
	s.put(t, "z", "anybody")
}

// TestPasswordsAreNotProposed: no entry holds a password.
func TestPasswordsAreNotProposed(t *testing.T) {
	st := newStore(t)
	node := &listening{store: st}
	s := connect(t, st, serveNode(t, st, node, settings()))
	a := pb.NewAuthClient(s.conn)
	const secret = "correct-horse"
	for _, call := range []func() error{
		func() error {
			_, err := a.UserAdd(t.Context(), &pb.AuthUserAddRequest{Name: "root", Password: secret})
			return err
		},
		func() error {
			_, err := a.UserAdd(t.Context(), &pb.AuthUserAddRequest{Name: "c", Password: secret, Options: &authpb.UserAddOptions{NoPassword: true}})
			return err
		},
		func() error {
			_, err := a.UserChangePassword(t.Context(), &pb.AuthUserChangePasswordRequest{Name: "root", Password: secret + "2"})
			return err
		},
		func() error {
			_, err := a.UserGrantRole(t.Context(), &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"})
			return err
		},
		func() error { _, err := a.AuthEnable(t.Context(), &pb.AuthEnableRequest{}); return err },
		func() error {
			_, err := a.Authenticate(t.Context(), &pb.AuthenticateRequest{Name: "root", Password: secret + "2"})
			return err
		},
	} {
		if err := call(); err != nil {
			t.Fatal(err)
		}
	}
	if len(node.heard) != 6 {
		t.Fatalf("%d proposals", len(node.heard))
	}
	for _, body := range node.heard {
		if bytes.Contains(body, []byte(secret)) {
			t.Errorf("proposed: %q", body)
		}
	}
}

// listening is a node that keeps what is proposed.
type listening struct {
	*store
	heard [][]byte
}

func (n *listening) ProposeAs(kind command.Kind, body []byte, user string, revision uint64, w command.Waiter) {
	n.heard = append(n.heard, bytes.Clone(body))
	n.store.ProposeAs(kind, body, user, revision, w)
}

// TestTokenOfTheFuture: a call whose token this member does not know yet waits behind the barrier for it.
func TestTokenOfTheFuture(t *testing.T) {
	s := secured(t)
	s.hold = make(chan struct{})
	token := strings.Repeat("a", 16)
	index := s.View().Applied + 1
	user := s.with(t, "authorization", "Bearer "+token+"."+strconv.FormatUint(uint64(index), 10))
	wrong := s.with(t, "authorization", "Bearer "+strings.Repeat("b", 16)+"."+strconv.FormatUint(uint64(index), 10))
	before := s.barriers.Load()
	done, refused := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := user.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("k"), Serializable: true})
		done <- err
	}()
	go func() {
		_, err := wrong.kv.Put(t.Context(), &pb.PutRequest{Key: []byte("k")})
		refused <- err
	}()
	eventually(t, func() bool { return s.barriers.Load() >= before+2 }, "both calls wait")
	s.must(t, command.Authenticate, &wire.AuthNames{First: "reader", Third: token})
	close(s.hold)
	if err := <-done; err != nil {
		t.Errorf("a token that was assigned meanwhile: %v", err)
	}
	failsAs(t, <-refused, fault.InvalidAuthToken)
}

// TestReadsAreDecidedByWhatTheyRead: a permission that goes while a read waits for the barrier is gone.
func TestReadsAreDecidedByWhatTheyRead(t *testing.T) {
	s := secured(t)
	reader := s.as(t, "reader")
	s.hold = make(chan struct{})
	before := s.barriers.Load()
	calls := []func() error{
		func() error {
			_, err := reader.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("k")})
			return err
		},
		func() error {
			_, err := reader.kv.Txn(t.Context(), &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{
				RequestRange: &pb.RangeRequest{Key: []byte("k")}}}}})
			return err
		},
		func() error {
			st, err := reader.kv.RangeStream(t.Context(), &pb.RangeRequest{Key: []byte("k")})
			if err == nil {
				_, err = st.Recv()
			}
			return err
		},
	}
	done := make(chan error, len(calls))
	for _, call := range calls {
		go func() { done <- call() }()
	}
	eventually(t, func() bool {
		select {
		case err := <-done:
			t.Fatalf("a read did not wait: %v", err)
		default:
		}
		return s.barriers.Load() == before+int64(len(calls))
	}, "the reads wait")
	s.revoke(t, "reader")
	close(s.hold)
	for range calls {
		failsAs(t, <-done, fault.PermissionDenied)
	}
}

// revoke takes the permission of a role, as root does.
func (s *server) revoke(t testing.TB, role string) {
	t.Helper()
	w := answered(func(r *command.Result) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	})
	req := wire.AuthRoleRevokePermissionRequest{Role: role, Key: []byte("k"), RangeEnd: []byte("l")}
	s.ProposeAs(command.AuthRoleRevokePermission, req.Append(nil), "root", s.View().Auth.Revision(), w)
}

// TestWatchesEndWithTheirPermission: a watch that lives when its permission goes is cancelled with the reason, and shows
// nothing that happened afterwards; others on the same stream go on.
func TestWatchesEndWithTheirPermission(t *testing.T) {
	s := secured(t)
	root, both := s.as(t, "root"), s.as(t, "both")
	w, err := pb.NewWatchClient(both.conn).Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	create := func(key, end string) *pb.WatchResponse {
		t.Helper()
		req := &pb.WatchCreateRequest{Key: []byte(key), RangeEnd: []byte(end)}
		if err := w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: req}}); err != nil {
			t.Fatal(err)
		}
		return recv(t, w)
	}
	const denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
	for _, outside := range [][2]string{{"a", ""}, {"k", "m"}, {"k", "\x00"}, {"", "\x00"}, {"", ""}} {
		if r := create(outside[0], outside[1]); !r.Created || !r.Canceled || r.WatchId != -1 || r.CancelReason != denied {
			t.Errorf("%q: %v", outside, r)
		}
	}
	if r := create("k", "l"); !r.Created || r.Canceled {
		t.Fatal(r)
	}
	if r := create("k1", ""); !r.Created || r.Canceled {
		t.Fatal(r)
	}
	root.put(t, "k2", "seen")
	if r := recv(t, w); len(r.Events) != 1 || r.WatchId != 0 {
		t.Fatal(r)
	}
	a := pb.NewAuthClient(root.conn)
	if _, err := a.RoleGrantPermission(t.Context(), &pb.AuthRoleGrantPermissionRequest{Name: "both",
		Perm: &authpb.Permission{PermType: authpb.READ, Key: []byte("k1")}}); err != nil {
		t.Fatal(err)
	}
	s.revoke(t, "both")
	if r := recv(t, w); !r.Canceled || r.WatchId != 0 || r.CancelReason != denied || len(r.Events) != 0 {
		t.Fatal(r)
	}
	root.put(t, "k2", "not seen")
	root.put(t, "k1", "seen")
	if r := recv(t, w); r.WatchId != 1 || len(r.Events) != 1 || string(r.Events[0].Kv.Value) != "seen" {
		t.Fatal(r)
	}
	if _, err := a.UserDelete(t.Context(), &pb.AuthUserDeleteRequest{Name: "both"}); err != nil {
		t.Fatal(err)
	}
	if r := recv(t, w); !r.Canceled || r.WatchId != 1 || r.CancelReason != denied {
		t.Fatal(r)
	}
}

// TestWatchesOfNobodyEndWhenEnabled: what nobody in particular watches is not watched by nobody any more.
func TestWatchesOfNobodyEndWhenEnabled(t *testing.T) {
	s := secured(t)
	if _, err := pb.NewAuthClient(s.as(t, "root").conn).AuthDisable(t.Context(), &pb.AuthDisableRequest{}); err != nil {
		t.Fatal(err)
	}
	w, err := pb.NewWatchClient(s.conn).Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("k")}}}); err != nil {
		t.Fatal(err)
	}
	if r := recv(t, w); !r.Created || r.Canceled {
		t.Fatal(r)
	}
	if _, err := pb.NewAuthClient(s.conn).AuthEnable(t.Context(), &pb.AuthEnableRequest{}); err != nil {
		t.Fatal(err)
	}
	if r := recv(t, w); !r.Canceled || r.CancelReason != "rpc error: code = InvalidArgument desc = etcdserver: user name is empty" {
		t.Fatal(r)
	}
}

// TestLeasesOfOthers: keys that a user may not touch keep a lease from being used, and its keys from being shown.
func TestLeasesOfOthers(t *testing.T) {
	s := secured(t)
	root, both := s.as(t, "root"), s.as(t, "both")
	lease := pb.NewLeaseClient(both.conn)
	if _, err := lease.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{TTL: 60, ID: 5}); err != nil {
		t.Fatal(err)
	}
	alive := func() error {
		st, err := lease.LeaseKeepAlive(t.Context())
		if err != nil {
			return err
		}
		if err := st.Send(&pb.LeaseKeepAliveRequest{ID: 5}); err != nil && !errors.Is(err, io.EOF) { // at its end Recv says why
			return err
		}
		_, err = st.Recv()
		return err
	}
	if err := alive(); err != nil {
		t.Fatal(err)
	}
	if _, err := root.kv.Put(t.Context(), &pb.PutRequest{Key: []byte("secret"), Lease: 5}); err != nil {
		t.Fatal(err)
	}
	failsAs(t, alive(), fault.PermissionDenied)
	_, err := both.kv.Put(t.Context(), &pb.PutRequest{Key: []byte("k"), Lease: 5})
	failsAs(t, err, fault.PermissionDenied)
	_, err = lease.LeaseTimeToLive(t.Context(), &pb.LeaseTimeToLiveRequest{ID: 5, Keys: true})
	failsAs(t, err, fault.PermissionDenied)
	if r, err := lease.LeaseTimeToLive(t.Context(), &pb.LeaseTimeToLiveRequest{ID: 5}); err != nil || len(r.Keys) != 0 {
		t.Fatalf("%v %v", r, err)
	}
	_, err = lease.LeaseLeases(t.Context(), &pb.LeaseLeasesRequest{})
	failsAs(t, err, fault.PermissionDenied)
	_, err = lease.LeaseRevoke(t.Context(), &pb.LeaseRevokeRequest{ID: 5})
	failsAs(t, err, fault.PermissionDenied)
}

// TestDeniedWritesAreNotLogged: a write that its user may not do does not even reach the log.
func TestDeniedWritesAreNotLogged(t *testing.T) {
	s := secured(t)
	reader := s.as(t, "reader")
	before := s.proposals.Load()
	_, err := reader.kv.Put(t.Context(), &pb.PutRequest{Key: []byte("k")})
	failsAs(t, err, fault.PermissionDenied)
	_, err = reader.kv.Txn(t.Context(), &pb.TxnRequest{Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestDeleteRange{
		RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("k")}}}}})
	failsAs(t, err, fault.PermissionDenied)
	if got := s.proposals.Load() - before; got != 0 {
		t.Errorf("%d proposals", got)
	}
}

// TestStreamsAreDecided: streams that no comparison with etcd calls are refused to who has no permission, and open to who has.
func TestStreamsAreDecided(t *testing.T) {
	s := secured(t)
	first := func(as *server, method auth.Method, req any) error {
		st, err := as.conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, method.String())
		if err == nil {
			err = st.SendMsg(req)
		}
		if err == nil {
			err = st.CloseSend()
		}
		if errors.Is(err, io.EOF) { // the server has answered already
			err = nil
		}
		if err != nil {
			return err
		}
		return st.RecvMsg(&emptypb.Empty{})
	}
	root, reader := s.as(t, "root"), s.as(t, "reader")
	root.put(t, "a/1", "leader")
	root.put(t, "k/1", "leader")
	snapshot, observeA, observeK := &emptypb.Empty{}, &pb.RangeRequest{Key: []byte("a")}, &pb.RangeRequest{Key: []byte("k")}
	failsAs(t, first(reader, auth.MethodSnapshot, snapshot), fault.PermissionDenied)
	if err := first(root, auth.MethodSnapshot, snapshot); err != nil {
		t.Errorf("root: %v", err)
	}
	fails(t, first(reader, auth.MethodObserve, observeA), codes.Unknown, fault.PermissionDenied.Text)
	if err := first(reader, auth.MethodObserve, observeK); err != nil {
		t.Errorf("an election that the reader may see: %v", err)
	}
	failsAs(t, first(reader, auth.MethodRangeStream, observeA), fault.PermissionDenied)
	if err := first(reader, auth.MethodRangeStream, observeK); err != nil {
		t.Errorf("keys that the reader may see: %v", err)
	}
}
