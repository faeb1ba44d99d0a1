package server_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// as connects to a member, as a user when there is a name.
func as(t *testing.T, m *instance, with *tls.Config, name, password string) *clientv3.Client {
	t.Helper()
	cli, err := clientv3.New(clientv3.Config{Endpoints: m.ClientURLs(), TLS: with, Username: name, Password: password, DialTimeout: patience, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cli.Close() })
	return cli
}

// enable adds root, and alice who may write below k and has the password, or none, and enables authentication.
func enable(t *testing.T, cli *clientv3.Client, password string) {
	t.Helper()
	ctx := t.Context()
	addAlice := func() error { _, err := cli.UserAdd(ctx, "alice", password); return err }
	if password == "" {
		addAlice = func() error {
			_, err := cli.UserAddWithOptions(ctx, "alice", "", &clientv3.UserAddOptions{NoPassword: true})
			return err
		}
	}
	for _, f := range []func() error{
		func() error { _, err := cli.UserAdd(ctx, "root", "correct-horse"); return err },
		func() error { _, err := cli.UserGrantRole(ctx, "root", "root"); return err },
		addAlice,
		func() error { _, err := cli.RoleAdd(ctx, "r"); return err },
		func() error {
			_, err := cli.RoleGrantPermission(ctx, "r", "k", "l", clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func() error { _, err := cli.UserGrantRole(ctx, "alice", "r"); return err },
		func() error { _, err := cli.AuthEnable(ctx); return err },
	} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUsersByCertificate: with --client-cert-auth the name in a client's certificate is its user, unless it has a token.
func TestUsersByCertificate(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.Issue("server", nil).Write(a.dir, "server")
	m := must(t, settings(t.TempDir(), "listen-client-urls", "https://127.0.0.1:0", "advertise-client-urls", "https://127.0.0.1:0",
		"cert-file", cert, "key-file", key, "trusted-ca-file", a.ca, "client-cert-auth", "true", "bcrypt-cost", "4"))
	named := func(name string) *tls.Config { return a.client(a.Issue(name, nil)) }
	enable(t, as(t, m, named("root"), "", ""), "")
	ctx := t.Context()
	if _, err := as(t, m, named("root"), "", "").Put(ctx, "a", "1"); err != nil {
		t.Errorf("root by certificate: %v", err)
	}
	alice := as(t, m, named("alice"), "", "")
	if _, err := alice.Put(ctx, "k", "1"); err != nil {
		t.Errorf("alice by certificate: %v", err)
	}
	if _, err := alice.Put(ctx, "a", "1"); !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("alice, where she has no permission: %v", err)
	}
	if _, err := as(t, m, named("stranger"), "", "").Get(ctx, "k"); !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("a certificate of nobody: %v", err)
	}
	if _, err := as(t, m, named("alice"), "root", "correct-horse").Put(ctx, "a", "1"); err != nil {
		t.Errorf("a token counts before the certificate: %v", err)
	}
}

// TestSignedTokens: tokens that say themselves whose they are outlive a restart, and end with the next change of users or roles.
func TestSignedTokens(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("s", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	set := settings(filepath.Join(dir, "data"), "auth-token", "jwt,priv-key="+secret+",sign-method=HS256", "bcrypt-cost", "4")
	m := must(t, set)
	plain := as(t, m, nil, "", "")
	enable(t, plain, "alice")
	resp, err := plain.Authenticate(t.Context(), "alice", "alice")
	if err != nil {
		t.Fatal(err)
	}
	m.stop()
	m = must(t, set)
	get := func() error {
		cli, err := clientv3.New(clientv3.Config{Endpoints: m.ClientURLs(), Token: resp.Token, DialTimeout: patience, Logger: zap.NewNop()})
		if err != nil {
			return err
		}
		defer cli.Close()
		_, err = cli.Get(t.Context(), "k")
		return err
	}
	if err := get(); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if _, err := as(t, m, nil, "root", "correct-horse").RoleAdd(t.Context(), "other"); err != nil {
		t.Fatal(err)
	}
	if err := get(); !errors.Is(err, rpctypes.ErrAuthOldRevision) {
		t.Errorf("after a change: %v", err)
	}
}

// TestLogsKeepSecrets: neither passwords nor tokens are in the log, whatever goes wrong.
func TestLogsKeepSecrets(t *testing.T) {
	set := settings(t.TempDir(), "bcrypt-cost", "4")
	set["warning-unary-request-duration"] = "1ns"
	set["warning-apply-duration"] = "1ns"
	m := must(t, set)
	plain := as(t, m, nil, "", "")
	enable(t, plain, "alices-secret")
	ctx := t.Context()
	resp, err := plain.Authenticate(ctx, "alice", "alices-secret")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plain.Authenticate(ctx, "alice", "wrong-secret"); status.Code(err) == codes.OK {
		t.Error("a wrong password was taken")
	}
	cli, err := clientv3.New(clientv3.Config{Endpoints: m.ClientURLs(), Token: "made-up-secret.1", DialTimeout: patience, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := cli.Get(short, "k"); err == nil {
		t.Error("a made-up token was taken")
	}
	m.stop()
	if m.log.Len() == 0 {
		t.Fatal("nothing was logged")
	}
	for _, e := range m.log.All() {
		line := e.Message + fmt.Sprint(e.ContextMap())
		for _, secret := range []string{"correct-horse", "secret", resp.Token} {
			if strings.Contains(line, secret) {
				t.Errorf("%q is in the log: %s", secret, line)
			}
		}
	}
}
