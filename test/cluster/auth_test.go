package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"quorate.dev/quorate/test/compat/proc"
)

// login connects as a user. The client asks for a token now and whenever the one it has is refused.
func login(t *testing.T, name, password string, endpoints ...string) *clientv3.Client {
	t.Helper()
	var cli *clientv3.Client
	insist(t, "log in as "+name, func(context.Context) (err error) {
		cli, err = clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 30 * time.Second, Username: name, Password: password,
			DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 2 * time.Second, Logger: zap.NewNop()})
		return err
	})
	t.Cleanup(func() { cli.Close() })
	return cli
}

// secure adds root and a user u who may do everything below k/, and enables authentication.
func secure(t *testing.T, cli *clientv3.Client) {
	t.Helper()
	ctx := t.Context()
	for _, f := range []func() error{
		func() error { _, err := cli.UserAdd(ctx, "root", "root"); return err },
		func() error { _, err := cli.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := cli.UserAdd(ctx, "u", "u"); return err },
		func() error { _, err := cli.RoleAdd(ctx, "r"); return err },
		func() error { return grant(ctx, cli, "r", "k/", "k0") },
		func() error { _, err := cli.UserGrantRole(ctx, "u", "r"); return err },
		func() error { _, err := cli.AuthEnable(ctx); return err },
	} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
}

func grant(ctx context.Context, cli *clientv3.Client, role, key, end string) error {
	_, err := cli.RoleGrantPermission(ctx, role, key, end, clientv3.PermissionType(clientv3.PermReadWrite))
	return err
}

// insist asks again until it is done, or turns out to have been done before.
func insist(t *testing.T, what string, f func(context.Context) error) {
	t.Helper()
	var last error
	defer func() {
		if last != nil {
			t.Logf("%s: last refused with %v", what, last)
		}
	}()
	until(t, what, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		err := f(ctx)
		if err == nil || errors.Is(err, rpctypes.ErrUserAlreadyExist) || errors.Is(err, rpctypes.ErrRoleAlreadyExist) {
			last = nil
			return true
		}
		last = err
		return false
	})
}

// sameUsers compares what all members know of users and roles, each asked for itself.
func sameUsers(t *testing.T, members ...*Member) {
	t.Helper()
	first := ""
	for _, m := range members {
		cli := login(t, "root", "root", m.Client)
		ctx := t.Context()
		var b strings.Builder
		st, err := cli.AuthStatus(ctx)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&b, st.Enabled, st.AuthRevision)
		users, err := cli.UserList(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range users.Users {
			u, err := cli.UserGet(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&b, name, u.Roles)
		}
		roles, err := cli.RoleList(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range roles.Roles {
			r, err := cli.RoleGet(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&b, name, r.Perm)
		}
		if first == "" {
			first = b.String()
		}
		if b.String() != first {
			t.Errorf("%s knows\n%s\n%s knows\n%s", members[0].Name, first, m.Name, b.String())
		}
	}
}

// tolerable are the errors that a user may meet whose rights change under him, or whose member is killed.
func tolerable(err error) bool {
	for _, e := range []error{rpctypes.ErrPermissionDenied, rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision, rpctypes.ErrUserEmpty,
		rpctypes.ErrAuthFailed, rpctypes.ErrAuthNotEnabled} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// TestUsersUnderLoad changes users and roles, and whether they count, while clients write and members are killed and come back,
// some of them so late that they are brought a snapshot. All must know the same in the end, and hold the same keys.
func TestUsersUnderLoad(t *testing.T) {
	c := start(t, 3, "--bcrypt-cost=4", "--snapshot-catchup-entries=50", "--snapshot-count=50")
	secure(t, connect(t, c))
	stop := make(chan struct{})
	var work sync.WaitGroup
	var acknowledged, refused, changes atomic.Int64
	for w := range 4 {
		cli := login(t, "u", "u", c.Endpoints()...)
		work.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				_, err := cli.Put(ctx, fmt.Sprintf("k/%d/%d", w, n), "v")
				cancel()
				switch {
				case err == nil:
					acknowledged.Add(1)
				case tolerable(err):
					refused.Add(1)
				}
			}
		})
	}
	root := login(t, "root", "root", c.Endpoints()...)
	work.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			if change(ctx, root, n) == nil {
				changes.Add(1)
			}
			cancel()
		}
	})
	for round := range 3 {
		m := c.Members[round]
		before := acknowledged.Load()
		m.Kill()
		until(t, "the others go on", func() bool { return acknowledged.Load() > before+200 })
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		if err := m.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		before = acknowledged.Load()
		until(t, "all go on", func() bool { return acknowledged.Load() > before+50 })
	}
	until(t, "users and roles change", func() bool { return changes.Load() >= 10 })
	close(stop)
	work.Wait()
	t.Logf("%d writes acknowledged, %d refused, %d changes", acknowledged.Load(), refused.Load(), changes.Load())
	insist(t, "enable", func(ctx context.Context) error {
		_, err := root.AuthEnable(ctx)
		return err
	})
	sameUsers(t, c.Members...)
	insist(t, "disable", func(ctx context.Context) error {
		_, err := root.AuthDisable(ctx)
		return err
	})
	sameHash(t, c, c.Members...)
}

