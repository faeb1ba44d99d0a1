package clients

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	clientv2 "go.etcd.io/etcd/client/v2"

	"quorate.dev/quorate/test/clients/site"
	"quorate.dev/quorate/test/compat/proc"
)

// v2 is the store over the v2 API, with users of its own.
type v2 struct {
	endpoints []string
	members   []string
}

// TestConfigStoreV2 goes every way that HTTP goes.
func TestConfigStoreV2(t *testing.T) {
	if site.Kind() == proc.Etcd {
		t.Skip("etcd has no v2 API any more")
	}
	for _, way := range site.Ways() {
		if way == site.Proxy {
			continue
		}
		t.Run(string(way), func(t *testing.T) {
			t.Parallel()
			s := site.Start(t, way, "--enable-v2")
			var urls []string
			for _, e := range s.Endpoints {
				urls = append(urls, "http://"+strings.TrimPrefix(e, "http://"))
			}
			story(t, s, v2{urls, s.Cluster.Endpoints()})
		})
	}
}

func (a v2) client(t *testing.T, user, password string, endpoints ...string) clientv2.Client {
	t.Helper()
	if len(endpoints) == 0 {
		endpoints = a.endpoints
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return must(clientv2.New(clientv2.Config{Endpoints: endpoints, Transport: transport, Username: user, Password: password}))(t)
}

func (a v2) secure(t *testing.T, users map[string]rights) {
	t.Helper()
	ctx := t.Context()
	for _, m := range a.members { // as in etcd, members have no users before they know the version of the cluster
		early := clientv2.NewAuthUserAPI(a.client(t, "", "", m))
		site.Until(t, m+" knows the version of the cluster", func() bool { _, err := early.ListUsers(ctx); return err == nil })
	}
	cli := a.client(t, "root", "root's") // who is not asked for a password before authentication is on
	names, roles := clientv2.NewAuthUserAPI(cli), clientv2.NewAuthRoleAPI(cli)
	try := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	pattern := func(dirs []string) (out []string) {
		for _, d := range dirs {
			if strings.HasSuffix(d, "/") {
				d += "*"
			}
			out = append(out, d)
		}
		return out
	}
	try(names.AddUser(ctx, "root", "root's"))
	for name, r := range users {
		try(roles.AddRole(ctx, name)) // the guest's says what everybody may: if there is none, authentication begins with one for everything
		try(names.AddUser(ctx, name, name+"'s"))
		must(names.GrantUser(ctx, name, []string{name}))(t)
		if len(r.read) > 0 {
			must(roles.GrantRoleKV(ctx, name, pattern(r.read), clientv2.ReadPermission))(t)
		}
		if len(r.write) > 0 {
			must(roles.GrantRoleKV(ctx, name, pattern(r.write), clientv2.WritePermission))(t)
		}
	}
	try(clientv2.NewAuthAPI(cli).Enable(ctx))
}

func (a v2) as(t *testing.T, user string) config {
	t.Helper()
	cli := a.client(t, user, user+"'s")
	if user == "" {
		cli = a.client(t, "", "")
	}
	return &v2Store{a, clientv2.NewKeysAPI(cli)}
}

// refused: v2 has one answer for who is not known and who may not.
func (a v2) refused(err error) bool {
	failure := clientv2.Error{}
	return errors.As(err, &failure) && failure.Code == clientv2.ErrorCodeUnauthorized
}

type v2Store struct {
	api v2
	api2
}

// api2 is what is used of the client.
type api2 interface {
	Get(ctx context.Context, key string, opts *clientv2.GetOptions) (*clientv2.Response, error)
	Set(ctx context.Context, key, value string, opts *clientv2.SetOptions) (*clientv2.Response, error)
	Watcher(key string, opts *clientv2.WatcherOptions) clientv2.Watcher
}

// read reads directory by directory; a change in between is behind the point that it returns, so that wait sees it.
func (c *v2Store) read(ctx context.Context, dirs ...string) (out map[string]string, at uint64, err error) {
	final := func(err error) bool { return c.api.refused(err) }
	err = insist(ctx, final, func() error {
		out, at = map[string]string{}, 0
		for _, dir := range dirs {
			resp, err := c.Get(ctx, dir, &clientv2.GetOptions{Recursive: true, Quorum: true})
			if failure := (clientv2.Error{}); errors.As(err, &failure) && failure.Code == clientv2.ErrorCodeKeyNotFound {
				at = earliest(at, failure.Index)
				continue
			}
			if err != nil {
				return err
			}
			at = earliest(at, resp.Index)
			collect(resp.Node, out)
		}
		return nil
	})
	return out, at, err
}

func earliest(a, b uint64) uint64 {
	if a == 0 {
		return b
	}
	return min(a, b)
}

func collect(n *clientv2.Node, out map[string]string) {
	if !n.Dir {
		out[n.Key] = n.Value
	}
	for _, child := range n.Nodes {
		collect(child, out)
	}
}

func (c *v2Store) wait(ctx context.Context, since uint64, dirs ...string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	first := make(chan error, len(dirs))
	for _, dir := range dirs {
		go func() {
			first <- insist(ctx, c.api.refused, func() error {
				_, err := c.Watcher(dir, &clientv2.WatcherOptions{AfterIndex: since, Recursive: true}).Next(ctx)
				return err
			})
		}()
	}
	return <-first
}

func (c *v2Store) set(ctx context.Context, key, value string) error {
	return insist(ctx, c.api.refused, func() error {
		_, err := c.Set(ctx, key, value, nil)
		return err
	})
}
