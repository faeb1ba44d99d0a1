package compat

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"quorate.dev/quorate/test/compat/diff"
	"quorate.dev/quorate/test/compat/proc"
	"quorate.dev/quorate/test/compat/script"
)

// self makes a second etcd stand in for quorate: the suite must then find nothing.
var self = os.Getenv("COMPAT_SELF") == "1"

func TestMain(m *testing.M) {
	code := m.Run()
	proc.Cleanup()
	os.Exit(code)
}

// pair is the judge and the server it is compared with.
type pair struct {
	judge, other *proc.Server
	rest         []*proc.Server   // the other members, where each of the two is one of a cluster
	front        *grpc.ClientConn // to a proxy in front of other; nil without one
}

// startPair starts both servers with the same flags in parallel.
func startPair(t *testing.T, other proc.Kind, flags ...string) *pair {
	t.Helper()
	p := &pair{}
	dir := t.TempDir()
	var errs [2]error
	both(func() { p.judge, errs[0] = proc.Start(proc.Etcd, filepath.Join(dir, "judge"), flags...) },
		func() { p.other, errs[1] = proc.Start(other, filepath.Join(dir, "other"), flags...) })
	t.Cleanup(p.kill)
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *pair) kill() {
	for _, s := range append([]*proc.Server{p.judge, p.other}, p.rest...) {
		if s != nil {
			s.Kill()
		}
	}
}

// both runs f and g at the same time.
func both(f, g func()) {
	var wg sync.WaitGroup
	wg.Go(f)
	wg.Go(g)
	wg.Wait()
}

// opponent is the kind of server that is compared with the judge.
func opponent() proc.Kind {
	if self {
		return proc.Etcd
	}
	return proc.Quorate
}

// run performs the case on both servers of the pair.
func (p *pair) run(c script.Case) (judge, other script.Trace) {
	both(func() { judge = script.Run(c, target(&p.judge)) }, func() {
		t := target(&p.other)
		if p.front != nil {
			t = throughFront(t, p.front)
		}
		other = script.Run(c, t)
	})
	return judge, other
}

// target shows a server to a scenario. Restart replaces the server in place.
func target(s **proc.Server) *script.Target {
	return &script.Target{Conn: (*s).Conn(), Restart: func() (*grpc.ClientConn, error) {
		next, err := (*s).Restart()
		if err != nil {
			return nil, err
		}
		*s = next
		return next.Conn(), nil
	}}
}

// verdict is what comparing two traces of a case came to.
type verdict struct {
	wrong   []string        // reasons to fail
	allowed map[string]bool // chosen differences that were seen
}

// compare judges the traces. With stale set, a chosen difference that does not show is wrong, too. With alike set, an expectation
// that neither meets, in the same way, is not.
func compare(judge, other script.Trace, stale, alike bool) verdict {
	v := verdict{allowed: map[string]bool{}}
	if alike && slices.Equal(judge.Failed, other.Failed) {
		judge.Failed, other.Failed = nil, nil
	}
	for _, f := range judge.Failed {
		v.wrong = append(v.wrong, "etcd itself does not meet: "+f)
	}
	for _, f := range other.Failed {
		v.wrong = append(v.wrong, "not met: "+f)
	}
	for i := range max(len(judge.Entries), len(other.Entries)) {
		if i >= len(judge.Entries) || i >= len(other.Entries) {
			v.wrong = append(v.wrong, fmt.Sprintf("one run ended after %d statements, the other after %d", len(judge.Entries), len(other.Entries)))
			break
		}
		j, o := judge.Entries[i], other.Entries[i]
		lines := diff.Compare(j.Facts, o.Facts)
		switch {
		case j.Known != "" && len(lines) > 0:
			v.allowed[j.Known] = true
		case j.Known != "" && stale:
			v.wrong = append(v.wrong, fmt.Sprintf("%s: the chosen difference %q does not show any more", j.At, j.Known))
		case len(lines) > 0:
			v.wrong = append(v.wrong, j.At+"\n    "+strings.Join(lines, "\n    "))
		}
	}
	return v
}

