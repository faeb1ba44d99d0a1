package cli_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"quorate.dev/quorate/cli"
)

// TestWatchInteractive: requests on stdin, several watches at once, progress, and mistakes.
func TestWatchInteractive(t *testing.T) {
	ep := start(t)
	stdin, say := io.Pipe()
	l := begin(t, cli.Main, nil, stdin, "--endpoints", ep, "watch", "-i")
	fmt.Fprintln(say, "watch --prefix a --prev-kv")
	fmt.Fprintln(say, "watch z -- sh -c 'echo ran $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE'")
	fmt.Fprintln(say, "look")
	l.err.until(t, "Invalid command look (only support watch)\n")
	for !strings.Contains(l.out.String(), "progress notify: ") { // comes when all watches of the stream are there
		fmt.Fprintln(say, "progress")
	}
	expect(t, ep, "", "put a1 x", 0, "OK\n", "")
	l.out.until(t, "PUT\na1\nx\n")
	expect(t, ep, "", "put a1 y", 0, "OK\n", "")
	l.out.until(t, "PUT\na1\nx\na1\ny\n")
	expect(t, ep, "", "put z v", 0, "OK\n", "")
	l.out.until(t, "PUT\nz\nv\nran \"PUT\" \"z\" \"v\"\n")
	expect(t, ep, "", "del a1", 0, "1\n", "")
	l.out.until(t, "DELETE\na1\ny\na1\n\n")
	say.Close()
	if code := l.wait(t); code != 3 || !strings.HasSuffix(l.err.String(), "Error: error reading watch request line: EOF\n") {
		t.Errorf("%d %q", code, l.err.String())
	}
}

// TestWatchExec: a command that fails ends the watch.
func TestWatchExec(t *testing.T) {
	ep := start(t)
	expect(t, ep, "", "put k v", 0, "OK\n", "")
	expect(t, ep, "", "watch k --rev=1 -- false", 1, "PUT\nk\nv\n", "command [\"false\"] error (exit status 1)\n")
	expect(t, ep, "", "watch k --", 128, "", "Error: bad number of arguments (found separator --, but no commands)\n")
	l := begin(t, cli.Main, []string{"ETCDCTL_WATCH_KEY=k", "PATH=" + os.Getenv("PATH")}, nil, "--endpoints", ep, "watch", "--rev=1", "--", "sh", "-c", "echo $ETCD_WATCH_REVISION; exit 3")
	if code := l.wait(t); code != 1 || l.out.String() != "PUT\nk\nv\n2\n" {
		t.Errorf("%d %q %q", code, l.out.String(), l.err.String())
	}
}

// TestLease: grants, renewals, keys and an end.
func TestLease(t *testing.T) {
	ep := start(t)
	code, out, errs := ctl(t, ep, "", "lease", "grant", "100")
	m := regexp.MustCompile(`^lease ([0-9a-f]{16}) granted with TTL\(100s\)\n$`).FindStringSubmatch(strings.ReplaceAll(out, "ID", "0000000000000000"))
	if code != 0 || m == nil || errs != "" {
		t.Fatalf("%d %q %q", code, out, errs)
	}
	l := begin(t, cli.Main, nil, nil, "--endpoints", ep, "lease", "list")
	l.wait(t)
	lines := strings.Split(l.out.String(), "\n")
	if lines[0] != "found 1 leases" {
		t.Fatalf("%q", lines)
	}
	id := lines[1]
	expect(t, ep, "", "put k v --lease="+id, 0, "OK\n", "")
	for _, c := range []struct{ args, out string }{
		{"lease timetolive --keys " + id, "lease " + id + ` granted with TTL\(100s\), remaining\(\d+s\), attached keys\(\[k\]\)` + "\n"},
		{"lease timetolive --keys -w fields " + id, `(?s)"ClusterID.*"TTL" : \d+\n"GrantedTTL" : 100\n"Key" : "k"` + "\n"},
		{"lease keep-alive --once " + id, "lease " + id + ` keepalived with TTL\(100\)` + "\n"},
		{"lease revoke " + id, "lease " + id + " revoked\n"},
		{"lease timetolive " + id, "lease " + id + " already expired\n"},
		{"lease keep-alive " + id, "lease " + id + " expired or revoked.\n"},
	} {
		l := begin(t, cli.Main, nil, nil, append([]string{"--endpoints", ep}, strings.Fields(c.args)...)...)
		if code := l.wait(t); code != 0 || !regexp.MustCompile("^"+c.out+"$").MatchString(l.out.String()) {
			t.Errorf("%s: %d %q %q", c.args, code, l.out.String(), l.err.String())
		}
	}
	expect(t, ep, "", "get k", 0, "", "")
	expect(t, ep, "", "lease revoke 1", 1, "", "Error: failed to revoke lease (etcdserver: requested lease not found)\n")
	expect(t, ep, "", "lease grant x", 128, "", "Error: bad TTL (strconv.ParseInt: parsing \"x\": invalid syntax)\n")
}

