package cli_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"quorate.dev/quorate/cli"
	"quorate.dev/quorate/embed"
	"quorate.dev/quorate/internal/freeport"
)

// mine runs a command line under our own name.
func mine(t *testing.T, args ...string) (int, string, string) {
	t.Helper()
	l := begin(t, own, patient(args), strings.NewReader(""), args...)
	return l.wait(t), l.out.String(), l.err.String()
}

// TestWhatAnswered: a wrong endpoint says what answered instead.
func TestWhatAnswered(t *testing.T) {
	s, err := embed.Start(t.Context(), embed.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, members, _ := mine(t, "--endpoints", s.ClientURLs()[0], "member", "list")
	peer := strings.TrimPrefix(strings.Split(members, ", ")[3], "http://")

	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Server", "shop/1.0") }))
	defer web.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	silent, loud := listen(t, func(net.Conn) {}), listen(t, func(c net.Conn) { _, _ = io.WriteString(c, "220 mail.example ESMTP\r\n") })
	address := func(s *httptest.Server) string { return s.Listener.Addr().String() }
	for _, c := range []struct{ endpoint, text string }{
		{address(web), "a web server answered (HTTP/1.1 "},
		{address(web), "Server: shop/1.0"},
		{address(secure), "it speaks TLS: use https://"},
		{"https://" + address(secure), "its certificate is signed by O=Acme Co, which is not trusted: name that authority's file with --cacert"},
		{"https://" + address(web), "it does not speak TLS: use http://"},
		{peer, `that is the port for other members of member "default"; clients connect to ` + s.ClientURLs()[0]},
		{silent, "it took the connection and does not answer"},
		{loud, `something answered that is no server of this kind: "220 mail`},
		{"no.such.host.invalid:2379", `the name "no.such.host.invalid" cannot be resolved`},
	} {
		code, out, errs := mine(t, "--endpoints", c.endpoint, "--command-timeout=300ms", "get", "k")
		first := "quorate get: " + c.endpoint + ": "
		if code != 1 || out != "" || !strings.HasPrefix(errs, first) || !strings.Contains(errs, "  "+c.endpoint+": ") || !strings.Contains(errs, c.text) {
			t.Errorf("%s: %d %q\n%s", c.endpoint, code, out, errs)
		}
	}
}

// TestRefused: nothing listens at any endpoint, and nobody has to wait for the timeout to hear it.
func TestRefused(t *testing.T) {
	ep := freeport.Address(t)
	for _, args := range []string{"get k", "lock k", "watch k", "lease list", "member list"} {
		code, out, errs := mine(t, append([]string{"--endpoints", ep, "--command-timeout=1h"}, strings.Fields(args)...)...)
		if code != 1 || out != "" || !strings.Contains(errs, ": "+ep+": no server answers\n  "+ep+": connection refused: nothing listens there. Start a server with") {
			t.Errorf("%s: %d %q\n%s", args, code, out, errs)
		}
	}
	code, out, errs := mine(t, "--endpoints", ep+","+start(t), "--command-timeout=8s", "endpoint", "status")
	if code != 1 || strings.Count(out, "\n") != 1 || !strings.Contains(errs, ep+": connection refused") {
		t.Errorf("%d %q\n%s", code, out, errs)
	}
}

// listen serves every connection in the same way, and keeps it open.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			serve(c)
		}
	}()
	return l.Addr().String()
}

// TestClientCertificate: a server that wants one says so.
func TestClientCertificate(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13}
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	_, _, errs := mine(t, "--endpoints", "https://"+s.Listener.Addr().String(), "--insecure-skip-tls-verify", "--command-timeout=300ms", "get", "k")
	if !strings.Contains(errs, "it wants a client certificate: name one with --cert and --key") {
		t.Error(errs)
	}
}

// TestAdvice: an error says where it comes from and what to do; a mistake in the arguments says where help is.
func TestAdvice(t *testing.T) {
	ep := start(t)
	for _, c := range []struct {
		args string
		code int
		errs string
	}{
		{"get k --rev=99", 1, "quorate get: " + ep + ": etcdserver: mvcc: required revision is a future revision\n  that revision does not exist yet"},
		{"lease revoke 1", 1, "quorate lease revoke: " + ep + ": failed to revoke lease (etcdserver: requested lease not found)\n  it expired, was revoked"},
		{"member remove 1", 1, "quorate member remove: " + ep + ": etcdserver: member not found\n  \"quorate member list\" shows the ids\n"},
		{"get", 128, "quorate get: get command needs one argument as key and an optional argument as range_end\nRun \"quorate get --help\" for its arguments and flags.\n"},
		{"gte k", 2, "quorate: unknown command \"gte\" for \"quorate\"; did you mean get?\nRun \"quorate --help\" for the verbs.\n"},
		{"member lst", 2, "quorate: unknown command \"lst\" for \"quorate member\"; did you mean list?\n"},
		{"get --prefx k", 2, "quorate: unknown flag: --prefx; did you mean --prefix?\nRun \"quorate get --help\" for its arguments and flags.\n"},
		{"get --endpoint=x k", 2, "quorate: unknown flag: --endpoint; did you mean --endpoints?\n"},
		{"get --xyzzy k", 2, "quorate: unknown flag: --xyzzy\n"},
	} {
		code, out, errs := mine(t, append([]string{"--endpoints", ep}, strings.Fields(c.args)...)...)
		if code != c.code || out != "" || !strings.HasPrefix(errs, c.errs) {
			t.Errorf("%s: %d %q\n%s\nwant %d\n%s", c.args, code, out, errs, c.code, c.errs)
		}
	}
}

