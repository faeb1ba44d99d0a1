package tools

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"quorate.dev/quorate/test/compat/proc"
)

// self makes etcd's own tools and server stand in for ours: the suite must then find nothing.
var self = os.Getenv("COMPAT_SELF") == "1"

// minimum is how many command lines have to be compared.
const minimum = 250

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "quorate-tools-")
	if err != nil {
		panic(err)
	}
	shared = dir
	code := m.Run()
	os.RemoveAll(dir)
	proc.Cleanup()
	os.Exit(code)
}

// shared is a directory for what all tests use.
var shared string

// side is one of the two that are compared: a pair of tools and a kind of server.
type side struct {
	ctl, utl []string
	bin      string // of ours, which can be called by its own name, too
	server   proc.Kind
}

// judge is etcd's tools with etcd.
var judge = sync.OnceValues(func() (side, error) {
	s := side{server: proc.Etcd}
	ctl, err := proc.Binary(proc.Etcdctl)
	if err != nil {
		return s, err
	}
	utl, err := proc.Binary(proc.Etcdutl)
	s.ctl, s.utl = []string{ctl}, []string{utl}
	return s, err
})

// ours is our program under the names of etcd's tools, with our server.
var ours = sync.OnceValues(func() (side, error) {
	if self {
		return judge()
	}
	bin, err := proc.Binary(proc.Quorate)
	if err != nil {
		return side{}, err
	}
	for _, name := range []string{"etcdctl", "etcdutl"} {
		if err := os.Symlink(bin, filepath.Join(shared, name)); err != nil {
			return side{}, err
		}
	}
	s := side{[]string{filepath.Join(shared, "etcdctl")}, []string{filepath.Join(shared, "etcdutl")}, bin, proc.Quorate}
	if os.Getenv("COMPAT_SERVER") == "etcd" {
		s.server = proc.Etcd
	}
	return s, nil
})

func sides(t *testing.T) (side, side) {
	t.Helper()
	j, err := judge()
	if err != nil {
		t.Fatal(err)
	}
	o, err := ours()
	if err != nil {
		t.Fatal(err)
	}
	return j, o
}

// compared counts command lines whose outcome was compared.
var compared atomic.Int64

