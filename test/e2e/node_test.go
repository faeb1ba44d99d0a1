package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestNodeClient lets the npm package etcd3 work on both servers; the script checks itself and prints what it saw.
func TestNodeClient(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/node")); err != nil {
		t.Fatal(err)
	}
	install := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("this test needs node, npm and its registry; npm ci: %v\n%s", err, out)
	}
	etcd, quorate := startBoth(t)
	run := func(url string) string {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, "node", filepath.Join(dir, "client.js"), url)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("the client against %s: %v\n%s", url, err, out)
		}
		return string(out)
	}
	want, got := run(etcd.URL()), run(quorate.URL())
	if want != got {
		t.Errorf("etcd:\n%squorate:\n%s", want, got)
	}
}