// TestOwnHelp: verbs are in groups and speak of us.
func TestOwnHelp(t *testing.T) {
	code, out, errs := mine(t, "--help")
	if code != 0 || errs != "" || strings.Contains(out, "etcdctl") || !strings.Contains(out, "\nKey-value\n  compaction ") || !strings.Contains(out, "\nConcurrency\n  elect ") {
		t.Errorf("%d %q %q", code, out, errs)
	}
	if code, out, errs = mine(t, "member", "add", "--help"); code != 0 || errs != "" || !strings.Contains(out, "\nExamples:\n  quorate member add m4 ") {
		t.Errorf("%d %q %q", code, out, errs)
	}
	if code, out, errs = mine(t, "check", "--help"); code != 0 || errs != "" || strings.Contains(out, "etcdctl ") {
		t.Errorf("%d %q %q", code, out, errs)
	}
}

// TestMore: verbs of other packages run in a session like ours.
func TestMore(t *testing.T) {
	ep := start(t)
	count := cli.Verb{Use: "count", Short: "Count keys", Group: cli.GroupInsight, Run: func(s *cli.Session, _ []string) error {
		c, err := s.Client()
		if err != nil {
			return err
		}
		ctx, cancel := s.Timeout()
		defer cancel()
		r, err := c.Get(ctx, "k")
		if err != nil {
			return err
		}
		s.Printf("%d\n", r.Count)
		return nil
	}}
	expect(t, ep, "", "put k v", 0, "OK\n", "")
	l := begin(t, func(p cli.Process) int { return cli.Own(p, &cobra.Command{Use: "quorate"}, count) }, nil, nil, "--endpoints", ep, "count")
	if code := l.wait(t); code != 0 || l.out.String() != "1\n" {
		t.Errorf("%d %q %q", code, l.out.String(), l.err.String())
	}
}

// TestCompleteKeys: the shell completes keys up to the next slash; without a server it completes nothing.
func TestCompleteKeys(t *testing.T) {
	ep := start(t)
	for _, k := range []string{"/app/a", "/app/b/1", "/app/b/2", "/api", "zoo"} {
		expect(t, ep, "", "put "+k+" v", 0, "OK\n", "")
	}
	for _, c := range []struct{ typed, out string }{
		{"get /a", "/api\n/app/\n:6\n"},
		{"get /app/", "/app/a\n/app/b/\n:6\n"},
		{"del /app/b/", "/app/b/1\n/app/b/2\n:4\n"},
		{"watch z", "zoo\n:4\n"},
		{"put x v", ":0\n"},
		{"get -w t", "fields\njson\nprotobuf\nsimple\ntable\n:0\n"},
	} {
		code, out, _ := mine(t, append([]string{"__complete", "--endpoints", ep}, strings.Fields(c.typed)...)...)
		if code != 0 || out != c.out {
			t.Errorf("%s: %d %q", c.typed, code, out)
		}
	}
	if code, out, _ := mine(t, "__complete", "--endpoints", "127.0.0.1:1", "get", "/a"); code != 0 || out != ":4\n" {
		t.Errorf("%d %q", code, out)
	}
	_, out, _ := mine(t, "__complete", "--endpoints", ep, "get", "")
	if out != "/\nzoo\n:6\n" {
		t.Errorf("%q", out)
	}
}

// TestOwnName: what works as etcdctl works under our own name, with the same output in a pipe.
func TestOwnName(t *testing.T) {
	ep := start(t)
	for _, c := range []struct{ stdin, args, out string }{
		{"", "put k v", "OK\n"},
		{"mod(\"k\") > \"0\"\n\nput k w\nget k\ndel z\n\n\n", "txn", "SUCCESS\n\nOK\n\nk\nw\n\n0\n"},
		{"", "get k --decode", "k\nw\n"},
		{"", "del k --prev-kv", "1\nk\nw\n"},
		{"", "watch --rev=4 k -- echo done", "DELETE\nk\n\ndone\n"},
		{"", "lock l echo locked", "locked\n"},
		{"pw\npw\n", "user add u", "Password of u: \nType password of u again for confirmation: \nUser u created\n"},
		{"", "user list", "u\n"},
		{"", "auth status", "Authentication Status: false\nAuthRevision: 2\n"},
	} {
		l := begin(t, own, []string{"PATH=" + os.Getenv("PATH")}, strings.NewReader(c.stdin), append([]string{"--endpoints", ep}, strings.Fields(c.args)...)...)
		l.out.until(t, c.out)
		if strings.HasPrefix(c.args, "watch") {
			l.interrupt(cli.Interrupt{Signal: syscall.SIGINT})
		}
		if code := l.wait(t); (code != 0 && code != 130) || !strings.HasPrefix(l.out.String(), c.out) || l.err.String() != "" {
			t.Errorf("%s: %d %q %q", c.args, code, l.out.String(), l.err.String())
		}
	}
}
