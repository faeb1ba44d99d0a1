package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"quorate.dev/quorate/embed"
)

// TestClient: the verbs of a client stand beside those of the server, under our own name and as etcdctl.
func TestClient(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	s, err := embed.Start(ctx, embed.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ep := s.ClientURLs()[0]
	for _, c := range []struct {
		args      string
		code      int
		out, errs string
	}{
		{"put k v --endpoints " + ep, 0, "OK\n", ""},
		{"--endpoints " + ep + " get k", 0, "k\nv\n", ""},
		{"etcdctl --endpoints " + ep + " get k", 0, "k\nv\n", ""},
		{"etcdctl version", 0, "etcdctl version: 3.7.3\nAPI version: 3.7\n", ""},
		{"etcdctl get", 128, "", "Error: get command needs one argument as key and an optional argument as range_end\n"},
		{"get", 128, "", "quorate get: get command needs one argument as key and an optional argument as range_end\nRun \"quorate get --help\" for its arguments and flags.\n"},
		{"serv", 2, "", "quorate: unknown command \"serv\" for \"quorate\"; did you mean serve?\nRun \"quorate --help\" for the verbs.\n"},
		{"srve", 2, "", "quorate: unknown command \"srve\" for \"quorate\"; did you mean serve?\nRun \"quorate --help\" for the verbs.\n"},
		{"--endpoints " + ep, 2, "", "quorate: no verb: these are flags of a client; name a verb, too, like get or put\nRun \"quorate --help\" for the verbs.\n"},
	} {
		code, out, errs := command(t, strings.Fields(c.args)...)
		if code != c.code || out != c.out || errs != c.errs {
			t.Errorf("%s\n got %d %q %q\nwant %d %q %q", c.args, code, out, errs, c.code, c.out, c.errs)
		}
	}
	code, out, _ := command(t, "--help")
	for _, part := range []string{"\nServer\n", "\n  serve ", "\nKey-value\n", "\n  get ", "\nCluster maintenance\n"} {
		if code != 0 || !strings.Contains(out, part) {
			t.Errorf("%d, no %q in %s", code, part, out)
		}
	}
}
