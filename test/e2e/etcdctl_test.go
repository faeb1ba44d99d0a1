package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"quorate.dev/quorate/test/compat/proc"
)

// patience bounds one run of a client.
const patience = 2 * time.Minute

// session is a sequence of etcdctl commands, one a line; what follows << is its standard input (with \n). $LEASE is the lease
// granted last. Lines that begin with 3.7: are for that release only.
const session = `
put fruit/apple red
put fruit/banana yellow
put fruit/cherry dark
put fruit/apple green
get fruit/apple
get fruit/apple -w json
get --rev=3 --prefix fruit/ -w json
get --prefix fruit/ --keys-only
get --prefix fruit/ --print-value-only --limit=2
get --prefix fruit/ --sort-by=MODIFY --order=DESCEND -w json
get --prefix fruit/ --sort-by=VERSION --order=ASCEND --keys-only --limit=1
get --from-key fruit/b -w json
get fruit/ fruit/b -w fields
get --prefix fruit/ --count-only -w fields
get --consistency=s fruit/apple
get --hex fruit/apple
get nothing
get --rev=1000 fruit/apple
3.7: get --prefix fruit/ --min-mod-rev=3 --max-mod-rev=4 -w json
3.7: get --prefix fruit/ --stream
put --prev-kv fruit/apple blue
put --ignore-value fruit/apple
put --ignore-value nothing
put --lease=abcd fruit/apple x
put --ignore-lease fruit/apple brown
del nothing
del --prev-kv fruit/banana
put dir/1 a
put dir/2 b
put dir/3 c
del --prefix --prev-kv dir/ -w json
txn << mod("fruit/apple") > "0"\nvalue("fruit/cherry") = "dark"\n\nput txn/then "1"\nget fruit/apple\ndel fruit/cherry\n\nput txn/else "1"\n\n
txn -w json << create("fruit/apple") = "0"\n\nput txn/then "2"\n\nget txn/then\nget --prefix fruit/\n\n
txn << version("none") = "0"\n\nput a 1\nput a 2\n\n\n
endpoint hashkv -w json
lease grant 600
put --lease=$LEASE leased/1 x
lease timetolive $LEASE --keys
put --lease=$LEASE leased/2 y
lease list
lease keep-alive --once $LEASE
get --prefix leased/ -w json
lease revoke $LEASE
lease revoke $LEASE
lease timetolive $LEASE
get --prefix leased/
lease grant 99999999999
endpoint health
endpoint status -w json
member list
member list -w table
member list -w json
member remove abcd
alarm list
alarm disarm
compaction 5
compaction 5
compaction 100000
compaction --physical 7
get --rev=4 fruit/apple
defrag
move-leader abcd
lock mutex -- echo got it
auth disable
user list
role list
check datascale --load=nothing
3.7: auth status
3.7: downgrade validate 3.6
3.7: downgrade validate 3.5
get --prefix ""
`

// masks hide what may differ: addresses, ids that the server chooses, sizes, times.
var masks = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`127\.0\.0\.1:\d{4,5}\b`), "ENDPOINT"},
	{regexp.MustCompile(`"(dbSize|dbSizeInUse|raftIndex|raftAppliedIndex)":\d+`), `"$1":N`},
	{regexp.MustCompile(`took[ =]+[\d.]+[mµn]?s`), "took N"},
	{regexp.MustCompile(`\[[\d.]+[mµn]?s\]`), "[N]"},
	{regexp.MustCompile(`remaining\(\d+s\)`), "remaining(N)"},
	{regexp.MustCompile(`"ts":"[^"]+"`), `"ts":"T"`},
	{regexp.MustCompile(`etcd-endpoints://0x[0-9a-f]+`), "etcd-endpoints://P"},
	{regexp.MustCompile(`passthrough:///|endpoint://client-[0-9a-f-]+`), "TARGET"},
}

var granted = regexp.MustCompile(`lease ([0-9a-f]+) granted`)

