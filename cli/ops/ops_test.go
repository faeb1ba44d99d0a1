package ops_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/cli"
	"quorate.dev/quorate/cli/ops"
	"quorate.dev/quorate/embed"
	"quorate.dev/quorate/internal/freeport"
	"quorate.dev/quorate/internal/pki"
)

// patience bounds everything that a test waits for.
const patience = 2 * time.Minute

// run runs a command line and returns its exit code and what it wrote.
func run(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = cli.Own(cli.Process{Context: t.Context(), Args: args, Stdout: &stdout, Stderr: &stderr}, &cobra.Command{Use: "quorate"}, ops.Verbs()...)
	return code, stdout.String(), stderr.String()
}

// runJSON runs a command line with -w json, and fails the test when its output is no JSON.
func runJSON(t *testing.T, into any, args ...string) int {
	t.Helper()
	code, out, errs := run(t, append(args, "-w", "json")...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatalf("%q: code %d, %v\n%s%s", args, code, err, out, errs)
	}
	return code
}

func freeURL(t *testing.T, scheme string) string {
	t.Helper()
	return scheme + "://" + freeport.Address(t)
}

// startOne starts a cluster of one.
func startOne(t *testing.T, settings map[string]string) (endpoint string, c *clientv3.Client) {
	t.Helper()
	s, err := embed.Start(t.Context(), embed.Config{Dir: t.TempDir(), Name: "one", Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s.ClientURLs()[0], client(t, s.ClientURLs()...)
}

func client(t *testing.T, endpoints ...string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// startThree starts a cluster of three.
func startThree(t *testing.T) (servers []*embed.Server, endpoints []string) {
	t.Helper()
	var initial []string
	peers := make([]string, 3)
	for i := range peers {
		peers[i] = freeURL(t, "http")
		initial = append(initial, fmt.Sprintf("m%d=%s", i+1, peers[i]))
	}
	servers = make([]*embed.Server, len(peers))
	failed := make(chan error, len(peers))
	for i := range peers {
		go func() {
			var err error
			servers[i], err = embed.Start(t.Context(), embed.Config{Dir: t.TempDir(), Name: fmt.Sprint("m", i+1), PeerURLs: peers[i : i+1],
				Settings: map[string]string{"initial-cluster": strings.Join(initial, ",")}})
			failed <- err
		}()
	}
	for range peers {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range servers {
		endpoints = append(endpoints, s.ClientURLs()[0])
		t.Cleanup(func() { _ = s.Close() })
	}
	return servers, endpoints
}

// find returns the finding of a check that says so, and fails the test when there is none.
func find(t *testing.T, all []ops.Finding, check string, level ops.Level, says string) ops.Finding {
	t.Helper()
	for _, f := range all {
		if f.Check == check && f.Level == level && strings.Contains(f.What, says) {
			if level != ops.Pass && f.Do == "" {
				t.Errorf("%s %s does not say what to do", level, check)
			}
			return f
		}
	}
	t.Fatalf("no %s of %s that says %q among %+v", level, check, says, all)
	return ops.Finding{}
}

// TestStatusOfCluster sees all members from any one endpoint, then one of them stops.
func TestStatusOfCluster(t *testing.T) {
	servers, endpoints := startThree(t)
	var st ops.Status
	code := runJSON(t, &st, "status", "--endpoints", endpoints[2])
	for deadline := time.Now().Add(patience); (code != 0 || len(st.Members) != 3 || len(st.Findings) != 0) && time.Now().Before(deadline); {
		st = ops.Status{}
		code = runJSON(t, &st, "status", "--endpoints", endpoints[2])
	}
	if code != 0 || !st.Healthy || len(st.Members) != 3 || st.Leader == "" || len(st.Findings) != 0 {
		t.Fatalf("code %d: %+v", code, st)
	}
	for _, m := range st.Members {
		if m.State == nil || m.State.Quota != 2<<30 || m.Web == nil || m.Web.Own == "" || m.Web.Clock == nil {
			t.Errorf("%s: %+v %+v", m.Name, m.State, m.Web)
		}
	}
	if err := servers[0].Close(); err != nil {
		t.Fatal(err)
	}
	st = ops.Status{}
	if code := runJSON(t, &st, "status", "--endpoints", endpoints[1]); code != 1 || st.Healthy {
		t.Errorf("a member is down: code %d, healthy %v", code, st.Healthy)
	}
	if f := find(t, st.Findings, "members", ops.Fail, "does not answer"); f.Member != "m1" || !strings.Contains(f.What, "connection refused") {
		t.Errorf("%+v", f)
	}
	find(t, st.Findings, "quorum", ops.Warn, "2 of 3")
	code, out, _ := run(t, "status", "--endpoints", strings.Join(endpoints, ","))
	if first, _, _ := strings.Cut(out[strings.Index(out, "\n\n")+2:], "\n"); code != 1 || !strings.HasPrefix(first, "FAIL") || !strings.Contains(out, "does not answer") || strings.Contains(out, "\x1b") {
		t.Errorf("code %d\n%s", code, out)
	}
	var d ops.Diagnosis
	if code := runJSON(t, &d, "doctor", "--window", "0", "--endpoints", endpoints[1]); code != 1 {
		t.Errorf("doctor with a member down: code %d", code)
	}
	if err := servers[1].Close(); err != nil {
		t.Fatal(err)
	}
	st = ops.Status{}
	if code := runJSON(t, &st, "status", "--endpoints", endpoints[2]); code != 1 {
		t.Errorf("without a quorum: code %d", code)
	}
	find(t, st.Findings, "quorum", ops.Fail, "no quorum")
}

// TestStatusOfNobody: nothing listens there.
func TestStatusOfNobody(t *testing.T) {
	var st ops.Status
	if code := runJSON(t, &st, "status", "--endpoints", freeURL(t, "http")); code != 1 || st.Healthy {
		t.Errorf("code %d: %+v", code, st)
	}
	find(t, st.Findings, "members", ops.Fail, "connection refused")
}

// TestQuotaAndAlarm fills a store, first nearly and then until the alarm is raised.
func TestQuotaAndAlarm(t *testing.T) {
	endpoint, c := startOne(t, map[string]string{"quota-backend-bytes": "1000000"})
	value := strings.Repeat("x", 100_000)
	var err error
	sawNearly := false
	for i := range 20 {
		if _, err = c.Put(t.Context(), fmt.Sprint("/fill/", i), value); err != nil {
			break
		}
		var st ops.Status
		if code := runJSON(t, &st, "status", "--endpoints", endpoint); code == 0 && len(st.Findings) == 1 {
			find(t, st.Findings, "quota", ops.Warn, "used")
			sawNearly = true
			if code, _, _ := run(t, "status", "--strict", "--endpoints", endpoint); code != 1 {
				t.Errorf("--strict with a warning: code %d", code)
			}
		}
	}
	if err == nil {
		t.Fatal("the quota did not hold")
	}
	if !sawNearly {
		t.Error("a quota that is nearly full was not reported")
	}
	var st ops.Status
	code := runJSON(t, &st, "status", "--endpoints", endpoint)
	for deadline := time.Now().Add(patience); len(st.Alarms) == 0 && time.Now().Before(deadline); {
		st = ops.Status{}
		code = runJSON(t, &st, "status", "--endpoints", endpoint)
	}
	if code != 1 || len(st.Alarms) != 1 || st.Alarms[0] != (ops.Alarm{Member: "one", Alarm: "NOSPACE"}) {
		t.Errorf("code %d: %+v", code, st.Alarms)
	}
	find(t, st.Findings, "alarms", ops.Fail, "NOSPACE")
}

// TestCertificate: one that ends soon, seen over TLS, and one that clients do not trust.
func TestCertificate(t *testing.T) {
	now := time.Now()
	dir := t.TempDir()
	ca := pki.New(t, "ca", now)
	ends := now.Add(5 * 24 * time.Hour)
	cert, key := ca.Issue("server", func(c *x509.Certificate) { c.NotAfter = ends }).Write(dir, "server")
	trust := pki.WriteFile(t, dir, "ca.crt", pki.Bundle(ca))
	url := freeURL(t, "https")
	s, err := embed.Start(t.Context(), embed.Config{Dir: filepath.Join(dir, "data"), ClientURLs: []string{url}, Settings: map[string]string{"cert-file": cert, "key-file": key}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	var st ops.Status
	if code := runJSON(t, &st, "status", "--endpoints", url, "--cacert", trust); code != 1 {
		t.Errorf("code %d: %+v", code, st)
	}
	find(t, st.Findings, "certificates", ops.Fail, "ends in 4 days")
	if c := st.Members[0].Web.Certificate; c == nil || c.NotAfter != ends.Unix() || c.Wrong != "" {
		t.Errorf("%+v", c)
	}
}

// TestDoctor of a member with settings that hurt.
func TestDoctor(t *testing.T) {
	endpoint, _ := startOne(t, map[string]string{"heartbeat-interval": "100", "election-timeout": "600", "max-wals": "9", "unsafe-no-fsync": "true"})
	dir := t.TempDir()
	var d ops.Diagnosis
	if code := runJSON(t, &d, "doctor", "--window", "0", "--data-dir", dir, "--endpoints", endpoint); code != 1 || d.Healthy {
		t.Errorf("code %d", code)
	}
	find(t, d.Findings, "settings", ops.Fail, "--unsafe-no-fsync=true")
	find(t, d.Findings, "settings", ops.Warn, "6.0 heartbeats")
	find(t, d.Findings, "settings", ops.Warn, "--max-wals=9")
	find(t, d.Findings, "settings", ops.Warn, "auto-compaction")
	find(t, d.Findings, "history", ops.Pass, "revisions are retained")
	find(t, d.Findings, "alarms", ops.Pass, "none")
	local := false
	for _, f := range d.Findings {
		local = local || f.Check == "local-disk" && strings.Contains(f.What, "2300 bytes")
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 || !local {
		t.Errorf("left behind: %v, %v; measured: %v", left, err, local)
	}
	if code := runJSON(t, &d, "doctor", "--window", "0", "--data-dir", filepath.Join(dir, "none"), "--endpoints", endpoint); code != 1 {
		t.Errorf("a directory that is not there: code %d", code)
	}
	find(t, d.Findings, "local-disk", ops.Fail, "cannot measure")
	if code, out, _ := run(t, "doctor", "--window", "0", "--endpoints", endpoint); code != 1 || !strings.HasPrefix(out, "FAIL") || !strings.Contains(out, "failure") {
		t.Errorf("code %d\n%s", code, out)
	}
}

// TestDu counts more keys than a page has, and names a huge one.
func TestDu(t *testing.T) {
	endpoint, c := startOne(t, nil)
	put := func(key, value string) {
		if _, err := c.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 250 {
		put(fmt.Sprintf("/a/x/%03d", i), "12345")
	}
	put("/a/y/1", strings.Repeat("z", 1<<20))
	put("/a/direct", "")
	put("bare", "v")
	var u ops.Usage
	if code := runJSON(t, &u, "du", "--endpoints", endpoint); code != 0 {
		t.Fatalf("code %d", code)
	}
	got := map[string]ops.UsageRow{}
	for _, r := range u.Rows {
		got[string(r.Prefix)] = *r
	}
	if r := got["/a/x/"]; r.Keys != 250 || r.Bytes != 250*(8+5) || r.Largest != 13 {
		t.Errorf("/a/x/: %+v", r)
	}
	if r := got["/a/"]; r.Keys != 1 || r.Bytes != 9 {
		t.Errorf("/a/: %+v", r)
	}
	if r := got[""]; r.Keys != 1 || u.Total.Keys != 253 || string(u.Rows[0].Prefix) != "/a/y/" || u.Moved {
		t.Errorf("bare keys %+v, total %+v, first %s", r, u.Total, u.Rows[0].Prefix)
	}
	if l := u.Largest[0]; string(l.Key) != "/a/y/1" || l.Bytes != 1<<20+6 {
		t.Errorf("largest %+v", l)
	}
	_, out, _ := run(t, "du", "/a/", "--depth", "1", "--endpoints", endpoint, "--rows", "1")
	for _, want := range []string{"/a/y/", "(others)", "total", "huge", "252"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if code, _, _ := run(t, "du", "--depth", "-1", "--endpoints", endpoint); code != cli.ExitBadArgs {
		t.Errorf("a depth below 0: code %d", code)
	}
}

// TestHistory of a key that was deleted and made again, before and after a compaction.
func TestHistory(t *testing.T) {
	endpoint, c := startOne(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	lease, err := c.Grant(ctx, 600)
	if err != nil {
		t.Fatal(err)
	}
	steps := []func() error{
		func() error { _, err := c.Put(ctx, "k", "one"); return err },                                   // 2
		func() error { _, err := c.Put(ctx, "k", `{"a":1,"b":2}`); return err },                         // 3
		func() error { _, err := c.Delete(ctx, "k"); return err },                                       // 4
		func() error { _, err := c.Put(ctx, "other", ""); return err },                                  // 5
		func() error { _, err := c.Put(ctx, "k", `{"a":1}`, clientv3.WithLease(lease.ID)); return err }, // 6
		func() error { _, err := c.Put(ctx, "k", `{"a":2}`, clientv3.WithLease(lease.ID)); return err }, // 7
	}
	for _, step := range steps {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	history := func(args ...string) (h ops.History, events string) {
		if code := runJSON(t, &h, append([]string{"history", "k", "--endpoints", endpoint}, args...)...); code != 0 {
			t.Fatalf("code %d", code)
		}
		for _, e := range h.Entries {
			events += fmt.Sprint(e.Revision, e.Event, " ")
		}
		return h, events
	}
	h, events := history()
	if events != "7modify 6create 4delete 3modify 2create " || h.Oldest != "" {
		t.Errorf("%s, oldest %q", events, h.Oldest)
	}
	if e := h.Entries[0]; e.Version != 2 || e.Kind != "JSON" || e.Lease != fmt.Sprintf("%x", lease.ID) || strings.Join(e.Diff, "|") != ` {|-  "a": 1|+  "a": 2| }` {
		t.Errorf("%+v %q", e, e.Diff)
	}
	if _, events = history("--limit", "2"); events != "7modify 6create " {
		t.Errorf("with --limit: %s", events)
	}
	if _, err := c.Compact(ctx, 6); err != nil {
		t.Fatal(err)
	}
	if h, events = history(); events != "7modify 6create " || !strings.Contains(h.Oldest, "compacted") {
		t.Errorf("after a compaction: %s, oldest %q", events, h.Oldest)
	}
	if _, err := c.Delete(ctx, "k"); err != nil {
		t.Fatal(err)
	}
	if _, events = history(); events != "8delete 7modify 6create " {
		t.Errorf("of a deleted key: %s", events)
	}
	if _, out, _ := run(t, "history", "k", "--endpoints", endpoint); !strings.Contains(out, "delete revision 8") || !strings.Contains(out, "-  \"a\": 1") {
		t.Errorf("%s", out)
	}
	if code, _, errs := run(t, "history", "absent", "--endpoints", endpoint); code != 1 || !strings.Contains(errs, "absent") {
		t.Errorf("of no key: code %d, %s", code, errs)
	}
}

// TestTop sees what a client does, in one look.
func TestTop(t *testing.T) {
	endpoint, c := startOne(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_, _ = c.Put(ctx, "/registry/hot/\x1bkey", "v")
		}
	}()
	defer func() { cancel(); <-done }()
	code, out, errs := run(t, "top", "--once", "--interval", "500ms", "--endpoints", endpoint)
	for deadline := time.Now().Add(patience); !strings.Contains(out, "KV/Put /registry/hot/") && time.Now().Before(deadline); {
		code, out, errs = run(t, "top", "--once", "--interval", "500ms", "--endpoints", endpoint)
	}
	if code != 0 || !strings.Contains(out, `/registry/hot/\x1bkey`) || !strings.Contains(out, "127.0.0.1") || strings.Contains(out, "\x1b") {
		t.Errorf("code %d\n%s%s", code, out, errs)
	}
	if code, _, _ := run(t, "top", "--interval", "31s", "--endpoints", endpoint); code != cli.ExitBadArgs {
		t.Errorf("too long a window: code %d", code)
	}
}