// TestLock: a command runs with the lock and its exit status is passed on; an interrupt gives the lock back.
func TestLock(t *testing.T) {
	ep := start(t)
	run := func(args ...string) (int, string, string) {
		l := begin(t, cli.Main, []string{"PATH=" + os.Getenv("PATH")}, nil, append([]string{"--endpoints", ep, "lock", "l"}, args...)...)
		return l.wait(t), l.out.String(), l.err.String()
	}
	if code, out, errs := run("--", "sh", "-c", "echo $ETCD_LOCK_REV; exit 7"); code != 7 || out != "2\n" || errs != "Error: exit status 7\n" {
		t.Errorf("%d %q %q", code, out, errs)
	}
	holder := begin(t, cli.Main, nil, nil, "--endpoints", ep, "lock", "l")
	holder.out.until(t, "l/")
	waiter := begin(t, cli.Main, nil, nil, "--endpoints", ep, "lock", "l", "echo", "mine")
	holder.interrupt(cli.Interrupt{Signal: syscall.SIGINT})
	if code := holder.wait(t); code != 0 || holder.err.String() != "" {
		t.Errorf("%d %q", code, holder.err.String())
	}
	if code := waiter.wait(t); code != 0 || waiter.out.String() != "mine\n" {
		t.Errorf("%d %q %q", code, waiter.out.String(), waiter.err.String())
	}
	expect(t, ep, "", "get --prefix l/", 0, "", "")
}

// TestElect: the winner and the observer print the same leader; an interrupt resigns.
func TestElect(t *testing.T) {
	ep := start(t)
	winner := begin(t, cli.Main, nil, nil, "--endpoints", ep, "elect", "e", "me")
	winner.out.until(t, "\nme\n")
	observer := begin(t, cli.Main, nil, nil, "--endpoints", ep, "elect", "-l", "e")
	observer.out.until(t, winner.out.String())
	for _, l := range []*line{observer, winner} {
		l.interrupt(cli.Interrupt{Signal: syscall.SIGINT})
		if code := l.wait(t); code != 0 || l.err.String() != "" {
			t.Errorf("%d %q", code, l.err.String())
		}
	}
	expect(t, ep, "", "get --prefix e/", 0, "", "")
	expect(t, ep, "", "elect e", 128, "", "Error: no proposal argument but -l not set\n")
}

// TestMirror: what there is and what comes, renamed, until an interrupt.
func TestMirror(t *testing.T) {
	from, to := start(t), start(t)
	expect(t, from, "", "put a/1 x", 0, "OK\n", "")
	expect(t, from, "", "put b/1 no", 0, "OK\n", "")
	l := begin(t, cli.Main, nil, nil, "--endpoints", from, "make-mirror", "--prefix=a/", "--dest-prefix=c/", to)
	has := func(key, value string) {
		t.Helper()
		w := begin(t, cli.Main, nil, nil, "--endpoints", to, "watch", "--rev=1", key)
		w.out.until(t, value)
		w.interrupt(nil)
		w.wait(t)
	}
	has("c/1", "PUT\nc/1\nx\n")
	expect(t, from, "", "put a/2 y", 0, "OK\n", "")
	has("c/2", "PUT\nc/2\ny\n")
	expect(t, from, "", "del a/1", 0, "1\n", "")
	has("c/1", "DELETE\nc/1\n\n")
	l.interrupt(cli.Interrupt{Signal: syscall.SIGINT})
	if code := l.wait(t); code != 130 {
		t.Errorf("%d %q", code, l.err.String())
	}
	expect(t, to, "", "get --prefix --keys-only b", 0, "", "")
	expect(t, from, "", "make-mirror --no-dest-prefix --dest-prefix=x "+to, 128, "", "Error: `--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one\n")
}

// TestSnapshotSave: a file that only its owner reads, and none when it fails or is interrupted, under both names.
func TestSnapshotSave(t *testing.T) {
	ep := start(t)
	expect(t, ep, "", "put a 1", 0, "OK\n", "")
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for name, run := range map[string]as{"etcdctl": cli.Main, "quorate": own} {
		file := filepath.Join(t.TempDir(), "s.db")
		l := begin(t, run, nil, nil, "--endpoints", ep, "snapshot", "save", file)
		if code := l.wait(t); code != 0 || l.out.String() != "Snapshot saved at "+file+"\nServer version 3.7.0\n" {
			t.Errorf("%s: %d %q %q", name, code, l.out.String(), l.err.String())
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 || info.Size()%512 != 32 {
			t.Errorf("%s: %v %v", name, info, err)
		}
		other := filepath.Join(t.TempDir(), "t.db")
		l = begin(t, run, nil, nil, "--endpoints", silent.Addr().String(), "snapshot", "save", other)
		for {
			if _, err := os.Stat(other + ".part"); err == nil {
				break
			}
			l.out.until(t, "")
		}
		l.interrupt(cli.Interrupt{Signal: syscall.SIGINT})
		if code := l.wait(t); code != 130 {
			t.Errorf("%s: %d %q", name, code, l.err.String())
		}
		if left, _ := os.ReadDir(filepath.Dir(other)); len(left) != 0 {
			t.Errorf("%s left %v", name, left)
		}
		l = begin(t, run, nil, nil, "--endpoints", ep+",127.0.0.1:1", "snapshot", "save", other)
		if code := l.wait(t); code != 5 {
			t.Errorf("%s: two endpoints: %d %q", name, code, l.err.String())
		}
	}
}