// TestScenarios runs all of testdata/*.case.
func TestScenarios(t *testing.T) {
	cases, err := script.Load("testdata/*.case")
	if err != nil {
		t.Fatal(err)
	}
	checkKnown(t, append(userScenarios(t), cases...))
	t.Logf("%d scenarios", len(cases))
	t.Run("shared", func(t *testing.T) {
		runShared(t, cases, func(t *testing.T) *pair { return startPair(t, opponent(), "--unsafe-no-fsync") })
	})
	t.Run("own", func(t *testing.T) {
		for _, c := range cases {
			if !c.Fresh {
				continue
			}
			t.Run(c.Name, func(t *testing.T) {
				t.Parallel()
				flags := append([]string{"--unsafe-no-fsync"}, c.Flags...)
				runCase(t, startPair(t, opponent(), flags...), c)
			})
		}
	})
}

// checkKnown holds the table of chosen differences, the scenarios and docs/COMPAT.md together.
func checkKnown(t *testing.T, cases []script.Case) {
	doc, err := os.ReadFile("../../docs/COMPAT.md")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, c := range cases {
		for _, s := range c.Steps {
			used[s.Known] = true
		}
	}
	delete(used, "")
	for _, d := range Known {
		if !used[d.Name] {
			t.Errorf("known.go: no scenario shows the difference %q", d.Name)
		}
		if !strings.Contains(string(doc), "\n| "+d.Row+" |") {
			t.Errorf("known.go: docs/COMPAT.md has no row %q", d.Row)
		}
		delete(used, d.Name)
	}
	for name := range used {
		t.Errorf("a scenario names the difference %q, which known.go does not list", name)
	}
}

// runShared runs the cases that can share servers one after the other. A failing case may have left the two servers in
// different states, so the next one gets new servers.
func runShared(t *testing.T, cases []script.Case, startPair func(*testing.T) *pair) {
	var p *pair
	for _, c := range cases {
		if c.Fresh {
			continue
		}
		t.Run(c.Name, func(st *testing.T) {
			if p == nil {
				p = startPair(t)
			}
			ok := runCase(st, p, c)
			if ok {
				ok = sweep(st, p)
			}
			if !ok {
				p.kill()
				p = nil
			}
		})
	}
}

func runCase(t *testing.T, p *pair, c script.Case) bool {
	start := time.Now()
	judge, other := p.run(c)
	v := compare(judge, other, !self && p.other.Kind == proc.Quorate, len(p.rest) > 0)
	for _, w := range v.wrong {
		t.Error(w)
	}
	for name := range v.allowed {
		t.Logf("differs as chosen: %s", name)
	}
	if len(v.wrong) > 0 {
		t.Logf("end of the %s log:\n%s", p.other.Kind, p.other.LogTail(1500))
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Logf("took %v", d)
	}
	return len(v.wrong) == 0
}

// sweep removes what a case left behind: alarms, leases and keys. It does the same on both servers and checks that it
// ended the same.
func sweep(t *testing.T, p *pair) bool {
	leases, err := pb.NewLeaseClient(p.judge.Conn()).LeaseLeases(t.Context(), &pb.LeaseLeasesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	text := "case sweep\nAlarm action:DEACTIVATE memberID:$member alarm:NOSPACE\n" +
		"Alarm action:DEACTIVATE memberID:$member alarm:CORRUPT\nDeleteRange key:\"\\000\" range_end:\"\\000\"\n"
	text += users(t, p.judge)
	for _, l := range leases.Leases {
		text += fmt.Sprintf("LeaseRevoke ID:%d\n", l.ID)
	}
	clean, err := script.Parse("sweep", text+"LeaseLeases\n")
	if err != nil {
		t.Fatal(err)
	}
	judge, other := p.run(clean[0])
	v := compare(judge, other, false, len(p.rest) > 0)
	for _, w := range v.wrong {
		t.Errorf("while cleaning up: %s", w)
	}
	return len(v.wrong) == 0
}

// users are the statements that remove all users and roles.
func users(t *testing.T, s *proc.Server) (text string) {
	auth := pb.NewAuthClient(s.Conn())
	users, err := auth.UserList(t.Context(), &pb.AuthUserListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	roles, err := auth.RoleList(t.Context(), &pb.AuthRoleListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range users.Users {
		text += fmt.Sprintf("UserDelete name:%q\n", name)
	}
	for _, name := range roles.Roles {
		text += fmt.Sprintf("RoleDelete role:%q\n", name)
	}
	return text
}
