package fan_test

import (
	"context"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"

	"quorate.dev/quorate/proxy/fan"
)

const denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied"

// users turns authentication on, with root and users ann, bob and eve, of whom ann and bob may read a/ by roles of their own. It
// returns root's client and contexts with the users' tokens.
func users(t *testing.T, store string) (*clientv3.Client, map[string]context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := client(t, store)
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.UserAdd(ctx, "root", "x"))
	must(c.UserGrantRole(ctx, "root", "root"))
	out := map[string]context.Context{}
	for _, name := range []string{"ann", "bob", "eve"} {
		must(c.UserAdd(ctx, name, "x"))
		must(c.RoleAdd(ctx, name))
		must(c.UserGrantRole(ctx, name, name))
		if name != "eve" {
			must(c.RoleGrantPermission(ctx, name, "a/", "a0", clientv3.PermissionType(clientv3.PermRead)))
		}
	}
	must(c.AuthEnable(ctx))
	for name := range map[string]bool{"ann": true, "bob": true, "eve": true} {
		r, err := pb.NewAuthClient(connect(t, store)).Authenticate(ctx, &pb.AuthenticateRequest{Name: name, Password: "x"})
		must(r, err)
		out[name] = metadata.AppendToOutgoingContext(context.Background(), "token", r.Token)
	}
	root, err := clientv3.New(clientv3.Config{Endpoints: []string{store}, Username: "root", Password: "x", DialTimeout: patience})
	must(root, err)
	t.Cleanup(func() { root.Close() })
	return root, out
}

// TestPermissions: users share nothing, who may not watch is refused although others watch the same, and a permission that is
// taken away ends the watchers of that user only.
func TestPermissions(t *testing.T) {
	store := startStore(t, map[string]string{"bcrypt-cost": "4"})
	f := startFront(t, fan.Config{}, store)
	root, as := users(t, store)
	conn := connect(t, f.addr)
	streams := map[string][]*stream{}
	for _, name := range []string{"ann", "bob"} {
		for range 2 {
			s := watchStream(t, as[name], conn)
			s.create(prefix)
			if r := s.next(); !r.Created || r.Canceled {
				t.Fatalf("%s: %v", name, r)
			}
			streams[name] = append(streams[name], s)
		}
	}
	if s := f.hub.Stats(); s.Groups != 2 || s.Watchers != 4 {
		t.Fatalf("two users are one group each: %+v", s)
	}
	for _, who := range []context.Context{as["eve"], context.Background(), metadata.AppendToOutgoingContext(context.Background(), "token", "no.1")} {
		s := watchStream(t, who, conn)
		s.create(prefix)
		if r := s.next(); !r.Created || !r.Canceled || r.WatchId != -1 || r.CancelReason == "" {
			t.Fatalf("a watch without permission: %v", r)
		}
	}
	// bob may watch less than ann from now on, and his new watchers are told so by the store although his group is there.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := root.RoleRevokePermission(ctx, "bob", "a/", "a0"); err != nil {
		t.Fatal(err)
	}
	for _, s := range streams["bob"] {
		if r := s.next(); r.WatchId != 0 || !r.Canceled || r.CancelReason != denied || r.CompactRevision != 0 {
			t.Fatalf("bob's watcher: %v", r)
		}
		s.create(prefix)
		if r := s.next(); r.WatchId != -1 || !r.Created || !r.Canceled || r.CancelReason != denied {
			t.Fatalf("bob's next watcher: %v", r)
		}
	}
	rev := put(t, root, "a/1", "v")
	for _, s := range streams["ann"] {
		if r := s.next(); len(r.Events) != 1 || r.Events[0].Kv.ModRevision != rev {
			t.Fatalf("ann's watcher: %v", r)
		}
	}
}