// TestCommandLines runs all scripts with etcd's tools against etcd, and with ours against quorate, and compares byte for byte.
func TestCommandLines(t *testing.T) {
	scripts, err := Load("../testdata/tools/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	checkKnown(t, scripts)
	var files []string
	total := 0
	for _, s := range scripts {
		total += s.Commands()
		if !slices.Contains(files, s.File) {
			files = append(files, s.File)
		}
	}
	if total < minimum {
		t.Errorf("the scripts have %d command lines, want %d", total, minimum)
	}
	var ran atomic.Int64
	t.Run("files", func(t *testing.T) {
		for _, f := range files {
			t.Run(f, func(t *testing.T) {
				t.Parallel()
				runFile(t, slices.DeleteFunc(slices.Clone(scripts), func(s Script) bool { return s.File != f }), &ran)
			})
		}
	})
	t.Logf("%d command lines compared, of %d in %d scripts", compared.Load(), total, len(scripts))
	if int(ran.Load()) == len(scripts) && compared.Load() < minimum {
		t.Errorf("%d command lines were compared, want %d", compared.Load(), minimum)
	}
}

func runFile(t *testing.T, scripts []Script, ran *atomic.Int64) {
	j, o := sides(t)
	var servers [2]*proc.Server
	defer func() {
		for _, s := range servers {
			if s != nil {
				s.Kill()
			}
		}
	}()
	for i, s := range scripts {
		o := o
		if i%2 == 1 && !self { // by the long name in turn: quorate etcdctl
			o.ctl, o.utl = []string{o.bin, "etcdctl"}, []string{o.bin, "etcdutl"}
		}
		t.Run(strings.TrimPrefix(s.Name, s.File+"/"), func(st *testing.T) {
			ran.Add(1)
			start := time.Now()
			var ok bool
			if s.Own {
				ok = compare(st, s, j, o, nil, nil)
			} else {
				if servers[0] == nil {
					for i, kind := range []proc.Kind{j.server, o.server} {
						var err error
						if servers[i], err = proc.Start(kind, filepath.Join(t.TempDir(), "server"), "--unsafe-no-fsync"); err != nil {
							st.Fatal(err)
						}
					}
				}
				ok = compare(st, s, j, o, servers[:1], servers[1:])
				if ok = ok && sweep(st, servers[0]) && sweep(st, servers[1]); !ok { // they may be in different states
					servers[0].Kill()
					servers[1].Kill()
					servers = [2]*proc.Server{}
				}
			}
			if d := time.Since(start); d > 5*time.Second {
				st.Logf("%d commands took %v", s.Commands(), d)
			}
		})
	}
}

// compare runs the script on both sides and reports what differs. Servers that it is not given it starts.
func compare(t *testing.T, s Script, j, o side, jServers, oServers []*proc.Server) bool {
	var want, got []Entry
	var errs [2]error
	if s.Members > 1 { // at the same addresses, so one after the other
		at := ports(t, 2*s.Members)
		want, errs[0] = run(t, s, j, nil, at)
		got, errs[1] = run(t, s, o, nil, at)
	} else {
		var wg sync.WaitGroup
		wg.Go(func() { want, errs[0] = run(t, s, j, jServers, nil) })
		wg.Go(func() { got, errs[1] = run(t, s, o, oServers, nil) })
		wg.Wait()
	}
	for i, err := range errs {
		if err != nil {
			t.Errorf("%s: %v", []string{"etcd", "ours"}[i], err)
		}
	}
	ok := !t.Failed()
	var again, third []Entry // etcd's tools and ours against new etcds: asked only to say whose difference it is
	for i := range min(len(want), len(got)) {
		st := want[i].Step
		if st.Verb == "run" || st.Verb == "stop" {
			compared.Add(1)
		}
		if want[i].Took > 2*time.Second || got[i].Took > 2*time.Second {
			t.Logf("%s.txt:%d took etcd %v, ours %v", s.File, st.Line, want[i].Took, got[i].Took)
		}
		lines := difference(want[i], got[i])
		switch {
		case st.Known != "" && lines == "" && !self && o.server == proc.Quorate:
			t.Errorf("%s.txt:%d: %s: the chosen difference %s does not show any more", s.File, st.Line, st.Text, st.Known)
			ok = false
		case st.Known != "" || lines == "":
		default:
			if third == nil && !self && o.server != proc.Etcd && s.Members == 1 {
				again, _ = run(t, s, j, nil, nil)
				third, _ = run(t, s, side{o.ctl, o.utl, o.bin, proc.Etcd}, nil, nil)
			}
			whose := ""
			if i < len(third) && i < len(again) {
				whose = " (the tool's difference)"
				if difference(again[i], third[i]) == "" {
					whose = " (the server's difference)"
				}
			}
			t.Errorf("%s.txt:%d: %s%s\n%s", s.File, st.Line, st.Text, whose, lines)
			ok = false
		}
	}
	return ok
}

// difference shows in what two entries differ, or returns "".
func difference(want, got Entry) string {
	var b strings.Builder
	part := func(name, want, got string) {
		if want != got {
			fmt.Fprintf(&b, "  %s, expected:\n%s  %s, got:\n%s", name, indent(want), name, indent(got))
		}
	}
	part("status", fmt.Sprintln(want.Code), fmt.Sprintln(got.Code))
	part("stdout", want.Stdout, got.Stdout)
	part("stderr", want.Stderr, got.Stderr)
	part("files", strings.Join(want.Files, "\n"), strings.Join(got.Files, "\n"))
	return b.String()
}

func indent(text string) string {
	if text == "" {
		return "    (nothing)\n"
	}
	const most = 4000
	if len(text) > most {
		text = text[:most] + "..."
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		fmt.Fprintf(&b, "    %s\n", strings.TrimSuffix(line, "\n"))
	}
	if !strings.HasSuffix(text, "\n") {
		b.WriteString("    (no newline)\n")
	}
	return b.String()
}

// run performs the script on one side.
func run(t *testing.T, s Script, by side, servers []*proc.Server, at []int) ([]Entry, error) {
	dir := t.TempDir()
	bench := Bench{Ctl: by.ctl, Utl: by.utl, Servers: servers, Dir: filepath.Join(dir, "work")}
	flags := append([]string{"--unsafe-no-fsync"}, s.Flags...)
	var err error
	if s.TLS {
		if bench.Fixtures, err = certificates(); err != nil {
			return nil, err
		}
		at := ports(t, 2)
		bench.TLS = fmt.Sprintf("127.0.0.1:%d", at[1])
		flags = append(flags, fmt.Sprintf("--listen-client-urls=http://127.0.0.1:%d,https://%s", at[0], bench.TLS),
			"--cert-file="+filepath.Join(bench.Fixtures, "server.pem"), "--key-file="+filepath.Join(bench.Fixtures, "server.key"),
			"--trusted-ca-file="+filepath.Join(bench.Fixtures, "ca.pem"), "--client-cert-auth")
	}
	switch {
	case s.Members == 0:
		bench.Fixtures, err = fixtures()
	case s.Members > 1:
		bench.Servers, err = proc.StartClusterAt(by.server, filepath.Join(dir, "servers"), at[:s.Members], at[s.Members:], flags...)
	case servers == nil:
		var one *proc.Server
		one, err = proc.Start(by.server, filepath.Join(dir, "server"), flags...)
		bench.Servers = []*proc.Server{one}
	}
	if err == nil && s.Members > 1 {
		err = proc.Lead(t.Context(), bench.Servers, 0)
	}
	if err != nil {
		return nil, err
	}
	if servers == nil {
		defer func() {
			for _, s := range bench.Servers {
				s.Kill()
			}
		}()
	}
	return Run(s, bench)
}

func ports(t *testing.T, n int) []int {
	at, err := proc.FreePorts(n)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// sweep removes keys and leases, so that the next script begins with neither.
func sweep(t *testing.T, s *proc.Server) bool {
	if _, err := pb.NewKVClient(s.Conn()).DeleteRange(t.Context(), &pb.DeleteRangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}); err != nil {
		t.Errorf("cleaning up: %v", err)
		return false
	}
	leases, err := pb.NewLeaseClient(s.Conn()).LeaseLeases(t.Context(), &pb.LeaseLeasesRequest{})
	if err != nil {
		t.Errorf("cleaning up: %v", err)
		return false
	}
	for _, l := range leases.Leases {
		if _, err := pb.NewLeaseClient(s.Conn()).LeaseRevoke(t.Context(), &pb.LeaseRevokeRequest{ID: l.ID}); err != nil {
			t.Errorf("cleaning up: %v", err)
			return false
		}
	}
	return true
}

// checkKnown holds the table of chosen differences, the scripts and docs/COMPAT.md together.
func checkKnown(t *testing.T, scripts []Script) {
	doc, err := os.ReadFile("../../../docs/COMPAT.md")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, s := range scripts {
		for _, st := range s.Steps {
			used[st.Known] = true
		}
	}
	delete(used, "")
	for _, d := range Known {
		if !used[d.Name] {
			t.Errorf("known.go: no script shows the difference %q", d.Name)
		}
		if !strings.Contains(string(doc), "\n| "+d.Row+" |") {
			t.Errorf("known.go: docs/COMPAT.md has no row %q", d.Row)
		}
		delete(used, d.Name)
	}
	for name := range used {
		t.Errorf("a script names the difference %q, which known.go does not list", name)
	}
}