// cli runs one etcdctl against one server.
type cli struct {
	path  string
	s     *proc.Server
	lease string
}

// run executes the command line and returns its masked output and exit status.
func (c *cli) run(t *testing.T, line string) string {
	t.Helper()
	line, stdin, _ := strings.Cut(line, " << ")
	args := append([]string{"--endpoints=" + c.s.Addr}, split(strings.ReplaceAll(line, "$LEASE", c.lease))...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.path, args...)
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3", "ETCDCTL_COMMAND_TIMEOUT=90s", "ETCDCTL_DIAL_TIMEOUT=60s") // a busy machine stalls for longer than etcdctl waits
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(stdin, `\n`, "\n"))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", line, err)
	}
	if m := granted.FindSubmatch(out); m != nil {
		c.lease = string(m[1])
	}
	return c.mask(string(out)) + fmt.Sprintf("exit status %d\n", cmd.ProcessState.ExitCode())
}

func (c *cli) mask(text string) string {
	if c.lease != "" {
		text = strings.ReplaceAll(text, c.lease, "LEASE")
		var id uint64
		fmt.Sscanf(c.lease, "%x", &id)
		text = strings.ReplaceAll(text, fmt.Sprint(id), "LEASE")
	}
	for _, m := range masks {
		text = m.pattern.ReplaceAllString(text, m.with)
	}
	return text
}

// split cuts a line at spaces; "" is an empty word.
func split(line string) []string {
	words := strings.Fields(line)
	for i, w := range words {
		if w == `""` {
			words[i] = ""
		}
	}
	return words
}

// TestEtcdctl runs the session with both releases of etcdctl against both servers.
func TestEtcdctl(t *testing.T) {
	for _, release := range []string{"3.7", "3.4"} {
		t.Run(release, func(t *testing.T) {
			var path string
			if release == "3.7" {
				path = tool(t, "etcdctl")
			} else {
				path = etcdctl34(t)
			}
			etcd, quorate := startBoth(t)
			judge, ours := &cli{path: path, s: etcd}, &cli{path: path, s: quorate}
			for line := range strings.Lines(session) {
				line = strings.TrimSpace(line)
				rest, only := strings.CutPrefix(line, "3.7: ")
				if line == "" || only && release != "3.7" {
					continue
				}
				want, got := judge.run(t, rest), ours.run(t, rest)
				if want != got {
					t.Errorf("etcdctl %s\netcd:\n%squorate:\n%s", rest, want, got)
				}
			}
			t.Run("watch", func(t *testing.T) { compareWatch(t, judge, ours) })
		})
	}
}

// compareWatch follows a prefix from a past revision on through live changes.
func compareWatch(t *testing.T, judge, ours *cli) {
	var out [2]string
	for i, c := range []*cli{judge, ours} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, c.path, "--endpoints="+c.s.Addr, "watch", "--prefix", "fruit/", "--rev=7", "--prev-kv")
		cmd.Env = append(os.Environ(), "ETCDCTL_API=3", "ETCDCTL_COMMAND_TIMEOUT=90s", "ETCDCTL_DIAL_TIMEOUT=60s") // a busy machine stalls for longer than etcdctl waits
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(stdout)
		// The first event is of the past; then the watch runs, and the end can be told from the last key.
		if !lines.Scan() {
			t.Fatalf("%s: the watch says nothing: %s", c.s.Kind, &stderr)
		}
		out[i] = lines.Text() + "\n"
		for _, change := range []string{"put fruit/live 1", "put fruit/live 2", "del fruit/live", "put fruit/zz end"} {
			c.run(t, change)
		}
		for lines.Scan() {
			out[i] += lines.Text() + "\n"
			if lines.Text() == "end" {
				break
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
	}
	if out[0] != out[1] {
		t.Errorf("etcd:\n%squorate:\n%s", out[0], out[1])
	}
	if n := strings.Count(out[0], "PUT"); n < 3 {
		t.Errorf("only %d puts seen:\n%s", n, out[0])
	}
}
