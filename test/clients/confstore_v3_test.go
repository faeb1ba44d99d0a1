package clients

import (
	"context"
	"errors"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/test/clients/site"
)

// v3 is the store over the v3 API.
type v3 struct{ s *site.Site }

// TestConfigStoreV3 goes every way.
func TestConfigStoreV3(t *testing.T) {
	site.Each(t, func(t *testing.T, s *site.Site) { story(t, s, v3{s}) })
}

func (a v3) secure(t *testing.T, users map[string]rights) {
	t.Helper()
	ctx, cli := t.Context(), a.s.Client(t)
	must(cli.UserAdd(ctx, "root", "root's"))(t)
	must(cli.UserGrantRole(ctx, "root", "root"))(t)
	for name, r := range users {
		must(cli.UserAdd(ctx, name, name+"'s"))(t)
		must(cli.RoleAdd(ctx, name))(t)
		must(cli.UserGrantRole(ctx, name, name))(t)
		for _, dir := range r.read {
			kind := clientv3.PermRead
			if slices.Contains(r.write, dir) {
				kind = clientv3.PermReadWrite
			}
			must(cli.RoleGrantPermission(ctx, name, dir, clientv3.GetPrefixRangeEnd(dir), clientv3.PermissionType(kind)))(t)
		}
		for _, dir := range r.write {
			if !slices.Contains(r.read, dir) {
				must(cli.RoleGrantPermission(ctx, name, dir, "", clientv3.PermissionType(clientv3.PermWrite)))(t)
			}
		}
	}
	must(cli.AuthEnable(ctx))(t)
}

func (a v3) as(t *testing.T, user string) config {
	t.Helper()
	return &v3Store{a, a.s.Client(t, func(cfg *clientv3.Config) {
		if user != "" {
			cfg.Username, cfg.Password = user, user+"'s"
		}
	})}
}

func (a v3) refused(err error) bool {
	return errors.Is(err, rpctypes.ErrPermissionDenied) || errors.Is(err, rpctypes.ErrUserEmpty)
}

type v3Store struct {
	api v3
	cli *clientv3.Client
}

// read reads all directories at the revision of the first.
func (c *v3Store) read(ctx context.Context, dirs ...string) (out map[string]string, at uint64, err error) {
	err = insist(ctx, c.api.refused, func() error {
		out, at = map[string]string{}, 0
		for _, dir := range dirs {
			resp, err := c.cli.Get(ctx, dir, clientv3.WithPrefix(), clientv3.WithRev(int64(at)))
			if err != nil {
				return err
			}
			if at == 0 {
				at = uint64(resp.Header.Revision)
			}
			for _, kv := range resp.Kvs {
				out[string(kv.Key)] = string(kv.Value)
			}
		}
		return nil
	})
	return out, at, err
}

func (c *v3Store) wait(ctx context.Context, since uint64, dirs ...string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	first := make(chan error, len(dirs))
	for _, dir := range dirs {
		watch := c.cli.Watch(ctx, dir, clientv3.WithPrefix(), clientv3.WithRev(int64(since)+1))
		go func() {
			resp, ok := <-watch
			if !ok {
				first <- ctx.Err()
				return
			}
			first <- resp.Err()
		}()
	}
	return <-first
}

func (c *v3Store) set(ctx context.Context, key, value string) error {
	return insist(ctx, c.api.refused, func() error {
		_, err := c.cli.Put(ctx, key, value)
		return err
	})
}
