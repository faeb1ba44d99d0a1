package server_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"quorate.dev/quorate/internal/freeport"
)

// TestSecretsStayInside sends passwords, tokens and values that can be recognized through every kind of call, to a server that
// logs as much as it can, and looks for them in everything that it puts out.
func TestSecretsStayInside(t *testing.T) {
	const password, wrong, next, value, token, discovery = "pAssw0rd-4711", "wr0ng-4712", "n3xt-4713", "vAlue-4714", "t0ken-4715.16", "disc0very-4716"
	dir, addr := t.TempDir(), freeport.Address(t)
	file := filepath.Join(dir, "audit.log")
	p := startProcess(t, buildQuorate(t), filepath.Join(dir, "data"), addr, "--log-level=debug", "--enable-pprof", "--metrics=extensive",
		"--warning-unary-request-duration=1ns", "--warning-apply-duration=1ns", "--audit-log="+file, "--audit-log-methods=all",
		"--discovery-password="+discovery)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	open := connect(t, addr)
	defer open.Close()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put := clientv3.OpPut("k", value)
	values := func(c *clientv3.Client) {
		_, _ = c.Put(ctx, "k", value, clientv3.WithPrevKV())
		_, _ = c.Put(ctx, "", value)
		_, _ = c.Txn(ctx).If(clientv3.Compare(clientv3.Value("k"), "=", value)).Then(put).Else(put, clientv3.OpTxn(nil, []clientv3.Op{put}, nil)).Commit()
		_, _ = c.Txn(ctx).Then(put, put).Commit() // a key twice
		_, _ = c.Get(ctx, "", clientv3.WithPrefix())
		_, _ = c.Put(ctx, "k", value, clientv3.WithLease(7))
	}
	values(open)
	must(open.UserAdd(ctx, "root", password))
	must(open.RoleAdd(ctx, "root"))
	must(open.UserGrantRole(ctx, "root", "root"))
	must(open.UserAdd(ctx, "alice", password))
	must(open.UserChangePassword(ctx, "alice", next))
	must(open.AuthEnable(ctx))
	issued, err := open.Authenticate(ctx, "root", password)
	must(issued, err)
	_, _ = open.Authenticate(ctx, "root", wrong)
	_, _ = open.Authenticate(ctx, password, next) // fields in the wrong order happen; the first is a name, which is shown
	for _, name := range []string{"token", "authorization"} {
		as := metadata.AppendToOutgoingContext(ctx, name, token)
		_, _ = open.KV.Put(as, "k", value)
		_, _ = open.UserAdd(as, "eve", next)
	}
	root, err := clientv3.New(clientv3.Config{Endpoints: []string{addr}, Username: "root", Password: password, DialTimeout: 2 * time.Minute, Logger: zap.NewNop()})
	must(root, err)
	defer root.Close()
	values(root)
	must(root.UserAdd(ctx, "bob", next))
	must(root.UserGet(ctx, "bob"))
	for _, method := range []string{"Auth/Authenticate", "Auth/UserAdd", "Auth/UserChangePassword", "KV/Put", "KV/Txn", "Nothing/" + "Here"} {
		garbled := bytes.Repeat([]byte("\x0a\xff"+value+password), 3)
		_ = open.ActiveConnection().Invoke(ctx, "/etcdserverpb."+method, &garbled, &garbled, grpc.ForceCodec(rawCodec{}))
	}
	outputs := pages(t, "http://"+addr, value, "/metrics", "/health", "/version", "/readyz?verbose", "/debug/vars", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2",
		"/debug/pprof/heap?debug=1", "/debug/flight", "/v3/auth/authenticate", "/v3/kv/put")
	p.stop(t)
	for name, path := range map[string]string{"the server's log": p.log, "the audit log": file} {
		text, err := os.ReadFile(path)
		must(text, err)
		outputs[name] = text
	}
	if !bytes.Contains(outputs["the audit log"], []byte(`"target_user":"alice"`)) || !bytes.Contains(outputs["the server's log"], []byte("request stats")) {
		t.Error("the logs do not tell what happened")
	}
	for name, text := range outputs {
		for _, secret := range []string{wrong, next, value, token, discovery, issued.Token, "$2a$", "$2b$"} {
			finds(t, name, text, secret)
		}
		if name != "the audit log" {
			finds(t, name, text, password)
		}
	}
	for line := range bytes.Lines(outputs["the audit log"]) {
		var fields map[string]any
		if err := json.Unmarshal(line, &fields); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if fields["target_user"] == password {
			delete(fields, "target_user")
		}
		finds(t, "the audit log", fmt.Append(nil, fields), password)
	}
}

// finds fails when a secret is in a text, in one of the forms that programs give to bytes.
func finds(t *testing.T, name string, text []byte, secret string) {
	t.Helper()
	for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret)), hex.EncodeToString([]byte(secret))} {
		if at := bytes.Index(text, []byte(form)); at >= 0 {
			t.Errorf("%s has %q: ...%q", name, form, text[max(0, at-200):min(len(text), at+len(form)+20)])
		}
	}
}

// pages asks for pages, posting a secret to them, and returns what comes.
func pages(t *testing.T, url, secret string, paths ...string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, path := range paths {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			body := io.Reader(http.NoBody)
			if method == http.MethodPost {
				body = strings.NewReader(`{"name":"root","password":"` + secret + `"}`)
			}
			req, err := http.NewRequest(method, url+path, body)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || len(text) == 0 {
				t.Errorf("%s %s: %d bytes, %v", method, path, len(text), err)
			}
			out[method+" "+path] = text
		}
	}
	return out
}

// rawCodec sends bytes as they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error)   { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(_ []byte, _ any) error { return nil }
func (rawCodec) Name() string                    { return "raw" }
