package clients

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"text/template"
	"time"

	"quorate.dev/quorate/test/clients/site"
)

// config is the store of configuration as template renderers such as confd use it: by a user's name, over one of the two APIs.
type config interface {
	// read returns all keys below some directories, and the point in the history that they are of.
	read(ctx context.Context, dirs ...string) (map[string]string, uint64, error)
	// wait returns after something below the directories has changed since that point.
	wait(ctx context.Context, since uint64, dirs ...string) error
	set(ctx context.Context, key, value string) error
}

// service is an API: it makes users and hands out stores in their names.
type service interface {
	// secure adds users, who may read and write below some directories, and then lets in nobody else.
	secure(t *testing.T, users map[string]rights)
	as(t *testing.T, user string) config
	// refused says whether an error is the one for a want of permission.
	refused(err error) bool
}

type rights struct{ read, write []string }

// node is a machine that is configured: a file is rendered from the store whenever what it is made of changes, and the node says
// which deployment it is at.
type node struct {
	name  string
	store config
	file  string
}

var vhosts = template.Must(template.New("").Parse(`# deployment {{index . "/deploy/version"}}
{{range $key, $value := .}}{{if eq (slice $key 0 8) "/config/"}}{{slice $key 8}} = {{$value}}
{{end}}{{end}}`))

// run renders until ctx ends.
func (n *node) run(ctx context.Context) error {
	last := ""
	for ctx.Err() == nil {
		values, at, err := n.store.read(ctx, "/deploy/", "/config/") // in this order: what a deployment needs is there before it
		if err != nil {
			return err
		}
		var text bytes.Buffer
		if err := vhosts.Execute(&text, values); err != nil {
			return err
		}
		if version := values["/deploy/version"]; version != last {
			if err := os.WriteFile(n.file, text.Bytes(), 0o600); err != nil {
				return err
			}
			if err := n.store.set(ctx, "/state/"+n.name, version); err != nil {
				return err
			}
			last = version
		}
		if err := n.store.wait(ctx, at, "/config/", "/deploy/"); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// deployed waits until all nodes say that they are at a version.
func deployed(t *testing.T, store config, version string, nodes int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		states, at, err := store.read(ctx, "/state/")
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, v := range states {
			if v == version {
				n++
			}
		}
		if n == nodes {
			return
		}
		if err := store.wait(ctx, at, "/state/"); err != nil {
			t.Fatalf("the nodes are at %v: %v", states, err)
		}
	}
}

// story is a day of a store of configuration: users and roles are set up, nodes render what they read, a new deployment is ordered and
// acted on, also while a member is down, and who has no permission is refused.
func story(t *testing.T, s *site.Site, api service) {
	const nodes = 3
	users := map[string]rights{
		"deployer": {read: []string{"/config/", "/deploy/", "/state/"}, write: []string{"/config/", "/deploy/"}},
		"guest":    {read: []string{"/public/"}},
	}
	for i := range nodes {
		users[fmt.Sprintf("node%d", i)] = rights{read: []string{"/config/", "/deploy/"}, write: []string{fmt.Sprintf("/state/node%d", i)}}
	}
	down := s.AwaitLeader(t) // nobody may ask later
	api.secure(t, users)
	ctx, cancel := context.WithCancel(t.Context())
	deployer := api.as(t, "deployer")
	order := func(version string, values ...string) {
		t.Helper()
		for i := 0; i < len(values); i += 2 {
			if err := deployer.set(ctx, "/config/"+values[i], values[i+1]); err != nil {
				t.Fatal(err)
			}
		}
		if err := deployer.set(ctx, "/deploy/version", version); err != nil {
			t.Fatal(err)
		}
	}
	order("1", "app/port", "8080", "app/upstream", "10.0.0.1")

	var all []*node
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	dir := t.TempDir()
	for i := range nodes {
		name := fmt.Sprintf("node%d", i)
		n := &node{name: name, store: api.as(t, name), file: filepath.Join(dir, name)}
		all = append(all, n)
		running.Go(func() {
			if err := n.run(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("%s: %v", n.name, err)
			}
		})
	}
	expect := func(version, want string) {
		t.Helper()
		deployed(t, deployer, version, nodes)
		for _, n := range all {
			text, err := os.ReadFile(n.file)
			if err != nil || string(text) != want {
				t.Errorf("%s has %q, %v, want %q", n.name, text, err, want)
			}
		}
	}
	expect("1", "# deployment 1\napp/port = 8080\napp/upstream = 10.0.0.1\n")
	order("2", "app/upstream", "10.0.0.2", "app/zone", "a")
	expect("2", "# deployment 2\napp/port = 8080\napp/upstream = 10.0.0.2\napp/zone = a\n")

	if err := down.Stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	order("3", "app/port", "9090")
	expect("3", "# deployment 3\napp/port = 9090\napp/upstream = 10.0.0.2\napp/zone = a\n")
	s.Back(t, down)
	order("4", "app/port", "9091")
	expect("4", "# deployment 4\napp/port = 9091\napp/upstream = 10.0.0.2\napp/zone = a\n")

	for _, c := range []struct {
		what string
		err  error
	}{
		{"a node that writes configuration", all[0].store.set(ctx, "/config/app/port", "1")},
		{"a node that speaks for another one", all[0].store.set(ctx, "/state/node1", "99")},
		{"the deployer who speaks for a node", deployer.set(ctx, "/state/node1", "99")},
		{"a guest who reads configuration", readError(ctx, api.as(t, "guest"))},
		{"somebody who writes without a name", api.as(t, "").set(ctx, "/config/app/port", "1")},
		{"somebody who reads without a name", readError(ctx, api.as(t, ""))},
	} {
		if !api.refused(c.err) {
			t.Errorf("%s: %v", c.what, c.err)
		}
	}
	values, _, err := deployer.read(ctx, "/config/", "/state/")
	if err != nil || values["/config/app/port"] != "9091" || values["/state/node1"] != "4" {
		t.Errorf("in the end there is %v, %v", values, err)
	}
}

func readError(ctx context.Context, store config) error {
	_, _, err := store.read(ctx, "/config/")
	return err
}

// insist repeats what a client does not repeat by itself, as every user of these clients has to, until it is done or refused for good.
func insist(ctx context.Context, final func(error) bool, call func() error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := call()
		if err == nil || final(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-tick.C:
		}
	}
}
