package v2

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"testing"

	"quorate.dev/quorate/test/compat/etcd34"
	"quorate.dev/quorate/test/compat/proc"
)

const clusterMembers = 3

// TestOff: without --enable-v2 there is nothing below /v2.
func TestOff(t *testing.T) {
	p := &pair{}
	var errs [2]error
	both(func() { p.judge, errs[0] = startEtcd(t, "etcd", []string{"--enable-v2=false"}) }, func() {
		s, err := proc.Start(proc.Quorate, filepath.Join(t.TempDir(), "quorate"), "--unsafe-no-fsync")
		if errs[1] = err; err == nil {
			t.Cleanup(s.Kill)
			p.other = newTarget("quorate", s.URL(), s.LogTail)
		}
	})
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	for _, q := range []request{
		{method: "GET", path: "/v2/keys"}, form("PUT", "/v2/keys/a", url.Values{"value": {"1"}}), {method: "GET", path: "/v2/members"}, {method: "GET", path: "/v2/machines"},
		{method: "GET", path: "/v2/stats/self"}, {method: "GET", path: "/v2/auth/enable"}, {method: "PATCH", path: "/v2/keys"}, {method: "GET", path: "/v2/"}, {method: "GET", path: "/v2"},
	} {
		a, wrong := p.do(q, false)
		for _, line := range wrong {
			t.Errorf("%s %s: %s", q.method, q.path, line)
		}
		if a.status != 404 {
			t.Errorf("%s %s: etcd answers %d", q.method, q.path, a.status)
		}
	}
}

// members starts clusters of three of both kinds, and pairs them.
func members(t *testing.T) []*pair {
	t.Helper()
	pairs := make([]*pair, clusterMembers)
	for i := range pairs {
		pairs[i] = &pair{}
	}
	var errs [2]error
	etcds := func(name string, pair func(i int, s *target)) error {
		all, err := etcd34.StartCluster(filepath.Join(t.TempDir(), "etcd"), clusterMembers)
		for i, s := range all {
			t.Cleanup(s.Kill)
			pair(i, newTarget(name, s.URL(), s.LogTail))
		}
		return err
	}
	both(func() { errs[0] = etcds("etcd", func(i int, s *target) { pairs[i].judge = s }) }, func() {
		if self {
			errs[1] = etcds("other etcd", func(i int, s *target) { pairs[i].other = s })
			return
		}
		all, err := proc.StartCluster(proc.Quorate, filepath.Join(t.TempDir(), "quorate"), clusterMembers, "--enable-v2=true", "--unsafe-no-fsync")
		for i, s := range all {
			t.Cleanup(s.Kill)
			pairs[i].other = newTarget("quorate", s.URL(), s.LogTail)
		}
		errs[1] = err
	})
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	for _, p := range pairs {
		for _, s := range []*target{p.judge, p.other} {
			s.vars["CLUSTER"] = s.do(request{method: "GET", path: "/v2/members"}).headers.Get("X-Etcd-Cluster-Id")
		}
	}
	return pairs
}

// TestCluster asks the members in turn: whoever is asked writes, without sending the client elsewhere, and watches on all members
// tell the same.
func TestCluster(t *testing.T) {
	pairs := members(t)
	check := func(what string, wrong []string) {
		t.Helper()
		if len(wrong) > 0 {
			t.Fatalf("%s: %v", what, wrong)
		}
	}
	const writes = 60
	for i, p := range pairs {
		check("watch", p.run(&statement{verb: "watch", name: "w", req: request{method: "GET", path: "/v2/keys/d?wait=true&stream=true&recursive=true"}}))
		check(fmt.Sprint("member ", i), p.run(&statement{req: request{method: "GET", path: "/v2/keys"}}))
	}
	for n := range writes {
		p := pairs[n%clusterMembers]
		for _, q := range []request{
			form("PUT", "/v2/keys/d/a", url.Values{"value": {fmt.Sprint(n)}}),
			form("POST", "/v2/keys/q", url.Values{"value": {fmt.Sprint(n)}}),
			form("PUT", "/v2/keys/d/a?prevValue=nothing", url.Values{"value": {"x"}}),
			{method: "DELETE", path: "/v2/keys/none"},
			{method: "GET", path: "/v2/keys/d/a?quorum=true"},
		} {
			_, wrong := p.do(q, false)
			check(fmt.Sprintf("write %d: %s %s", n, q.method, q.path), wrong)
		}
	}
	for i, p := range pairs {
		check(fmt.Sprint("what the watch of member ", i, " got"), p.run(&statement{verb: "read", name: "w", n: writes}))
		check("the end of it", p.run(&statement{verb: "close", name: "w"}))
	}
	// A key expires on all members, as one event.
	check("write", pairs[0].run(&statement{verb: "watch", name: "e", req: request{method: "GET", path: "/v2/keys/e?wait=true&stream=true"}}))
	_, wrong := pairs[1].do(form("PUT", "/v2/keys/e", url.Values{"value": {"1"}, "ttl": {"1"}}), false)
	check("a key with a time", wrong)
	check("its end", pairs[0].run(&statement{verb: "read", name: "e", n: 2}))
	for i, p := range pairs {
		check("gone", p.run(&statement{verb: "until", req: request{method: "GET", path: "/v2/keys/e"}, match: regexp.MustCompile("Key not found")}))
		check(fmt.Sprint("all keys of member ", i), p.run(&statement{req: request{method: "GET", path: "/v2/keys?recursive=true&sorted=true&quorum=true"}}))
		check("one leader", p.run(&statement{verb: "until", req: request{method: "GET", path: "/v2/members/leader"}, match: regexp.MustCompile(`"name":"m\d"`)}))
	}
}