// change does one of the things that change users and roles.
func change(ctx context.Context, root *clientv3.Client, n int) (err error) {
	name := fmt.Sprintf("x%d", rand.N(4))
	switch n % 10 {
	case 0:
		_, err = root.UserAdd(ctx, name, "p")
	case 1:
		_, err = root.UserDelete(ctx, name)
	case 2:
		_, err = root.RoleAdd(ctx, name)
	case 3:
		_, err = root.RoleDelete(ctx, name)
	case 4:
		err = grant(ctx, root, name, "k/", "k0")
	case 5:
		_, err = root.UserGrantRole(ctx, name, name)
	case 6:
		if _, err = root.RoleRevokePermission(ctx, "r", "k/", "k0"); err == nil {
			err = grant(ctx, root, "r", "k/", "k0")
		}
	case 7:
		_, err = root.UserChangePassword(ctx, "u", "u")
	case 8:
		_, err = root.UserRevokeRole(ctx, name, name)
	case 9:
		if _, err = root.AuthDisable(ctx); err == nil {
			_, err = root.AuthEnable(ctx)
		}
	}
	return err
}

// TestUsersAfterASnapshot is the published course of etcd's issue 14571: a member is away while a user gets permissions, comes back
// by a snapshot, and has to apply what that user writes.
func TestUsersAfterASnapshot(t *testing.T) {
	c := start(t, 3, "--bcrypt-cost=4", "--snapshot-catchup-entries=10", "--snapshot-count=10")
	cli := connect(t, c)
	leader, others := pick(t, c)
	away := others[0]
	secure(t, cli)
	root := login(t, "root", "root", leader.Client, others[1].Client)
	away.Kill()
	insist(t, "a new user", func(ctx context.Context) error { _, err := root.UserAdd(ctx, "late", "late"); return err })
	insist(t, "a new role", func(ctx context.Context) error { _, err := root.RoleAdd(ctx, "late"); return err })
	insist(t, "a permission", func(ctx context.Context) error { return grant(ctx, root, "late", "l/", "l0") })
	insist(t, "a grant", func(ctx context.Context) error { _, err := root.UserGrantRole(ctx, "late", "late"); return err })
	late := login(t, "late", "late", leader.Client, others[1].Client)
	for n := range 300 {
		insist(t, "write", func(ctx context.Context) error { _, err := late.Put(ctx, fmt.Sprintf("l/%d", n), "before"); return err })
	}
	if err := away.Start(); err != nil {
		t.Fatal(err)
	}
	if err := away.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n := range 50 {
		insist(t, "write", func(ctx context.Context) error { _, err := late.Put(ctx, fmt.Sprintf("l/%d", n), "after"); return err })
	}
	if kind() == proc.Quorate && len(received(t, away)) == 0 {
		t.Error("the member came back without a snapshot")
	}
	back := login(t, "late", "late", away.Client)
	got, err := back.Get(t.Context(), "l/49", clientv3.WithSerializable())
	if err == nil && len(got.Kvs) == 0 {
		err = errors.New("the key is not there")
	}
	if err != nil {
		t.Fatal(err)
	}
	sameUsers(t, c.Members...)
	insist(t, "disable", func(ctx context.Context) error { _, err := root.AuthDisable(ctx); return err })
	sameHash(t, c, c.Members...)
}

// TestUsersAfterRestarts is the course of etcd's issue 11651: members that are restarted after changes of users and roles must not
// have another auth revision than the others, since they would then refuse what the others apply.
func TestUsersAfterRestarts(t *testing.T) {
	c := start(t, 3, "--bcrypt-cost=4")
	secure(t, connect(t, c))
	root := login(t, "root", "root", c.Endpoints()...)
	for round := range 3 {
		m := c.Members[round]
		for n := range 5 {
			insist(t, "change", func(ctx context.Context) error {
				return grant(ctx, root, "r", fmt.Sprintf("k/%d/%d", round, n), "")
			})
		}
		m.Kill()
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		if err := m.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		u := login(t, "u", "u", m.Client)
		for n := range 20 {
			insist(t, "write", func(ctx context.Context) error {
				_, err := u.Put(ctx, fmt.Sprintf("k/%d", n), fmt.Sprint(round))
				return err
			})
		}
	}
	sameUsers(t, c.Members...)
	insist(t, "disable", func(ctx context.Context) error { _, err := root.AuthDisable(ctx); return err })
	sameHash(t, c, c.Members...)
}
