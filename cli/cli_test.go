package cli_test

import (
	"bytes"
	"context"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"quorate.dev/quorate/cli"
	"quorate.dev/quorate/embed"
)

// patience is how long a test waits for something that happens soon.
const patience = 2 * time.Minute

// start runs a server of our own and returns its client address.
func start(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := embed.Start(ctx, embed.Config{Dir: t.TempDir(), Settings: map[string]string{"bcrypt-cost": "4"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return strings.TrimPrefix(s.ClientURLs()[0], "http://")
}

// buffer may be read while somebody writes.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// until waits for a text.
func (b *buffer) until(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(patience); !strings.Contains(b.String(), text); {
		if time.Now().After(end) {
			t.Fatalf("no %q in %q", text, b.String())
		}
		<-time.After(5 * time.Millisecond)
	}
}

// line is a command line that runs by itself.
type line struct {
	out, err  buffer
	interrupt context.CancelCauseFunc
	code      chan int
}

// as is a personality.
type as func(cli.Process) int

// own is our own name with no command but the client's.
func own(p cli.Process) int { return cli.Own(p, &cobra.Command{Use: "quorate"}) }

// begin starts a command line.
func begin(t *testing.T, run as, env []string, stdin io.Reader, args ...string) *line {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	l := &line{interrupt: cancel, code: make(chan int, 1)}
	go func() {
		l.code <- run(cli.Process{Context: ctx, Args: args, Env: env, Stdin: stdin, Stdout: &l.out, Stderr: &l.err})
		cancel(nil)
	}()
	return l
}

// wait returns the exit code.
func (l *line) wait(t *testing.T) int {
	t.Helper()
	select {
	case code := <-l.code:
		return code
	case <-time.After(patience):
		t.Fatalf("still running: %q %q", l.out.String(), l.err.String())
		return 0
	}
}

// patient has a command line whose time does not matter wait for longer than the five seconds that a busy machine may stall.
func patient(args []string) (env []string) {
	for _, name := range []string{"command", "dial"} {
		if !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--"+name+"-timeout") }) {
			env = append(env, "ETCDCTL_"+strings.ToUpper(name)+"_TIMEOUT="+patience.String())
		}
	}
	return env
}

// ctl runs a command line of etcdctl and returns its exit code, stdout and stderr.
func ctl(t *testing.T, ep, stdin string, args ...string) (int, string, string) {
	t.Helper()
	l := begin(t, cli.Main, patient(args), strings.NewReader(stdin), append([]string{"--endpoints=" + ep}, args...)...)
	return l.wait(t), normal(l.out.String()), normal(l.err.String())
}

var (
	ids   = regexp.MustCompile(`[0-9]{16,20}`)
	jsons = regexp.MustCompile(`(?m)^\{"level":"warn".*\n`)
)

// normal makes what differs from run to run equal.
func normal(s string) string { return ids.ReplaceAllString(jsons.ReplaceAllString(s, ""), "ID") }

// expect runs a command line and compares everything.
func expect(t *testing.T, ep, stdin, args string, code int, out, errs string) {
	t.Helper()
	gotCode, gotOut, gotErrs := ctl(t, ep, stdin, strings.Fields(args)...)
	if gotCode != code || gotOut != out || gotErrs != errs {
		t.Errorf("%s\n got %d %q %q\nwant %d %q %q", args, gotCode, gotOut, gotErrs, code, out, errs)
	}
}

const fieldsHeader = "\"ClusterID\" : ID\n\"MemberID\" : ID\n"

// TestKV: what etcdctl prints for keys, in every format.
func TestKV(t *testing.T) {
	ep := start(t)
	for _, c := range []struct {
		stdin, args string
		code        int
		out, errs   string
	}{
		{"", "put a 1", 0, "OK\n", ""},
		{"from stdin\n", "put b", 0, "OK\n", ""},
		{"", "put b", 128, "", "Error: put command needs 1 argument and input from stdin or 2 arguments\n"},
		{"", "put a 2 --prev-kv", 0, "OK\na\n1\n", ""},
		{"", "get a", 0, "a\n2\n", ""},
		{"", "get nothing", 0, "", ""},
		{"", "get a --hex", 0, "\\x61\n\\x32\n", ""},
		{"", "get a --print-value-only", 0, "2\n", ""},
		{"", "get a --print-value-only -w json", 128, "", "Error: print-value-only is only for `--write-out=simple`\n"},
		{"", "get --prefix --keys-only a", 0, "a\n\n", ""},
		{"", "get --from-key --stream a", 0, "a\n2\nb\nfrom stdin\n\n", ""},
		{"", "get a z --sort-by=modify --order=descend --limit=1", 0, "a\n2\n", ""},
		{"", "get a --count-only", 128, "", "Error: --count-only is only for `--write-out=fields`\n"},
		{"", "get a z --count-only -w fields", 0, fieldsHeader + "\"Revision\" : 4\n\"RaftTerm\" : 2\n\"More\" : false\n\"Count\" : 2\n", ""},
		{"", "get a -w json", 0, `{"header":{"cluster_id":ID,"member_id":ID,"revision":4,"raft_term":2},"kvs":[{"key":"YQ==","create_revision":2,"mod_revision":4,"version":2,"value":"Mg=="}],"count":1}` + "\n", ""},
		{"", "get a -w table", 4, "", "Error: table not supported as output format\n"},
		{"", "get a -w xml", 4, "", "Error: unsupported output format\n"},
		{"", "get a --consistency=x", 4, "", "Error: unknown consistency flag \"x\"\n"},
		{"", "get a --rev=100", 1, "", "Error: etcdserver: mvcc: required revision is a future revision\n"},
		{"", "del a --prev-kv", 0, "1\na\n2\n", ""},
		{"", "del b c --range", 0, "1\n", ""},
		{"", "del", 128, "", "Error: del command needs one argument as key and an optional argument as range_end\n"},
		{"", "compaction 3", 0, "compacted revision 3\n", ""},
		{"", "compaction x", 1, "", "Error: strconv.ParseInt: parsing \"x\": invalid syntax\n"},
		{"", "watch a --rev=1", 5, "", "watch was canceled (etcdserver: mvcc: required revision has been compacted)\nError: watch is canceled by the server\n"},
		{"", "pu p 1", 0, "OK\n", ""},
		{"", "bogus", 1, "", "Error: unknown command \"bogus\" for \"etcdctl\"\nRun 'etcdctl --help' for usage.\n"},
	} {
		expect(t, ep, c.stdin, c.args, c.code, c.out, c.errs)
	}
}

// TestTxn: three blocks of lines, prompts, and input that cannot be read.
func TestTxn(t *testing.T) {
	ep := start(t)
	for _, c := range []struct {
		stdin, args string
		code        int
		out, errs   string
	}{
		{"mod(\"a\") = \"0\"\n\nput a '1 2'\nget a\ndel zz\n\n\n", "txn", 0, "SUCCESS\n\nOK\n\na\n1 2\n\n0\n", ""},
		{"val(\"a\") = \"x\"\n\n\nput \"b\" \"\\x41\" --prev-kv\n\n", "txn -i", 0,
			"compares:\nsuccess requests (get, put, del):\nfailure requests (get, put, del):\nFAILURE\n\nOK\n", ""},
		{"\nget b\n\n\n", "txn -w json", 0, `{"header":{"cluster_id":ID,"member_id":ID,"revision":3,"raft_term":2},"succeeded":true,"responses":[{"Response":{"response_range":{"header":{"revision":3},"kvs":[{"key":"Yg==","create_revision":3,"mod_revision":3,"version":1,"value":"QQ=="}],"count":1}}}]}` + "\n", ""},
		{"", "txn", 3, "", "Error: EOF\n"},
		{"mod(a) = 1\n", "txn", 3, "", "Error: malformed comparison: mod(a) = 1; got mod(\"\")  \"\"\n"},
		{"mod(\"a\") ~ \"1\"\n", "txn", 3, "", "Error: malformed comparison: mod(\"a\") ~ \"1\" (unknown operator ~; use =, !=, < or >)\n"},
		{"\nfoo a b\n\n\n", "txn", 3, "", "Error: invalid txn request: foo a b\n"},
		{"\nget a --prefix --from-key\n", "txn", 128, "", "Error: `--prefix` and `--from-key` cannot be set at the same time, choose one\n"},
		{"\nput a \"\\q\"\n", "txn", 3, "", "Error: invalid syntax\n"},
		{"lease(\"a\") = \"0\"\n\nget a -- b\n\n\n", "txn", 0, "SUCCESS\n\na\n1 2\n", ""},
	} {
		expect(t, ep, c.stdin, c.args, c.code, c.out, c.errs)
	}
}

// TestEnvironment: variables stand for flags, beside a flag they are a mistake, and unknown ones are remarked.
func TestEnvironment(t *testing.T) {
	ep := start(t)
	for _, c := range []struct {
		env, args string
		run       as
		code      int
		out, errs string // errs is a part
	}{
		{"ETCDCTL_ENDPOINTS=" + ep, "put a 1", cli.Main, 0, "OK\n", ""},
		{"ETCDCTL_ENDPOINTS=" + ep, "--endpoints " + ep + " get a", cli.Main, 1, "", `"level":"fatal"`},
		{"ETCDCTL_API=3", "--endpoints " + ep + " get a", cli.Main, 0, "a\n1\n", `"msg":"unrecognized environment variable","environment-variable":"ETCDCTL_API=3"`},
		{"ETCDCTL_API=3", "get", cli.Main, 128, "", "Error: get command needs"},
		{"ETCDCTL_WATCH_KEY=a", "--endpoints " + ep + " watch b", cli.Main, 128, "", "found conflicting environment key"},
		{"ETCDCTL_WATCH_RANGE_END=a", "--endpoints " + ep + " watch b", cli.Main, 128, "", "ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END=\"a\""},
		{"QUORATE_ENDPOINTS=" + ep + " ETCDCTL_ENDPOINTS=nowhere:1", "get a", own, 0, "a\n1\n", ""},
		{"ETCDCTL_ENDPOINTS=nowhere:1", "--endpoints " + ep + " get a", own, 0, "a\n1\n", ""},
		{"ETCDCTL_ENDPOINT=x ETCDCTL_API=3", "--endpoints " + ep + " get a", own, 0, "a\n1\n", "warning: environment variable ETCDCTL_ENDPOINT is not a setting; did you mean ETCDCTL_ENDPOINTS?\n"},
		{"QUORATE_COMMAND_TIMEOUT=soon", "--endpoints " + ep + " get a", own, 128, "", `environment variable QUORATE_COMMAND_TIMEOUT is "soon"`},
	} {
		l := begin(t, c.run, strings.Fields(c.env), strings.NewReader(""), strings.Fields(c.args)...)
		if code := l.wait(t); code != c.code || l.out.String() != c.out || !strings.Contains(l.err.String(), c.errs) || (c.errs == "") != (l.err.String() == "") {
			t.Errorf("%s %s\n got %d %q %q\nwant %d %q %q", c.env, c.args, code, l.out.String(), l.err.String(), c.code, c.out, c.errs)
		}
	}
}

// TestHelp: help is on stdout and no failure; a mistyped flag shows the usage on stderr.
func TestHelp(t *testing.T) {
	code, out, errs := ctl(t, "", "", "get", "--help")
	if code != 0 || errs != "" || !strings.HasPrefix(out, "Gets the key or a range of keys\n\nUsage:\n  etcdctl get [options] <key> [range_end] [flags]\n") ||
		!strings.HasSuffix(out, "Use \"etcdctl options\" for a list of global command-line options (applies to all commands).\n") {
		t.Errorf("%d %q %q", code, out, errs)
	}
	code, out, errs = ctl(t, "", "", "get", "--prefx")
	if code != 1 || out != "" || !strings.HasPrefix(errs, "Error: unknown flag: --prefx\nUsage:\n  etcdctl get") {
		t.Errorf("%d %q %q", code, out, errs)
	}
	code, out, errs = ctl(t, "", "", "options")
	if code != 0 || errs != "" || !strings.Contains(out, "  -w, --write-out string ") {
		t.Errorf("%d %q %q", code, out, errs)
	}
}

// TestInterrupt: whoever waits for input stops, with the exit code of the signal and without a word.
func TestInterrupt(t *testing.T) {
	ep := start(t)
	for _, args := range []string{"put a", "txn", "watch -i", "watch a", "get a --user u", "del a b"} {
		stdin, hold := io.Pipe()
		l := begin(t, cli.Main, nil, stdin, append([]string{"--endpoints", ep}, strings.Fields(args)...)...)
		l.interrupt(cli.Interrupt{Signal: syscall.SIGTERM})
		if code := l.wait(t); code != 128+int(syscall.SIGTERM) || strings.Contains(l.err.String(), "Error:") {
			t.Errorf("%s: %d %q", args, code, l.err.String())
		}
		hold.Close()
	}
}

// TestClientDebug: the level of the client library's log, a level that does not exist, and gRPC that stays quiet.
func TestClientDebug(t *testing.T) {
	ep := start(t)
	for _, c := range []struct {
		level, errs string
		lines       int
	}{
		{"nonsense", "Invalid value for environment variable 'ETCD_CLIENT_DEBUG'. Using default level: 'info'\n", 3},
		{"error", "Error: etcdserver: key is not provided\n", 1},
		{"", `"msg":"retrying of unary invoker failed"`, 2},
	} {
		l := begin(t, cli.Main, []string{"ETCD_CLIENT_DEBUG=" + c.level}, nil, "--endpoints", ep, "put", "", "x")
		if code := l.wait(t); code != 1 || !strings.Contains(l.err.String(), c.errs) || strings.Count(l.err.String(), "\n") != c.lines {
			t.Errorf("%s: %d %q", c.level, code, l.err.String())
		}
	}
}
