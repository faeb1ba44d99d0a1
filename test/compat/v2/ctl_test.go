package v2

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"quorate.dev/quorate/test/compat/etcd34"
	"quorate.dev/quorate/test/compat/proc"
)

// ran is what a command line did.
type ran struct {
	code           int
	stdout, stderr string
}

// ctl runs etcdctl with the v2 API.
func (s *target) ctl(program string, args []string) (ran, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append([]string{"--endpoints", s.url}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "ETCDCTL_") }), "ETCDCTL_API=2")
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return ran{}, err
	}
	if ctx.Err() != nil {
		return ran{}, fmt.Errorf("still running after %v", patience)
	}
	return ran{cmd.ProcessState.ExitCode(), s.shown(args, out.String()), s.shown(args, errs.String())}, nil
}

// Patterns of what differs: times, what a chance or a clock chose, and the order of listings that were not asked to be sorted.
var (
	ctlTime  = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`)
	ctlAdded = regexp.MustCompile(`with ID [0-9a-f]+ to`)
	ctlTTL   = regexp.MustCompile(`(TTL: |"ttl":)\d+`)
)

func (s *target) shown(args []string, text string) string {
	text = ctlTime.ReplaceAllString(s.plain("", text), "(time)")
	text = ctlTTL.ReplaceAllString(ctlAdded.ReplaceAllString(text, "with ID (id) to"), "$1(ttl)")
	switch {
	case !slices.Contains(args, "ls") || slices.Contains(args, "--sort"):
	case slices.Contains(args, "json"):
		text = settled(text)
	default:
		lines := strings.SplitAfter(text, "\n")
		slices.Sort(lines)
		text = strings.Join(lines, "")
	}
	return text
}

// settled puts the nodes of a listing in JSON, which etcd takes from a map, into the order of their keys.
func settled(text string) string {
	var listing map[string]any
	if json.Unmarshal([]byte(text), &listing) != nil {
		return text
	}
	node, _ := listing["node"].(map[string]any)
	nodes, _ := node["nodes"].([]any)
	key := func(n any) string {
		fields, _ := n.(map[string]any)
		return fmt.Sprint(fields["key"])
	}
	slices.SortFunc(nodes, func(a, b any) int { return strings.Compare(key(a), key(b)) })
	again, err := json.Marshal(listing)
	if err != nil {
		return text
	}
	return string(again)
}

// TestEtcdctl runs Debian's etcdctl against both servers, which advertise addresses that answer.
func TestEtcdctl(t *testing.T) {
	programs, err := etcd34.Programs()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/etcdctl.txt")
	if err != nil {
		t.Fatal(err)
	}
	p := startAdvertised(t)
	for _, s := range []*target{p.judge, p.other} {
		m := regexp.MustCompile(`"id":"([0-9a-f]+)"`).FindStringSubmatch(s.do(request{method: "GET", path: "/v2/members"}).body)
		if m == nil {
			t.Fatalf("%s has no id", s.name)
		}
		s.vars["SELF"] = m[1]
	}
	lines := 0
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		lines++
		args := strings.Fields(line)
		var j, o ran
		var errs [2]error
		both(func() { j, errs[0] = p.judge.ctl(programs.Etcdctl, p.judge.words(args)) }, func() { o, errs[1] = p.other.ctl(programs.Etcdctl, p.other.words(args)) })
		if errs[0] != nil || errs[1] != nil {
			t.Fatalf("etcdctl.txt:%d: %s: %v, %v", i+1, line, errs[0], errs[1])
		}
		if j != o {
			t.Errorf("etcdctl.txt:%d: %s\nwith %s %+v\nwith %s %+v", i+1, line, p.judge.name, j, p.other.name, o)
		}
	}
	t.Logf("%d command lines", lines)
}

// words puts in what is remembered.
func (s *target) words(args []string) []string {
	out := slices.Clone(args)
	for i := range out {
		for name, value := range s.vars {
			out[i] = strings.ReplaceAll(out[i], "$"+name, value)
		}
	}
	return out
}

// startAdvertised starts both so that clients who ask for the members find them.
func startAdvertised(t *testing.T) *pair {
	t.Helper()
	ids := []string{"--initial-cluster=m1=" + proc.AdvertisedPeer, "--initial-advertise-peer-urls=" + proc.AdvertisedPeer}
	etcd := func(name string) (*target, error) {
		s, err := etcd34.Start(filepath.Join(t.TempDir(), "etcd"), ids...)
		if err != nil {
			return nil, err
		}
		t.Cleanup(s.Kill)
		return newTarget(name, s.URL(), s.LogTail), nil
	}
	p := &pair{}
	var errs [2]error
	both(func() { p.judge, errs[0] = etcd("etcd") }, func() {
		if self {
			p.other, errs[1] = etcd("other etcd")
			return
		}
		ports, err := proc.FreePorts(1)
		if errs[1] = err; err != nil {
			return
		}
		url := fmt.Sprintf("http://127.0.0.1:%d", ports[0])
		s, err := proc.Start(proc.Quorate, filepath.Join(t.TempDir(), "quorate"), append(ids, "--enable-v2=true", "--bcrypt-cost=4", "--unsafe-no-fsync", "--listen-client-urls="+url, "--advertise-client-urls="+url)...)
		if errs[1] = err; err == nil {
			t.Cleanup(s.Kill)
			p.other = newTarget("quorate", s.URL(), s.LogTail)
		}
	})
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	return p
}
