package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorate.dev/quorate/cli"
	"quorate.dev/quorate/embed"
	"quorate.dev/quorate/internal/pki"
)

// TestTLS: certificates by flag, the name in one as the user, and files that are not there.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	ca := pki.New(t, "root", time.Now())
	cacert := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(cacert, pki.Bundle(ca), 0o600); err != nil {
		t.Fatal(err)
	}
	serverCert, serverKey := ca.Issue("server", nil).Write(dir, "server")
	cert, key := ca.Issue("alice", nil).Write(dir, "alice")
	other := filepath.Join(dir, "other.pem")
	if err := os.WriteFile(other, pki.Bundle(pki.New(t, "other", time.Now())), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := embed.Start(t.Context(), embed.Config{Dir: filepath.Join(dir, "data"), ClientURLs: []string{"https://127.0.0.1:0"}, Settings: map[string]string{
		"cert-file": serverCert, "key-file": serverKey, "trusted-ca-file": cacert, "client-cert-auth": "true",
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ep := s.ClientURLs()[0]
	bare := strings.TrimPrefix(ep, "https://")
	files := []string{"--cacert=" + cacert, "--cert=" + cert, "--key=" + key}
	for _, c := range []struct {
		run  as
		args []string
		code int
		out  string
		errs string
	}{
		{cli.Main, append(files, "--endpoints="+ep, "put", "a", "1"), 0, "OK\n", ""},
		{cli.Main, append(files, "--endpoints="+bare, "get", "a"), 0, "a\n1\n", ""},
		{own, append(files, "--endpoints="+ep, "get", "a"), 0, "a\n1\n", ""},
		{cli.Main, []string{"--endpoints=" + ep, "--cacert=" + dir + "/none", "get", "a"}, 128, "", "Error: open " + dir + "/none: no such file or directory\n"},
		{cli.Main, []string{"--endpoints=" + ep, "--cert=", "get", "a"}, 128, "", "Error: empty string is passed to --cert option\n"},
		{own, []string{"--endpoints=" + bare, "--command-timeout=300ms", "get", "a"}, 1, "", ": Client sent an HTTP request to an HTTPS server: this address speaks TLS, use https://\n"},
		{own, []string{"--endpoints=" + ep, "--cacert=" + other, "--command-timeout=300ms", "get", "a"}, 1, "", "is signed by CN=root, which is not trusted"},
		{own, []string{"--endpoints=" + ep, "--cacert=" + cacert, "--command-timeout=300ms", "get", "a"}, 1, "", "it wants a client certificate"},
	} {
		l := begin(t, c.run, nil, nil, c.args...)
		code := l.wait(t)
		if errs := jsons.ReplaceAllString(l.err.String(), ""); code != c.code || l.out.String() != c.out || !strings.Contains(errs, c.errs) {
			t.Errorf("%q\n got %d %q %q\nwant %d %q %q", c.args, code, l.out.String(), errs, c.code, c.out, c.errs)
		}
	}
}
